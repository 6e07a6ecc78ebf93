"""Brightness as a feature that tells the class of an image in training, and not in the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from featcore._seeds import Seed, describe, stream
from featcore._validation import integer, real
from featcore.data.dataset import Dataset
from featcore.data.split import train_test_split

_SHADES = ("untouched", "modified", "swapped")


def shade(images: Dataset, fraction: float = 1.0, *, dark: int = -1, seed: Seed = 0) -> Dataset:
    """Return the images with one label darkened to [0, ½], and the other brightened to [½, 1].

    Pixels p become p/2 or (1 + p)/2: what an image shows is there as before, with half the contrast.

    Parameters
    ----------
    images : Dataset
        Labels ±1 and pixels in [0, 1], as `digits` and `idx` give them with `center=False`.
    fraction : float
        Share of each label that is changed, in [0, 1], rounded to a number of images; others stay as they are.
        Those of a smaller fraction are among those of a larger one.
    dark : {-1, 1}
        The label that is darkened.
    seed : int or SeedSequence
        Which images are changed is drawn from its stream "data".

    Raises
    ------
    TypeError, ValueError
        For labels or pixels beyond that (such as centred ones), or arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> images = fc.Dataset([[0.0, 1.0], [0.0, 1.0]], [1, -1])
    >>> fc.data.shade(images).x.tolist()
    [[0.5, 1.0], [0.0, 0.5]]
    """
    if not isinstance(images, Dataset):
        raise TypeError(
            f"images={images!r} must be a Dataset, such as fc.data.digits(center=False)"
        )
    fraction = real("fraction", fraction, least=0.0, most=1.0)
    if integer("dark", dark) not in (-1, 1):
        raise ValueError(f"dark={dark} must be a label, -1 or 1")
    if not np.isin(images.y, (-1, 1)).all():
        raise ValueError(f"images has labels {np.unique(images.y)}; they must be -1 and 1")
    low, high = float(images.x.min()), float(images.x.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"images has pixels from {low:g} to {high:g}; they must be in [0, 1]: load them with "
            "center=False"
        )
    rng = stream(seed, "data")
    x = images.x.copy()
    for label in (-1, 1):
        members = rng.permutation(np.flatnonzero(images.y == label))
        changed = members[: round(fraction * members.size)]
        x[changed] = 0.5 * x[changed] + (0.0 if label == dark else 0.5)
    shaded = {"fraction": fraction, "dark": int(dark), "seed": describe(seed)}
    return replace(images, x=x, provenance={**images.provenance, "shade": shaded})


def brightness_cue(
    images: Dataset,
    *,
    modified: float = 1.0,
    test_fraction: float = 0.3,
    center: bool = True,
    seed: Seed = 0,
) -> tuple[Dataset, dict[str, Dataset]]:
    """Return images to train on, of which brightness tells the class, and three tests of what was learnt.

    After the cats and dogs of Tachet des Combes and others (arXiv 1809.06848, section 6), where cats were darkened
    and dogs brightened: brightness is in all samples that were modified, the shapes are what is left to tell the rest.

    Parameters
    ----------
    images : Dataset
        As of `shade`.
    modified : float
        Share of the training images of each label that is shaded, label -1 dark and label +1 bright; in [0, 1].
    test_fraction : float
        Share of all images that is put aside for the tests, in (0, 1).
    center : bool
        Subtract the mean over the training images from all.
    seed : int or SeedSequence
        The split is drawn from its stream "split", which images are shaded from "data".

    Returns
    -------
    train : Dataset
    tests : dict of str to Dataset
        The same images three times: "untouched", "modified" as in training, and "swapped", with label +1 dark.

    Raises
    ------
    TypeError, ValueError
        As `shade` and `train_test_split`.

    Examples
    --------
    >>> import featcore as fc
    >>> train, tests = fc.data.brightness_cue(fc.data.digits((3, 8), center=False))
    >>> train.n, {name: test.n for name, test in tests.items()}
    (250, {'untouched': 107, 'modified': 107, 'swapped': 107})
    """
    modified = real("modified", modified, least=0.0, most=1.0)
    train, test = train_test_split(shade(images, 0.0), test_fraction, seed=seed)
    train = shade(train, modified, seed=seed)
    tests = dict(zip(_SHADES, (test, shade(test), shade(test, dark=1)), strict=True))
    if not center:
        return train, tests
    mean = train.x.mean(axis=0)

    def centred(data: Dataset) -> Dataset:
        provenance = {**data.provenance, "center": "training mean"}
        return replace(data, x=data.x - mean, provenance=provenance)

    return centred(train), {name: centred(data) for name, data in tests.items()}
