"""`theory.alignment` against brute force, a directional ODE and an independent network."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from featcore.theory import alignment as theory
from featcore.theory.alignment import Cone

# The machines are shared: no test may fail for being slow.
relaxed = settings(deadline=None, max_examples=40)


def descend(W, v, x, y, *, step_size, steps, observe):
    """Descend the **sum** exponential loss over both layers; stop where `observe` says so."""
    W, v = W.copy(), v.copy()
    for k in range(steps + 1):
        z = x @ W.T
        u = y * (np.maximum(z, 0.0) @ v)
        if observe(k, W, v, u):
            return W, v
        residual = y * np.exp(-u)
        active = (z > 0) * residual[:, None]
        dW, dv = v[:, None] * (active.T @ x), np.maximum(z, 0.0).T @ residual
        W += step_size * dW
        v += step_size * dv
    return W, v


def two_points(mu):
    """Return two positive unit points with <x1, x2> = mu, and a with sin a = mu."""
    a = math.asin(mu)
    return np.array([[1.0, 0.0], [mu, math.cos(a)]]), a


def entries(W, x, step_size, steps):
    """Return when each neuron (balanced, positive head) first sees all of the positive `x`."""
    first = np.full(len(W), np.inf)

    def observe(k, W, v, u):
        inside = theory.cone_membership(W, x, np.ones(len(x))) == Cone.S_PLUS
        first[inside & np.isinf(first)] = k * step_size
        # what the theory assumes of the outputs
        assert np.abs(u).max() < 1e-6
        return bool(np.isfinite(first).all())

    descend(
        W,
        np.linalg.norm(W, axis=1),
        x,
        np.ones(len(x)),
        step_size=step_size,
        steps=steps,
        observe=observe,
    )
    return first


def euler_bias(t, step_size):
    """Return how late a neuron may enter: growth ln(1+h)/h = 1 - h/2, and seen at a step."""
    return step_size * (1 + 0.5 * np.asarray(t)) * 1.01


# --- separability, sums and cones ---


@relaxed
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 12), d=st.integers(1, 5))
def test_separability_is_the_least_pairwise_correlation(seed, n, d):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], size=n)
    signed = [yi * xi / math.sqrt(xi @ xi) for xi, yi in zip(x, y, strict=True)]
    brute = min([signed[i] @ signed[j] for i in range(n) for j in range(i)], default=1.0)
    mu = theory.separability(x, y)
    assert mu == pytest.approx(brute, abs=1e-14)
    assert -1.0 <= mu <= 1.0
    # neither lengths, nor the order, nor a rotation matter; nor do labels that flip with their
    # sample
    order, stretch = rng.permutation(n), rng.uniform(0.1, 10.0, size=(n, 1))
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    assert theory.separability((stretch * x @ rotation)[order], y[order]) == pytest.approx(
        mu, abs=1e-12
    )
    assert theory.separability(-x, -y) == pytest.approx(mu, abs=1e-14)


def test_separability_does_not_depend_on_the_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((57, 4)), rng.choice([-1.0, 1.0], size=57)
    whole = theory.separability(x, y)
    for block in (1, 100, 57 * 20):
        monkeypatch.setattr(theory.cones, "_BLOCK", block)
        assert theory.separability(x, y) == pytest.approx(whole, abs=1e-15)


def test_class_sums_are_sums_of_each_class():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((9, 3)), np.array([1.0, -1, 1, 1, -1, 1, 1, -1, 1])
    plus, minus = theory.class_sums(x, y)
    np.testing.assert_allclose(plus, sum(x[i] for i in (0, 2, 3, 5, 6, 8)), atol=1e-14)
    np.testing.assert_allclose(minus, sum(x[i] for i in (1, 4, 7)), atol=1e-14)
    np.testing.assert_array_equal(theory.class_sums(x[:1], [1])[1], np.zeros(3))


@relaxed
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 5),
    log10_size=st.floats(-150, 150),
    block=st.sampled_from([1, 7, 1 << 22]),
)
def test_cone_membership_by_definition(seed, n, log10_size, block):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 2)), rng.choice([-1.0, 1.0], size=n)
    W = rng.standard_normal((25, 2))
    W[0] = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory.cones, "_BLOCK", block)
        codes = theory.cone_membership(10.0**log10_size * W, x, y)
    for w, code in zip(W, codes, strict=True):
        seen = [xi @ w > 0 for xi in x]
        if not any(seen):
            expected = Cone.S_DEAD
        elif seen == [yi > 0 for yi in y]:
            expected = Cone.S_PLUS
        elif seen == [yi < 0 for yi in y]:
            expected = Cone.S_MINUS
        else:
            expected = Cone.OTHER
        assert code == expected


def test_cone_membership_mirrors_with_the_labels():
    rng = np.random.default_rng(2)
    x, y, W = rng.standard_normal((3, 2)), np.array([1.0, -1.0, 1.0]), rng.standard_normal((200, 2))
    mirrored = {1: -1, -1: 1, 0: 0, 2: 2}
    codes = theory.cone_membership(W, x, y)
    assert set(codes.tolist()) >= {1, 2}
    assert theory.cone_membership(W, x, -y).tolist() == [mirrored[c] for c in codes.tolist()]


# --- entry times ---


@pytest.mark.parametrize("mu", [0.6, 0.296, 0.1, 0.01])
def test_entry_time_solves_the_directional_flow(mu):
    x, a = two_points(mu)
    for theta0 in (a + 1e-3, 0.5 * (a + math.pi / 2), math.pi / 2 - 1e-3):

        def sees_second(t, u):
            return u @ x[1]

        sees_second.terminal = True
        solution = solve_ivp(
            lambda t, u: x[0] - (x[0] @ u) * u / (u @ u),
            (0.0, 50.0),
            [math.cos(theta0), -math.sin(theta0)],
            events=sees_second,
            rtol=1e-11,
            atol=1e-12,
        )
        assert solution.t_events[0][0] == pytest.approx(
            float(theory.entry_time(theta0, a)), abs=1e-8
        )


@pytest.mark.parametrize("mu", [0.296, 0.1, 0.03, 0.01])
def test_entry_time_of_neurons_of_a_network(mu):
    # Outputs stay below 1e-6 (asserted while running): the bias is that of Euler's steps alone.
    x, a = two_points(mu)
    theta0 = np.concatenate([np.linspace(0.5 * a, math.pi / 2 - 0.01, 8), [math.pi / 2 - 1e-4]])
    W = 1e-8 * np.stack([np.cos(theta0), -np.sin(theta0)], axis=1)
    step_size = 1e-3
    measured = entries(W, x, step_size, steps=7000)
    predicted = theory.entry_time(theta0, a)
    assert predicted[0] == 0.0
    np.testing.assert_array_less(np.abs(measured - predicted), euler_bias(predicted, step_size))


def test_neurons_out_of_the_plane_enter_earlier():
    mu = 0.1
    x, a = two_points(mu)
    x = np.hstack([x, np.zeros((2, 1))])
    tilt, theta0 = np.array([0.0, 0.4, 0.8, 1.2]), 1.5
    sideways = np.stack([np.zeros(4), -np.cos(tilt), np.sin(tilt)], axis=1)
    W = 1e-8 * (math.cos(theta0) * np.eye(3)[0] + math.sin(theta0) * sideways)
    measured = entries(W, x, 1e-3, steps=7000)
    # they cross where tan θ = tan a/cos tilt, in the same flow
    expected = [theory.entry_time(theta0, math.atan(math.tan(a) / math.cos(t))) for t in tilt]
    np.testing.assert_array_less(np.abs(measured - expected), euler_bias(expected, 1e-3))
    assert (np.diff(measured) < 0).all()


@pytest.mark.parametrize("mu", [0.296, 0.03])
def test_no_random_neuron_enters_after_the_slowest_time(mu):
    x, _ = two_points(mu)
    rng = np.random.default_rng(31)
    W = rng.standard_normal((200, 2))
    W = 1e-8 * W[(W @ x.T > 0).any(axis=1)]  # the others are dead
    measured = entries(W, x, 1e-3, steps=8000)
    slowest = theory.slowest_entry_time(mu)
    assert 0.9 * slowest < measured.max() < slowest + euler_bias(slowest, 1e-3)


@relaxed
@given(a=st.floats(1e-3, math.pi / 2), fraction=st.floats(0.0, 1.0, exclude_max=True))
@example(a=1.5533408276611427, fraction=0.0)  # math.tan and np.tan differ here
def test_entry_times_are_below_the_slowest(a, fraction):
    slowest = theory.slowest_entry_time(math.sin(a))
    assert slowest == pytest.approx(math.log(1 / math.tan(a / 2)), abs=1e-7)
    assert 0.0 <= float(theory.entry_time(fraction * math.pi / 2, a)) <= slowest + 1e-7
    assert float(theory.entry_time(np.nextafter(math.pi / 2, 0), a)) == pytest.approx(
        slowest, abs=1e-7
    )


def test_slowest_entry_time_limits():
    assert theory.slowest_entry_time(1.0) == 0.0
    assert theory.slowest_entry_time(1e-300) == pytest.approx(math.log(2e300), rel=1e-15)
    assert theory.slowest_entry_time(0.3) == pytest.approx(math.acosh(1 / 0.3), rel=1e-14)


# --- drop time and the late bound ---


def drop_times(alpha, x, y, level):
    """Return the mean-loss times at which each class's mean loss falls below `level`."""
    rng, width, step_size = np.random.default_rng(77), 50, 0.02
    W, v = alpha * rng.standard_normal((width, x.shape[1])), alpha * rng.standard_normal(width)
    found = {}

    def observe(k, W, v, u):
        for sign in (1, -1):
            if sign not in found and (y == sign).any() and np.exp(-u[y == sign]).mean() < level:
                found[sign] = k * step_size
        return len(found) == len(set(y))

    # a mean loss is the sum loss with the step divided by n
    descend(W, v, x, y, step_size=step_size / len(y), steps=20_000, observe=observe)
    return found


