"""`ensemble`: many runs at once, one member a thread, with the bits of runs one by one."""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import functools
import inspect
import queue
import threading
import time as clock
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from featcore._dispatch import resolve_threads
from featcore._progress import Bar
from featcore._validation import choice
from featcore.data.dataset import Dataset
from featcore.dynamics.kinds import KINDS, Kind
from featcore.dynamics.run import Interrupted, ObserverError, Outcome, Run
from featcore.dynamics.segment import Segment
from featcore.losses import Loss
from featcore.network import TwoLayerNet

if TYPE_CHECKING:
    import xarray as xr


# Arguments of a single run that an ensemble takes itself.
_OWN = ("net", "data", "loss", "evaluate", "num_threads", "progress", "on_interrupt")
# Names that the history of an ensemble gives its own axis and coordinate.
_AXES = ("member", "status")


def ensemble(
    nets: Iterable[TwoLayerNet],
    data: Dataset | Iterable[Dataset],
    loss: str | Loss = "logistic",
    *,
    dynamics: str = "descend",
    evaluate: Mapping[str, Dataset] | Sequence[Mapping[str, Dataset]] | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
    **options: Any,
) -> Ensemble:
    """Run many networks at once, one member a thread, with the bits of runs one by one.

    Member k is `fc.descend(nets[k], data[k], loss, …)`, or `fc.flow(…)`, on one thread and with its own stop.
    Threads take members from a queue, in order, so that one that stops early holds nobody up.

    Parameters
    ----------
    nets : iterable of TwoLayerNet
        Where to start, a network a member. Widths may differ.
    data : Dataset or iterable of Dataset
        Training data: one set for all members, or one a member.
    loss : {"logistic", "exponential", "hinge", "squared"} or Loss
        Per-sample loss.
    dynamics : {"descend", "flow"}
        What each member runs.
    evaluate : mapping of str to Dataset, or sequence of mappings, optional
        Further splits: for all members, or a mapping a member; the names are the same for all.
    num_threads : int, optional
        Members under way at a time; default: what affinity and control group allow. Bits do not depend on it.
    progress : bool
        Show one progress bar for all members on a terminal.
    on_interrupt : {"raise", "return"}
        What Ctrl-C does: raise `EnsembleInterrupted`, which carries the ensemble as far as it got, or return
        that ensemble.
    **options
        The other arguments of the dynamics, for every member: `step_size`, `steps`, …, see `descend`; `t_end`,
        `rtol`, …, see `flow`. `observe` may also be a sequence of lists, one a member, with the same names, and
        `batch_seed` a sequence of seeds.
        `wall_time` counts from the start of each member.

    Returns
    -------
    Ensemble
        A sequence of runs, in the order of `nets`.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit, before anything runs; the message names the member.
    EnsembleInterrupted
        On Ctrl-C, within 0.1 s; an `Interrupted` whose `ensemble` has all that was computed. (What another
        signal handler raises comes as it is, with the ensemble as its attribute `run`.)
    EnsembleObserverError
        If a Python observable of a member raises; an `ObserverError` with `member` and `ensemble`.

    Notes
    -----
    After an interrupt or an error the other members stop, too. Each is in the ensemble: with its run to the
    end, with what it had recorded (`interrupted`), or at its start (`not_begun`); `continue_` goes on with
    all of them.

    Python observables are called on the threads of the members, several at a time: one that keeps a state needs
    a lock, and those that compute in Python wait for one another. Ctrl-C waits for those that are being called;
    a second Ctrl-C, a second later, gives up the members that they belong to (`not_begun`).

    Memory: the networks and histories of all members, and the working memory of `num_threads` runs.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.xor_clusters(n=100, d=5, cluster_std=0.1, seed=0)
    >>> nets = [fc.TwoLayerNet.gaussian(width=20, dim=5, scale=0.01, seed=seed) for seed in range(8)]
    >>> runs = fc.ensemble(nets, data, step_size=1.0, steps=50, train=("W",))
    >>> runs
    Ensemble(8 runs: 8 reached_end)
    >>> alone = fc.descend(nets[3], data, step_size=1.0, steps=50, train=("W",))
    >>> bool((runs[3].net.W == alone.net.W).all())
    True
    >>> runs.history.loss.sel(split="train").mean("member").dims
    ('time',)
    >>> fc.ensemble(nets, data, dynamics="flow", t_end=50.0, loss_target=0.6, train=("W",))
    Ensemble(8 runs: 8 loss_target)
    """
    chosen = KINDS[choice("dynamics", dynamics, KINDS)]
    threads = resolve_threads(num_threads)
    choice("on_interrupt", on_interrupt, ("raise", "return"))
    if isinstance(nets, TwoLayerNet) or not isinstance(nets, Iterable):
        raise TypeError(f"nets={nets!r} must be a list of networks, such as [net]")
    starts = list(nets)
    count = len(starts)
    arguments = _arguments(chosen, dynamics, options)
    each_data = _each("data", data, count, isinstance(data, Dataset))
    shared = evaluate is None or isinstance(evaluate, Mapping)
    each_evaluate = _each("evaluate", evaluate, count, shared)
    observe = arguments.pop("observe")
    each_observe = _each("observe", observe, count, not _is_a_list_a_member(observe))
    each_seed: list[dict[str, Any]] = [{}] * count
    if "batch_seed" in arguments:
        seeds = arguments.pop("batch_seed")
        every = _each("batch_seed", seeds, count, not isinstance(seeds, Iterable))
        each_seed = [{"batch_seed": seed} for seed in every]
    sha256 = functools.cache(Dataset.sha256)  # data that members share are hashed once
    plans: list[Segment] = []
    for k, net in enumerate(starts):
        with _naming_member(k):
            plan = chosen.prepare(
                net,
                each_data[k],
                loss,
                evaluate=each_evaluate[k],
                observe=each_observe[k],
                sha256=sha256,
                **arguments,
                **each_seed[k],
            )
            _check_alike(plan, plans[0] if plans else plan)
            plans.append(plan)
    return _Crew(plans).run(threads, progress, on_interrupt)


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Sequence[Run]):
    """What `ensemble` returns: runs, in the order of the networks they started from; immutable.

    A slice of it is an ensemble, too.

    Attributes
    ----------
    runs : tuple of Run
        The members.
    """

    runs: tuple[Run, ...]

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Ensemble: ...
    def __getitem__(self, index: int | slice) -> Run | Ensemble:
        return Ensemble(self.runs[index]) if isinstance(index, slice) else self.runs[index]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def nets(self) -> tuple[TwoLayerNet, ...]:
        """The networks at the end, one a member."""
        return tuple(run.net for run in self.runs)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """How each member ended."""
        return tuple(run.outcome for run in self.runs)

    @property
    def history(self) -> xr.Dataset:
        """The histories of all members, over (member, time, …).

        `time` (of descents also `step`) has those at which any member was recorded: the times that `record` asks
        for, which all share, and the points where members stopped. What a member has not is NaN: the stops of
        others, times after its own, and neurons or samples where others have more of them. Coordinates: those of
        a run's history, `member` (0, 1, …) and its `status`. Built anew at each access.
        """
        return _stacked([run.history for run in self.runs])

    def continue_(
        self,
        steps: int | None = None,
        *,
        t_end: float | None = None,
        num_threads: int | None = None,
        progress: bool = False,
        on_interrupt: str = "raise",
        **changes: Any,
    ) -> Ensemble:
        """Go on with every member, at once; see `Run.continue_`.

        Parameters
        ----------
        steps : int, optional
            Of descents: how many more steps for each member; by default those that were planned and not done.
        t_end : float, optional
            Of flows: to where; by default to where each was to go.
        num_threads, progress, on_interrupt
            As in `ensemble`.
        **changes
            `record`, `loss_target`, … as in `Run.continue_`, for every member.

        Raises
        ------
        TypeError, ValueError, EnsembleInterrupted, EnsembleObserverError
            As `ensemble`.

        Examples
        --------
        >>> import featcore as fc
        >>> data = fc.Dataset([[1.0, 0.0], [0.0, 1.0]], [1, -1])
        >>> nets = [fc.TwoLayerNet.gaussian(width=4, dim=2, scale=0.1, seed=s) for s in range(3)]
        >>> half = fc.ensemble(nets, data, step_size=0.1, steps=5)
        >>> whole = fc.ensemble(nets, data, step_size=0.1, steps=10)
        >>> all((a.W == b.W).all() for a, b in zip(half.continue_(5).nets, whole.nets, strict=True))
        True
        """
        threads = resolve_threads(num_threads)
        choice("on_interrupt", on_interrupt, ("raise", "return"))
        changes = {name: _kept(value) for name, value in changes.items()}
        plans = []
        for k, run in enumerate(self.runs):
            with _naming_member(k):
                kind = KINDS[run.settings["dynamics"]]
                kind.check_changes(changes)
                plans.append(kind.resume(run, steps, t_end, **changes))
        return _Crew(plans).run(threads, progress, on_interrupt)

    def __repr__(self) -> str:
        count = len(self.runs)
        statuses = Counter(outcome.status for outcome in self.outcomes)
        ends = ", ".join(f"{number} {status}" for status, number in statuses.most_common())
        return f"Ensemble({count} run{'' if count == 1 else 's'}{': ' if ends else ''}{ends})"


