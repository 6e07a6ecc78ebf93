"""One large gradient step, then ridge regression (Moniri, Lee, Hassani, Dobriban, ICML 2024).

Errors of networks against the theory of steps of finite strength; spikes of the features and of the weights; and what
is
near: steps of constant size (Ba and others), several directions (Dandi and others; Damian, Lee, Soltanolkotabi).

A module a part: `teachers` (errors against α and λ), `table` (other activations, teachers, residuals), `samples`
(against
n/d), `spectrum` (singular values and vectors of the features), `weights` (of the weights), `stairs` (several
directions),
`onwards` (gradient descent after the step).
"""

from __future__ import annotations

from collections.abc import Sequence

from featcore.experiments import part
from featcore.experiments.claims import Claim
from featcore.experiments.one_step import (
    onwards,
    samples,
    spectrum,
    stairs,
    table,
    teachers,
    weights,
)
from featcore.experiments.one_step.settings import Settings, full, quick
from featcore.experiments.protocol import ExperimentResult, Progress

__all__ = [
    "Settings",
    "claims",
    "default_seeds",
    "full",
    "name",
    "quick",
    "quick_seeds",
    "run",
    "title",
]

name = "one-step"
title = "One gradient step: spikes, polynomial features, exact errors"
default_seeds = 16
quick_seeds = 6

SUMMARY = """\
The first layer of a wide network takes one gradient step of size n^α on one half of the samples, from labels that
depend \
on one direction of a Gaussian input; ridge regression then fits the head on the other half. Without the step the \
features are random and learn the linear part of the labels at most. The step adds to the features spikes along powers
of \
u, the projection on the gradient's direction, and one more of them can be learnt each time α passes a threshold: \
0, 1/4, 1/3, … as n → ∞.

At n = 1000 spikes are far from infinite. The errors that are claimed here are those of spikes of finite strength,
which \
have a formula of their own without a free parameter."""

_PARTS = (teachers, table, samples, spectrum, weights, stairs, onwards)


def claims(settings: Settings) -> dict[str, Claim]:
    """Return the claims of all parts, stated before any run."""
    return part.stated(_PARTS, settings)


def run(settings: Settings, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
    """Run all parts and judge their claims."""
    return part.run(
        _PARTS, settings, seeds=seeds, progress=progress, name=name, title=title, summary=SUMMARY
    )
