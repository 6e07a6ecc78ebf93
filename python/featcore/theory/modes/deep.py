"""Depth: a class learnt by N layers that are diagonal or linear between the ends, all of equal size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice
from featcore.theory._arrays import any_shape
from featcore.theory.modes._quadrature import UNIT, WEIGHTS, edges_above
from featcore.theory.modes._solve import increasing_root
from featcore.theory.modes.times import positive

Array = NDArray[np.float64]

_LOSSES = ("logistic", "hinge")


def deep_time(
    logit: ArrayLike,
    *,
    layers: ArrayLike,
    u0: ArrayLike,
    norm: ArrayLike,
    share: ArrayLike,
    loss: str = "logistic",
) -> Array:
    """Return when a balanced net of N weight layers brings a class to a logit, entry by entry.

    u' = p N κ^{2/N} u^{2-2/N} g(u): every layer is the same scalar, and the first is aligned with x. For the hinge loss

        t = (u0^{-(1-2/N)} - u*^{-(1-2/N)})/((N - 2) p κ^{2/N}), N > 2,

    and ln(u*/u0)/(2pκ) at N = 2; for the logistic one it is an integral.

    Parameters
    ----------
    logit : array_like
        u*; for the hinge loss at most 1.
    layers : array_like of int
        N, at least 1. N = 2 is the mode of a balanced neuron; N = 1 is linear regression.
    u0 : array_like
        Logit at t = 0, positive.
    norm, share : array_like, positive
        κ and p.
    loss : {"logistic", "hinge"}

    Returns
    -------
    ndarray, of the common shape
        Times: 0 where the logit starts there, infinite where it is never reached.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    The equation is that of §4 and appendix B of Tachet des Combes et al. (arXiv 1809.06848), of layers that are equal
    at the start; the times are derived here. The paper finds that deeper is faster. At one size z of the weights,
    u0 = κz^N, it is far slower; and at one u0 neither is the rule: for the hinge loss and κ = 1 depths 2, 3, 4, 8 take
    1.151, 1.154, 1.081, 0.771 from u0 = 0.1, but 3.5, 9, 15, 29 from 1e-3.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> at = {"layers": 4, "u0": 0.1, "norm": 0.5, "share": 1.0}
    >>> float(modes.deep_time(modes.target_logit(0.01), **at).round(4))
    9.6283
    >>> float(modes.deep_time(1.0, **at, loss="hinge").round(4))
    1.529
    """
    loss = choice("loss", loss, _LOSSES)
    goal, N, start, kappa, p = _broadcast(any_shape("logit", logit), layers, u0, norm, share)
    ends = np.maximum(goal, start)
    if loss == "hinge":
        ends = np.minimum(ends, np.maximum(start, 1.0))
    T = _clock(loss, ends.ravel(), start.ravel(), 2.0 / N.ravel()).reshape(goal.shape)
    with np.errstate(over="ignore"):
        t = T / _rate(N, kappa, p)
    never = (goal > 1) & (goal > start) if loss == "hinge" else np.zeros(goal.shape, dtype=bool)
    return np.where(never, np.inf, t)


def deep_logit(
    t: ArrayLike,
    *,
    layers: ArrayLike,
    u0: ArrayLike,
    norm: ArrayLike,
    share: ArrayLike,
    loss: str = "logistic",
) -> Array:
    """Return the logit of a balanced net of N weight layers at times `t`, the inverse of `deep_time`.

    Parameters
    ----------
    t : array_like
        Times, at least 0.
    layers, u0, norm, share, loss
        As for `deep_time`; all but `loss` broadcast.

    Returns
    -------
    ndarray, of the common shape
        u; under the hinge loss at most 1, unless it starts beyond.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    See `deep_time`.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.deep_logit(10.0, layers=[4, 4, 8], u0=0.1, norm=[0.1, 0.5, 0.1], share=1.0).round(3)
    array([1.704, 4.695, 6.092])
    """
    loss = choice("loss", loss, _LOSSES)
    times, N, start, kappa, p = _broadcast(any_shape("t", t), layers, u0, norm, share)
    if times.size and times.min() < 0:
        raise ValueError(f"t has the entry {times.min():g}; count from 0")
    with np.errstate(over="ignore"):
        T = np.minimum(times * _rate(N, kappa, p), 1e308).ravel()
    e, first = 2.0 / N.ravel(), start.ravel()
    if loss == "hinge":
        most = np.maximum(1.0 - first, 0.0)
    else:
        # T ≥ ∫_1 e^v v^{e-2} dv, and v is below 750
        with np.errstate(divide="ignore"):
            most = np.logaddexp(np.maximum(first, 1.0), np.log(T) + 2.0 * np.log(750.0)) - first

    def time(x: Array, which: NDArray[np.intp]) -> tuple[Array, Array]:
        u = first[which] + x
        with np.errstate(over="ignore"):
            inverse_g = 1.0 + np.exp(u) if loss == "logistic" else np.ones_like(u)
            return _clock(loss, u, first[which], e[which]), u ** (e[which] - 2.0) * inverse_g

    risen = increasing_root(time, T, most)
    risen = np.where(T > 0, risen, 0.0)
    return (first + risen).reshape(times.shape)


def _clock(loss: str, u: Array, u0: Array, e: Array) -> Array:
    """Return ∫ v^{e-2}/g(v) dv from u0 to u ≥ u0 > 0."""
    free = _power(u0, u, e - 1.0)
    if loss == "hinge":
        return free
    # (1 + e^v) v^{e-2} up to 1 as 2 v^{e-2} and expm1(v) v^{e-2}, of which the second is smooth in ln v
    far, near = np.minimum(u, 1.0), np.minimum(u0, 1.0)
    total = free + _power(near, far, e - 1.0)
    span = np.log(far) - np.log(near)
    length = np.minimum(span, 40.0)
    width = length / 10.0
    v = far[:, None, None] * np.exp(-width[:, None, None] * (np.arange(10)[:, None] + UNIT))
    total += width * ((np.expm1(v) * v ** (e[:, None, None] - 1.0)) @ WEIGHTS).sum(axis=1)
    # below, expm1(v) is v to rounding
    total += np.where(span > 40.0, _power(near, far * np.exp(-length), e), 0.0)
    above = u > 1.0
    if above.any():
        start, end, power = np.maximum(u0[above], 1.0), u[above], e[above] - 2.0
        edges = np.clip(edges_above(end), start[:, None], end[:, None])
        width = edges[:, :-1] - edges[:, 1:]
        v = edges[:, 1:, None] + width[:, :, None] * UNIT
        values = np.exp(v - end[:, None, None]) * v ** power[:, None, None]
        with np.errstate(over="ignore"):
            total[above] += np.exp(end) * ((values @ WEIGHTS) * width).sum(axis=1)
    return np.asarray(total)


def _power(a: Array, b: Array, n: Array) -> Array:
    """Return ∫_a^b v^{n-1} dv = (b^n - a^n)/n, ln(b/a) at n = 0."""
    ratio = np.log(b) - np.log(a)
    safe = np.where(n == 0, 1.0, n)
    # relative to the larger end, so that neither overflows on the way
    end = np.where(n > 0, b, a)
    return np.where(n == 0, ratio, end**n * -np.expm1(-np.abs(n) * ratio) / np.abs(safe))


def _rate(N: Array, kappa: Array, p: Array) -> Array:
    return np.asarray(p * N * kappa ** (2.0 / N))


def _broadcast(
    first: Array, layers: ArrayLike, u0: ArrayLike, norm: ArrayLike, share: ArrayLike
) -> tuple[Array, ...]:
    N = any_shape("layers", layers)
    if N.size and ((N < 1) | (np.rint(N) != N)).any():
        wrong = N[(N < 1) | (np.rint(N) != N)].flat[0]
        raise ValueError(f"layers has the entry {wrong:g}; pass whole numbers from 1")
    return np.broadcast_arrays(
        first, N, positive("u0", u0), positive("norm", norm), positive("share", share)
    )