class EnsembleInterrupted(Interrupted):
    """Ctrl-C during an ensemble. `ensemble` (and `run`) holds every member, as far as it got."""

    def __init__(self, ensemble: Ensemble) -> None:
        KeyboardInterrupt.__init__(self, f"{ensemble!r}; go on with ensemble.continue_()")
        self.ensemble = ensemble
        # Who catches Interrupted finds under one name what the call would have returned.
        self.run = ensemble  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ensemble,)


class EnsembleObserverError(ObserverError):
    """A Python observable of a member raised; the cause is chained.

    `member` is its place (the first, if several raised), `run` its run, and `ensemble` holds every member, as
    far as it got.
    """

    def __init__(self, ensemble: Ensemble, member: int) -> None:
        RuntimeError.__init__(self, f"member {member}: {ensemble[member].outcome}")
        self.ensemble, self.member, self.run = ensemble, member, ensemble[member]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ensemble, self.member)


class _Crew:
    """Threads that work off a queue of plans; the thread that called waits, and hears signals.

    What the threads share is a handful of attributes, each changed by single operations that need no lock: a
    signal may arrive between any two lines of the waiting thread, and would leave a lock held.
    """

    # Seconds between two looks at the bar. Signals arrive at once on most systems, and after this on others.
    _TICK = 0.02
    # Seconds in which a second signal is one with the first: the core answers within a tenth of that.
    _GRACE = 1.0

    def __init__(self, plans: Sequence[Segment]) -> None:
        self._plans = plans
        self._todo = deque(range(len(plans)))
        self._runs: dict[int, Run] = {}
        self._errors: dict[int, BaseException] = {}
        self._steps = [plan.first for plan in plans]
        self._stopping = False
        self._failure: BaseException | None = None
        self._at_work: set[int] = set()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self, num_threads: int, progress: bool, on_interrupt: str) -> Ensemble:
        """Run all plans; raise what there is to raise, with all that was computed."""
        signal: BaseException | None = None
        stopped = 0.0
        begun = False
        while True:  # a signal arrives between any two lines: all that wait are within `try`
            try:
                if not begun:
                    begun = True
                    self._work_off(num_threads, progress)
                self._stopping = True
                while self._at_work:
                    self._wait()
                break
            except BaseException as error:
                self._stopping = True
                if signal is None:
                    signal, stopped = error, clock.monotonic()
                elif clock.monotonic() > stopped + self._GRACE:
                    break
        made = [self._runs.get(k) or plan.not_begun() for k, plan in enumerate(self._plans)]
        ensemble = Ensemble(tuple(made))
        if signal is None and self._errors:
            member = min(self._errors)
            signal = self._errors[member]
            if isinstance(signal, ObserverError):
                raise EnsembleObserverError(ensemble, member) from signal.__cause__
            signal.add_note(f"in member {member} of an ensemble")
        if signal is None:
            return ensemble
        if isinstance(signal, KeyboardInterrupt):
            if on_interrupt == "return":
                return ensemble
            raise EnsembleInterrupted(ensemble) from signal
        signal.run = ensemble  # type: ignore[attr-defined]
        raise signal

    def _work_off(self, num_threads: int, progress: bool) -> None:
        count = len(self._plans)
        # Python observables find the context (of numpy.errstate, say) that they would have found in one run.
        threads = [
            threading.Thread(
                target=contextvars.copy_context().run, args=(self._work, k), name=f"featcore-{k}"
            )
            for k in range(min(num_threads, count))
        ]
        with Bar(progress, sum(self._steps), sum(plan.last for plan in self._plans)) as bar:
            # Thread.start() is Python code, and a signal that arrives within breaks its books: another thread
            # calls it, which hears none.
            _thread.start_new_thread(self._start, (threads,))
            while len(self._runs) < count and not self._stopping:
                self._wait()
                bar.close_at(sum(self._steps))
            bar.close_at(sum(self._steps))
        while self._at_work:
            self._wait()
        for thread in threads:  # a fork must not meet them on their way out
            if thread.ident is not None:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _start(self, threads: Sequence[threading.Thread]) -> None:
        self._at_work.add(-1)
        try:
            for thread in threads:
                if self._stopping:
                    break
                thread.start()
        except BaseException as error:  # the system has no more threads to give
            self._failure = error
            self._stopping = True
        finally:
            self._at_work.discard(-1)
            self._news.put(None)

    def _wait(self) -> None:
        """Wait until a thread has something to say, or a while."""
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=self._TICK)

    def _work(self, worker: int) -> None:
        """Take members until none is left, or somebody stops the crew."""
        # Said before the flag is read: who sets the flag and then sees nobody at work need wait for nobody.
        self._at_work.add(worker)
        try:
            while not self._stopping:
                try:
                    k = self._todo.popleft()
                except IndexError:
                    return
                self._run_member(k)
                self._news.put(None)
        finally:
            self._at_work.discard(worker)
            self._news.put(None)

    def _run_member(self, k: int) -> None:
        plan = self._plans[k]

        def watch(step: int) -> None:
            self._steps[k] = step
            if self._stopping:
                raise KeyboardInterrupt

        try:
            run = plan.drive(1, watch=watch)
        except BaseException as error:
            stopped = getattr(error, "run", None)
            if isinstance(stopped, Run):
                self._runs[k] = stopped
            if not (self._stopping and isinstance(error, Interrupted)):
                self._errors[k] = error
            self._stopping = True
        else:
            self._steps[k] = plan.last  # a member that stopped early has nothing left to do
            self._runs[k] = run


