"""`measure`: one step of featcore against the multiply-add rate and against its peers."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import numpy as np

from featcore._dispatch import core, resolve_threads
from featcore._validation import choice, integer, real
from featcore.benchmark import surroundings
from featcore.benchmark.problem import DTYPES, SHAPES, Problem, Shape
from featcore.benchmark.process import RunnerProcess
from featcore.benchmark.report import Peer, Report, Result
from featcore.benchmark.runners import PEERS

# Results must be equal before they are timed: |difference of (W, a)| over |(W, a)| after a few steps. In float32 a
# pre-activation within rounding of 0 falls on either side of the kink, and its neuron then moves otherwise by a term
# of its gradient: a hundredth of the neurons, and at least one, are held to the looser bound only.
_STEPS_COMPARED = 3
_TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
_TOLERANCE_AT_KINKS = 1e-3

_FEWEST_STEPS = 3
_MOST_STEPS = 10**6

# Threads that have done their work spin for a while before they sleep, OpenBLAS' longest: some 30 ms.
_PAUSE = 0.05  # seconds


class DisagreementError(RuntimeError):
    """A peer's weights after a few steps are not those of featcore: times would compare nothing."""


def fma_rate(
    dtype: str = "float64", *, num_threads: int | None = None, seconds: float = 0.1
) -> float:
    """Return how many floating-point operations a second this machine does in registers alone.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of the numbers.
    num_threads : int, optional
        Threads that compute at once; default: what affinity and control group allow.
    seconds : float
        How long, at most 10.

    Returns
    -------
    float
        flop/s, summed over threads, with the vectors of the instruction set in use; a multiply-add
        counts as two, also where it takes two instructions.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.benchmark.fma_rate("float32", seconds=0.001) > 1e6
    True
    """
    return core.fma_rate(
        choice("dtype", dtype, DTYPES),
        resolve_threads(num_threads),
        checked_seconds(seconds),
    )


