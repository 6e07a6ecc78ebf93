"""A piece of a mode between two deaths of neurons: u(τ) = u0 + A(e^{2τ} - 1) + B(1 - e^{-2τ}), and its clock.

τ = κs, ds = p g(u) dt. Times here are in units of 1/(κp): T = κpt = ∫ dτ/g(u).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from featcore.theory.modes._quadrature import growth_integral
from featcore.theory.modes._solve import increasing_root

Array = NDArray[np.float64]

LOSSES = ("logistic", "exponential", "hinge", "squared")


def logit_at(tau: Array, u0: Array, A: Array, B: Array) -> Array:
    """Return u(τ); e^{2τ} itself may overflow where A is near the least double."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        far = np.where(A > 0, np.exp(2.0 * tau + np.log(A)) - A, 0.0)
        near = A * np.expm1(2.0 * np.minimum(tau, 1.0))
        return np.asarray(u0 + np.where(tau < 1.0, near, far) - B * np.expm1(-2.0 * tau))


def reach(u: Array, u0: Array, A: Array, B: Array) -> Array:
    """Return the τ at which u(τ) = u: 0 if u ≤ u0, infinity if it is never reached.

    With Y = e^{2τ} - 1 and d = u - u0: A Y² + (2A - u) Y - d = 0, of which each branch has its stable form.
    """
    d = np.maximum(u - u0, 0.0)
    b = 2.0 * A - u
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = np.hypot(u, 2.0 * np.sqrt(A) * np.sqrt(B))
        slow = np.log1p(2.0 * d / (b + root))
        Y = (root - b) / (2.0 * A)
        fast = np.where(Y < 1e300, np.log1p(Y), np.log(root - b) - np.log(2.0 * A))
        found = 0.5 * np.where(b >= 0, slow, fast)
    return np.where(d == 0, 0.0, np.where(np.isnan(found), np.inf, found))


def clock(loss: str, tau: Array, u0: Array, A: Array, B: Array, u: Array | None = None) -> Array:
    """Return T(τ) = ∫_0^τ dτ'/g(u(τ')); infinity from where g = 0 on.

    Where u(τ) is known better than from τ, as at a goal of 300, pass it: e^u asks for its digits.
    """
    if u is None:
        u = logit_at(tau, u0, A, B)
    arrays = (np.asarray(v, dtype=np.float64) for v in (tau, u, u0, A, B))
    tau, u, u0, A, B = np.broadcast_arrays(*arrays)
    return _clock(loss, *(v.ravel() for v in (tau, u, u0, A, B))).reshape(tau.shape)


def _clock(loss: str, tau: Array, u: Array, u0: Array, A: Array, B: Array) -> Array:
    # nothing is left of the class: u stays, and so does g
    still = (A == 0) & (B == 0)
    if loss == "hinge":
        end = reach(np.ones_like(u0), u0, A, B)
        return np.where(tau > end, np.inf, tau)
    if loss == "squared":
        return _squared_clock(tau, u0, A, B)
    result = np.zeros_like(tau)
    # u = 0, and g is 1 or 1/2
    result[still] = tau[still] * (2.0 if loss == "logistic" else 1.0)
    moving = ~still & (tau > 0) & np.isfinite(u)
    if moving.any():
        D = 2.0 * np.sqrt(A[moving]) * np.sqrt(B[moving])
        grown = growth_integral(u0[moving], u[moving], D, tau[moving])
        result[moving] = grown + (tau[moving] if loss == "logistic" else 0.0)
    result[~still & ~np.isfinite(u)] = np.inf
    return np.asarray(result)


def inverse_clock(loss: str, T: Array, u0: Array, A: Array, B: Array) -> Array:
    """Return τ(T), the inverse of `clock`; where that ends, its end."""
    T, u0, A, B = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (T, u0, A, B)))
    shape = T.shape
    T, u0, A, B = T.ravel(), u0.ravel(), A.ravel(), B.ravel()
    return _inverse_clock(loss, T, u0, A, B).reshape(shape)


def _inverse_clock(loss: str, T: Array, u0: Array, A: Array, B: Array) -> Array:
    if loss == "hinge":
        return np.minimum(T, reach(np.ones_like(u0), u0, A, B))
    if loss == "squared":
        return _squared_inverse(T, u0, A, B)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        slope = np.exp(u0) + (1.0 if loss == "logistic" else 0.0)
        # 1/g only grows, so τ ≤ T g(u0); and T ≥ ½(e^u - e^u0)/√(u² + D²) bounds u, which is below 750
        D = 2.0 * np.sqrt(A) * np.sqrt(B)
        most = np.logaddexp(u0, np.log(2.0 * T) + np.log(750.0 + np.abs(u0) + D))
        high = np.where(T > 0, np.minimum(T / slope, np.finfo(np.float64).max), 0.0)
    still = (A == 0) & (B == 0)
    high = np.where(still, high, np.minimum(high, reach(most, u0, A, B)))
    moving = ~still & (high > 0)

    def time(tau: Array, which: NDArray[np.intp]) -> tuple[Array, Array]:
        at = (u0[which], A[which], B[which])
        with np.errstate(over="ignore"):
            u = logit_at(tau, *at)
            slope = np.exp(u) + (1.0 if loss == "logistic" else 0.0)
        return _clock(loss, tau, u, *at), slope

    return np.where(moving, increasing_root(time, np.where(moving, T, 0.0), high), high)


def _squared_clock(tau: Array, u0: Array, A: Array, B: Array) -> Array:
    # a piece that starts beyond the target is never reached
    d = np.maximum(1.0 - u0, 0.0)
    root, shortfall = _riccati(d, A, B)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = 2.0 * d / np.expm1(2.0 * tau) - shortfall
        T = np.log1p(2.0 * root / left) / (2.0 * root)
    T = np.where(left <= 0, np.inf, T)
    T = np.where((A == 0) & (B == 0), tau, T)  # at u = 0, where g = 1
    return np.where(tau == 0, 0.0, T)


def _squared_inverse(T: Array, u0: Array, A: Array, B: Array) -> Array:
    d = 1.0 - u0
    root, shortfall = _riccati(d, A, B)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        Y = 2.0 * d / (2.0 * root / np.expm1(2.0 * root * T) + shortfall)
        # without A, Y has no end but that of doubles
        tau = np.where(np.isinf(Y), root * T + 0.5 * np.log(d / root), 0.5 * np.log1p(Y))
    tau = np.where((A == 0) & (B == 0), T, tau)
    return np.where((T == 0) | (d == 0), 0.0, tau)


def _riccati(d: Array, A: Array, B: Array) -> tuple[Array, Array]:
    """Return Δ = √(1 + 4AB) and Δ - b, b = 1 - 2A, of Y' = 2(d + bY - AY²), Y = e^{2τ} - 1 from 0 at T = 0.

    Its solution is 2d/Y = 2Δ/(e^{2ΔT} - 1) + (Δ - b), and Δ² = b² + 4Ad.
    """
    b, root = 1.0 - 2.0 * A, np.hypot(1.0, 2.0 * np.sqrt(A) * np.sqrt(B))
    with np.errstate(over="ignore"):
        return root, np.where(b > 0, 4.0 * A * d / (root + np.abs(b)), root - b)
