"""`theory.one_step.conditional_errors` against its limits, its equations, random matrices and networks."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

import featcore as fc
from featcore.theory import one_step as theory
from featcore.theory.one_step import conditional, conditional_moments, conditional_point

RELU = fc.ReLU().centred()
H2T = [0.0, 1.0, math.sqrt(0.5)]
SIZES = {"n": 1000, "d": 500, "width": 700}
SETTING = {**SIZES, "ridge": 0.05, "noise": 0.3}
THREE = ("objective", "train_error", "test_error")

# The machines are shared: no test may fail for being slow.
relaxed = settings(deadline=None, max_examples=30)


def three(found):
    return np.stack([getattr(found, name) for name in THREE])


# --- what is known given u ---


@pytest.mark.parametrize("scale", [1e-3, 0.7, 1.0, 3.0])
def test_moments_of_a_shifted_relu(scale):
    shift = np.array([-20.0, -3.0, -0.2, 0.0, 1.5, 30.0])
    q = shift / scale
    density = np.exp(-0.5 * q**2) / math.sqrt(2 * math.pi)
    mean, slope = shift * ndtr(q) + scale * density, scale * ndtr(q)
    square = (shift**2 + scale**2) * ndtr(q) + shift * scale * density
    got = conditional_moments.given(fc.ReLU(), shift, np.full(6, scale))
    np.testing.assert_allclose(got[0], mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(got[1], slope, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(got[2], square - mean**2 - slope**2, rtol=1e-8, atol=1e-12)
    assert (got[2] >= 0).all()


# --- the fixed point ---


def arbitrary(phi, psi, ridge):
    """Return slopes and variances without a symmetry, on a few nodes."""
    u, sample_weight = conditional_moments.rule(12)
    xi, neuron_weight = conditional_moments.rule(10)
    t = 0.6 * u[:, None] * xi + 0.2 * u[:, None] - 0.1 * xi
    return conditional_point.Conditional(
        slope=np.tanh(t + 0.5)[None],
        rest=(0.2 + 0.1 * np.sin(t) ** 2)[None],
        phi=np.array([phi]),
        psi=np.array([psi]),
        ridge=np.array([ridge]),
        sample_weight=sample_weight,
        neuron_weight=neuron_weight,
    )


@relaxed
@given(
    phi=st.floats(-2, 2).map(lambda x: 10.0**x),
    psi=st.floats(-2, 2).map(lambda x: 10.0**x),
    ridge=st.floats(-6, 3).map(lambda x: 10.0**x),
)
def test_the_fixed_point_solves_its_equations(phi, psi, ridge):
    of = arbitrary(phi, psi, ridge)
    point = conditional_point.solve(of)
    (r,), (g,), (slope,), (rest,) = point.r, point.g, of.slope, of.rest
    w, v = of.sample_weight, of.neuron_weight
    k = slope @ np.diag(v * g) @ slope.T / psi
    by_sample = phi * np.diagonal(k @ np.linalg.inv(np.eye(len(w)) + (w * r)[:, None] * k))
    by_head = np.linalg.inv(np.eye(len(w)) + (w * r)[:, None] * k) @ ((w * r)[:, None] * slope)
    # what a node weighs 1e-12 of, nothing depends on
    seen, heads = w > 1e-9, v > 1e-9
    found = r * (ridge + phi / psi * rest @ (v * g) + by_sample)
    np.testing.assert_allclose(found[seen], 1.0, rtol=1e-6)
    found = g * (1.0 + (w * r) @ rest + np.sum(slope * by_head, axis=0))
    np.testing.assert_allclose(found[heads], 1.0, rtol=1e-6)
    # and answers to λ as differences do
    h = 1e-5 * ridge
    low, high = (
        conditional_point.solve(dataclasses.replace(of, ridge=of.ridge + s)) for s in (-h, h)
    )
    by_r, by_g = point.response(w[None])
    differences = (np.log(high.r) - np.log(low.r)) / (2 * h)
    np.testing.assert_allclose(by_r[:, seen], differences[:, seen], rtol=1e-4, atol=1e-6 / ridge)
    differences = (np.log(high.g) - np.log(low.g)) / (2 * h)
    np.testing.assert_allclose(by_g[:, heads], differences[:, heads], rtol=1e-4, atol=1e-6 / ridge)


def test_the_fixed_point_is_the_limit_of_traces():
    """Features whose law depends on the sample and on the neuron: nR_ii and λnR_jj, by classes of both."""
    rng = np.random.default_rng(0)
    n, d, width, ridge = 1600, 800, 1200, 0.05
    slopes, variances = np.array([[0.5, -0.2], [0.1, 0.9]]), np.array([[0.1, 0.3], [0.2, 0.05]])
    of = conditional_point.Conditional(
        slope=slopes[None],
        rest=variances[None],
        phi=np.array([d / n]),
        psi=np.array([d / width]),
        ridge=np.array([ridge]),
        sample_weight=np.array([0.25, 0.75]),
        neuron_weight=np.array([0.5, 0.5]),
    )
    point = conditional_point.solve(of)
    rows, columns = np.repeat([0, 1], [n // 4, 3 * n // 4]), np.repeat([0, 1], width // 2)
    x, w = rng.standard_normal((n, d)), rng.standard_normal((width, d)) / math.sqrt(d)
    f = slopes[rows][:, columns] * (x @ w.T)
    f += np.sqrt(variances[rows][:, columns]) * rng.standard_normal((n, width))
    of_samples = n * np.diagonal(np.linalg.inv(f @ f.T + ridge * n * np.eye(n)))
    of_neurons = ridge * n * np.diagonal(np.linalg.inv(f.T @ f + ridge * n * np.eye(width)))
    for k in range(2):
        assert point.r[0, k] == pytest.approx(of_samples[rows == k].mean(), rel=0.01)
        assert point.g[0, k] == pytest.approx(of_neurons[columns == k].mean(), rel=0.01)


# --- errors ---


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize(("activation", "link"), [(RELU, H2T), ("tanh", "relu"), ("erf", "H2")])
def test_without_a_step_features_are_random(activation, link, residual):
    start = theory.random_features_errors(activation, link, **SETTING)
    gaps = []
    for times in (1, 10, 100):
        own = {**SETTING, **{name: times * size for name, size in SIZES.items()}}
        still = theory.conditional_errors(activation, link, **own, step_size=0.0, residual=residual)
        gaps.append(np.abs(three(still) / three(start) - 1).max())
        np.testing.assert_array_equal(still.fixed_point.kappa, start.fixed_point.kappa)
    if residual == "labels":
        assert max(gaps) < 1e-9
    else:
        # what W₀ᵀa contributes to an input's square, one part in N, is not taken out of the rest
        assert gaps[0] < 2e-4
        assert gaps[1] < gaps[0] / 5
        assert gaps[2] < gaps[1] / 5


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize(("activation", "link"), [(RELU, H2T), ("tanh", H2T), (RELU, "relu")])
def test_weak_steps_of_wide_networks_are_those_of_errors(activation, link, residual):
    """A constant η with N → ∞: s and ν go to 0 as 1/√N and 1/N, while the first spike keeps its strength."""
    gaps = []
    for times in (1, 10, 100):
        sizes = {name: times * size for name, size in SIZES.items()}
        own = {**SETTING, **sizes, "residual": residual, "step_size": 3.0}
        strong, weak = (
            three(f(activation, link, **own)) for f in (theory.conditional_errors, theory.errors)
        )
        gaps.append(np.abs(strong / weak - 1).max())
    assert gaps[0] < 0.02
    assert gaps[1] < gaps[0] / 6
    assert gaps[2] < gaps[1] / 6


@pytest.mark.parametrize(("activation", "link"), [(RELU, H2T), ("tanh", "relu")])
def test_a_full_residual_that_owes_nothing_to_the_start_is_that_of_labels(
    monkeypatch, activation, link
):
    """With ω = 0 the direction W₀ᵀa is one as any other, whether it is taken out of W₀ or not."""
    own = {**SETTING, "step_size": 15.0}
    labels = three(theory.conditional_errors(activation, link, **own))
    step, problem = conditional.step, conditional.problem
    monkeypatch.setattr(
        conditional, "problem", lambda *a, **k: dataclasses.replace(problem(*a, **k), full=True)
    )
    monkeypatch.setattr(
        conditional, "step", lambda of, eta: step(dataclasses.replace(of, full=False), eta)
    )
    full = three(theory.conditional_errors(activation, link, **own))
    np.testing.assert_allclose(full, labels, rtol=1e-11)


@relaxed
@given(
    activation=st.sampled_from([RELU, fc.Tanh(), fc.Erf(), fc.GELU().centred(), fc.Hermite([0, 1, 0.3])]),
    link=st.sampled_from(["relu", "tanh", "H2", "H3", (0.3, 1.0, -0.5, 0.2)]),
    d=st.floats(50, 5000), phi=st.floats(0.1, 10), psi=st.floats(0.1, 10),
    ridge=st.floats(-4, 2).map(lambda x: 10.0**x),
    noise=st.floats(0, 2), strength=st.floats(0.0, 0.9), residual=st.sampled_from(["labels", "full"]),
)  # fmt: skip
def test_errors_keep_their_bounds(activation, link, d, phi, psi, ridge, noise, strength, residual):
    sizes = {"n": d / phi, "d": d, "width": d / psi, "noise": noise, "residual": residual}
    unit = (
        theory.errors(activation, link, **sizes, ridge=ridge, step_size=1.0 / d).step.strength * d
    )
    eta = strength / abs(float(unit))
    own = {**sizes, "step_size": eta}
    found = theory.conditional_errors(activation, link, **own, ridge=ridge)
    assert found.test_error >= noise**2 * (1 - 1e-9)
    assert 0 <= found.train_error <= found.objective * (1 + 1e-9)
    # -λ² dQ/dλ, Q = objective/λ, is the training error: not by the formula that the code has
    ridges = ridge * (1.0 + 1e-4 * np.array([-1.0, 1.0]))
    low, high = theory.conditional_errors(activation, link, **own, ridge=ridges).objective / ridges
    assert -(ridge**2) * (high - low) / (ridges[1] - ridges[0]) == pytest.approx(
        float(found.train_error), rel=1e-5, abs=1e-9
    )


def test_units_do_not_matter():
    """cσ with λc² and η/c; a teacher t times as large with η/t; -σ; both turned round."""
    setting = {**SIZES, "noise": 0.3, "step_size": 12.0}
    student, link = [0, 0.5, 0.2, 0.1], [0.4, 1.0, 0.3]
    base = three(theory.conditional_errors(fc.Hermite(student), link, **setting, ridge=0.05))

    def scaled(c, t):
        return three(
            theory.conditional_errors(
                fc.Hermite([c * k for k in student]),
                [t * k for k in link],
                **{**setting, "noise": 0.3 * abs(t), "step_size": 12.0 / abs(c * t)},
                ridge=0.05 * c**2,
            )
        )

    np.testing.assert_allclose(scaled(3, 1), base, rtol=1e-8)
    np.testing.assert_allclose(scaled(-1, 1), base, rtol=1e-8)
    np.testing.assert_allclose(scaled(1, 2), 4 * base, rtol=1e-8)
    np.testing.assert_allclose(scaled(1, -1), base, rtol=1e-8)


@pytest.mark.parametrize("residual", ["labels", "full"])
def test_arrays_are_loops(residual):
    eta, ridge, d = (
        np.array([0.0, 2.0, 15.0])[:, None, None],
        np.array([0.01, 0.3])[:, None],
        [300, 500],
    )
    own = {"n": 1000, "width": 700, "noise": 0.2, "residual": residual}
    both = theory.conditional_errors(RELU, "relu", **own, d=d, ridge=ridge, step_size=eta)
    assert both.test_error.shape == both.step.strength.shape == (3, 2, 2)
    for i, j, k in np.ndindex(3, 2, 2):
        one = theory.conditional_errors(
            RELU, "relu", **own, d=d[k], ridge=ridge[j, 0], step_size=eta[i, 0, 0]
        )
        assert one.test_error.shape == ()
        np.testing.assert_allclose(three(both)[:, i, j, k], three(one), rtol=1e-9)
    none = theory.conditional_errors(RELU, "relu", **own, d=500, ridge=[], step_size=2.0)
    assert none.test_error.shape == (0,)


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize("activation", [RELU, fc.Tanh()])
@pytest.mark.parametrize(("strength", "share"), [(0.5, 3e-6), (0.99, 1e-3)])
def test_the_nodes_are_enough(monkeypatch, activation, strength, share, residual):
    own = {**SETTING, "residual": residual}
    unit = theory.errors(activation, H2T, **own, step_size=1e-3).step.strength / 1e-3
    eta = strength / abs(float(unit))
    found = three(theory.conditional_errors(activation, H2T, **own, step_size=eta))
    monkeypatch.setattr(conditional, "_NODES_U", 96)
    monkeypatch.setattr(conditional, "_NODES_XI", 72)
    more = three(theory.conditional_errors(activation, H2T, **own, step_size=eta))
    np.testing.assert_allclose(found, more, rtol=share)


@pytest.mark.parametrize("ratio", [1e-3, 1.0, 1e3])
def test_extreme_arguments_warn_of_nothing(ratio):
    ridge = np.logspace(-12, 12, 9)
    for residual in ("labels", "full"):
        sizes = {"n": 1e4 / ratio, "d": 1e4, "width": [1e2, 1e4, 1e6]}
        found = theory.conditional_errors(
            RELU, H2T, **sizes, ridge=ridge[:, None], step_size=1e-3, residual=residual
        )
        assert np.isfinite(three(found)).all()
        assert (three(found) > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "relu"}, r"c_0 = 0\.398942 .*\.centred\(\)"),
        ({"ridge": 0.0}, "ridge=0 must be positive"),
        ({"step_size": -1.0}, "step_size=-1 must be at least 0"),
        ({"step_size": 1e3}, r"step_size gives \|s\| = .*above 1"),
        ({"step_size": math.nan}, "step_size"),
        ({"width": 1e10}, "width=1e\\+10 .* limit_errors"),
        ({"ridge": [0.1, 0.2], "step_size": [1, 2, 3]}, "do not broadcast"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"activation": RELU, "link": H2T, **SETTING, "step_size": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        theory.conditional_errors(**arguments)


# --- networks ---

# Written down before the first run, with seeds and tolerance: 3 % (the stated bias) and 3 standard errors. Errors vary
# with the batches' mean square label, whose expectation is known, and it is regressed out.
QUICK = {"n": 800, "d": 400, "width": 480, "ridge": 0.05, "noise": 0.3}
NETWORKS = [
    pytest.param(RELU, H2T, 0.45, "labels", QUICK, 11100, id="relu"),
    pytest.param(fc.Tanh(), H2T, 0.4, "full", QUICK, 11200, id="tanh, full"),
    pytest.param(RELU, fc.ReLU(), 0.4, "labels", QUICK, 11300, id="a teacher with a mean"),
]
USUAL = {"n": 1000, "d": 500, "width": 600, "ridge": 0.05, "noise": 0.3}
EQUAL = {"n": 1000, "d": 500, "width": 700, "ridge": 0.05}
ERF = {"n": 1500, "d": 500, "width": 700, "ridge": 0.1, "noise": 0.3}
MANY = [
    pytest.param(RELU, [0.0, 1.0], 0.45, "labels", {**EQUAL, "noise": 1.0}, 12000, id="linear"),
    pytest.param(RELU, H2T, 0.45, "labels", {**EQUAL, "noise": 0.0}, 12200, id="quadratic"),
    pytest.param(RELU, H2T, 0.4, "full", USUAL, 12400, id="full residual"),
    pytest.param(fc.Tanh(), H2T, 0.45, "labels", USUAL, 12600, id="tanh"),
    pytest.param(fc.Erf(), "tanh", 0.4, "labels", ERF, 12800, id="erf"),
    pytest.param(RELU, fc.ReLU(), 0.4, "labels", USUAL, 13000, id="a teacher with a mean"),
]
BIAS = 0.03


def simulate(seed, activation, link, eta, residual, *, n, d, width, ridge, noise):
    """Return objective, training and test error, and mean y² of both batches."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((width, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    net = fc.TwoLayerNet(W, rng.standard_normal(width) / math.sqrt(width), activation)
    seeds = [int(of) for of in rng.integers(2**32, size=3)]
    first = fc.data.single_index(n, d, link, noise=noise, seed=seeds[0])
    stepped = fc.one_step(net, first, eta, residual=residual)
    fresh, tested = (
        fc.data.single_index(count, d, link, noise=noise, direction=first.means[0], seed=of)
        for count, of in ((n, seeds[1]), (3000, seeds[2]))
    )
    fit = fc.ridge(fc.features(stepped, fresh.x), fresh.y, ridge)
    test = fit.test_error(fc.features(stepped, tested.x), tested.y)
    values = fit.objective, fit.train_error, test, np.mean(fresh.y**2), np.mean(tested.y**2)
    return [float(np.squeeze(value)) for value in values]