def test_drop_time_of_a_network():
    # Five positive points near one direction and two negative ones near its opposite. Stated bias:
    # a factor 2 in w*, that is n ln 2/|x_±|. "Starts to be fitted" is fixed as a class loss of 0.7,
    # where f is about 1/3.
    angle = np.radians([-10.0, -4.0, 0.0, 5.0, 12.0, 150.0, 140.0])
    x, y = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([1.0] * 5 + [-1.0] * 2)
    assert theory.separability(x, y) > 0
    sums = dict(zip((1, -1), map(np.linalg.norm, theory.class_sums(x, y)), strict=True))
    measured = {alpha: drop_times(alpha, x, y, level=0.7) for alpha in (1e-6, 1e-12)}
    for sign, size in sums.items():
        for alpha, times in measured.items():
            predicted = theory.drop_time(7, size, alpha)
            assert times[sign] == pytest.approx(predicted, abs=7 * math.log(2.0) / size)
        # w* drops out of the difference: the rate alone, to the error of Euler's steps (rate·step/2
        # = 0.7 %)
        waited = measured[1e-12][sign] - measured[1e-6][sign]
        assert waited == pytest.approx(7 * math.log(1e6) / size, rel=0.01)


def test_drop_time_with_an_explicit_fitted_norm():
    # A single balanced neuron on a single point: w = αe^t exactly while f is small, w(t*) = w*.
    assert theory.drop_time(1, 1.0, 1e-5, fitted_norm=1e-3) == pytest.approx(math.log(100.0))
    alpha, step_size = 1e-5, 1e-3
    reached = []

    def observe(k, W, v, u):
        if W[0, 0] >= 1e-3:
            reached.append(k * step_size)
        return bool(reached)

    one = np.ones((1, 1))
    descend(
        alpha * one, alpha * one[0], one, one[0], step_size=step_size, steps=10_000, observe=observe
    )
    assert reached[0] == pytest.approx(theory.drop_time(1, 1.0, alpha, 1e-3), abs=5e-3)
    assert theory.drop_time(1, 1.0, 1e-320) == pytest.approx(
        math.log(0.175) + 320 * math.log(10), rel=1e-4
    )