def measure(
    shapes: Sequence[Shape] = SHAPES,
    dtypes: Sequence[str] = DTYPES,
    peers: Sequence[str] = PEERS,
    *,
    num_threads: int | None = None,
    seconds: float = 0.2,
    repeats: int = 9,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Time a step of gradient descent, and compare it with the machine's limit and with other libraries.

    Parameters
    ----------
    shapes : sequence of Shape
        Problems.
    dtypes : sequence of {"float32", "float64"}
        Each shape is measured in each.
    peers : sequence of {"numpy", "torch", "jax"}
        Libraries to compare with. One that is not installed, or for whose n×m matrices there is not
        enough memory, is skipped, and the report says why.
    num_threads : int, optional
        Threads, and processors, of every library; default: what affinity and control group allow.
    seconds : float
        How long a library computes at a turn, about; at most 10. At least 3 steps are made.
    repeats : int
        Turns of each library; they alternate.
    progress : callable, optional
        Called with a line of text for each problem.

    Returns
    -------
    Report
        A `Result` for each shape and dtype.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.
    MemoryError
        Before anything is made, with the number, if a problem needs more memory than there is.
    DisagreementError
        If a peer computes something else.
    RuntimeError
        If a library fails.

    Notes
    -----
    A turn is a run of 1 step, not timed, which wakes threads and fills caches; the faster of two more of 1
    step; and one of 1 + k steps. The difference of the last two over k is the time of a step: checks
    of arguments, the start of threads and the last evaluation of the loss drop out. k is chosen once
    a problem, for each library, so that k steps last about `seconds`. Then come 50 ms of rest, for
    threads that still spin. Ratios and fractions are taken within a round, and medians over rounds,
    for clocks and neighbours change from one minute to the next. docs/benchmarks.md says more.

    Examples
    --------
    >>> import featcore as fc
    >>> bench = fc.benchmark
    >>> report = bench.measure([bench.Shape(40, 5, 30)], ["float64"], ["numpy"], seconds=0.001, repeats=1)
    >>> report.results[0].seconds > 0
    True
    """
    shapes = checked_shapes("shapes", shapes)
    dtypes = checked_choices("dtypes", dtypes, DTYPES)
    peers = checked_choices("peers", peers, PEERS, empty=True)
    threads = resolve_threads(num_threads)
    seconds = checked_seconds(seconds)
    repeats = integer("repeats", repeats, least=1)
    for shape in shapes:
        for dtype in dtypes:
            surroundings.refuse_what_does_not_fit(Problem(shape, dtype))
    before = surroundings.load()
    vectors: dict[str, str] = {}
    results = []
    for shape in shapes:
        for dtype in dtypes:
            problem = Problem(shape, dtype)
            if progress is not None:
                progress(str(problem))
            results.append(_compare(problem, peers, threads, seconds, repeats, vectors))
    return Report(
        environment=surroundings.describe(peers, threads, vectors, before),
        results=tuple(results),
    )


def _compare(
    problem: Problem,
    peers: Sequence[str],
    threads: int,
    seconds: float,
    repeats: int,
    vectors: dict[str, str],
) -> Result:
    """Return the result of one problem; what libraries say of their vectors goes to `vectors`."""
    skipped = {name: why for name in peers if (why := _obstacle(name, problem)) is not None}
    with ExitStack() as stack:
        runners = {}
        for name in ("featcore", *(peer for peer in peers if peer not in skipped)):
            runners[name] = stack.enter_context(RunnerProcess(name, problem, threads))
            vectors.setdefault(name, runners[name].vectors)
        differences = _differences(runners, problem)
        steps = {name: steps_for(runner, seconds) for name, runner in runners.items()}
        rounds: dict[str, list[float]] = {name: [] for name in runners}
        rates = []
        for turn in range(repeats):
            rates.append(runners["featcore"].fma_rate(min(seconds, 0.05)))
            for name in rotated(list(runners), turn):
                rounds[name].append(seconds_a_step(runners[name], steps[name]))
    ours = rounds["featcore"]
    return Result(
        shape=problem.shape,
        dtype=problem.dtype,
        form=runners["featcore"].form,
        steps=steps["featcore"],
        seconds=median(ours),
        rounds=tuple(ours),
        fma_rate=median(rates),
        fraction=median(
            problem.shape.flops / (time_ * rate) for time_, rate in zip(ours, rates, strict=True)
        ),
        peers={
            name: Peer(
                steps=steps[name],
                seconds=median(rounds[name]),
                rounds=tuple(rounds[name]),
                ratio=median(theirs / own for theirs, own in zip(rounds[name], ours, strict=True)),
                difference=difference,
            )
            for name, difference in differences.items()
        },
        skipped=skipped,
    )


def seconds_a_step(runner: RunnerProcess, steps: int) -> float:
    """Return the time of one step by a turn of `runner`, as the notes of `measure` say."""
    runner.seconds(1)
    one = min(runner.seconds(1), runner.seconds(1))
    many = runner.seconds(1 + steps)
    time.sleep(_PAUSE)
    return max(many - one, 1e-9) / steps  # what is too short to time is no reason to divide by 0


def steps_for(runner: RunnerProcess, seconds: float) -> int:
    """Return how many steps last about `seconds`, at least 3."""
    runner.seconds(1)  # compiles, where that is done at the first call
    steps = _FEWEST_STEPS
    while True:
        took = seconds_a_step(runner, steps) * steps
        if took >= seconds / 2 or steps == _MOST_STEPS:
            return min(max(round(steps * seconds / took), _FEWEST_STEPS), _MOST_STEPS)
        # few steps are timed badly: not straight to the number they tell
        steps = min(math.ceil(steps * min(seconds / took, 20.0)), _MOST_STEPS)


def _differences(runners: dict[str, RunnerProcess], problem: Problem) -> dict[str, float]:
    """Return how far each peer's weights are from featcore's, and raise if they are too far."""
    W, a = runners["featcore"].weights(_STEPS_COMPARED)
    norm = math.hypot(np.linalg.norm(W), np.linalg.norm(a))
    found = {}
    for name, runner in runners.items():
        if name == "featcore":
            continue
        other_W, other_a = runner.weights(_STEPS_COMPARED)
        apart = np.sort(np.hypot(np.linalg.norm(W - other_W, axis=1), a - other_a)) / norm
        at_kinks = math.ceil(0.01 * len(apart)) if problem.dtype == "float32" else 0
        difference = float(np.linalg.norm(apart[: len(apart) - at_kinks]))
        close = difference <= _TOLERANCES[problem.dtype]  # NaN is not, and is sorted last
        if not (close and np.linalg.norm(apart) <= _TOLERANCE_AT_KINKS):
            raise DisagreementError(
                f"{name} and featcore disagree at {problem}: after {_STEPS_COMPARED} steps their weights differ by "
                f"{difference:.1e} of their norm, more than {_TOLERANCES[problem.dtype]:.0e}; nothing was timed"
            )
        found[name] = difference
    return found


def _obstacle(peer: str, problem: Problem) -> str | None:
    """Return why `peer` cannot be measured, or None."""
    if importlib.util.find_spec(peer) is None:
        return "not installed"
    n, d, m = problem.shape.n, problem.shape.d, problem.shape.m
    needed = (3 * n * m + 2 * n * d + 6 * m * d) * np.dtype(problem.dtype).itemsize
    available = surroundings.available_memory()
    if available is not None and needed > available:
        return (
            f"needs {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are available"
        )
    return None


def rotated(items: Sequence[Any], by: int) -> list[Any]:
    """Return `items` beginning with another one, so that nobody always comes after the same."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def checked_shapes(name: str, shapes: Sequence[Shape]) -> list[Shape]:
    """Return `shapes`, each once; raise if one is no `Shape`."""
    shapes = distinct(name, shapes)
    for shape in shapes:
        if not isinstance(shape, Shape):
            raise TypeError(
                f"{name} has {shape!r}; it must have shapes such as Shape(1000, 50, 200)"
            )
    return shapes


def checked_choices(
    name: str, values: Sequence[str], allowed: Sequence[str], *, empty: bool = False
) -> list[str]:
    """Return `values`, each once; raise if one is not allowed."""
    return [choice(name, value, allowed) for value in distinct(name, values, empty=empty)]


def checked_seconds(seconds: float) -> float:
    """Return how long to compute at a time: some seconds at most."""
    return real("seconds", seconds, above=0.0, most=10.0)


def distinct(name: str, values: Sequence[Any], *, empty: bool = False) -> list[Any]:
    """Return `values` as a list, each once; raise if it is no list, or has nothing in it."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name}={values!r} must be a list")
    if not values and not empty:
        raise ValueError(f"{name} is empty; give at least one")
    return list(dict.fromkeys(values))
