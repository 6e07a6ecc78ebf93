"""Words to the user while a run goes on: bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Self, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from types import TracebackType

_SECONDS_BETWEEN_LINES = 10.0


def say(text: str, stream: TextIO) -> None:
    """Print `text`; a reader who has gone away is no reason to lose a run."""
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # or Python would try what is still buffered again when it ends, and complain
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


class Silent:
    """Says nothing: for tests and for calls from Python."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage of `total` units; it ends the one before."""

    def advance(self, amount: int = 1) -> None:
        """Finish `amount` units of the stage."""

    def close(self) -> None:
        """End the last stage."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Lines(Silent):
    """A line a stage, and one every ten seconds within it: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text, self._total, self._done, self._said = "", None, 0, 0.0  # type: str, int | None, int, float

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage of `total` units; it ends the one before."""
        self._text, self._total, self._done = text, total, 0
        self._say(text)

    def advance(self, amount: int = 1) -> None:
        """Finish `amount` units of the stage."""
        self._done += amount
        if time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._say(f"{self._text}: {self._done}{f' of {self._total}' if self._total else ''}")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        say(line, self._stream)


class Bars(Silent):
    """A bar a stage, which vanishes when the next begins."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[None] | None = None

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage of `total` units; it ends the one before."""
        self.close()
        shape = "{desc}  {bar}  {n_fmt}/{total_fmt}  {remaining}" if total else "{desc} … {elapsed}"
        self._bar = tqdm(
            desc=text,
            total=total,
            file=self._stream,
            leave=False,
            dynamic_ncols=True,
            bar_format=shape,
        )

    def advance(self, amount: int = 1) -> None:
        """Finish `amount` units of the stage."""
        if self._bar is not None:
            self._bar.update(amount)

    def close(self) -> None:
        """End the last stage."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def to(stream: TextIO) -> Silent:
    """Return bars if `stream` is a terminal, lines otherwise."""
    return Bars(stream) if stream.isatty() else Lines(stream)
