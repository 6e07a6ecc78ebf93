"""What the parts read from histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import xarray as xr


def stack(histories: Sequence[xr.Dataset], seeds: Sequence[int]) -> xr.Dataset:
    """Return the histories over (seed, …)."""
    import xarray as xr

    return xr.concat(list(histories), dim=xr.Variable("seed", list(seeds)), join="outer")


def schedule(steps: int, *more: int) -> fc.Recording:
    """Return 241 steps evenly up to `steps`, and some more."""
    even = np.linspace(0, steps, 241).astype(int).tolist()
    return fc.Recording.at_steps(sorted({*even, *more}))


def to_class_sums(data: fc.Dataset) -> fc.observables.Observable:
    """Return the observable of the alignment with x_plus and x_minus."""
    sums = theory.class_sums(data.x, data.y)
    return fc.observables.alignment(np.stack(sums), labels=["x_plus", "x_minus"])


def class_sum_norm(data: fc.Dataset) -> float:
    """Return |x_plus|."""
    return float(np.linalg.norm(theory.class_sums(data.x, data.y)[0]))


def loss_of(history: xr.Dataset) -> NDArray[Any]:
    """Return the training loss at the records."""
    return np.asarray(history["loss"].sel(split="train").values)


def loss_at(history: xr.Dataset, step: int) -> float:
    """Return the training loss at a step that was recorded."""
    return float(loss_of(history)[np.flatnonzero(history["step"].values == step)[0]])


def fall(history: xr.Dataset, level: float) -> float:
    """Return the time at which the loss falls below `level`; NaN if it never does."""
    return reached(-loss_of(history), history["time"].values, -level)


def reached(values: NDArray[Any], times: NDArray[Any], level: float) -> float:
    """Return when `values` first exceed `level`, linearly between records; NaN if never or from the start."""
    above = np.flatnonzero(values > level)
    if not above.size or above[0] == 0:
        return float("nan")
    k = int(above[0])
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return float(times[k - 1] + share * (times[k] - times[k - 1]))


def centres(history: xr.Dataset) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the cosines of the mean neuron of either sign with its own class sum, at the records."""
    own = history["alignment"].sel(statistic="mean_neuron")
    return (
        own.sel(direction="x_plus", sign="+").values,
        own.sel(direction="x_minus", sign="-").values,
    )


def largest_rank(history: xr.Dataset, since: float) -> float:
    """Return the largest stable rank from the time `since` on; NaN if that never came."""
    chosen = history["stable_rank"].values[history["time"].values >= since]
    return float(chosen.max()) if chosen.size else float("nan")
