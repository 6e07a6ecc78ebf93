"""The paper's two-dimensional cases (figures 6 to 9) at its own step size and initial scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import featcore as fc
from featcore.experiments.alignment.histories import (
    class_sum_norm,
    fall,
    largest_rank,
    loss_at,
    schedule,
    stack,
    to_class_sums,
)
from featcore.experiments.alignment.settings import EARLY, LATE, SCALE, WIDTH, Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Animation, Figure, Progress
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

# Figures 7 to 9: the angle between the second point and the axis across the first, and the paper's losses at
# iterations 7000 and 21000, read in its figures.
TWO_POINTS = {
    "figure-7": (0.1, 9.93e-1, 7.49e-3),
    "figure-8": (0.001, 9.97e-1, 8.35e-3),
    "figure-9": (0.0, 9.99e-1, 8.58e-3),
}
FAN_LATE_LOSS, FAN_PLATEAU = 5.31e-2, 0.39
PLATEAU_AT = 14000
FRAMES = 60


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    stated: list[Claim] = []
    for case, (_, early, late) in TWO_POINTS.items():
        figure = case.replace("-", " ")
        stated += [
            Claim(
                key=f"{case}-{name}",
                sentence=f"Two points as in {figure}: the loss at iteration {step} is the paper's.",
                source="paper",
                reference=f"{figure}, one run; {share:.0%} allowed",
                predicted=loss,
                relation="equal",
                bias=share * loss,
                resolution=share * loss,
            )
            for name, step, loss, share in (
                ("early", EARLY, early, 0.01),
                ("late", LATE, late, 0.03),
            )
        ]
    angle = TWO_POINTS["figure-7"][0]
    drop = theory.drop_time(2, class_sum_norm(fc.data.two_points(angle)), SCALE)
    stated += [
        Claim(
            key="figure-7-cone",
            sentence=f"Two points as in figure 7: at iteration {LATE} all live neurons with a positive head are in "
            "S₊ (share).",
            source="paper",
            reference="figure 7, its last snapshot; one neuron in a hundred allowed",
            predicted=1.0,
            relation="at_least",
            bias=0.01,
            resolution=0.02,
        ),
        Claim(
            key="figure-8-cone",
            sentence=f"Two points as in figure 8: at iteration {EARLY} some live neurons with a positive head are "
            "still along one point, outside S₊ (share inside).",
            source="paper",
            reference="figure 8, its second snapshot; that it is one in twenty at least is ours",
            predicted=0.95,
            relation="at_most",
            bias=0.0,
            resolution=0.1,
        ),
        Claim(
            key="drop-time",
            sentence="Two points as in figure 7: the loss falls below 0.7 at the time n·ln(w*/α)/|x₊|.",
            source="calibrated",
            reference="the form is derived in docs/derivations.md; its w* = 0.175 was calibrated on this case",
            predicted=drop,
            relation="equal",
            bias=0.1 * drop,
            resolution=0.05 * drop,
            unit="time",
        ),
        Claim(
            key="late-slope",
            sentence="Two points as in figure 7: at the end the loss falls at least as fast as 1/t: "
            "d log L/d log t over the last fifth of the time is at most -1.",
            source="paper",
            reference="abstract and theorem 1; two-homogeneous networks fall as 1/(t log t) in the end",
            predicted=-1.0,
            relation="at_most",
            bias=0.0,
            resolution=0.1,
        ),
        Claim(
            key="fan-late",
            sentence=f"16 positive and 9 negative unit vectors as in figure 6: the loss at iteration {LATE}.",
            source="paper",
            reference="figure 6, one run; 10 % allowed, since the counts and angles are read off the figure",
            predicted=FAN_LATE_LOSS,
            relation="equal",
            bias=0.1 * FAN_LATE_LOSS,
            resolution=0.1 * FAN_LATE_LOSS,
        ),
        Claim(
            key="fan-plateau",
            sentence=f"The same at iteration {PLATEAU_AT}, between its two drops: the positive class is fitted, the "
            "negative one not yet.",
            source="paper",
            reference="figure 6: a plateau near 0.39, read off the figure; 5 % allowed",
            predicted=FAN_PLATEAU,
            relation="equal",
            bias=0.05 * FAN_PLATEAU,
            resolution=0.05 * FAN_PLATEAU,
        ),
        Claim(
            key="fan-rank",
            sentence="The same: after the loss has fallen below 0.9 the stable rank of W stays at most 2.",
            source="paper",
            reference="theorem 1, part 2: limsup of the stable rank at most 2",
            predicted=2.0,
            relation="at_most",
            bias=0.01,
            resolution=0.05,
        ),
    ]
    return stated


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Train a network a seed and case."""
    samples: dict[str, list[float]] = {}
    data: dict[str, xr.Dataset] = {}
    for case, (angle, _, _) in TWO_POINTS.items():
        progress.stage(f"two points, {case}", len(seeds))
        runs = _two_points(settings, angle, seeds)
        progress.advance(len(seeds))
        samples[f"{case}-early"] = [loss_at(history, EARLY) for history in runs]
        samples[f"{case}-late"] = [loss_at(history, LATE) for history in runs]
        if case == "figure-7":
            samples["drop-time"] = [fall(history, 0.7) for history in runs]
            samples["late-slope"] = [_late_slope(history) for history in runs]
        data[case] = stack(runs, seeds)
    for case, step in (("figure-7", LATE), ("figure-8", EARLY)):
        shares = data[case]["in_S_plus"].transpose("seed", "time").values
        samples[f"{case}-cone"] = shares[:, data[case]["step"].values == step].ravel().tolist()

    progress.stage("a fan of points, figure-6", len(seeds))
    fans = _fans(settings, seeds)
    progress.advance(len(seeds))
    samples["fan-late"] = [loss_at(history, LATE) for history in fans]
    samples["fan-plateau"] = [loss_at(history, PLATEAU_AT) for history in fans]
    samples["fan-rank"] = [largest_rank(history, fall(history, 0.9)) for history in fans]
    data["figure-6"] = stack(fans, seeds)

    toys = _snapshots(settings, int(seeds[0]))
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "toy-losses",
                "Loss of the two-dimensional cases",
                "Mean exponential loss against iterations, a thin line a seed; crosses: what figures 6 to 9 say "
                "at iterations 7000 and 21000. Dashed: the share of live neurons with a positive head that are in "
                "S₊, mean over seeds (right axis).",
                lambda: _draw_losses(data),
            ),
            Figure(
                "toy-neurons",
                "Neurons in the plane",
                "Directions of the neurons (short lines, blue for a positive head, orange for a negative one; opaque "
                "where the norm is large) among the samples (dots), at the iterations of the paper's snapshots. First "
                "seed.",
                lambda: _draw_neurons(toys),
            ),
            Animation(
                "neurons",
                "Neurons turn, then grow",
                f"Figure 6, first seed: neurons (blue: positive head) turn to the sums of their classes while the loss "
                f"stays at 1, up to iteration {LATE}; beside, the loss against time.",
                lambda path: _film(settings, int(seeds[0]), path),
            ),
        ],
        data=data,
        notes=[
            "Figure 6 gives neither the number of its points nor their angles; 16 and 9 were found to match.",
            _premises(int(seeds[0])),
        ],
    )


