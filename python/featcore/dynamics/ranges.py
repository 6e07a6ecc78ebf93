"""Which sizes of weights and samples the event-resolved flow can follow: others would go astray in silence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcore.data.dataset import Dataset
from featcore.network import TwoLayerNet

# Largest entry of all weights, unless it is 0. Float64: squared lengths of neurons underflow; measured: ends are right
# at 1e-160, and below 1e-161 neurons stop. Float32: lengths are in float64, but subnormal weights are left with few
# digits; measured: the end is off by 1e-5 at 1e-39 and by 1e-2 at 1e-42.
LEAST_WEIGHT = {"float64": 1e-150, "float32": float(np.finfo(np.float32).tiny)}

# Samples' largest entry, unless it is 0, and length: fourth powers of lengths leave float64, squares float32. Measured:
# ends are right from 1e-76 to 1e76 (float32: from 1e-20 to 4e18), and wrong at 1e-77 and 1e77 (1e-21 and 6e18).
SAMPLES = {"float64": (1e-75, 1e75), "float32": (1e-19, 1e18)}

# Of the exact hinge flow: fourth powers of lengths times squares of rates leave float64. Measured: ends are right from
# 1e-150 to 1e150, and wrong at 1e200; with samples of 1e74, right at 1e75; of 1e70, wrong at 1e100.
RATES = (1e-75, 1e75)


def check_ranges(net: TwoLayerNet, data: Dataset, loss: str) -> None:
    """Check weights (unless their scale is carried) and samples.

    Raises
    ------
    ValueError
        If they are out of range; the message has the remedy.
    """
    dtype = str(net.dtype)
    if net.log_scale is None:
        largest = max(_largest(net.W), _largest(net.a))
        least = LEAST_WEIGHT[dtype]
        if 0 < largest < least:
            remedy = (
                "start from larger weights"
                if loss == "hinge"
                else "pass weights of ordinary size and their scale as log_scale="
            )
            raise ValueError(
                f"net has no weight beyond {largest:g}; method='event' in {dtype} needs one of {least:.2g}, below "
                f"which lengths lose their digits: {remedy}"
            )
    least, most = SAMPLES[dtype]
    largest = _largest(data.x)
    if 0 < largest < least or largest * math.sqrt(data.d) > most:
        raise ValueError(
            f"data.x has entries up to {largest:g}; method='event' in {dtype} needs that between {least:g} and "
            f"{most / math.sqrt(data.d):g}, beyond which powers of lengths leave its range: scale x to ordinary size"
        )


def check_rates(settings: Mapping[str, Any]) -> None:
    """Check the rates of layers of the exact hinge flow.

    Raises
    ------
    ValueError
        If one is out of range; the message has the remedy.
    """
    for layer in ("W", "a"):
        rate = settings[f"rate_{layer}"]
        if rate and not RATES[0] <= rate <= RATES[1]:
            raise ValueError(
                f"layer_rates[{layer!r}]={rate:g}: the exact flow of the hinge loss takes 0, or rates between "
                f"{RATES[0]:g} and {RATES[1]:g}, beyond which powers leave the range of float64: measure time in other "
                "units"
            )


def _largest(array: NDArray[Any]) -> float:
    """Return the largest absolute entry, without a copy of them all."""
    return max(float(array.max()), -float(array.min()))