def test_loss_envelope_is_the_papers():
    # X_min and X_max apart: α = (0.5·2)²/(32·4) = 1/128
    bound = theory.loss_envelope([3.0, 131.0, 1283.0], 2.0, 3.0, mu=0.5, x_min=2.0, x_max=4.0)
    np.testing.assert_allclose(bound, [2.0, 2.0 / 3.0, 2.0 / 21.0], rtol=1e-15)
    assert float(theory.loss_envelope(3.0, 2.0, 3.0, mu=0.5, x_min=2.0, x_max=4.0)) == 2.0


def test_loss_envelope_bounds_a_network():
    angle = np.radians([-20.0, 10.0, 165.0, 190.0])
    x, y = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([1.0, 1.0, -1.0, -1.0])
    x *= np.array([[1.0], [1.5], [0.8], [1.2]])
    rng = np.random.default_rng(8)
    W = 1e-4 * rng.standard_normal((20, 2))
    v = np.linalg.norm(W, axis=1) * np.where(np.arange(20) % 2, 1.0, -1.0)
    losses, fitted = [], []

    def observe(k, W, v, u):
        losses.append(np.exp(-u).sum())
        fitted.append(max(u[y > 0].max(), 0) > 0.25 and max(u[y < 0].max(), 0) > 0.25)
        return False

    step_size = 0.005
    descend(W, v, x, y, step_size=step_size, steps=20_000, observe=observe)
    k2 = fitted.index(True)
    times = step_size * np.arange(len(losses))
    norms = np.linalg.norm(x, axis=1)
    bound = theory.loss_envelope(
        times[k2:],
        losses[k2],
        times[k2],
        mu=theory.separability(x, y),
        x_min=norms.min(),
        x_max=norms.max(),
    )
    assert (np.array(losses[k2:]) <= bound * (1 + 1e-12)).all()


