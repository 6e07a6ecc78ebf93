"""The 8 × 8 digits that come with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from featcore.data._images import class_pair, two_classes
from featcore.data.dataset import Dataset


def digits(
    classes: Sequence[int] = (1, 0), *, center: bool = True, dtype: DTypeLike = np.float64
) -> Dataset:
    """Return two digits of scikit-learn's `load_digits`: about 360 images of d = 64 pixels.

    Parameters
    ----------
    classes : pair of int
        Two different digits; the first is labelled +1, the second -1.
    center : bool
        Subtract the mean over the chosen images; before that, pixels are in [0, 1].
    dtype : float64 or float32
        Computed in float64 and rounded.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError, ValueError
        If `classes` is not a pair of different digits.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.digits(classes=(3, 8))
    Dataset(n=357, d=64, float64)
    """
    pair = class_pair(classes, most=9)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "digits needs scikit-learn; install it with: pip install 'featcore[lab]'"
        ) from error
    images, labels = load_digits(return_X_y=True)
    return two_classes(
        images.reshape(-1, 8, 8),
        labels,
        pair,
        white=16.0,
        center=center,
        limit=None,
        dtype=dtype,
        provenance={"generator": "digits"},
    )
