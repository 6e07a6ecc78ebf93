"""Geometry of separable data: correlations, class sums, and the cones neurons fall into."""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, real

Array = NDArray[np.float64]

_BLOCK = 1 << 22
"""Entries of a matrix of inner products that are held at a time."""


class Cone(enum.IntEnum):
    """Where a neuron's direction lies, by which samples it is active on (<x_i, w> > 0)."""

    S_MINUS = -1
    """Active on all negative samples and on no positive one."""
    S_DEAD = 0
    """Active on none."""
    S_PLUS = 1
    """Active on all positive samples and on no negative one."""
    OTHER = 2
    """None of these."""


def separability(x: ArrayLike, y: ArrayLike) -> float:
    """Return the least pairwise correlation μ = min_{i≠j} <x_i y_i, x_j y_j>/(|x_i||x_j|).

    The data are orthogonally separable if μ > 0.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples, none of them zero.
    y : array_like, shape (n,)
        Labels, -1 or +1.

    Returns
    -------
    float
        μ, between -1 and 1; 1 for a single sample.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, a label is not ±1 or a sample is zero.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), Assumption 1. O(n² d) operations in blocks, no n × n matrix.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> alignment.separability([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], [1, 1, 1])
    0.0
    """
    samples, signs = labelled(x, y)
    length = np.linalg.norm(samples, axis=1)
    if not length.all():
        raise ValueError(
            f"x has a zero sample at {int(np.argmin(length))}, which has no direction; drop it"
        )
    directions = samples * (signs / length)[:, None]
    n = directions.shape[0]
    rows = max(1, _BLOCK // n)
    least = 1.0
    for start in range(0, n, rows):
        block = directions[start : start + rows]
        least = min(least, float((block @ directions[start:].T).min()))
    return max(least, -1.0)


def class_sums(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return (x_+, x_-), the sums (not the means) of the positive and of the negative samples.

    A neuron with a positive head is attracted by x_+ and repelled by x_- early on; one with a
    negative head the other way round.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples.
    y : array_like, shape (n,)
        Labels, -1 or +1.

    Returns
    -------
    x_plus, x_minus : ndarray, shape (d,)
        Sums, in units of x; zero for a class without samples.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or a label is not ±1.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), section 2.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> alignment.class_sums([[1.0, 0.0], [3.0, 4.0], [-2.0, 0.0]], [1, 1, -1])
    (array([4., 4.]), array([-2.,  0.]))
    """
    samples, signs = labelled(x, y)
    return samples[signs > 0].sum(axis=0), samples[signs < 0].sum(axis=0)


def cone_membership(
    W: ArrayLike, x: ArrayLike, y: ArrayLike, tolerance: float = 1e-12
) -> NDArray[np.int8]:
    """Return each neuron's `Cone` as a code: 1 in S_plus, -1 in S_minus, 0 in S_dead, 2 else.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Neurons, a neuron a row; only directions matter.
    x : array_like, shape (n, d)
        Samples.
    y : array_like, shape (n,)
        Labels, -1 or +1.
    tolerance : float
        Largest cosine to a sample that counts as inactive. A neuron that has lost its last sample stops on the
        hyperplane, where rounding decides on the sign.

    Returns
    -------
    ndarray of int8, shape (m,)
        Codes; compare with `Cone`. If a class has no sample its cone coincides with S_dead, which
        is given.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or a label is not ±1.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), section 2.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> x, y = [[1.0, 0.0], [0.0, -1.0]], [1, -1]
    >>> W = [[1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]
    >>> codes = alignment.cone_membership(W, x, y)
    >>> codes
    array([ 1, -1,  0,  2], dtype=int8)
    >>> int((codes == alignment.Cone.S_PLUS).sum())
    1
    """
    samples, signs = labelled(x, y)
    neurons = neurons_like("W", W, samples)
    tolerance = real("tolerance", tolerance, least=0.0)
    # directions: products with neurons of extreme size would leave the range of doubles
    largest = np.abs(neurons).max(axis=1, keepdims=True)
    neurons = neurons / np.where(largest > 0, largest, 1.0)
    sizes, lengths = np.linalg.norm(neurons, axis=1), np.linalg.norm(samples, axis=1)
    positive = signs > 0
    n_plus, n_minus = int(positive.sum()), int((~positive).sum())
    codes = np.empty(neurons.shape[0], dtype=np.int8)
    rows = max(1, _BLOCK // samples.shape[0])
    for start in range(0, neurons.shape[0], rows):
        block = slice(start, start + rows)
        active = neurons[block] @ samples.T > tolerance * np.outer(sizes[block], lengths)
        on_plus, on_minus = active[:, positive].sum(axis=1), active[:, ~positive].sum(axis=1)
        codes[block] = np.select(
            [
                (on_plus == 0) & (on_minus == 0),
                (on_plus == n_plus) & (on_minus == 0),
                (on_plus == 0) & (on_minus == n_minus),
            ],
            [Cone.S_DEAD, Cone.S_PLUS, Cone.S_MINUS],
            Cone.OTHER,
        )
    return codes


def cone_distance(W: ArrayLike, x: ArrayLike, y: ArrayLike) -> Array:
    """Return the distance of each neuron's direction to the cone K of all y_i x_i.

    Neurons with positive heads are drawn into K, those with negative ones into -K: pass -W for
    them. In K a neuron is in S_plus.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Neurons, a neuron a row; only directions matter.
    x : array_like, shape (n, d)
        Samples.
    y : array_like, shape (n,)
        Labels, -1 or +1.

    Returns
    -------
    ndarray, shape (m,)
        min over k in K of |w/|w| - k|: the sine of the angle to K, 1 beyond a right angle; NaN for
        a zero neuron.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or a label is not ±1.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), section 2. A non-negative least-squares problem a neuron.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> x, y = [[1.0, 0.0], [0.0, -1.0]], [1, -1]
    >>> alignment.cone_distance([[1.0, 1.0], [3.0, -4.0], [-1.0, 0.0]], x, y)
    array([0. , 0.8, 1. ])
    """
    from scipy.optimize import nnls

    samples, signs = labelled(x, y)
    neurons = neurons_like("W", W, samples)
    length = np.linalg.norm(samples, axis=1)
    rays = samples[length > 0] * (signs / np.where(length > 0, length, 1))[length > 0, None]
    distances = np.full(neurons.shape[0], np.nan)
    for j, w in enumerate(neurons):
        size = np.linalg.norm(w)
        if size > 0:
            distances[j] = nnls(rays.T, w / size)[1] if len(rays) else 1.0
    return distances


def labelled(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return checked samples (n, d) and labels ±1 (n,), both float64."""
    samples = float_array("x", x, ndim=2).astype(np.float64, copy=False)
    signs = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if signs.shape != samples.shape[:1]:
        raise ValueError(
            f"y has shape {signs.shape}; x has {samples.shape[0]} samples, so it must be "
            f"({samples.shape[0]},)"
        )
    wrong = np.abs(signs) != 1.0
    if wrong.any():
        raise ValueError(
            f"y has the entry {signs[wrong][0]:g} at {int(np.argmax(wrong))}; "
            "labels must be -1 or +1"
        )
    return samples, signs


def neurons_like(name: str, W: ArrayLike, samples: Array) -> Array:
    """Return checked neurons (m, d) of the samples' dimension, float64."""
    neurons = float_array(name, W, ndim=2).astype(np.float64, copy=False)
    if neurons.shape[1] != samples.shape[1]:
        raise ValueError(
            f"{name} has shape {neurons.shape}; x has dimension {samples.shape[1]}, so it must be "
            f"(m, {samples.shape[1]})"
        )
    return neurons
