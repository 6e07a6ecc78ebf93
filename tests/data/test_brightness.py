"""Brightness that tells the class in training, and not in the test."""

import json

import numpy as np
import pytest

from featcore.data import Dataset, brightness_cue, digits, shade, train_test_split

rng = np.random.default_rng(0)
IMAGES = Dataset(
    rng.integers(0, 17, (50, 6)) / 16,
    np.where(np.arange(50) % 5 < 3, 1, -1),
    provenance={"generator": "test"},
)


@pytest.mark.parametrize("dark", [-1, 1])
def test_one_label_is_darkened_and_the_other_brightened(dark):
    shaded = shade(IMAGES, dark=dark)
    own = IMAGES.y == dark
    # sixteenths halved are exact
    np.testing.assert_array_equal(shaded.x[own], IMAGES.x[own] / 2)
    np.testing.assert_array_equal(shaded.x[~own], (1 + IMAGES.x[~own]) / 2)
    np.testing.assert_array_equal(shaded.y, IMAGES.y)


def test_a_share_of_each_label_is_changed_and_smaller_shares_lie_in_larger_ones():
    before = np.zeros(IMAGES.n, dtype=bool)
    for fraction in (0.0, 0.25, 0.5, 0.8, 1.0):
        changed = (shade(IMAGES, fraction, seed=3).x != IMAGES.x).any(axis=1)
        assert [changed[IMAGES.y == label].sum() for label in (1, -1)] == [
            round(fraction * 30),
            round(fraction * 20),
        ]
        assert not (before & ~changed).any()
        before = changed
    other = (shade(IMAGES, 0.5, seed=4).x != IMAGES.x).any(axis=1)
    assert (other != (shade(IMAGES, 0.5, seed=3).x != IMAGES.x).any(axis=1)).any()


def test_the_three_tests_are_the_same_images():
    train, tests = brightness_cue(IMAGES, modified=0.6, center=False, seed=2)
    plain, test = train_test_split(IMAGES, 0.3, seed=2)
    np.testing.assert_array_equal(train.x, shade(plain, 0.6, seed=2).x)
    np.testing.assert_array_equal(tests["untouched"].x, test.x)
    np.testing.assert_array_equal(tests["modified"].x, shade(test).x)
    np.testing.assert_array_equal(tests["swapped"].x, shade(test, dark=1).x)
    assert list(tests) == ["untouched", "modified", "swapped"]


def test_all_are_centred_by_the_training_mean():
    plain, plain_tests = brightness_cue(IMAGES, modified=0.6, center=False)
    train, tests = brightness_cue(IMAGES, modified=0.6)
    np.testing.assert_allclose(train.x.mean(axis=0), 0.0, atol=1e-15)
    for name, data in tests.items():
        np.testing.assert_array_equal(plain_tests[name].x - plain.x.mean(axis=0), data.x)


def test_provenance_says_all():
    train, tests = brightness_cue(IMAGES, modified=0.6, seed=5)
    record = json.loads(json.dumps(dict(train.provenance)))
    assert record["generator"] == "test"
    assert record["shade"] == {"fraction": 0.6, "dark": -1, "seed": 5}
    assert record["split"] == {"part": "train", "test_fraction": 0.3, "seed": 5}
    assert record["center"] == "training mean"
    assert tests["untouched"].provenance["shade"]["fraction"] == 0.0
    assert tests["swapped"].provenance["shade"]["dark"] == 1


def test_digits_and_single_precision():
    pytest.importorskip("sklearn")
    train, tests = brightness_cue(digits((3, 8), center=False, dtype=np.float32))
    assert train.dtype == tests["swapped"].dtype == np.float32
    # background and ink are a half apart everywhere; ones are brighter in the mean than zeros ever are
    mean = train.x.mean(axis=1)
    assert mean[train.y > 0].min() > mean[train.y < 0].max()


def test_golden_hash():
    assert shade(IMAGES, 0.5, seed=1).sha256()[:16] == "344153e41b879e2f"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: shade([[0.0]]), TypeError, "must be a Dataset"),
        (lambda: shade(IMAGES, 1.5), ValueError, "fraction=1.5 must be"),
        (lambda: shade(IMAGES, dark=0), ValueError, "dark=0 must be a label"),
        (lambda: shade(IMAGES, dark=1.0), TypeError, "dark=1.0 must be an integer"),
        (lambda: shade(Dataset([[0.5]], [2.0])), ValueError, r"labels \[2\.\]; they must be -1"),
        (lambda: shade(Dataset([[-0.5]], [1])), ValueError, r"pixels from -0.5 .* center=False"),
        (lambda: shade(Dataset([[16.0]], [1])), ValueError, "pixels from 16 to 16"),
        (lambda: brightness_cue(IMAGES, modified=-1), ValueError, "modified=-1 must be"),
        (lambda: brightness_cue(IMAGES, test_fraction=0), ValueError, "test_fraction=0 must be"),
        (lambda: shade(IMAGES, seed="a"), TypeError, "seed='a'"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
