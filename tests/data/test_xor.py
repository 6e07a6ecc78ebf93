"""XOR clusters: moments, labels, and every kind of label noise."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcore.data import xor_clusters
from featcore.data._laws import LAWS
from featcore.data.xor import _orthonormal_pair

BASE = {"n": 400, "d": 5, "cluster_std": 0.3}


def clusters(**kwargs):
    """Return the cluster index 0..3 (+μ1, -μ1, +μ2, -μ2), read off the same draw with no spread."""
    still = xor_clusters(**{**BASE, **kwargs, "cluster_std": 0.0, "label_noise": 0.0})
    along = np.sign(still.x @ still.means.T).astype(int)
    assert (np.abs(along).sum(axis=1) == 1).all()
    return np.select([along[:, 0] > 0, along[:, 0] < 0, along[:, 1] > 0], [0, 1, 2], 3)


def margins(data):
    unit = data.means / np.linalg.norm(data.means, axis=1, keepdims=True)
    along = np.abs(data.x @ unit.T)
    return data.clean_y * (along[:, 0] - along[:, 1])


def test_the_call_of_the_readme():
    data = xor_clusters(n=1000, d=50, cluster_std=0.1, label_noise=0.15, seed=0)
    assert (data.n, data.d, data.dtype) == (1000, 50, np.float64)
    np.testing.assert_array_equal(data.means, np.eye(2, 50))
    np.testing.assert_array_equal(data.y, np.where(data.flipped, -1, 1) * data.clean_y)
    assert data.provenance["flips"] == data.flipped.sum() > 0
    # At this spread (μ is ten standard deviations from 0) the oracle makes no error.
    assert (margins(data) > 0).all()


def test_without_spread_samples_are_the_four_means():
    data = xor_clusters(n=100, d=3, cluster_std=0.0, mean_norm=2.0)
    expected = {(2.0, 0, 0): 1, (-2.0, 0, 0): 1, (0, 2.0, 0): -1, (0, -2.0, 0): -1}
    assert {tuple(x) for x in data.x} == set(expected)
    assert [expected[tuple(x)] for x in data.x] == data.y.tolist()


# Fourth and eighth moments of a coordinate of unit variance.
@pytest.mark.parametrize(
    ("cluster", "fourth", "eighth"),
    [
        ("gaussian", 3.0, 105.0),
        ("laplace", 6.0, 2520.0),
        ("uniform", 1.8, 9.0),
        # E z⁴ = 7π⁴/15 and E z⁸ = 127π⁸/15 of the logistic law, over powers of its variance π²/3
        ("logistic", 4.2, 127 * 81 / 15),
        # central moments of the exponential law: the subfactorials of 4 and 8
        ("exponential", 9.0, 14833.0),
        # a coordinate of the ball of radius √6 in 4 dimensions: 3·6²/(4·6) · 4/8, 105·6⁴/(4·6·8·10) · 4/12
        ("ball", 2.25, 23.625),
    ],
)
def test_moments_within_five_standard_errors(cluster, fourth, eighth):
    n, d, std = 200_000, 4, 0.7
    args = {"n": n, "d": d, "seed": 11, "cluster": cluster}
    z = (xor_clusters(**args, cluster_std=std).x - xor_clusters(**args, cluster_std=0.0).x) / std
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=5 / math.sqrt(n))
    covariance = z.T @ z / n
    np.testing.assert_allclose(np.diag(covariance), 1.0, atol=5 * math.sqrt((fourth - 1) / n))
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=5 / n**0.5)
    error = math.sqrt((eighth - fourth**2) / (n * d))
    assert np.mean(z**4) == pytest.approx(fourth, abs=5 * error)


@pytest.mark.parametrize("cluster", sorted(LAWS))
def test_all_but_one_law_are_symmetric(cluster):
    z = xor_clusters(50_000, 4, 1.0, cluster=cluster, seed=3, means=1e-9 * np.eye(2, 4)).x
    error = np.std(z**3) / math.sqrt(z.size)
    assert np.mean(z**3) == pytest.approx(2.0 if cluster == "exponential" else 0.0, abs=5 * error)


def test_the_ball_is_isotropic_and_bounded():
    # its coordinates depend on each other: E z1² z2² is a third of E z1⁴
    z = xor_clusters(100_000, 5, 1.0, cluster="ball", seed=4, means=1e-9 * np.eye(2, 5)).x
    assert np.linalg.norm(z, axis=1).max() <= math.sqrt(7.0) * (1 + 1e-8)
    assert np.mean(z[:, 0] ** 2 * z[:, 3] ** 2) == pytest.approx(7 / 9, abs=0.02)
    turned = z @ np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    assert np.mean(turned[:, 0] ** 4) == pytest.approx(np.mean(z[:, 0] ** 4), rel=0.03)


def test_clusters_are_drawn_uniformly():
    n = 40_000
    sizes = np.array(xor_clusters(n, 2, 0.1).provenance["cluster_sizes"])
    assert sizes.sum() == n
    assert np.abs(sizes - n / 4).max() < 5 * math.sqrt(n * 3 / 16)
    assert np.ptp(sizes) > 1
    assert np.bincount(clusters(n=n, d=2)).tolist() == sizes.tolist()


@given(n=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_balanced_sizes_differ_by_at_most_one(n, seed):
    sizes = np.bincount(clusters(n=n, seed=seed, sizes="balanced"), minlength=4)
    assert sizes.sum() == n
    assert np.ptp(sizes) <= 1


def test_samples_left_over_favour_no_cluster():
    runs = [xor_clusters(1, 2, 0.0, sizes="balanced", seed=s) for s in range(400)]
    count = np.sum([run.provenance["cluster_sizes"] for run in runs], axis=0)
    assert np.abs(count - 100).max() < 5 * math.sqrt(400 * 3 / 16)


def test_balanced_samples_are_shuffled():
    index = clusters(n=4000, sizes="balanced")
    # Of two neighbours, 1/4 share a cluster; the standard error is about 0.007.
    assert np.mean(index[1:] == index[:-1]) == pytest.approx(0.25, abs=0.035)


@pytest.mark.parametrize(
    "change",
    [
        {"label_noise": 0.2},
        {"label_noise": 0.2, "noise": "exact"},
        {"label_noise": 0.05, "target": 3},
        {"label_noise": 0.2, "target": "smallest_margin"},
    ],
)
def test_noise_never_moves_the_points(change):
    clean, noisy = xor_clusters(**BASE), xor_clusters(**BASE, **change)
    np.testing.assert_array_equal(noisy.x, clean.x)
    np.testing.assert_array_equal(noisy.clean_y, clean.y)
    assert noisy.flipped.any()
    assert not clean.flipped.any()


@pytest.mark.parametrize("noise", ["drawn", "exact"])
def test_more_noise_flips_a_superset(noise):
    less, more = (xor_clusters(**BASE, label_noise=p, noise=noise).flipped for p in (0.1, 0.3))
    assert (more >= less).all()
    assert more.sum() > less.sum() > 0


def test_drawn_flips_are_binomial_in_each_cluster():
    n, rate = 40_000, 0.2
    args = {"n": n, "d": 2, "label_noise": rate, "seed": 5}
    data, index = xor_clusters(**args, cluster_std=0.1), clusters(**args)
    for k in range(4):
        flips = data.flipped[index == k]
        assert flips.mean() == pytest.approx(
            rate, abs=5 * math.sqrt(rate * (1 - rate) / flips.size)
        )


@given(
    n=st.integers(1, 60),
    rate=st.floats(0, 1),
    seed=st.integers(0, 99),
    sizes=st.sampled_from(["drawn", "balanced"]),
)
def test_exact_flips_in_each_cluster(n, rate, seed, sizes):
    args = {"n": n, "label_noise": rate, "seed": seed, "sizes": sizes}
    data, index = xor_clusters(**{**BASE, **args}, noise="exact"), clusters(**args)
    for k in range(4):
        assert data.flipped[index == k].sum() == round(rate * (index == k).sum())


@pytest.mark.parametrize("target", range(4))
def test_aimed_noise_hits_its_cluster_alone(target):
    n, rate = 8000, 0.1
    args = {"n": n, "d": 2, "label_noise": rate, "target": target}
    inside = clusters(n=n, d=2) == target
    exact = xor_clusters(**args, cluster_std=0.1, noise="exact").flipped
    drawn = xor_clusters(**args, cluster_std=0.1).flipped
    assert exact.sum() == rate * n
    own_rate = rate * n / inside.sum()
    error = math.sqrt(inside.sum() * own_rate * (1 - own_rate))
    assert drawn.sum() == pytest.approx(rate * n, abs=5 * error)
    assert not exact[~inside].any()
    assert not drawn[~inside].any()


@pytest.mark.parametrize("noise", ["drawn", "exact"])
def test_aimed_noise_may_flip_the_whole_cluster_but_no_more(noise):
    args = {"n": 100, "d": 2, "cluster_std": 0.1, "sizes": "balanced", "target": 1, "noise": noise}
    whole = xor_clusters(**args, label_noise=0.25)
    np.testing.assert_array_equal(whole.flipped, clusters(n=100, d=2, sizes="balanced") == 1)
    with pytest.raises(ValueError, match=r"label_noise=0\.26 aimed at target=1 .* at most 0\.25"):
        xor_clusters(**args, label_noise=0.26)


@pytest.mark.parametrize("noise", ["drawn", "exact"])
@pytest.mark.parametrize("means", [{}, {"orientation": "random"}, {"means": [[2, 0], [0, 0.5]]}])
def test_margin_noise_flips_the_extreme_points(noise, means):
    args = {**BASE, "d": 2, "label_noise": 0.137, "noise": noise, **means}
    small = xor_clusters(**args, target="smallest_margin")
    large = xor_clusters(**args, target="largest_margin")
    assert small.flipped.sum() == large.flipped.sum() == round(0.137 * 400)
    margin = margins(small)
    assert margin.min() < 0  # at this spread some points lie on the wrong side
    assert margin[small.flipped].max() < margin[~small.flipped].min()
    assert margin[large.flipped].min() > margin[~large.flipped].max()


@pytest.mark.parametrize("target", [2, "smallest_margin", "largest_margin"])
def test_aimed_noise_of_rate_zero_flips_nothing(target):
    assert not xor_clusters(**BASE, target=target).flipped.any()


@given(d=st.integers(2, 12), seed=st.integers(0, 2**32))
def test_random_means_are_orthonormal(d, seed):
    mu = xor_clusters(1, d, 0.0, seed=seed, orientation="random", mean_norm=3.0).means
    np.testing.assert_allclose(mu @ mu.T, 9.0 * np.eye(2), atol=1e-13)


def test_nearly_parallel_draws_become_orthogonal_all_the_same():
    class Parallel:
        def standard_normal(self, shape):
            return 0.3 + np.outer([0.0, 1e-9], np.arange(shape[1]))

    mu = _orthonormal_pair(Parallel(), 5)
    np.testing.assert_allclose(mu @ mu.T, np.eye(2), atol=1e-15)


def test_random_means_are_uniform():
    d, runs = 3, 3000
    mu = np.array([xor_clusters(1, d, 0, seed=s, orientation="random").means for s in range(runs)])
    # A coordinate of a uniform unit vector has mean 0, square 1/3 and fourth power 1/5.
    np.testing.assert_allclose(mu.mean(axis=0), 0.0, atol=5 * math.sqrt(1 / 3 / runs))
    squares = (mu**2).mean(axis=0)
    np.testing.assert_allclose(squares, 1 / 3, atol=5 * math.sqrt((1 / 5 - 1 / 9) / runs))


def test_orientation_changes_the_means_alone():
    axes, turned = (xor_clusters(**BASE, orientation=o) for o in ("axes", "random"))
    still = [xor_clusters(**{**BASE, "cluster_std": 0}, orientation=o) for o in ("axes", "random")]
    np.testing.assert_allclose(axes.x - still[0].x, turned.x - still[1].x, atol=1e-15)
    assert np.abs(turned.means - axes.means).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_given_means_make_a_test_set(dtype):
    train = xor_clusters(**BASE, orientation="random", seed=1, dtype=dtype)
    test = xor_clusters(**BASE, seed=2, means=train.means, dtype=dtype)
    np.testing.assert_array_equal(test.means, train.means)
    assert test.dtype == dtype
    still = xor_clusters(**{**BASE, "cluster_std": 0}, seed=2, means=train.means)
    centres = np.vstack([train.means, -train.means]).astype(np.float64)
    assert np.abs(still.x[:, None] - centres).max(axis=2).min(axis=1).max() < 1e-15


def test_given_means_may_differ_in_norm():
    mu = [[3.0, 4.0], [-0.8, 0.6]]
    data = xor_clusters(200, 2, 0.0, 0.1, means=mu, target="largest_margin")
    np.testing.assert_array_equal(data.means, mu)
    # The margin of a centre is its norm: the largest are those of ±μ1.
    assert data.flipped.sum() == 20
    np.testing.assert_allclose(np.linalg.norm(data.x[data.flipped], axis=1), 5.0)
    assert (data.y[data.flipped] == -1).all()


def test_float32_is_the_rounded_float64():
    args = {**BASE, "label_noise": 0.2, "target": "smallest_margin", "orientation": "random"}
    single, double = xor_clusters(**args, dtype=np.float32), xor_clusters(**args)
    assert single.dtype == np.float32
    assert single.sha256() == double.astype(np.float32).sha256()
    np.testing.assert_array_equal(single.flipped, double.flipped)


@pytest.mark.parametrize("seed", [7, np.random.SeedSequence(7).spawn(2)[1]])
def test_a_seed_says_it_all(seed):
    assert xor_clusters(**BASE, seed=seed).sha256() == xor_clusters(**BASE, seed=seed).sha256()
    assert xor_clusters(**BASE, seed=seed).sha256() != xor_clusters(**BASE, seed=8).sha256()


def test_provenance_reproduces_the_data():
    data = xor_clusters(**BASE, label_noise=0.1, seed=3, cluster="uniform", sizes="balanced")
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == "xor_clusters"
    assert record.pop("cluster_sizes") == [100] * 4
    assert record.pop("flips") == data.flipped.sum()
    assert xor_clusters(**record).sha256() == data.sha256()


def test_provenance_of_given_means_is_their_hash():
    first, second = (
        xor_clusters(4, 2, 0.1, means=np.eye(2) * c).provenance["means"] for c in (1, 2)
    )
    assert first.startswith("SHA-256 ")
    assert first != second


# Equality is promised for one version of featcore and numpy, though numpy's streams are stable in
# practice.
@pytest.mark.parametrize(
    ("kwargs", "sha256"),
    [
        (
            {"n": 1000, "d": 50, "cluster_std": 0.1, "label_noise": 0.15, "seed": 0},
            "0f47c02a18698e39bedf4791b1388a43eb11903ca39cbd696d2025d440c9647e",
        ),
        (
            {**BASE, "label_noise": 0.1, "noise": "exact", "sizes": "balanced", "seed": 1},
            "d32d5edd47f4a472837b4bc4e3251ed92b1cc927c9a617df306e269ac5702f1d",
        ),
        (
            {**BASE, "cluster": "uniform", "label_noise": 0.1, "target": 0, "seed": 2},
            "fcd34186ff72ebffaa98727b3a43d52af031b8855885f09165d7b91acb9246c3",
        ),
    ],
)
def test_golden_hashes(kwargs, sha256):
    assert xor_clusters(**kwargs).sha256() == sha256


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0 must be at least 1"),
        ({"n": 10.0}, TypeError, "n=10.0 must be an integer"),
        ({"d": 1}, ValueError, "d=1 must be at least 2"),
        ({"cluster_std": -0.1}, ValueError, "cluster_std=-0.1 must be >= 0"),
        ({"cluster_std": math.nan}, ValueError, "cluster_std=nan must be finite"),
        ({"label_noise": 1.5}, ValueError, "label_noise=1.5 must be"),
        ({"mean_norm": 0.0}, ValueError, "mean_norm=0 must be > 0"),
        ({"orientation": "up"}, ValueError, "orientation='up' is unknown"),
        ({"cluster": "cauchy"}, ValueError, "cluster='cauchy' is unknown"),
        ({"sizes": "equal"}, ValueError, "sizes='equal' is unknown"),
        ({"noise": "some"}, ValueError, "noise='some' is unknown"),
        ({"target": "margin"}, ValueError, "target='margin' is unknown"),
        ({"target": 4}, ValueError, "target=4 must be between 0 and 3"),
        ({"target": 1.0}, TypeError, "target=1.0 must be an integer"),
        ({"means": np.eye(2)}, ValueError, r"means has shape \(2, 2\); it must be \(2, 5\)"),
        ({"means": np.eye(1, 5)}, ValueError, r"means has shape \(1, 5\)"),
        ({"means": np.eye(2, 5) * [[1], [0]]}, ValueError, r"means\[1\] is zero"),
        ({"means": np.eye(2, 5) + 0.1}, ValueError, "means have the cosine .* orthogonal"),
        ({"means": np.full((2, 5), np.inf)}, ValueError, "means has a non-finite entry"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": None}, TypeError, "seed=None"),
        ({"dtype": np.float16}, TypeError, "dtype=float16 must be float64 or float32"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        xor_clusters(**{**BASE, **change})
