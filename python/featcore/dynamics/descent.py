"""`descend`: full-batch gradient descent, the whole loop in the core."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcore import losses, observables
from featcore._dispatch import core, free_memory, resolve_threads
from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset
from featcore.dynamics.bar import Bar
from featcore.dynamics.gradient import REDUCTIONS, split_tuple
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Interrupted, ObserverError, Outcome, Rows, Run, State
from featcore.losses import Loss
from featcore.network import TwoLayerNet
from featcore.observables import Columns, Function, Observable, check_match, check_net

LAYERS = ("W", "a")
FORMS = ("auto", "primal", "gram", "projected")


def descend(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    step_size: float,
    steps: int,
    train: Sequence[str] = LAYERS,
    layer_rates: Mapping[str, float] | None = None,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
    evaluate: Mapping[str, Dataset] | None = None,
    observe: Iterable[str | Observable | Function] = ("loss",),
    record: Recording | None = None,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    wall_time: float | None = None,
    form: str = "auto",
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
) -> Run:
    """Train a network by full-batch gradient descent: θ ← θ - step_size · rate · ∂(objective)/∂θ.

    Step k is at time t = step_size · k of the gradient flow of the same objective. The objective is that of
    `loss_and_grad`: mean loss unless `reduction="sum"`.

    Parameters
    ----------
    net : TwoLayerNet
        Where to start; not changed.
    data : Dataset
        Training data, of the network's dtype and dimension; the split "train" of the history.
    loss : {"logistic", "exponential", "hinge", "squared"} or Loss
        Per-sample loss.
    step_size : float
        η, positive.
    steps : int
        Number of steps, at least 0.
    train : sequence of {"W", "a"}
        Layers that move; ("W",) freezes the head.
    layer_rates : mapping, optional
        Factors on the field of a layer, for example {"W": 1, "a": 0.1}; non-negative, default 1.
    reduction : {"mean", "sum"}
        Of the loss over samples.
    weight_decay, output_penalty : float
        (λ/2)(|W|² + |a|²) and (μ/2)·mean f² added to the objective.
    evaluate : mapping of str to Dataset, optional
        Further splits on which per-split observables are evaluated.
    observe : iterable of str, Observable or callable
        What to record; see `featcore.observables`.
    record : Recording, optional
        When to record; `Recording.log(20)` by default.
    loss_target : float, optional
        Stop once the training loss (without penalties) is at most this.
    gradient_target : float, optional
        Stop once the Euclidean norm of the objective's gradient, over the layers that move, is at
        most this.
    wall_time : float, optional
        Stop after this many seconds.
    form : {"auto", "primal", "gram", "projected"}
        Coordinates that are iterated; they agree to rounding, and differ in speed only. "primal": W. "gram":
        pre-activations, for n well below 2d. "projected": W in the span of x, for rank(x) well below d.
        "auto" chooses by arithmetic on n, d, m and the rank; `run.outcome.form` tells.
    num_threads : int, optional
        Threads of this call; default: what affinity and control group allow. Bits do not depend on it.
    progress : bool
        Show a progress bar on a terminal.
    on_interrupt : {"raise", "return"}
        What Ctrl-C does: raise `Interrupted`, which carries the run, or return the run.

    Returns
    -------
    Run
        With `history`, `net`, `outcome` and `state`.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; the message names the argument and the remedy.
    MemoryError
        Before the run, with the number, if it needs more memory than is free.
    Interrupted
        On Ctrl-C, within 0.1 s; `.run` has all that was recorded. The unfinished step is dropped. (What
        another signal handler raises comes as it is, with the run as its attribute `run`.)
    ObserverError
        If a Python observable raises; `.run` has all that was recorded before.

    Notes
    -----
    Memory beyond the arrays that come and go, in the primal form: one bit a (neuron, sample) pair, three copies of
    W, and at most 64 MiB; no n×m matrix of numbers. The Gram form takes seven of them.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.xor_clusters(n=100, d=5, cluster_std=0.1, seed=0)
    >>> net = fc.TwoLayerNet.gaussian(width=20, dim=5, scale=0.01, head="alternating")
    >>> run = fc.descend(net, data, step_size=1.0, steps=50, train=("W",))
    >>> run.outcome.status
    'reached_end'
    >>> bool(run.history.loss.sel(split="train")[-1] < run.history.loss.sel(split="train")[0])
    True
    """
    return prepare(
        net,
        data,
        loss,
        step_size=step_size,
        steps=steps,
        train=train,
        layer_rates=layer_rates,
        reduction=reduction,
        weight_decay=weight_decay,
        output_penalty=output_penalty,
        evaluate=evaluate,
        observe=observe,
        record=record,
        loss_target=loss_target,
        gradient_target=gradient_target,
        wall_time=wall_time,
        form=form,
    ).drive(
        resolve_threads(num_threads),
        progress,
        choice("on_interrupt", on_interrupt, ("raise", "return")),
    )


def prepare(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss,
    *,
    step_size: float,
    steps: int,
    train: Sequence[str],
    layer_rates: Mapping[str, float] | None,
    reduction: str,
    weight_decay: float,
    output_penalty: float,
    evaluate: Mapping[str, Dataset] | None,
    observe: Iterable[str | Observable | Function],
    record: Recording | None,
    loss_target: float | None,
    gradient_target: float | None,
    wall_time: float | None,
    form: str,
    sha256: Callable[[Dataset], str] = Dataset.sha256,
) -> _Segment:
    """Check the arguments of `descend` and return the run they ask for, not begun.

    An ensemble passes a `sha256` that hashes a data set of many members once.
    """
    check_net(net)
    net = net.absorbed()
    loss = losses.get(loss)
    splits = _splits(net, data, evaluate, loss)
    observed = _observed(observe, net, splits)
    rates = _rates(train, layer_rates)
    problem = _Problem(
        loss=loss.name,
        mean=choice("reduction", reduction, REDUCTIONS) == "mean",
        weight_decay=real("weight_decay", weight_decay, least=0.0),
        output_penalty=real("output_penalty", output_penalty, least=0.0),
        step_size=real("step_size", step_size, above=0.0),
        rates=rates,
    )
    last = integer("steps", steps, least=0, most=2**62)
    stops = _Stops.of(loss_target, gradient_target, wall_time)
    settings = {
        "dynamics": "descend",
        "loss": problem.loss,
        "reduction": reduction,
        "weight_decay": problem.weight_decay,
        "output_penalty": problem.output_penalty,
        "step_size": problem.step_size,
        "steps": last,
        "rate_W": rates[0],
        "rate_a": rates[1],
        "splits": list(splits),
        "data_sha256": [sha256(split) for split in splits.values()],
        "net_sha256": net.sha256(),
        "provenance": [_plain(split.provenance) for split in splits.values()],
    }
    state = State(
        State.VERSION,
        choice("form", form, FORMS),
        0,
        {"balance": observables.balance(net)},
    )
    return _Segment(
        net, state, splits, observed, problem, settings, last, _recording(record), stops
    )


@dataclass(frozen=True)
class _Problem:
    """What is descended, and how fast."""

    loss: str
    mean: bool
    weight_decay: float
    output_penalty: float
    step_size: float
    rates: tuple[float, float]


@dataclass(frozen=True)
class _Stops:
    """When to stop before the end; infinite limits are off."""

    loss: float = -math.inf
    gradient: float = -math.inf
    seconds: float = math.inf

    @classmethod
    def of(cls, loss: float | None, gradient: float | None, seconds: float | None) -> _Stops:
        return cls(
            -math.inf if loss is None else real("loss_target", loss),
            -math.inf if gradient is None else real("gradient_target", gradient, least=0.0),
            math.inf if seconds is None else real("wall_time", seconds, least=0.0),
        )


@dataclass(frozen=True, eq=False)
class _Segment:
    """One call of the core, checked and not begun: from `state.step` to `last`."""

    net: TwoLayerNet
    state: State
    splits: Mapping[str, Dataset]
    observed: tuple[Observable, ...]
    problem: _Problem
    settings: Mapping[str, Any]
    last: int
    record: Recording
    stops: _Stops
    earlier: Run | None = None
    """The run that this one continues."""

    @property
    def first(self) -> int:
        """The step from which it goes on."""
        return self.state.step

    def drive(
        self,
        num_threads: int,
        progress: bool = False,
        on_interrupt: str = "raise",
        watch: Callable[[int], None] | None = None,
    ) -> Run:
        """Run it. `watch` is called with the step every few milliseconds; what it raises is a signal."""
        return _drive(self, num_threads, progress, on_interrupt, watch)

    def not_begun(self) -> Run:
        """Return the run as it stands before its first step."""
        if self.earlier is not None:
            return self.earlier
        build = core.build_info()
        return Run(
            net=self.net,
            outcome=Outcome(
                status="not_begun",
                message=_message("not_begun", 0, 0.0, self),
                time=0.0,
                counts={"steps": 0, "records": 0},
                form=self.state.form,
                isa=build["isa"],
                dtype=str(self.net.dtype),
                version=build["version"],
                num_threads=1,
                seconds=0.0,
            ),
            settings=self.settings,
            state=self.state,
            rows=Rows(np.zeros(0, dtype=np.int64), {}),
            observed=self.observed,
            splits=self.splits,
            unrecorded=True,
        )


def _drive(
    segment: _Segment,
    num_threads: int,
    progress: bool,
    on_interrupt: str,
    watch: Callable[[int], None] | None,
) -> Run:
    """Run the core over a segment and wrap what comes back."""
    net, problem, first, earlier = segment.net, segment.problem, segment.first, segment.earlier
    schedule = segment.record.steps(problem.step_size, segment.last)
    before = None if earlier is None else earlier.complete_rows()
    if before is not None:
        # A row that an observable failed to give at `first` is still to come.
        done = first - 1 if not before.steps.size else max(int(before.steps[-1]), first - 1)
        schedule = schedule[schedule > done]
    steps = np.zeros(len(schedule) + 1, dtype=np.int64)
    columns = Columns(
        segment.observed,
        net,
        segment.splits,
        rows=len(steps),
        earlier=None if before is None else before.columns,
    )
    W, a = net.W.copy(), net.a.copy()
    sigma = net.activation

    def on_row(row: int, _step: int, now_W: Any, now_a: Any) -> None:
        columns.on_row(row, TwoLayerNet(now_W, now_a, sigma, copy=False))

    began = clock.perf_counter()
    with Bar(progress, first, segment.last) as bar:
        status, step, rows, form, threads, error, form_state = core.descend(
            W,
            a,
            sigma.name,
            sigma.slope,
            [split_tuple(data) for data in segment.splits.values()],
            (problem.loss, problem.mean, problem.weight_decay, problem.output_penalty),
            segment.state.arrays["balance"],
            (
                problem.step_size,
                first,
                segment.last,
                *problem.rates,
                segment.stops.loss,
                segment.stops.gradient,
                segment.stops.seconds,
            ),
            schedule,
            columns.native(),
            steps,
            on_row if columns.has_functions else None,
            bar.update if watch is None else watch,
            num_threads,
            segment.state.form,
            segment.state.form_arrays,
            free_memory(),
        )
        bar.close_at(step)
    seconds = clock.perf_counter() - began

    new = Rows(steps[:rows].copy(), {name: array[:rows] for name, array in columns.arrays.items()})
    kept = new if before is None else before.followed_by(new)
    if status == "observer_failed" and not isinstance(error, Exception):
        status = "interrupted"  # Ctrl-C while a Python observable ran
    build = core.build_info()
    end = step * problem.step_size
    run = Run(
        net=TwoLayerNet(W, a, sigma, copy=False),
        outcome=Outcome(
            status=status,
            message=_message(status, step, end, segment),
            time=end,
            counts={"steps": step, "records": len(kept.steps)},
            form=form,
            isa=build["isa"],
            dtype=str(net.dtype),
            version=build["version"],
            num_threads=threads,
            seconds=seconds + (earlier.outcome.seconds if earlier is not None else 0.0),
        ),
        settings=segment.settings,
        state=segment.state.followed_by(form, step, form_state),
        rows=kept,
        observed=segment.observed,
        splits=segment.splits,
        unrecorded=status == "interrupted",
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


def continue_run(
    run: Run,
    steps: int | None,
    data: Dataset | None,
    evaluate: Mapping[str, Dataset] | None,
    *,
    observe: Iterable[str | Observable | Function] | None = None,
    record: Recording | None = None,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    wall_time: float | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
) -> Run:
    """Continue a descent; see `Run.continue_`."""
    return prepare_more(
        run,
        steps,
        data,
        evaluate,
        observe=observe,
        record=record,
        loss_target=loss_target,
        gradient_target=gradient_target,
        wall_time=wall_time,
    ).drive(
        resolve_threads(num_threads),
        progress,
        choice("on_interrupt", on_interrupt, ("raise", "return")),
    )


def prepare_more(
    run: Run,
    steps: int | None = None,
    data: Dataset | None = None,
    evaluate: Mapping[str, Dataset] | None = None,
    *,
    observe: Iterable[str | Observable | Function] | None = None,
    record: Recording | None = None,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    wall_time: float | None = None,
) -> _Segment:
    """Check the arguments of `continue_run` and return what is to be run, not begun."""
    if run.state.version != State.VERSION:
        raise ValueError(
            f"the state has version {run.state.version} and this featcore continues version {State.VERSION}; "
            "continue it with the featcore that wrote it, or start a new run from run.net"
        )
    settings = dict(run.settings)
    splits = _same_splits(run, data, evaluate)
    if observe is None:
        observed = run.observed
        lost = [o.name for o in observed if o.kind is None and o.function is None]
        if lost:
            raise ValueError(
                f"observe: Python observables {lost} are not stored in a file; pass observe="
            )
    else:
        observed = _observed(observe, run.net, splits)
        if {o.name for o in observed} != {o.name for o in run.observed}:
            raise ValueError(
                f"observe has {[o.name for o in observed]}; a continued run records what it recorded "
                f"before: {[o.name for o in run.observed]}"
            )
    planned = settings["steps"] - run.state.step
    more = max(0, planned) if steps is None else integer("steps", steps, least=0, most=2**62)
    settings["steps"] = run.state.step + more
    problem = _Problem(
        settings["loss"],
        settings["reduction"] == "mean",
        settings["weight_decay"],
        settings["output_penalty"],
        settings["step_size"],
        (settings["rate_W"], settings["rate_a"]),
    )
    return _Segment(
        run.net,
        run.state,
        splits,
        observed,
        problem,
        settings,
        run.state.step + more,
        _recording(record),
        _Stops.of(loss_target, gradient_target, wall_time),
        earlier=run,
    )


def record_point(run: Run) -> Rows:
    """Return one row: the observables of `run` where it stands."""
    splits = run.splits
    if splits is None:
        raise ValueError("the run has no data to evaluate on")
    columns = Columns(run.observed, run.net, splits, rows=1)
    if columns.has_functions:
        columns.on_row(0, run.net)
    settings = run.settings
    # A flow keeps W itself.
    descent = settings["dynamics"] == "descend"
    *_, error, _ = core.descend(
        run.net.W.copy(),
        run.net.a.copy(),
        run.net.activation.name,
        run.net.activation.slope,
        [split_tuple(data) for data in splits.values()],
        (
            settings["loss"],
            settings["reduction"] == "mean",
            settings["weight_decay"],
            settings["output_penalty"],
        ),
        run.state.arrays["balance"],
        (1.0, 0, 0, 1.0, 1.0, -math.inf, -math.inf, math.inf),
        np.zeros(0, dtype=np.int64),
        columns.native(),
        np.zeros(1, dtype=np.int64),
        None,
        None,
        run.outcome.num_threads,
        run.state.form if descent else "primal",
        run.state.form_arrays if descent else {},
    )
    if error is not None:  # a signal: the row is not there
        raise error
    times = np.array([run.outcome.time]) if settings["dynamics"] == "flow" else None
    return Rows(np.array([run.state.step], dtype=np.int64), columns.arrays, times)


def _splits(
    net: TwoLayerNet, data: Dataset, evaluate: Mapping[str, Dataset] | None, loss: Loss
) -> dict[str, Dataset]:
    check_match(net, data, loss)
    splits = {"train": data}
    for name, split in _mapping("evaluate", evaluate, "{'test': test}").items():
        if name == "train" or not name or type(name) is not str:
            raise ValueError(
                f"evaluate has a split named {name!r}; use any other string than 'train'"
            )
        check_match(net, split, loss, f"evaluate[{name!r}]")
        splits[name] = split
    return splits


def _same_splits(
    run: Run, data: Dataset | None, evaluate: Mapping[str, Dataset] | None
) -> Mapping[str, Dataset]:
    """Return the data sets of a run, checked against their hashes if they were passed again."""
    if data is None and evaluate is None and run.splits is not None:
        return run.splits
    if data is None:
        raise ValueError("data is not stored with a run; pass the training data as data=")
    splits = {"train": data, **_mapping("evaluate", evaluate, "{'test': test}")}
    names = run.settings["splits"]
    if list(splits) != names:
        raise ValueError(f"evaluate has splits {list(splits)[1:]}; the run has {names[1:]}")
    for (name, split), expected in zip(splits.items(), run.settings["data_sha256"], strict=True):
        if not isinstance(split, Dataset):
            raise TypeError(f"split {name!r} is a {type(split).__name__}; pass a featcore.Dataset")
        if split.sha256() != expected:
            raise ValueError(
                f"the data of split {name!r} are not those of the run (their SHA-256 differs)"
            )
    return splits


def _observed(
    observe: Iterable[str | Observable | Function], net: TwoLayerNet, splits: Mapping[str, Dataset]
) -> tuple[Observable, ...]:
    if isinstance(observe, (str, Observable)) or callable(observe) or not np.iterable(observe):
        raise TypeError(f"observe={observe!r} must be a list, such as ['loss']")
    observed = tuple(observables.get(o) for o in observe)
    directions: dict[str, Observable] = {}
    names: set[str] = set()
    for o in observed:
        if o.name in names or o.name in observables.AXES:
            raise ValueError(
                f"observe: the name {o.name!r} is taken; give one of them another with name="
            )
        names.add(o.name)
        observables.check(o, net, splits)
        for dim in o.dims if o.directions is not None else ():
            if dim in ("neuron", "sign", "statistic"):
                continue
            other = directions.setdefault(dim, o)
            if other.labels != o.labels or not np.array_equal(other.directions, o.directions):  # type: ignore[arg-type]
                raise ValueError(
                    f"observe: {other.name!r} and {o.name!r} have different directions on one axis "
                    f"{dim!r}; name one axis otherwise with dim="
                )
    for name in names & {dim for o in observed for dim in o.dims}:
        raise ValueError(f"observe: {name!r} names both an observable and an axis; rename one")
    return observed


def _plain(value: Any) -> Any:
    """Return `value` in types that JSON has; anything else as text, since a run must be storable."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _rates(train: Sequence[str], layer_rates: Mapping[str, float] | None) -> tuple[float, float]:
    layers = (train,) if isinstance(train, str) or not np.iterable(train) else tuple(train)
    if not layers or any(layer not in LAYERS for layer in layers):
        raise ValueError(f"train={train!r} must name layers to train: 'W', 'a' or both")
    rates = dict.fromkeys(LAYERS, 1.0)
    for layer, rate in _mapping("layer_rates", layer_rates, "{'W': 1, 'a': 0.1}").items():
        choice("layer_rates key", layer, LAYERS)
        rates[layer] = real(f"layer_rates[{layer!r}]", rate, least=0.0)
    W, a = (rates[layer] if layer in layers else 0.0 for layer in LAYERS)
    return W, a


