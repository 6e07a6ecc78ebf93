"""`descend`: gradient descent on all samples or on mini-batches, the whole loop in the core."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from featcore import _seeds
from featcore._dispatch import core, free_memory
from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset
from featcore.dynamics.arguments import LAYERS, Common, objective, problem, recording, resumed
from featcore.dynamics.gradient import split_tuple
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Rows, Run
from featcore.dynamics.segment import Call, Leg, Segment, Stops
from featcore.losses import Loss
from featcore.network import TwoLayerNet
from featcore.observables import Columns, Function, Observable

FORMS = ("auto", "primal", "gram", "projected")


def descend(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    step_size: float,
    steps: int,
    batch_size: int | None = None,
    batch_seed: _seeds.Seed = 0,
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
    """Train a network by gradient descent: θ ← θ - step_size · rate · ∂(objective)/∂θ.

    Step k is at time t = step_size · k of the gradient flow of the same objective. The objective is that of
    `loss_and_grad`: mean loss unless `reduction="sum"`. With `batch_size` a step is taken on a part of the
    samples, whose terms are multiplied by n over their number: in expectation it is the step on all.

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
        Number of steps, at least 0; with `batch_size` each is on one batch.
    batch_size : int, optional
        Samples of a mini-batch, 1 to n; all samples in every step if not given. An epoch of ⌈n / batch_size⌉ steps
        goes through all samples once, in an order of its own; its last batch has what is left. What is recorded is
        on all samples. Needs the primal form.
    batch_seed : int or numpy.random.SeedSequence
        Seed of the orders; told by it and the number of the epoch alone, for any number of threads.
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
        Stop once the training loss (without penalties) is at most this; with `batch_size` it is looked at where
        an epoch begins.
    gradient_target : float, optional
        Stop once the Euclidean norm of the objective's gradient, over the layers that move, is at
        most this. Not with `batch_size`.
    wall_time : float, optional
        Stop after this many seconds.
    form : {"auto", "primal", "gram", "projected"}
        Coordinates that are iterated; they agree to rounding, and differ in speed only. "primal": W. "gram":
        pre-activations, for n well below 2d. "projected": W in the span of x, for rank(x) well below d.
        Rounding of the latter is relative to |w||x|: an input in units far larger than the others' drowns them.
        "auto" chooses by arithmetic on n, d, m, the rank and, for that reason, the lengths of the columns of x;
        `run.outcome.form` tells.
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
    W, and at most 64 MiB, with 16 MiB for what is evaluated besides (of two inputs: for each such split up to 30);
    no n×m matrix of numbers. The Gram form takes seven of them.

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
        batch_size=batch_size,
        batch_seed=batch_seed,
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
        num_threads,
        progress,
        on_interrupt,
    )


def prepare(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss,
    *,
    step_size: float,
    steps: int,
    batch_size: int | None,
    batch_seed: _seeds.Seed,
    record: Recording | None,
    loss_target: float | None,
    gradient_target: float | None,
    wall_time: float | None,
    form: str,
    sha256: Callable[[Dataset], str] = Dataset.sha256,
    **common: Unpack[Common],
) -> Segment:
    """Check the arguments of `descend` and return the run they ask for, not begun.

    An ensemble passes a `sha256` that hashes a data set of many members once.
    """
    asked = problem(net, data, loss, sha256, **common)
    choice("form", form, FORMS)
    batches = {"batch_size": 0, "batch_key": 0}
    if batch_size is not None:
        size = integer("batch_size", batch_size, least=1, most=data.n)
        batches = {"batch_size": size, "batch_key": _seeds.key(batch_seed, "batches")}
        if form not in ("auto", "primal"):
            raise ValueError(
                f"form={form!r} has all samples in a step; with batch_size= it is 'primal'"
            )
        form = "primal"
    return _Descent(
        net=asked.net,
        state=asked.start(form),
        splits=asked.splits,
        observed=asked.observed,
        settings={
            "dynamics": "descend",
            **asked.settings,
            **batches,
            "step_size": real("step_size", step_size, above=0.0),
            "steps": integer("steps", steps, least=0, most=2**62),
        },
        record=recording(record),
        stops=_stops(batches["batch_size"], loss_target, gradient_target, wall_time),
    )


