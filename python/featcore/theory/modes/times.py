"""When a class is learnt: exactly, from a small start, and the bound of the paper."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, integer, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._piece import LOSSES, clock, reach
from featcore.theory.modes._start import scaled

Array = NDArray[np.float64]


def target_logit(delta: ArrayLike) -> Array:
    """Return log(1/δ - 1), the logit at which the logistic loss is sure of a class up to δ.

    Parameters
    ----------
    delta : array_like of any shape
        δ = 1 - P, above 0 and below 1, down to the least double.

    Returns
    -------
    ndarray, shape of `delta`
        L; negative for δ > 1/2.

    Raises
    ------
    TypeError, ValueError
        If an entry is out of range.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.target_logit([0.5, 0.01, 1e-300]).round(3).tolist()
    [0.0, 4.595, 690.776]
    """
    d = any_shape("delta", delta)
    if d.size and (d.min() <= 0 or d.max() >= 1):
        wrong = d.min() if d.min() <= 0 else d.max()
        raise ValueError(f"delta has the entry {wrong:g}; it must lie above 0 and below 1")
    return np.asarray(np.log1p(-d) - np.log(d))


def time_to_learn(
    logit: ArrayLike,
    *,
    norm: ArrayLike,
    share: ArrayLike,
    y0: ArrayLike,
    z0: ArrayLike,
    loss: str = "logistic",
) -> Array:
    """Return when one neuron brings its class to a logit, entry by entry; `mode` takes several neurons.

    With u = A e^{2κs} - B e^{-2κs} and D² = 4AB it is t = (1/κp) ∫ du/(2 g(u)√(u² + D²)), of which the hinge and the
    squared loss have closed forms, as has the logistic loss at D = 0:

        t = [ln(u*/u0) + Ei(u*) - Ei(u0)]/(2κp).

    Parameters
    ----------
    logit : array_like
        u*: `target_logit` of a confidence for the logistic loss, at most 1 for the hinge, below 1 for the squared.
    norm, share : array_like, positive
        κ = |x|, and p, the share of the data (of a mean loss; for a sum the number of samples).
    y0, z0 : array_like
        Pre-activation <w, x> and head (times the label) at t = 0; all arguments broadcast.
    loss : {"logistic", "exponential", "hinge", "squared"}

    Returns
    -------
    ndarray, of the common shape
        Times: 0 where the logit starts there, infinite where it is never reached (or beyond 1e308).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a squared loss starts beyond its target 1.

    Notes
    -----
    For the logistic loss and D = 0 Corollary 3.3 of Tachet des Combes et al. (arXiv 1809.06848), for the hinge
    Theorem 5.1 (with the sign of the head kept); the rest is derived here.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> start = {"norm": 1.0, "share": [0.5, 0.2], "y0": 0.05, "z0": 0.05}
    >>> modes.time_to_learn(modes.target_logit(0.01), **start).round(3).tolist()
    [42.837, 107.092]
    >>> modes.time_to_learn(1.0, **start, loss="hinge").round(3).tolist()
    [5.991, 14.979]
    >>> modes.time_to_learn(modes.target_logit([1e-8, 1e-300]), norm=1, share=1, y0=-0.1, z0=1)
    array([inf, inf])
    """
    loss = choice("loss", loss, LOSSES)
    goal, kappa, p, y, z = np.broadcast_arrays(
        any_shape("logit", logit),
        positive("norm", norm),
        positive("share", share),
        any_shape("y0", y0),
        any_shape("z0", z0),
    )
    r, q = scaled(y, z, kappa)
    alive = y > 0
    r, q = np.where(alive, r, 0.0), np.where(alive, q, 0.0)
    u0, A, B = r * q, (0.5 * (r + q)) ** 2, (0.5 * (r - q)) ** 2
    if loss == "squared" and u0.size and u0.max() > 1:
        raise ValueError(
            f"y0 and z0 give the logit {u0.max():g}, beyond the target 1 of the squared loss, to which it would fall; "
            "modes are derived for logits that rise"
        )
    # a neuron with r + q < 0 dies at u = 0
    dies = alive & (r + q < 0)
    tau = np.where(dies & (goal > 0), np.inf, reach(goal, u0, A, B))
    reached = np.isfinite(tau)
    T = clock(loss, np.where(reached, tau, 0.0), u0, A, B, np.maximum(goal, u0))
    with np.errstate(over="ignore"):
        return np.where(reached, T / kappa / p, np.inf)


def small_init_time(
    logit: ArrayLike, *, norm: ArrayLike, share: ArrayLike, A: ArrayLike, loss: str = "logistic"
) -> Array:
    """Return the time to learn to leading order of a small start, ln(u*/A)/(2κp) and what the loss adds.

    Once e^{2κs} is large nothing is left of B, and the mode grows as if from the logit A, however that is made up:

        hinge        2κpt = ln(u*/A)
        logistic     2κpt = 2 ln(1/A) + ln u* + Ei(u*) - γ
        exponential  2κpt = ln(1/A) + Ei(u*) - γ
        squared      2κpt = ln(u*/(A(1 - u*)))

    Parameters
    ----------
    logit : array_like
        u*, positive.
    norm, share : array_like, positive
        κ and p.
    A : array_like, positive
        The growing part, Σ_j (y_j + κz_j)²/(4κ) over the neurons that live on: `Mode.A` at the start. On average
        `gaussian_growth` of a Gaussian start.
    loss : {"logistic", "exponential", "hinge", "squared"}

    Returns
    -------
    ndarray, of the common shape
        Time.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the logit not above A: that start is not small.

    Notes
    -----
    Derived here. Neglected are terms of relative order A + B. The time diverges as the slope ln(1/A) times 1/(κp)
    for the logistic loss, whose g(0) is 1/2, and half of it for the others.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> at = {"logit": modes.target_logit(0.01), "norm": 1.0, "share": 0.5}
    >>> float(modes.small_init_time(**at, A=1e-6).round(3))
    58.488
    >>> float(modes.time_to_learn(**at, y0=2e-3, z0=0.0).round(3))
    58.488
    """
    from scipy.special import expi

    loss = choice("loss", loss, LOSSES)
    goal, kappa, p, a = np.broadcast_arrays(
        positive("logit", logit),
        positive("norm", norm),
        positive("share", share),
        positive("A", A),
    )
    if (goal <= a).any():
        at = np.argmax(goal <= a)
        raise ValueError(
            f"A={a.flat[at]:g} is not below logit={goal.flat[at]:g}: this start is not small; use time_to_learn"
        )
    if loss == "squared" and (goal >= 1).any():
        return np.where(goal >= 1, np.inf, 1.0) * small_init_time(
            np.minimum(goal, np.nextafter(1.0, 0.0)), norm=norm, share=share, A=A, loss=loss
        )
    with np.errstate(over="ignore"):
        # Ei - γ - ln is the integral of (e^v - 1)/v, without the cancellation at small u*
        twice = {
            "hinge": lambda: np.log(goal) - np.log(a),
            "logistic": lambda: 2.0 * -np.log(a) + np.log(goal) + expi(goal) - np.euler_gamma,
            "exponential": lambda: -np.log(a) + expi(goal) - np.euler_gamma,
            "squared": lambda: np.log(goal) - np.log1p(-goal) - np.log(a),
        }[loss]()
        return np.asarray(twice / 2.0 / kappa / p)


def logit_bound(t: ArrayLike, *, norm: ArrayLike, share: ArrayLike, u0: ArrayLike) -> Array:
    """Return the paper's bound on the logit under the logistic loss, u(t) ≤ 2 log(κpt + e^{u0/2}).

    Parameters
    ----------
    t : array_like
        Times, at least 0.
    norm, share : array_like, positive
        κ and p.
    u0 : array_like
        The logit at t = 0.

    Returns
    -------
    ndarray, of the common shape
        Bound.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Tachet des Combes et al. (arXiv 1809.06848), Theorem 3.2. It is loose: u grows as log(2κpt) + log log(2κpt)
    (derived here, with the proof that D = 2√(AB) ≤ 2 suffices for the bound).

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.logit_bound([0.0, 1e4], norm=1.0, share=1.0, u0=0.0).round(2).tolist()
    [0.0, 18.42]
    """
    times = any_shape("t", t)
    if times.size and times.min() < 0:
        raise ValueError(f"t has the entry {times.min():g}; count from 0")
    start = any_shape("u0", u0)
    with np.errstate(divide="ignore"):
        passed = np.log(times) + np.log(positive("norm", norm)) + np.log(positive("share", share))
        return np.asarray(2.0 * np.logaddexp(passed, 0.5 * start))


def gaussian_growth(width: int, norm: float, scale: float) -> float:
    """Return E[A] of a Gaussian start, h κ σ² (3π/8 + 1/4)/(2π) = 0.2273 hκσ², for `small_init_time`.

    Parameters
    ----------
    width : int
        h, neurons with the head's sign free.
    norm : float
        κ, positive.
    scale : float
        σ, standard deviation of the entries of w and z, positive.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here: in the plane of (y/κ, z), both N(0, σ²), the neurons that learn fill the angle from -π/4 to π/2, and
    A = κ·(their projection on the diagonal)²/2.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> round(modes.gaussian_growth(width=1, norm=1.0, scale=1.0), 4)
    0.2273
    """
    h = integer("width", width, least=1)
    kappa, sigma = real("norm", norm, above=0.0), real("scale", scale, above=0.0)
    return h * kappa * sigma**2 * (3.0 * math.pi / 8.0 + 0.25) / (2.0 * math.pi)


def positive(name: str, value: ArrayLike) -> Array:
    """Return `value` as a float64 array of its shape, all entries positive."""
    array = any_shape(name, value)
    if array.size and array.min() <= 0:
        raise ValueError(f"{name} has the entry {array.min():g}; it must be positive")
    return array
