"""One neuron that sees both classes: who wins it, and the separatrix between the two outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import integer, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes.one_class import mode

Array = NDArray[np.float64]

_OFFSET = 1e-6
"""How far from the stationary point, relative to it, its stable manifold is taken for straight."""


@dataclass(frozen=True, eq=False)
class SharedNeuron:
    """A neuron that starts active on both classes; see `shared_neuron`.

    Attributes
    ----------
    t : ndarray
        Times.
    alpha, beta, z : ndarray, shape of `t`
        <w, x1>, <w, x2> and the head.
    winner : int
        1 or 2, the class the neuron is left with; 0 if it is undecided at the last time.
    death_time : float
        When the other class is lost, infinite if that is after the last time.
    """

    t: Array
    alpha: Array
    beta: Array
    z: Array
    winner: int
    death_time: float


def shared_neuron(
    t: ArrayLike,
    alpha0: float,
    beta0: float,
    z0: float,
    *,
    norms: tuple[float, float] = (1.0, 1.0),
    share: float = 0.5,
) -> SharedNeuron:
    """Return the logistic flow of one neuron that sees x1 (label +1) and x2 (label -1), x1 ⊥ x2.

    α' = pκ1² z σ(-zα), β' = -pκ2² z σ(zβ), z' = p[α σ(-zα) - β σ(zβ)], until α or β is 0: then that class is lost,
    and the other one goes on as a mode.

    Parameters
    ----------
    t : array_like, one axis
        Times, at least 0, in any order.
    alpha0, beta0 : float
        <w, x1> and <w, x2> at t = 0, positive.
    z0 : float
        Head at t = 0.
    norms : pair of float
        κ1 = |x1| and κ2 = |x2|.
    share : float
        p of **each** class: 1/2 of a mean loss. The paper leaves it out: pass 1.

    Returns
    -------
    SharedNeuron

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Tachet des Combes et al. (arXiv 1809.06848), Theorem 3.4.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> found = modes.shared_neuron([12.0], 0.1, 0.1, 0.1, share=1.0)
    >>> found.winner, round(found.death_time, 3), round(float(found.alpha[0]), 3)
    (1, 1.623, 1.857)
    """
    times = any_shape("t", t)
    if times.ndim != 1 or not times.size or times.min() < 0:
        raise ValueError(f"t has shape {times.shape}; pass one axis of times, none negative")
    alpha, beta = real("alpha0", alpha0, above=0.0), real("beta0", beta0, above=0.0)
    z = real("z0", z0)
    k1, k2 = _norms(norms)
    p = real("share", share, above=0.0)

    flow = _until_lost((alpha, beta, z), (k1, k2), p, float(times.max()))
    if flow.status != 1:
        path = flow.sol(times) if times.max() > 0 else np.tile([[alpha], [beta], [z]], times.size)
        return SharedNeuron(times, path[0], path[1], path[2], 0, math.inf)
    died, last = float(flow.t[-1]), flow.y[:, -1]
    first = bool(last[0] / k1 > last[1] / k2)
    # what is left is one class, and its logit the mode's
    left = mode(k1 if first else k2, p, [last[0 if first else 1]], [abs(last[2])], "logistic")
    after = times >= died
    path = np.empty((3, times.size))
    if not after.all():
        path[:, ~after] = flow.sol(times[~after])
    y, head = left.neurons(left.s_of_t(times[after] - died))
    path[0 if first else 1, after] = y[:, 0]
    path[1 if first else 0, after] = 0.0
    path[2, after] = head[:, 0] if first else -head[:, 0]
    return SharedNeuron(times, path[0], path[1], path[2], 1 if first else 2, died)


def separatrix(c: float, *, norms: tuple[float, float] = (1.0, 1.0), num: int = 201) -> Array:
    """Return the curve that separates the two outcomes on the surface α²/κ1² + β²/κ2² - z² = c > 0.

    It is the stable manifold of the stationary point α* = β* = √c(1/κ1² + 1/κ2²)^{-1/2}, z = 0. Above it (larger z)
    the neuron is left with class 1, below with class 2.

    Parameters
    ----------
    c : float
        The invariant, positive. (For c ≤ 0 there is none: the sign of z decides.)
    norms : pair of float
        κ1 and κ2; classes have equal shares.
    num : int
        Number of points on each side of the stationary point, at least 2.

    Returns
    -------
    ndarray, shape (2 num + 1, 3)
        (α, β, z) at equal distances, from β = 0, or z = -5√c, to α = 0, or z = 5√c. (For large c the curve goes on for
        ever beside α = 0 and β = 0.)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    That it exists is Theorem 3.4 of Tachet des Combes et al. (arXiv 1809.06848); its direction at the stationary
    point, from which it is followed backwards, is derived here.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.separatrix(1.0, num=2)[::2].round(4)
    array([[ 1.781 ,  0.    , -1.4738],
           [ 0.7071,  0.7071,  0.    ],
           [ 0.    ,  1.781 ,  1.4738]])
    """
    from scipy.integrate import solve_ivp

    c = real("c", c, above=0.0)
    k1, k2 = _norms(norms)
    num = integer("num", num, least=2)
    root, K = math.sqrt(c), math.hypot(k1, k2)
    # in units of √c, with r1 = α/κ1 and r2 = β/κ2: the point is (κ2, κ1, 0)/K, and dz/dφ = m along the curve, with the
    # other root of m² - e m - 1 = 0 along the unstable direction
    e = c * (k1 * k2) ** 2 / K**3
    m = 0.5 * (e + math.sqrt(e**2 + 4.0))
    centre = np.array([k2, k1, 0.0]) / K
    tangent = np.array([-k1 / K, k2 / K, m]) / math.hypot(1.0, m)

    def field(_: float, state: Array) -> Array:
        r1, r2, q = state
        g1, g2 = _pulls(c * k1 * r1, c * k2 * r2, q)
        back = -np.array([k1 * q * g1, -k2 * q * g2, k1 * r1 * g1 - k2 * r2 * g2])
        return np.asarray(back / np.linalg.norm(back))

    def edge(_: float, state: Array) -> float:
        return float(min(state[0], state[1], 5.0 - abs(state[2])))

    edge.terminal = True  # type: ignore[attr-defined]
    sides = []
    for sign in (-1.0, 1.0):
        run = solve_ivp(
            field,
            (0.0, 100.0),
            centre + sign * _OFFSET * tangent,
            method="LSODA",
            # beside the stationary point rounding is 1e-10 of the field, and finer steps would follow that
            rtol=1e-9,
            atol=1e-11,
            dense_output=True,
            events=edge,
        )
        sides.append(run.sol(np.linspace(0.0, run.t[-1], num)))
    path = np.concatenate([sides[0][:, ::-1], centre[:, None], sides[1]], axis=1)
    path[:2] = np.maximum(path[:2], 0.0)
    return np.asarray((path * (root * np.array([[k1], [k2], [1.0]]))).T)


def winner(
    alpha: ArrayLike,
    beta: ArrayLike,
    z: ArrayLike,
    *,
    norms: tuple[float, float] = (1.0, 1.0),
) -> NDArray[np.int64]:
    """Return the class a neuron is left with that sees two orthogonal ones, under the logistic loss.

    Parameters
    ----------
    alpha, beta, z : array_like
        <w, x1> (label +1), <w, x2> (label -1) and the head; they broadcast.
    norms : pair of float
        κ1 and κ2; classes have equal shares.

    Returns
    -------
    ndarray of int, of the common shape
        1 or 2; 0 for a neuron that sees neither, or is on the separatrix to rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Tachet des Combes et al. (arXiv 1809.06848), Theorem 3.4: for α²/κ1² + β²/κ2² ≤ z² the sign of z. Otherwise the
    flow is followed until one class is lost. A neuron that sees one class only and has the wrong head for it
    (`failure_region`) dies, and gets 0.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.winner([0.1, 0.2, 1.0], [0.1, 0.9, 1e-9], [0.1, 0.2, -1.1])
    array([1, 2, 2])
    """
    a, b, head = np.broadcast_arrays(
        any_shape("alpha", alpha), any_shape("beta", beta), any_shape("z", z)
    )
    k1, k2 = _norms(norms)
    r1, r2, q = a.ravel() / k1, b.ravel() / k2, head.ravel()
    found = np.zeros(q.shape, dtype=np.int64)
    # one class only: the head must turn, if it has to, before the neuron dies
    found[(r1 > 0) & (r2 <= 0) & (r1 + q > 0)] = 1
    found[(r2 > 0) & (r1 <= 0) & (r2 - q > 0)] = 2
    both = (r1 > 0) & (r2 > 0)
    by_sign = both & (np.hypot(r1, r2) <= np.abs(q))
    found[by_sign] = np.where(q[by_sign] > 0, 1, 2)
    rest = np.flatnonzero(both & ~by_sign)
    found[rest] = _followed(r1[rest], r2[rest], q[rest], k1, k2)
    # what is stiff, or near the separatrix: one by one
    for j in np.flatnonzero(both & (found == 0)):
        start = k1 * float(r1[j]), k2 * float(r2[j]), float(q[j])
        flow = _until_lost(start, (k1, k2), 1.0, 1e12 / min(k1, k2) ** 2)
        if flow.status == 1:
            found[j] = 1 if flow.y[0, -1] / k1 > flow.y[1, -1] / k2 else 2
    return found.reshape(a.shape)


def _until_lost(
    start: tuple[float, float, float], norms: tuple[float, float], p: float, t_end: float
) -> Any:
    """Follow one neuron until α or β is 0; for large c this is stiff."""
    from scipy.integrate import solve_ivp

    k1, k2 = norms
    # time in units in which the larger norm is 1
    unit = p * max(norms) ** 2

    def field(_: float, state: Array) -> Array:
        g1, g2 = _pulls(state[0], state[1], state[2])
        dz = state[0] * g1 - state[1] * g2
        return p / unit * np.array([k1**2 * state[2] * g1, -(k2**2) * state[2] * g2, dz])

    def seen(_: float, state: Array) -> float:
        return float(min(state[0] / k1, state[1] / k2))

    seen.terminal = True  # type: ignore[attr-defined]
    seen.direction = -1.0  # type: ignore[attr-defined]
    flow = solve_ivp(
        field,
        (0.0, unit * t_end),
        start,
        method="LSODA",
        rtol=1e-12,
        atol=1e-14 * np.array([k1, k2, 1.0]) * max(start[0] / k1, start[1] / k2, abs(start[2])),
        dense_output=True,
        events=seen,
    )
    inner = flow.sol
    flow.t = flow.t / unit
    flow.sol = lambda t: inner(unit * t)
    return flow


def _followed(r1: Array, r2: Array, q: Array, k1: float, k2: float) -> NDArray[np.int64]:
    """Follow neurons that see both classes until one is lost; each has steps of its own.

    The Runge-Kutta pair of Bogacki and Shampine, for the many that decide within 1000 steps; 0 for the others.
    """
    found = np.zeros(q.shape, dtype=np.int64)
    state = np.array([r1, r2, q])
    who = np.arange(q.size)

    def field(state: Array) -> Array:
        g1, g2 = _pulls(k1 * state[0], k2 * state[1], state[2])
        first, second = k1 * g1, k2 * g2
        return np.array(
            [first * state[2], -second * state[2], first * state[0] - second * state[1]]
        )

    slope = field(state)
    step = np.full(q.size, 1e-3 / (k1 + k2))
    for _ in range(1000):
        if not who.size:
            break
        second = field(state + 0.5 * step * slope)
        third = field(state + 0.75 * step * second)
        new = state + step * (2.0 * slope + 3.0 * second + 4.0 * third) / 9.0
        last = field(new)
        error = step * (-5.0 * slope / 72.0 + second / 12.0 + third / 9.0 - last / 8.0)
        size = np.sqrt((state**2).sum(axis=0))
        ratio = np.sqrt((error**2).sum(axis=0)) / (1e-9 * size)
        kept = ratio <= 1.0
        state, slope = np.where(kept, new, state), np.where(kept, last, slope)
        step = step * np.clip(0.9 * np.maximum(ratio, 1e-10) ** (-1.0 / 3.0), 0.2, 3.0)
        lost1, lost2 = state[0] <= 0, state[1] <= 0
        # both may be crossed in one step: the one that went further was first
        found[who[lost1 & (state[0] <= state[1])]] = 2
        found[who[lost2 & (state[1] < state[0])]] = 1
        left = ~(lost1 | lost2)
        who, state, slope, step = who[left], state[:, left], slope[:, left], step[left]
    return found


def _pulls(alpha: Array, beta: Array, z: Array) -> tuple[Array, Array]:
    """Return σ(-zα) and σ(zβ)."""
    return np.exp(-np.logaddexp(0.0, z * alpha)), np.exp(-np.logaddexp(0.0, -z * beta))


def _norms(norms: tuple[float, float]) -> tuple[float, float]:
    try:
        k1, k2 = norms
    except (TypeError, ValueError):
        raise TypeError(f"norms={norms!r} must be a pair (|x1|, |x2|)") from None
    return real("norms[0]", k1, above=0.0), real("norms[1]", k2, above=0.0)
