"""Splitting a dataset in two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featcore._seeds import Seed, describe, stream
from featcore._validation import real
from featcore.data.dataset import Dataset


def train_test_split(
    data: Dataset, test_fraction: float, *, seed: Seed = 0
) -> tuple[Dataset, Dataset]:
    """Return (train, test): a random split of each label's samples, in their order.

    Parameters
    ----------
    data : Dataset
        Data with few different labels.
    test_fraction : float
        Share of the test set, in (0, 1); of each label it gets that share, rounded.
    seed : int or SeedSequence
        The split is drawn from its stream "split".

    Raises
    ------
    TypeError, ValueError
        For a fraction out of range, or one that leaves a set empty.

    Examples
    --------
    >>> import featcore as fc
    >>> train, test = fc.data.train_test_split(fc.data.fan(20, 10), 0.3)
    >>> train.n, test.n, int((test.y > 0).sum())
    (21, 9, 6)
    """
    fraction = real("test_fraction", test_fraction, above=0.0, below=1.0)
    rng = stream(seed, "split")
    in_test = np.zeros(data.n, dtype=bool)
    for label in np.unique(data.y):
        members = rng.permutation(np.flatnonzero(data.y == label))
        in_test[members[: round(fraction * members.size)]] = True
    if in_test.all() or not in_test.any():
        raise ValueError(
            f"test_fraction={fraction:g} puts {in_test.sum()} of {data.n} samples in the test set, "
            "since each label is split by itself; neither set may be empty"
        )

    def part(name: str, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Dataset:
        split = {"part": name, "test_fraction": fraction, "seed": describe(seed)}
        return replace(data.subset(mask), provenance={**data.provenance, "split": split})

    return part("train", ~in_test), part("test", in_test)
