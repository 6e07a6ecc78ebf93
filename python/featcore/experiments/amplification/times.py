"""Amplification times over a grid in d, m, σ, η, α and ω, and the exponents fitted to them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.amplification.settings import Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import amplification as theory

if TYPE_CHECKING:
    import matplotlib.figure

LEVEL = 1 / math.sqrt(2)
"""Mean |cos| with the mean of their class at which neurons count as amplified."""

BASE: dict[str, Any] = {
    "d": 100,
    "width": 200,
    "scale": 1e-3,
    "step_size": 0.1,
    "label_noise": 0.15,
    "cluster_std": 0.01,
}
"""Where the power law's premises hold: tight clusters (σ√d well below 1, so that neurons tell clusters apart from the
start), and an output √(md)ω/4 at the amplification time that is far from saturation."""
FACTORS = (1.0, 2.0, 0.5, 4.0, 1.41, 2.83)
"""Of a parameter's value in `BASE`, the first `grid_points` of them."""
RATES = (0.0, 0.25, 0.35, 0.1, 0.3)
"""Values of η besides that of `BASE`."""


@dataclass(frozen=True)
class Point:
    """One setting of the grid; `axis` is the parameter in which it differs from `BASE`, if any."""

    axis: str
    d: int
    width: int
    scale: float
    step_size: float
    label_noise: float
    cluster_std: float

    @property
    def time(self) -> float:
        """The amplification time of `theory`."""
        arguments = {key: value for key, value in self.values.items() if key != "cluster_std"}
        return theory.amplification_time(**arguments)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters, by the names that `theory` has for them."""
        return {name: getattr(self, name) for name in _AXES}


@dataclass(frozen=True)
class _Axis:
    """A parameter, what of it the time is a power of, and of which power."""

    symbol: str
    exponent: float

    def base(self, name: str, value: float) -> float:
        return 1.0 - 2.0 * value if name == "label_noise" else value


_AXES = {
    "d": _Axis("d", 0.5),
    "width": _Axis("m", 0.5),
    "scale": _Axis("ω", 1.0),
    "step_size": _Axis("α", -1.0),
    "label_noise": _Axis("1 - 2η", -1.0),
    "cluster_std": _Axis("σ", 0.0),
}


def points(s: Settings) -> list[Point]:
    """Return the grid: `BASE`, and from there along each parameter."""
    grid = [Point("", **BASE)]
    for name in _AXES:
        if name == "label_noise":
            values: list[Any] = list(RATES[: s.grid_points - 1])
        else:
            values = [factor * BASE[name] for factor in FACTORS[1 : s.grid_points]]
            if name in ("d", "width"):
                values = [2 * round(value / 2) for value in values]  # an even width halves
        grid += [Point(name, **{**BASE, name: value}) for value in values]
    return grid


@functools.cache
def expected(point: Point) -> float:
    """Return when the mean field crosses `LEVEL`, between steps by interpolation."""
    steps = math.ceil(4.0 * point.time)
    return float(crossing(theory.mean_field(steps, **point.values).cos_mu1))


def crossing(cosine: NDArray[Any]) -> float:
    """Return the step at which a cosine, one value a step, first reaches `LEVEL`; NaN if it does not."""
    above = np.flatnonzero(cosine >= LEVEL)
    if not above.size or not above[0]:
        return float("nan")
    k = int(above[0])
    return float(k - 1 + (LEVEL - cosine[k - 1]) / (cosine[k] - cosine[k - 1]))


def slope(s: Settings, name: str, times: Mapping[Point, float]) -> float:
    """Return the exponent of a parameter: the least-squares slope of log time along its axis."""
    line = [point for point in points(s) if point.axis in ("", name)]
    base = [_AXES[name].base(name, getattr(point, name)) for point in line]
    return float(np.polyfit(np.log(base), np.log([times[point] for point in line]), 1)[0])


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    mean_field = {point: expected(point) for point in points(settings)}
    stated = []
    for name, axis in _AXES.items():
        better = slope(settings, name, mean_field)
        stated.append(
            Claim(
                key=f"exponent_{name}",
                sentence=f"The time in which neurons turn to their means goes as {axis.symbol} to the power "
                f"{axis.exponent:g}: √(md)·ω/(α(1-2η)).",
                source="derived",
                reference="docs/derivations.md; bias: what the mean field has along the same axis "
                f"({better:.3f}), and 0.03 for finite n and m",
                predicted=axis.exponent,
                relation="equal",
                bias=abs(better - axis.exponent) + 0.03,
                resolution=0.1,
            )
        )
    stated.append(
        Claim(
            key="times_mean_field",
            sentence="Over the whole grid neurons turn when the mean field does (geometric mean of the ratio).",
            source="derived",
            reference="docs/derivations.md, mean field; 5 % for finite n and m",
            predicted=1.0,
            relation="equal",
            bias=0.05,
            resolution=0.05,
        )
    )
    return stated


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Train a network a point and seed."""
    import xarray as xr

    few = list(seeds)[: settings.grid_seeds]
    grid = points(settings)
    times = np.full((len(few), len(grid)), np.nan)
    # A step size is one of a whole ensemble; every other parameter varies within.
    for step_size in dict.fromkeys(point.step_size for point in grid):
        columns = [k for k, point in enumerate(grid) if point.step_size == step_size]
        progress.stage(f"amplification times, α = {step_size:g}", len(columns) * len(few))
        times[:, columns] = _crossings(settings, [grid[k] for k in columns], few)
        progress.advance(len(columns) * len(few))
    each = [dict(zip(grid, row, strict=True)) for row in times]
    field = np.array([expected(point) for point in grid])
    samples = {
        f"exponent_{name}": [slope(settings, name, measured) for measured in each] for name in _AXES
    }
    samples["times_mean_field"] = np.exp(np.log(times / field).mean(axis=1)).tolist()
    data = xr.Dataset(
        {
            "time_measured": (("seed", "point"), times),
            "time_mean_field": ("point", field),
            "time_formula": ("point", [point.time for point in grid]),
            **{name: ("point", [getattr(point, name) for point in grid]) for name in _AXES},
        },
        coords={"seed": few, "axis": ("point", [point.axis or "base" for point in grid])},
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "amplification-times",
                "Amplification times",
                "Steps until the mean |cos| of neurons with the mean of their class is 1/√2, each parameter varied "
                f"by itself, against 8√(md)ω/(α(1-2η)) (dashed); {len(few)} seeds. Crosses: the mean field, which "
                "has the head start of the initial cosines and the slow start in wide clusters.",
                lambda: _draw(grid, times, field),
            )
        ],
        data={"amplification-times": data},
        notes=[
            f"Amplification times are of the first {len(few)} seeds, at {len(grid)} settings each."
        ],
    )


