"""Random feature amplification on XOR clusters (Frei, Chatterji, Bartlett, JMLR 2023), and what became of it.

Of the paper only the abstract's claims are quoted. Settings and numbers are ours: derived in
docs/derivations.md, or calibrated with a numpy simulation that preceded featcore. The same holds for benign
overfitting and grokking on the same clusters (Xu, Wang, Frei, Vardi, Hu, ICLR 2024).

A module a part: `clusters` (the dynamics at one setting), `times` (amplification times over a grid), `noise` (test
error against the noise rate, kinds of corruption, baselines), `laws` (other clusters),
`grokking` and `phase` (n far below d).
"""

from __future__ import annotations

from collections.abc import Sequence

from featcore.experiments import part
from featcore.experiments.amplification import clusters, grokking, laws, noise, phase, times
from featcore.experiments.amplification.settings import Settings, full, quick
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

name = "amplification"
title = "Random feature amplification on XOR clusters"
default_seeds = 16
quick_seeds = 6

SUMMARY = """\
Four tight clusters at ±μ1 (label +1) and ±μ2 (label -1) form an XOR problem that no linear classifier \
through the origin solves better than by guessing; a constant share of the training labels is wrong. A \
two-layer ReLU network starts from small random weights, its head fixed at ±1/√m, and only the first \
layer is trained, by gradient descent on the logistic loss.

At the start a neuron is a random feature, hardly correlated with any mean. Every step adds to the \
correlation it already has: neurons with a positive head turn to ±μ1, those with a negative head to \
±μ2, keeping their initial sign. The network ends at the noise rate: it predicts the clean labels and \
leaves the wrong ones unfitted.

With far fewer samples than dimensions the same network fits all labels, wrong ones included, in one step, \
and is a linear classifier that guesses; some steps later it predicts nearly all new samples right."""

_PARTS = (clusters, times, noise, laws, grokking, phase)


def claims(settings: Settings) -> dict[str, Claim]:
    """Return the claims of all parts, stated before any run."""
    return part.stated(_PARTS, settings)


def run(settings: Settings, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
    """Run all parts and judge their claims."""
    return part.run(
        _PARTS, settings, seeds=seeds, progress=progress, name=name, title=title, summary=SUMMARY
    )
