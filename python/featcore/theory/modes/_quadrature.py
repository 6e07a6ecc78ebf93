"""The one integral that the time to learn needs: ∫ e^u dτ along a hyperbolic mode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
UNIT, WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS  # of Gauss and Legendre, on [0, 1]
_FAR = 45.0  # e^-45 is below rounding


def growth_integral(lo: Array, hi: Array, D: Array, tau: Array) -> Array:
    """Return ∫_0^τ e^u dτ', where u rises from `lo` to `hi` in the time `tau` as D sinh(2τ' + φ).

    By du = 2√(u² + D²) dτ it is ½∫ e^v dv/√(v² + D²). The integrand varies on three scales, and each has its panels of
    Gauss and Legendre: beyond |v| = 1 its branch points ±iD are no nearer than the width of a panel; within, where D
    may be 1e-300, the part (e^v - 1) is integrated over τ, in which it is entire, and the rest is the time itself.
    All arguments have one shape.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros(np.shape(tau))
        inner = np.array(tau, dtype=np.float64)
        above, below = hi > 1.0, lo < -1.0
        if above.any():
            start, end, d = np.maximum(lo[above], 1.0), hi[above], D[above]
            total[above] += _outer(start, end, d, edges_above(end))
            inner[above] -= 0.5 * arc(start, end, d)
        if below.any():
            start, end, d = lo[below], np.minimum(hi[below], -1.0), D[below]
            total[below] += _outer(start, end, d, _edges_below(end))
            inner[below] -= 0.5 * arc(-end, -start, d)
        within = (lo < 1.0) & (hi > -1.0)
        if within.any():
            start, end, d = lo[within], hi[within], D[within]
            part = np.maximum(inner[within], 0.0)
            for sign in (1.0, -1.0):
                far = np.clip(end if sign > 0 else -start, 0.0, 1.0)
                near = np.clip(start if sign > 0 else -end, 0.0, 1.0)
                part += 0.5 * _inner(near, far, d, sign)
            total[within] += part
    return total


def arc(a: Array, b: Array, D: Array) -> Array:
    """Return asinh(b/D) - asinh(a/D) for 0 ≤ a ≤ b without loss of digits; log(b/a) at D = 0."""
    at_a, at_b = np.hypot(a, D), np.hypot(b, D)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # √(b²+D²) - √(a²+D²) = (b-a)(b+a)/(sum of the roots)
        rise = (b - a) * (1.0 + (b + a) / (at_a + at_b)) / (a + at_a)
        close = np.log1p(rise)
        far = np.log(b + at_b) - np.log(a + at_a)
    found = np.where(rise < 1.0, close, far)
    return np.where(a == b, 0.0, found)


def edges_above(end: Array) -> Array:
    """Return descending edges of panels over [1, end]; all but e^-56 of the integral is in the first seven."""
    top = np.maximum(end[:, None] - 8.0 * np.arange(8), 16.0)
    low = np.broadcast_to([16.0, 8.0, 4.0, 2.0, 1.0], (len(end), 5))
    return np.concatenate([top, low], axis=1)


def _edges_below(end: Array) -> Array:
    """Return descending edges of panels over (-∞, end], end ≤ -1."""
    low = np.broadcast_to([-1.0, -2.0, -4.0, -8.0, -16.0], (len(end), 5))
    tail = np.minimum(end, -16.0)[:, None] - 8.0 * np.arange(1, 8)
    return np.concatenate([low, tail], axis=1)


def _outer(start: Array, end: Array, D: Array, edges: Array) -> Array:
    edges = np.clip(edges, start[:, None], end[:, None])
    width = edges[:, :-1] - edges[:, 1:]
    v = edges[:, 1:, None] + width[:, :, None] * UNIT
    # the panel sums are taken relative to the top, which may be 1e300
    values = np.exp(v - end[:, None, None]) / np.hypot(v, D[:, None, None])
    part = 0.5 * ((values @ WEIGHTS) * width).sum(axis=1)
    return np.where(part > 0, np.exp(end) * part, 0.0)


def _inner(near: Array, far: Array, D: Array, sign: float) -> Array:
    """Return ∫ expm1(±v) dx over x = asinh(far/D) - asinh(v/D), from v = far down to `near` or to nothing."""
    length = np.minimum(arc(near, far, D), _FAR)
    width = length / 5.0
    x = width[:, None, None] * (np.arange(5)[:, None] + UNIT)
    reach = far + np.hypot(far, D)
    with np.errstate(divide="ignore", invalid="ignore"):
        back = np.where(reach > 0, D * (D / reach), 0.0)
    v = 0.5 * (reach[:, None, None] * np.exp(-x) - back[:, None, None] * np.exp(x))
    return np.asarray(width * (np.expm1(sign * v) @ WEIGHTS).sum(axis=1))
