"""`Segment`: one call of the core, checked and not begun; what comes back becomes a run."""

from __future__ import annotations

import math
import time as clock
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from featcore._dispatch import core, resolve_threads
from featcore._progress import Bar
from featcore._validation import choice, real
from featcore.data.dataset import Dataset
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Events, Interrupted, ObserverError, Outcome, Rows, Run, State
from featcore.network import TwoLayerNet
from featcore.observables import Columns, Observable


@dataclass(frozen=True)
class Stops:
    """When to stop before the end; infinite limits are off."""

    loss: float = -math.inf
    gradient: float = -math.inf
    seconds: float = math.inf

    @classmethod
    def of(cls, loss: float | None, gradient: float | None, seconds: float | None) -> Stops:
        """Check the arguments that are named so."""
        return cls(
            -math.inf if loss is None else real("loss_target", loss),
            -math.inf if gradient is None else real("gradient_target", gradient, least=0.0),
            math.inf if seconds is None else real("wall_time", seconds, least=0.0),
        )


OnRow: TypeAlias = Callable[
    [int, int, NDArray[Any], NDArray[Any], "NDArray[np.int64] | None"], None
]


@dataclass(frozen=True)
class Call:
    """What the core is given besides the segment. It moves W and a, in place."""

    W: NDArray[Any]
    a: NDArray[Any]
    columns: Columns
    on_row: OnRow | None
    """Called with (row, position, W, a, exponents) at each row, for Python observables."""
    watch: Callable[[int], None] | None
    """Called with the position every few milliseconds; what it raises is a signal."""
    num_threads: int


