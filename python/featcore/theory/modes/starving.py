"""Gradient starvation: what is learnt of a rare feature by the time the frequent one is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._piece import reach

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


@dataclass(frozen=True, eq=False)
class Starvation:
    """The class of `starvation` at the moment its frequent feature reaches a logit.

    Arrays have the shape of the logits asked for; those of neurons one more axis, (h,).

    Attributes
    ----------
    logit : ndarray
        L, what the output on x1 has reached.
    rare_logit : ndarray
        What the output on x2 is then.
    bound : ndarray
        Its bound ρL + Σ_j z_j (B_j(0) - ρA_j(0))_+, ρ = λ|x2|²/|x1|².
    bound_holds : bool
        Whether the premises of the bound do: heads that start at 0 or above; B(0) ≥ 0, or a single neuron.
    paper_bound : ndarray
        λL, Theorem 6.1.
    paper_bound_holds : bool
        Whether its premises do: unit norms, z > 0 and 0 < B(0)/λ ≤ A(0), or a single neuron with B(0) < 0.
    time : ndarray
        When; infinite beyond 1e308, or if the hinge loss asks for no more than 1.
    A, B, z : ndarray
        <w, x1>, <w, x2> and head of each neuron.
    """

    logit: Array
    rare_logit: Array
    bound: Array
    bound_holds: bool
    paper_bound: Array
    paper_bound_holds: bool
    time: Array
    A: Array
    B: Array
    z: Array


def starvation(
    lam: float,
    logit: ArrayLike | None = None,
    *,
    norms: tuple[float, float] = (1.0, 1.0),
    share: float = 1.0,
    A0: ArrayLike = 0.1,
    B0: ArrayLike = 0.1,
    z0: ArrayLike = 0.1,
    loss: str = "logistic",
) -> Starvation:
    """Return how far a rare feature is learnt when the frequent one reaches a logit.

    All samples of the class contain x1; a fraction λ contain x1 + x2, with x1 ⊥ x2. The neurons given see all samples
    of the class and none of the others'. The output on a rare sample alone, (0, x2), is Σ_j z_j (B_j)_+.

    Parameters
    ----------
    lam : float
        λ, above 0 and at most 1.
    logit : array_like of any shape, optional
        L at which to stop, for one δ `target_logit(δ)`; above the logit at the start. For the hinge loss at most 1,
        which is the default there.
    norms : pair of float
        |x1| and |x2|.
    share : float
        p, the share of the class in the data; it divides time and nothing else.
    A0, B0, z0 : float or array_like, shape (h,)
        <w_j, x1>, <w_j, x2> and head (times the label) at t = 0.
    loss : {"logistic", "hinge"}

    Returns
    -------
    Starvation

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or if a neuron comes to see only some of the samples.

    Notes
    -----
    The bound is Theorem 6.1 and appendix D of Tachet des Combes et al. (arXiv 1809.06848) for general norms; the orbit,
    in which time is eliminated, and the closed form of the hinge loss are derived here (docs/derivations.md).

    Examples
    --------
    >>> from featcore.theory import modes
    >>> found = modes.starvation(0.1, modes.target_logit([1e-2, 1e-300]))
    >>> found.rare_logit.round(3), found.bound.round(3)
    (array([0.41 , 9.868]), array([ 0.675, 69.349]))
    >>> float(modes.starvation(0.1, loss="hinge", A0=1e-4, B0=1e-5, z0=1e-4).rare_logit.round(5))
    0.09532
    """
    lam = real("lam", lam, above=0.0, most=1.0)
    loss = choice("loss", loss, ("logistic", "hinge"))
    p = real("share", share, above=0.0)
    try:
        k1, k2 = norms
    except (TypeError, ValueError):
        raise TypeError(f"norms={norms!r} must be a pair (|x1|, |x2|)") from None
    k1, k2 = real("norms[0]", k1, above=0.0), real("norms[1]", k2, above=0.0)
    if logit is None:
        if loss == "logistic":
            raise ValueError(
                "logit=None has a meaning for the hinge loss only; pass target_logit(δ)"
            )
        logit = 1.0
    goals = any_shape("logit", logit)
    A, B, z = np.broadcast_arrays(*(any_shape(*v) for v in (("A0", A0), ("B0", B0), ("z0", z0))))
    if A.ndim > 1 or not A.size:
        raise ValueError(f"A0, B0 and z0 have the common shape {A.shape}; pass a number a neuron")
    start = _State(*(np.atleast_1d(v) for v in (A, B, z)), norm=k1)
    if (unseen := (start.a <= 0) | (start.a + start.b <= 0)).any():
        j = int(np.argmax(unseen))
        raise ValueError(
            f"neuron {j} has A0={np.atleast_1d(A)[j]:g} and B0={np.atleast_1d(B)[j]:g}; it must see x1 and x1 + x2, "
            "so A0 > 0 and A0 + B0 > 0"
        )
    if goals.size and goals.min() <= start.u:
        raise ValueError(
            f"logit has the entry {goals.min():g}; it must be above {start.u:g}, where the output on x1 starts"
        )
    if loss == "hinge" and goals.size and goals.max() > 1:
        raise ValueError(
            f"logit has the entry {goals.max():g}; under the hinge loss the output on x1 stops at 1"
        )
    rho = lam * (k2 / k1) ** 2
    orbit = _hinge if loss == "hinge" else _logistic
    a, b, q, T = orbit(lam, rho, start, goals.ravel())
    state = _State.of(a, b, q, norm=k1)
    shape = goals.shape
    excess = np.maximum(np.atleast_1d(B) - rho * np.atleast_1d(A), 0.0)
    one = start.a.size == 1
    held = bool((start.q >= 0).all() and ((start.b >= 0).all() or one))
    balanced = bool((start.q > 0).all()) and (
        bool((start.b > 0).all() and (start.b <= lam * start.a).all())
        or (one and bool(start.b[0] < 0))
    )
    with np.errstate(over="ignore"):
        time = (T / k1 / p).reshape(shape)
    A_end, B_end, z_end = state.raw()
    return Starvation(
        logit=goals,
        rare_logit=(q * np.maximum(b, 0.0)).sum(axis=-1).reshape(shape),
        bound=rho * goals + (z_end @ excess).reshape(shape),
        bound_holds=held,
        paper_bound=lam * goals,
        paper_bound_holds=balanced and k1 == k2 == 1.0,
        time=time,
        A=A_end.reshape(*shape, -1),
        B=B_end.reshape(*shape, -1),
        z=z_end.reshape(*shape, -1),
    )


class _State:
    """Neurons in the units a = A/√κ1, b = B/√κ1, q = √κ1 z: outputs are Σqa and Σqb, and only λ and ρ are left."""

    def __init__(self, A: Array, B: Array, z: Array, *, norm: float) -> None:
        self.scale = math.sqrt(norm)
        with np.errstate(under="ignore"):
            self.a, self.b, self.q = A / self.scale, B / self.scale, z * self.scale

    @classmethod
    def of(cls, a: Array, b: Array, q: Array, *, norm: float) -> _State:
        scale = math.sqrt(norm)
        return cls(a * scale, b * scale, q / scale, norm=norm)

    @property
    def u(self) -> float:
        return float(self.q @ self.a)

    def raw(self) -> tuple[Array, Array, Array]:
        return self.a * self.scale, self.b * self.scale, self.q / self.scale


def _logistic(lam: float, rho: float, start: _State, goals: Array) -> tuple[Array, ...]:
    """Return (a, b, q) at each goal, a row a goal, and T = κ1 p t.

    The output on x1, U, rises along the orbit, so it takes the place of time; as x = asinh(U/size), in which all grows
    at rate 1/2 at most, from however small a start.
    """
    from scipy.integrate import solve_ivp

    h = start.a.size
    size = 0.5 * float(start.a @ start.a + start.q @ start.q)

    def speeds(state: Array, U: Array) -> tuple[Array, Array, Array, Array]:
        """Return da, db, dq and dU by κ1 p g(U) dt."""
        a, b, q = state[:h], state[h : 2 * h], state[2 * h :]
        V = (q * b).sum(axis=0)
        # g(U + V)/g(U): what the rare samples still pull of what the others do
        w = lam * np.exp(np.logaddexp(0.0, U) - np.logaddexp(0.0, U + V))
        mix = w + (1.0 - lam)
        da, db, dq = q * mix, rho / lam * w * q, a * mix + w * b
        return da, db, dq, (q * da + a * dq).sum(axis=0)

    def field(x: float, state: Array) -> Array:
        U = np.asarray(size * math.sinh(x))
        da, db, dq, dU = speeds(state, U)
        return np.concatenate([da, db, dq]) * (size * math.cosh(x) / dU)

    def seen(x: float, state: Array) -> float:
        a = state[:h]
        return float(min(a.min(), (a + state[h : 2 * h]).min()))

    seen.terminal = True  # type: ignore[attr-defined]
    first = math.asinh(start.u / size)
    stops = np.arcsinh(goals / size)
    state0 = np.concatenate([start.a, start.b, start.q])
    orbit = solve_ivp(
        field,
        (first, float(stops.max())),
        state0,
        method="DOP853",
        rtol=1e-12,
        atol=1e-13 * math.sqrt(size / h),
        dense_output=True,
        events=seen,
    )
    if orbit.status != 0:
        _refuse_death(orbit.y[:h, -1], orbit.y[h : 2 * h, -1])
    ends = orbit.sol(stops)

    def slowness(U: Array) -> Array:
        """Return dT/dU."""
        with np.errstate(over="ignore"):
            return np.asarray((1.0 + np.exp(U)) / speeds(orbit.sol(np.arcsinh(U / size)), U)[3])

    T = _times(slowness, size, start.u, goals)
    return ends[:h].T, ends[h : 2 * h].T, ends[2 * h :].T, T


def _times(slowness: Callable[[Array], Array], size: float, first: float, goals: Array) -> Array:
    """Return ∫ dT/dU dU from `first` to each goal: over asinh(U/size) up to 1, over U beyond, where e^U leads."""
    last = float(goals.max())
    knots = np.arange(math.asinh(first / size), math.asinh(min(last, 1.0) / size), 2.0)
    low = size * np.sinh(knots)
    high = np.concatenate([[1.0, 2.0, 4.0], np.arange(8.0, max(min(last, 1e3), 8.0), 8.0)])
    edges = np.concatenate([[first], low[low > first], high, goals])
    edges = np.unique(edges[(edges >= first) & (edges <= last)])
    left, right = edges[:-1], edges[1:]
    curved = (right <= 1.0)[:, None]
    unit = 0.5 * (_NODES + 1.0)
    xl, xr = np.arcsinh(left / size)[:, None], np.arcsinh(right / size)[:, None]
    U = np.where(
        curved,
        size * np.sinh(xl + (xr - xl) * unit),
        left[:, None] + (right - left)[:, None] * unit,
    )
    per_node = np.where(
        curved, (xr - xl) * np.hypot(size, U), (right - left)[:, None] * np.ones_like(U)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        values = slowness(U.ravel()).reshape(U.shape) * per_node
        parts = 0.5 * values @ _WEIGHTS
        # beyond the last panel of doubles time is infinite
        total = np.cumsum(np.where(np.isnan(parts) | (right > 1e3), np.inf, parts))
    return np.asarray(total[np.searchsorted(right, goals)])


def _hinge(lam: float, rho: float, start: _State, goals: Array) -> tuple[Array, ...]:
    """Return (a, b, q) at each goal and T = κ1 p t, in closed form up to one root.

    While all samples are below margin 1 the flow is linear, along x1 + λ x2. When the rare ones are satisfied b stops for
    ever, and the others go on along x1 at the rate 1 - λ.
    """
    from scipy.optimize import brentq

    a0, b0, q0 = start.a, start.b, start.q
    k = math.sqrt(1.0 + lam * rho)
    pull = a0 + lam * b0
    # ∫q is least where q = 0, if the head turns at all
    turns = (q0 < 0) & (pull > k * -q0)
    with np.errstate(invalid="ignore"):
        turn = (np.sqrt((pull - k * q0) * (pull + k * q0)) - pull) / k**2
    least = np.where(q0 >= 0, 0.0, np.where(turns, turn, -np.inf))
    if not ((a0 + least > 0) & (a0 + b0 + (1.0 + rho) * least > 0)).all():
        _refuse_death(a0 + least, a0 + b0 + (1.0 + rho) * least)

    def at(s: float) -> tuple[Array, Array, Array]:
        sinh, cosh = math.sinh(k * s), math.cosh(k * s)
        # cosh - 1 without cancellation
        grown = q0 * (sinh / k) + pull * (2.0 * math.sinh(0.5 * k * s) ** 2 / k**2)
        return a0 + grown, b0 + rho * grown, q0 * cosh + pull * (sinh / k)

    def root(output: Callable[[Array, Array, Array], float], goal: float) -> float:
        if output(a0, b0, q0) >= goal:
            return 0.0
        end = 1.0
        while output(*at(end)) < goal:
            end *= 2.0
        return float(brentq(lambda s: output(*at(s)) - goal, 0.0, end, xtol=1e-300, rtol=1e-15))

    def frequent(a: Array, b: Array, q: Array) -> float:
        return float(q @ a)

    def rare(a: Array, b: Array, q: Array) -> float:
        return float(q @ (a + b))

    s1 = root(rare, 1.0)
    a1, b1, q1 = at(s1)
    u1 = np.asarray(frequent(a1, b1, q1))
    rows = []
    for goal in goals:
        if goal <= u1:
            s = root(frequent, float(goal))
            rows.append((*at(s), s))
            continue
        up, down = 0.5 * (a1 + q1), 0.5 * (a1 - q1)
        A, B = np.asarray(up @ up), np.asarray(down @ down)
        # without other samples nothing pulls any more
        tau = float(reach(np.asarray(goal), u1, A, B)) if lam < 1 else 0.0
        grow, shrink = math.exp(tau), math.exp(-tau)
        T = s1 + tau / (1.0 - lam) if lam < 1 else math.inf
        rows.append((up * grow + down * shrink, b1, up * grow - down * shrink, T))
    a, b, q, T_all = zip(*rows, strict=True) if rows else ((), (), (), ())
    h = a0.size
    return tuple(np.reshape(v, (-1, h)) for v in (a, b, q)) + (np.array(T_all, dtype=np.float64),)


def _refuse_death(first: Array, both: Array) -> None:
    j = int(np.argmin(np.minimum(first, both)))
    raise ValueError(
        f"z0 of neuron {j} is so negative that the neuron comes to see only some of the samples; no orbit is derived for it"
    )
