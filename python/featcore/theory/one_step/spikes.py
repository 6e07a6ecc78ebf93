"""What the step adds to the features, Σ_ab M_ab h_a(u) h_b(ξ)ᵀ: the coefficients M on orthonormal polynomials."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from featcore.activations import Activation
from featcore.theory.one_step.expansions import DEGREE, expand, half_lines, monomials, norms

Array = NDArray[np.float64]

_REACH = 9.0
"""Where the Gaussian laws are cut: 2e-19 of their mass."""
_OUTER, _INNER = 64, 64
"""Quadrature nodes over ξ, before the cut; and over each half of σ's argument."""
_AT_ONCE = 256
"""Matrices that are integrated at a time, for the sake of memory."""


def finite(sigma: Activation, strength: Array, rescaling: Array) -> Array:
    """Return M_ab = E[σ((1 + δξ)z + suξ) h_a(u) h_b(ξ)] of independent normal z, u, ξ.

    Given ξ, σ's argument is Rg with R² = (1 + δξ)² + (sξ)² and g normal, and E[h_a(u) | g] = (sξ/R)^a h_a(g): one
    integral over g for each ξ, whose kink stays at 0.

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
    degrees = np.arange(DEGREE + 1)
    for start in range(0, pairs.shape[1], _AT_ONCE):
        s, delta = pairs[:, start : start + _AT_ONCE, None]
        along = s * node
        size = np.hypot(1.0 + delta * node, along)
        cosine = along / np.where(size > 0, size, 1.0)
        values = cosine[..., None] ** degrees * hermite_moments(sigma, size)
        matrices[start : start + _AT_ONCE] = np.swapaxes(values, -1, -2) @ basis.T
    return matrices[where.ravel()].reshape(*shape, DEGREE + 1, DEGREE + 1)


def hermite_moments(sigma: Activation, size: Array) -> Array:
    """Return E[σ(Rg)h_a(g)] for each R, by Gauss-Legendre on either side of σ's kink: shape (…, `DEGREE` + 1)."""
    node, basis = _inner_rule()
    return np.asarray(sigma(size[..., None] * node) @ basis.T)


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
    """Return nodes over ξ, and the weighted values of h_0, h_1, … there, a row each."""
    node, weight = np.polynomial.hermite_e.hermegauss(_OUTER)
    kept = np.abs(node) < _REACH
    node, weight = node[kept], weight[kept] / math.sqrt(2.0 * math.pi)
    return node, _polynomials(node) * weight


@functools.cache
def _inner_rule() -> tuple[Array, Array]:
    """Return nodes over g, and the weighted values of h_0, h_1, … there, a row each."""
    node, mass = half_lines(_INNER, _REACH)
    return node, _polynomials(node) * mass


def _polynomials(x: Array) -> Array:
    """Return h_0, h_1, … at x, a row each."""
    return np.asarray(np.polynomial.hermite_e.hermevander(x, DEGREE).T / norms(DEGREE + 1)[:, None])
