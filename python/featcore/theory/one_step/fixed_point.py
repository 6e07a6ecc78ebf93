"""The deterministic equivalent of ridge regression on random features: one equation for κ, the rest explicit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import real
from featcore.theory._arrays import any_shape

Array = NDArray[np.float64]

_NEWTON_STEPS = 200
"""More than are ever needed: a double root costs one a factor of two, 1100 over the range of floats."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Limits of traces of (F₀F₀ᵀ + λnI)⁻¹, arrays of one shape; `_slope` is a derivative with respect to κ.

    Attributes
    ----------
    kappa : ndarray
        Effective ridge κ; positive, at least λ.
    u : ndarray
        κ m₂, between 0 and 1.
    m1, m2 : ndarray
        tr(F₀F₀ᵀ + λnI)⁻¹ = 1/κ, and (1/d) tr X̃ᵀ(F₀F₀ᵀ + λnI)⁻¹X̃ = u/κ.
    q : ndarray
        λn (1/N) tr(F₀ᵀF₀ + λnI)⁻¹, between 0 and 1.
    ridge : ndarray
        λ as a function of κ.
    u_slope, q_slope, ridge_slope : ndarray
        Derivatives with respect to κ.
    """

    kappa: Array
    u: Array
    q: Array
    ridge: Array
    u_slope: Array
    q_slope: Array
    ridge_slope: Array

    @property
    def m1(self) -> Array:
        """1/κ."""
        return np.asarray(1.0 / self.kappa)

    @property
    def m2(self) -> Array:
        """u/κ."""
        return np.asarray(self.u / self.kappa)

    @property
    def m1_slope(self) -> Array:
        """Derivative of m₁ with respect to κ."""
        return np.asarray(-((1.0 / self.kappa) ** 2))

    @property
    def m2_slope(self) -> Array:
        """Derivative of m₂ with respect to κ."""
        return np.asarray((self.u_slope - self.u / self.kappa) / self.kappa)


def at_kappa(
    kappa: Array, linear: float, nonlinear_square: float, phi: Array, psi: Array
) -> FixedPoint:
    """Return the fixed point as an explicit function of κ.

    κ > 0 is ridge regression; κ below the bulk's edge, on which λ = -x is minus a squared singular value of
    F₀/√n outside the bulk, is the spectrum.
    """
    share = nonlinear_square + kappa
    g = share / linear**2
    # 1 - u = w is the root of ψw² - bw + 1 = 0 that vanishes at |κ| = ∞. The discriminant is a product, so that
    # nothing cancels at small g, and nothing overflows at large.
    b = 1.0 + psi + psi * g
    low, high = (1.0 - np.sqrt(psi)) ** 2 + psi * g, (1.0 + np.sqrt(psi)) ** 2 + psi * g
    root = np.sign(b) * np.sqrt(np.abs(low)) * np.sqrt(np.abs(high))
    w = 2.0 / (b + root)
    half = psi * g + 1.0 - psi
    # the root of ψu² + half·u - ψg = 0, whichever way does not cancel
    direct = np.where(half > 0, root + half, 1.0)
    u = np.where(
        (half > 0) & (root > 0),
        2.0 * psi * g / direct,
        np.where(root > 0, (root - half) / (2.0 * psi), 1.0 - w),
    )
    u_slope = psi * w / (linear**2 * root)
    v = psi * g * w / u  # 1 - ψ + ψu
    q = v * kappa / share
    q_slope = psi * u_slope * kappa / share + v / share * (nonlinear_square / share)
    ratio = phi / psi
    ridge = kappa * (1.0 - ratio * (1.0 - q))
    ridge_slope = 1.0 - ratio * (1.0 - q) + ratio * kappa * q_slope
    return FixedPoint(kappa, u, q, ridge, u_slope, q_slope, ridge_slope)


def solve(
    linear: float, nonlinear_square: float, phi: Array, psi: Array, ridge: Array
) -> FixedPoint:
    """Return the fixed point at λ = `ridge` > 0."""
    phi, psi, ridge = np.broadcast_arrays(phi, psi, ridge)
    # λ(κ) is convex and increasing, and this start is above the root (the mean of 1/(x+λ) is at least 1/(mean
    # x + λ)): Newton's steps go down to it and cannot overshoot but by rounding.
    kappa = ridge + phi / psi * (linear**2 + nonlinear_square)
    for _ in range(_NEWTON_STEPS):
        now = at_kappa(kappa, linear, nonlinear_square, phi, psi)
        better = np.maximum(kappa - (now.ridge - ridge) / now.ridge_slope, ridge)
        done = np.abs(better - kappa) <= 4e-16 * kappa
        kappa = better
        if done.all():
            break
    return at_kappa(kappa, linear, nonlinear_square, phi, psi)


def random_features_fixed_point(
    linear: float, nonlinear: float, *, phi: ArrayLike, psi: ArrayLike, ridge: ArrayLike
) -> FixedPoint:
    """Return the limits of resolvent traces of random features c₁X̃W₀ᵀ + c_{>1}Z.

    Parameters
    ----------
    linear : float
        c₁, not zero.
    nonlinear : float
        c_{>1}, the root of Σ_{k≥2} k! c_k².
    phi, psi, ridge : array_like, shapes that broadcast
        d/n, d/N and λ, all positive.

    Returns
    -------
    FixedPoint
        Arrays of the common shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here. In the symbols of Moniri and others m₁ and m₂ are these times φ/ψ.

    Examples
    --------
    >>> from featcore.theory import one_step
    >>> point = one_step.random_features_fixed_point(0.5, 0.3, phi=0.5, psi=0.8, ridge=[0.01, 0.1])
    >>> point.kappa.round(4)
    array([0.0227, 0.1585])
    """
    c1 = real("linear", linear)
    if c1 == 0:
        raise ValueError(
            "linear=0: without c₁ random features see nothing linear; the theory needs c₁ ≠ 0"
        )
    rest = real("nonlinear", nonlinear)
    return solve(c1, rest**2, positive("phi", phi), positive("psi", psi), positive("ridge", ridge))


def positive(name: str, value: ArrayLike) -> Array:
    """Return `value` as an array of positive numbers."""
    array = any_shape(name, value)
    if array.size and array.min() <= 0:
        raise ValueError(f"{name}={array.min():g} must be positive")
    return array


def at_least_zero(name: str, value: ArrayLike) -> Array:
    """Return `value` as an array of numbers that are not negative."""
    array = any_shape(name, value)
    if array.size and array.min() < 0:
        raise ValueError(f"{name}={array.min():g} must be at least 0")
    return array