def network(dim: int, seed: int) -> fc.TwoLayerNet:
    """Return the paper's start: all weights normal, of one standard deviation."""
    return fc.TwoLayerNet.gaussian(WIDTH, dim, SCALE, head="gaussian", seed=seed)


def in_s_plus(net: fc.TwoLayerNet, data: fc.Dataset) -> float:
    """Return the share of live neurons with a positive head that are in S_plus; NaN without any."""
    codes = theory.cone_membership(net.W, data.x, data.y)[net.a > 0]
    live = codes != theory.Cone.S_DEAD
    return float((codes[live] == theory.Cone.S_PLUS).mean()) if live.any() else float("nan")


def _two_points(s: Settings, angle: float, seeds: Sequence[int]) -> list[xr.Dataset]:
    runs = fc.ensemble(
        [network(2, seed) for seed in seeds],
        fc.data.two_points(angle),
        "exponential",
        step_size=s.step_size,
        steps=LATE,
        observe=[
            "loss",
            "log_loss",
            "stable_rank",
            fc.observables.custom(in_s_plus, name="in_S_plus"),
        ],
        record=schedule(LATE, EARLY),
    )
    return [run.history for run in runs]


def _fans(s: Settings, seeds: Sequence[int]) -> list[xr.Dataset]:
    data = [fc.data.fan(seed=seed) for seed in seeds]
    cone = fc.observables.custom(in_s_plus, name="in_S_plus")
    runs = fc.ensemble(
        [network(2, seed) for seed in seeds],
        data,
        "exponential",
        step_size=s.step_size,
        steps=2 * LATE,
        observe=[["loss", "stable_rank", to_class_sums(fan), cone] for fan in data],
        record=schedule(2 * LATE, EARLY, PLATEAU_AT, LATE),
    )
    return [run.history for run in runs]


