"""Full-batch gradient descent on the hinge loss, step by step in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._start import scaled

Array = NDArray[np.float64]

_COUNTED = 2.0**53
"""Steps beyond which doubles do not tell neighbours apart."""


def hinge_descent(
    step: ArrayLike,
    *,
    step_size: float,
    norm: float,
    share: float,
    y0: ArrayLike,
    z0: ArrayLike,
) -> Array:
    """Return the logit of a class after so many steps, Σ_j P_j²(1+h)^{2k} - M_j²(1-h)^{2k}, h = ηpκ.

    A step takes y_j + κz_j to (1+h) and y_j - κz_j to (1-h) times itself, until the logit is 1 or more: then it stays.

    Parameters
    ----------
    step : array_like of int, any shape
        k, at least 0.
    step_size : float
        η, positive, with h below 1.
    norm, share : float
        κ and p, positive.
    y0, z0 : array_like, shape (h,)
        Pre-activations and heads (times the label) at the start, none of a neuron that dies.

    Returns
    -------
    ndarray, shape of `step`
        Logits.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a neuron dies.

    Notes
    -----
    Derived here; exact.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.hinge_descent([0, 10, 100], step_size=0.1, norm=1.0, share=0.8, y0=[0.3], z0=[0.02]).round(4)
    array([0.006 , 0.1156, 1.029 ])
    """
    steps = any_shape("step", step)
    if steps.size and ((steps < 0) | (steps != np.rint(steps))).any():
        raise ValueError(f"step has the entry {steps.min():g}; pass whole numbers from 0")
    h, A, B = _start(step_size, norm, share, y0, z0)
    return _logit(np.minimum(steps, _steps(1.0, h, A, B)), h, A, B)


def hinge_descent_steps(
    logit: ArrayLike,
    *,
    step_size: float,
    norm: float,
    share: float,
    y0: ArrayLike,
    z0: ArrayLike,
) -> Array:
    """Return the first step at which the logit of `hinge_descent` is at least `logit`.

    η times it is later than the flow by ηpκt/2 and, on average, half a step more.

    Parameters
    ----------
    logit : array_like
        u*, at most 1.
    step_size, norm, share, y0, z0
        As for `hinge_descent`.

    Returns
    -------
    ndarray, shape of `logit`
        Whole numbers, as float.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or a neuron dies.

    Notes
    -----
    Derived here; exact.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> at = {"norm": 1.0, "share": 0.8, "y0": [0.3], "z0": [0.02]}
    >>> float(modes.hinge_descent_steps(1.0, step_size=1e-4, **at))
    22912.0
    >>> float(modes.mode(1.0, 0.8, [0.3], [0.02], "hinge").time_to_learn(1.0).round(4))
    2.291
    """
    goals = any_shape("logit", logit)
    if goals.size and goals.max() > 1:
        raise ValueError(f"logit has the entry {goals.max():g}; the hinge loss stops at 1")
    h, A, B = _start(step_size, norm, share, y0, z0)
    return np.array([_steps(goal, h, A, B) for goal in goals.ravel()]).reshape(goals.shape)


def _start(
    step_size: float, norm: float, share: float, y0: ArrayLike, z0: ArrayLike
) -> tuple[float, float, float]:
    eta = real("step_size", step_size, above=0.0)
    kappa, p = real("norm", norm, above=0.0), real("share", share, above=0.0)
    h = eta * kappa * p
    if h >= 1:
        raise ValueError(
            f"step_size={eta:g} times norm and share is {h:g}; take steps below {1 / (kappa * p):g}"
        )
    y = float_array("y0", y0, ndim=1).astype(np.float64)
    z = float_array("z0", z0, ndim=1).astype(np.float64)
    if y.shape != z.shape:
        raise ValueError(f"z0 has shape {z.shape} and y0 {y.shape}; pass one of each a neuron")
    r, q = (units[y > 0] for units in scaled(y, z, kappa, together=True))
    if not r.size or (r + q <= 0).any():
        raise ValueError(
            "y0 and z0 have a neuron that dies, or none that lives (y0 > 0 and y0 + norm·z0 > 0); the closed form is "
            "of neurons that live"
        )
    return h, float(np.sum((0.5 * (r + q)) ** 2)), float(np.sum((0.5 * (r - q)) ** 2))


def _logit(k: Array, h: float, A: float, B: float) -> Array:
    return np.asarray(A * np.exp(2 * k * math.log1p(h)) - B * np.exp(2 * k * math.log1p(-h)))


def _steps(goal: float, h: float, A: float, B: float) -> float:
    from scipy.optimize import brentq

    def short(k: float) -> float:
        return float(_logit(np.asarray(k), h, A, B)) - goal

    if short(0.0) >= 0:
        return 0.0
    # B only lowers the logit, by B at most
    most = 0.5 * math.log((max(goal, 0.0) + B) / A) / math.log1p(h) * (1.0 + 1e-9) + 1.0
    k = math.ceil(brentq(short, 0.0, most, xtol=1e-9, rtol=1e-15))
    if k > _COUNTED:
        return float(k)
    while k > 0 and short(k - 1) >= 0:
        k -= 1
    while short(k) < 0:
        k += 1
    return float(k)
