"""A mode of a deep linear network on the squared loss: Saxe's sigmoid."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore.theory._arrays import any_shape
from featcore.theory.modes.times import positive

Array = NDArray[np.float64]


def linear_mode(t: ArrayLike, *, strength: ArrayLike, u0: ArrayLike) -> Array:
    """Return the strength a two-layer linear network has learnt of a mode, u(t) = s/(1 + (s/u0 - 1)e^{-2st}).

    u' = 2u(s - u), with s a singular value of E[y xᵀ] on whitened inputs, from weights that are aligned with its
    singular vectors and balanced.

    Parameters
    ----------
    t : array_like
        Times, at least 0, of the mean loss ½E|y - W2 W1 x|².
    strength : array_like, positive
        s.
    u0 : array_like, positive
        Strength at t = 0; the product of the two layers' along the mode.

    Returns
    -------
    ndarray, of the common shape

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks"
    (ICLR 2014).

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.linear_mode([0.0, 1.0, 5.0], strength=2.0, u0=1e-3).round(3).tolist()
    [0.001, 0.053, 2.0]
    """
    times = any_shape("t", t)
    if times.size and times.min() < 0:
        raise ValueError(f"t has the entry {times.min():g}; count from 0")
    s, start = positive("strength", strength), positive("u0", u0)
    with np.errstate(over="ignore"):
        decay = np.exp(-2.0 * s * times)
        # multiplied out, so that s/u0 cannot overflow
        return np.asarray(s * start / (start * -np.expm1(-2.0 * s * times) + s * decay))


def linear_mode_time(u: ArrayLike, *, strength: ArrayLike, u0: ArrayLike) -> Array:
    """Return when a mode of a linear network has the strength u: ln[u(s - u0)/(u0(s - u))]/(2s).

    Parameters
    ----------
    u : array_like, positive
        Between u0 and s.
    strength, u0 : array_like, positive
        s and the strength at t = 0.

    Returns
    -------
    ndarray, of the common shape
        Infinite where `u` is not between them: it is never reached (u = s takes for ever).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    See `linear_mode`.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> float(modes.linear_mode_time(0.45, strength=0.5, u0=1e-3).round(4))
    8.4098
    """
    goal, s, start = np.broadcast_arrays(
        positive("u", u), positive("strength", strength), positive("u0", u0)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(goal) - np.log(start) + np.log((s - start) / (s - goal))
    t = logs / (2.0 * s)
    return np.where(goal == start, 0.0, np.where(np.isfinite(t) & (t >= 0), t, np.inf))
