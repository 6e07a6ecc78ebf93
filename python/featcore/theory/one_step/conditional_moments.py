"""What functions of Gaussian variables are on average to somebody who knows some of them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featcore.activations import Activation
from featcore.theory.one_step.expansions import half_lines

Array = NDArray[np.float64]

_REACH = 8.0
"""Where Gaussian laws are cut that integrands grow over: 1e-15 of their mass."""
_NODES_REACH = 7.0
"""Where those of u and ξ are cut: 3e-12 of their mass."""
_INNER = 36
"""Quadrature nodes on each side of a kink."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Of h(z) = σ(shift + scale·z), z normal: arrays of one shape.

    Attributes
    ----------
    mean, slope : ndarray
        E h and E zh.
    rest : ndarray
        E(h - E h - z E zh)².
    growth : ndarray
        The derivative of E h with respect to the scale.
    """

    mean: Array
    slope: Array
    rest: Array
    growth: Array


def moments(sigma: Activation, shift: Array, scale: Array) -> Moments:
    """Return the moments for each shift and scale > 0, by Gauss-Legendre on either side of σ's kink at 0."""
    node, weight = _unit_interval()
    kink = np.clip(-shift / scale, -_REACH, _REACH)[..., None]
    below, above = 0.5 * (kink + _REACH), 0.5 * (_REACH - kink)
    z = np.concatenate([below * (node + 1.0) - _REACH, above * (node + 1.0) + kink], axis=-1)
    mass = np.concatenate([below * weight, above * weight], axis=-1)
    mass *= np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    values = sigma(shift[..., None] + scale[..., None] * z)
    mean, slope = _integral(mass, values), _integral(mass, values, z)
    growth = (_integral(mass, values, z, z) - mean) / scale
    # not from the moments, whose difference may be below rounding
    left = values - mean[..., None] - slope[..., None] * z
    return Moments(mean, slope, _integral(mass, left, left), growth)


@functools.cache
def _unit_interval() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(_INNER)


def _integral(*factors: Array) -> Array:
    return np.asarray(np.einsum(",".join(["...k"] * len(factors)) + "->...", *factors))


@functools.cache
def rule(count: int) -> tuple[Array, Array]:
    """Return nodes and weights of the standard normal law.

    Half of the nodes are on each side of 0, where they are dense: there links have their kinks, and strong steps make
    them of features.
    """
    node, mass = half_lines(count // 2, _NODES_REACH)
    return node, mass / mass.sum()


@functools.lru_cache(maxsize=64)
def label_moment(link: Activation, power: int, degree: int) -> float:
    """Return E[s^power z^degree] of s = σ_*(z)/√E σ_*²."""
    z, mass = half_lines(160, _REACH + 2.0)
    return float(mass @ ((link(z) / math.sqrt(link.second_moment())) ** power * z**degree))