@dataclass(frozen=True)
class Leg:
    """What the core gave back, besides W and a."""

    status: str
    error: BaseException | None
    time: float
    rows: Rows
    counts: Mapping[str, int]
    state: State
    num_threads: int
    drift: float | None = None
    found: Events | None = None
    exponents: NDArray[np.int64] | None = None
    """Of a network with log_scale that has moved: the powers of two that W and a have handed over."""
    account: str = ""
    """What a sentence about its end says of samples and neurons."""
    caution: str = ""
    """A sentence on what sizes of weights do to it, after a space; or nothing."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Segment(ABC):
    """One call of the core, checked and not begun, from where `state` stands."""

    net: TwoLayerNet
    state: State
    splits: Mapping[str, Dataset]
    observed: tuple[Observable, ...]
    settings: Mapping[str, Any]
    record: Recording
    stops: Stops
    earlier: Run | None = None
    """The run that this one continues."""

    @property
    @abstractmethod
    def first(self) -> int:
        """The position at which it begins: of a progress bar, and in calls of `watch`."""

    @property
    @abstractmethod
    def last(self) -> int:
        """The position at the planned end."""

    @abstractmethod
    def _schedule(self, before: Rows | None) -> NDArray[Any]:
        """Return when to record, without what `before` has."""

    @abstractmethod
    def _run(self, call: Call, schedule: NDArray[Any]) -> Leg:
        """Call the core; counts, drift and found are those of the whole run."""

    @abstractmethod
    def _begin(self) -> Leg:
        """Return what there is before the first step of a new run."""

    @abstractmethod
    def _position(self, leg: Leg) -> int:
        """Return where a leg has got to."""

    @abstractmethod
    def _at(self, leg: Leg) -> str:
        """Return where a leg has got to, in words."""

    @abstractmethod
    def _own_messages(self, leg: Leg, at: str) -> dict[str, str]:
        """Return the sentences for the ends that not all dynamics share."""

    def _network(
        self, W: NDArray[Any], a: NDArray[Any], exponents: NDArray[np.int64] | None
    ) -> TwoLayerNet:
        """Return the network that the core has moved to."""
        return TwoLayerNet(W, a, self.net.activation, copy=False)

    def drive(
        self,
        num_threads: int | None,
        progress: bool = False,
        on_interrupt: str = "raise",
        watch: Callable[[int], None] | None = None,
    ) -> Run:
        """Run it. `watch` is called with the position every few milliseconds; what it raises is a signal."""
        threads = resolve_threads(num_threads)
        choice("on_interrupt", on_interrupt, ("raise", "return"))
        before = None if self.earlier is None else self.earlier.complete_rows()
        schedule = self._schedule(before)
        columns = Columns(
            self.observed,
            self.net,
            self.splits,
            rows=len(schedule) + 1,
            earlier=None if before is None else before.columns,
        )

        def on_row(
            row: int,
            _position: int,
            W: NDArray[Any],
            a: NDArray[Any],
            exponents: NDArray[np.int64] | None,
        ) -> None:
            columns.on_row(row, self._network(W, a, exponents))

        W, a = self.net.W.copy(), self.net.a.copy()
        began = clock.perf_counter()
        with Bar(progress, self.first, self.last) as bar:
            leg = self._run(
                Call(
                    W,
                    a,
                    columns,
                    on_row if columns.has_functions else None,
                    bar.update if watch is None else watch,
                    threads,
                ),
                schedule,
            )
            bar.close_at(self._position(leg))
        seconds = clock.perf_counter() - began
        status, error = leg.status, leg.error
        if status == "observer_failed" and not isinstance(error, Exception):
            status = "interrupted"  # Ctrl-C while a Python observable ran
        rows = Rows(
            leg.rows.steps,
            {name: array[: len(leg.rows.steps)] for name, array in columns.arrays.items()},
            leg.rows.times,
        )
        run = self._wrap(
            leg,
            status,
            self._network(W, a, leg.exponents),
            rows if before is None else before.followed_by(rows),
            seconds if self.earlier is None else seconds + self.earlier.outcome.seconds,
        )
        if status == "observer_failed":
            raise ObserverError(run) from error
        if status == "interrupted":
            if error is not None and not isinstance(error, KeyboardInterrupt):
                # A signal handler or a progress bar raised something of its own: let it through, with the run.
                error.run = run  # type: ignore[attr-defined]
                raise error
            if on_interrupt == "raise":
                raise Interrupted(run) from error
        return run

    def not_begun(self) -> Run:
        """Return the run as it stands before its first step."""
        if self.earlier is not None:
            return self.earlier
        leg = self._begin()
        return self._wrap(leg, leg.status, self.net, leg.rows, 0.0)

    def _wrap(self, leg: Leg, status: str, net: TwoLayerNet, rows: Rows, seconds: float) -> Run:
        build = core.build_info()
        return Run(
            net=net,
            outcome=Outcome(
                status=status,
                message=self._message(status, leg),
                time=leg.time,
                counts={**leg.counts, "records": len(rows.steps)},
                form=leg.state.form,
                isa=build["isa"],
                dtype=str(net.dtype),
                version=build["version"],
                num_threads=leg.num_threads,
                seconds=seconds,
                drift=leg.drift,
            ),
            settings=self.settings,
            state=leg.state,
            rows=rows,
            observed=self.observed,
            splits=self.splits,
            unrecorded=status in ("interrupted", "not_begun"),
            found=leg.found,
        )

    def _message(self, status: str, leg: Leg) -> str:
        at, stops = self._at(leg), self.stops
        return {
            "stationary": f"The gradient norm is at most {stops.gradient:g} at {at}. "
            "Lower gradient_target to go on.",
            "loss_target": f"The training loss is at most {stops.loss:g} at {at}. Lower loss_target to go on.",
            "wall_time": f"The wall time of {stops.seconds:g} s was over at {at}. Continue with run.continue_().",
            "interrupted": f"Interrupted at {at}; the unfinished step was dropped. Continue with run.continue_().",
            "observer_failed": f"A Python observable raised at {at}; what was recorded before is kept.",
            "not_begun": "Not begun when the ensemble stopped. Begin it with run.continue_().",
            **self._own_messages(leg, at),
        }[status]
