"""Closed forms and low-dimensional dynamics; takes numbers and arrays, simulates no network."""

from featcore.theory import (
    alignment,
    amplification,
    benign_overfitting,
    modes,
    one_step,
    saddle_to_saddle,
)

__all__ = [
    "alignment",
    "amplification",
    "benign_overfitting",
    "modes",
    "one_step",
    "saddle_to_saddle",
]
