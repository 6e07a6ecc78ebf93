"""`Recording`: at which times a run is recorded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, float_array, integer


@dataclass(frozen=True)
class Recording:
    """A schedule of recording times, made by one of the class methods.

    t = 0, the end, and the point of any stop are always recorded. Times are in units of the flow: step
    k of a descent with step size η is at t = ηk. Times between steps are rounded to the nearest
    step; duplicates are dropped.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.Recording.log(per_decade=2).steps(step_size=1.0, last=100).tolist()
    [0, 1, 3, 10, 32, 100]
    """

    kind: str
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        choice("kind", self.kind, ("log", "linear", "every", "at", "at_steps"))

    @classmethod
    def log(cls, per_decade: int = 20) -> Recording:
        """Record `per_decade` times a decade, evenly in log t, from the first step on."""
        return cls("log", (integer("per_decade", per_decade, least=1),))

    @classmethod
    def linear(cls, count: int) -> Recording:
        """Record `count` times after t = 0, evenly up to the end."""
        return cls("linear", (integer("count", count, least=1),))

    @classmethod
    def every(cls, steps: int) -> Recording:
        """Record after every `steps` steps of a descent."""
        return cls("every", (integer("steps", steps, least=1),))

    @classmethod
    def at(cls, times: ArrayLike) -> Recording:
        """Record at these times t >= 0."""
        array = float_array("times", times, ndim=1, allow_empty=True)
        if (array < 0).any():
            raise ValueError(f"times has {array.min():g}; times must be at least 0")
        return cls("at", tuple(map(float, array)))

    @classmethod
    def at_steps(cls, steps: Iterable[int]) -> Recording:
        """Record at these steps of a descent."""
        if not isinstance(steps, Iterable):
            raise TypeError(f"steps={steps!r} must be a list of steps, such as [0, 10, 100]")
        return cls("at_steps", tuple(integer("steps", k, least=0) for k in steps))

    def steps(self, step_size: float, last: int) -> NDArray[np.int64]:
        """Return the steps of a descent to record: increasing, from 0 to `last`."""
        if self.kind == "log":
            decades = math.log10(last) if last > 0 else 0.0
            exponents = np.arange(math.floor(decades * self.values[0] + 1e-9) + 1) / self.values[0]
            chosen = np.rint(10.0**exponents)
        elif self.kind == "linear":
            chosen = np.rint(np.linspace(0.0, last, int(self.values[0]) + 1))
        elif self.kind == "every":
            chosen = np.arange(0, last + 1, int(self.values[0]), dtype=np.float64)
        elif self.kind == "at":
            with np.errstate(over="ignore"):  # far beyond the end
                chosen = np.rint(np.asarray(self.values) / step_size)
        else:
            chosen = np.asarray([k for k in self.values if k <= last], dtype=np.int64)
        inside = chosen[(chosen >= 0) & (chosen <= last)].astype(np.int64)
        return np.unique(np.concatenate([[0], inside, [last]]).astype(np.int64))

    def times(self, t_end: float) -> NDArray[np.float64]:
        """Return the times of a flow to record: increasing, from 0 to `t_end`.

        `log` starts six decades below the end, and at 1e-3 at the latest.
        """
        if self.kind in ("every", "at_steps"):
            raise ValueError(
                f"record counts steps ({self.kind}), and those of a flow are its own; "
                "use Recording.log, linear or at"
            )
        if self.kind == "at":
            chosen = np.asarray(self.values)
        elif t_end == 0:
            chosen = np.zeros(0)
        elif self.kind == "linear":
            chosen = np.linspace(0.0, t_end, int(self.values[0]) + 1)
        else:
            first = min(math.log10(t_end) - 6, -3)
            least, most = math.ceil(first * self.values[0]), math.log10(t_end) * self.values[0]
            chosen = 10.0 ** (np.arange(least, math.floor(most + 1e-9) + 1) / self.values[0])
        inside = chosen[(chosen >= 0) & (chosen <= t_end)]
        return np.unique(np.concatenate([[0.0], inside, [t_end]]))
