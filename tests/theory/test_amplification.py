"""`theory.amplification` against sampling, an independent network, limits and symmetries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcore.theory import _mean_field
from featcore.theory import amplification as theory

DEFAULTS = {
    "d": 50, "width": 200, "scale": 0.01, "step_size": 1.0, "label_noise": 0.15, "cluster_std": 0.1
}  # fmt: skip

# The machines are shared: no test may fail for being slow.
relaxed = settings(deadline=None, max_examples=40)


def xor_samples(rng, n, means, *, cluster_std, label_noise):
    """Return samples, noisy labels and clean labels."""
    cluster = rng.integers(0, 4, size=n)
    centres = np.vstack([means[0], -means[0], means[1], -means[1]])
    x = centres[cluster] + cluster_std * rng.standard_normal((n, means.shape[1]))
    clean = np.where(cluster < 2, 1.0, -1.0)
    return x, clean * np.where(rng.random(n) < label_noise, -1.0, 1.0), clean


def simulate(
    seed, steps, n, *, d, width, scale, step_size, label_noise, cluster_std, mean_norm=1.0
):
    """Descend a network; return by step mean |cos| with each mean (a_j > 0), and the output."""
    rng = np.random.default_rng(seed)
    means = mean_norm * np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    x, y, _ = xor_samples(rng, n, means, cluster_std=cluster_std, label_noise=label_noise)
    W = scale * rng.standard_normal((width, d))
    a = np.where(np.arange(width) % 2 == 0, 1.0, -1.0) / math.sqrt(width)
    centres = np.vstack([means[0], -means[0], means[1], -means[1]])
    history = np.empty((3, steps + 1))
    for k in range(steps + 1):
        positive = W[a > 0]
        cosines = np.abs(positive @ means.T) / np.linalg.norm(positive, axis=1)[:, None] / mean_norm
        at_means = np.maximum(centres @ W.T, 0.0) @ a
        history[:, k] = *cosines.mean(axis=0), at_means @ [0.25, 0.25, -0.25, -0.25]
        z = x @ W.T
        residual = y / (1.0 + np.exp(y * (np.maximum(z, 0.0) @ a)))
        W = W + step_size / n * a[:, None] * ((z > 0) * residual[:, None]).T @ x
    return history


# --- population gradient ---


@pytest.mark.parametrize(
    ("norms", "cluster_std", "label_noise", "seed"),
    [((1.0, 1.0), 0.1, 0.15, 0), ((3.0, 0.5), 0.7, 0.0, 1), ((1.0, 2.0), 2.0, 0.3, 2)],
)
def test_population_gradient_is_the_expectation(norms, cluster_std, label_noise, seed):
    rng = np.random.default_rng(seed)
    d, n = 6, 200_000
    means = np.diag(norms) @ np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    x, y, _ = xor_samples(rng, n, means, cluster_std=cluster_std, label_noise=label_noise)
    # One neuron at random and one near the plane of the means, where every term counts.
    for w in (
        rng.standard_normal(d),
        0.3 * means[0] - 0.2 * means[1] + 0.1 * rng.standard_normal(d),
    ):
        terms = (y * (x @ w > 0))[:, None] * x
        error = terms.std(axis=0) / math.sqrt(n)
        expected = theory.population_gradient(w, means, cluster_std, label_noise)
        np.testing.assert_array_less(np.abs(terms.mean(axis=0) - expected), 3.0 * error)


def test_population_gradient_does_not_need_orthogonal_means():
    rng = np.random.default_rng(3)
    means = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0]])
    w = np.array([0.1, 0.4, 0.3])
    x, y, _ = xor_samples(rng, 200_000, means, cluster_std=0.5, label_noise=0.1)
    terms = (y * (x @ w > 0))[:, None] * x
    error = terms.std(axis=0) / math.sqrt(len(y))
    expected = theory.population_gradient(w, means, 0.5, 0.1)
    np.testing.assert_array_less(np.abs(terms.mean(axis=0) - expected), 3.0 * error)


@relaxed
@given(
    seed=st.integers(0, 2**32 - 1),
    log10_size=st.floats(-250, 250),
    cluster_std=st.floats(0.0, 3.0),
    label_noise=st.floats(0.0, 0.5),
)
def test_population_gradient_symmetries(seed, log10_size, cluster_std, label_noise):
    rng = np.random.default_rng(seed)
    W, means = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    rotation = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    g = theory.population_gradient(W, means, cluster_std, label_noise)
    assert g.shape == W.shape

    def again(w, mu):
        return theory.population_gradient(w, mu, cluster_std, label_noise)

    np.testing.assert_allclose(again(W @ rotation, means @ rotation), g @ rotation, atol=1e-12)
    np.testing.assert_allclose(again(10.0**log10_size * W, means), g, atol=1e-12)
    np.testing.assert_allclose(again(-W, means), -g, atol=1e-12)
    np.testing.assert_allclose(again(W, means[::-1]), -g, atol=1e-12)
    np.testing.assert_allclose(again(W, -means), g, atol=1e-12)
    for neuron, row in zip(W, g, strict=True):
        np.testing.assert_allclose(again(neuron, means), row, atol=1e-15)


def test_population_gradient_limits():
    means = np.eye(2, 3)
    tight = theory.population_gradient([0.5, -0.2, 1.0], means, 1e-9, 0.1)
    np.testing.assert_allclose(tight, [0.2, 0.2, 0.0], atol=1e-8)
    np.testing.assert_array_equal(
        theory.population_gradient([0.5, -0.2, 1.0], means, 0.0, 0.1), [0.2, 0.2, 0.0]
    )
    # On the boundary of a point-like pair of clusters relu'(0) = 0 leaves both out.
    np.testing.assert_array_equal(
        theory.population_gradient([0.5, 0.0, 1.0], means, 0.0, 0.0), [0.25, 0.0, 0.0]
    )
    np.testing.assert_array_equal(theory.population_gradient(np.ones(3), means, 0.1, 0.5), 0.0)
    np.testing.assert_array_equal(theory.population_gradient(np.zeros(3), means, 0.1, 0.1), 0.0)


# --- time scales, floors and errors ---


@relaxed
@given(
    R=st.floats(0.1, 10.0),
    eta=st.floats(0.0, 0.45),
    m=st.integers(1, 5000),
    alpha=st.floats(0.01, 9),
)
def test_growth_is_a_step_of_the_population_gradient(R, eta, m, alpha):
    # σ -> 0: the gates are open; <w, μ1> grows by α a/2 <E[y 1 x], μ1>, a = 1/√m
    means = R * np.eye(2, 3)
    gradient = theory.population_gradient([1.0, 0.5, 2.0], means, 0.0, eta)
    expected = alpha / (2.0 * math.sqrt(m)) * float(gradient @ means[0])
    assert theory.growth_per_step(alpha, m, eta, R) == pytest.approx(expected, rel=1e-12)


def test_time_scales_fit_together():
    setting = {"step_size": 0.3, "label_noise": 0.1, "mean_norm": 2.0}
    steps = theory.amplification_time(d=30, width=64, scale=0.02, **setting)
    travelled = steps * theory.growth_per_step(width=64, **setting) / 2.0
    assert travelled == pytest.approx(0.02 * math.sqrt(30), rel=1e-12)
    # the output is that of m/4 neurons, each a_j <w_j, μ1>
    carried = 64 / 4 / math.sqrt(64) * 5 * theory.growth_per_step(width=64, **setting)
    assert float(theory.output_before_saturation(5, **setting)) == pytest.approx(carried, rel=1e-12)


def test_pure_noise_never_amplifies():
    assert theory.growth_per_step(1.0, 10, 0.5) == 0.0
    assert theory.amplification_time(10, 10, 0.1, step_size=1.0, label_noise=0.5) == math.inf
    assert theory.loss_floor(0.5) == pytest.approx(math.log(2.0), rel=1e-15)
    assert theory.noisy_error(0.5, 0.1) == 0.5
    still = theory.mean_field(20, **{**DEFAULTS, "label_noise": 0.5})
    # only the residual of the quadrature's asymmetry could move it
    np.testing.assert_allclose(still.cos_mu1, still.cos_mu1[0], rtol=1e-12)
    np.testing.assert_allclose(still.output, 0.0, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 10, 400])
def test_initial_mean_cosine(d):
    rng = np.random.default_rng(d)
    w = rng.standard_normal((20_000, d))
    cosine = np.abs(w[:, 0]) / np.linalg.norm(w, axis=1)
    error = cosine.std() / math.sqrt(len(w))
    assert theory.initial_mean_cosine(d) == pytest.approx(cosine.mean(), abs=3 * error + 1e-12)


def test_initial_mean_cosine_in_high_dimension():
    d = 10**7
    assert theory.initial_mean_cosine(d) == pytest.approx(math.sqrt(2 / (math.pi * d)), rel=1e-6)


@pytest.mark.parametrize(("cluster_std", "mean_norm"), [(0.3, 1.0), (1.0, 1.0), (1.0, 2.5)])
def test_oracle_and_noisy_error(cluster_std, mean_norm):
    rng = np.random.default_rng(11)
    n = 200_000
    x, y, clean = xor_samples(
        rng, n, mean_norm * np.eye(2), cluster_std=cluster_std, label_noise=0.2
    )
    rule = np.where(np.abs(x[:, 0]) > np.abs(x[:, 1]), 1.0, -1.0)
    p = theory.oracle_error(cluster_std, mean_norm)
    q = theory.noisy_error(0.2, p)
    assert (rule != clean).mean() == pytest.approx(p, abs=3 * math.sqrt(p * (1 - p) / n))
    assert (rule != y).mean() == pytest.approx(q, abs=3 * math.sqrt(q * (1 - q) / n))


def test_oracle_error_limits():
    assert theory.oracle_error(0.0) == 0.0
    assert theory.oracle_error(0.01) == pytest.approx(0.0, abs=1e-300)
    assert theory.oracle_error(1e9) == pytest.approx(0.5, abs=1e-9)


@relaxed
@given(st.floats(0.0, 0.5))
def test_loss_floor_is_the_least_mean_logistic_loss(eta):
    # minimise over f the loss averaged over a flip, on a grid around log((1-η)/η)
    f = np.linspace(-1.0, 40.0, 400_001)
    least = ((1 - eta) * np.logaddexp(0, -f) + eta * np.logaddexp(0, f)).min()
    assert theory.loss_floor(eta) == pytest.approx(least, abs=1e-8)


# --- mean field ---

# The tolerances below were written down, with their seeds, before the first run of the simulation.
# They are the biases stated in the docstring of `mean_field`, plus 3 standard errors over the
# seeds: cos_mu1: lower by theory·(1 - 1/√(1+κ²)); either way 0.01 for terms of second order in the
# relative fluctuations 2/√m and √(7/n) of the pull; cos_mu2: higher by 2(σ/R)√(q/n)/r; either way
# 0.01; output:  higher by a relative √(2/π) σ/R; either way a relative 0.03 (second order) and
# 0.01.
SIMULATIONS = [
    pytest.param({**DEFAULTS, "mean_norm": 1.0}, 1000, 100, range(9100, 9108), id="defaults"),
    pytest.param(
        {
            "d": 30, "width": 300, "scale": 0.005, "step_size": 0.3, "label_noise": 0.05,
            "cluster_std": 0.3, "mean_norm": 2.0,
        },
        2000, 60, range(9200, 9208), id="longer means",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "n", "steps", "seeds"), SIMULATIONS)
def test_mean_field_predicts_the_network(setting, n, steps, seeds):
    predicted = theory.mean_field(steps, **setting)
    runs = np.array([simulate(seed, steps, n, **setting) for seed in seeds])
    measured = runs.mean(axis=0)
    error = runs.std(axis=0, ddof=1) / math.sqrt(len(runs))

    eta, ratio = setting["label_noise"], setting["cluster_std"] / setting["mean_norm"]
    s = 1.0 / (1.0 + np.exp(predicted.output))
    r, q = s - eta, (1 - eta) * s**2 + eta * (1 - s) ** 2
    drift = np.cumsum(np.sqrt(q)) / np.cumsum(r)
    kappa = 4 * ratio * math.sqrt((setting["d"] - 2) / (2 * n)) * drift
    below = np.array(
        [
            predicted.cos_mu1 * (1 - 1 / np.sqrt(1 + kappa**2)) + 0.01,
            np.full(steps + 1, 0.01),
            0.03 * predicted.output + 0.01,
        ]
    )
    above = np.array(
        [
            np.full(steps + 1, 0.01),
            2 * ratio * np.sqrt(q / n) / r + 0.01,
            (math.sqrt(2 / math.pi) * ratio + 0.03) * predicted.output + 0.01,
        ]
    )
    theirs = np.array([predicted.cos_mu1, predicted.cos_mu2, predicted.output])
    recorded = [0, 1, 3, 10, 30, steps]
    for name, *row in zip(
        ("cos_mu1", "cos_mu2", "output"), theirs, measured, error, below, above, strict=True
    ):
        t, sim, se, low, high = (values[recorded] for values in row)
        excess = np.maximum((t - low - sim) / se, (sim - t - high) / se)
        assert excess.max() < 3, f"{name}: theory {t}, network {sim} ± {se}, allowed -{low} +{high}"


def test_mean_field_one_step_is_a_step_of_the_population_gradient():
    # Independent of the reduced coordinates: whole neurons, moved by the d-dimensional gradient.
    rng = np.random.default_rng(5)
    d, neurons = 8, 200_000
    means = 1.5 * np.eye(2, d)
    w = 0.02 * rng.standard_normal((neurons, d))
    moved = w + 0.7 / (2 * math.sqrt(100)) * theory.population_gradient(w, means, 0.2, 0.1)
    cosine = np.abs(moved[:, :2]) / np.linalg.norm(moved, axis=1)[:, None]
    error = cosine.std(axis=0) / math.sqrt(neurons)
    predicted = theory.mean_field(
        1,
        d=d,
        width=100,
        scale=0.02,
        step_size=0.7,
        label_noise=0.1,
        cluster_std=0.2,
        mean_norm=1.5,
    )
    # the output before the step is 0, up to the quadrature
    assert abs(predicted.output[0]) < 1e-12
    bias = 2e-4  # quadrature at d < 10
    assert predicted.cos_mu1[1] == pytest.approx(cosine[:, 0].mean(), abs=3 * error[0] + bias)
    assert predicted.cos_mu2[1] == pytest.approx(cosine[:, 1].mean(), abs=3 * error[1] + bias)


@pytest.mark.parametrize(
    ("d", "tolerance"), [(2, 5e-3), (3, 5e-3), (10, 1e-4), (50, 1e-5), (10**5, 1e-5)]
)
def test_mean_field_quadrature_has_converged(d, tolerance, monkeypatch):
    setting = {**DEFAULTS, "d": d, "step_size": 0.2}
    coarse = theory.mean_field(40, **setting)
    monkeypatch.setattr(_mean_field, "_NODES", 90)
    monkeypatch.setattr(_mean_field, "_RADIAL_NODES", 20)
    fine = theory.mean_field(40, **setting)
    for name in ("cos_mu1", "cos_mu2", "output"):
        np.testing.assert_allclose(getattr(coarse, name), getattr(fine, name), atol=tolerance)


@pytest.mark.parametrize("d", [2, 3, 7, 50, 10**6])
def test_mean_field_starts_at_the_gaussian_law(d):
    start = theory.mean_field(0, **{**DEFAULTS, "d": d})
    expected = theory.initial_mean_cosine(d)
    np.testing.assert_array_equal(start.step, [0])
    assert start.cos_mu1[0] == pytest.approx(expected, rel=2e-2 if d == 3 else 2e-3)
    assert start.cos_mu2[0] == pytest.approx(start.cos_mu1[0], rel=1e-12)


def test_mean_field_before_and_after_saturation():
    # Tight clusters and a tiny start: gates open at once. With r = (1-2η)/2 - F/4 + O(F³) the line
    # of `output_before_saturation` bends to F = h (1 - e^{-line/h}), h = 2(1-2η).
    setting = {
        "d": 20,
        "width": 100,
        "scale": 1e-7,
        "step_size": 1e-3,
        "label_noise": 0.2,
        "cluster_std": 1e-3,
    }
    early = theory.mean_field(1000, **setting)
    line = theory.output_before_saturation(early.step, 1e-3, 0.2)
    bent = 1.2 * (1 - np.exp(-line / 1.2))
    assert 0.01 < line[-1] < 0.05
    # c2 jumps to and fro across 0 by a step's growth, and |c1| starts √m ω R/4 ahead at most
    np.testing.assert_allclose(early.output, bent, rtol=1e-4, atol=line[1] + 1e-6)
    # after long the output stands at the log-odds of the noise, which is where the loss is least
    late = theory.mean_field(3000, **{**setting, "step_size": 1.0})
    assert late.output[-1] == pytest.approx(math.log(0.8 / 0.2), rel=1e-3)
    assert late.cos_mu1[-1] > 0.999


def test_mean_field_crosses_near_the_amplification_time():
    # Narrow clusters: the slow start is short; what remains neglected is the head start |c1| ~ ω at
    # d = 1000 (a relative √(2/(πd)) = 0.025), the start of neurons with |t1| < 1 (σ√d = 0.3: about
    # 0.3/2) and saturation (F = 0.05 at the crossing: 0.01). Stated bias: 20 %.
    setting = {"d": 1000, "width": 400, "scale": 1e-3, "step_size": 0.1, "label_noise": 0.1}
    run = theory.mean_field(300, cluster_std=0.01, **setting)
    crossing = float(np.interp(1 / math.sqrt(2), run.cos_mu1, run.step))
    assert crossing == pytest.approx(theory.amplification_time(**setting), rel=0.2)


@relaxed
@given(
    R=st.floats(0.5, 4.0), c=st.floats(0.25, 4.0), steps=st.integers(0, 6), eta=st.floats(0.0, 0.49)
)
def test_mean_field_scaling(R, c, steps, eta):
    # (R, σ, ω, α) -> (cR, cσ, ω/c, α/c²) leaves <w, x> and hence everything dimensionless alone
    def run(scale):
        return theory.mean_field(
            steps,
            d=12,
            width=50,
            scale=0.02 / scale,
            step_size=0.5 / scale**2,
            label_noise=eta,
            cluster_std=0.1 * R * scale,
            mean_norm=R * scale,
        )

    base, other = run(1.0), run(c)
    for name in ("cos_mu1", "cos_mu2", "output"):
        np.testing.assert_allclose(getattr(other, name), getattr(base, name), rtol=1e-9, atol=1e-14)


def test_mean_field_result_is_read_only():
    run = theory.mean_field(2, **DEFAULTS)
    assert run.step.shape == run.cos_mu1.shape == run.cos_mu2.shape == run.output.shape == (3,)
    with pytest.raises(ValueError, match="read-only"):
        run.output[0] = 1.0


# --- bad input ---


GRADIENT = theory.population_gradient


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GRADIENT([1.0, 0.0], np.eye(3), 0.1, 0.1), ValueError, "means has shape"),
        (lambda: GRADIENT([1.0, 0.0], np.eye(2), -0.1, 0.1), ValueError, "cluster_std=-0.1"),
        (lambda: GRADIENT([np.nan, 0.0], np.eye(2), 0.1, 0.1), ValueError, "non-finite"),
        (lambda: GRADIENT(1.0, np.eye(2), 0.1, 0.1), ValueError, "w has shape"),
        (lambda: theory.growth_per_step(1.0, 10, 0.6), ValueError, "label_noise=0.6"),
        (lambda: theory.growth_per_step(0.0, 10, 0.1), ValueError, "step_size=0"),
        (lambda: theory.growth_per_step(1.0, 10.0, 0.1), TypeError, "width=10.0"),
        (lambda: theory.growth_per_step(1.0, 10, 0.1, 0.0), ValueError, "mean_norm=0"),
        (lambda: theory.initial_mean_cosine(0), ValueError, "d=0"),
        (
            lambda: theory.amplification_time(5, 5, 0.0, step_size=1.0, label_noise=0.1),
            ValueError,
            "scale=0",
        ),
        (
            lambda: theory.output_before_saturation([3, -1], 1.0, 0.1),
            ValueError,
            "step has the negative",
        ),
        (lambda: theory.loss_floor(-0.1), ValueError, "label_noise=-0.1"),
        (lambda: theory.noisy_error(0.1, 1.5), ValueError, "clean_error=1.5"),
        (lambda: theory.mean_field(5, **{**DEFAULTS, "d": 1}), ValueError, "d=1"),
        (lambda: theory.mean_field(-1, **DEFAULTS), ValueError, "steps=-1"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
