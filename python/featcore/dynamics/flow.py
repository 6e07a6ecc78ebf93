"""`flow`: the gradient flow, resolved at every event, the whole loop in the core."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from featcore import losses
from featcore._dispatch import core, free_memory
from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset
from featcore.dynamics.arguments import LAYERS, Common, objective, problem, recording, resumed
from featcore.dynamics.gradient import split_tuple
from featcore.dynamics.ranges import check_ranges, check_rates
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Events, Rows, Run, State
from featcore.dynamics.scales import scaled_net
from featcore.dynamics.segment import Call, Leg, Segment, Stops
from featcore.losses import Loss
from featcore.network import TwoLayerNet
from featcore.observables import Columns, Function, Observable, check_net

FIXED = ("euler", "heun", "rk4")
METHODS = ("auto", "event", "tsit5", *FIXED)
FORMS = ("auto", "primal", "projected")

# Roundings of the numbers that a step is judged by, or in which the network comes: below no step satisfies.
_LEAST_RTOL = {
    "event": {"float64": 1e-13, "float32": 1e-7},
    "tsit5": {"float64": 1e-13, "float32": 1e-5},
}

COUNTS = ("accepted", "rejected", "evaluations", "crossings", "slidings")
EVENTS = ("time", "neuron", "sample", "kind")

# What rounding may leave of a margin of 1, of the sum of what neurons give.
_SLACK = {"float64": 1e-11, "float32": 1e-5}
# Of the exact hinge flow: margins of 1 are told from others if rounding leaves this of them; beyond this factor between
# layers, as their rates have them grow, support vectors may be lost (measured: one run of twelve at 1e6, all at 1e20).
_BLUR = 1e-3
_ASPECT = 1e5
_SAMPLES = 4096  # looked at together
_LISTED = 5

_PARTS = 1000  # of the way, as the core counts it for a progress bar
_ALL_EVENTS = 2**20


def flow(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    t_end: float,
    method: str = "auto",
    rtol: float = 1e-6,
    atol: float | None = None,
    step_size: float | None = None,
    train: Sequence[str] = LAYERS,
    layer_rates: Mapping[str, float] | None = None,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
    evaluate: Mapping[str, Dataset] | None = None,
    observe: Iterable[str | Observable | Function] = ("loss",),
    record: Recording | None = None,
    events: bool | int = False,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    max_steps: int = 1_000_000,
    wall_time: float | None = None,
    form: str = "auto",
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
) -> Run:
    """Follow the gradient flow dθ/dt = -rate · ∂(objective)/∂θ to t_end.

    For ReLU and leaky ReLU crossings, where a neuron's hyperplane passes a sample and the field jumps, are located
    rather than stepped over. Where the field points back to the hyperplane from both sides the neuron stays on it
    (it slides), as Filippov's solution does. Where it points away from both a neuron can only have started, with
    z = 0 exactly: relu'(0) = 0 for all such samples, and it goes where the field of the others leads, or stays.

    Parameters
    ----------
    net : TwoLayerNet
        Where to start; not changed. Method "event" carries its `log_scale`, if it has one, at any scale, and so does
        `run.net`; `rtol` and `atol` are then relative to each neuron's own size. See docs/flow_modes.md.
    data : Dataset
        Training data, of the network's dtype and dimension; the split "train" of the history. Method "event" takes
        samples of lengths from 1e-75 to 1e75 (float32: from 1e-19 to 1e18).
    loss : {"logistic", "exponential", "hinge", "squared"} or Loss
        Per-sample loss.
    t_end : float
        Where to stop, at least 0. Step k of `descend` with step size η is at t = ηk.
    method : {"auto", "event", "tsit5", "euler", "heun", "rk4"}
        "event" is the event-resolved integrator: ReLU and leaky ReLU. With the hinge loss it is exact: see Notes; it
        takes no penalties then. "tsit5" (Tsitouras 5(4)) controls its error on smooth problems; it steps over kinks,
        and there the error is about √rtol, which `outcome.message` says, too. "euler" (the same bits as `descend` in
        the same form), "heun" and "rk4" take steps of `step_size`. "auto" is "event" where that applies, else
        "tsit5": for smooth activations, and for the hinge loss with penalties. `run.settings["method"]` has the
        method taken.
    rtol : float
        Relative error, at least 1e-13 (of float32: 1e-5; any of the exact hinge flow, which takes none).
        Of "event": each step may move the weights astray by rtol times the most that the residuals could have
        changed them (relative to their norm, and never more than rtol); the error at the end is then of the order
        of rtol. Of "tsit5": of each weight, in the coordinates of the form, and step. (The exact hinge flow is
        resolved to rounding, whatever it is.)
    atol : float, optional
        Absolute error. Of "event": what a step may move the weights astray, relative to their norm, where residuals
        contradict each other and weights rest. Of "tsit5": of each weight and step. Default rtol/1000.
    step_size : float, optional
        Of "euler", "heun" and "rk4", which need it.
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
        When to record; `Recording.log(20)` by default. Recording changes no bits of the flow.
    events : bool or int
        Keep crossings and slidings in `run.events`: the first million, or the first so many; its attributes say up
        to when it is complete, and `run.continue_()` goes on keeping them. The exact hinge flow
        adds those of margins, with neuron -1: kind -1 where a sample is satisfied, 0 where it becomes a support
        vector (its margin is held at 1), 1 where it is violated again.
    loss_target : float, optional
        Stop where the training loss (without penalties) first comes down to this, or is at the start. It is looked
        at after every step, and with penalties, under which it may rise again, 12 times within each (Runge-Kutta: 4)
        and at its lowest between: a dip in the first or last 2 % (15 %) of a step may be missed.
    gradient_target : float, optional
        Stop once, at the start or after a step, the Euclidean norm of the objective's gradient, over the layers
        that move, is at most this. A neuron that slides has the gradient that it moves by.
    max_steps : int
        Stop after so many accepted steps of this call.
    wall_time : float, optional
        Stop after this many seconds.
    form : {"auto", "primal", "projected"}
        Coordinates that are moved; runs agree to rounding with fixed steps, else to `rtol`, and differ in speed.
        "primal": W. "projected": W in the span of x, for rank(x) well below d, as where n is; its rounding is
        relative to |w||x|, so that an input in units far larger than the others' drowns them. "auto" chooses by
        arithmetic on n, d, m, the rank and, for that reason, the lengths of the columns of x; `run.outcome.form`
        tells. (The form "gram" of `descend` is no form of a flow: in the span a step costs n·m·n, too.)
    num_threads : int, optional
        Threads of this call; default: what affinity and control group allow. Bits do not depend on it.
    progress : bool
        Show a progress bar on a terminal.
    on_interrupt : {"raise", "return"}
        What Ctrl-C does: raise `Interrupted`, which carries the run, or return the run.

    Returns
    -------
    Run
        With `history`, `events`, `net`, `outcome` and `state`. `outcome.counts` has steps `accepted` and `rejected`,
        `evaluations` (of the field, or sweeps over all neurons), `crossings` and `slidings`; `outcome.drift` is the
        largest change of a_j² - |w_j|², which the flow conserves if both layers move at one rate without weight decay.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit; the message names the argument and the remedy.
    MemoryError
        Before the run, with the number, if it needs more memory than is free.
    Interrupted
        On Ctrl-C; `.run` has all that was recorded. The unfinished step is dropped.
    ObserverError
        If a Python observable raises; `.run` has all that was recorded before.

    Notes
    -----
    On a step the residuals are polynomials of time. Given those, every neuron is carried from one of its own events
    to the next by its power series, to rounding; what the neurons give makes better polynomials, until both agree.
    docs/derivations.md has the formulas.

    Under the hinge loss a residual is a constant while its sample is violated and 0 once it is satisfied; a sample that
    its neighbours would pull back below margin 1 stays there as a support vector, with the multiplier in [0, 1] that
    holds it. From one event to the next all neurons are carried by one power series, to rounding, and where several
    things happen at once the velocity is the shortest subgradient. The flow ends, as "stationary", where every margin
    is at least 1 or nothing moves any more; `outcome.message` then says which samples are below 1 and which neurons are
    dead. docs/flow_modes.md has what is assumed.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.xor_clusters(n=100, d=5, cluster_std=0.1, seed=0)
    >>> net = fc.TwoLayerNet.gaussian(width=20, dim=5, scale=0.01, head="alternating")
    >>> run = fc.flow(net, data, t_end=50.0, train=("W",))
    >>> run.outcome.status
    'reached_end'
    >>> run.outcome.counts["crossings"] > 0
    True
    """
    return prepare(
        net,
        data,
        loss,
        t_end=t_end,
        method=method,
        rtol=rtol,
        atol=atol,
        step_size=step_size,
        train=train,
        layer_rates=layer_rates,
        reduction=reduction,
        weight_decay=weight_decay,
        output_penalty=output_penalty,
        evaluate=evaluate,
        observe=observe,
        record=record,
        events=events,
        loss_target=loss_target,
        gradient_target=gradient_target,
        max_steps=max_steps,
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
    t_end: float,
    method: str,
    rtol: float,
    atol: float | None,
    step_size: float | None,
    record: Recording | None,
    events: bool | int,
    loss_target: float | None,
    gradient_target: float | None,
    max_steps: int,
    wall_time: float | None,
    form: str,
    sha256: Callable[[Dataset], str] = Dataset.sha256,
    **common: Unpack[Common],
) -> Segment:
    """Check the arguments of `flow` and return the run they ask for, not begun.

    An ensemble passes a `sha256` that hashes a data set of many members once.
    """
    check_net(net)
    choice("method", method, METHODS)
    # the event-resolved flow of residuals that do not jump
    carries_scales = (
        method in ("auto", "event")
        and net.activation.homogeneous
        and losses.get(loss).name != "hinge"
    )
    asked = problem(net, data, loss, sha256, carries_scales=carries_scales, **common)
    method = _method(method, asked.net, asked.settings)
    if (step_size is None) == (method in FIXED):
        raise ValueError(
            f"step_size={step_size!r} with method={method!r}: "
            + ("give the length of its steps" if step_size is None else "it chooses its own steps")
        )
    if method == "event":
        check_ranges(asked.net, data, asked.settings["loss"])
    exact = method == "event" and asked.settings["loss"] == "hinge"
    if exact:
        check_rates(asked.settings)
        if asked.net.activation.slope < 0:
            raise ValueError(
                f"net has a leaky ReLU of slope {asked.net.activation.slope:g}; the exact hinge flow follows slopes of "
                "0 and more: use method='tsit5'"
            )
    unused = exact or method in FIXED
    rtol = real("rtol", rtol, least=0.0) if unused else _rtol(rtol, method, asked.net)
    return _Flow(
        net=asked.net,
        state=asked.start(_form(form)),
        splits=asked.splits,
        observed=asked.observed,
        settings={
            "dynamics": "flow",
            **asked.settings,
            "t_end": real("t_end", t_end, least=0.0),
            "method": method,
            "rtol": rtol,
            "atol": rtol / 1000 if atol is None else real("atol", atol, least=0.0),
            "fixed_step": 0.0 if step_size is None else real("step_size", step_size, above=0.0),
        },
        record=_recording(record, t_end),
        stops=Stops.of(loss_target, gradient_target, wall_time),
        max_steps=integer("max_steps", max_steps, least=1, most=2**62),
        max_events=_max_events(events),
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
    events: bool | int | None = None,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    max_steps: int = 1_000_000,
    wall_time: float | None = None,
) -> Segment:
    """Check the arguments of `Run.continue_` for a flow and return what is to be run, not begun."""
    if steps is not None:
        raise ValueError(f"steps={steps!r} is of a descent; a flow goes on to t_end=")
    asked = resumed(run, data, evaluate, observe)
    if t_end is not None:
        asked.settings["t_end"] = real("t_end", t_end, least=run.outcome.time)
    return _Flow(
        net=asked.net,
        state=run.state,
        splits=asked.splits,
        observed=asked.observed,
        settings=asked.settings,
        record=_recording(record, asked.settings["t_end"]),
        stops=Stops.of(loss_target, gradient_target, wall_time),
        max_steps=integer("max_steps", max_steps, least=1, most=2**62),
        max_events=_events_to_come(run) if events is None else _max_events(events),
        earlier=run,
    )


def fill_row(run: Run, splits: Mapping[str, Dataset], columns: Columns) -> None:
    """Fill the first of two rows of `columns` with what the core observes of a run with log_scale where it stands."""
    settings = run.settings
    arrays, start = _parted(run.state.arrays)
    time = run.outcome.time
    result = core.flow(
        run.net.W.copy(),
        run.net.a.copy(),
        run.net.activation.spec,
        [split_tuple(data) for data in splits.values()],
        objective(settings),
        start["balance"],
        "event",
        (
            time,
            time,
            settings["rtol"],
            settings["atol"],
            0.0,
            settings["rate_W"],
            settings["rate_a"],
            -np.inf,
            -np.inf,
            np.inf,
            1,
            0,
        ),
        np.array([time]),
        columns.native(),
        arrays or None,
        None,
        None,
        run.outcome.num_threads,
        run.state.form,
        scales=(start["log_scale"], start["sizes"]),
    )
    if result["error"] is not None:  # a signal: the row is not there
        raise result["error"]


def _parted(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Return the arrays of a state that the core goes on from, and those that say how the run began."""
    start = {
        name: array for name, array in arrays.items() if name in ("balance", "log_scale", "sizes")
    }
    return {name: array for name, array in arrays.items() if name not in start}, start


