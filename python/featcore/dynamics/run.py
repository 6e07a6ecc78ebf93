"""`Run`, what a dynamics returns, and `Outcome`, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcore import observables
from featcore.network import TwoLayerNet
from featcore.observables import Observable

if TYPE_CHECKING:
    import xarray as xr

    from featcore.data.dataset import Dataset


@dataclass(frozen=True)
class Outcome:
    """How a run ended: a stop is a result, not an exception.

    `status` is one of `reached_end`, `stationary`, `loss_target`, `max_steps`, `wall_time`, `step_underflow`,
    `non_finite`, `interrupted`, `observer_failed`, `not_begun` (a member of an ensemble that stopped before);
    `message` says what happened and what to do next.
    """

    status: str
    message: str
    time: float
    """Where the run stands, in units of the flow."""
    counts: Mapping[str, int]
    """steps taken since t = 0, and rows recorded; of a flow also evaluations, crossings and slidings."""
    form: str
    """Coordinates that were iterated; one of the four things that fix the bits."""
    isa: str
    dtype: str
    version: str
    num_threads: int
    seconds: float
    """Wall time, of all parts of a continued run."""
    drift: float | None = None
    """Of a flow: the largest change of a_j² - |w_j|²; of networks with `log_scale` relative to a_j² + |w_j|²,
    the larger of then and now."""

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


@dataclass(frozen=True, eq=False)
class State:
    """From where a run continues to the same bits. Opaque: its content may change between versions."""

    version: int
    form: str
    step: int
    arrays: Mapping[str, NDArray[Any]]

    VERSION = 1

    @property
    def form_arrays(self) -> dict[str, NDArray[Any]]:
        """Coordinates of the form; none for the weights themselves."""
        return {name: array for name, array in self.arrays.items() if name != "balance"}

    def followed_by(self, form: str, step: int, form_arrays: Mapping[str, NDArray[Any]]) -> State:
        """Return the state at `step`; without new coordinates, the run has not moved."""
        arrays = form_arrays or self.form_arrays
        return State(self.VERSION, form, step, {"balance": self.arrays["balance"], **arrays})


@dataclass(frozen=True, eq=False)
class Rows:
    """What was recorded: the step of each row, and a column an observable.

    Rows of a flow have times, and their steps just count them.
    """

    steps: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]
    times: NDArray[np.float64] | None = None

    def followed_by(self, later: Rows) -> Rows:
        """Return these rows and those of `later` that come after them."""
        if not self.steps.size:
            return later
        if self.times is None or later.times is None:
            new = later.steps > self.steps[-1]
        else:
            new = later.times > self.times[-1]
        if not new.any():
            return self
        columns = {
            name: np.concatenate([column, later.columns[name][new]])
            for name, column in self.columns.items()
        }
        if self.times is None or later.times is None:
            return Rows(np.concatenate([self.steps, later.steps[new]]), columns)
        times = np.concatenate([self.times, later.times[new]])
        return Rows(np.arange(len(times), dtype=np.int64), columns, times)


@dataclass(frozen=True, eq=False)
class Events:
    """All events of a flow in one stretch of time; `continue_` adds to them where they reach up to its start."""

    columns: Mapping[str, NDArray[Any]]
    since: float
    """From when on all were kept: 0, or where the part of the run began that asked for them."""
    until: float
    """Up to when: where the run stood when they were last asked for, or the first that was one too many."""
    limit: int
    """How many may be kept; 0 if no more are to be."""
    capped: bool = False
    """Whether there were more than that."""

    def attrs(self) -> dict[str, Any]:
        """Return what a table of them says of itself."""
        return {
            "complete_from": self.since,
            "complete_to": self.until,
            "limit": self.limit,
            "capped": int(self.capped),
        }


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. `run` holds the network and all that was recorded."""

    def __init__(self, run: Run) -> None:
        super().__init__(str(run.outcome))
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run,)


class ObserverError(RuntimeError):
    """A Python observable raised; the cause is chained. `run` holds all that was recorded before."""

    def __init__(self, run: Run) -> None:
        super().__init__(str(run.outcome))
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run,)