def _mapping(name: str, value: Mapping[str, Any] | None, example: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a mapping, such as {example}")
    return value or {}


def _recording(record: Recording | None) -> Recording:
    if record is not None and not isinstance(record, Recording):
        raise TypeError(
            f"record={record!r} must be a Recording, such as fc.Recording.log(per_decade=20)"
        )
    return Recording.log() if record is None else record


def _message(status: str, step: int, time: float, segment: _Segment) -> str:
    at = f"step {step} (t = {time:g})"
    stops = segment.stops
    return {
        "reached_end": f"All steps were taken, to {at}.",
        "stationary": f"The gradient norm is at most {stops.gradient:g} at {at}: nothing moves any more. "
        "Lower gradient_target to go on.",
        "loss_target": f"The training loss is at most {stops.loss:g} at {at}. Lower loss_target to go on.",
        "wall_time": f"The wall time of {stops.seconds:g} s was over at {at}. Continue with run.continue_().",
        "non_finite": f"The outputs or weights after {at} are not finite; the network is the last finite one. "
        f"The step size {segment.problem.step_size:g} is too large for this loss and data: lower it"
        + (", or start from smaller weights." if step == 0 else "."),
        "interrupted": f"Interrupted at {at}; the unfinished step was dropped. "
        "Continue with run.continue_().",
        "observer_failed": f"A Python observable raised at {at}; what was recorded before is kept.",
        "not_begun": "Not begun when the ensemble stopped. Begin it with run.continue_().",
    }[status]
