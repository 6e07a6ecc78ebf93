"""A progress bar over steps, or over the work of one call."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Bar:
    """A tqdm bar over steps, on a terminal and if wanted; nothing otherwise."""

    def __init__(self, wanted: bool, first: int, last: int, unit: str = "step") -> None:
        self._bar: Any = None
        self._range = (wanted and sys.stderr.isatty(), first, last)
        self._unit = unit

    def __enter__(self) -> Bar:
        wanted, first, last = self._range
        if wanted:
            from tqdm import tqdm

            self._bar = tqdm(total=last, initial=first, unit=self._unit, dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def update(self) -> Callable[[int], None] | None:
        """What the core calls every few milliseconds."""
        return None if self._bar is None else self.close_at

    def part(self, first: int, last: int) -> Callable[[int], None] | None:
        """Return what a call of the core, from `first` to `last`, tells the percentage of it that is done."""
        if self._bar is None:
            return None
        return lambda percent: self.close_at(first + (last - first) * percent // 100)

    def close_at(self, step: int) -> None:
        """Move the bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)


def percent(wanted: bool) -> Bar:
    """Return a bar over the work of one call."""
    return Bar(wanted, 0, 100, unit="%")