def prepare_more(
    run: Run,
    steps: int | None = None,
    t_end: float | None = None,
    data: Dataset | None = None,
    evaluate: Mapping[str, Dataset] | None = None,
    *,
    observe: Iterable[str | Observable | Function] | None = None,
    record: Recording | None = None,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    wall_time: float | None = None,
) -> Segment:
    """Check the arguments of `Run.continue_` for a descent and return what is to be run, not begun."""
    if t_end is not None:
        raise ValueError(f"t_end={t_end!r} is of a flow; a descent goes on for steps=")
    asked = resumed(run, data, evaluate, observe)
    done = run.state.step
    planned = max(0, asked.settings["steps"] - done)
    more = planned if steps is None else integer("steps", steps, least=0, most=2**62)
    return _Descent(
        net=asked.net,
        state=run.state,
        splits=asked.splits,
        observed=asked.observed,
        settings={**asked.settings, "steps": done + more},
        record=recording(record),
        stops=_stops(asked.settings["batch_size"], loss_target, gradient_target, wall_time),
        earlier=run,
    )


def _stops(
    batch_size: int, loss: float | None, gradient: float | None, seconds: float | None
) -> Stops:
    if batch_size and gradient is not None:
        raise ValueError(
            f"gradient_target={gradient!r} is of all samples, which steps with batch_size={batch_size} never see "
            "at once; use loss_target"
        )
    return Stops.of(loss, gradient, seconds)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Descent(Segment):
    """Gradient descent from `state.step` to settings["steps"]; a position is a step."""

    @property
    def first(self) -> int:
        return self.state.step

    @property
    def last(self) -> int:
        return int(self.settings["steps"])

    def _schedule(self, before: Rows | None) -> NDArray[np.int64]:
        schedule = self.record.steps(self.settings["step_size"], self.last)
        if before is None:
            return schedule
        # A row that an observable failed to give at `first` is still to come.
        done = self.first - 1
        if before.steps.size:
            done = max(int(before.steps[-1]), done)
        return schedule[schedule > done]

    def _run(self, call: Call, schedule: NDArray[np.int64]) -> Leg:
        settings, sigma = self.settings, self.net.activation
        recorded = np.zeros(len(schedule) + 1, dtype=np.int64)
        status, step, rows, form, threads, error, form_state = core.descend(
            call.W,
            call.a,
            sigma.spec,
            [split_tuple(data) for data in self.splits.values()],
            objective(settings),
            self.state.arrays["balance"],
            (
                settings["step_size"],
                self.first,
                self.last,
                settings["rate_W"],
                settings["rate_a"],
                self.stops.loss,
                self.stops.gradient,
                self.stops.seconds,
            ),
            schedule,
            call.columns.native(),
            recorded,
            call.on_row,
            call.watch,
            call.num_threads,
            self.state.form,
            self.state.form_arrays,
            free_memory(),
            (settings["batch_size"], settings["batch_key"]),
        )
        return Leg(
            status=status,
            error=error,
            time=step * settings["step_size"],
            rows=Rows(recorded[:rows].copy(), {}),
            counts={"steps": step},
            state=self.state.followed_by(form, step, form_state),
            num_threads=threads,
        )

    def _begin(self) -> Leg:
        rows = Rows(np.zeros(0, dtype=np.int64), {})
        return Leg("not_begun", None, 0.0, rows, {"steps": 0}, self.state, num_threads=1)

    def _position(self, leg: Leg) -> int:
        return leg.state.step

    def _at(self, leg: Leg) -> str:
        return f"step {leg.state.step} (t = {leg.time:g})"

    def _own_messages(self, leg: Leg, at: str) -> dict[str, str]:
        return {
            "reached_end": f"All steps were taken, to {at}.",
            "non_finite": f"The outputs or weights after {at} are not finite; the network is the last finite one. "
            f"The step size {self.settings['step_size']:g} is too large for this loss and data: lower it"
            + (", or start from smaller weights." if leg.state.step == 0 else "."),
        }


def record_point(run: Run) -> Rows:
    """Return one row: the observables of `run` where it stands."""
    splits = run.splits
    if splits is None:
        raise ValueError("the run has no data to evaluate on")
    scaled = run.net.log_scale is not None
    columns = Columns(run.observed, run.net, splits, rows=1 + scaled)
    if columns.has_functions:
        columns.on_row(0, run.net)
    settings = run.settings
    if scaled:
        from featcore.dynamics.flow import fill_row

        fill_row(run, splits, columns)
        return Rows(
            np.array([run.state.step], dtype=np.int64),
            {name: array[:1] for name, array in columns.arrays.items()},
            np.array([run.outcome.time]),
        )
    # A flow keeps W itself.
    descent = settings["dynamics"] == "descend"
    *_, error, _ = core.descend(
        run.net.W.copy(),
        run.net.a.copy(),
        run.net.activation.spec,
        [split_tuple(data) for data in splits.values()],
        objective(settings),
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
