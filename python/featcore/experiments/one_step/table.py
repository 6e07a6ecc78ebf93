"""Other activations, teachers and residuals: objective, training and test error, one step size each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

import featcore as fc
from featcore.data.index_models import Link
from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import (
    QUADRATIC,
    QUANTITIES,
    RELU,
    WORDS,
    Case,
    allowance,
    controlled,
    errors,
    resolution,
    start,
    streams,
)
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Progress

TANH = fc.Tanh()


def _usual(
    activation: fc.activations.Activation,
    link: Link = QUADRATIC,
    residual: Literal["labels", "full"] = "labels",
) -> Case:
    return Case(
        activation, link, n=1000, d=500, width=600, ridge=0.05, noise=0.3, residual=residual
    )


CASES: dict[str, tuple[Case, float | None]] = {
    "tanh-full": (_usual(TANH, residual="full"), 0.2),
    "relu-full": (_usual(RELU, residual="full"), 0.25),
    "erf": (Case(fc.Erf(), "tanh", n=1500, d=500, width=700, ridge=0.1, noise=0.3), 0.2),
    "tanh": (_usual(TANH), 0.3),
    "teacher-mean": (_usual(RELU, "relu"), 0.25),
    "relu-full-0": (_usual(RELU, residual="full"), 0.0),
    "relu-0": (_usual(RELU), 0.0),
    "relu-0.2": (_usual(RELU), 0.2),
    "relu-0.3": (_usual(RELU), 0.3),
    "relu-0.4": (_usual(RELU), 0.4),
    "random-relu": (_usual(RELU), None),
    "random-tanh": (Case(TANH, QUADRATIC, n=1000, d=500, width=600, ridge=0.01, noise=0.3), None),
    "random-wide": (Case(TANH, RELU, n=700, d=500, width=1200, ridge=0.02, noise=0.2), None),
    "random-erf": (Case(fc.Erf(), "tanh", n=1500, d=500, width=700, ridge=0.1, noise=0.3), None),
    "random-small-ridge": (Case(RELU, RELU, n=800, d=400, width=1600, ridge=0.01, noise=0.2), None),
}
"""Settings and exponents α, None for no step; the first ones are what shorter runs have."""

NEARLY_INTERPOLATING = {"random-wide": 3, "random-small-ridge": 3}
"""How many times as many networks: training errors are near 0 and vary more."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    return [
        Claim(
            key=f"{name}-{quantity.split('_', maxsplit=1)[0]}",
            sentence=f"{_words(case, alpha)}: {WORDS[quantity]}.",
            source="derived",
            reference=f"docs/derivations.md, one gradient step; {allowance(alpha):.0%} allowed for d of 400 and 500",
            predicted=value,
            relation="equal",
            bias=allowance(alpha) * value,
            resolution=resolution(settings) * value,
        )
        for name, (case, alpha) in _chosen(settings)
        for quantity in QUANTITIES
        for value in [
            float(getattr(case.random() if alpha is None else case.predicted(alpha), quantity))
        ]
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Run the first settings of the table with all seeds."""
    import xarray as xr

    chosen = _chosen(settings)
    progress.stage("other activations and teachers", len(chosen))
    samples: dict[str, Sequence[float] | float] = {}
    done = []
    for k, (name, (case, alpha)) in enumerate(chosen):
        eta = 0.0 if alpha is None else float(case.n) ** alpha
        runs = [
            errors(start(case, draw, settings.test_samples), [eta], case.ridge)
            for draw in streams(settings, seeds, 2, k, times=NEARLY_INTERPOLATING.get(name, 1))
        ]
        found = controlled(np.array(runs), case.energy)[:, 0, 0]
        done.append(found)
        for q, quantity in enumerate(QUANTITIES):
            samples[f"{name}-{quantity.split('_', maxsplit=1)[0]}"] = found[:, q].tolist()
        progress.advance()
    data = xr.Dataset(
        {
            name: ((f"draw_{name}", "quantity"), found)
            for (name, _), found in zip(chosen, done, strict=True)
        },
        coords={"quantity": list(QUANTITIES)},
    )
    return Part(findings=judged(stated, samples), data={"table": data})


def _chosen(settings: Settings) -> list[tuple[str, tuple[Case, float | None]]]:
    return list(CASES.items())[: settings.cases]


def _words(case: Case, alpha: float | None) -> str:
    link = "z + (z² - 1)/√2" if case.link == QUADRATIC else str(case.link)
    sizes = f"d = {case.d}, n = {case.n}, N = {case.width}, λ = {case.ridge:g}"
    after = "no step" if alpha is None else f"a step of n^{alpha:g}"
    after += ", full residual" if case.residual == "full" else ""
    return f"{case.activation!r} learning {link}, {sizes}, {after}"
