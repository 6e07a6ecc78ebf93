"""Label corruption: which labels of a data set are turned over, at random, by margin or by an adversary."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcore._seeds import Seed, describe, stream
from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset

_Array = NDArray[np.float64]
_Mask = NDArray[np.bool_]

KINDS = ("uniform", "cluster", "smallest_margin", "largest_margin", "adversary")


def corrupt(
    data: Dataset,
    kind: str,
    rate: float,
    *,
    exact: bool = False,
    cluster: int | None = None,
    seed: Seed = 0,
) -> Dataset:
    """Return the data set with a share of its clean labels flipped; the samples stay.

    The joint law of samples and labels is then within `rate` of the clean one, and the marginal law of the samples is
    unchanged: the corruption of Frei, Chatterji and Bartlett's "Random Feature Amplification". The kinds are
    strategies of whoever chooses the labels, from chance to the worst.

    Parameters
    ----------
    data : Dataset
        Labels -1 and +1. The flips start from `clean_y`, or from `y` where that is unknown: flips that the data had
        before are not kept. All kinds but "uniform" need `means` of shape (2, d), as `xor_clusters` gives them.
    kind : {"uniform", "cluster", "smallest_margin", "largest_margin", "adversary"}
        "uniform": anywhere, at random. "cluster": all in one cluster, at random. "smallest_margin" and
        "largest_margin": where y·(|<x, μ1>|/|μ1| - |<x, μ2>|/|μ2|), y clean, is smallest or largest; their number is
        rate·n, rounded. "adversary": see below; their number is floor(rate·n).
    rate : float
        Share of flips over the whole data set, in [0, 1].
    exact : bool
        Of "uniform" and "cluster": flip rate·n labels, rounded (in each cluster its share, if `means` are known),
        instead of each independently.
    cluster : int, optional
        Of "cluster": 0 … 3 for +μ1, -μ1, +μ2, -μ2. A sample belongs to the cluster of its clean label on whose side
        of 0 it lies.
    seed : int or SeedSequence
        Flips are drawn from its stream "labels". Margins and the adversary draw nothing.

    Returns
    -------
    Dataset
        With `clean_y` and `flipped`; its provenance has `corruption` and `flips` added.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, labels other than ±1, means that are missing, and more flips than the cluster has
        samples.

    Notes
    -----
    **What the adversary is the worst for.** While the output is near 0, a neuron that points at a mean c grows at a
    rate in proportion to `feature_growth`, P_c = h_c Σ_i w_i y_i relu(<x_i, c>)/|c| with h_c the clean label of c and
    w_i the sample's share of the weight. The adversary sees everything and flips exactly floor(rate·n) labels
    so that the least of the four, min_c P_c, is as small as it can be made with that number of flips. P_c is linear in
    y, so this optimum is exact: for each c the flips with the largest h_c y_i w_i relu(<x_i, c>), then the
    best c. With tight clusters of equal size and norm P_c falls through 0 where rate = 1/8, half of a
    cluster: from there on one of four features grows with the wrong sign. It is not the worst for any other measure,
    nor for the end of training.

    Examples
    --------
    >>> import featcore as fc
    >>> clean = fc.data.xor_clusters(n=400, d=10, cluster_std=0.1, sizes="balanced")
    >>> noisy = fc.data.corrupt(clean, "adversary", 0.2)
    >>> int(noisy.flipped.sum())
    80
    >>> bool(fc.data.feature_growth(noisy).min() < 0 < fc.data.feature_growth(clean).min())
    True
    """
    choice("kind", kind, KINDS)
    rate = real("rate", rate, least=0.0, most=1.0)
    if not isinstance(exact, bool):
        raise TypeError(f"exact={exact!r} must be True or False")
    if (kind == "cluster") != (cluster is not None):
        raise ValueError(
            f"cluster={cluster!r} with kind={kind!r}: name one of the clusters 0 to 3 with "
            "kind='cluster', and none with any other kind"
        )
    clean_y = _clean_labels(data)
    if kind == "adversary":
        flipped = _adversary(data, clean_y, rate)
    elif kind in ("smallest_margin", "largest_margin"):
        margin = margins(data.x, clean_y, _means(data, kind))
        flipped = by_margin(margin, round(rate * data.n), kind)
    else:
        rng = stream(seed, "labels")
        if kind == "cluster":
            target = integer("cluster", cluster, least=0, most=3)
            index = _clusters(data, clean_y, kind)
            share = aimed(rate, index, target, "rate", "cluster")
        else:
            index = (
                np.zeros(data.n, dtype=np.int64)
                if data.means is None or data.means.shape[0] != 2
                else _clusters(data, clean_y, kind)
            )
            share = rate * np.bincount(index, minlength=4).astype(np.float64)
        flipped = at_random(rng, index, share, exact)
    return Dataset(
        data.x,
        np.where(flipped, -clean_y, clean_y),
        clean_y,
        flipped,
        data.means,
        data.weights,
        {
            **data.provenance,
            "corruption": {
                "kind": kind,
                "rate": rate,
                "exact": exact,
                "cluster": cluster,
                "seed": describe(seed),
            },
            "flips": int(flipped.sum()),
        },
    )


def feature_growth(data: Dataset) -> _Array:
    """Return how fast neurons along +μ1, -μ1, +μ2 and -μ2 grow at first, with the sign of their feature.

    Entry c is P_c = h_c Σ_i w_i y_i relu(<x_i, c>)/|c| over the labels as given, h = (1, 1, -1, -1) and w_i the share
    of the sample in the weight: while the output is near 0, a neuron along c with a head of sign h_c grows by
    step_size·|a|/2 times it a step. For tight clusters with uniform flips it is (1-2η)|c|/4; a negative entry says
    that the feature grows with the wrong sign.

    Parameters
    ----------
    data : Dataset
        Labels -1 and +1, and `means` of shape (2, d).

    Returns
    -------
    ndarray, shape (4,)
        P_c, in units of x.

    Raises
    ------
    ValueError
        If the means are missing.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.feature_growth(fc.data.xor_clusters(400, 10, 0.0, sizes="balanced"))
    array([0.25, 0.25, 0.25, 0.25])
    """
    return np.asarray(_pulls(data) @ data.y.astype(np.float64))


def margins(x: NDArray[Any], clean_y: NDArray[Any], means: NDArray[Any]) -> _Array:
    """Return y·(|<x, μ1>|/|μ1| - |<x, μ2>|/|μ2|) of every sample."""
    along = np.abs(x @ unit_rows(means).T)
    return np.asarray(clean_y * (along[:, 0] - along[:, 1]))


def by_margin(margin: _Array, flips: int, kind: str) -> _Mask:
    """Return the mask of the `flips` smallest or largest margins."""
    order = np.argsort(margin, kind="stable")
    flipped = np.zeros(margin.size, dtype=bool)
    flipped[order[:flips] if kind == "smallest_margin" else order[margin.size - flips :]] = True
    return flipped


def aimed(
    rate: float, index: NDArray[np.int64], cluster: int, rate_name: str, cluster_name: str
) -> _Array:
    """Return the expected flips in each cluster, all of them in one."""
    n = index.size
    sizes = np.bincount(index, minlength=4)
    expected = np.zeros(4)
    expected[cluster] = rate * n
    if expected[cluster] > sizes[cluster] * (1.0 + 1e-12):
        raise ValueError(
            f"{rate_name}={rate:g} aimed at {cluster_name}={cluster} needs {expected[cluster]:g} "
            f"flips among its {sizes[cluster]} samples; lower {rate_name} to at most "
            f"{sizes[cluster] / n:g}"
        )
    return expected


def at_random(
    rng: np.random.Generator, index: NDArray[np.int64], expected: _Array, exact: bool
) -> _Mask:
    """Return a mask of `expected` flips in each cluster; more noise under the same seed flips a superset."""
    n = index.size
    if not exact:
        rate = expected / np.maximum(np.bincount(index, minlength=4), 1)
        return np.asarray(rng.random(n) < rate[index])
    order = rng.permutation(n)
    flipped = np.zeros(n, dtype=bool)
    for k in range(4):
        flipped[order[index[order] == k][: round(expected[k])]] = True
    return flipped


def unit_rows(array: NDArray[Any]) -> _Array:
    """Return the rows over their norms."""
    # Scaled first, so that the squares in the norm can neither overflow nor underflow.
    scaled = array / np.abs(array).max(axis=1, keepdims=True)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _adversary(data: Dataset, clean_y: NDArray[Any], rate: float) -> _Mask:
    # 0.29·100 is 28.999…: a budget of 29
    budget = math.floor(rate * data.n * (1.0 + 1e-12))
    gains = _pulls(data) * clean_y
    order = np.argsort(-gains, axis=1, kind="stable")[:, :budget]
    left = gains.sum(axis=1) - 2.0 * np.take_along_axis(gains, order, axis=1).sum(axis=1)
    flipped = np.zeros(data.n, dtype=bool)
    flipped[order[int(np.argmin(left))]] = True
    return flipped


def _pulls(data: Dataset) -> _Array:
    """Return h_c w_i relu(<x_i, c>)/|c|, shape (4, n): the coefficients of P_c in y."""
    along = unit_rows(_means(data, "adversary")) @ data.x.astype(np.float64).T
    weights = np.ones(data.n) if data.weights is None else data.weights.astype(np.float64)
    pulls = np.maximum(np.stack([along[0], -along[0], along[1], -along[1]]), 0.0)
    return np.asarray(np.array([[1.0], [1.0], [-1.0], [-1.0]]) * pulls * (weights / weights.sum()))


def _clusters(data: Dataset, clean_y: NDArray[Any], kind: str) -> NDArray[np.int64]:
    along = data.x @ _means(data, kind).T
    side = np.where(clean_y > 0, along[:, 0], along[:, 1])
    return np.asarray(np.where(clean_y > 0, 0, 2) + (side < 0), dtype=np.int64)


def _means(data: Dataset, kind: str) -> NDArray[Any]:
    if data.means is None or data.means.shape[0] != 2 or not data.means.any(axis=1).all():
        found = "no means" if data.means is None else f"means of shape {data.means.shape}"
        raise ValueError(
            f"data has {found}; kind={kind!r} needs μ1 and μ2, none of them 0, as rows of data.means"
        )
    return data.means


def _clean_labels(data: Dataset) -> NDArray[Any]:
    clean_y: NDArray[Any] = data.y if data.clean_y is None else data.clean_y
    wrong = np.abs(clean_y) != 1
    if wrong.any():
        raise ValueError(
            f"data has the label {clean_y[wrong][0]:g} at {int(np.argmax(wrong))}; flips need -1 or +1"
        )
    return clean_y
