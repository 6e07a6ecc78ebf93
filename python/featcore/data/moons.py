"""Two moons with a margin between them along one coordinate."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from featcore._seeds import Seed, describe, key
from featcore._validation import integer, real
from featcore.data.dataset import Dataset


def moons(
    n: int = 300,
    *,
    margin: float = 0.1,
    noise: float = 0.1,
    seed: Seed = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return two interleaved half-circles, moved apart by a margin along the first coordinate.

    As in the code of Pezeshki and others, *Gradient starvation* (2021; figures 1 to 3 of
    github.com/mpezeshki/Gradient_Starvation): scikit-learn's moons are moved so that they touch, samples that noise
    put on the other side are reflected, each class is moved away from the other by `margin`, and axes are swapped.
    At +0.1 a line separates the classes, at -0.1 they overlap along the first coordinate, and only the curve does.

    Parameters
    ----------
    n : int
        Number of samples, at least 2; half of each class, +1 one more if odd. The order is random.
    margin : float
        How far each class is moved: class +1 to the left, -1 to the right.
    noise : float
        Standard deviation of the normal noise of each coordinate, at least 0.
    seed : int or SeedSequence
        All is drawn by scikit-learn from a number of its stream "data".
    dtype : float64 or float32
        Computed in float64 and rounded.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.moons(300, margin=0.1)
    >>> bool((data.y * data.x[:, 0] <= -0.1).all())
    True
    """
    n = integer("n", n, least=2)
    margin = real("margin", margin)
    noise = real("noise", noise, least=0.0)
    try:
        from sklearn.datasets import make_moons
    except ImportError as error:
        raise ImportError(
            "moons needs scikit-learn; install it with: pip install 'featcore[lab]'"
        ) from error
    x, which = make_moons(n_samples=n, noise=noise, random_state=key(seed, "data") % 2**32)
    y = 2.0 * which - 1.0
    height = x[:, 1] - 0.3 * y
    # class +1 lies below its mean, class -1 above
    height = -y * (np.abs(height - height.mean()) + margin)
    return Dataset(
        np.column_stack([height, x[:, 0] - 0.5]),
        y,
        provenance={
            "generator": "moons",
            "n": n,
            "margin": margin,
            "noise": noise,
            "seed": describe(seed),
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)
