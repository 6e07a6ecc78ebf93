"""What the step adds to the features, Σ_ab M_ab h_a(u) h_b(ξ)ᵀ: the coefficients M on orthonormal polynomials."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcore.activations import Activation
from featcore.theory.one_step.expansions import DEGREE, expand, monomials, norms

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

Array = NDArray[np.float64]

_REACH = 9.0
"""Where the Gaussian laws are cut: 2e-19 of their mass."""
_OUTER, _INNER = 64, 96
"""Quadrature nodes over u and over ξ, before the cut; over z, half of them on each side of the kink."""
_SPACING = 1.0 / 32.0
"""Of the table of m(t): its splines are right to 3e-9."""
_AT_ONCE = 256
"""Matrices that are integrated at a time, for the sake of memory."""


def finite(sigma: Activation, strength: Array, rescaling: Array) -> Array:
    """Return M_ab = E[σ((1 + δξ)z + suξ) h_a(u) h_b(ξ)] of independent normal z, u, ξ.

    Parameters
    ----------
    sigma : Activation
    strength, rescaling : ndarray of one shape
        s and δ.

    Returns
    -------
    ndarray, shape (…, `DEGREE` + 1, `DEGREE` + 1)
    """
    shape = strength.shape
    # a grid over ridges or widths repeats few strengths many times
    pairs, where = np.unique(
        np.stack([strength.ravel(), rescaling.ravel()]), axis=1, return_inverse=True
    )
    matrices = np.empty((pairs.shape[1], DEGREE + 1, DEGREE + 1))
    node, basis = _outer_rule()
    grid = np.outer(node, node)
    for start in range(0, pairs.shape[1], _AT_ONCE):
        s, delta = pairs[:, start : start + _AT_ONCE, None, None]
        t = s * grid
        if delta.any():
            values = np.stack(
                [
                    _smoothed(sigma, each, 1.0 + float(shift) * node)
                    for each, shift in zip(t, delta.ravel(), strict=True)
                ]
            )
        else:
            values = _tabulated(sigma, _half_range(float(np.abs(t).max(initial=0.0))))(t)
        matrices[start : start + _AT_ONCE] = basis @ values @ basis.T
    return matrices[where.ravel()].reshape(*shape, DEGREE + 1, DEGREE + 1)


def taylor(sigma: Activation, strength: Array, tilt: Array, order: int) -> Array:
    """Return M of the first terms of its series in s, Σ_{1≤k≤order} s^k v_k(u) (ξ^k)ᵀ.

    Parameters
    ----------
    sigma : Activation
    strength, tilt : ndarray of one shape
        s and δ/s.
    order : int

    Returns
    -------
    ndarray, shape (…, order + 1, order + 1)
    """
    degrees = list(range(1, order + 1))
    right = monomials(degrees, order + 1)
    left = directions(sigma, tilt, order) * (strength[..., None] ** degrees)[..., None]
    return np.asarray(np.einsum("...ka,kb->...ab", left, right))


def directions(sigma: Activation, tilt: Array, order: int) -> Array:
    """Return v_k(u) = E_z[σ⁽ᵏ⁾(z)(u + tz)^k]/k!, which is c_k u^k for a tilt t = δ/s of 0.

    Parameters
    ----------
    sigma : Activation
    tilt : ndarray of any shape
        δ/s.
    order : int
        Of the last k; the first is 1.

    Returns
    -------
    ndarray, shape (…, order, order + 1)
        Coefficients on h_0(u), h_1(u), …, a row each k.
    """
    powers = monomials(list(range(order + 1)), order + 1)
    tilted = bool(tilt.any())
    c = expand(sigma, 2 * order if tilted else order).coefficients
    found = np.zeros((*tilt.shape, order, order + 1))
    for k in range(1, order + 1):
        for j in range(k + 1 if tilted else 1):
            # E[σ⁽ᵏ⁾(z) z^j], from the expansions of both
            in_z = np.polynomial.hermite_e.poly2herme([0.0] * j + [1.0])
            moment = sum(float(in_z[i]) * math.factorial(k + i) * c[k + i] for i in range(j + 1))
            weight = math.comb(k, j) * moment / math.factorial(k)
            found[..., k - 1, :] += weight * tilt[..., None] ** j * powers[k - j]
    return found


@functools.cache
def _outer_rule() -> tuple[Array, Array]:
    """Return nodes, and the weighted values of h_0, h_1, … there, a row each."""
    node, weight = np.polynomial.hermite_e.hermegauss(_OUTER)
    kept = np.abs(node) < _REACH
    node, weight = node[kept], weight[kept] / math.sqrt(2.0 * math.pi)
    basis = np.polynomial.hermite_e.hermevander(node, DEGREE).T / norms(DEGREE + 1)[:, None]
    return node, basis * weight


def _smoothed(sigma: Activation, t: Array, scale: Array) -> Array:
    """Return E σ(scale·z + t), by Gauss-Legendre on either side of σ's kink at 0."""
    node, weight = np.polynomial.legendre.leggauss(_INNER // 2)
    # the kink, or where it would be; without a Gaussian part there is none
    kink = np.clip(np.divide(-t, scale, out=np.zeros_like(t), where=scale != 0), -_REACH, _REACH)
    total = np.zeros_like(t)
    ends = np.full_like(t, _REACH)
    for low, high in ((-ends, kink), (kink, ends)):
        half = 0.5 * (high - low)
        z = (0.5 * (high + low))[..., None] + half[..., None] * node
        density = np.exp(-0.5 * z**2) * weight
        values = sigma(scale[..., None] * z + t[..., None])
        total += half * np.einsum("...k,...k->...", density, values)
    return np.asarray(total / math.sqrt(2.0 * math.pi))


def _half_range(largest: float) -> float:
    """Return a power of two: few tables serve all strengths."""
    return 2.0 ** max(2, math.ceil(math.log2(max(largest, 1.0))))


@functools.lru_cache(maxsize=64)
def _tabulated(sigma: Activation, half_range: float) -> CubicSpline:
    """Return the spline of m(t) = E σ(z + t), made once an activation."""
    from scipy.interpolate import CubicSpline

    t = np.arange(-half_range, half_range + 0.5 * _SPACING, _SPACING)
    return CubicSpline(t, _smoothed(sigma, t, np.ones_like(t)))
