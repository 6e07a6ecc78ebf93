"""What the image loaders share: a pair of classes becomes a two-label `Dataset`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featcore._validation import integer
from featcore.data.dataset import Dataset


def class_pair(classes: Sequence[int], *, most: int) -> tuple[int, int]:
    """Return `classes` as two distinct integers in [0, most]."""
    try:
        first, second = classes
    except (TypeError, ValueError):
        raise TypeError(f"classes={classes!r} must be a pair of labels, such as (1, 0)") from None
    first = integer("classes[0]", first, least=0, most=most)
    second = integer("classes[1]", second, least=0, most=most)
    if first == second:
        raise ValueError(f"classes={classes!r} must be two different class labels")
    return first, second


def two_classes(
    images: NDArray[Any],
    labels: NDArray[Any],
    classes: tuple[int, int],
    *,
    white: float,
    center: bool,
    limit: int | None,
    dtype: DTypeLike,
    provenance: Mapping[str, Any],
) -> Dataset:
    """Return the images of two classes, flattened, in their order; the first class is labelled +1.

    Pixels are divided by `white`; `limit` keeps the first images; `center` subtracts the mean over
    the images kept. `images` has the shape (n, rows, columns); the last two go into the provenance.
    """
    for label in classes:
        if not (labels == label).any():
            present = ", ".join(map(str, np.unique(labels)))
            raise ValueError(f"classes={classes} has {label}, but the data have only: {present}")
    chosen = np.flatnonzero(np.isin(labels, classes))[:limit]
    x = images[chosen].reshape(chosen.size, -1) / white
    if center:
        x -= x.mean(axis=0)
    return Dataset(
        x,
        np.where(labels[chosen] == classes[0], 1.0, -1.0),
        provenance={
            **provenance,
            "image_shape": list(images.shape[1:]),
            "classes": list(classes),
            "center": bool(center),
            "limit": limit,
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)