def _crossings(s: Settings, grid: Sequence[Point], seeds: Sequence[int]) -> NDArray[np.float64]:
    """Return the times, shape (seeds, points)."""
    members = [(k, seed, point) for k, seed in enumerate(seeds) for point in grid]
    places = {point: k for k, point in enumerate(points(s))}
    data = [
        fc.data.xor_clusters(
            s.n,
            point.d,
            point.cluster_std,
            point.label_noise,
            seed=child(seed, 2, places[point]),
            # near η = 1/2 the flips of a draw vary by as much as what they leave of the signal
            sizes="balanced",
            noise="exact",
        )
        for _, seed, point in members
    ]
    nets = [
        fc.TwoLayerNet.gaussian(
            point.width,
            point.d,
            point.scale,
            head="alternating",
            seed=child(seed, 2, places[point]),
        )
        for _, seed, point in members
    ]
    runs = fc.ensemble(
        nets,
        data,
        "logistic",
        step_size=grid[0].step_size,
        steps=math.ceil(1.5 * max(expected(point) for point in grid)) + 2,
        train=("W",),
        observe=[
            [fc.observables.alignment(np.eye(2, point.d), absolute=True, labels=["mu1", "mu2"])]
            for _, _, point in members
        ],
        record=fc.Recording.every(1),
    )
    cosine = runs.history["alignment"].sel(statistic="mean").values  # member, time, direction, sign
    useful = 0.5 * (cosine[:, :, 0, 0] + cosine[:, :, 1, 1])
    return np.array([crossing(line) for line in useful]).reshape(len(seeds), len(grid))


def _draw(
    grid: Sequence[Point], times: NDArray[np.float64], field: NDArray[np.float64]
) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(5.6, 4.0))
    axes = canvas.subplots()
    formula = np.array([point.time for point in grid])
    for k, (name, axis) in enumerate(_AXES.items()):
        chosen = [i for i, point in enumerate(grid) if point.axis == name]
        at = formula[chosen]
        axes.plot(
            np.tile(at, len(times)),
            times[:, chosen].ravel(),
            "o",
            color=f"C{k}",
            mfc="none",
            label=axis.symbol,
        )
        axes.plot(at, field[chosen], "x", color="black", ms=5, lw=0)
    ends = np.array([formula.min(), formula.max()])
    axes.plot(ends, ends, "--", color="black", lw=1)
    axes.set(
        xscale="log", yscale="log", xlabel="8√(md) ω/(α(1-2η))", ylabel="steps to mean |cos| = 1/√2"
    )
    ticks = [5, 10, 20, 50]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.set_yticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.legend(title="varied")
    return canvas
