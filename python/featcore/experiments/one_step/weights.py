"""Steps of constant size (Ba and others, 2022): the spike of the weights, and when it leaves their bulk."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import QUADRATIC, RELU, Case, band, start, streams
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import one_step as theory

if TYPE_CHECKING:
    import matplotlib.figure

CASE = Case(RELU, QUADRATIC, n=1200, d=600, width=900, ridge=0.05, noise=0.3)
STEPS = (0.5, 1.0, 1.5, 2.0, 3.0)
BELOW, ABOVE = 0.5, 3.0
"""The transition is at a step size of 1.55."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    found = theory.weights_spectrum(**CASE.problem, step_size=[BELOW, ABOVE])
    derived = "docs/derivations.md, one gradient step"
    return [
        Claim(
            key="weights-bulk",
            sentence=f"A step of size {BELOW:g} leaves the largest singular value of W at the edge of its bulk, 1 + "
            "√(N/d).",
            source="derived",
            reference=f"{derived}; 3 % allowed for d = 600 and the rest of the gradient",
            predicted=float(found.edge[0]),
            relation="equal",
            bias=0.03 * float(found.edge[0]),
            resolution=0.05,
        ),
        Claim(
            key="weights-outlier",
            sentence=f"A step of size {ABOVE:g} brings it out of the bulk, to this value.",
            source="derived",
            reference=f"{derived}; 5 % allowed for the rest of the gradient, which lengthens neurons",
            predicted=float(found.outlier[1]),
            relation="equal",
            bias=0.05 * float(found.outlier[1]),
            resolution=0.1,
        ),
        Claim(
            key="weights-overlap",
            sentence="The squared cosine of its right vector with β is then this.",
            source="derived",
            reference=f"{derived}; 0.06 allowed, for the same reason",
            predicted=float(found.right_overlap[1]),
            relation="equal",
            bias=0.06,
            resolution=0.12,
        ),
        Claim(
            key="weights-teacher",
            sentence="And with the teacher's direction, this.",
            source="derived",
            reference=f"{derived}; 0.06 allowed",
            predicted=float(found.teacher_overlap[1]),
            relation="equal",
            bias=0.06,
            resolution=0.12,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Decompose the weights of some networks."""
    import xarray as xr

    draws = streams(settings, seeds, 5)
    progress.stage("weights", len(draws))
    rows = []
    for draw in draws:
        drawn = start(CASE, draw)
        assert drawn.step.means is not None
        beta = drawn.step.x.T @ drawn.step.y
        beta /= np.linalg.norm(beta)
        row = []
        for eta in STEPS:
            W = drawn.stepped(eta).W
            squares, right = np.linalg.eigh(W.T @ W)
            vector = right[:, -1]
            row.append(
                [np.sqrt(squares[-1]), (vector @ beta) ** 2, (vector @ drawn.step.means[0]) ** 2]
            )
        rows.append(row)
        progress.advance()
    found = np.array(rows)
    above = STEPS.index(ABOVE)
    samples = {
        "weights-bulk": found[:, STEPS.index(BELOW), 0].tolist(),
        "weights-outlier": found[:, above, 0].tolist(),
        "weights-overlap": found[:, above, 1].tolist(),
        "weights-teacher": found[:, above, 2].tolist(),
    }
    names = ("largest_singular_value", "overlap_gradient", "overlap_teacher")
    data = xr.Dataset(
        {name: (("draw", "step_size"), found[..., k]) for k, name in enumerate(names)},
        coords={"draw": np.arange(len(draws)), "step_size": list(STEPS)},
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "weights",
                "A constant step: the spike of the weights",
                "Largest singular value of W (left), and squared cosines of its right vector with β (blue) and "
                "with the teacher's direction (orange), against the step size; d = 600, n = 1200, N = 900. Means "
                f"over {len(draws)} networks with three standard errors; dashed: theory, from the transition on.",
                functools.partial(_draw, found),
            )
        ],
        data={"weights": data},
    )


def _draw(found: NDArray[np.float64]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8.0, 3.4))
    value, overlap = canvas.subplots(1, 2)
    eta = np.linspace(0.0, STEPS[-1], 121)
    expected = theory.weights_spectrum(**CASE.problem, step_size=eta)
    top = np.where(np.isfinite(expected.outlier), expected.outlier, expected.edge)
    value.plot(eta, top, "k--", lw=1)
    value.errorbar(STEPS, *band(found[..., 0]), fmt="o")
    value.set(xlabel="step size", ylabel="largest singular value")
    for k, (curve, label) in enumerate(
        ((expected.right_overlap, "with β"), (expected.teacher_overlap, "with the teacher"))
    ):
        overlap.plot(eta, curve, "k--", lw=1)
        overlap.errorbar(STEPS, *band(found[..., k + 1]), fmt="o", label=label)
    overlap.set(xlabel="step size", ylabel="squared cosine", ylim=(0, 1))
    overlap.legend()
    return canvas