# --- bad input ---

ONES = {"mu": 1.0, "x_min": 1.0, "x_max": 1.0}
POINTS, LABELS = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.separability(POINTS, [1.0, 0.5]), "y has the entry 0.5 at 1; labels"),
        (lambda: theory.separability(POINTS, [1.0]), r"y has shape \(1,\)"),
        (lambda: theory.separability([[1.0, 0.0], [0.0, 0.0]], LABELS), "zero sample at 1"),
        (lambda: theory.class_sums(POINTS[0], LABELS), "x has shape"),
        (lambda: theory.cone_membership(np.ones((3, 3)), POINTS, LABELS), r"W has shape \(3, 3\)"),
        (lambda: theory.entry_time([0.1, 1.6], 0.1), "theta0 has the entry 1.6"),
        (lambda: theory.entry_time(-0.1, 0.1), "theta0 has the entry -0.1"),
        (lambda: theory.entry_time(0.1, 0.0), "a=0"),
        (lambda: theory.slowest_entry_time(0.0), "mu=0"),
        (lambda: theory.loss_envelope([1.0, 0.5], 1.0, 1.0, **ONES), "entry 0.5 before t2=1"),
        (lambda: theory.loss_envelope(2.0, 1.0, 1.0, **{**ONES, "x_min": 2.0}), "x_max=1"),
        (lambda: theory.drop_time(2, 1.0, 0.2), "init_std=0.2 is not below fitted_norm"),
        (lambda: theory.drop_time(0, 1.0, 0.1), "n=0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
