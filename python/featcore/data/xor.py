"""XOR clusters: two orthogonal pairs of opposite means, and label noise of several kinds."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featcore._seeds import Seed, describe, stream
from featcore._validation import choice, float_array, integer, real
from featcore.data._laws import LAWS
from featcore.data.corruption import aimed, at_random, by_margin, margins, unit_rows
from featcore.data.dataset import Dataset

_Array = NDArray[np.float64]

_MARGINS = ("smallest_margin", "largest_margin")
_MAX_COSINE = 1e-6  # of given means: room for the rounding of float32


def xor_clusters(
    n: int,
    d: int,
    cluster_std: float,
    label_noise: float = 0.0,
    *,
    seed: Seed = 0,
    means: ArrayLike | None = None,
    mean_norm: float = 1.0,
    orientation: str = "axes",
    cluster: str = "gaussian",
    sizes: str = "drawn",
    noise: str = "drawn",
    target: int | str | None = None,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return samples of four clusters at +μ1, -μ1 (label +1) and +μ2, -μ2 (label -1), μ1 ⊥ μ2.

    A sample is x = ±μ_k + cluster_std·z, where z has mean zero, unit covariance and a log-concave
    density. The points do not depend on the label noise, and `dtype` changes nothing but
    their rounding.

    Parameters
    ----------
    n, d : int
        Number of samples, at least 1, and dimension, at least 2.
    cluster_std : float
        Standard deviation of each coordinate within a cluster; may be 0.
    label_noise : float
        Share of flipped labels over the whole data set, in [0, 1].
    seed : int or SeedSequence
        Points are drawn from its stream "data", flips from its stream "labels".
    means : array_like, shape (2, d), optional
        μ1 and μ2, orthogonal up to rounding, of any positive norms; `mean_norm` and `orientation`
        are then not used. A test set for data of random orientation needs ``means=data.means``.
    mean_norm : float
        Norm of μ1 and μ2, positive.
    orientation : {"axes", "random"}
        μ1, μ2 along the first two axes, or a uniformly random orthogonal pair. The law of z is
        not rotated.
    cluster : {"gaussian", "laplace", "uniform", "logistic", "exponential", "ball"}
        Law of z: of its entries, which are independent ("exponential": less their mean of 1, so that
        z and -z differ in law); or uniform in the ball of radius √(d+2).
    sizes : {"drawn", "balanced"}
        Each sample's cluster is drawn, or the cluster sizes differ by at most one.
    noise : {"drawn", "exact"}
        Flips are independent, or their number in each cluster is label_noise·size, rounded. (`corrupt` knows more
        kinds.)
    target : int or {"smallest_margin", "largest_margin"}, optional
        Where the flips go. None: everywhere. One of the clusters 0 … 3, in the order +μ1, -μ1, +μ2,
        -μ2: all there, so that its own rate is label_noise·n/size. A margin: to the points where
        y·(|<x, μ1>|/|μ1| - |<x, μ2>|/|μ2|), with the clean y, is smallest or largest; their number
        is then label_noise·n, rounded, whatever `noise` says.
    dtype : float64 or float32
        Drawn in float64 and rounded.

    Returns
    -------
    Dataset
        With `clean_y`, `flipped` and `means` (μ1, μ2). Its provenance holds the arguments (of
        given means their SHA-256), the cluster sizes and the number of flips.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, means that are zero or not orthogonal, and more noise than the
        target cluster has samples.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.xor_clusters(n=1000, d=50, cluster_std=0.1, label_noise=0.15, seed=0)
    Dataset(n=1000, d=50, float64, clean_y, flipped, means)
    >>> data = fc.data.xor_clusters(200, 10, 0.1, 0.05, sizes="balanced", noise="exact", target=2)
    >>> data.provenance["cluster_sizes"], data.provenance["flips"]
    ([50, 50, 50, 50], 10)
    """
    n, d = integer("n", n, least=1), integer("d", d, least=2)
    cluster_std = real("cluster_std", cluster_std, least=0.0)
    label_noise = real("label_noise", label_noise, least=0.0, most=1.0)
    mean_norm = real("mean_norm", mean_norm, above=0.0)
    choice("orientation", orientation, ("axes", "random"))
    choice("cluster", cluster, LAWS)
    choice("sizes", sizes, ("drawn", "balanced"))
    choice("noise", noise, ("drawn", "exact"))
    if isinstance(target, str):
        choice("target", target, _MARGINS)
    elif target is not None:
        target = integer("target", target, least=0, most=3)

    # In this order, so that sizes and orientation do not change z.
    rng = stream(seed, "data")
    x = LAWS[cluster](rng, (n, d))
    index = cluster_index(rng, n, sizes)
    if means is not None:
        mu = _given_means(means, d)
    elif orientation == "axes":
        mu = mean_norm * np.eye(2, d)
    else:
        mu = mean_norm * _orthonormal_pair(rng, d)

    x *= cluster_std
    for k in range(4):
        x[index == k] += mu[k // 2] * (-1) ** k
    clean_y = np.where(index < 2, 1.0, -1.0)
    if isinstance(target, str):
        flipped = by_margin(margins(x, clean_y, mu), round(label_noise * n), target)
    else:
        if target is None:
            expected = label_noise * np.bincount(index, minlength=4).astype(np.float64)
        else:
            expected = aimed(label_noise, index, target, "label_noise", "target")
        flipped = at_random(stream(seed, "labels"), index, expected, noise == "exact")

    return Dataset(
        x,
        np.where(flipped, -clean_y, clean_y),
        clean_y,
        flipped,
        mu,
        provenance={
            "generator": "xor_clusters",
            "n": n,
            "d": d,
            "cluster_std": cluster_std,
            "label_noise": label_noise,
            "seed": describe(seed),
            # A hash, since an attribute of a file cannot hold the 2d numbers of a large d.
            "means": None if means is None else f"SHA-256 {hashlib.sha256(mu.data).hexdigest()}",
            "mean_norm": mean_norm,
            "orientation": orientation,
            "cluster": cluster,
            "sizes": sizes,
            "noise": noise,
            "target": target,
            "dtype": str(np.dtype(dtype)),
            "cluster_sizes": np.bincount(index, minlength=4).tolist(),
            "flips": int(flipped.sum()),
        },
    ).astype(dtype)


def cluster_index(rng: np.random.Generator, n: int, sizes: str) -> NDArray[np.int64]:
    """Return which cluster each of `n` samples belongs to: 0 … 3 for +μ1, -μ1, +μ2, -μ2."""
    if sizes == "drawn":
        return rng.integers(4, size=n)
    # The inner permutation says which clusters get the n mod 4 samples left over.
    return rng.permutation(rng.permutation(4)[np.arange(n) % 4])


def _given_means(means: ArrayLike, d: int) -> _Array:
    mu: _Array = float_array("means", means, ndim=2).astype(np.float64)
    if mu.shape != (2, d):
        raise ValueError(f"means has shape {mu.shape}; it must be (2, {d}), the rows μ1 and μ2")
    for k in range(2):
        if not mu[k].any():
            raise ValueError(f"means[{k}] is zero; both means must have a positive norm")
    unit = unit_rows(mu)
    cosine = float((unit[0] * unit[1]).sum())
    if abs(cosine) > _MAX_COSINE:
        raise ValueError(
            f"means have the cosine {cosine:g}; they must be orthogonal (up to {_MAX_COSINE:g}): "
            "subtract from one its projection on the other"
        )
    return mu


def _orthonormal_pair(rng: np.random.Generator, d: int) -> _Array:
    """Return two rows, uniform among the orthonormal pairs of R^d.

    Plain sums and no BLAS, so that the bits do not depend on the processor.
    """
    pair = unit_rows(rng.standard_normal((2, d)))
    for _ in range(2):  # once loses digits when the two are nearly parallel
        pair[1] -= (pair[0] * pair[1]).sum() * pair[0]
        pair = unit_rows(pair)
    return pair
