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
from featcore.theory.modes._quadrature import UNIT, WEIGHTS

Array = NDArray[np.float64]

_Ends = tuple[Array, Array, Array, Array]
_LINEAR = 1e-17
"""Outputs below it do not change the residuals of the logistic loss in double precision."""


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
    (array([ 0.578, 10.704]), array([ 0.653, 71.443]))
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
        bound=np.asarray(rho * goals + (z_end @ excess).reshape(shape)),
        bound_holds=held,
        paper_bound=np.asarray(lam * goals),
        paper_bound_holds=balanced and k1 == k2 == 1.0,
        time=time,
        A=A_end.reshape(*shape, start.a.size),
        B=B_end.reshape(*shape, start.a.size),
        z=z_end.reshape(*shape, start.a.size),
    )


def late_coefficient(
    lam: float,
    *,
    norms: tuple[float, float] = (1.0, 1.0),
    A0: ArrayLike = 0.1,
    B0: ArrayLike = 0.1,
    z0: ArrayLike = 0.1,
) -> float:
    """Return the limit of (logit on the rare feature)/√(logit on the frequent one) under the logistic loss.

    <w, x2> grows by ever less, as e^{-z<w, x2>}, and saturates, while z goes on as √L.

    Parameters
    ----------
    lam, norms, A0, B0, z0
        As for `starvation`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As for `starvation`.

    Notes
    -----
    Derived here. It is taken at L = 1e10, where it has the limit's digits to 1e-8.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> round(modes.late_coefficient(0.1, A0=1e-4, B0=1e-5, z0=1e-4), 4)
    0.3687
    """
    end = 1e10
    far = starvation(lam, end, norms=norms, A0=A0, B0=B0, z0=z0)
    return float(far.rare_logit) / math.sqrt(end)


class _State:
    """Neurons in the units a = A/√κ1, b = B/√κ1, q = √κ1 z: outputs are Σqa and Σqb, and only λ and ρ are left."""

    def __init__(self, A: Array, B: Array, z: Array, *, norm: float) -> None:
        self.scale = math.sqrt(norm)
        self.a, self.b, self.q = A / self.scale, B / self.scale, z * self.scale

    @classmethod
    def of(cls, a: Array, b: Array, q: Array, *, norm: float) -> _State:
        scale = math.sqrt(norm)
        return cls(a * scale, b * scale, q / scale, norm=norm)

    @property
    def u(self) -> float:
        return float(self.q @ self.a)

    @property
    def size(self) -> float:
        """Return how large the output can be at most: (|a|² + |q|²)/2."""
        return 0.5 * float(self.a @ self.a + self.q @ self.q)

    def raw(self) -> tuple[Array, Array, Array]:
        return self.a * self.scale, self.b * self.scale, self.q / self.scale


