"""Inverses of increasing functions, entry by entry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array, NDArray[np.intp]], tuple[Array, Array]]


def increasing_root(function: Function, target: Array, high: Array) -> Array:
    """Return x in [0, high] at which f(x) = target > 0, f increasing from f(0) = 0; all of one axis.

    Newton's method on ln f against ln x, which is nearly straight at both ends of what is inverted here, within a
    bracket. `function(x, which)` returns f and f' of the entries `which`; f may overflow.
    """
    x, low, high = np.array(high), np.zeros_like(target), np.array(high)
    active = np.flatnonzero((target > 0) & (high > 0))
    for _ in range(200):
        if not active.size:
            break
        at, goal = x[active], target[active]
        value, slope = function(at, active)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            newton = at * np.exp(np.log(goal / value) * (value / (at * slope)))
            high[active] = np.where(value > goal, np.minimum(high[active], at), high[active])
            low[active] = np.where(value < goal, np.maximum(low[active], at), low[active])
            inside = (newton > low[active]) & (newton <= high[active]) & np.isfinite(slope)
            # a bracket of many decades is halved in its logarithm
            lo, hi = low[active], high[active]
            middle = np.where(hi > 4.0 * lo, np.sqrt(lo) * np.sqrt(hi), 0.5 * (lo + hi))
            middle = np.where(lo == 0, 1e-8 * hi, middle)
            new = np.where(inside, newton, middle)
            done = (np.abs(new - at) <= 4e-16 * at) | (
                inside & (np.abs(value - goal) <= 4e-16 * goal)
            )
        x[active] = new
        active = active[~done]
    return x
