"""Early neuron alignment from small initialisation (Min, Mallada, Vidal, ICLR 2024), and what followed.

The paper's figures at its own step size and initial scale; its theorem and what is derived from it, by flows from
vanishing initialisation; the square loss on orthogonal inputs (Boursier, Pillaud-Vivien, Flammarion).

A module a part: `toys` (figures 6 to 9), `entries` (single neurons), `digits` (figures 5, 10, 11),
`velocities` (figures 12, 13), `vanishing` and `late` (flows from vanishing
initialisation), `stairs` (square loss), `starts` (initialisations and scales).
"""

from __future__ import annotations

from collections.abc import Sequence

from featcore.experiments import part
from featcore.experiments.alignment import (
    digits,
    entries,
    late,
    stairs,
    starts,
    toys,
    vanishing,
    velocities,
)
from featcore.experiments.alignment.settings import Settings, full, quick
from featcore.experiments.claims import Claim
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

name = "alignment"
title = "Early neuron alignment from small initialisation"
default_seeds = 20
quick_seeds = 12

SUMMARY = """\
Both layers of a ReLU network of 50 neurons, all weights drawn with standard deviation 1e-6, follow gradient descent \
on the mean exponential loss of data whose classes are separated by a cone. For a long time nothing seems to happen: \
the loss stays at 1. But the directions of the neurons move: those with a positive head turn to x₊, the sum of the \
positive samples, those with a negative head to x₋, or die. Only then do they grow, at an exponential rate; the loss \
falls, at last at least as fast as 1/t, and the weights have low rank.

The paper does not name the loss of its figures; the mean exponential loss reproduces their numbers. Its theorems use \
the sum of the losses: their time is 1/n of the time of the mean."""

_PARTS = (toys, entries, digits, velocities, vanishing, late, stairs, starts)


def claims(settings: Settings) -> dict[str, Claim]:
    """Return the claims of all parts, stated before any run."""
    return part.stated(_PARTS, settings)


def run(settings: Settings, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
    """Run all parts and judge their claims."""
    return part.run(
        _PARTS, settings, seeds=seeds, progress=progress, name=name, title=title, summary=SUMMARY
    )