@dataclass(eq=False)
class Run:
    """What a dynamics returns.

    Attributes
    ----------
    net : TwoLayerNet
        The network at the end: never the best, never an earlier one. (After `non_finite`, the last network
        that was finite.)
    outcome : Outcome
        How the run ended.
    settings : mapping
        What was asked for, in plain values, with the SHA-256 of data and initial weights.
    state : State
        From where `continue_` goes on, to the same bits.
    """

    net: TwoLayerNet
    outcome: Outcome
    settings: Mapping[str, Any]
    state: State
    rows: Rows = field(repr=False)
    observed: tuple[Observable, ...] = field(repr=False)
    splits: Mapping[str, Dataset] | None = field(default=None, repr=False)
    """The data sets by name, training first; None for a run that was loaded."""
    unrecorded: bool = field(default=False, repr=False)
    """Whether the last point is still to be recorded: done when somebody looks, so that Ctrl-C answers at once."""
    found: Events | None = field(default=None, repr=False)
    """What `events` shows."""

    @property
    def history(self) -> xr.Dataset:
        """What was recorded, labelled: over time, and split, neuron, direction, … as observed.

        Coordinates: `time` (flow units), `step` (of a descent), `split` ("train" first). Of a flow whose network
        carries `log_scale`, `relative_time` is the time in units of ln(1/ε), with ε the largest √(|w_j|² + a_j²) at the
        start, if that is below 1 (in the limit ε = 0 it stays 0). Built anew at each access.
        """
        import xarray as xr

        rows = self.complete_rows()
        times = self.settings["step_size"] * rows.steps if rows.times is None else rows.times
        coords: dict[str, Any] = {"time": ("time", times, {"long_name": "time of the flow"})}
        attrs: dict[str, Any] = {"status": self.outcome.status}
        log_epsilon = self.settings.get("log_epsilon", 0.0)
        if log_epsilon < 0:
            attrs["log_inverse_epsilon"] = -log_epsilon
            coords["relative_time"] = (
                "time",
                times / -log_epsilon,
                {
                    "long_name": "time of the flow in units of log(1/ε), ε the largest initial neuron"
                },
            )
        if rows.times is None:
            coords["step"] = ("time", rows.steps)
        variables: dict[str, Any] = {}
        for observable in self.observed:
            if observable.name not in rows.columns:
                continue
            values = rows.columns[observable.name]
            dims = observables.dims_of(observable, values.ndim - 1)
            variables[observable.name] = (("time", *dims), values)
            coords |= _coordinates(observable, dims, self.settings["splits"])
        return xr.Dataset(variables, coords, attrs=attrs)

    @property
    def events(self) -> xr.Dataset | None:
        """Crossings and slidings of a flow, when asked for: time, neuron, sample and kind of each.

        `kind` is 1 where a neuron goes on at a sample, -1 where it goes off, 0 where it is held on its hyperplane.
        None if events were not asked for; gradient descent has none.

        All events from the time `events.attrs["complete_from"]` up to `"complete_to"` are there. `"capped"` is 1 if
        there were more than `"limit"`, the number asked for; it is then complete before the first that is left out.
        """
        import xarray as xr

        if self.found is None:
            return None
        return xr.Dataset(
            {name: ("event", array) for name, array in self.found.columns.items()},
            attrs=self.found.attrs(),
        )

    def complete_rows(self) -> Rows:
        """Return all rows, the point of an interrupt included."""
        if self.unrecorded and self.splits is not None:
            from featcore.dynamics.descent import record_point

            self.rows = self.rows.followed_by(record_point(self))
            self.unrecorded = False
            counts = {**self.outcome.counts, "records": len(self.rows.steps)}
            self.outcome = replace(self.outcome, counts=counts)
        return self.rows

    def continue_(
        self,
        steps: int | None = None,
        *,
        t_end: float | None = None,
        data: Dataset | None = None,
        evaluate: Mapping[str, Dataset] | None = None,
        num_threads: int | None = None,
        progress: bool = False,
        on_interrupt: str = "raise",
        **changes: Any,
    ) -> Run:
        """Go on from where this run stands; the result's history contains this one's.

        A run continued has the same bits as one run, for the same build, instruction set, dtype and form.

        Parameters
        ----------
        steps : int, optional
            Of a descent: how many more steps; by default those that were planned and not done.
        t_end : float, optional
            Of a flow: to where; by default to where it was to go.
        data, evaluate : optional
            The data sets, needed for a run that was loaded from a file; they must be the same.
        num_threads, progress, on_interrupt
            As in `descend`.
        **changes
            `record`, `loss_target`, `gradient_target` and `wall_time` as in `descend`, and `max_steps` of a flow;
            they do not carry over from the first part. `events` of a flow: kept as they were so far; True or a
            number to keep so many in all from now on, or False for no more. A table that does not reach up to here,
            or has been capped, is not added to: asked for again, a new one begins. `observe` for a loaded run with
            Python observables.

        Raises
        ------
        TypeError
            If something else is to change: that takes a new run, from `net`.
        ValueError
            If data are missing or not those of the run.

        Examples
        --------
        >>> import featcore as fc
        >>> data = fc.Dataset([[1.0, 0.0], [0.0, 1.0]], [1, -1])
        >>> net = fc.TwoLayerNet.gaussian(width=4, dim=2, scale=0.1)
        >>> half = fc.descend(net, data, step_size=0.1, steps=5)
        >>> whole = fc.descend(net, data, step_size=0.1, steps=10)
        >>> bool((half.continue_(5).net.W == whole.net.W).all())
        True
        """
        from featcore.dynamics.kinds import KINDS

        kind = KINDS[self.settings["dynamics"]]
        kind.check_changes(changes)
        more = kind.resume(self, steps, t_end, data, evaluate, **changes)
        return more.drive(num_threads, progress, on_interrupt)

    def save(self, path: str | Path) -> None:
        """Write the run to a netCDF-4 file; `featcore.load` reads it back.

        Raises
        ------
        OSError
            If the file cannot be written; an existing file is replaced only by a complete one.
        """
        from featcore.storage import save

        save(self, path)

    def __repr__(self) -> str:
        return f"Run({self.outcome.status}, t={self.outcome.time:g}, {self.net!r})"


def _coordinates(
    observable: Observable, dims: tuple[str, ...], splits: list[str]
) -> dict[str, Any]:
    coords: dict[str, Any] = {}
    for dim in dims:
        if dim == "split":
            coords["split"] = splits
        elif observable.kind is None:
            continue
        elif dim == "sign":
            coords["sign"] = list(observables.SIGNS)
        elif dim == "statistic":
            coords["statistic"] = list(observables.STATISTICS)
        elif observable.labels is not None and dim not in ("neuron", "sample"):
            coords[dim] = list(observable.labels)
    return coords
