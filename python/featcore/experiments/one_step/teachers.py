"""Two teachers of equal energy: errors against α, and over (α, λ)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcore.experiments.claims import Claim
from featcore.experiments.one_step.networks import (
    QUADRATIC,
    QUANTITIES,
    RELU,
    WORDS,
    Case,
    allowance,
    band,
    controlled,
    errors,
    resolution,
    start,
    streams,
)
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import one_step as theory

if TYPE_CHECKING:
    import matplotlib.figure

TEACHERS = {
    "linear": Case(RELU, (0.0, 1.0), n=1000, d=500, width=700, ridge=0.05, noise=1.0),
    "quadratic": Case(RELU, QUADRATIC, n=1000, d=500, width=700, ridge=0.05, noise=0.0),
}
RIDGES = (0.005, 0.05, 0.5)
"""The one in the middle is that of the claims on each α."""
TOGETHER, APART = 0.2, 0.4
"""Exponents below and above 1/4 at which the two teachers are compared."""
FAILED: frozenset[tuple[str, float | None, str]] = frozenset(
    {("quadratic", 0.45, "objective"), ("quadratic", 0.45, "train_error")}
)
"""Measured, but claimed no longer of `errors`: 6 % were not enough for these (docs/one_step.md)."""
WEAK = 0.3
"""Exponent beyond which a step is also held against the theory for any strength."""
DERIVED = "docs/derivations.md, one gradient step"
ANY_STRENGTH = "docs/derivations.md, steps of any strength"
CONDITIONAL = "-any-strength"
"""What keys of claims about the latter end in."""
CONDITIONAL_ALLOWANCE = 0.03
"""What is allowed for d = 500 in those, at any exponent."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    stated = []
    for teacher, case in TEACHERS.items():
        for alpha in (None, *settings.alphas):
            after = "Random features" if alpha is None else f"After a step of n^{alpha:g}"
            found = case.random() if alpha is None else case.predicted(alpha)
            kept = [name for name in QUANTITIES if (teacher, alpha, name) not in FAILED]
            share = allowance(alpha)
            stated += _errors_are(found, settings, teacher, alpha, kept, after, DERIVED, share)
        for alpha in _strong(settings):
            after = f"After a step of n^{alpha:g}, in the theory for any strength"
            stated += _errors_are(
                case.conditional(alpha),
                settings,
                teacher,
                alpha,
                QUANTITIES,
                after,
                ANY_STRENGTH,
                CONDITIONAL_ALLOWANCE,
                CONDITIONAL,
            )
    if {TOGETHER, APART} <= set(settings.alphas):
        for alpha, words in ((TOGETHER, "nearly together"), (APART, "apart")):
            both = [float(case.predicted(alpha).test_error) for case in TEACHERS.values()]
            stated.append(
                Claim(
                    key=f"ratio-{_name(alpha)}",
                    sentence=f"At α = {alpha:g} the two teachers of equal energy are {words}: test error of the "
                    "quadratic over that of the linear one.",
                    source="derived",
                    reference=f"{DERIVED}; 3 % allowed. That they part at α = 1/4 as n → ∞ is the paper's",
                    predicted=both[1] / both[0],
                    relation="equal",
                    bias=0.03,
                    resolution=0.06,
                )
            )
    if _covered(settings):
        stated.append(
            Claim(
                key="over-ridges",
                sentence="Test error over all exponents to 0.3 and λ from 0.005 to 0.5, the quadratic teacher: "
                "measured over predicted, on average.",
                source="derived",
                reference=f"{DERIVED}; 3 % allowed for d = 500",
                predicted=1.0,
                relation="equal",
                bias=0.03,
                resolution=0.05,
            )
        )
    return stated


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Run both teachers with all seeds."""
    import xarray as xr

    draws = streams(settings, seeds, 1)
    progress.stage("two teachers", len(draws))
    sizes = [0.0, *(1000.0**alpha for alpha in settings.alphas)]
    runs: dict[str, list[NDArray[np.float64]]] = {teacher: [] for teacher in TEACHERS}
    for draw in draws:
        for teacher, case in TEACHERS.items():
            drawn = start(case, draw, settings.test_samples)
            runs[teacher].append(errors(drawn, sizes, RIDGES))
        progress.advance()
    done = {
        teacher: controlled(np.array(runs[teacher]), case.energy)
        for teacher, case in TEACHERS.items()
    }
    samples: dict[str, Sequence[float] | float] = {}
    for teacher in TEACHERS:
        for k, alpha in enumerate((None, *settings.alphas)):
            for q, quantity in enumerate(QUANTITIES):
                values = done[teacher][:, k, 1, q].tolist()
                if (teacher, alpha, quantity) not in FAILED:
                    samples[_key(teacher, alpha, quantity)] = values
                if alpha in _strong(settings):
                    samples[_key(teacher, alpha, quantity) + CONDITIONAL] = values
    for alpha in (TOGETHER, APART):
        if {TOGETHER, APART} <= set(settings.alphas):
            k = 1 + settings.alphas.index(alpha)
            linear, quadratic = (done[teacher][:, k, 1, 2] for teacher in TEACHERS)
            # of means, linearised: a ratio a seed would be biased
            ratio = quadratic.mean() / linear.mean()
            gap = quadratic / quadratic.mean() - linear / linear.mean()
            samples[f"ratio-{_name(alpha)}"] = (ratio * (1 + gap)).tolist()
    low = _covered(settings)
    expected = TEACHERS["quadratic"].predicted(np.array(settings.alphas)[low, None], RIDGES)
    over = done["quadratic"][..., 2][:, [k + 1 for k in low]] / expected.test_error
    if low:
        samples["over-ridges"] = over.mean(axis=(1, 2)).tolist()

    found = xr.Dataset(
        {teacher: (("draw", "step", "ridge", "quantity"), done[teacher]) for teacher in TEACHERS},
        coords={
            "draw": np.arange(len(draws)),
            "step": sizes,
            "ridge": list(RIDGES),
            "quantity": list(QUANTITIES),
        },
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "teachers",
                "Two teachers of equal energy",
                "Objective, training and test error of ridge regression after a step of size n^α, for the linear "
                "teacher (z, noise 1; blue) and the quadratic one (z + (z² - 1)/√2; orange), d = 500, n = 1000, N "
                f"= 700, λ = 0.05. Means over {len(draws)} networks with three standard errors; dashed: theory for "
                "weak steps, solid: for steps of any strength. Random features stand at the left. The teachers part "
                "beyond α = 1/4 (dotted).",
                functools.partial(_draw, settings, done),
            ),
            Figure(
                "ridges",
                "Test error over λ",
                "Test error of the quadratic teacher against λ, after steps of increasing α; crosses: networks, "
                "with three standard errors; dashed: theory.",
                functools.partial(_draw_ridges, settings, done["quadratic"]),
            ),
        ],
        data={"teachers": found},
        notes=[
            "Objective and training error of the quadratic teacher at α = 0.45 are claimed of the theory for steps of "
            "any strength only: 6 % were not enough for `errors`, which is for weak ones."
        ]
        if 0.45 in settings.alphas
        else [],
    )


def _covered(settings: Settings) -> list[int]:
    """Return which exponents are so small that the theory is right to 3 %."""
    return [k for k, alpha in enumerate(settings.alphas) if alpha <= WEAK]


def _strong(settings: Settings) -> list[float]:
    return [alpha for alpha in settings.alphas if alpha > WEAK]


def _errors_are(
    found: theory.Errors,
    settings: Settings,
    teacher: str,
    alpha: float | None,
    quantities: Sequence[str],
    after: str,
    derived: str,
    share: float,
    suffix: str = "",
) -> list[Claim]:
    return [
        Claim(
            key=_key(teacher, alpha, quantity) + suffix,
            sentence=f"{teacher.capitalize()} teacher. {after}: {WORDS[quantity]} of ridge regression.",
            source="derived",
            reference=f"{derived}; {share:.0%} allowed for d = 500",
            predicted=value,
            relation="equal",
            bias=share * value,
            resolution=resolution(settings) * value,
        )
        for quantity in quantities
        for value in [float(getattr(found, quantity))]
    ]


def _key(teacher: str, alpha: float | None, quantity: str) -> str:
    return f"{teacher}-{_name(alpha)}-{quantity.split('_', maxsplit=1)[0]}"


def _name(alpha: float | None) -> str:
    return "random" if alpha is None else f"{alpha:g}"


def _draw(settings: Settings, done: dict[str, NDArray[np.float64]]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    alphas = np.linspace(-0.08, 0.45, 80)
    for q, (axes, quantity) in enumerate(zip(canvas.subplots(1, 3), QUANTITIES, strict=True)):
        for colour, (teacher, case) in zip(("C0", "C1"), TEACHERS.items(), strict=True):
            axes.plot(alphas, getattr(case.predicted(alphas), quantity), "--", color="black", lw=1)
            axes.plot(alphas, getattr(case.conditional(alphas), quantity), color=colour, lw=1)
            mean, error = band(done[teacher][:, :, 1, q])
            axes.errorbar(
                settings.alphas, mean[1:], error[1:], fmt="o", color=colour, label=teacher
            )
            axes.errorbar([-0.14], mean[:1], error[:1], fmt="s", color=colour)
            axes.plot([-0.16, -0.12], 2 * [float(getattr(case.random(), quantity))], "k--", lw=1)
        axes.axvline(0.25, color="black", ls=":", lw=1)
        axes.set(title=WORDS[quantity], xlabel="α")
    canvas.axes[0].legend()
    return canvas


def _draw_ridges(settings: Settings, done: NDArray[np.float64]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    axes = canvas.subplots()
    ridges = np.logspace(-2.6, 0.0, 60)
    case = TEACHERS["quadratic"]
    for k, alpha in enumerate((None, *settings.alphas)):
        found = case.random(ridges) if alpha is None else case.predicted(alpha, ridges)
        colour = f"C{k % 7}"
        axes.plot(ridges, found.test_error, "--", color=colour, lw=1)
        mean, error = band(done[:, k, :, 2])
        label = "no step" if alpha is None else f"α = {alpha:g}"
        axes.errorbar(RIDGES, mean, error, fmt="x", color=colour, label=label)
    axes.set(xscale="log", xlabel="λ", ylabel="test error")
    axes.legend()
    return canvas
