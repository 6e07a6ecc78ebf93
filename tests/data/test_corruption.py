"""Label corruption: budgets, places, and that the adversary is the worst there is."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore.data import corrupt, feature_growth, xor_clusters
from featcore.data.corruption import KINDS

N = 400
BASE = {"n": N, "d": 6, "cluster_std": 0.3}


def clean(**changes):
    return xor_clusters(**{**BASE, **changes})


def arguments(kind):
    return {"kind": kind, "cluster": 1} if kind == "cluster" else {"kind": kind}


def origin(data):
    """Return the cluster that a sample was drawn in, read off the same draw with no spread."""
    still = xor_clusters(**{**data.provenance, "cluster_std": 0.0, "label_noise": 0.0})
    along = still.x @ still.means.T
    return np.select([along[:, 0] > 0.5, along[:, 0] < -0.5, along[:, 1] > 0.5], [0, 1, 2], 3)


def drawn(data):
    keep = ("n", "d", "cluster_std", "seed", "sizes", "mean_norm")
    return origin(
        fc.Dataset(data.x, data.y, provenance={key: data.provenance[key] for key in keep})
    )


@pytest.mark.parametrize("kind", KINDS)
def test_only_labels_change_and_it_is_told_which(kind):
    before = clean()
    after = corrupt(before, **arguments(kind), rate=0.2)
    np.testing.assert_array_equal(after.x, before.x)
    np.testing.assert_array_equal(after.means, before.means)
    np.testing.assert_array_equal(after.clean_y, before.y)
    np.testing.assert_array_equal(after.y, np.where(after.flipped, -before.y, before.y))
    assert after.provenance["flips"] == after.flipped.sum() > 0
    assert after.provenance["corruption"]["kind"] == kind
    assert after.provenance["generator"] == "xor_clusters"
    json.dumps(dict(after.provenance))


@pytest.mark.parametrize("kind", KINDS)
def test_rate_zero_is_the_clean_data(kind):
    after = corrupt(clean(), **arguments(kind), rate=0.0)
    assert not after.flipped.any()
    np.testing.assert_array_equal(after.y, clean().y)


@pytest.mark.parametrize("kind", KINDS)
def test_flips_start_from_the_clean_labels(kind):
    noisy = clean(label_noise=0.3)
    again = corrupt(noisy, **arguments(kind), rate=0.1, seed=5)
    fresh = corrupt(clean(), **arguments(kind), rate=0.1, seed=5)
    np.testing.assert_array_equal(again.flipped, fresh.flipped)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"noise": "exact"},
        {"target": 2},
        {"target": 2, "noise": "exact"},
        {"target": "smallest_margin"},
        {"target": "largest_margin"},
    ],
)
def test_the_generator_corrupts_in_the_same_way(changes):
    # spread so small that no sample lies beyond 0
    small = {"cluster_std": 0.05, "label_noise": 0.13, "seed": 9}
    generated = clean(**small, **changes)
    target = changes.get("target")
    kind = target if isinstance(target, str) else "uniform" if target is None else "cluster"
    corrupted = corrupt(
        clean(cluster_std=0.05, seed=9),
        kind,
        0.13,
        exact=changes.get("noise") == "exact",
        cluster=target if kind == "cluster" else None,
        seed=9,
    )
    assert corrupted.sha256() == generated.sha256()


@pytest.mark.parametrize(
    ("rate", "n", "budget"), [(0.29, 100, 29), (0.15, 1000, 150), (0.149, 100, 14), (1.0, 7, 7)]
)
def test_the_budget_of_the_adversary_is_kept(rate, n, budget):
    data = xor_clusters(n, 3, 0.2)
    assert corrupt(data, "adversary", rate).flipped.sum() == budget == math.floor(rate * n + 1e-9)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 10),
    spread=st.floats(0.0, 2.0),
    share=st.floats(0.0, 1.0),
    weighted=st.booleans(),
)
def test_no_other_choice_of_flips_is_worse(seed, n, spread, share, weighted):
    rng = np.random.default_rng(seed)
    made = xor_clusters(n, 3, spread, seed=seed, means=[[1.0, 0.2, 0.0], [-0.4, 2.0, 0.0]])
    weights = rng.uniform(0.1, 3.0, n) if weighted else None
    data = fc.Dataset(made.x, made.y, made.clean_y, None, made.means, weights)
    found = corrupt(data, "adversary", share)
    budget = int(found.flipped.sum())
    least = min(
        feature_growth(flip(data, chosen)).min()
        for chosen in itertools.combinations(range(n), budget)
    )
    assert feature_growth(found).min() == pytest.approx(least, abs=1e-12)


def flip(data, chosen):
    flipped = np.zeros(data.n, dtype=bool)
    flipped[list(chosen)] = True
    return fc.Dataset(
        data.x, np.where(flipped, -data.y, data.y), means=data.means, weights=data.weights
    )


def test_no_other_kind_is_worse_than_the_adversary():
    data = clean()
    worst = feature_growth(corrupt(data, "adversary", 0.2)).min()
    for kind in KINDS[:-1]:
        other = corrupt(data, **arguments(kind), rate=0.2, exact=True)
        assert feature_growth(other).min() > worst


def test_feature_growth_is_the_first_step_of_a_neuron_along_a_mean():
    data = clean(label_noise=0.2, mean_norm=2.0)
    centres = np.stack([data.means[0], -data.means[0], data.means[1], -data.means[1]])
    sign = np.array([1, 1, -1, -1])
    # So small a head that the output is 0 for the loss.
    net = fc.TwoLayerNet(1e-9 * centres, 1e-9 * sign)
    gradient = fc.loss_and_grad(net, data, loss="logistic")[1].W
    growth = -(gradient * centres / 2.0).sum(axis=1) / 1e-9 / 0.5
    np.testing.assert_allclose(growth, feature_growth(data), rtol=1e-6)


@pytest.mark.parametrize("mean_norm", [1.0, 3.0])
def test_feature_growth_falls_through_zero_where_half_a_cluster_is_flipped(mean_norm):
    data = clean(cluster_std=0.0, sizes="balanced", mean_norm=mean_norm)
    np.testing.assert_allclose(feature_growth(data), mean_norm / 4)
    uniform = corrupt(data, "uniform", 0.2, exact=True)
    np.testing.assert_allclose(feature_growth(uniform), 0.6 * mean_norm / 4)
    for rate in (0.1, 0.125, 0.2):
        pulls = np.sort(feature_growth(corrupt(data, "adversary", rate)))
        np.testing.assert_allclose(pulls[1:], mean_norm / 4)
        assert pulls[0] == pytest.approx(mean_norm * (0.25 - 2 * rate), abs=1e-12)


def test_exact_flips_have_their_share_in_each_cluster():
    data = clean(sizes="balanced", cluster_std=0.05)
    after = corrupt(data, "uniform", 0.1, exact=True)
    np.testing.assert_array_equal(np.bincount(drawn(data)[after.flipped]), [10] * 4)
    aimed = corrupt(data, "cluster", 0.1, exact=True, cluster=3)
    np.testing.assert_array_equal(
        np.bincount(drawn(data)[aimed.flipped], minlength=4), [0, 0, 0, 40]
    )


def test_without_means_uniform_flips_need_none():
    bare = fc.Dataset(np.ones((50, 2)), np.ones(50))
    assert corrupt(bare, "uniform", 0.3, exact=True).flipped.sum() == 15
    assert 0 < corrupt(bare, "uniform", 0.3).flipped.sum() < 50


def test_float32_stays():
    data = clean(dtype=np.float32)
    for kind in KINDS:
        assert corrupt(data, **arguments(kind), rate=0.1).dtype == np.float32


BARE = fc.Dataset(np.ones((4, 2)), [1, -1, 1, -1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: corrupt(clean(), "some", 0.1), ValueError, "kind='some' is unknown"),
        (lambda: corrupt(clean(), "uniform", 1.1), ValueError, "rate=1.1 must be"),
        (lambda: corrupt(clean(), "uniform", 0.1, exact=1), TypeError, "exact=1 must be"),
        (lambda: corrupt(clean(), "cluster", 0.1), ValueError, "cluster=None with kind='cluster'"),
        (lambda: corrupt(clean(), "uniform", 0.1, cluster=0), ValueError, "cluster=0 with kind"),
        (lambda: corrupt(clean(), "cluster", 0.1, cluster=4), ValueError, "cluster=4 must be"),
        (
            lambda: corrupt(clean(), "cluster", 0.4, cluster=0),
            ValueError,
            r"rate=0\.4 aimed at cluster=0 needs 160 flips",
        ),
        (lambda: corrupt(BARE, "adversary", 0.1), ValueError, "data has no means"),
        (lambda: feature_growth(BARE), ValueError, "data has no means"),
        (
            lambda: corrupt(fc.Dataset([[1.0]], [0.5]), "uniform", 0.1),
            ValueError,
            "label 0.5 at 0",
        ),
        (lambda: corrupt(clean(), "uniform", 0.1, seed=-1), ValueError, "seed=-1"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
