"""Orthogonally separable data, and the two-dimensional toys of early neuron alignment."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from featcore._seeds import Seed, describe, stream
from featcore._validation import integer, real
from featcore.data.dataset import Dataset


def orthogonally_separable(
    n: int,
    d: int,
    mu: float,
    *,
    seed: Seed = 0,
    positive: float = 0.5,
    norms: Sequence[float] = (1.0, 1.0),
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return data with <x_i y_i, x_j y_j> ≥ mu·|x_i||x_j| for all pairs, up to rounding.

    The construction: the directions y_i x_i/|x_i| lie in the cone of half-angle arccos(mu)/2 about
    the first axis. Angles obey the triangle inequality, so two of them are at most arccos(mu)
    apart. The first two samples lie on opposite sides of the cone's rim, so that mu is attained
    (n, d ≥ 2); of the others, the angle to the axis and the direction around it are uniform. In one
    dimension all are collinear.

    Parameters
    ----------
    n, d : int
        Number of samples and dimension, at least 1.
    mu : float
        Least pairwise correlation, in [0, 1).
    seed : int or SeedSequence
        Points are drawn from its stream "data", labels from its stream "labels".
    positive : float
        Share of labels +1, in [0, 1]; their number is positive·n, rounded.
    norms : pair of float
        The norms |x_i| are uniform between these two, 0 < norms[0] ≤ norms[1].
    dtype : float64 or float32
        Drawn in float64 and rounded.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.orthogonally_separable(n=20, d=5, mu=0.3)
    >>> s = data.y[:, None] * data.x
    >>> round(float((s @ s.T).min()), 6)
    0.3
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    mu = real("mu", mu, least=0.0, below=1.0)
    positive = real("positive", positive, least=0.0, most=1.0)
    try:
        low, high = norms
    except (TypeError, ValueError):
        raise TypeError(f"norms={norms!r} must be a pair (smallest, largest)") from None
    low = real("norms[0]", low, above=0.0)
    high = real("norms[1]", high, least=low)

    rng = stream(seed, "data")
    half = math.acos(mu) / 2 if d > 1 else 0.0
    side = rng.standard_normal((n, d - 1))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    angle = rng.uniform(0.0, half, size=n)
    if n > 1:
        side[1] = -side[0]
        angle[:2] = half
    x = np.empty((n, d))
    x[:, 0] = np.cos(angle)
    x[:, 1:] = np.sin(angle)[:, None] * side
    x *= rng.uniform(low, high, size=(n, 1))
    y = np.where(stream(seed, "labels").permutation(n) < round(positive * n), 1.0, -1.0)
    x *= y[:, None]
    provenance = {
        "generator": "orthogonally_separable",
        "n": n,
        "d": d,
        "mu": mu,
        "seed": describe(seed),
        "positive": positive,
        "norms": [low, high],
        "dtype": str(np.dtype(dtype)),
    }
    return Dataset(x, y, provenance=provenance).astype(dtype)


def two_points(angle: float, *, dtype: DTypeLike = np.float64) -> Dataset:
    """Return x1 = (1, 0) and x2 = (sin angle, cos angle), both labelled +1.

    Their correlation is mu = sin(angle). Angles 0.1, 0.001 and 0 are those of figures 7 to 9 of
    Min, Mallada and Vidal (arXiv 2307.12851).

    Parameters
    ----------
    angle : float
        In radians, between 0 (orthogonal) and π/2 (equal).
    dtype : float64 or float32
        Computed in float64 and rounded.

    Raises
    ------
    TypeError, ValueError
        For an angle out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.two_points(0.1).x.round(3)
    array([[1.   , 0.   ],
           [0.1  , 0.995]])
    """
    angle = real("angle", angle, least=0.0, most=math.pi / 2)
    return Dataset(
        [[1.0, 0.0], [math.sin(angle), math.cos(angle)]],
        [1.0, 1.0],
        provenance={"generator": "two_points", "angle": angle, "dtype": str(np.dtype(dtype))},
    ).astype(dtype)


def fan(
    n_positive: int = 16,
    n_negative: int = 9,
    *,
    seed: Seed = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return unit vectors of the plane: positives at -15° … 15°, negatives at 133° … 157°.

    After figure 6 of Min, Mallada and Vidal (arXiv 2307.12851): angles are uniform, positives come
    first. The counts are ours: a share of negatives near 0.36 reproduces the losses of the figure.
    All pairs have the correlation <x_i y_i, x_j y_j> ≥ cos 62° ≈ 0.469.

    Parameters
    ----------
    n_positive, n_negative : int
        Number of samples labelled +1 and -1, at least 1.
    seed : int or SeedSequence
        The angles are drawn from its stream "data".
    dtype : float64 or float32
        Drawn in float64 and rounded.

    Raises
    ------
    TypeError, ValueError
        For counts that are not positive integers.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.fan()
    >>> data.n, int((data.y > 0).sum())
    (25, 16)
    """
    n_positive = integer("n_positive", n_positive, least=1)
    n_negative = integer("n_negative", n_negative, least=1)
    rng = stream(seed, "data")
    degrees = np.concatenate(
        [rng.uniform(-15.0, 15.0, n_positive), rng.uniform(133.0, 157.0, n_negative)]
    )
    angles = np.radians(degrees)
    return Dataset(
        np.column_stack([np.cos(angles), np.sin(angles)]),
        np.repeat([1.0, -1.0], [n_positive, n_negative]),
        provenance={
            "generator": "fan",
            "n_positive": n_positive,
            "n_negative": n_negative,
            "seed": describe(seed),
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)