def _arguments(dynamics: Kind, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a single run, with its defaults."""
    takes = {
        key: parameter.default
        for key, parameter in inspect.signature(dynamics.call).parameters.items()
        if key not in _OWN
    }
    for key in options:
        if key not in takes:
            raise TypeError(f"{key}= is no argument of {name}; it takes {', '.join(takes)}")
    given = {**takes, **{key: _kept(value) for key, value in options.items()}}
    for key, value in given.items():
        if value is inspect.Parameter.empty:
            raise TypeError(f"{key}= is missing; {name} needs it")
    return given


def _kept(value: Any) -> Any:
    """Return what an iterator yields as a tuple, since every member is to see it."""
    return tuple(value) if isinstance(value, Iterator) else value


def _each(name: str, value: Any, count: int, shared: bool) -> list[Any]:
    """Return a value a member."""
    if shared:
        return [value] * count
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}={value!r} must be one for all members, or a list of one a member")
    values = list(value)
    if len(values) != count:
        raise ValueError(
            f"{name} has {len(values)} entries for {count} networks; pass one for all members, or one each"
        )
    return values


def _is_a_list_a_member(observe: Any) -> bool:
    return (
        isinstance(observe, (list, tuple))
        and bool(observe)
        and all(isinstance(entry, (list, tuple)) for entry in observe)
    )


def _check_alike(plan: Segment, first: Segment) -> None:
    """Raise unless one history can hold both."""
    splits, others = plan.settings["splits"], first.settings["splits"]
    if splits != others:
        raise ValueError(
            f"evaluate has the splits {splits[1:]}, and that of member 0 {others[1:]}; members share their names"
        )
    for o in plan.observed:
        for taken in {o.name, *o.dims} & set(_AXES):
            raise ValueError(
                f"observe: {o.name!r} has the name or axis {taken!r}, which an ensemble has itself; rename it"
            )
    names = [(o.name, o.dims, o.labels) for o in plan.observed]
    expected = [(o.name, o.dims, o.labels) for o in first.observed]
    if names != expected:
        raise ValueError(
            f"observe has {[o.name for o in plan.observed]}, and that of member 0 "
            f"{[o.name for o in first.observed]}; members share names, axes and labels"
        )


@contextlib.contextmanager
def _naming_member(k: int) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"member {k}: {error}") from error


def _stacked(histories: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return one history over (member, time, …)."""
    import xarray as xr

    count = len(histories)
    # Aligned on time: a step of one flow is not that of another, but what was asked for is hit by all to the bit.
    each_time = [history["time"].values for history in histories]
    times = np.unique(np.concatenate([np.zeros(0), *each_time]))
    each_row = [np.searchsorted(times, own) for own in each_time]
    steps = np.zeros(len(times), dtype=np.int64)
    stepwise = all("step" in history.coords for history in histories)
    sizes: dict[str, int] = {}
    coords: dict[str, Any] = {}
    dims: dict[str, tuple[str, ...]] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for history, rows in zip(histories, each_row, strict=True):
        if stepwise:
            steps[rows] = history["step"].values
        for dim, size in history.sizes.items():
            sizes[str(dim)] = max(size, sizes.get(str(dim), 0))
        for name, variable in history.data_vars.items():
            own = tuple(map(str, variable.dims))
            if dims.setdefault(str(name), own) != own:
                raise ValueError(
                    f"{name!r} has axes {own} in one member and {dims[str(name)]} in another; take the runs "
                    "one by one"
                )
            dtypes[str(name)] = np.result_type(
                variable.dtype, dtypes.get(str(name), variable.dtype)
            )
        coords |= {str(dim): history[dim] for dim in history.dims if dim in history.coords}
    sizes["time"] = len(times)
    variables = {}
    for name, axes in dims.items():
        shape = (count, *(sizes[dim] for dim in axes))
        stacked = np.full(shape, np.nan, dtype=dtypes[name])
        for k, (history, rows) in enumerate(zip(histories, each_row, strict=True)):
            if name in history:
                values = history[name].values
                stacked[k][(rows, *map(slice, values.shape[1:]))] = values
        variables[name] = (("member", *axes), stacked)
    coords |= {
        "member": np.arange(count),
        "status": ("member", np.array([history.attrs["status"] for history in histories], str)),
        "time": ("time", times, {"long_name": "time of the flow"}),
    }
    if stepwise:
        coords["step"] = ("time", steps)
    if any("relative_time" in history.coords for history in histories):
        relative = np.full((count, len(times)), np.nan)
        for k, history in enumerate(histories):
            if "relative_time" in history.coords:
                relative[k] = times / history.attrs["log_inverse_epsilon"]
        coords["relative_time"] = (("member", "time"), relative)
    return xr.Dataset(variables, coords)
