"""Classes of one vector, of equal correlations, and with a frequent and a rare feature."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcore.data import equicorrelated_classes, single_vector_classes, two_feature_mixture

GENERATORS = (single_vector_classes, equicorrelated_classes, two_feature_mixture)
positive_norms = st.floats(0.01, 100)


@given(
    n=st.integers(2, 40),
    norms=st.tuples(positive_norms, positive_norms),
    positive=st.floats(0.3, 0.7),
    cosine=st.floats(-1, 1),
)
def test_a_class_is_one_vector(n, norms, positive, cosine):
    data = single_vector_classes(n, norms=norms, positive=positive, cosine=cosine)
    first, second = data.x[0], data.x[-1]
    count = round(positive * n)
    assert data.y.tolist() == [1.0] * count + [-1.0] * (n - count)
    np.testing.assert_array_equal(data.x, np.where(data.y[:, None] > 0, first, second))
    np.testing.assert_array_equal(data.means, [first, second])
    np.testing.assert_allclose(np.linalg.norm([first, second], axis=1), norms, rtol=1e-14)
    assert first @ second == pytest.approx(cosine * norms[0] * norms[1], rel=1e-14, abs=1e-300)


@given(
    n=st.integers(2, 24),
    norms=st.tuples(positive_norms, positive_norms),
    correlations=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    positive=st.floats(0.3, 0.7),
)
def test_samples_of_a_class_are_equally_correlated(n, norms, correlations, positive):
    data = equicorrelated_classes(n, correlations=correlations, norms=norms, positive=positive)
    own = data.y > 0
    gram = np.zeros((n, n))
    for mask, norm, cosine in ((own, norms[0], correlations[0]), (~own, norms[1], correlations[1])):
        gram[np.ix_(mask, mask)] = norm**2 * cosine
        gram[mask, mask] = norm**2
    # between the classes, exactly: (H1) is about signs
    np.testing.assert_array_equal(data.x[own] @ data.x[~own].T, 0.0)
    np.testing.assert_allclose(data.x @ data.x.T, gram, atol=1e-12 * max(norms) ** 2)


@given(
    n=st.integers(2, 60),
    frequency=st.floats(0, 1),
    norms=st.tuples(positive_norms, positive_norms),
    angle=st.floats(0, math.pi),
    positive=st.floats(0.3, 0.7),
)
def test_the_rare_feature_is_in_its_share_of_the_positives(n, frequency, norms, angle, positive):
    data = two_feature_mixture(n, frequency=frequency, norms=norms, angle=angle, positive=positive)
    frequent, rare, negative = data.means
    own = data.y > 0
    assert own.sum() == round(positive * n)
    with_rare = (data.x == frequent + rare).all(axis=1)
    assert with_rare.sum() == round(frequency * own.sum())
    assert not with_rare[~own].any()
    np.testing.assert_array_equal(
        data.x[own & ~with_rare], frequent[None].repeat((own & ~with_rare).sum(), 0)
    )
    np.testing.assert_array_equal(data.x[~own] @ data.x[own].T, 0.0)
    assert np.linalg.norm(negative) == 1
    cosine = frequent @ rare / (norms[0] * norms[1])
    assert np.linalg.norm(rare) == pytest.approx(norms[1], rel=1e-14)
    assert cosine == pytest.approx(math.cos(angle), abs=1e-14)


@pytest.mark.parametrize(
    ("generator", "own"),
    [
        (single_vector_classes, {"cosine": -0.5}),
        (equicorrelated_classes, {"correlations": (0.1, 0.9)}),
        (two_feature_mixture, {"frequency": 0.7, "angle": 2.0}),
    ],
)
def test_provenance_reproduces_the_data(generator, own):
    data = generator(10, norms=(0.5, 2.0), positive=0.4, dtype=np.float32, **own)
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == generator.__name__
    again = generator(**record)
    assert again.sha256() == data.sha256()
    assert again.dtype == np.float32


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (single_vector_classes(norms=(0.5, 2.0), positive=0.2), "92a0bbd3c7569c9a"),
        (equicorrelated_classes(8, correlations=(0.75, 0.0)), "54f55e26a155d5b9"),
        (two_feature_mixture(), "3fc7e3d12a25d476"),
    ],
    ids=[generator.__name__ for generator in GENERATORS],
)
def test_golden_hashes(data, digest):
    """Made of sums, products and correctly rounded roots alone (the cosine of π/2 is that of a float)."""
    assert data.sha256()[:16] == digest


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 1}, ValueError, "n=1 must be at least 2"),
        ({"norms": 1.0}, TypeError, "norms=1.0 must be a pair"),
        ({"norms": (1.0, 0.0)}, ValueError, r"norms\[1\]=0 must be > 0"),
        ({"positive": 1.0}, ValueError, "positive=1 must be"),
        (
            {"positive": 0.01},
            ValueError,
            "positive=0.01 of n=10 samples is 0; each class needs one",
        ),
        ({"dtype": np.int64}, TypeError, "dtype=int64 must be float64 or float32"),
    ],
)
def test_bad_input_is_named(generator, change, error, message):
    with pytest.raises(error, match=message):
        generator(**{"n": 10, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: single_vector_classes(cosine=1.1), "cosine=1.1 must be"),
        (lambda: equicorrelated_classes(correlations=(0.5, -0.1)), r"correlations\[1\]=-0.1 must"),
        (lambda: two_feature_mixture(frequency=1.5), "frequency=1.5 must be"),
        (lambda: two_feature_mixture(angle=-0.1), "angle=-0.1 must be"),
    ],
)
def test_what_is_out_of_range_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
