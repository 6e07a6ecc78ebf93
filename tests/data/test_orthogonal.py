"""Orthogonally separable data and the toys of early alignment."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcore.data import fan, orthogonally_separable, two_points


def correlations(data):
    s = data.y[:, None].astype(np.float64) * data.x
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    return s @ s.T


@given(
    n=st.integers(1, 30),
    d=st.integers(1, 12),
    mu=st.floats(0, 1, exclude_max=True),
    positive=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_mu_is_the_least_correlation(*, n, d, mu, positive, seed, dtype):
    data = orthogonally_separable(
        n, d, mu, seed=seed, positive=positive, norms=(0.5, 2.0), dtype=dtype
    )
    rounding = 1e-13 if dtype == np.float64 else 1e-6
    least = correlations(data).min()
    assert least >= mu - rounding
    if n > 1 and d > 1:
        assert least <= mu + rounding  # attained by the first two samples
    norms = np.linalg.norm(data.x, axis=1)
    assert norms.min() >= 0.5 * (1 - rounding)
    assert norms.max() <= 2.0 * (1 + rounding)
    assert (data.y > 0).sum() == round(positive * n)
    assert data.dtype == dtype


def test_the_cone_is_filled():
    n, d, mu = 20_000, 6, 0.2
    data = orthogonally_separable(n, d, mu, seed=3)
    s = data.y[:, None] * data.x
    half = math.acos(mu) / 2
    share = np.arccos(s[2:, 0]) / half  # uniform in [0, 1]
    np.testing.assert_allclose(share.mean(), 0.5, atol=5 * math.sqrt(1 / 12 / n))
    np.testing.assert_allclose((share**2).mean(), 1 / 3, atol=5 * math.sqrt(4 / 45 / n))
    side = s[2:, 1:] / np.linalg.norm(s[2:, 1:], axis=1, keepdims=True)
    np.testing.assert_allclose(side.mean(axis=0), 0.0, atol=5 * math.sqrt(1 / (d - 1) / n))


def test_norms_are_uniform_and_labels_shuffled():
    n = 20_000
    data = orthogonally_separable(n, 3, 0.1, norms=(1.0, 3.0))
    assert np.linalg.norm(data.x, axis=1).mean() == pytest.approx(2, abs=5 * math.sqrt(1 / 3 / n))
    # Half of all neighbours agree when the order is random; the standard error is 1/(2√n).
    assert np.mean(data.y[1:] == data.y[:-1]) == pytest.approx(0.5, abs=2.5 / math.sqrt(n))


def test_labels_and_norms_leave_the_directions_alone():
    plain = orthogonally_separable(50, 4, 0.3)
    other = orthogonally_separable(50, 4, 0.3, positive=0.1, norms=(1.0, 2.0))
    np.testing.assert_allclose(correlations(plain), correlations(other), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(plain.x, axis=1), 1.0, rtol=1e-15)


def test_provenance_reproduces_the_data():
    data = orthogonally_separable(9, 3, 0.4, seed=5, positive=0.3, norms=(1.0, 2.0))
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == "orthogonally_separable"
    assert orthogonally_separable(**record).sha256() == data.sha256()


@given(angle=st.floats(0, math.pi / 2))
def test_two_points_have_the_correlation_sin_angle(angle):
    data = two_points(angle)
    assert data.x[0].tolist() == [1.0, 0.0]
    assert data.x[0] @ data.x[1] == math.sin(angle)
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1.0, rtol=1e-15)
    assert data.y.tolist() == [1.0, 1.0]
    assert data.provenance["angle"] == angle


def test_two_points_in_float32():
    assert two_points(0.1, dtype=np.float32).sha256() == two_points(0.1).astype("f4").sha256()


@given(seed=st.integers(0, 2**32), n_positive=st.integers(1, 40), n_negative=st.integers(1, 40))
def test_fan_lies_in_its_sectors(seed, n_positive, n_negative):
    data = fan(n_positive, n_negative, seed=seed)
    assert data.y.tolist() == [1.0] * n_positive + [-1.0] * n_negative
    np.testing.assert_allclose(np.linalg.norm(data.x, axis=1), 1.0, rtol=1e-15)
    degrees = np.degrees(np.arctan2(data.x[:, 1], data.x[:, 0]))
    assert np.abs(degrees[:n_positive]).max() <= 15 + 1e-9
    assert np.abs(degrees[n_positive:] - 145).max() <= 12 + 1e-9
    assert correlations(data).min() >= math.cos(math.radians(62)) - 1e-12


def test_fan_fills_its_sectors():
    data = fan(20_000, 20_000)
    degrees = np.degrees(np.arctan2(data.x[:, 1], data.x[:, 0])).reshape(2, -1)
    width = np.array([30.0, 24.0])
    error = width / math.sqrt(12 * 20_000)
    np.testing.assert_array_less(np.abs(degrees.mean(axis=1) - [0, 145]), 5 * error)
    np.testing.assert_allclose(degrees.std(axis=1), width / math.sqrt(12), rtol=0.02)


def test_fan_has_the_counts_of_figure_6():
    assert (fan().y > 0).sum() == 16
    assert (fan().y < 0).sum() == 9
    assert fan(seed=1, dtype=np.float32).sha256() == fan(seed=1).astype(np.float32).sha256()


# Equality is promised for one version of featcore and numpy, though numpy's streams are stable in
# practice. Sums and not hashes, since sines differ in the last digit between machines.
@pytest.mark.parametrize(
    ("data", "total"),
    [
        (orthogonally_separable(20, 5, 0.3, seed=1), "42.216244157"),
        (fan(seed=1), "137.019118395"),
    ],
)
def test_golden_sums(data, total):
    weights = np.arange(1, data.x.size + 1).reshape(data.x.shape)
    assert f"{(data.x * weights).sum():.9f}" == total


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0 must be at least 1"),
        ({"d": 0}, ValueError, "d=0 must be at least 1"),
        ({"mu": 1.0}, ValueError, "mu=1 must be >= 0 and < 1"),
        ({"mu": -0.1}, ValueError, "mu=-0.1 must be"),
        ({"mu": "a"}, TypeError, "mu='a' must be a real number"),
        ({"positive": 1.1}, ValueError, "positive=1.1 must be"),
        ({"norms": 1.0}, TypeError, "norms=1.0 must be a pair"),
        ({"norms": (1.0,)}, TypeError, r"norms=\(1.0,\) must be a pair"),
        ({"norms": (0.0, 1.0)}, ValueError, r"norms\[0\]=0 must be > 0"),
        ({"norms": (2.0, 1.0)}, ValueError, r"norms\[1\]=1 must be >= 2"),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"dtype": np.int64}, TypeError, "dtype=int64 must be float64 or float32"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        orthogonally_separable(**{"n": 5, "d": 3, "mu": 0.2, **change})


@pytest.mark.parametrize("angle", [-0.1, 1.6, math.inf])
def test_two_points_refuses_other_angles(angle):
    with pytest.raises(ValueError, match="angle="):
        two_points(angle)


@pytest.mark.parametrize("name", ["n_positive", "n_negative"])
def test_fan_needs_both_labels(name):
    with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
        fan(**{name: 0})
