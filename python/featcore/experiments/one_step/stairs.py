"""Several directions: a staircase climbed step by step, and labels without their mean and linear part."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import RELU, band, network
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress

if TYPE_CHECKING:
    import matplotlib.figure

Array = NDArray[np.float64]

SAMPLES, DIM, WIDTH, STEPS = 1600, 200, 400, 3
SIZE = 2.0 * WIDTH**0.5
"""Of a step: weights move as far as they are long."""
CURVED_SAMPLES, CURVED_DIM, CURVED_WIDTH = 2500, 50, 200


def _staircase(z: Array) -> Array:
    return np.asarray(z[:, 0] + z[:, 0] * z[:, 1])


def _leap(z: Array) -> Array:
    return np.asarray(z[:, 0] + (z[:, 1] ** 3 - 3 * z[:, 1]) / 6**0.5)


TEACHERS: dict[str, Callable[[Array], Array]] = {"staircase": _staircase, "leap": _leap}
"""Both have unit energy in z₁ and in the rest. Given z₁ the first is linear in z₂, the second is not."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    cosine = 1 / (1 + 2 * DIM / SAMPLES)
    derived = "docs/derivations.md, several directions"
    return [
        Claim(
            key="stairs-first",
            sentence="The first step learns z₁: squared cosine of the leading right vector of what it adds to W "
            "with u₁, for the staircase z₁ + z₁z₂.",
            source="derived",
            reference=f"{derived}: 1/(1 + φ E y²); 0.04 allowed for d = 200",
            predicted=cosine,
            relation="equal",
            bias=0.04,
            resolution=0.04,
        ),
        Claim(
            key="stairs-not-yet",
            sentence="It does not learn z₂: u₂'s squared projection on that vector.",
            source="derived",
            reference=f"{derived}; a few times 1/d allowed",
            predicted=0.0,
            relation="at_most",
            bias=0.03,
            resolution=0.05,
        ),
        Claim(
            key="stairs-second",
            sentence="The second step, on new samples, learns z₂: u₂'s squared projection on the two leading right "
            "vectors of what it adds.",
            source="derived",
            reference=f"{derived}: given z₁ the label is linear in z₂; that it is a half at least is a rough bound",
            predicted=0.5,
            relation="at_least",
            bias=0.0,
            resolution=0.3,
        ),
        Claim(
            key="stairs-leap",
            sentence="Of the teacher z₁ + He₃(z₂)/√6, whose second direction is three leaps away, it does not "
            "learn it: the same projection.",
            source="derived",
            reference=f"{derived}; a few times 2/d allowed",
            predicted=0.0,
            relation="at_most",
            bias=0.05,
            resolution=0.05,
        ),
        Claim(
            key="stairs-curvature",
            sentence="With mean and linear part of the labels taken out one step finds both directions of z₁ + "
            "z₁z₂ at n = d²: mean squared projection of u₁ and u₂ on the two leading right vectors.",
            source="derived",
            reference=f"{derived}: what is left follows E[y(xxᵀ - I)]",
            predicted=0.9,
            relation="at_least",
            bias=0.0,
            resolution=0.1,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Climb."""
    import xarray as xr

    few = list(seeds)[: settings.grid_seeds]
    progress.stage("several directions", len(few))
    climbed: dict[str, list[Array]] = {teacher: [] for teacher in TEACHERS}
    curved = []
    for seed in few:
        for teacher in TEACHERS:
            climbed[teacher].append(climb(teacher, child(seed, 6)))
        curved.append(curvature(child(seed, 7)))
        progress.advance()
    found = {teacher: np.array(each) for teacher, each in climbed.items()}
    samples = {
        "stairs-first": found["staircase"][:, 0, 0, 0].tolist(),
        "stairs-not-yet": found["staircase"][:, 0, 0, 1].tolist(),
        "stairs-second": found["staircase"][:, 1, :, 1].sum(axis=1).tolist(),
        "stairs-leap": found["leap"][:, 1, :, 1].sum(axis=1).tolist(),
        "stairs-curvature": curved,
    }
    data = xr.Dataset(
        {
            teacher: (("seed", "step", "vector", "direction"), each)
            for teacher, each in found.items()
        },
        coords={
            "seed": few,
            "step": list(range(1, STEPS + 1)),
            "vector": [1, 2],
            "direction": ["u1", "u2"],
        },
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "stairs",
                "Steps climb a staircase",
                "Squared projections of the teacher's directions u₁ (blue) and u₂ (orange) on the two leading "
                "right vectors of what each step adds to W, every step on new samples; d = 200, n = 1600, N = 400. "
                f"Left: z₁ + z₁z₂. Right: z₁ + He₃(z₂)/√6. Means over {len(few)} seeds with three standard errors.",
                functools.partial(_draw, found),
            )
        ],
        data={"stairs": data},
    )


def climb(teacher: str, seed: np.random.SeedSequence) -> Array:
    """Return squared cosines of the two leading right vectors of each step with u₁ and u₂: (steps, 2, 2)."""
    of_net, *batches = seed.spawn(1 + STEPS)
    net = network(DIM, WIDTH, RELU, of_net)
    directions = None
    rows = []
    for batch in batches:
        data = fc.data.multi_index(
            SAMPLES, DIM, TEACHERS[teacher], r=2, directions=directions, seed=batch
        )
        directions = data.means
        assert directions is not None
        moved = fc.one_step(net, data, SIZE)
        rows.append((_leading(moved.W - net.W) @ directions.T) ** 2)
        net = moved
    return np.array(rows)


def curvature(seed: np.random.SeedSequence) -> float:
    """Return the mean squared projection of u₁ and u₂ on what a step of bare labels finds."""
    of_net, of_data = seed.spawn(2)
    net = network(CURVED_DIM, CURVED_WIDTH, RELU, of_net)
    data = fc.data.multi_index(CURVED_SAMPLES, CURVED_DIM, _staircase, r=2, seed=of_data)
    assert data.means is not None
    bare = fc.Dataset(data.x, without_linear_part(data.x, data.y))
    vectors = _leading(fc.one_step(net, bare, 1.0).W - net.W)
    return float(((vectors @ data.means.T) ** 2).sum(axis=0).mean())


def without_linear_part(x: Array, y: Array) -> Array:
    """Return labels less their mean and their linear regression on x."""
    design = np.column_stack([np.ones(len(x)), x])
    fit, *_ = np.linalg.lstsq(design, y, rcond=None)
    return np.asarray(y - design @ fit)


def _leading(matrix: Array) -> Array:
    """Return the two leading right singular vectors, a row each."""
    _, vectors = np.linalg.eigh(matrix.T @ matrix)
    return np.asarray(vectors[:, -1:-3:-1].T)


def _draw(found: dict[str, Array]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8.0, 3.2))
    steps = np.arange(1, STEPS + 1)
    for axes, (teacher, each) in zip(canvas.subplots(1, 2), found.items(), strict=True):
        for direction in range(2):
            mean, error = band(each[..., direction].sum(axis=-1))
            axes.errorbar(steps, mean, error, fmt="o-", label=f"u{'₁₂'[direction]}")
        axes.set(title=teacher, xlabel="step", xticks=steps, ylim=(-0.02, 1.02))
    canvas.axes[0].set_ylabel("squared projection")
    canvas.axes[0].legend()
    return canvas
