"""`growth`: how the time of a step grows with samples, inputs, neurons and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

import numpy as np

from featcore._dispatch import resolve_threads
from featcore._validation import integer, real
from featcore.benchmark import surroundings
from featcore.benchmark.comparison import (
    checked_choices,
    checked_seconds,
    checked_shapes,
    distinct,
    rotated,
    seconds_a_step,
    steps_for,
)
from featcore.benchmark.problem import DTYPES, Problem, Shape
from featcore.benchmark.process import RunnerProcess
from featcore.benchmark.report import Growth, Series

GROWTH_BASES = (Shape(1000, 100, 1000),)
"""About which shapes `growth` measures by default."""


def growth(
    bases: Sequence[Shape] = GROWTH_BASES,
    dtypes: Sequence[str] = DTYPES,
    *,
    factors: Sequence[float] = (0.25, 0.5, 1, 2, 4),
    num_threads: int | None = None,
    seconds: float = 0.1,
    repeats: int = 5,
    progress: Callable[[str], None] | None = None,
) -> Growth:
    """Measure the exponents of cost: the time of a step is about n^α d^β m^γ threads^δ near a shape.

    Parameters
    ----------
    bases : sequence of Shape
        About which shapes; one of n, d, m is varied at a time.
    dtypes : sequence of {"float32", "float64"}
        Each shape is measured in each.
    factors : sequence of float
        On n, d and m; positive.
    num_threads : int, optional
        Threads at which shapes are varied, and the most of those tried (1, 2, 4, …); default: what
        affinity and control group allow.
    seconds : float
        How long a turn lasts, about; at most 10.
    repeats : int
        Turns of each point of a series; they alternate.
    progress : callable, optional
        Called with a line of text for each series.

    Returns
    -------
    Growth
        A `Series` for each shape, dtype and variable.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.
    RuntimeError
        If a run fails.

    Examples
    --------
    >>> import featcore as fc
    >>> bench = fc.benchmark
    >>> small = bench.Shape(20, 4, 10)
    >>> found = bench.growth([small], ["float64"], factors=[1, 2], num_threads=1, seconds=0.001, repeats=1)
    >>> [series.variable for series in found.series]
    ['n', 'd', 'm', 'threads']
    """
    bases = checked_shapes("bases", bases)
    dtypes = checked_choices("dtypes", dtypes, DTYPES)
    factors = [real("factors", factor, above=0.0) for factor in distinct("factors", factors)]
    threads = resolve_threads(num_threads)
    seconds = checked_seconds(seconds)
    repeats = integer("repeats", repeats, least=1)
    for base in bases:
        for dtype in dtypes:
            surroundings.refuse_what_does_not_fit(Problem(base, dtype))
            for variable in ("n", "d", "m"):
                most = max(_values(base, variable, factors, threads))
                shape = replace(base, **{variable: most})
                surroundings.refuse_what_does_not_fit(Problem(shape, dtype))
    before = surroundings.load()
    vectors: dict[str, str] = {}
    series = []
    for base in bases:
        for dtype in dtypes:
            for variable in ("n", "d", "m", "threads"):
                if progress is not None:
                    progress(f"{base} {dtype}, {variable} varied")
                values = _values(base, variable, factors, threads)
                times = _times(base, dtype, variable, values, threads, seconds, repeats, vectors)
                series.append(Series(base, dtype, variable, values, times, exponent(values, times)))
    return Growth(surroundings.describe([], threads, vectors, before), tuple(series))


def exponent(values: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Return the slope of log seconds over log values by least squares; None for a single point.

    Examples
    --------
    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    if len(values) < 2:
        return None
    slope, _ = np.polyfit(np.log(values), np.log(seconds), 1)
    return float(slope)


def _values(base: Shape, variable: str, factors: Sequence[float], threads: int) -> tuple[int, ...]:
    if variable == "threads":
        return tuple(sorted({*(2**k for k in range(threads.bit_length())), threads}))
    middle = getattr(base, variable)
    return tuple(sorted({max(1, round(middle * factor)) for factor in factors}))


def _times(
    base: Shape,
    dtype: str,
    variable: str,
    values: Sequence[int],
    threads: int,
    seconds: float,
    repeats: int,
    vectors: dict[str, str],
) -> tuple[float, ...]:
    """Return the median time of a step at each value."""
    with ExitStack() as stack:
        runners = []
        for value in values:
            shape = base if variable == "threads" else replace(base, **{variable: value})
            count = value if variable == "threads" else threads
            runner = RunnerProcess("featcore", Problem(shape, dtype), count)
            runners.append(stack.enter_context(runner))
            vectors.setdefault("featcore", runner.vectors)
        steps = [steps_for(runner, seconds) for runner in runners]
        rounds: list[list[float]] = [[] for _ in runners]
        for turn in range(repeats):
            for i in rotated(list(range(len(runners))), turn):
                rounds[i].append(seconds_a_step(runners[i], steps[i]))
    return tuple(map(median, rounds))
