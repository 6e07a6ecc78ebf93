"""A second act: both layers go on by gradient descent from the stepped network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import QUADRATIC, RELU, Case, band, start
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress

if TYPE_CHECKING:
    import matplotlib.figure

CASE = Case(RELU, QUADRATIC, n=400, d=100, width=140, ridge=0.05, noise=0.3)
ALPHAS = (None, 0.2, 0.4)
ALPHA_STRONG = 0.4
STEPS, SIZE, TEST = 200, 0.03, 1000


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    return [
        Claim(
            key="onwards-start",
            sentence=f"Before descent begins, the test error after a step of n^{ALPHA_STRONG:g} over that of random "
            "features.",
            source="derived",
            reference="docs/derivations.md, one gradient step; 0.08 allowed for d = 100",
            predicted=float(CASE.predicted(ALPHA_STRONG).test_error / CASE.random().test_error),
            relation="equal",
            bias=0.08,
            resolution=0.15,
        )
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Descend from the random and from stepped networks, the head fitted by ridge regression."""
    import xarray as xr

    few = list(seeds)[: settings.grid_seeds]
    progress.stage("descent after the step", len(few))
    rows = []
    for seed in few:
        drawn = start(CASE, child(seed, 8), TEST)
        nets = []
        for alpha in ALPHAS:
            net = drawn.stepped(0.0 if alpha is None else float(CASE.n) ** alpha)
            fit = fc.ridge(fc.features(net, drawn.ridge.x), drawn.ridge.y, CASE.ridge)
            nets.append(fc.TwoLayerNet(net.W, fit.coefficients, net.activation))
        history = fc.ensemble(
            nets,
            drawn.ridge,
            "squared",
            step_size=SIZE,
            steps=STEPS,
            evaluate={"test": drawn.test},
            observe=["loss"],
            record=fc.Recording.every(STEPS // 30),
        ).history
        # the squared loss has a half
        rows.append(2 * history["loss"].transpose("member", "time", "split").values)
        splits = list(history["split"].values)
        steps = history["step"].values
        progress.advance()
    found = np.array(rows)
    test = found[..., splits.index("test")]
    samples = {"onwards-start": (test[:, -1, 0] / test[:, 0, 0]).tolist()}
    data = xr.Dataset(
        {"error": (("seed", "start", "step", "split"), found)},
        coords={
            "seed": few,
            "start": [_label(alpha) for alpha in ALPHAS],
            "step": steps,
            "split": splits,
        },
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "onwards",
                "Training goes on from the step",
                "Mean squared error on new samples (solid) and on those of ridge regression (dotted), along "
                "gradient descent of both layers, from networks whose head ridge regression has fitted: without a "
                f"step, and after steps of n^α. Centred ReLU, d = 100, n = 400, N = 140; means over {len(few)} "
                "seeds, with three standard errors of the former.",
                functools.partial(
                    _draw, np.asarray(steps), test, found[..., splits.index("train")]
                ),
            )
        ],
        data={"onwards": data},
        notes=["What follows the step has no theory here: its figure makes no claim."],
    )


def _label(alpha: float | None) -> str:
    return "no step" if alpha is None else f"α = {alpha:g}"


def _draw(
    steps: NDArray[np.int64], test: NDArray[np.float64], train: NDArray[np.float64]
) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    axes = canvas.subplots()
    for k, alpha in enumerate(ALPHAS):
        mean, error = band(test[:, k])
        axes.plot(steps, mean, color=f"C{k}", label=_label(alpha))
        axes.fill_between(steps, mean - error, mean + error, color=f"C{k}", alpha=0.2, lw=0)
        axes.plot(steps, train[:, k].mean(axis=0), ":", color=f"C{k}")
    axes.set(xlabel="steps of gradient descent", ylabel="mean squared error", ylim=(0, None))
    axes.legend()
    return canvas
