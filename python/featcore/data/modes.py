"""Classes whose learning decouples into modes: one vector, equal correlations, a frequent and a rare feature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featcore._validation import integer, real
from featcore.data.dataset import Dataset


def single_vector_classes(
    n: int = 20,
    *,
    norms: Sequence[float] = (1.0, 1.0),
    positive: float = 0.5,
    cosine: float = 0.0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return two classes in the plane, each of which is one vector, repeated.

    Theorem 3.2 of Tachet des Combes and others (arXiv 1809.06848) is about such data; their (H1), on
    which the independence of the classes rests, asks for `cosine` ≤ 0.

    Parameters
    ----------
    n : int
        Number of samples, at least 2; positives come first.
    norms : pair of float
        Lengths of the vector of class +1, which lies on the first axis, and of class -1; positive.
    positive : float
        Share of class +1, in (0, 1): positive·n samples, rounded. Neither class may be empty.
    cosine : float
        Of the two vectors, in [-1, 1].
    dtype : float64 or float32
        Computed in float64 and rounded.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.single_vector_classes(5, norms=(2.0, 1.0), positive=0.4)
    >>> data.x.tolist()
    [[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    >>> data.y.tolist()
    [1.0, 1.0, -1.0, -1.0, -1.0]
    """
    n = integer("n", n, least=2)
    first, second = _pair("norms", norms, above=0.0)
    cosine = real("cosine", cosine, least=-1.0, most=1.0)
    count = _positives(n, positive)
    vectors = np.array([[first, 0.0], [second * cosine, second * math.sqrt(1.0 - cosine * cosine)]])
    return Dataset(
        np.repeat(vectors, [count, n - count], axis=0),
        _labels(count, n),
        means=vectors,
        provenance={
            "generator": "single_vector_classes",
            "n": n,
            "norms": [first, second],
            "positive": float(positive),
            "cosine": cosine,
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)


def equicorrelated_classes(
    n: int = 20,
    *,
    correlations: Sequence[float] = (0.5, 0.5),
    norms: Sequence[float] = (1.0, 1.0),
    positive: float = 0.5,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return two orthogonal classes of samples of one length and one cosine with each other.

    The rows of a class are the symmetric root of its Gram matrix, κ²((1-c)·I + c·11ᵀ): there are n
    dimensions, and all samples of a class are alike. A start with equal outputs on them keeps them equal, and the
    class is learnt as its mean would be, of length κ·√((1 + (m-1)c)/m) (derived in docs/derivations.md).

    Parameters
    ----------
    n : int
        Number of samples, and of dimensions, at least 2; positives come first.
    correlations : pair of float
        Cosines c within class +1 and within class -1, in [0, 1]: 0 is orthogonal, 1 one vector, repeated.
    norms : pair of float
        Lengths κ of the samples of the classes, positive.
    positive : float
        Share of class +1, in (0, 1): positive·n samples, rounded. Neither class may be empty.
    dtype : float64 or float32
        Computed in float64 and rounded.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.equicorrelated_classes(4, correlations=(0.5, 0.0))
    >>> (data.x @ data.x.T).round(12)
    array([[1. , 0.5, 0. , 0. ],
           [0.5, 1. , 0. , 0. ],
           [0. , 0. , 1. , 0. ],
           [0. , 0. , 0. , 1. ]])
    """
    n = integer("n", n, least=2)
    lengths = _pair("norms", norms, above=0.0)
    cosines = _pair("correlations", correlations, least=0.0, most=1.0)
    count = _positives(n, positive)
    x = np.zeros((n, n))
    for rows, length, cosine in zip(
        (slice(None, count), slice(count, None)), lengths, cosines, strict=True
    ):
        x[rows, rows] = length * _root(x[rows, rows].shape[0], cosine)
    return Dataset(
        x,
        _labels(count, n),
        means=np.stack([x[:count].mean(axis=0), x[count:].mean(axis=0)]),
        provenance={
            "generator": "equicorrelated_classes",
            "n": n,
            "correlations": list(cosines),
            "norms": list(lengths),
            "positive": float(positive),
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)


def two_feature_mixture(
    n: int = 40,
    *,
    frequency: float = 0.1,
    norms: Sequence[float] = (1.0, 1.0),
    angle: float = math.pi / 2,
    positive: float = 0.5,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return data whose class +1 has a frequent feature x1 in every sample, and a rare one x2 in some.

    Samples of class +1 are x1 + x2 in a share `frequency`, and x1 in the rest; those of class -1 are a unit vector
    across both. It is the setting of theorem 6.1 (gradient starvation) of Tachet des Combes and others
    (arXiv 1809.06848), where `norms` are 1 and `angle` is π/2.

    Parameters
    ----------
    n : int
        Number of samples, at least 2, in three dimensions; first come those with both features.
    frequency : float
        λ, the share of class +1 that has the rare feature, in [0, 1]: λ times its number, rounded.
    norms : pair of float
        Lengths of x1, which lies on the first axis, and of x2; positive.
    angle : float
        Between the two features, in radians, from 0 to π.
    positive : float
        Share of class +1, in (0, 1): positive·n samples, rounded. Neither class may be empty.
    dtype : float64 or float32
        Computed in float64 and rounded.

    Returns
    -------
    Dataset
        Its `means` are x1, x2 and the vector of class -1.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.data.two_feature_mixture(6, frequency=1 / 3, norms=(1.0, 2.0))
    >>> data.x[:4].round(12).tolist()
    [[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    n = integer("n", n, least=2)
    first, second = _pair("norms", norms, above=0.0)
    frequency = real("frequency", frequency, least=0.0, most=1.0)
    angle = real("angle", angle, least=0.0, most=math.pi)
    count = _positives(n, positive)
    both = round(frequency * count)
    features = np.array(
        [
            [first, 0.0, 0.0],
            [second * math.cos(angle), second * math.sin(angle), 0.0],
            [0.0, 0.0, 1.0],
        ]
    )
    kinds = np.stack([features[0] + features[1], features[0], features[2]])
    return Dataset(
        np.repeat(kinds, [both, count - both, n - count], axis=0),
        _labels(count, n),
        means=features,
        provenance={
            "generator": "two_feature_mixture",
            "n": n,
            "frequency": frequency,
            "norms": [first, second],
            "angle": angle,
            "positive": float(positive),
            "dtype": str(np.dtype(dtype)),
        },
    ).astype(dtype)


def _root(m: int, cosine: float) -> NDArray[np.float64]:
    """Return the symmetric root of (1-c)·I + c·11ᵀ: eigenvalues 1+(m-1)c along 1, and 1-c across."""
    across = math.sqrt(1.0 - cosine)
    along = math.sqrt(1.0 + (m - 1) * cosine)
    return across * np.eye(m) + (along - across) / m


def _positives(n: int, positive: float) -> int:
    count = round(real("positive", positive, above=0.0, below=1.0) * n)
    if not 0 < count < n:
        raise ValueError(
            f"positive={positive:g} of n={n} samples is {count}; each class needs one at least"
        )
    return count


def _labels(count: int, n: int) -> NDArray[np.float64]:
    return np.repeat([1.0, -1.0], [count, n - count])


def _pair(name: str, values: Sequence[float], **bounds: float) -> tuple[float, float]:
    try:
        first, second = values
    except (TypeError, ValueError):
        raise TypeError(f"{name}={values!r} must be a pair, a number a class or feature") from None
    return real(f"{name}[0]", first, **bounds), real(f"{name}[1]", second, **bounds)
