"""Modes of learning, time to learn, and gradient starvation (Tachet des Combes, Pezeshki and others, 2018).

The paper's figures 2 to 6 and 9 and its table 1 as presets, theory beside the networks; its cats and dogs as digits
whose brightness tells the class; and the moons of Pezeshki and others (2021), with and without spectral decoupling.

A module a part: `curves` (figures 2, 5, 9), `times` (corollary 3.3), `failures` (figures 2 and 3), `depth` (figure 4),
`starvation` (figure 6, table 1), `images` (table 2), `linear` (Saxe's modes, the 2021 paper's toy), `moons` (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

from featcore.experiments import part
from featcore.experiments.claims import Claim
from featcore.experiments.modes import (
    curves,
    depth,
    failures,
    images,
    linear,
    moons,
    starvation,
    times,
)
from featcore.experiments.modes.settings import Settings, full, quick
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

name = "modes"
title = "Modes of learning, time to learn, and gradient starvation"
default_seeds = 20
quick_seeds = 12

SUMMARY = """\
Two classes whose samples point apart, and neurons that see one class each: then a class is learnt as if the other \
were not there. Each is a mode: its logit stays near 0 for a time that goes as 1/(κp), the length of its samples times \
their share of the data, rises as a sigmoid, and under cross-entropy goes on for ever, under the hinge loss stops. A \
start whose head has the wrong sign may kill its neurons before it turns.

Within a class features compete: what tells most samples is learnt first, and takes the gradient from the rest. A rare \
feature is then learnt up to a bound; images whose brightness tells the class in training are told by brightness. \
Spectral decoupling, a penalty on outputs, helps where moons can be separated by a line or a curve."""

_PARTS = (curves, times, failures, depth, starvation, images, linear, moons)


def claims(settings: Settings) -> dict[str, Claim]:
    """Return the claims of all parts, stated before any run."""
    return part.stated(_PARTS, settings)


def run(settings: Settings, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
    """Run all parts and judge their claims."""
    return part.run(
        _PARTS, settings, seeds=seeds, progress=progress, name=name, title=title, summary=SUMMARY
    )
