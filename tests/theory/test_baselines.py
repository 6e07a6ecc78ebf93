"""`featcore.baselines` against closed forms, Jacobians, scikit-learn and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import featcore as fc
from featcore import baselines, losses
from featcore.activations import LeakyReLU

# The machines are shared: no test may fail for being slow.
relaxed = settings(deadline=None, max_examples=30)


def problem(seed, n=40, d=3, weighted=False):
    """Return a noisy, non-separable two-class problem away from the origin."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 0.5
    y = np.where(x[:, 0] + rng.standard_normal(n) > 0.7, 1.0, -1.0)
    y[:2] = 1.0, -1.0
    return fc.Dataset(x, y, weights=rng.uniform(0.0, 2.0, n) if weighted else None)


def xor(seed, n, cluster_std=0.1, d=4):
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 4, size=n)
    centres = np.vstack([np.eye(2, d), -np.eye(2, d)])
    y = np.where(cluster % 2 == 0, 1.0, -1.0)
    return fc.Dataset(centres[cluster] + cluster_std * rng.standard_normal((n, d)), y)


def objective(model_outputs, v, data, l2, loss):
    value = losses.get(loss).value(model_outputs, data.y)
    return np.average(value, weights=data.weights) + 0.5 * l2 * v @ v


def jacobian(net, x, train):
    """Return ∂f/∂θ at each sample by central differences, W first."""
    theta = np.concatenate([net.W.ravel(), net.a])

    def f(theta):
        W, a = theta[: net.W.size].reshape(net.W.shape), theta[net.W.size :]
        return net.activation(x @ W.T) @ a

    h = 1e-6
    columns = [(f(theta + h * e) - f(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    J = np.stack(columns, axis=1)
    return np.hstack(
        [
            part
            for name, part in (("W", J[:, : net.W.size]), ("a", J[:, net.W.size :]))
            if name in train
        ]
    )


# --- ridge ---


@relaxed
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 8),
    p=st.integers(1, 8),
    log10_l2=st.floats(-6, 3),
    weighted=st.booleans(),
)
def test_ridge_solves_the_normal_equations(seed, n, p, log10_l2, weighted):
    rng = np.random.default_rng(seed)
    phi, y, l2 = rng.standard_normal((n, p)), rng.standard_normal(n), 10.0**log10_l2
    weights = rng.uniform(0.1, 3.0, n) if weighted else None
    v = baselines.ridge(phi, y, l2, weights)
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    gradient = phi.T @ (share * (phi @ v - y)) + l2 * v
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    # the minimum in the other formulation too: a feature that is always 0 changes primal into dual
    padded = baselines.ridge(np.hstack([phi, np.zeros((n, n))]), y, l2, weights)
    np.testing.assert_allclose(padded[:p], v, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(padded[p:], 0.0)


def test_ridge_weights_are_repetitions():
    rng = np.random.default_rng(0)
    phi, y = rng.standard_normal((4, 2)), rng.standard_normal(4)
    times = np.array([1, 3, 0, 2])
    repeated = baselines.ridge(np.repeat(phi, times, axis=0), np.repeat(y, times), 0.1)
    np.testing.assert_allclose(baselines.ridge(phi, y, 0.1, times), repeated, rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_ridge_refuses_a_decay_lost_in_rounding(seed):
    # rank 2 in 3 features: whether Cholesky notices depends on the sign of a rounding error
    rng = np.random.default_rng(seed)
    phi = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 3))
    with pytest.raises(
        ValueError, match=r"l2=1e-18 is lost in the rounding .* use l2 >="
    ) as caught:
        baselines.ridge(phi, np.ones(9), 1e-18)
    # what the message recommends works
    baselines.ridge(phi, np.ones(9), float(str(caught.value).split()[-1]))


def test_ridge_without_decay_is_least_squares():
    rng = np.random.default_rng(1)
    phi, y = rng.standard_normal((9, 3)), rng.standard_normal(9)
    v = baselines.ridge(phi, y, 1e-300)
    np.testing.assert_allclose(v, np.linalg.lstsq(phi, y)[0], rtol=1e-10)


@pytest.mark.parametrize("shape", [(2, 200_000), (200_000, 2)])
def test_ridge_solves_the_smaller_system(shape):
    # the larger one would take 320 GB
    rng = np.random.default_rng(2)
    phi, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    v = baselines.ridge(phi, y, 0.3)
    np.testing.assert_allclose(phi.T @ (phi @ v - y) / shape[0] + 0.3 * v, 0.0, atol=1e-9)


# --- linear ---


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_linear_is_at_the_minimum(loss, bias, weighted):
    data, l2 = problem(1, weighted=weighted), 0.03
    model = baselines.linear(data, l2=l2, bias=bias, loss=loss)
    assert (model.intercept != 0.0) == bias

    def value(v, b):
        return objective(data.x @ v + b, v, data, l2, loss)

    # strictly convex: every neighbour is above, by second order only
    best, h = value(model.v, model.intercept), 1e-3
    for shift in h * np.vstack([np.eye(4), -np.eye(4)]):
        if bias or not shift[3]:
            rise = value(model.v + shift[:3], model.intercept + shift[3]) - best
            assert 0.0 < rise < 5 * h**2


def test_linear_logistic_of_one_point_is_the_scalar_equation():
    # l2 v = 1/(1 + e^v)
    expected = brentq(lambda v: 0.1 * v - 1 / (1 + math.exp(v)), 0.0, 20.0, xtol=1e-14)
    model = baselines.linear(fc.Dataset([[1.0], [-1.0]], [1, -1]), l2=0.1)
    assert model.v[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("bias", [False, True])
def test_linear_agrees_with_scikit_learn(bias):
    linear_model = pytest.importorskip("sklearn.linear_model")
    data, l2 = problem(2, n=60, d=4, weighted=True), 0.02
    # its objective is C Σ w ℓ + |v|²/2 and, for ridge, Σ w (f - y)² + α|v|²
    total = data.weights.sum()
    theirs = linear_model.LogisticRegression(
        C=1 / (l2 * total), fit_intercept=bias, tol=1e-12, max_iter=10_000
    ).fit(data.x, data.y, sample_weight=data.weights)
    ours = baselines.linear(data, l2=l2, bias=bias)
    np.testing.assert_allclose(ours.v, theirs.coef_[0], atol=1e-5)
    np.testing.assert_allclose(ours.predict(data.x), theirs.decision_function(data.x), atol=1e-5)

    theirs = linear_model.Ridge(alpha=l2 * total, fit_intercept=bias).fit(
        data.x, data.y, sample_weight=data.weights
    )
    ours = baselines.linear(data, l2=l2, bias=bias, loss="squared")
    np.testing.assert_allclose(ours.predict(data.x), theirs.predict(data.x), atol=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_linear_rotates_with_the_data_and_ignores_their_order(loss):
    data = problem(3)
    rng = np.random.default_rng(4)
    rotation, order = np.linalg.qr(rng.standard_normal((3, 3)))[0], rng.permutation(data.n)
    moved = fc.Dataset((data.x @ rotation)[order], data.y[order])
    f = baselines.linear(data, l2=0.1, bias=True, loss=loss).predict(data.x)
    g = baselines.linear(moved, l2=0.1, bias=True, loss=loss).predict(moved.x)
    np.testing.assert_allclose(g, f[order], atol=1e-5)


def test_linear_intercept_is_not_penalised():
    data = problem(5)
    shifted = fc.Dataset(data.x + 7.0, data.y)
    for loss in ("logistic", "squared"):
        f = baselines.linear(data, l2=0.1, bias=True, loss=loss).predict(data.x)
        g = baselines.linear(shifted, l2=0.1, bias=True, loss=loss).predict(shifted.x)
        np.testing.assert_allclose(g, f, atol=1e-4)


@relaxed
@given(seed=st.integers(0, 2**32 - 1))
def test_homogeneous_linear_classifiers_are_at_chance_on_symmetric_xor(seed):
    # the sample symmetrised, so that "exactly 1/2" holds for it and not only for the distribution
    half = xor(seed, 50)
    data = fc.Dataset(np.vstack([half.x, -half.x]), np.tile(half.y, 2))
    v = np.random.default_rng(seed).standard_normal(4)
    assert baselines.accuracy(baselines.LinearModel(v, 0.0), data) == 0.5
    # a fit to a noisy, asymmetric sample is such a classifier
    fitted = baselines.linear(half, l2=1e-3)
    assert fitted.intercept == 0.0
    assert baselines.accuracy(fitted, data) == 0.5


def test_an_affine_classifier_gets_three_clusters_of_xor():
    data = xor(6, 4000, cluster_std=0.02)
    affine = baselines.LinearModel(np.array([-1.0, -2.0, 0.0, 0.0]), 1.5)
    fraction = baselines.accuracy(affine, data)
    assert fraction == pytest.approx(0.75, abs=3 * math.sqrt(0.75 * 0.25 / data.n))


# --- random features ---


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_random_features_are_a_linear_fit_to_the_features(loss, activation):
    data = problem(7, weighted=True)
    net = fc.TwoLayerNet.gaussian(width=6, dim=3, scale=0.8, seed=1, activation=activation)
    model = baselines.random_features(net, data, l2=0.02, loss=loss)
    features = net.activation(data.x @ net.W.T)
    same = baselines.linear(fc.Dataset(features, data.y, weights=data.weights), l2=0.02, loss=loss)
    np.testing.assert_allclose(model.predict(data.x), same.predict(features), atol=1e-6)
    np.testing.assert_array_equal(model.W, net.W)


def test_random_features_ignore_the_head_and_the_order_of_neurons():
    data = problem(8)
    net = fc.TwoLayerNet.gaussian(width=30, dim=3, scale=1.0, seed=2)
    order = np.random.default_rng(0).permutation(30)
    other = fc.TwoLayerNet(net.W[order], np.full(30, 5.0))
    for loss in ("logistic", "squared"):
        f = baselines.random_features(net, data, l2=0.01, loss=loss).predict(data.x)
        g = baselines.random_features(other, data, l2=0.01, loss=loss).predict(data.x)
        np.testing.assert_allclose(g, f, atol=1e-4)


def test_random_features_solve_xor_where_a_linear_model_cannot():
    train, test = xor(9, 400), xor(10, 4000)
    net = fc.TwoLayerNet.gaussian(width=200, dim=4, scale=1.0, seed=3)
    for model in (
        baselines.random_features(net, train, l2=1e-3),
        baselines.random_features(net, train, l2=1e-3, loss="squared"),
        baselines.ntk(net, train, l2=1e-2),
        baselines.ntk(net, train, l2=1e-2, train=("W",)),
    ):
        assert baselines.accuracy(model, test) > 0.99


# --- tangent kernel ---


@pytest.mark.parametrize("train", [("W", "a"), ("a", "W"), ("W",), ("a",)])
@pytest.mark.parametrize("activation", ["relu", "tanh", LeakyReLU(0.3)])
def test_ntk_is_ridge_on_the_jacobian(activation, train):
    data = problem(11, n=15, weighted=True)
    net = fc.TwoLayerNet.gaussian(
        width=7, dim=3, scale=0.9, head="gaussian", seed=4, activation=activation
    )
    model = baselines.ntk(net, data, l2=0.05, train=train)
    v = baselines.ridge(jacobian(net, data.x, train), data.y, 0.05, data.weights)
    fresh = problem(12, n=20).x
    np.testing.assert_allclose(model.predict(fresh), jacobian(net, fresh, train) @ v, atol=1e-7)


def test_ntk_is_invariant_to_rotation_and_order():
    data = problem(13)
    rng = np.random.default_rng(5)
    rotation, order = np.linalg.qr(rng.standard_normal((3, 3)))[0], rng.permutation(20)
    net = fc.TwoLayerNet.gaussian(width=20, dim=3, scale=1.0, seed=6)
    moved = fc.TwoLayerNet((net.W @ rotation)[order], net.a[order])
    f = baselines.ntk(net, data, l2=0.1).predict(data.x)
    g = baselines.ntk(moved, fc.Dataset(data.x @ rotation, data.y), l2=0.1)
    np.testing.assert_allclose(g.predict(data.x @ rotation), f, atol=1e-10)


def test_ntk_interpolates_as_the_decay_vanishes():
    data = problem(14, n=10)
    net = fc.TwoLayerNet.gaussian(width=300, dim=3, scale=1.0, seed=7)
    model = baselines.ntk(net, data, l2=1e-8)
    np.testing.assert_allclose(model.predict(data.x), data.y, atol=1e-4)


# --- what all share ---


def models(data):
    net = fc.TwoLayerNet.gaussian(width=12, dim=3, scale=1.0, seed=8)
    return [
        baselines.linear(data, l2=0.1),
        baselines.random_features(net, data, l2=0.1),
        baselines.ntk(net, data, l2=0.1),
    ]


def test_predictions_do_not_depend_on_the_blocks(monkeypatch):
    data = problem(15)
    whole = [model.predict(data.x) for model in models(data)]
    monkeypatch.setattr(baselines, "_BLOCK", 100)
    for f, model in zip(whole, models(data), strict=True):
        np.testing.assert_allclose(model.predict(data.x), f, atol=1e-12)
        assert model.predict(data.x[:1]).shape == (1,)


def test_float32_data_are_fitted_in_float64():
    data = problem(16).astype(np.float32)
    exact = fc.Dataset(data.x.astype(np.float64), data.y.astype(np.float64))
    for rounded, model in zip(models(data), models(exact), strict=True):
        f = rounded.predict(data.x)
        assert f.dtype == np.float64
        np.testing.assert_array_equal(f, model.predict(exact.x))


def test_a_log_scale_is_part_of_the_weights():
    data = problem(17)
    net = fc.TwoLayerNet.gaussian(width=12, dim=3, scale=1.0, seed=9)
    scaled = fc.TwoLayerNet(net.W, net.a, log_scale=0.7)
    plain = fc.TwoLayerNet(math.exp(0.7) * net.W, math.exp(0.7) * net.a)
    for fit in (baselines.ntk, baselines.random_features):
        f, g = (fit(one, data, l2=0.1).predict(data.x) for one in (scaled, plain))
        np.testing.assert_allclose(f, g, atol=1e-9)


def test_accuracy_counts_what_it_says():
    model = baselines.LinearModel(np.array([1.0]), 0.0)
    x = [[2.0], [-1.0], [0.0], [3.0]]
    data = fc.Dataset(x, [1, 1, 1, -1], clean_y=[1, -1, 1, 1])
    assert baselines.accuracy(model, data) == 0.25
    assert baselines.accuracy(model, data, labels="clean") == 0.75
    weighted = fc.Dataset(x, [1, 1, 1, -1], weights=[3, 1, 0, 0])
    assert baselines.accuracy(model, weighted) == 0.75


def test_results_are_read_only():
    data = problem(18)
    for model, name in zip(models(data), ("v", "v", "coef"), strict=True):
        with pytest.raises(ValueError, match="read-only"):
            getattr(model, name)[0] = 1.0


DATA = problem(19)
NET = fc.TwoLayerNet.gaussian(width=4, dim=3, scale=1.0)
REAL = fc.Dataset(DATA.x, DATA.y * 1.5)
ONE_CLASS = fc.Dataset(DATA.x, np.ones(DATA.n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: baselines.linear(DATA, l2=0.0), "l2=0 must be > 0"),
        (lambda: baselines.linear(DATA, loss="hinge"), "loss='hinge' is unknown"),
        (lambda: baselines.linear(REAL), "data.y has the entry .* labels -1 or"),
        (lambda: baselines.linear(ONE_CLASS, bias=True), r"data.y is \+1 throughout"),
        (lambda: baselines.linear(DATA).predict(np.ones((2, 5))), r"x has shape \(2, 5\)"),
        (lambda: baselines.random_features(NET, DATA, l2=-1.0), "l2=-1"),
        (lambda: baselines.random_features(NET, REAL, l2=1.0), "data.y has the entry"),
        (lambda: baselines.random_features(NET, DATA, l2=1.0, loss="exponential"), "is unknown"),
        (
            lambda: baselines.random_features(NET, xor(0, 9), l2=1.0),
            "net has dimension 3 and data 4",
        ),
        (lambda: baselines.ntk(NET, xor(0, 9), l2=1.0), "net has dimension 3 and data 4"),
        (lambda: baselines.ntk(NET, DATA, l2=1.0, train=("w",)), r"train=\('w',\) must be"),
        (lambda: baselines.ntk(NET, DATA, l2=1.0, train=()), r"train=\(\) must be"),
        (lambda: baselines.ridge(np.ones((3, 2)), np.ones(4), 1.0), r"y has shape \(4,\)"),
        (lambda: baselines.ridge(np.ones((3, 2)), np.ones(3), 1.0, [1, -1, 1]), "non-negative"),
        (lambda: baselines.accuracy(models(DATA)[0], DATA, "clean"), "needs data.clean_y"),
        (lambda: baselines.accuracy(models(DATA)[0], DATA, "true"), "labels='true' is unknown"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_needs_no_signs_takes_real_labels():
    assert np.isfinite(baselines.linear(REAL, loss="squared").v).all()
    assert np.isfinite(baselines.ntk(NET, REAL, l2=1.0).coef).all()


def test_a_fit_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(baselines, "_GRADIENT_TOLERANCE", 0.0)
    with pytest.raises(RuntimeError, match=r"gradient of norm .* raise l2"):
        baselines.linear(DATA)
