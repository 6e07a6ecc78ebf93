"""What was measured: numbers, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from featcore.benchmark.problem import Shape


@dataclass(frozen=True)
class Peer:
    """Another library at one problem.

    Attributes
    ----------
    steps : int
        Steps of a turn.
    seconds : float
        Median time of a step.
    rounds : tuple of float
        The time of a step in each round.
    ratio : float
        Median over rounds of its time over featcore's in the same round.
    difference : float
        |difference of (W, a)| over |(W, a)|, against featcore after 3 steps; asserted before timing.
    """

    steps: int
    seconds: float
    rounds: tuple[float, ...] = field(repr=False)
    ratio: float
    difference: float


@dataclass(frozen=True)
class Result:
    """featcore and its peers at one shape and dtype.

    Attributes
    ----------
    shape : Shape
        n, d, m.
    dtype : str
        "float32" or "float64".
    form : str
        In which coordinates featcore iterated: "primal" or "gram".
    steps : int
        Steps of a turn of featcore.
    seconds : float
        Median time of a step of featcore.
    rounds : tuple of float
        The time of a step in each round.
    fma_rate : float
        Median multiply-add rate between the rounds, flop/s.
    fraction : float
        Median over rounds of (4·n·m·d flops / time of a step) / multiply-add rate. In Gram form it may
        be above 1.
    peers : mapping of str to Peer
        By name.
    skipped : mapping of str to str
        Why a peer was left out, by name.
    """

    shape: Shape
    dtype: str
    form: str
    steps: int
    seconds: float
    rounds: tuple[float, ...] = field(repr=False)
    fma_rate: float
    fraction: float
    peers: Mapping[str, Peer]
    skipped: Mapping[str, str]

    @property
    def flops(self) -> int:
        """Operations of a step, 4·n·m·d."""
        return self.shape.flops

    @property
    def form_flops(self) -> int:
        """Operations of the products that the form makes: 2·n²·m in Gram form, else 4·n·m·d."""
        return 2 * self.shape.n**2 * self.shape.m if self.form == "gram" else self.flops

    @property
    def form_fraction(self) -> float:
        """`fraction` with `form_flops`: above 1 where sums are looked up instead of multiplied."""
        return self.fraction * self.form_flops / self.flops

    @property
    def least_ratio(self) -> float | None:
        """The ratio of the fastest peer; None without peers."""
        return min((peer.ratio for peer in self.peers.values()), default=None)


@dataclass(frozen=True)
class Report:
    """What `measure` found.

    Attributes
    ----------
    environment : mapping
        CPU, load averages, threads, instruction sets, versions.
    results : tuple of Result
        One for each shape and dtype.
    """

    environment: Mapping[str, Any]
    results: tuple[Result, ...]

    def table(self) -> str:
        """Return a table in Markdown, under a few lines on where it was measured."""
        names = list(dict.fromkeys(name for each in self.results for name in _names(each)))
        head = ["n, d, m", "dtype", "featcore", "of FMA rate", *names, "difference"]
        rows = [[*_own_cells(each), *_peer_cells(each, names)] for each in self.results]
        notes = [
            f"{name} skipped at {result.shape} {result.dtype}: {why}"
            for result in self.results
            for name, why in result.skipped.items()
        ]
        return "\n".join([*_heading(self.environment), "", *_markdown(head, rows), *notes])

    def to_json(self) -> str:
        """Return everything, rounds included, as JSON; `from_json` reads it."""
        content = asdict(self)
        for each, result in zip(content["results"], self.results, strict=True):
            each["flops"], each["form_flops"] = result.flops, result.form_flops
            each["form_fraction"] = result.form_fraction
        return json.dumps({"kind": _STEPS_KIND, **content}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Return the report that `to_json` wrote.

        Raises
        ------
        ValueError
            If `text` is something else.
        """
        content = _content(text, _STEPS_KIND)
        results = []
        for each in content["results"]:
            for derived in ("flops", "form_flops", "form_fraction"):
                del each[derived]
            each["shape"] = Shape(**each["shape"])
            each["rounds"] = tuple(each["rounds"])
            each["peers"] = {
                name: Peer(**{**peer, "rounds": tuple(peer["rounds"])})
                for name, peer in each["peers"].items()
            }
            results.append(Result(**each))
        return cls(content["environment"], tuple(results))


