"""Extremal vectors, distances to the cone and max-margin vectors, against flows and brute force."""

import numpy as np
import pytest

from featcore.theory import alignment as theory

# --- extremal vectors

STEP = 5e-3


def directional_flow(x, y, sign, angles, time, step):
    """Return where angles end under dθ/dt = sign <x_a(θ), θ'>, by Euler's method."""
    theta = np.array(angles)
    unit = np.linalg.norm(x, axis=1).sum()
    for _ in range(round(time / step)):
        w = np.stack([np.cos(theta), np.sin(theta)], axis=1)
        pull = sign * ((w @ x.T > 0) * y) @ x
        theta = theta + step / unit * (pull[:, 1] * w[:, 0] - pull[:, 0] * w[:, 1])
    return theta


def predicted(found, theta):
    """Return the attractor of an angle, NaN if it stays."""
    for angle, (first, last) in zip(found.angles, found.basins, strict=True):
        if (theta - first) % (2 * np.pi) < last - first:
            return angle
    return np.nan


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(6))
def test_neurons_end_at_the_vector_of_their_basin(seed, sign):
    """300 starts; those within 0.02 of the edge of a basin may go either way in steps."""
    rng = np.random.default_rng([61, seed])
    n = int(rng.integers(1, 9))
    x, y = rng.standard_normal((n, 2)), rng.choice([-1.0, 1.0], n)
    found = theory.extremal_vectors(x, y, sign)
    starts = rng.uniform(0, 2 * np.pi, 300)
    edges = found.basins.ravel()
    gaps = np.abs((starts[:, None] - edges + np.pi) % (2 * np.pi) - np.pi)
    starts = starts[(gaps > 0.02).all(axis=1)]
    ends = directional_flow(x, y, sign, starts, time=60.0 * n, step=STEP)
    for start, end in zip(starts, ends, strict=True):
        expected = predicted(found, start)
        if np.isnan(expected):
            assert end == pytest.approx(start, abs=1e-9)
        else:
            gap = (end - expected + np.pi) % (2 * np.pi) - np.pi
            # Euler jumps to and fro at a kink, by at most a step
            assert abs(gap) < 2 * STEP


