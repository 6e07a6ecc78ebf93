"""Random streams by named purpose, so that changing one draw never shifts another."""

from __future__ import annotations

import numpy as np

from featcore._validation import integer

Seed = int | np.random.SeedSequence

_PURPOSES = ("data", "labels", "init", "batches", "head", "split", "direction")


def stream(seed: Seed, purpose: str) -> np.random.Generator:
    """Return the generator of `purpose` ("data", "labels", "init", "batches", …) under `seed`.

    Streams of different purposes under one seed are independent; the same seed and purpose give
    the same stream whatever else was drawn.

    Raises
    ------
    TypeError, ValueError
        If `seed` is neither a non-negative integer nor a numpy SeedSequence.
    """
    index = _PURPOSES.index(purpose)
    if isinstance(seed, np.random.SeedSequence):
        key = (*seed.spawn_key, index)
        child = np.random.SeedSequence(seed.entropy, spawn_key=key, pool_size=seed.pool_size)
    else:
        child = np.random.SeedSequence(integer("seed", seed, least=0), spawn_key=(index,))
    return np.random.Generator(np.random.PCG64(child))


def key(seed: Seed, purpose: str) -> int:
    """Return 64 random bits of `purpose`, from which the core draws numbers of its own."""
    return int(stream(seed, purpose).integers(2**64, dtype=np.uint64))


def describe(seed: Seed) -> int | str:
    """Return what identifies `seed` in a provenance record."""
    if isinstance(seed, np.random.SeedSequence):
        return f"SeedSequence(entropy={seed.entropy}, spawn_key={seed.spawn_key})"
    return int(seed)
