"""`flow`: the gradient flow, resolved at every event, the whole loop in the core."""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcore import losses, observables
from featcore._dispatch import core, resolve_threads
from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset
from featcore.dynamics.bar import Bar
from featcore.dynamics.descent import (
    LAYERS,
    _observed,
    _plain,
    _rates,
    _recording,
    _same_splits,
    _splits,
    _Stops,
)
from featcore.dynamics.gradient import REDUCTIONS, split_tuple
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Interrupted, ObserverError, Outcome, Rows, Run, State
from featcore.losses import Loss
from featcore.network import TwoLayerNet
from featcore.observables import Columns, Function, Observable, check_net

FIXED = ("euler", "heun", "rk4")
METHODS = ("auto", "event", "tsit5", *FIXED)

# Rounding of z in float32 is seen by the residuals: below this no step satisfies.
LEAST_RTOL = {"float64": 1e-13, "float32": 1e-5}

_PARTS = 1000  # of the way, as the core counts it for a progress bar


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
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
) -> Run:
    """Follow the gradient flow dθ/dt = -rate · ∂(objective)/∂θ to t_end.

    For ReLU and leaky ReLU crossings, where a neuron's hyperplane passes a sample and the field jumps, are located
    rather than stepped over. Where the field points back to the hyperplane from both sides the neuron stays on it
    (it slides), as Filippov's solution does; where it points away from both, it goes to the inactive side.

    Parameters
    ----------
    net : TwoLayerNet
        Where to start; not changed.
    data : Dataset
        Training data, of the network's dtype and dimension; the split "train" of the history.
    loss : {"logistic", "exponential", "hinge", "squared"} or Loss
        Per-sample loss.
    t_end : float
        Where to stop, at least 0. Step k of `descend` with step size η is at t = ηk.
    method : {"auto", "event", "tsit5", "euler", "heun", "rk4"}
        "event" is the event-resolved integrator: ReLU and leaky ReLU, any loss but the hinge. "tsit5" (Tsitouras
        5(4)) controls its error on smooth problems; it steps over kinks, and there the error is about √rtol.
        "euler" (the same bits as `descend`), "heun" and "rk4" take steps of `step_size`. "auto" is "event" where that
        applies, else "tsit5".
    rtol : float
        Relative error. Of "event": each step may move the weights astray by rtol times the most that the residuals
        could have changed them (relative to their norm, and never more than rtol); the error at the end is then of
        the order of rtol. Of "tsit5": of each weight and step.
    atol : float, optional
        Absolute error. Of "event" a rate: the relative change of the weights per unit of time that does not
        matter. Of "tsit5": of each weight and step. Default rtol/1000.
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
        Keep crossings and slidings in `run.events`: the first million, or the first so many.
    loss_target : float, optional
        Stop where the training loss (without penalties) comes down to this.
    gradient_target : float, optional
        Stop once, after a step, the Euclidean norm of the objective's gradient, over the layers that move, is at
        most this. A neuron that slides has the gradient that it moves by.
    max_steps : int
        Stop after so many accepted steps of this call.
    wall_time : float, optional
        Stop after this many seconds.
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
    Interrupted
        On Ctrl-C; `.run` has all that was recorded. The unfinished step is dropped.
    ObserverError
        If a Python observable raises; `.run` has all that was recorded before.

    Notes
    -----
    On a step the residuals are polynomials of time. Given those, every neuron is carried from one of its own events
    to the next by its power series, to rounding; what the neurons give makes better polynomials, until both agree.
    docs/derivations.md has the formulas.

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
    check_net(net)
    net = net.absorbed()
    loss = losses.get(loss)
    method = _method(choice("method", method, METHODS), net, loss)
    if (step_size is None) == (method in FIXED):
        raise ValueError(
            f"step_size={step_size!r} with method={method!r}: "
            + ("give the length of its steps" if step_size is None else "it chooses its own steps")
        )
    splits = _splits(net, data, evaluate, loss)
    observed = _observed(observe, net, splits)
    rates = _rates(train, layer_rates)
    least = LEAST_RTOL[str(net.dtype)]
    rtol = real("rtol", rtol, least=least)
    settings = {
        "dynamics": "flow",
        "loss": loss.name,
        "reduction": choice("reduction", reduction, REDUCTIONS),
        "weight_decay": real("weight_decay", weight_decay, least=0.0),
        "output_penalty": real("output_penalty", output_penalty, least=0.0),
        "t_end": real("t_end", t_end, least=0.0),
        "method": method,
        "rtol": rtol,
        "atol": rtol / 1000 if atol is None else real("atol", atol, least=0.0),
        "fixed_step": 0.0 if step_size is None else real("step_size", step_size, above=0.0),
        "rate_W": rates[0],
        "rate_a": rates[1],
        "splits": list(splits),
        "data_sha256": [split.sha256() for split in splits.values()],
        "net_sha256": net.sha256(),
        "provenance": [_plain(split.provenance) for split in splits.values()],
    }
    if not isinstance(events, bool):
        events = integer("events", events, least=0, most=2**40)
    state = State(State.VERSION, "primal", 0, {"balance": observables.balance(net)})
    return _drive(
        _Segment(
            net,
            state,
            splits,
            observed,
            settings,
            _recording(record),
            _Stops.of(loss_target, gradient_target, wall_time),
            integer("max_steps", max_steps, least=1, most=2**62),
            2**20 * events if isinstance(events, bool) else events,
        ),
        resolve_threads(num_threads),
        progress,
        choice("on_interrupt", on_interrupt, ("raise", "return")),
        earlier=None,
    )


@dataclass(frozen=True, eq=False)
class _Segment:
    """One call of the core: from where `earlier` stands to settings["t_end"]."""

    net: TwoLayerNet
    state: State
    splits: Mapping[str, Dataset]
    observed: tuple[Observable, ...]
    settings: Mapping[str, Any]
    record: Recording
    stops: _Stops
    max_steps: int
    max_events: int


COUNTS = ("accepted", "rejected", "evaluations", "crossings", "slidings")


def _drive(
    segment: _Segment, num_threads: int, progress: bool, on_interrupt: str, earlier: Run | None
) -> Run:
    """Run the core over a segment and wrap what comes back."""
    net, settings = segment.net, segment.settings
    start = 0.0 if earlier is None else earlier.outcome.time
    end = settings["t_end"]
    times = segment.record.times(end)
    before = None if earlier is None else earlier.complete_rows()
    if before is not None and before.times is not None:
        # A row that an observable failed to give at `start` is still to come.
        times = times[times >= start]
        if before.times.size:
            times = times[times > before.times[-1]]
    columns = Columns(
        segment.observed,
        net,
        segment.splits,
        rows=len(times) + 1,
        earlier=None if before is None else before.columns,
    )
    W, a = net.W.copy(), net.a.copy()
    sigma = net.activation

    def on_row(row: int, _position: int, now_W: Any, now_a: Any) -> None:
        columns.on_row(row, TwoLayerNet(now_W, now_a, sigma, copy=False))

    arrays = dict(segment.state.arrays)
    balance = arrays.pop("balance")
    began = clock.perf_counter()
    with Bar(progress, 0, _PARTS) as bar:
        result = core.flow(
            W,
            a,
            sigma.name,
            sigma.slope,
            [split_tuple(data) for data in segment.splits.values()],
            (
                settings["loss"],
                settings["reduction"] == "mean",
                settings["weight_decay"],
                settings["output_penalty"],
            ),
            balance,
            settings["method"],
            (
                start,
                end,
                settings["rtol"],
                settings["atol"],
                settings["fixed_step"],
                settings["rate_W"],
                settings["rate_a"],
                segment.stops.loss,
                segment.stops.gradient,
                segment.stops.seconds,
                segment.max_steps,
                segment.max_events,
            ),
            times,
            columns.native(),
            arrays or None,
            on_row if columns.has_functions else None,
            bar.update,
            num_threads,
        )
        bar.close_at(_PARTS)
    seconds = clock.perf_counter() - began

    rows = len(result["times"])
    new = Rows(
        np.arange(rows, dtype=np.int64),
        {name: array[:rows] for name, array in columns.arrays.items()},
        result["times"],
    )
    kept = new if before is None else before.followed_by(new)
    status, error, time = result["status"], result["error"], result["time"]
    if status == "observer_failed" and not isinstance(error, Exception):
        status = "interrupted"  # Ctrl-C while a Python observable ran
    counts = dict(zip(COUNTS, result["counts"], strict=True))
    drift = result["drift"]
    found: dict[str, NDArray[Any]] | None = None
    if segment.max_events:
        found = dict(zip(("time", "neuron", "sample", "kind"), result["events"], strict=True))
    if earlier is not None:
        counts = {name: count + earlier.outcome.counts[name] for name, count in counts.items()}
        drift = max(drift, earlier.outcome.drift or 0.0)
        if found is not None and earlier.found is not None:
            found = {
                name: np.concatenate([earlier.found[name], array]) for name, array in found.items()
            }
    state = result["state"]
    begun = settings["method"] != "event" or state["sides"].size > 0
    build = core.build_info()
    run = Run(
        net=TwoLayerNet(W, a, sigma, copy=False),
        outcome=Outcome(
            status=status,
            message=_message(status, time, segment),
            time=time,
            counts={**counts, "records": len(kept.steps)},
            form="primal",
            isa=build["isa"],
            dtype=str(net.dtype),
            version=build["version"],
            num_threads=result["num_threads"],
            seconds=seconds + (earlier.outcome.seconds if earlier is not None else 0.0),
            drift=drift if sigma.homogeneous else None,
        ),
        settings=settings,
        # A run that was stopped before it began has nothing to go on from but its network.
        state=State(
            State.VERSION,
            "primal",
            0,
            {"balance": balance, **(state if begun else {})},
        ),
        rows=kept,
        observed=segment.observed,
        splits=segment.splits,
        unrecorded=status == "interrupted",
        found=found,
    )
    if status == "observer_failed":
        raise ObserverError(run) from error
    if status == "interrupted":
        if error is not None and not isinstance(error, KeyboardInterrupt):
            # A signal handler or a progress bar raised something of its own: let it through, with the run.
            error.run = run
            raise error
        if on_interrupt == "raise":
            raise Interrupted(run) from error
    return run


def continue_flow(
    run: Run,
    t_end: float | None,
    data: Dataset | None,
    evaluate: Mapping[str, Dataset] | None,
    *,
    observe: Iterable[str | Observable | Function] | None = None,
    record: Recording | None = None,
    events: bool | int = False,
    loss_target: float | None = None,
    gradient_target: float | None = None,
    max_steps: int = 1_000_000,
    wall_time: float | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    on_interrupt: str = "raise",
) -> Run:
    """Continue a flow; see `Run.continue_`."""
    if run.state.version != State.VERSION:
        raise ValueError(
            f"the state has version {run.state.version} and this featcore continues version {State.VERSION}; "
            "continue it with the featcore that wrote it, or start a new run from run.net"
        )
    settings = dict(run.settings)
    splits = _same_splits(run, data, evaluate)
    observed = run.observed if observe is None else _observed(observe, run.net, splits)
    if {o.name for o in observed} != {o.name for o in run.observed}:
        raise ValueError(
            f"observe has {[o.name for o in observed]}; a continued run records what it recorded "
            f"before: {[o.name for o in run.observed]}"
        )
    lost = [o.name for o in observed if o.kind is None and o.function is None]
    if lost:
        raise ValueError(
            f"observe: Python observables {lost} are not stored in a file; pass observe="
        )
    if t_end is not None:
        settings["t_end"] = real("t_end", t_end, least=run.outcome.time)
    if not isinstance(events, bool):
        events = integer("events", events, least=0, most=2**40)
    return _drive(
        _Segment(
            run.net,
            run.state,
            splits,
            observed,
            settings,
            _recording(record),
            _Stops.of(loss_target, gradient_target, wall_time),
            integer("max_steps", max_steps, least=1, most=2**62),
            2**20 * events if isinstance(events, bool) else events,
        ),
        resolve_threads(num_threads),
        progress,
        choice("on_interrupt", on_interrupt, ("raise", "return")),
        earlier=run,
    )


def _method(method: str, net: TwoLayerNet, loss: Loss) -> str:
    """Return the method that is meant, if it can follow the flow."""
    resolvable = net.activation.homogeneous and loss.name != "hinge"
    if method == "auto":
        return "event" if resolvable else "tsit5"
    if method == "event" and not resolvable:
        raise ValueError(
            f"method='event' takes ReLU() or LeakyReLU(slope) and a loss whose residuals do not jump, not "
            f"{net.activation.name!r} with {loss.name!r}; use method='tsit5'"
        )
    return method


def _message(status: str, time: float, segment: _Segment) -> str:
    at = f"t = {time:.6g}"
    stops = segment.stops
    return {
        "reached_end": f"The flow was followed to {at}.",
        "stationary": f"The gradient norm is at most {stops.gradient:g} at {at}: nothing moves any more. "
        "Lower gradient_target to go on.",
        "loss_target": f"The training loss is down to {stops.loss:g} at {at}. Lower loss_target to go on.",
        "max_steps": f"{segment.max_steps} steps were taken, to {at}. Continue with run.continue_(), or raise rtol.",
        "wall_time": f"The wall time of {stops.seconds:g} s was over at {at}. Continue with run.continue_().",
        "step_underflow": f"At {at} no step is short enough for rtol={segment.settings['rtol']:g}. "
        "Raise rtol or atol, or use float64.",
        "non_finite": f"The outputs after {at} are not finite; the network is the last finite one. "
        "Start from smaller weights, or scale the data down.",
        "interrupted": f"Interrupted at {at}; the unfinished step was dropped. Continue with run.continue_().",
        "observer_failed": f"A Python observable raised at {at}; what was recorded before is kept.",
    }[status]