def _premises(seed: int) -> str:
    """Return what the paper's theorem asks of the start of figure 6."""
    data, net = fc.data.fan(seed=seed), network(2, seed)
    bounds = theory.bounds(data.x, data.y, net.W / SCALE, np.sign(net.a), math.log(SCALE))
    needed = bounds.log_scale_needed.value / math.log(10)
    return (
        f"Theorem 1 asks for balanced starts of scale 10^{needed:.0f} at most in figure 6 (first seed, separability "
        f"{bounds.mu:.2f}), not for {SCALE:g}: that neurons align there is an observation, not its consequence. The "
        "parts that follow flows go to such scales."
    )


def _late_slope(history: xr.Dataset) -> float:
    """Return d log L/d log t over the last fifth of the time."""
    times = history["time"].values
    late = times >= 0.8 * times[-1]
    log_loss = history["log_loss"].sel(split="train").values[late]
    return float(np.polyfit(np.log(times[late]), log_loss, 1)[0])


def _film(s: Settings, seed: int, path: Path) -> None:
    from featcore.report.animation import animate_neurons

    data = fc.data.fan(seed=seed)
    run = fc.descend(
        network(2, seed),
        data,
        "exponential",
        step_size=s.step_size,
        steps=LATE,
        observe=["weights", "head", "loss"],
        record=fc.Recording.linear(FRAMES - 1),
    )
    animate_neurons(run.history, data, path)


@dataclass(frozen=True, eq=False)
class _Toys:
    """Networks of the two-dimensional cases at the iterations of the paper's snapshots."""

    data: Mapping[str, fc.Dataset]
    nets: Mapping[str, Mapping[int, fc.TwoLayerNet]]


def _snapshots(s: Settings, seed: int) -> _Toys:
    data = {"figure-6": fc.data.fan(seed=seed)} | {
        case: fc.data.two_points(angle) for case, (angle, _, _) in TWO_POINTS.items()
    }
    nets: dict[str, dict[int, fc.TwoLayerNet]] = {}
    for case, points in data.items():
        start = fc.descend(network(2, seed), points, "exponential", step_size=s.step_size, steps=0)
        early = start.continue_(EARLY)
        nets[case] = {0: start.net, EARLY: early.net, LATE: early.continue_(LATE - EARLY).net}
    return _Toys(data, nets)


def _draw_losses(data: Mapping[str, xr.Dataset]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.2))
    marks = {"figure-6": (1.0, FAN_LATE_LOSS)} | {
        case: (early, late) for case, (_, early, late) in TWO_POINTS.items()
    }
    for axes, (case, paper) in zip(canvas.subplots(1, 4, sharey=True), marks.items(), strict=True):
        history = data[case]
        for line in history["loss"].sel(split="train").transpose("seed", "time").values:
            axes.plot(history["step"].values, line, color="C0", lw=0.6, alpha=0.7)
        beside = axes.twinx()
        share = history["in_S_plus"].mean("seed")
        beside.plot(history["step"].values, share, color="black", lw=0.9, ls="--")
        beside.set(ylim=(0, 1.02), yticks=[0, 1])
        beside.grid(False)
        axes.plot([EARLY, LATE], paper, "x", color="C1", ms=7, mew=2, label="paper")
        axes.set(
            yscale="log", title=case.replace("-", " "), xlabel="iteration", xticks=[0, EARLY, LATE]
        )
    canvas.axes[0].set_ylabel("mean exponential loss")
    canvas.axes[0].legend()
    return canvas


def _draw_neurons(toys: _Toys) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 8.6))
    grid = canvas.subplots(len(toys.nets), 3)
    for row, (case, nets) in zip(grid, toys.nets.items(), strict=True):
        points = toys.data[case]
        for axes, (step, net) in zip(row, nets.items(), strict=True):
            norms = np.linalg.norm(net.W, axis=1)
            for w, a, norm in zip(net.W, net.a, norms, strict=True):
                end = 1.25 * w / norm
                shade = 0.15 + 0.85 * norm / norms.max()
                axes.plot(
                    [0, end[0]], [0, end[1]], color="C0" if a > 0 else "C1", lw=1.1, alpha=shade
                )
            for label, marker in ((1, "o"), (-1, "s")):
                chosen = points.x[points.y == label]
                axes.plot(*chosen.T, marker, ms=5, mfc="C2" if label > 0 else "C3", mec="white")
            axes.set(aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), xticks=[], yticks=[])
            axes.grid(False)
            axes.set_title(f"{case.replace('-', ' ')}, iteration {step}")
    return canvas
