"""Gaussian XOR clusters of very high dimension, drawn in coordinates of the space that they span."""

from __future__ import annotations

import numpy as np

from featcore._seeds import Seed, describe, stream
from featcore._validation import choice, integer, real
from featcore.data.corruption import at_random
from featcore.data.dataset import Dataset
from featcore.data.xor import cluster_index


def xor_clusters_in_span(
    n: int,
    n_test: int,
    d: int,
    cluster_std: float,
    label_noise: float = 0.0,
    *,
    seed: Seed = 0,
    mean_norm: float = 1.0,
    sizes: str = "drawn",
    noise: str = "drawn",
) -> tuple[Dataset, Dataset]:
    """Return Gaussian XOR clusters in R^d, for training and testing, in an orthonormal basis of their span.

    n + n_test samples and two means span at most k = n + n_test + 2 dimensions. A network that starts from isotropic
    Gaussian weights sees only its weights' projections on that span, and these are Gaussian again: outputs, losses and
    accuracies of a network of dimension k on these data have the joint law of those of one of dimension d on
    `xor_clusters`, at any step of training. The coordinates are drawn as they are, by Bartlett's decomposition, with
    some k²/2 normal numbers instead of kd: d may be in the millions. What depends on the rest of W, such as norms,
    cosines and the stable rank, is not that of dimension d.

    Parameters
    ----------
    n, n_test : int
        Numbers of training and test samples, at least 1.
    d : int
        Dimension that is stood for, at least n + n_test + 2.
    cluster_std, label_noise, mean_norm, sizes, noise
        As of `xor_clusters`; training and test data each have the label noise and the sizes.
    seed : int or SeedSequence
        Coordinates are drawn from its stream "data", flips from its stream "labels". Under one seed the noise of the
        clusters is the same at every `mean_norm` and, but for its length, at every `d`.

    Returns
    -------
    train, test : Dataset
        In the same k coordinates, the first two along μ1 and μ2; with `clean_y`, `flipped` and `means`.

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.

    Examples
    --------
    >>> import featcore as fc
    >>> train, test = fc.data.xor_clusters_in_span(20, 30, d=10**6, cluster_std=1.0, mean_norm=50.0)
    >>> train, test.d
    (Dataset(n=20, d=52, float64, clean_y, flipped, means), 52)
    """
    n, n_test = integer("n", n, least=1), integer("n_test", n_test, least=1)
    count = n + n_test
    d = integer("d", d)
    if d < count + 2:
        raise ValueError(
            f"d={d} must be at least n + n_test + 2 = {count + 2}; below that nothing is saved: use xor_clusters"
        )
    sigma = real("cluster_std", cluster_std, least=0.0)
    label_noise = real("label_noise", label_noise, least=0.0, most=1.0)
    mean_norm = real("mean_norm", mean_norm, above=0.0)
    choice("sizes", sizes, ("drawn", "balanced"))
    choice("noise", noise, ("drawn", "exact"))

    # The lengths, whose law alone depends on d, come last.
    rng = stream(seed, "data")
    x = np.zeros((count, count + 2))
    x[:, :2] = rng.standard_normal((count, 2))
    x[:, 2:] = np.tril(rng.standard_normal((count, count)), -1)
    index = np.concatenate([cluster_index(rng, size, sizes) for size in (n, n_test)])
    np.fill_diagonal(x[:, 2:], np.sqrt(rng.chisquare(d - 2 - np.arange(count))))

    x *= sigma
    means = mean_norm * np.eye(2, count + 2)
    x += np.array([1.0, -1.0])[index % 2, None] * means[index // 2]
    clean_y = np.where(index < 2, 1.0, -1.0)
    flips = stream(seed, "labels")

    def part(name: str, rows: slice) -> Dataset:
        expected = label_noise * np.bincount(index[rows], minlength=4).astype(np.float64)
        flipped = at_random(flips, index[rows], expected, noise == "exact")
        return Dataset(
            x[rows],
            np.where(flipped, -clean_y[rows], clean_y[rows]),
            clean_y[rows],
            flipped,
            means,
            provenance={
                "generator": "xor_clusters_in_span",
                "part": name,
                "n": n,
                "n_test": n_test,
                "d": d,
                "cluster_std": sigma,
                "label_noise": label_noise,
                "seed": describe(seed),
                "mean_norm": mean_norm,
                "sizes": sizes,
                "noise": noise,
                "flips": int(flipped.sum()),
            },
        )

    return part("train", slice(n)), part("test", slice(n, None))
