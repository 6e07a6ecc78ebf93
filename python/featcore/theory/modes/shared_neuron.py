"""One neuron that sees both classes: who wins it, and the separatrix between the two outcomes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import integer, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes.one_class import mode

Array = NDArray[np.float64]

_OFFSET = 1e-6
"""How far from the stationary point, in radians, its stable manifold is taken for straight."""


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
    from scipy.integrate import solve_ivp

    times = any_shape("t", t)
    if times.ndim != 1 or not times.size or times.min() < 0:
        raise ValueError(f"t has shape {times.shape}; pass one axis of times, none negative")
    alpha, beta = real("alpha0", alpha0, above=0.0), real("beta0", beta0, above=0.0)
    z = real("z0", z0)
    k1, k2 = _norms(norms)
    p = real("share", share, above=0.0)

    def field(_: float, state: Array) -> Array:
        g1, g2 = _pulls(state[0], state[1], state[2])
        return p * np.array(
            [k1**2 * state[2] * g1, -(k2**2) * state[2] * g2, state[0] * g1 - state[1] * g2]
        )

    def seen(_: float, state: Array) -> float:
        return float(min(state[0], state[1]))

    seen.terminal = True  # type: ignore[attr-defined]
    seen.direction = -1.0  # type: ignore[attr-defined]
    size = max(alpha, beta, abs(z))
    flow = solve_ivp(
        field,
        (0.0, float(times.max())),
        [alpha, beta, z],
        method="DOP853",
        rtol=1e-12,
        atol=1e-14 * size,
        dense_output=True,
        events=seen,
    )
    if flow.status != 1:
        path = flow.sol(times) if times.max() > 0 else np.tile([[alpha], [beta], [z]], times.size)
        return SharedNeuron(times, path[0], path[1], path[2], 0, math.inf)
    died, last = float(flow.t[-1]), flow.y[:, -1]
    first = bool(last[2] > 0)
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
        Number of points, at least 2.

    Returns
    -------
    ndarray, shape (num, 3)
        (α, β, z), from β = 0 to α = 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    That it exists is Theorem 3.4 of Tachet des Combes et al. (arXiv 1809.06848); its direction at the stationary
    point, from which it is integrated, is derived here.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.separatrix(1.0, num=3).round(4)
    array([[ 1.781 ,  0.    , -1.4738],
           [ 0.7071,  0.7071,  0.    ],
           [ 0.    ,  1.781 ,  1.4738]])
    """
    c = real("c", c, above=0.0)
    k1, k2 = _norms(norms)
    phi = np.linspace(0.0, 0.5 * math.pi, integer("num", num, least=2))
    z = _heights(phi, np.array([c]), k1, k2)[0]
    R = np.sqrt(c + z**2)
    return np.column_stack([k1 * R * np.cos(phi), k2 * R * np.sin(phi), z])


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
        1 or 2; 0 for a neuron that sees neither, or stays on the separatrix (within 1e-9) or at 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Tachet des Combes et al. (arXiv 1809.06848), Theorem 3.4. A neuron that sees one class only and has the wrong head
    for it (`failure_region`) dies, and gets 0.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.winner([0.1, 0.2, 1.0], [0.1, 0.9, 1e-9], [0.1, 0.2, -1.1])
    array([1, 2, 2])
    """
    a, b, head = np.broadcast_arrays(
        any_shape("alpha", alpha), any_shape("beta", beta), any_shape("z", z)
    )
    shape = a.shape
    k1, k2 = _norms(norms)
    r1, r2, q = a.ravel() / k1, b.ravel() / k2, head.ravel()
    c = r1**2 + r2**2 - q**2
    found = np.zeros(q.shape, dtype=np.int64)
    # one class only: the head must turn, if it has to, before the neuron dies
    found[(r1 > 0) & (r2 <= 0) & (r1 + q > 0)] = 1
    found[(r2 > 0) & (r1 <= 0) & (r2 - q > 0)] = 2
    both = (r1 > 0) & (r2 > 0)
    by_sign = both & (c <= 0)
    found[by_sign] = np.where(q[by_sign] > 0, 1, 2)
    rest = np.flatnonzero(both & (c > 0))
    if rest.size:
        phi = np.arctan2(r2[rest], r1[rest])
        # neurons of one surface share their separatrix
        level, which = np.unique(c[rest], return_inverse=True)
        height = _heights(phi, level, k1, k2)[which, np.arange(rest.size)]
        gap = q[rest] - height
        decided = np.abs(gap) > 1e-9 * np.sqrt(c[rest])
        found[rest] = np.where(decided, np.where(gap > 0, 1, 2), 0)
    return found.reshape(shape)


def _heights(phi: Array, c: Array, k1: float, k2: float) -> Array:
    """Return z on the separatrices of the surfaces `c` at the angles `phi`, shape (c, phi).

    With α = κ1 R cos φ, β = κ2 R sin φ, R² = c + z², time eliminated:
    dz/dφ = -R²(κ1 g1 cos φ - κ2 g2 sin φ)/(z(κ2 g2 cos φ + κ1 g1 sin φ)).
    """
    from scipy.integrate import solve_ivp

    K = math.hypot(k1, k2)
    centre = math.atan2(k1, k2)
    root = np.sqrt(c)
    # the positive root of m² - e m - c = 0 is the stable direction dz/dφ, the other one the unstable
    e = c * root * (k1 * k2) ** 2 / K**3
    slope = 0.5 * (e + np.sqrt(e**2 + 4.0 * c))

    def field(angle: float, z: Array) -> Array:
        R = np.hypot(root, z)
        cos, sin = math.cos(angle), math.sin(angle)
        g1, g2 = _pulls(k1 * R * cos, k2 * R * sin, z)
        return np.asarray(
            -(R**2) * (k1 * g1 * cos - k2 * g2 * sin) / (z * (k2 * g2 * cos + k1 * g1 * sin))
        )

    z = slope[:, None] * (phi - centre)
    for sign in (1.0, -1.0):
        beyond = np.flatnonzero(sign * (phi - centre) > _OFFSET)
        if not beyond.size:
            continue
        goals = phi[beyond]
        order = np.argsort(sign * goals)
        run = solve_ivp(
            field,
            (centre + sign * _OFFSET, float(goals[order[-1]])),
            sign * slope * _OFFSET,
            method="DOP853",
            rtol=1e-11,
            atol=1e-13 * float(root.min()),
            dense_output=True,
        )
        z[:, beyond] = run.sol(goals)
    return z


def _pulls(alpha: Array, beta: Array, z: Array) -> tuple[Array, Array]:
    """Return σ(-zα) and σ(zβ)."""
    return np.exp(-np.logaddexp(0.0, z * alpha)), np.exp(-np.logaddexp(0.0, -z * beta))


def _norms(norms: tuple[float, float]) -> tuple[float, float]:
    try:
        k1, k2 = norms
    except (TypeError, ValueError):
        raise TypeError(f"norms={norms!r} must be a pair (|x1|, |x2|)") from None
    return real("norms[0]", k1, above=0.0), real("norms[1]", k2, above=0.0)