@dataclass(frozen=True)
class Series:
    """The time of a step over one variable, the others fixed.

    Attributes
    ----------
    base : Shape
        The shape about which.
    dtype : str
        "float32" or "float64".
    variable : {"n", "d", "m", "threads"}
        What was varied.
    values : tuple of int
        Of the variable, increasing.
    seconds : tuple of float
        Median times of a step.
    exponent : float or None
        Slope of log seconds over log values by least squares; None for a single value.
    """

    base: Shape
    dtype: str
    variable: str
    values: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float | None


@dataclass(frozen=True)
class Growth:
    """What `growth` found.

    Attributes
    ----------
    environment : mapping
        As of `Report`.
    series : tuple of Series
        One for each base, dtype and variable.
    """

    environment: Mapping[str, Any]
    series: tuple[Series, ...]

    def table(self) -> str:
        """Return a table in Markdown, under a few lines on where it was measured."""
        head = ["about n, d, m", "dtype", "varied", "values", "ms a step", "exponent", "speed-up"]
        rows = [
            [
                str(each.base),
                each.dtype,
                each.variable,
                ", ".join(map(str, each.values)),
                ", ".join(map(_milliseconds, each.seconds)),
                "–" if each.exponent is None else f"{each.exponent:.2f}",
                f"{each.seconds[0] / each.seconds[-1]:.2f}" if each.variable == "threads" else "",
            ]
            for each in self.series
        ]
        return "\n".join([*_heading(self.environment), "", *_markdown(head, rows)])

    def to_json(self) -> str:
        """Return everything as JSON; `from_json` reads it."""
        return json.dumps({"kind": _GROWTH_KIND, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Growth:
        """Return the growth that `to_json` wrote.

        Raises
        ------
        ValueError
            If `text` is something else.
        """
        content = _content(text, _GROWTH_KIND)
        series = tuple(
            Series(
                base=Shape(**each["base"]),
                dtype=each["dtype"],
                variable=each["variable"],
                values=tuple(each["values"]),
                seconds=tuple(each["seconds"]),
                exponent=each["exponent"],
            )
            for each in content["series"]
        )
        return cls(content["environment"], series)


_QUIET = 0.5  # load average before the first run

_STEPS_KIND, _GROWTH_KIND = "featcore benchmark of steps, 1", "featcore benchmark of growth, 1"


def _content(text: str, kind: str) -> dict[str, Any]:
    content = json.loads(text)
    found = content.pop("kind", None) if isinstance(content, dict) else None
    if found != kind:
        said = "does not say what it is" if found is None else f"is a {found!r}"
        raise ValueError(f"this text {said}; it must be a {kind!r}, as `featcore bench` writes it")
    return dict(content)


def _names(result: Result) -> list[str]:
    return [*result.peers, *(name for name in result.skipped if name not in result.peers)]


def _own_cells(result: Result) -> list[str]:
    fraction = f"{100 * result.fraction:.0f} % of {result.fma_rate / 1e9:.0f} GF/s"
    if result.form_flops != result.flops:
        fraction += f"; {100 * result.form_fraction:.0f} % in {result.form} form"
    return [str(result.shape), result.dtype, f"{_milliseconds(result.seconds)} ms", fraction]


def _peer_cells(result: Result, names: Sequence[str]) -> list[str]:
    cells = []
    for name in names:
        peer = result.peers.get(name)
        cells.append(
            "–" if peer is None else f"{_milliseconds(peer.seconds)} ms, {peer.ratio:.2f}×"
        )
    largest = max((peer.difference for peer in result.peers.values()), default=None)
    return [*cells, "–" if largest is None else f"{largest:.0e}"]


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _heading(environment: Mapping[str, Any]) -> list[str]:
    """Return what times depend on, in a few lines."""
    before, after = (
        "?" if environment[key] is None else f"{environment[key]:.2f}"
        for key in ("load_before", "load_after")
    )
    libraries = []
    for name, version in environment["versions"].items():
        vectors = environment["vectors"].get(name)
        libraries.append(f"{name} {version}" + (f" ({vectors})" if vectors else ""))
    lines = [
        f"{environment['cpu']}, {environment['threads']} of {environment['processors']} processors, "
        f"load {before} before and {after} after, "
        f"{environment['time']}",
        "; ".join(libraries),
    ]
    if (environment["load_before"] or 0) > _QUIET:
        lines.append(
            "The machine was busy: libraries that wait for all of their threads suffer most; measure again."
        )
    return lines


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, ["-" * width for width in widths], *rows)
    ]
