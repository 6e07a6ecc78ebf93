"""A progress bar over steps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Bar:
    """A tqdm bar over steps, on a terminal and if wanted; nothing otherwise."""

    def __init__(self, wanted: bool, first: int, last: int) -> None:
        self._bar: Any = None
        self._range = (wanted and sys.stderr.isatty(), first, last)

    def __enter__(self) -> Bar:
        wanted, first, last = self._range
        if wanted:
            from tqdm import tqdm

            self._bar = tqdm(total=last, initial=first, unit="step", dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def update(self) -> Callable[[int], None] | None:
        """What the core calls every few milliseconds."""
        return None if self._bar is None else self.close_at

    def close_at(self, step: int) -> None:
        """Move the bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