@pytest.mark.parametrize("seed", range(20))
def test_speeds_are_the_growth_of_norms(seed):
    rng = np.random.default_rng([62, seed])
    x, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    for sign in (1, -1):
        found = theory.extremal_vectors(x, y, sign)
        for w, speed in zip(found.directions, found.speeds, strict=True):
            assert speed == pytest.approx(sign * np.sum(y * np.maximum(x @ w, 0)), abs=1e-12)
            for turned in (-1e-4, 1e-4):  # no neighbour is higher, to second order
                near = w + turned * np.array([-w[1], w[0]])
                near /= np.linalg.norm(near)
                assert sign * np.sum(y * np.maximum(x @ near, 0)) <= speed + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_separable_data_attract_to_the_class_sum_only(seed):
    """Orthogonally separable: for positive heads x_+ is the only vector of positive speed."""
    rng = np.random.default_rng([63, seed])
    angles = rng.uniform(-0.5, 0.5, 7)
    y = np.array([1.0, 1, 1, 1, -1, -1, -1])
    x = y[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = theory.extremal_vectors(x, y)
    growing = found.speeds > 1e-9
    assert growing.sum() == 1
    plus, _ = theory.class_sums(x, y)
    np.testing.assert_allclose(
        found.directions[growing][0], plus / np.linalg.norm(plus), atol=1e-12
    )


def test_rotated_data_have_rotated_vectors():
    rng = np.random.default_rng(64)
    x, y = rng.standard_normal((6, 2)), rng.choice([-1.0, 1.0], 6)
    turn = 1.234
    Q = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    one, other = theory.extremal_vectors(x, y), theory.extremal_vectors(x @ Q.T, y)
    order = np.argsort((one.angles + turn) % (2 * np.pi))
    np.testing.assert_allclose(((one.angles + turn) % (2 * np.pi))[order], other.angles, atol=1e-12)
    np.testing.assert_allclose(one.speeds[order], other.speeds, atol=1e-12)


def test_orthogonal_samples_attract_from_one_side():
    found = theory.extremal_vectors([[1.0, 0.0], [0.0, 1.0]], [1, 1])
    np.testing.assert_allclose(found.angles, [0, np.pi / 4, np.pi / 2], atol=1e-15)
    np.testing.assert_allclose(
        found.basins / np.pi, [[1.5, 2.0], [0.0, 0.5], [0.5, 1.0]], atol=1e-15
    )


def test_nothing_attracts_where_nothing_pulls():
    for x, y in (([[0.0, 0.0]], [1.0]), ([[1.0, 2.0]], [0.0])):
        found = theory.extremal_vectors(x, y)
        assert found.directions.shape == (0, 2)
        assert found.basins.shape == (0, 2)


def test_bad_input_of_extremal_vectors():
    with pytest.raises(ValueError, match="plane"):
        theory.extremal_vectors([[1.0, 0.0, 0.0]], [1])
    with pytest.raises(ValueError, match="y has shape"):
        theory.extremal_vectors([[1.0, 0.0]], [1, 1])
    with pytest.raises(ValueError, match="sign=0"):
        theory.extremal_vectors([[1.0, 0.0]], [1], sign=0)
    with pytest.raises(ValueError, match="x"):
        theory.extremal_vectors([[np.nan, 0.0]], [1])


# --- the cone


@pytest.mark.parametrize("seed", range(20))
def test_the_distance_to_a_cone_in_the_plane_is_that_to_a_fan(seed):
    rng = np.random.default_rng([65, seed])
    angles = rng.uniform(-1.2, 1.2, 5)
    y = rng.choice([-1.0, 1.0], 5)
    sizes = 10.0 ** rng.uniform(-3, 3, 5)
    x = (y * sizes)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    theta = rng.uniform(-np.pi, np.pi, 50)
    W = np.exp(rng.uniform(-5, 5, 50))[:, None] * np.stack([np.cos(theta), np.sin(theta)], axis=1)
    off = np.maximum(np.maximum(angles.min() - theta, theta - angles.max()), 0)
    off = np.minimum(off, np.maximum(2 * np.pi + angles.min() - theta, 0))
    off = np.minimum(off, np.maximum(theta + 2 * np.pi - angles.max(), 0))
    expected = np.where(off < np.pi / 2, np.sin(np.minimum(off, np.pi / 2)), 1.0)
    np.testing.assert_allclose(theory.cone_distance(W, x, y), expected, atol=1e-12)


def test_in_the_cone_of_separable_data_a_neuron_is_in_s_plus():
    rng = np.random.default_rng(66)
    y = rng.choice([-1.0, 1.0], 12)
    x = y[:, None] * np.abs(rng.standard_normal((12, 4)) + 2)
    W = np.abs(rng.standard_normal((30, 12))) @ (y[:, None] * x)
    np.testing.assert_allclose(theory.cone_distance(W, x, y), 0, atol=1e-12)
    assert (theory.cone_membership(W, x, y) == theory.Cone.S_PLUS).all()
    assert np.isnan(theory.cone_distance(np.zeros((1, 4)), x, y)).all()


# --- max-margin vectors


@pytest.mark.parametrize("seed", range(30))
def test_max_margin_vectors_are_optimal(seed):
    """Karush, Kuhn and Tucker: feasible, and a non-negative sum of the samples it touches."""
    from scipy.optimize import nnls

    rng = np.random.default_rng([67, seed])
    d, n = int(rng.integers(1, 8)), int(rng.integers(2, 20))
    y = rng.choice([-1.0, 1.0], n)
    x = 10.0 ** rng.uniform(-3, 3) * (rng.standard_normal((n, d)) + 3 * y[:, None])
    for sign, u in zip((1.0, -1.0), theory.max_margin_vectors(x, y), strict=True):
        mine = x[y == sign]
        if not len(mine):
            assert not u.any()
            continue
        margins = mine @ u
        assert margins.min() == pytest.approx(1.0, abs=1e-9)
        touched = mine[margins < 1 + 1e-7]
        _, rest = nnls(touched.T * np.linalg.norm(mine, axis=1).max(), u)
        assert rest <= 1e-7 * np.linalg.norm(u)


def test_no_max_margin_vector_is_an_error():
    with pytest.raises(ValueError, match="positive samples"):
        theory.max_margin_vectors([[1.0, 0.0], [-1.0, 0.0]], [1, 1])
    with pytest.raises(ValueError, match="negative"):
        theory.max_margin_vectors([[1.0, 0.0], [0.0, 0.0]], [1, -1])
