"""The digits of scikit-learn."""

import json
import sys

import numpy as np
import pytest

from featcore.data import digits


@pytest.fixture(scope="module")
def raw():
    return pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)


@pytest.mark.parametrize("classes", [(1, 0), (0, 1), (3, 8), (9, 4)])
def test_a_pair_of_digits(raw, classes):
    images, labels = raw
    data = digits(classes, center=False)
    chosen = np.isin(labels, classes)
    np.testing.assert_array_equal(data.x, images[chosen] / 16)
    np.testing.assert_array_equal(data.y == 1, labels[chosen] == classes[0])
    np.testing.assert_array_equal(data.y == -1, labels[chosen] == classes[1])
    assert (data.x.min(), data.x.max()) == (0.0, 1.0)
    assert data.d == 64
    assert 350 <= data.n <= 370


def test_centred_by_default(raw):
    data, plain = digits((1, 7)), digits((1, 7), center=False)
    np.testing.assert_allclose(data.x.mean(axis=0), 0.0, atol=1e-14)
    np.testing.assert_allclose(plain.x - data.x, np.tile(plain.x.mean(axis=0), (data.n, 1)))
    assert (data.provenance["center"], plain.provenance["center"]) == (True, False)


def test_float32_and_provenance(raw):
    single = digits(dtype=np.float32)
    assert single.sha256() == digits().astype(np.float32).sha256()
    record = json.loads(json.dumps(dict(single.provenance)))
    assert (record["generator"], record["classes"]) == ("digits", [1, 0])
    assert record["image_shape"] == [8, 8]


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ((1, 1), ValueError, r"classes=\(1, 1\) must be two different"),
        ((1, 10), ValueError, r"classes\[1\]=10 must be between 0 and 9"),
        ((-1, 0), ValueError, r"classes\[0\]=-1"),
        ((1.0, 0), TypeError, r"classes\[0\]=1.0 must be an integer"),
        ("10", TypeError, r"classes\[0\]='1' must be an integer"),
        ((1, 2, 3), TypeError, r"classes=\(1, 2, 3\) must be a pair"),
        (1, TypeError, "classes=1 must be a pair"),
    ],
)
def test_bad_classes_are_named(classes, error, message):
    with pytest.raises(error, match=message):
        digits(classes)


def test_without_scikit_learn_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'featcore\[lab\]'"):
        digits()