def compare(activation, link, alpha, residual, setting, seeds):
    """Return predicted over measured errors - 1, and the standard error of it."""
    eta = setting["n"] ** alpha
    runs = np.array([simulate(seed, activation, link, eta, residual, **setting) for seed in seeds])
    known = fc.data.link(link).second_moment() + setting["noise"] ** 2
    controls = np.column_stack([np.ones(len(runs)), runs[:, 3:] - known])
    fit, *_ = np.linalg.lstsq(controls, runs[:, :3], rcond=None)
    left = runs[:, :3] - controls @ fit
    spread = np.linalg.inv(controls.T @ controls)[0, 0]
    error = np.sqrt(np.sum(left**2, axis=0) / (len(runs) - 3) * spread) / fit[0]
    predicted = three(
        theory.conditional_errors(activation, link, **setting, step_size=eta, residual=residual)
    )
    return predicted / fit[0] - 1, error


@pytest.mark.parametrize(("activation", "link", "alpha", "residual", "setting", "first"), NETWORKS)
def test_networks_have_these_errors(activation, link, alpha, residual, setting, first):
    seeds = range(first, first + 24)
    gap, error = compare(activation, link, alpha, residual, setting, seeds)
    assert (error < 0.025).all(), error
    assert (np.abs(gap) < BIAS + 3 * error).all(), (gap, error)


@pytest.mark.long
@pytest.mark.parametrize(("activation", "link", "alpha", "residual", "setting", "first"), MANY)
def test_many_networks_have_these_errors(activation, link, alpha, residual, setting, first):
    seeds = range(first, first + 192)
    gap, error = compare(activation, link, alpha, residual, setting, seeds)
    print(np.round(100 * gap, 2), np.round(100 * error, 2))
    assert (error < 0.007).all(), error
    assert (np.abs(gap) < BIAS + 3 * error).all(), (gap, error)