@dataclass(frozen=True, eq=False, kw_only=True)
class _Flow(Segment):
    """A gradient flow from where `earlier` stands to settings["t_end"]; a position is a part of that way."""

    max_steps: int
    max_events: int

    @property
    def first(self) -> int:
        return 0

    @property
    def last(self) -> int:
        return _PARTS

    @property
    def _start(self) -> float:
        return 0.0 if self.earlier is None else self.earlier.outcome.time

    def _schedule(self, before: Rows | None) -> NDArray[np.float64]:
        times = self.record.times(self.settings["t_end"])
        if before is None or before.times is None:
            return times
        # A row that an observable failed to give at the start is still to come.
        times = times[times >= self._start]
        return times[times > before.times[-1]] if before.times.size else times

    def _run(self, call: Call, schedule: NDArray[np.float64]) -> Leg:
        settings, sigma = self.settings, self.net.activation
        arrays, start = _parted(self.state.arrays)
        scales = (start["log_scale"], start["sizes"]) if "log_scale" in start else None
        result = core.flow(
            call.W,
            call.a,
            sigma.spec,
            [split_tuple(data) for data in self.splits.values()],
            objective(settings),
            start["balance"],
            settings["method"],
            (
                self._start,
                settings["t_end"],
                settings["rtol"],
                settings["atol"],
                settings["fixed_step"],
                settings["rate_W"],
                settings["rate_a"],
                self.stops.loss,
                self.stops.gradient,
                self.stops.seconds,
                self.max_steps,
                self._events_asked,
            ),
            schedule,
            call.columns.native(),
            arrays or None,
            call.on_row,
            call.watch,
            call.num_threads,
            self.state.form,
            free_memory(),
            scales,
        )
        times, state = result["times"], result["state"]
        counts = dict(zip(COUNTS, result["counts"], strict=True))
        drift = result["drift"]
        if self.earlier is not None:
            done = self.earlier.outcome
            counts = {name: count + done.counts[name] for name, count in counts.items()}
            drift = max(drift, done.drift or 0.0)
        # A run that was stopped before it began has nothing to go on from but its network.
        begun = bool(state) and (settings["method"] != "event" or state["sides"].size > 0)
        return Leg(
            status=result["status"],
            error=result["error"],
            time=result["time"],
            rows=Rows(np.arange(len(times), dtype=np.int64), {}, times),
            counts=counts,
            state=State(State.VERSION, result["form"], 0, {**start, **(state if begun else {})}),
            num_threads=result["num_threads"],
            drift=drift if sigma.homogeneous else None,
            found=self._events(dict(zip(EVENTS, result["events"], strict=True)), result["time"]),
            exponents=result["exponents"],
            account=self._account(call) if self._exact_hinge else "",
            caution=self._caution(call) if self._exact_hinge else "",
        )

    @property
    def _table(self) -> Events | None:
        """The table of events that this part adds to."""
        found = None if self.earlier is None else self.earlier.found
        if found is None or found.capped or found.until != self._start:
            return None
        return found

    @property
    def _events_asked(self) -> int:
        """How many events the core is to keep: one too many, if there are, to tell."""
        if not self.max_events:
            return 0
        there = 0 if self._table is None else len(self._table.columns["time"])
        return max(self.max_events - there, 0) + 1

    def _events(self, new: Mapping[str, NDArray[Any]], time: float) -> Events | None:
        """Return the table of the whole run, which has got to `time`."""
        found = None if self.earlier is None else self.earlier.found
        if not self.max_events:
            return found if found is None or found.capped else replace(found, limit=0)
        capped = len(new["time"]) == self._events_asked
        until = float(new["time"][-1]) if capped else time
        columns = {name: array[:-1] if capped else array for name, array in new.items()}
        before = self._table
        if before is not None:
            columns = {
                name: np.concatenate([before.columns[name], array])
                for name, array in columns.items()
            }
        since = self._start if before is None else before.since
        return Events(columns, since, until, self.max_events, capped)

    def _network(
        self, W: NDArray[Any], a: NDArray[Any], exponents: NDArray[np.int64] | None
    ) -> TwoLayerNet:
        if self.net.log_scale is None:
            return super()._network(W, a, exponents)
        if exponents is None:  # it has not moved
            return self.net
        return scaled_net(W, a, self.net, self.state.arrays["log_scale"], exponents)

    @property
    def _exact_hinge(self) -> bool:
        return bool(self.settings["loss"] == "hinge" and self.settings["method"] == "event")

    def _account(self, call: Call) -> str:
        """Say which samples are violated, and which neurons are dead; nothing if no sample is."""
        data, sigma = self.splits["train"], self.net.activation
        short, alive = [], np.zeros(len(call.a), dtype=bool)
        moved = alive.copy()
        # what rounding makes of a zero, as where w is 0 in the span of the samples but not beyond
        zero = 16 * np.finfo(self.net.dtype).eps
        for first in range(0, data.n, _SAMPLES):
            part = slice(first, first + _SAMPLES)
            with np.errstate(over="ignore", invalid="ignore"):
                z = data.x[part] @ call.W.T
                hidden = sigma(z)
                least = zero * np.outer(
                    np.linalg.norm(data.x[part], axis=1), np.linalg.norm(call.W, axis=1)
                )
                margins = data.y[part] * (hidden @ call.a)
                slack = _SLACK[str(self.net.dtype)] * (1 + np.abs(hidden) @ np.abs(call.a))
            alive |= (hidden != 0).any(0)
            moved |= (np.abs(z) > least).any(0)
            counts = True if data.weights is None else data.weights[part] > 0
            short.append(first + np.flatnonzero((margins < 1 - slack) & counts))
        violated = np.concatenate(short)
        if not violated.size:
            return ""
        account = f"{violated.size} of {data.n} margins are below 1 ({_listed('sample', violated)})"
        dead = np.flatnonzero(~(alive & moved))
        if sigma.slope != 0:  # a leaky neuron that no sample moves is at w = 0
            if not dead.size:
                return account
            return f"{account}, and {dead.size} of {alive.size} neurons are at w = 0 ({_listed('neuron', dead)})"
        if not dead.size:
            return f"{account}, and no neuron is dead"
        return f"{account}, and {dead.size} of {alive.size} neurons are dead ({_listed('neuron', dead)})"

    def _caution(self, call: Call) -> str:
        """Say how sizes of weights are in the way; nothing if they are not."""
        a = np.abs(call.a.astype(float))
        with np.errstate(over="ignore"):
            W = np.linalg.norm(call.W.astype(float), axis=1)
            lengths = np.linalg.norm(self.splits["train"].x.astype(float), axis=1)
            terms = float(lengths.max() * (W @ a))
        blur = float(np.finfo(self.net.dtype).eps) * terms
        if blur > _BLUR:
            return (
                f" (Outputs are sums of terms up to {terms:.1e}, of which rounding leaves {blur:.1e}: whether margins "
                "are at 1 cannot be told. Start from smaller weights.)"
            )
        of_W, of_a = (
            math.sqrt(self.settings["rate_a"]) * float(W.max()),
            math.sqrt(self.settings["rate_W"]) * float(a.max()),
        )
        if of_W > _ASPECT * of_a > 0:
            larger, smaller, ratio = "W", "a", of_W / of_a
        elif of_a > _ASPECT * of_W > 0:
            larger, smaller, ratio = "a", "W", of_a / of_W
        else:
            return ""
        return (
            f" (For their rates weights of {larger} are {ratio:.1e} times as large as those of {smaller}, so that "
            f"rounding may hide what support vectors ask of {smaller}. Start from weights closer in size.)"
        )

    def _begin(self) -> Leg:
        none = np.zeros(0)
        kinds = (np.float64, np.int64, np.int64, np.int8)
        return Leg(
            status="not_begun",
            error=None,
            time=0.0,
            rows=Rows(np.zeros(0, dtype=np.int64), {}, none),
            counts=dict.fromkeys(COUNTS, 0),
            state=self.state,
            num_threads=1,
            drift=0.0 if self.net.activation.homogeneous else None,
            found=Events(
                {name: none.astype(kind) for name, kind in zip(EVENTS, kinds, strict=True)},
                since=0.0,
                until=0.0,
                limit=self.max_events,
            )
            if self.max_events
            else None,
        )

    def _position(self, leg: Leg) -> int:
        return _PARTS

    def _at(self, leg: Leg) -> str:
        return f"t = {leg.time:.6g}"

    def _message(self, status: str, leg: Leg) -> str:
        told = leg.caution if status in ("stationary", "step_underflow", "max_steps") else ""
        return super()._message(status, leg) + told + self._caveat()

    def _caveat(self) -> str:
        """Return what to know of a method that has an error control, but not at kinks."""
        sigma = self.net.activation
        kinks = [sigma.name] if sigma.kinked else []
        kinks += ["the hinge loss"] if self.settings["loss"] == "hinge" else []
        if self.settings["method"] != "tsit5" or not kinks:
            return ""
        return f" Method 'tsit5' steps over the kinks of {' and '.join(kinks)}: its error is about √rtol."

    def _own_messages(self, leg: Leg, at: str) -> dict[str, str]:
        return {
            **self._shared_messages(at),
            **(self._hinge_messages(leg, at) if self._exact_hinge else {}),
        }

    def _hinge_messages(self, leg: Leg, at: str) -> dict[str, str]:
        account = leg.account
        messages = {
            "step_underflow": f"At {at} events follow each other without end, or to rounding no choice of sides and "
            "support vectors is left that goes on. "
            f"{account + '. ' if account else ''}Start from other weights, or use method='tsit5'.",
        }
        if not account:
            messages["stationary"] = (
                f"Every margin is at least 1 at {at}: no sample asks for more, and nothing moves."
            )
        elif math.isfinite(self.stops.gradient):
            messages["stationary"] = (
                f"The gradient norm is at most {self.stops.gradient:g} at {at}, where {account}. Lower gradient_target "
                "to go on; if nothing moves any more the run ends here all the same."
            )
        else:
            messages["stationary"] = (
                f"Nothing moves any more at {at}: {account}. What the samples that are left ask for cancels, or meets "
                "no neuron that is active on them; start from other weights, or with more neurons."
            )
        where = f", where {account}" if account else ""
        moves = f", where it still moves: {account}" if account else ""
        messages["reached_end"] = f"The flow was followed to {at}{moves}."
        messages["max_steps"] = (
            f"{self.max_steps} steps were taken, to {at}{where}. Continue with run.continue_(), or raise max_steps. "
            "(Where steps lead nowhere weights of samples differ too much, or samples nearly depend on each other.)"
        )
        return messages

    def _shared_messages(self, at: str) -> dict[str, str]:
        fixed, step = self.settings["method"] in FIXED, self.settings["fixed_step"]
        knob = "step_size" if fixed else "rtol"
        too_short = (
            f"At {at} a step of step_size={step:g} is too short to be told from the time. Raise step_size."
            if fixed
            else f"At {at} no step is short enough for rtol={self.settings['rtol']:g}. Raise rtol or atol"
            f"{', or use float64' if self.net.dtype == np.float32 else ''}."
        )
        return {
            "reached_end": f"The flow was followed to {at}.",
            "max_steps": f"{self.max_steps} steps were taken, to {at}. Continue with run.continue_(), or raise {knob}.",
            "step_underflow": too_short,
            "non_finite": f"The outputs after {at} are not finite; the network is the last finite one. "
            + (f"Lower step_size={step:g}, start" if fixed else "Start")
            + " from smaller weights, or scale the data down.",
        }


