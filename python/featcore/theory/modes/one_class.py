"""One class as a mode: the closed form of its logit and its neurons in intrinsic time, and its clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, float_array, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._piece import LOSSES, clock, inverse_clock, logit_at, reach
from featcore.theory.modes._start import deaths, scaled

Array = NDArray[np.float64]

_MOST = np.finfo(np.float64).max


@dataclass(frozen=True, eq=False)
class Mode:
    """A class of samples that act as one vector, and the neurons that see it; see `mode`.

    In intrinsic time s, ds = p g(u) dt with g = -ℓ'(u), every loss has the same linear flow, dy_j/ds = κ²z_j and
    dz_j/ds = y_j, so that between two deaths of neurons u(s) = A e^{2κs} - B e^{-2κs}.

    Attributes
    ----------
    norm : float
        κ, the length of the vector.
    share : float
        p, the share of the data (the weight of the class in the mean loss).
    loss : str
        "logistic", "exponential", "hinge" or "squared" (target 1).
    y0, z0 : ndarray, shape (h,)
        At t = 0: pre-activations, and heads with the sign of the label on them.
    death_s : ndarray, shape (h,)
        Intrinsic times at which neurons die: infinite for those that never do, 0 for those that are dead from
        the start.
    start_s : ndarray, shape (k,)
        Intrinsic times at which the pieces start: 0, and every death.
    logits, A, B : ndarray, shape (k,)
        u, A and B at the start of each piece: u(s) = u_i + A_i(e^{2κ(s-s_i)} - 1) + B_i(1 - e^{-2κ(s-s_i)}).
    """

    norm: float
    share: float
    loss: str
    y0: Array
    z0: Array
    death_s: Array
    start_s: Array
    logits: Array
    A: Array
    B: Array
    _start_T: Array

    @property
    def sup_logit(self) -> float:
        """The supremum of u over intrinsic time; whether it is reached in finite time depends on the loss."""
        if self.A[-1] > 0:
            return math.inf
        return float(self.logits[-1] + self.B[-1])

    @property
    def learns(self) -> bool:
        """Whether the logit grows for good: some neuron lives on with A > 0."""
        return bool(self.A[-1] > 0)

    @property
    def death_times(self) -> Array:
        """Times at which neurons die, shape (h,); infinite for those that never do."""
        return self.t_of_s(self.death_s)

    def u_of_s(self, s: ArrayLike) -> Array:
        """Return the logit at intrinsic times `s` ≥ 0, in their shape."""
        tau, k = self._piece(_not_negative("s", s))
        return logit_at(tau, self.logits[k], self.A[k], self.B[k])

    def s_of_u(self, u: ArrayLike) -> Array:
        """Return the intrinsic time at which the logit first is `u`: 0 if it starts there, infinite if never."""
        tau, k = self._reach(any_shape("u", u))
        return np.asarray(self.start_s[k] + tau / self.norm)

    def _reach(self, goal: Array) -> tuple[Array, NDArray[np.intp]]:
        """Return the piece in which the logit comes to `goal`, and κ times the intrinsic time from its start on."""
        # u rises from piece to piece: the piece of a goal is the last that starts below it
        k = np.clip(np.searchsorted(self.logits, goal, side="left") - 1, 0, None)
        tau = reach(goal, self.logits[k], self.A[k], self.B[k])
        # rounding may put a goal at the very end of a piece beyond it
        length = np.append(np.diff(self.start_s) * self.norm, np.inf)
        return np.minimum(tau, length[k]), k

    def t_of_s(self, s: ArrayLike) -> Array:
        """Return the time at intrinsic time `s` ≥ 0; infinite where the loss is done before, and beyond 1e308."""
        values = np.asarray(s)
        # infinite ones are the deaths that do not come
        finite = values != np.inf
        tau, k = self._piece(_not_negative("s", np.where(finite, values, np.zeros_like(values))))
        T = self._start_T[k] + clock(self.loss, tau, self.logits[k], self.A[k], self.B[k])
        with np.errstate(over="ignore"):
            return np.asarray(np.where(finite, T / self.norm / self.share, np.inf))

    def s_of_t(self, t: ArrayLike) -> Array:
        """Return the intrinsic time at times `t` ≥ 0; where nothing moves any more, its last value."""
        tau, k = self._clocked(t)
        with np.errstate(over="ignore"):
            return np.asarray(np.minimum(self.start_s[k] + tau / self.norm, _MOST))

    def u_of_t(self, t: ArrayLike) -> Array:
        """Return the logit at times `t` ≥ 0, in their shape."""
        tau, k = self._clocked(t)
        return logit_at(tau, self.logits[k], self.A[k], self.B[k])

    def _clocked(self, t: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
        """Return the piece at times `t`, and κ times the intrinsic time from its start on."""
        with np.errstate(over="ignore"):
            T = np.minimum(_not_negative("t", t) * self.norm * self.share, _MOST)
        k = np.clip(np.searchsorted(self._start_T, T, side="right") - 1, 0, None)
        return inverse_clock(
            self.loss, T - self._start_T[k], self.logits[k], self.A[k], self.B[k]
        ), k

    def time_to_learn(self, u: ArrayLike) -> Array:
        """Return the time at which the logit first is `u`, in the shape of `u`; infinite if it never is."""
        goal = any_shape("u", u)
        tau, k = self._reach(goal)
        piece = self.logits[k], self.A[k], self.B[k]
        reached = np.isfinite(tau)
        # not by way of s, from which e^u would have to be made again
        T = clock(self.loss, np.where(reached, tau, 0.0), *piece, np.maximum(goal, piece[0]))
        with np.errstate(over="ignore"):
            t = (self._start_T[k] + T) / self.norm / self.share
        return np.where(reached, t, np.inf)

    def neurons(self, s: ArrayLike) -> tuple[Array, Array]:
        """Return (y, z) at intrinsic times `s`, each of shape (*s.shape, h); dead neurons stand still at y = 0."""
        at = _not_negative("s", s)[..., None]
        alive = self.y0 > 0
        s_own = np.where(alive, np.minimum(at, self.death_s), 0.0)
        scale = math.sqrt(self.norm)
        r, q = self.y0 / scale, self.z0 * scale
        with np.errstate(over="ignore", invalid="ignore"):
            # on the line r + q = 0 nothing grows, for however long
            up = np.where(r + q == 0, 0.0, 0.5 * (r + q) * np.exp(self.norm * s_own))
            down = 0.5 * (r - q) * np.exp(-self.norm * s_own)
            y, z = (up + down) * scale, (up - down) / scale
        # what has not moved keeps its digits
        y = np.where(s_own == 0, self.y0, np.where(at >= self.death_s, 0.0, y))
        return y, np.where(s_own == 0, self.z0, z)

    def _piece(self, s: Array) -> tuple[Array, NDArray[np.intp]]:
        k = np.clip(np.searchsorted(self.start_s, s, side="right") - 1, 0, None)
        return (s - self.start_s[k]) * self.norm, k


def mode(
    norm: float,
    share: float,
    y0: ArrayLike,
    z0: ArrayLike,
    loss: str = "logistic",
) -> Mode:
    """Return the mode of a class that is one vector x, seen by h neurons that see no other class.

    Parameters
    ----------
    norm : float
        κ = |x|, positive.
    share : float
        p, the share of the data that is x; of the mean loss. For a sum over samples pass their number.
    y0 : array_like, shape (h,)
        Pre-activations <w_j, x> at t = 0. Where they are not positive the neuron is dead.
    z0 : array_like, shape (h,)
        Heads at t = 0, times the label of the class.
    loss : {"logistic", "exponential", "hinge", "squared"}
        The squared loss has the target 1, at which or below which the logit must start.

    Returns
    -------
    Mode

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here (docs/derivations.md); for one neuron and the logistic and hinge losses it is the flow of
    Tachet des Combes et al. (arXiv 1809.06848), Theorems 3.2 and 5.1.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> one = modes.mode(norm=1.0, share=0.5, y0=[0.3], z0=[0.02])
    >>> round(float(one.time_to_learn(modes.target_logit(0.01))), 5)
    38.13773
    >>> two = modes.mode(norm=0.7, share=1.0, y0=[0.4, 0.1], z0=[-1.1, 0.2])
    >>> two.death_times.round(4).tolist(), two.learns
    ([1.5295, inf], True)
    """
    kappa = real("norm", norm, above=0.0)
    p = real("share", share, above=0.0)
    loss = choice("loss", loss, LOSSES)
    y = float_array("y0", y0, ndim=1, allow_empty=True).astype(np.float64)
    z = float_array("z0", z0, ndim=1, allow_empty=True).astype(np.float64)
    if y.shape != z.shape:
        raise ValueError(f"z0 has shape {z.shape} and y0 {y.shape}; pass one of each a neuron")
    r, q = scaled(y, z, kappa, together=True)
    death = deaths(r, q)
    if loss == "squared" and (start := float(np.sum((r * q)[r > 0]))) > 1.0:
        raise ValueError(
            f"y0 and z0 give the logit {start:g}, beyond the target 1 of the squared loss, to which it would fall; "
            "modes are derived for logits that rise"
        )
    starts: list[float] = []
    logits: list[float] = []
    growing: list[float] = []
    decaying: list[float] = []
    T = [0.0]
    for tau in np.unique(np.append(death[np.isfinite(death)], 0.0)):
        if starts:
            before = (tau - starts[-1], logits[-1], growing[-1], decaying[-1])
            T.append(T[-1] + float(clock(loss, *(np.asarray(v) for v in before))))
        alive = death > tau
        with np.errstate(over="ignore", invalid="ignore"):
            up = 0.5 * (r + q)[alive] * np.exp(tau)
            down = 0.5 * (r - q)[alive] * np.exp(-tau)
            logit = (r * q)[alive] if tau == 0 else (up + down) * (up - down)
            A, B = float(up @ up), float(down @ down)
        if not math.isfinite(A + B):
            break  # logits beyond 1e308 are reached by no loss
        starts.append(float(tau))
        logits.append(float(logit.sum()))
        growing.append(A)
        decaying.append(B)
    return Mode(
        norm=kappa,
        share=p,
        loss=loss,
        y0=y,
        z0=z,
        death_s=death / kappa,
        start_s=np.array(starts) / kappa,
        # rounding must not let u fall at a death
        logits=np.maximum.accumulate(logits),
        A=np.array(growing),
        B=np.array(decaying),
        _start_T=np.array(T[: len(starts)]),
    )


def _not_negative(name: str, value: ArrayLike) -> Array:
    array = any_shape(name, value)
    if array.size and array.min() < 0:
        raise ValueError(f"{name} has the entry {array.min():g}; count from 0")
    return array
