"""The units of a mode: neurons as r = y/√κ and q = √κ z, whose products are logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SMALL, _LARGE = 1e-152, 1e100


def scaled(
    y0: Array, z0: Array, norm: Array | float, *, together: bool = False
) -> tuple[Array, Array]:
    """Return (r, q), refusing living neurons whose squares leave the range of doubles.

    Every neuron has u = rq, r + q grows as e^{κs} and r - q decays: no power of κ is left to underflow. Neurons of one
    mode (`together`) may be smaller, beside larger ones.
    """
    scale = np.sqrt(norm)
    with np.errstate(over="ignore"):
        r, q = y0 / scale, z0 * scale
    size = np.maximum(np.abs(r), np.abs(q))
    alive = y0 > 0
    least = np.max(size, where=alive, initial=0.0) if together else size
    wrong = alive & ((least < _SMALL) | (size > _LARGE))
    if wrong.any():
        at = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"y0={y0.flat[at]:g} and z0={z0.flat[at]:g} are of size {size.flat[at]:g} in y/√κ and √κz; logits are "
            f"their squares, so keep them between {_SMALL:g} and {_LARGE:g}. (From a smaller start growth is "
            "exponential: rescale it, and add the logarithm of the logits' factor to 2κpt, twice that for the logistic "
            "loss; see small_init_time.)"
        )
    return r, q


def deaths(r: Array, q: Array) -> Array:
    """Return the τ at which y = 0: tanh τ = -r/q where q < -r < 0; 0 where it starts there, else infinity."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        dying = 0.5 * np.log1p(2.0 * r / (-q - r))
    return np.where(r <= 0, 0.0, np.where(q < -r, dying, np.inf))
