"""Errors against n/d: double descent, with and without a step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import (
    QUADRATIC,
    RELU,
    Case,
    band,
    controlled,
    errors,
    start,
)
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress

if TYPE_CHECKING:
    import matplotlib.figure

DIM, WIDTH, ALPHA = 250, 300, 0.2
RATIOS = (0.5, 0.8, 1.2, 2.0, 4.0, 8.0)


def case(ratio: float) -> Case:
    """Return the case with n = ratio·d."""
    return Case(RELU, QUADRATIC, n=round(ratio * DIM), d=DIM, width=WIDTH, ridge=0.01, noise=0.3)


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    return [
        Claim(
            key=f"ratio-{name}",
            sentence=f"Test error {words}, n/d from {RATIOS[0]:g} to {RATIOS[-1]:g}: measured over predicted, on "
            "average.",
            source="derived",
            reference="docs/derivations.md, one gradient step; 5 % allowed for d = 250 and λ = 0.01",
            predicted=1.0,
            relation="equal",
            bias=0.05,
            resolution=0.1,
        )
        for name, words in (
            ("random", "of random features"),
            ("step", f"after a step of n^{ALPHA:g}"),
        )
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Run all n."""
    import xarray as xr

    few = list(seeds)[: settings.grid_seeds]
    progress.stage("samples", len(RATIOS))
    done = []
    for k, ratio in enumerate(RATIOS):
        one = case(ratio)
        sizes = [0.0, float(one.n) ** ALPHA]
        runs = [
            errors(start(one, child(seed, 4, k), settings.test_samples), sizes, one.ridge)
            for seed in few
        ]
        done.append(controlled(np.array(runs), one.energy)[:, :, 0, 2])
        progress.advance()
    tested = np.array(done)  # (ratio, seed, step)
    expected = np.array(
        [
            [float(case(r).random().test_error), float(case(r).predicted(ALPHA).test_error)]
            for r in RATIOS
        ]
    )
    over = (tested / expected[:, None]).mean(axis=0)
    data = xr.Dataset(
        {"test_error": (("ratio", "seed", "step"), tested)},
        coords={"ratio": list(RATIOS), "seed": few, "step": ["none", f"n^{ALPHA:g}"]},
    )
    return Part(
        findings=judged(
            stated, {"ratio-random": over[:, 0].tolist(), "ratio-step": over[:, 1].tolist()}
        ),
        figures=[
            Figure(
                "samples",
                "Test error against n/d",
                f"d = {DIM}, N = {WIDTH}, λ = 0.01: without a step (blue), and after a step of n^{ALPHA:g} "
                f"(orange), which uses as many samples again. Means over {len(few)} seeds with three standard "
                "errors; dashed: theory. The peak is where n = N.",
                functools.partial(_draw, tested),
            )
        ],
        data={"samples": data},
    )


def _draw(tested: NDArray[np.float64]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    axes = canvas.subplots()
    ratios = np.geomspace(RATIOS[0], RATIOS[-1], 60)
    fine = [case(ratio) for ratio in ratios]
    axes.plot(ratios, [float(one.random().test_error) for one in fine], "k--", lw=1)
    axes.plot(ratios, [float(one.predicted(ALPHA).test_error) for one in fine], "k--", lw=1)
    for step, label in enumerate(("no step", f"a step of n^{ALPHA:g}")):
        mean, error = band(np.swapaxes(tested, 0, 1)[..., step])
        axes.errorbar(RATIOS, mean, error, fmt="o", color=f"C{step}", label=label)
    axes.set(xscale="log", xlabel="n/d", ylabel="test error")
    axes.minorticks_off()
    axes.set_xticks(RATIOS, [f"{ratio:g}" for ratio in RATIOS])
    axes.legend()
    return canvas