def _rtol(rtol: float, method: str, net: TwoLayerNet) -> float:
    number, dtype = real("rtol", rtol, above=0.0), str(net.dtype)
    least = _LEAST_RTOL[method][dtype]
    if number < least:
        raise ValueError(
            f"rtol={number:g} is finer than the roundings of {dtype} with method={method!r}; pass at least {least:g}"
            + (", or use float64" if dtype == "float32" else "")
        )
    return number


def _listed(name: str, indices: NDArray[Any]) -> str:
    """Return the first few indices, with what they are of."""
    few = ", ".join(str(i) for i in indices[:_LISTED])
    return f"{name}{'s' if indices.size > 1 else ''} {few}{', …' if indices.size > _LISTED else ''}"


def _max_events(events: bool | int) -> int:
    if isinstance(events, bool):
        return _ALL_EVENTS * events
    return integer("events", events, least=0, most=2**40)


def _events_to_come(run: Run) -> int:
    """Return how many events a run keeps in all if it goes on as it did."""
    return 0 if run.found is None or run.found.capped else run.found.limit


def _recording(record: Recording | None, t_end: float) -> Recording:
    """Return when to record, if a flow can be recorded so: refused here, before an ensemble begins."""
    chosen = recording(record)
    chosen.times(t_end)
    return chosen


def _form(form: str) -> str:
    """Return the form that is asked for, if it is one of a flow."""
    if form == "gram":
        raise ValueError(
            "form='gram' iterates pre-activations, step by step, and a flow carries weights; use form='projected', "
            "whose steps cost as little where samples are few, or 'auto'"
        )
    return choice("form", form, FORMS)


def _method(method: str, net: TwoLayerNet, settings: Mapping[str, Any]) -> str:
    """Return the method that is meant, if it can follow the flow."""
    resolvable = net.activation.homogeneous
    penalties = [
        f"{name}={settings[name]:g}"
        for name in ("weight_decay", "output_penalty")
        if settings["loss"] == "hinge" and settings[name]
    ]
    if method == "auto":
        return "event" if resolvable and not penalties else "tsit5"
    if method == "event" and not resolvable:
        raise ValueError(
            f"method='event' takes ReLU() or LeakyReLU(slope), not {net.activation.name!r}; use method='tsit5'"
        )
    if method == "event" and penalties:
        raise ValueError(
            f"{' and '.join(penalties)}: the exact flow of the hinge loss has no penalties, under which residuals are "
            "not constants between events; use method='tsit5', or leave them at 0"
        )
    return method
