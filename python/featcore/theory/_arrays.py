"""Arguments of any shape, for formulas that act entry by entry."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array


def any_shape(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return `value` as a finite float64 array of its own shape, scalars as zero axes."""
    shape = np.shape(value)
    checked = float_array(name, value, ndim=len(shape), allow_empty=True)
    # float_array makes a scalar contiguous, which gives it an axis
    return checked.astype(np.float64).reshape(shape)
