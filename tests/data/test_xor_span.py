"""XOR clusters in coordinates of their span: the law of all inner products, and what a network makes of them."""

import json
import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

import featcore as fc
from featcore.data import xor_clusters, xor_clusters_in_span

N, N_TEST, D, STD = 8, 6, 30, 0.7
DRAWS = 4000


def gram(x, means):
    stacked = np.concatenate([x, means])
    return stacked @ stacked.T


def test_all_inner_products_have_the_law_of_the_full_dimension():
    # Without means a Gram matrix is Wishart whatever the clusters are: eigenvalues, entries and determinant tell.
    rng = np.random.default_rng(0)
    spans, plains = [], []
    for seed in range(DRAWS):
        train, test = xor_clusters_in_span(N, N_TEST, D, 1.0, seed=seed, mean_norm=1e-12)
        spans.append(gram(np.concatenate([train.x, test.x]), train.means / 1e-12))
        z = rng.standard_normal((N + N_TEST, D))
        plains.append(gram(z, np.eye(2, D)))
    spans, plains = np.array(spans), np.array(plains)
    inner = slice(0, N + N_TEST)
    for pick in (
        lambda g: g[:, 0, 0],
        lambda g: g[:, -3, -3],  # the last sample
        lambda g: g[:, 0, N],  # training with test
        lambda g: g[:, 3, -1],  # with a mean
        lambda g: g[:, N, N + 1],
        lambda g: np.linalg.eigvalsh(g[:, inner, inner])[:, 0],
        lambda g: np.linalg.eigvalsh(g[:, inner, inner])[:, -1],
        lambda g: np.linalg.slogdet(g[:, inner, inner])[1],
        lambda g: g[:, 0, 1] * g[:, 1, 2] * g[:, 2, 0],
        lambda g: np.linalg.slogdet(g)[1],
    ):
        # ten decisions in all: 1e-4 each keeps false alarms below one in a thousand
        assert ks_2samp(pick(spans), pick(plains)).pvalue > 1e-4


def test_means_are_added_to_the_noise_exactly():
    short, long = (
        xor_clusters_in_span(N, N_TEST, D, STD, seed=4, mean_norm=norm) for norm in (1.0, 9.0)
    )
    for one, other in zip(short, long, strict=True):
        np.testing.assert_array_equal(one.clean_y, other.clean_y)
        np.testing.assert_array_equal(one.x[:, 2:], other.x[:, 2:])
        side = np.where(one.clean_y > 0, 0, 1)
        moved = np.take_along_axis(other.x - one.x, side[:, None], axis=1)
        np.testing.assert_allclose(np.abs(moved), 8.0, rtol=1e-12)
        still = np.take_along_axis(other.x - one.x, 1 - side[:, None], axis=1)
        np.testing.assert_array_equal(still, 0.0)


def test_dimension_changes_lengths_alone():
    small, large = (xor_clusters_in_span(N, N_TEST, d, STD, seed=4)[0] for d in (40, 10**7))
    differ = (small.x != large.x).nonzero()
    np.testing.assert_array_equal(differ[1], differ[0] + 2)
    np.testing.assert_allclose(
        np.diagonal(large.x[:, 2:]), STD * math.sqrt(10**7), rtol=5 / math.sqrt(10**7)
    )


def test_a_network_in_the_span_of_its_data_is_the_network():
    # The principle, on given data: an orthonormal basis of the span changes no output, at any step.
    train = xor_clusters(12, 60, 1.0, 0.2, seed=1, mean_norm=3.0)
    test = xor_clusters(9, 60, 1.0, seed=2, mean_norm=3.0)
    basis = np.linalg.qr(np.concatenate([train.x, test.x, train.means]).T)[0]
    net = fc.TwoLayerNet.gaussian(20, 60, 1e-3, seed=3)

    def run(net, train, test):
        return fc.descend(
            net, train, step_size=0.02, steps=40, train=("W",), evaluate={"test": test},
            observe=["loss"], form="primal",
        ).history  # fmt: skip

    def turned(data):
        return fc.Dataset(data.x @ basis, data.y)

    full = run(net, train, test)
    small = run(fc.TwoLayerNet(net.W @ basis, net.a), turned(train), turned(test))
    np.testing.assert_allclose(small.loss, full.loss, rtol=1e-9)


def test_networks_have_the_accuracy_that_they_have_in_full_dimension():
    # at a point of the phase diagram where accuracies vary: two samples of 60 runs, same law
    n, n_test, d, norm = 40, 40, 1500, 8.0
    options = {"mean_norm": norm, "sizes": "balanced", "noise": "exact"}
    accuracy = {"span": [], "full": []}
    for seed in range(60):
        pair = xor_clusters_in_span(n, n_test, d, 1.0, 0.1, seed=seed, **options)
        whole = [
            xor_clusters(size, d, 1.0, 0.1, seed=child, **options)
            for size, child in zip(
                (n, n_test), np.random.SeedSequence(9000 + seed).spawn(2), strict=True
            )
        ]
        for name, (train, test) in {"span": pair, "full": whole}.items():
            net = fc.TwoLayerNet.gaussian(50, train.d, 1e-7, head="alternating", seed=seed)
            history = fc.descend(
                net, train, step_size=0.4 * n / d, steps=30, train=("W",), evaluate={"test": test},
                observe=["clean_accuracy"], num_threads=1,
            ).history  # fmt: skip
            accuracy[name].append(history.clean_accuracy.sel(split="test").values[-1])
    span, full = (np.array(values) for values in accuracy.values())
    error = math.hypot(span.std(ddof=1), full.std(ddof=1)) / math.sqrt(60)
    assert 0.55 < full.mean() < 0.98
    assert abs(span.mean() - full.mean()) < 4 * error


def test_labels_and_sizes_are_those_of_the_generator():
    train, test = xor_clusters_in_span(
        40, 80, 500, 1.0, 0.1, mean_norm=20.0, sizes="balanced", noise="exact"
    )
    for data, size in ((train, 10), (test, 20)):
        along = np.round(data.x @ data.means.T / 400.0).astype(int)
        cluster = np.select([along[:, 0] > 0, along[:, 0] < 0, along[:, 1] > 0], [0, 1, 2], 3)
        np.testing.assert_array_equal(np.bincount(cluster), [size] * 4)
        np.testing.assert_array_equal(np.bincount(cluster[data.flipped]), [size // 10] * 4)
        np.testing.assert_array_equal(data.clean_y, np.where(cluster < 2, 1, -1))
        np.testing.assert_array_equal(data.y, np.where(data.flipped, -1, 1) * data.clean_y)
        json.dumps(dict(data.provenance))
    assert train.provenance["part"] == "train"
    assert train.sha256() == xor_clusters_in_span(
        40, 80, 500, 1.0, 0.1, mean_norm=20.0, sizes="balanced", noise="exact"
    )[0].sha256()  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 31}, "d=31 must be at least n [+] n_test [+] 2 = 32"),
        ({"n_test": 0}, "n_test=0 must be at least 1"),
        ({"sizes": "even"}, "sizes='even' is unknown"),
        ({"noise": "some"}, "noise='some' is unknown"),
        ({"mean_norm": 0.0}, "mean_norm=0 must be > 0"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        xor_clusters_in_span(**{"n": 10, "n_test": 20, "d": 100, "cluster_std": 1.0, **change})
