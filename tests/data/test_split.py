"""Train-test splits."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcore as fc
from featcore.data import train_test_split, xor_clusters


@given(
    labels=st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_each_label_is_split_by_itself(labels, fraction, seed):
    y = np.array(labels)
    data = fc.Dataset(np.arange(y.size)[:, None], y)
    shares = {label: round(fraction * (y == label).sum()) for label in set(labels)}
    if sum(shares.values()) in (0, y.size):
        with pytest.raises(ValueError, match=r"test_fraction=.* neither set may be empty"):
            train_test_split(data, fraction, seed=seed)
        return
    train, test = train_test_split(data, fraction, seed=seed)
    assert {label: (test.y == label).sum() for label in shares} == shares
    for part in (train, test):
        assert (np.diff(part.x[:, 0]) > 0).all()  # the order is kept
        np.testing.assert_array_equal(part.y, y[part.x[:, 0].astype(int)])
    assert sorted([*train.x[:, 0], *test.x[:, 0]]) == list(range(y.size))


def test_every_sample_is_as_likely_to_be_tested():
    data = fc.Dataset(np.arange(10)[:, None], [1.0] * 5 + [-1.0] * 5)
    count = np.zeros(10)
    runs = 2000
    for seed in range(runs):
        count[train_test_split(data, 0.4, seed=seed)[1].x[:, 0].astype(int)] += 1
    np.testing.assert_allclose(count / runs, 0.4, atol=5 * np.sqrt(0.24 / runs))


def test_all_that_is_known_comes_along():
    data = xor_clusters(100, 4, 0.1, 0.2, seed=4)
    train, test = train_test_split(data, 0.25, seed=9)
    for part, name in ((train, "train"), (test, "test")):
        np.testing.assert_array_equal(part.means, data.means)
        np.testing.assert_array_equal(part.flipped, part.y != part.clean_y)
        assert part.provenance["split"] == {"part": name, "test_fraction": 0.25, "seed": 9}
        assert part.provenance["generator"] == "xor_clusters"
        json.dumps(dict(part.provenance))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_bad_fraction_is_named(fraction):
    with pytest.raises(ValueError, match="test_fraction="):
        train_test_split(fc.data.fan(), fraction)
