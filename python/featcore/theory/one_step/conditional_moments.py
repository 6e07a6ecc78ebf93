"""What functions of Gaussian variables are to somebody who knows some of them: mean, slope and what is left."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from featcore.activations import Activation

Array = NDArray[np.float64]

_REACH = 8.0
"""Where the Gaussian laws are cut: 1e-15 of their mass."""
_INNER = 36
"""Quadrature nodes on each side of a kink."""


def given(sigma: Activation, shift: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Return E σ, E zσ and E(σ - E σ - z E zσ)² of σ(shift + scale·z), z normal, for each shift and scale > 0.

    By Gauss-Legendre on either side of σ's kink at 0.
    """
    node, weight = np.polynomial.legendre.leggauss(_INNER)
    kink = np.clip(-shift / scale, -_REACH, _REACH)[..., None]
    below, above = 0.5 * (kink + _REACH), 0.5 * (_REACH - kink)
    z = np.concatenate([below * (node + 1.0) - _REACH, above * (node + 1.0) + kink], axis=-1)
    mass = np.concatenate([below * weight, above * weight], axis=-1)
    mass *= np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    values = sigma(shift[..., None] + scale[..., None] * z)
    weighted = mass * values
    mean, slope = weighted.sum(axis=-1), np.sum(weighted * z, axis=-1)
    # not from the moments, whose difference may be below rounding
    left = values - mean[..., None] - slope[..., None] * z
    return mean, slope, np.sum(mass * left**2, axis=-1)


@functools.cache
def rule(count: int) -> tuple[Array, Array]:
    """Return Gauss-Hermite nodes and weights of the standard normal law, without those out of reach."""
    node, weight = np.polynomial.hermite_e.hermegauss(count)
    kept = np.abs(node) < _REACH
    return node[kept], weight[kept] / weight[kept].sum()