def _logistic(lam: float, rho: float, start: _State, goals: Array) -> _Ends:
    """Return (a, b, q) at each goal, a row a goal, and T = κ1 p t.

    The output on x1, U, rises along the orbit, so it takes the place of time; as x = asinh(U/size), in which all grows
    at rate 1/2 at most, from however small a start.
    """
    from scipy.integrate import solve_ivp

    if goals.size == 0:
        return (
            np.empty((0, start.a.size)),
            np.empty((0, start.a.size)),
            np.empty((0, start.a.size)),
            goals,
        )
    passed = 0.0
    if start.size < 0.1 * _LINEAR and goals.min() > _LINEAR:
        # however small the start, it is carried to where the residuals begin to move in one step, at g = 1/2
        flow = _Linear(lam, rho, start)
        flow.check_seen()
        s = flow.when(_rare, _LINEAR)
        start, passed = _State.of(*flow.at(s), norm=1.0), 2.0 * s
    h = start.a.size
    size = start.size

    def speeds(state: Array, U: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Return da, db, dq and dU by κ1 p g(U) dt · mix, and mix."""
        a, b, q = state[:h], state[h : 2 * h], state[2 * h :]
        V = (q * b).sum(axis=0)
        # g(U + V)/g(U): what the rare samples still pull of what the others do
        w = lam * np.exp(np.logaddexp(0.0, U) - np.logaddexp(0.0, U + V))
        mix = w + (1.0 - lam)
        with np.errstate(divide="ignore", over="ignore"):
            rare = 1.0 / (1.0 + (1.0 - lam) / w) if lam < 1 else np.ones_like(w)
        db, dq = rho / lam * rare * q, a + rare * b
        return q, db, dq, (q * q + a * dq).sum(axis=0), mix

    def field(x: float, state: Array) -> Array:
        U = np.asarray(size * math.sinh(x))
        da, db, dq, dU, _ = speeds(state, U)
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
        *_, dU, mix = speeds(orbit.sol(np.arcsinh(U / size)), U)
        with np.errstate(over="ignore", divide="ignore"):
            return np.asarray((1.0 + np.exp(U)) / (mix * dU))

    # beside a turning head the output varies on a scale far below `size`, which the steps of the orbit resolve
    T = _times(slowness, size, start.u, goals, np.sinh(orbit.t) * size)
    return ends[:h].T, ends[h : 2 * h].T, ends[2 * h :].T, passed + T


def _times(
    slowness: Callable[[Array], Array], size: float, first: float, goals: Array, steps: Array
) -> Array:
    """Return ∫ dT/dU dU from `first` to each goal: over asinh(U/size) up to 1, over U beyond, where e^U leads.

    Panels end at `steps` too, between which the integrand is smooth.
    """
    last = float(goals.max())
    knots = np.arange(math.asinh(first / size), math.asinh(min(last, 1.0) / size), 2.0)
    low = size * np.sinh(knots)
    high = np.concatenate([[1.0, 2.0, 4.0], np.arange(8.0, max(min(last, 1e3), 8.0), 8.0)])
    edges = np.concatenate([[first], low[low > first], high, goals, steps[steps <= 1e3]])
    edges = np.unique(edges[(edges >= first) & (edges <= last)])
    left, right = edges[:-1], edges[1:]
    curved = (right <= 1.0)[:, None]
    xl, xr = np.arcsinh(left / size)[:, None], np.arcsinh(right / size)[:, None]
    U = np.where(
        curved,
        size * np.sinh(xl + (xr - xl) * UNIT),
        left[:, None] + (right - left)[:, None] * UNIT,
    )
    per_node = np.where(
        curved, (xr - xl) * np.hypot(size, U), (right - left)[:, None] * np.ones_like(U)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        values = slowness(U.ravel()).reshape(U.shape) * per_node
        parts = values @ WEIGHTS
        # beyond the last panel of doubles time is infinite
        total = np.cumsum(np.where(np.isnan(parts) | (right > 1e3), np.inf, parts))
    return np.asarray(total[np.searchsorted(right, goals)])


class _Linear:
    """The flow while g is one constant for all samples: along x1 + λ x2, hyperbolic in s, ds = κ1 p g dt."""

    def __init__(self, lam: float, rho: float, start: _State) -> None:
        self.rho, self.start = rho, start
        self.k = math.sqrt(1.0 + lam * rho)
        self.pull = start.a + lam * start.b

    def at(self, s: float) -> tuple[Array, Array, Array]:
        """Return (a, b, q)."""
        k, start = self.k, self.start
        sinh, cosh = math.sinh(k * s), math.cosh(k * s)
        # ∫q ds, with cosh - 1 free of cancellation
        grown = start.q * (sinh / k) + self.pull * (2.0 * math.sinh(0.5 * k * s) ** 2 / k**2)
        return start.a + grown, start.b + self.rho * grown, start.q * cosh + self.pull * (sinh / k)

    def when(self, output: Callable[[Array, Array, Array], float], goal: float) -> float:
        """Return the s at which an increasing function of (a, b, q) comes to `goal`; 0 if it starts there."""
        from scipy.optimize import brentq

        if output(*self.at(0.0)) >= goal:
            return 0.0
        end = 1.0 / self.k
        while output(*self.at(end)) < goal:
            end *= 2.0
        return float(
            brentq(lambda s: output(*self.at(s)) - goal, 0.0, end, xtol=1e-300, rtol=1e-15)
        )

    def check_seen(self) -> None:
        """Refuse neurons that would come to see only some of the samples."""
        a0, b0, q0 = self.start.a, self.start.b, self.start.q
        k, pull = self.k, self.pull
        # ∫q is least where q = 0, if the head turns at all
        turns = (q0 < 0) & (pull > k * -q0)
        with np.errstate(invalid="ignore"):
            turn = (np.sqrt((pull - k * q0) * (pull + k * q0)) - pull) / k**2
        least = np.where(q0 >= 0, 0.0, np.where(turns, turn, -np.inf))
        first, both = a0 + least, a0 + b0 + (1.0 + self.rho) * least
        if not ((first > 0) & (both > 0)).all():
            _refuse_death(first, both)


def _hinge(lam: float, rho: float, start: _State, goals: Array) -> _Ends:
    """Return (a, b, q) at each goal and T = κ1 p t, in closed form up to one root.

    While all samples are below margin 1 the flow is linear. When the rare ones are satisfied b stops for ever, and
    the others go on along x1 at the rate 1 - λ.
    """
    flow = _Linear(lam, rho, start)
    flow.check_seen()

    s1 = flow.when(_rare, 1.0)
    a1, b1, q1 = flow.at(s1)
    u1 = np.asarray(_frequent(a1, b1, q1))
    rows = []
    for goal in goals:
        if goal <= u1:
            s = flow.when(_frequent, float(goal))
            rows.append((*flow.at(s), s))
            continue
        up, down = 0.5 * (a1 + q1), 0.5 * (a1 - q1)
        A, B = np.asarray(up @ up), np.asarray(down @ down)
        # without other samples nothing pulls any more
        tau = float(reach(np.asarray(goal), u1, A, B)) if lam < 1 else 0.0
        _check_seen_late(up, down, b1, tau)
        grow, shrink = math.exp(tau), math.exp(-tau)
        T = s1 + tau / (1.0 - lam) if lam < 1 else math.inf
        rows.append((up * grow + down * shrink, b1, up * grow - down * shrink, T))
    h = start.a.size
    ends = [np.reshape([row[i] for row in rows], (goals.size, h)) for i in range(3)]
    return ends[0], ends[1], ends[2], np.array([row[3] for row in rows], dtype=np.float64)


def _check_seen_late(up: Array, down: Array, b: Array, tau: float) -> None:
    """Refuse neurons whose a = up·e^τ + down·e^{-τ} falls to 0, or to -b, by τ: b does not help them any more."""
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.where(up > 0, 0.5 * (np.log(np.abs(down)) - np.log(up)), tau)
    # where it is least: a falls at first where down > up
    at = np.where(down > up, np.clip(turn, 0.0, tau), 0.0)
    least = up * np.exp(at) + down * np.exp(-at)
    if not ((least > 0) & (least + b > 0)).all():
        _refuse_death(least, least + b)


def _frequent(a: Array, b: Array, q: Array) -> float:
    return float(q @ a)


def _rare(a: Array, b: Array, q: Array) -> float:
    return float(q @ (a + b))


def _refuse_death(first: Array, both: Array) -> None:
    j = int(np.argmin(np.minimum(first, both)))
    raise ValueError(
        f"z0 of neuron {j} is so negative that the neuron comes to see only some of the samples; no orbit is derived "
        "for that"
    )
