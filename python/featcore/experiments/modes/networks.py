"""Networks whose neurons see one class each, and what the parts read from their flows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

import featcore as fc

Array = NDArray[np.float64]

RTOL = 1e-11
"""Of flows that theory is held against to 1e-8."""
_NEAR = 1e-3


def network(data: fc.Dataset, *starts: tuple[ArrayLike, ArrayLike]) -> fc.TwoLayerNet:
    """Return neurons with the pre-activations y and the heads z·label on their class, a pair (y, z) a class.

    Their weights lie along the mean of the class, so that neurons see nothing of what is orthogonal to it.
    """
    assert data.means is not None
    W, a = [], []
    for mean, label, (y, z) in zip(data.means, (1.0, -1.0), starts, strict=False):
        W.append(np.outer(np.atleast_1d(y), mean / (mean @ mean)))
        a.append(label * np.atleast_1d(z))
    return fc.TwoLayerNet(np.concatenate(W), np.concatenate(a))


def margins(
    net: fc.TwoLayerNet, data: fc.Dataset, times: Sequence[float] | Array, loss: str
) -> Array:
    """Return y f of the first sample and of the last at `times`, which increase; shape (times, 2)."""
    at = np.asarray(times, dtype=np.float64)
    run = fc.flow(
        net,
        data,
        loss,
        t_end=float(at[-1]),
        rtol=RTOL,
        observe=["margins"],
        record=fc.Recording.at(at),
    )
    history = run.history["margins"].transpose("time", "sample")
    # a hinge flow ends where nothing moves any more: it stays as it is then
    rows = np.searchsorted(history["time"].values, at, side="right") - 1
    return history.values[rows][:, [0, -1]]


def time_to_learn(
    net: fc.TwoLayerNet, data: fc.Dataset, *, sample: int, logit: float, near: float, loss: str
) -> float:
    """Return when the margin of a sample (0 or -1) comes to `logit`; NaN if that is not within 0.1 % of `near`.

    Of the hinge loss the flow itself tells, at the margin 1.
    """
    if loss == "hinge":
        run = fc.flow(net, data, loss, t_end=1.01 * near, events=True)
        return first_event(run, neuron=-1, kind=-1, sample=sample % data.n)
    times = near * (1 + _NEAR * np.linspace(-1, 1, 5))
    reached = margins(net, data, times, loss)[:, sample]
    if not reached[0] < logit < reached[-1]:
        return float("nan")
    # the time as a polynomial of the logit, by Newton's divided differences: the fifth order is left out
    table = times.copy()
    for order in range(1, len(table)):
        table[order:] = (table[order:] - table[order - 1 : -1]) / (
            reached[order:] - reached[:-order]
        )
    time = table[-1]
    for k in range(len(table) - 2, -1, -1):
        time = table[k] + (logit - reached[k]) * time
    return float(time)


def first_event(run: fc.Run, *, neuron: int, kind: int, sample: int | None = None) -> float:
    """Return the time of the first event of this kind in a run that kept them; NaN if there is none."""
    assert run.events is not None
    events = run.events
    chosen = (events["neuron"].values == neuron) & (events["kind"].values == kind)
    if sample is not None:
        chosen &= events["sample"].values == sample
    times = events["time"].values[chosen]
    return float(times[0]) if times.size else float("nan")


def slope(x: ArrayLike, y: ArrayLike) -> float:
    """Return the exponent of y as a power of x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
