"""What the theory of XOR clusters shares: checks of its arguments, and the normal law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcore._validation import integer, real

Array = NDArray[np.float64]


def standardised(projection: Array, sigma: float) -> Array:
    """Return projection/σ; at σ = 0 its limit, ±inf or 0."""
    if sigma > 0:
        with np.errstate(over="ignore"):
            return projection / sigma
    return np.where(projection == 0, 0.0, np.copysign(np.inf, projection))


def density(t: Array) -> Array:
    """Return the standard normal density φ(t)."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi))


def checked_label_noise(label_noise: Any) -> float:
    """Return η, within [0, 1/2]."""
    return real("label_noise", label_noise, least=0.0, most=0.5)


def checked_setting(
    step_size: Any, width: Any, label_noise: Any, mean_norm: Any
) -> tuple[float, int, float, float]:
    """Return the checked (α, m, η, R)."""
    return (
        real("step_size", step_size, above=0.0),
        integer("width", width, least=1),
        checked_label_noise(label_noise),
        real("mean_norm", mean_norm, above=0.0),
    )
