"""`theory.one_step` against limits, symmetries, identities, random matrices and networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, ndtr

import featcore as fc
from featcore.theory import one_step as theory
from featcore.theory.one_step import fixed_point, spikes

RELU = fc.ReLU().centred()
H2T = [0.0, 1.0, math.sqrt(0.5)]
SIZES = {"n": 1000, "d": 500, "width": 600}
SETTING = {**SIZES, "ridge": 0.05, "noise": 0.3}
THREE = ("objective", "train_error", "test_error")

# The machines are shared: no test may fail for being slow.
relaxed = settings(deadline=None, max_examples=60)
logs = st.floats(-2.0, 2.0).map(lambda x: 10.0**x)
coefficient = st.floats(0.05, 2.0)


def three(found):
    return np.stack([getattr(found, name) for name in THREE])


# --- the fixed point ---


@relaxed
@given(
    c1=coefficient,
    rest=coefficient,
    phi=logs,
    psi=logs,
    ridge=st.floats(-8, 3).map(lambda x: 10.0**x),
)
def test_the_equations_of_m1_and_m2(c1, rest, phi, psi, ridge):
    """As remembered of Adlam and Pennington's fixed point; their m_i are ours times φ/ψ."""
    point = theory.random_features_fixed_point(c1, rest, phi=phi, psi=psi, ridge=ridge)
    assert 0 < point.u < 1
    assert 0 < point.q < 1
    assert point.kappa >= ridge
    assert point.ridge_slope > 0
    m1, m2 = phi / psi * point.m1, phi / psi * point.m2
    both, mixed = c1**2 * m1 * m2, rest**2 * m1 + c1**2 * m2
    common = both * (ridge * psi * m1 / phi - 1)
    first = phi * (m1 - m2) * mixed + common
    second = phi / psi * (both + phi * (m2 - m1)) + common
    assert abs(first) <= 1e-12 * (phi * (m1 + m2) * mixed + both)
    assert abs(second) <= 1e-12 * (phi / psi * (both + phi * (m1 + m2)) + both)


@relaxed
@given(c1=coefficient, rest=coefficient, phi=logs, psi=logs, ridge=logs)
def test_slopes_are_derivatives(c1, rest, phi, psi, ridge):
    point = theory.random_features_fixed_point(c1, rest, phi=phi, psi=psi, ridge=ridge)
    h = 1e-4 * point.kappa
    near = fixed_point.at_kappa(point.kappa + np.array([-h, h]), c1, rest**2, phi, psi)
    assert point.ridge == pytest.approx(ridge, rel=1e-9, abs=1e-14 * point.kappa * (1 + phi / psi))
    for value, slope in (
        ("u", "u_slope"),
        ("q", "q_slope"),
        ("ridge", "ridge_slope"),
        ("m1", "m1_slope"),
        ("m2", "m2_slope"),
    ):
        low, high = getattr(near, value)
        scale = (abs(low) + abs(high)) / point.kappa
        assert (high - low) / (2 * h) == pytest.approx(
            getattr(point, slope), rel=1e-5, abs=1e-6 * scale
        )


def test_the_fixed_point_is_the_limit_of_traces():
    rng = np.random.default_rng(0)
    n, d, width, ridge = 1200, 600, 900, 0.05
    c1, rest = 0.6, 0.4
    x, w = rng.standard_normal((n, d)), rng.standard_normal((width, d)) / math.sqrt(d)
    f = c1 * x @ w.T + rest * rng.standard_normal((n, width))
    inverse = np.linalg.inv(f @ f.T + ridge * n * np.eye(n))
    point = theory.random_features_fixed_point(c1, rest, phi=d / n, psi=d / width, ridge=ridge)
    assert np.trace(inverse) == pytest.approx(point.m1, rel=0.01)
    assert np.sum(x * (inverse @ x)) / d == pytest.approx(point.m2, rel=0.01)
    other = np.linalg.inv(f.T @ f + ridge * n * np.eye(width))
    assert ridge * n * np.trace(other) / width == pytest.approx(point.q, rel=0.01)


@pytest.mark.parametrize("ratio", [1e-6, 1.0, 1e6])
def test_extreme_arguments_warn_of_nothing(ratio):
    ridge = np.logspace(-12, 12, 13)
    for psi in (1e-6, 0.999999, 1.0, 1e6):
        point = theory.random_features_fixed_point(1.0, 1e-3, phi=ratio, psi=psi, ridge=ridge)
        assert np.isfinite(point.kappa).all()
        assert (point.ridge_slope > 0).all()
    for residual in ("labels", "full"):
        sizes = {"n": 1e4 / ratio, "d": 1e4, "width": [1e2, 1e4, 1e6]}
        found = theory.errors(
            RELU, H2T, **sizes, ridge=ridge[:, None], step_size=1e-3, residual=residual
        )
        assert np.isfinite(three(found)).all()


# --- what the step adds ---


def test_moments_of_activations():
    size = np.array([0.0, 1e-3, 0.5, 1.0, 3.0])
    got = spikes.hermite_moments(fc.ReLU(), size)
    own = fc.ReLU().hermite_coefficients(8) * np.sqrt([math.factorial(k) for k in range(9)])
    np.testing.assert_allclose(got, size[:, None] * own, atol=1e-12)
    for sigma in (fc.Tanh(), fc.GELU(), fc.Erf()):
        own = sigma.hermite_coefficients(8) * np.sqrt([math.factorial(k) for k in range(9)])
        np.testing.assert_allclose(spikes.hermite_moments(sigma, np.array(1.0)), own, atol=1e-9)


@pytest.mark.parametrize(
    ("sigma", "mean"),
    [
        (fc.Erf(), lambda t: erf(t / math.sqrt(3))),
        (fc.ReLU(), lambda t: t * ndtr(t) + np.exp(-0.5 * t**2) / math.sqrt(2 * math.pi)),
    ],
)
def test_the_matrix_of_spikes_over_both_sides(sigma, mean):
    """E[m(suξ)h_a(u)h_b(ξ)] from m(t) = E σ(z + t) in closed form."""
    node, weight = np.polynomial.hermite_e.hermegauss(120)
    kept = np.abs(node) < 11
    node, weight = node[kept], weight[kept] / math.sqrt(2 * math.pi)
    factorials = np.sqrt([math.factorial(k) for k in range(9)])
    basis = (np.polynomial.hermite_e.hermevander(node, 8) / factorials).T * weight
    for s in (-0.1, 0.05, 0.6):
        expected = basis @ mean(s * np.outer(node, node)) @ basis.T
        got = spikes.finite(sigma, np.array(s), np.array(0.0))
        np.testing.assert_allclose(got, expected, atol=1e-7)


def test_of_a_polynomial_taylors_sum_is_all():
    sigma = fc.Hermite([0.0, 0.5, 0.2, -0.1])
    strength = np.array([0.0, 0.05, 0.3, 1.0])
    whole = spikes.finite(sigma, strength, np.zeros(4))
    np.testing.assert_allclose(
        whole[:, :4, :4], spikes.taylor(sigma, strength, np.zeros(4), 3), atol=1e-9
    )
    np.testing.assert_allclose(whole[:, 4:, :], 0.0, atol=1e-9)


def test_rescaled_neurons_by_their_polynomial():
    """σ = He_1 + ½He_2 at (1 + δξ)z + suξ has the mean suξ + ½((suξ)² + 2δξ + δ²ξ²)."""
    s, delta = 0.3, 0.1
    matrix = spikes.finite(fc.Hermite([0.0, 1.0, 0.5]), np.array(s), np.array(delta))
    expected = np.zeros_like(matrix)
    expected[1, 1] = s
    # E u²h_0 = 1, E u²h_2 = √2
    square = np.array([1.0, 0.0, math.sqrt(2.0)])
    expected[:3, :3] += 0.5 * s**2 * np.outer(square, square)
    expected[0, 1] += delta
    expected[0, :3] += 0.5 * delta**2 * square
    np.testing.assert_allclose(matrix, expected, atol=1e-9)


# --- errors ---


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize(("activation", "link"), [(RELU, H2T), ("tanh", "relu"), ("erf", "H2")])
def test_without_a_step_features_are_random(activation, link, residual):
    still = theory.errors(activation, link, **SETTING, step_size=0.0, residual=residual)
    start = theory.random_features_errors(activation, link, **SETTING)
    np.testing.assert_allclose(three(still), three(start), rtol=1e-14)
    np.testing.assert_array_equal(
        three(theory.limit_errors(activation, link, **SETTING, spikes=0)), three(start)
    )
    tiny = theory.errors(activation, link, **SETTING, step_size=1e-5, residual=residual)
    np.testing.assert_allclose(three(tiny), three(start), rtol=1e-6)


LIMITS = [
    # activation, link, spikes, strength: all that is not a spike vanishes, all that is one is large
    pytest.param(fc.Hermite([0, 0.5, 0, 0.2]), H2T, 1, 3e-3, id="no square, one"),
    pytest.param(fc.Hermite([0, 0.5, 0.2]), H2T, 2, 0.1, id="quadratic, two"),
    pytest.param(fc.Hermite([0, 0.5, 0.3, 0.2]), [0.0, 1.0, 0.3, 0.4], 3, 0.3, id="cubic, three"),
    pytest.param(fc.Hermite([0, 0.5, 0.2]), "relu", 2, 0.1, id="a teacher with a mean"),
]


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize(("activation", "link", "count", "strength"), LIMITS)
def test_strong_spikes_come_to_the_limit(activation, link, count, strength, residual):
    limit = three(theory.limit_errors(activation, link, **SETTING, spikes=count, residual=residual))
    gaps = []
    for width in (1e7, 1e8, 1e9):
        grown = {**SETTING, "n": width / 0.6, "d": width / 1.2, "width": width}
        unit = theory.errors(activation, link, **grown, step_size=1.0, residual=residual).step
        found = theory.errors(
            activation, link, **grown, step_size=strength / float(unit.strength), residual=residual
        )
        gaps.append(np.abs(three(found) / limit - 1).max())
    assert gaps[2] < 0.01
    # as 1/N with the labels, as 1/√N with the full residual
    assert gaps[0] > 1.5 * gaps[1] > 1.5**2 * gaps[2]


def test_one_and_two_spikes_in_closed_form():
    start = theory.random_features_errors(RELU, H2T, **SETTING)
    point, lam = start.fixed_point, SETTING["ridge"]
    c0, c1, c2 = 0.4, 1.0, 0.7
    energy = c0**2 + c1**2 + 2 * c2**2 + SETTING["noise"] ** 2
    rho2 = c1**2 / (c1**2 + 0.5 * energy)
    link = [c0, c1, c2]
    # without a c_2 of the student no constant is learnt
    own = fc.Hermite([0.0, 0.5, 0.0, math.sqrt((0.5 - 1 / (2 * math.pi) - 0.25) / 6)])
    base = theory.random_features_errors(own, link, **SETTING)
    np.testing.assert_allclose(base.fixed_point.kappa, point.kappa, rtol=1e-12)
    one = theory.limit_errors(own, link, **SETTING, spikes=1)
    assert base.objective - one.objective == pytest.approx(lam * point.m2 * c1**2 * rho2, rel=1e-12)
    rest = energy - c1**2
    tested = (
        c1**2 * (1 - rho2) * (point.u - point.kappa * point.u_slope) + rest
    ) / point.ridge_slope
    assert one.test_error == pytest.approx(tested, rel=1e-12)
    # and for a centred teacher
    rho2 = 1 / (1 + 0.5 * (2 + SETTING["noise"] ** 2))
    gain = lam * (point.m2 * rho2 + point.m1 * (math.sqrt(2) * rho2) ** 2 / 3)
    two = theory.limit_errors(RELU, H2T, **SETTING, spikes=2)
    assert start.objective - two.objective == pytest.approx(gain, rel=1e-12)
    linear = (1 - rho2) * (point.u - point.kappa * point.u_slope)
    rest = 1 + SETTING["noise"] ** 2 - (math.sqrt(2) * rho2) ** 2 / 3
    assert two.test_error == pytest.approx((linear + rest) / point.ridge_slope, rel=1e-12)


def test_two_teachers_of_equal_energy_part_at_the_second_spike():
    common = {**SIZES, "width": 700, "ridge": 0.05}
    first, second = ({"link": [0.0, 1.0], "noise": 1.0}, {"link": H2T, "noise": 0.0})
    for count in (0, 1):
        a, b = (
            theory.limit_errors(RELU, **each, **common, spikes=count) for each in (first, second)
        )
        np.testing.assert_allclose(three(a), three(b), rtol=1e-12)
    a, b = (theory.limit_errors(RELU, **each, **common, spikes=2) for each in (first, second))
    assert (three(b) < 0.95 * three(a)).all()
    a, b = (
        theory.errors(RELU, **each, **common, step_size=1000 ** np.array([0.1, 0.35]))
        for each in (first, second)
    )
    apart = np.abs(three(b) / three(a) - 1)
    assert apart[:, 0].max() < 2e-3
    assert apart[:, 1].min() > 0.05


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
    found = theory.errors(activation, link, **sizes, ridge=ridge, step_size=eta)
    start = theory.random_features_errors(
        activation, link, n=d / phi, d=d, width=d / psi, noise=noise, ridge=ridge
    )
    assert found.test_error >= noise**2 * (1 - 1e-12)
    assert 0 <= found.train_error <= found.objective * (1 + 1e-12)
    assert found.objective <= start.objective * (1 + 1e-9)
    # -λ² dQ/dλ, Q = objective/λ, is the training error: not by the formula that the code has
    h = 1e-4 * ridge
    near = theory.errors(activation, link, **sizes, ridge=ridge + np.array([-h, h]), step_size=eta)
    low, high = near.objective / (ridge + np.array([-h, h]))
    assert -(ridge**2) * (high - low) / (2 * h) == pytest.approx(
        float(found.train_error), rel=1e-5, abs=1e-9
    )


def test_units_do_not_matter():
    """cσ with λc² and η/c; a teacher t times as large with η/t; -σ; a link as coefficients or as an object."""
    setting = {**SIZES, "noise": 0.3, "step_size": 1.7}
    for residual in ("labels", "full"):
        for link in (H2T, [0.4, 1.0, 0.3]):
            own = {**setting, "residual": residual}
            base = three(theory.errors(fc.Hermite([0, 0.5, 0.2, 0.1]), link, **own, ridge=0.05))
            turned = theory.errors(fc.Hermite([0, -0.5, -0.2, -0.1]), link, **own, ridge=0.05)
            np.testing.assert_allclose(three(turned), base, rtol=1e-9)
            same = theory.errors(
                fc.Hermite([0, 0.5, 0.2, 0.1]), fc.Hermite(link), **own, ridge=0.05
            )
            np.testing.assert_array_equal(three(same), base)
            if residual == "full":
                continue  # the network's own output sets a unit
            larger = theory.errors(
                fc.Hermite([0, 1.5, 0.6, 0.3]), link, **{**own, "step_size": 1.7 / 3}, ridge=0.45
            )
            np.testing.assert_allclose(three(larger), base, rtol=1e-9)
            louder = theory.errors(
                fc.Hermite([0, 0.5, 0.2, 0.1]),
                [2 * c for c in link],
                **{**own, "step_size": 1.7 / 2, "noise": 0.6},
                ridge=0.05,
            )
            np.testing.assert_allclose(three(louder), 4 * base, rtol=1e-9)


def test_a_teacher_without_a_linear_part_is_not_learnt():
    start = three(theory.random_features_errors(RELU, "H2", **SETTING))
    for count in (1, 2):
        np.testing.assert_allclose(
            three(theory.limit_errors(RELU, "H2", **SETTING, spikes=count)), start, rtol=1e-12
        )
    assert theory.errors(RELU, "H2", **SETTING, step_size=2.0).step.teacher_cosine == 0


def test_a_larger_batch_for_the_step_aims_better():
    few, many = (
        theory.errors(RELU, H2T, **SETTING, step_size=5.0, step_samples=k) for k in (1000, 1e9)
    )
    assert many.step.teacher_cosine == pytest.approx(1.0, abs=1e-5)
    assert few.step.teacher_cosine < 0.75
    assert many.test_error < few.test_error
    same = theory.errors(RELU, H2T, **SETTING, step_size=5.0, step_samples=1000)
    np.testing.assert_array_equal(
        three(same), three(theory.errors(RELU, H2T, **SETTING, step_size=5.0))
    )


@pytest.mark.parametrize("residual", ["labels", "full"])
@pytest.mark.parametrize("link", [H2T, "relu"])
def test_arrays_are_loops(link, residual):
    eta, ridge, d, noise = (
        np.array([0.0, 2.0, 6.0])[:, None, None],
        np.array([0.01, 0.3])[:, None],
        [300, 500],
        0.2,
    )
    both = theory.errors(
        RELU,
        link,
        n=1000,
        d=d,
        width=600,
        ridge=ridge,
        step_size=eta,
        noise=noise,
        residual=residual,
    )
    spectrum = theory.features_spectrum(
        RELU, link, n=1000, d=d, width=600, step_size=eta[:, 0], noise=noise, residual=residual
    )
    assert (
        both.test_error.shape
        == both.step.strength.shape
        == both.fixed_point.kappa.shape
        == (3, 2, 2)
    )
    for i, j, k in np.ndindex(3, 2, 2):
        one = {
            "n": 1000,
            "d": d[k],
            "width": 600,
            "step_size": eta[i, 0, 0],
            "noise": noise,
            "residual": residual,
        }
        np.testing.assert_allclose(
            three(theory.errors(RELU, link, **one, ridge=ridge[j, 0])),
            three(both)[:, i, j, k],
            rtol=1e-12,
        )
        alone = theory.features_spectrum(RELU, link, **one)
        assert alone.edge == pytest.approx(spectrum.edge[i, k], rel=1e-12)
        np.testing.assert_allclose(alone.outliers, spectrum.outliers[i, k], rtol=1e-9)
        np.testing.assert_allclose(alone.amplitudes**2, spectrum.amplitudes[i, k] ** 2, atol=1e-6)


def test_taylors_sum_comes_to_all_of_it():
    eta = 1000 ** np.array([0.0, 0.2])
    whole = three(theory.errors(RELU, H2T, **SETTING, step_size=eta))
    gaps = [
        np.abs(three(theory.errors(RELU, H2T, **SETTING, step_size=eta, order=k)) / whole - 1).max()
        for k in (1, 2, 8)
    ]
    assert gaps[0] > 5 * gaps[1] > 5 * gaps[2]
    assert gaps[2] < 1e-4


@pytest.mark.parametrize("residual", ["labels", "full"])
def test_the_gradient_is_that_of_networks(residual):
    n, d, width, noise = 1600, 800, 1000, 0.3
    rng = np.random.default_rng(11)
    squares, cosines, along = [], [], []
    for _ in range(4):
        x, direction = rng.standard_normal((n, d)), rng.standard_normal(d)
        direction /= np.linalg.norm(direction)
        W = rng.standard_normal((width, d))
        W /= np.linalg.norm(W, axis=1, keepdims=True)
        a = rng.standard_normal(width) / math.sqrt(width)
        y = fc.data.link(H2T)(x @ direction) + noise * rng.standard_normal(n)
        if residual == "full":
            y = y - RELU(x @ W.T) @ a
        beta = x.T @ y / n
        squares.append(beta @ beta)
        cosines.append(beta @ direction / np.linalg.norm(beta))
        own = a @ W
        along.append((beta @ own) ** 2 / (own @ own))
    sizes = {"n": n, "d": d, "width": width, "noise": noise, "ridge": 1.0}
    step = theory.errors(RELU, H2T, **sizes, step_size=1.0, residual=residual).step
    # of heavy tails and 4 networks; without f₀ the full one would be 8 % lower, without its share of φE y² 7 %
    assert np.mean(squares) == pytest.approx(step.gradient_norm**2, rel=0.04)
    assert np.mean(cosines) == pytest.approx(step.teacher_cosine, rel=0.04)
    if residual == "full":
        share = np.mean(along) / np.mean(squares)
        assert share == pytest.approx(step.initial_share, abs=0.02)


# --- spikes ---


def test_numbers_of_spikes():
    for count in range(1, 40):
        low, high = theory.spike_threshold(count), theory.spike_threshold(count + 1)
        np.testing.assert_array_equal(
            theory.number_of_spikes([low, low + 1e-6, high - 1e-6, high]),
            [count - 1, count, count, count],
        )
        assert high == count / (2 * count + 2)
    np.testing.assert_array_equal(theory.number_of_spikes([[-1.0], [0.4]]), [[0], [4]])
    with pytest.raises(ValueError, match=r"alpha=0\.5 must be below 1/2"):
        theory.number_of_spikes(0.5)


def test_the_edge_is_marchenkos_and_pasturs_without_a_linear_part():
    found = theory.features_spectrum(fc.Hermite([0, 1e-5, 0.5]), "H1", **SIZES, step_size=0.0)
    assert found.edge == pytest.approx(math.sqrt(0.5) * (1 + math.sqrt(0.6)), rel=1e-4)
    assert found.count == 0


def test_the_edge_is_that_of_random_features():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1600, 800))
    w = rng.standard_normal((960, 800))
    features = fc.ReLU().centred()(x @ (w / np.linalg.norm(w, axis=1, keepdims=True)).T)
    found = theory.features_spectrum(RELU, "H1", n=1600, d=800, width=960, step_size=0.0)
    # Tracy and Widom: a relative n^(-2/3), 1 % here
    assert np.linalg.norm(features, 2) / 40 == pytest.approx(found.edge, rel=0.02)


@pytest.mark.parametrize("residual", ["labels", "full"])
def test_an_outlier_leaves_the_edge_continuously(residual):
    setting = {**SIZES, "noise": 0.3, "residual": residual}
    low, high = 0.5, 10.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        out = theory.features_spectrum(RELU, H2T, **setting, step_size=middle).count > 0
        low, high = (low, middle) if out else (middle, high)
    just = theory.features_spectrum(RELU, H2T, **setting, step_size=high * 1.001)
    assert just.outliers[0] == pytest.approx(just.edge, rel=1e-5)
    assert just.outliers[0] > just.edge
    assert just.amplitudes[0, 1] ** 2 < 0.01
    later = theory.features_spectrum(
        RELU, H2T, **setting, step_size=1000 ** np.array([0.2, 0.3, 0.4])
    )
    assert (np.diff(later.outliers[:, 0]) > 0).all()
    assert (np.diff(later.amplitudes[:, 0, 1] ** 2) > 0).all()
    np.testing.assert_array_equal(later.count, [1, 1, 2])
    assert (np.nansum(later.amplitudes**2, axis=-1) < 1).all()


def test_a_strong_outlier_is_the_spike():
    """σ₁/√n → c₁ s √N = c₁²η|β| and v₁ → u, up to what the bulk adds to a rank-one matrix."""
    width = 1e8
    found = theory.features_spectrum(
        fc.Hermite([0, 0.5, 0, 0.1]),
        H2T,
        n=width / 0.6,
        d=width / 1.2,
        width=width,
        step_size=500.0,
    )
    assert found.outliers[0] == pytest.approx(0.25 * 500 * found.step.gradient_norm, rel=5e-3)
    assert found.amplitudes[0, 1] ** 2 == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("residual", ["labels", "full"])
def test_amplitudes_are_residues_of_the_resolvent(residual):
    """h_a(u)ᵀ(FFᵀ + λn)⁻¹h_a(u) → |amplitude|²/(λ + σ²) at an outlier σ, from Woodbury's identity as it stands."""
    setting = {**SIZES, "noise": 0.3, "step_size": 1000**0.4, "residual": residual}
    found = theory.features_spectrum(RELU, H2T, **setting)
    size = found.amplitudes.shape[-1]
    phi, psi, width = 0.5, 500 / 600, 600
    c = RELU.hermite_coefficients(1)[1]
    rest = RELU.second_moment() - c**2
    M = spikes.finite(RELU, found.step.strength, found.step.rescaling)
    C = np.block([[width * M @ M.T, M], [M.T, np.zeros_like(M)]])
    for k in range(2):
        target = -(found.outliers[k] ** 2)
        low, high = -1e6, -rest - c**2 * (1 + 1 / math.sqrt(psi)) ** 2
        high -= 0.2 * abs(high)  # on the side where λ rises
        for _ in range(200):
            middle = 0.5 * (low + high)
            below = fixed_point.at_kappa(np.array(middle), c, rest, phi, psi).ridge < target
            low, high = (middle, high) if below else (low, middle)
        residues = []
        for kappa in (low * (1 - 1e-5), low * (1 + 1e-5)):
            point = fixed_point.at_kappa(np.array(kappa), c, rest, phi, psi)
            G, H = np.eye(size) * point.m1, np.zeros((size, size))
            w = 1 - point.u
            G[1, 1] = point.m1 * (point.u - w * found.step.initial_share * psi * point.u)
            if residual == "full":
                H[1, 1] = -psi * math.sqrt(width) * w / found.step.gradient_norm
            K = np.block([[G, H], [H.T, (1 - point.q) * width * np.eye(size)]])
            both = np.hstack([G, H])
            inside = C @ np.linalg.inv(np.eye(2 * size) + K @ C)
            residues.append(np.diag(G - both @ inside @ both.T) * (point.ridge - target))
        np.testing.assert_allclose(np.mean(residues, axis=0), found.amplitudes[k] ** 2, atol=1e-4)


# --- weights ---


def test_the_spike_of_the_weights():
    common = {"n": 1200, "d": 600, "width": 900, "noise": 0.3}
    unit = float(theory.weights_spectrum(RELU, H2T, **common, step_size=1.0).spike)
    threshold = 1.5**0.25
    found = theory.weights_spectrum(
        RELU,
        H2T,
        **common,
        step_size=np.array([0.999 * threshold, 1.001 * threshold, 2.0, 1e6]) / unit,
    )
    np.testing.assert_allclose(found.edge, 1 + math.sqrt(1.5))
    assert np.isnan(found.outlier[0])
    assert found.outlier[1] == pytest.approx(found.edge[1], rel=1e-5)
    assert found.right_overlap[0] == 0
    assert found.right_overlap[1] == pytest.approx(0.0, abs=0.01)
    assert found.outlier[3] == pytest.approx(1e6, rel=1e-9)
    assert found.left_overlap[3] == pytest.approx(1.0, abs=1e-9)
    assert found.teacher_overlap[3] == pytest.approx(1 / (1 + 0.5 * 2.09), rel=1e-9)
    rng = np.random.default_rng(5)
    w = rng.standard_normal((900, 600)) / math.sqrt(600)
    a, b = (rng.standard_normal(k) for k in (900, 600))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    left, values, right = np.linalg.svd(w + 2.0 * np.outer(a, b))
    assert values[0] == pytest.approx(found.outlier[2], rel=0.02)
    assert (left[:, 0] @ a) ** 2 == pytest.approx(found.left_overlap[2], abs=0.04)
    assert (right[0] @ b) ** 2 == pytest.approx(found.right_overlap[2], abs=0.04)


# --- refusals ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "relu"}, r"c_0 = 0\.398942 .*\.centred\(\)"),
        ({"activation": fc.Hermite([0, 0, 1])}, "c_1 = 0"),
        ({"link": [0.0, 0.0]}, "nothing to learn"),
        ({"ridge": 0.0}, "ridge=0 must be positive"),
        ({"ridge": [0.1, -1.0]}, "ridge=-1 must be positive"),
        ({"n": 0}, "n=0 must be positive"),
        ({"d": -5}, "d=-5 must be positive"),
        ({"width": 0.0}, "width=0 must be positive"),
        ({"step_samples": 0}, "step_samples=0 must be positive"),
        ({"step_size": -1.0}, "step_size=-1 must be at least 0"),
        ({"noise": -0.1}, "noise=-0.1 must be at least 0"),
        ({"residual": "none"}, "choose one of 'labels', 'full'"),
        ({"step_size": 1e3}, r"step_size gives \|s\| = .*above 1"),
        ({"width": 1e10}, "width=1e\\+10 .* pass order"),
        ({"order": 0}, "order=0 must be"),
        ({"n": [1, 2], "d": [1, 2, 3]}, "do not broadcast"),
        ({"ridge": [0.1, 0.2], "step_size": [1, 2, 3]}, "do not broadcast"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"activation": RELU, "link": H2T, **SETTING, "step_size": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        theory.errors(**arguments)


def test_spikes_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match=r"c_2 of Tanh\(\) vanishes.*spikes=1"):
        theory.limit_errors("tanh", H2T, **SETTING, spikes=2)
    with pytest.raises(ValueError, match="c_3 of"):
        theory.limit_errors(RELU, H2T, **SETTING, spikes=4)
    with pytest.raises(ValueError, match="spikes=-1"):
        theory.limit_errors(RELU, H2T, **SETTING, spikes=-1)
    with pytest.raises(ValueError, match="linear=0"):
        theory.random_features_fixed_point(0.0, 1.0, phi=1.0, psi=1.0, ridge=1.0)


# --- networks ---

# Written down before the first run, with seeds and tolerance: 2 % for random features and 3 % after a step (the
# stated biases), and 3 standard errors. Errors vary with the batch's mean square label, whose expectation is known, and
# it is regressed out.
NETWORKS = [
    pytest.param(RELU, H2T, 0.0, "labels", 0.02, 8100, id="random features"),
    pytest.param(RELU, H2T, 800**0.2, "labels", 0.03, 8200, id="relu, labels"),
    pytest.param(fc.Tanh(), H2T, 800**0.2, "full", 0.03, 8300, id="tanh, full"),
    pytest.param(RELU, fc.ReLU(), 800**0.2, "labels", 0.03, 8400, id="a teacher with a mean"),
]


def simulate(seed, activation, link, eta, residual, *, n, d, width, ridge, noise):
    """Return objective, training and test error, and mean y² of both sets: step and ridge in plain numpy."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    W = rng.standard_normal((width, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    a = rng.standard_normal(width) / math.sqrt(width)
    sigma_star = fc.data.link(link)

    def samples(count):
        x = rng.standard_normal((count, d))
        return x, sigma_star(x @ direction) + noise * rng.standard_normal(count)

    x, y = samples(n)
    z = x @ W.T
    r = y - activation(z) @ a if residual == "full" else y
    W = W + eta / n * (r[:, None] * a * activation.derivative(z)).T @ x
    x, y = samples(n)
    f = activation(x @ W.T)
    fitted = np.linalg.solve(f.T @ f + ridge * n * np.eye(width), f.T @ y)
    train = np.mean((y - f @ fitted) ** 2)
    x_test, y_test = samples(3000)
    test = np.mean((y_test - activation(x_test @ W.T) @ fitted) ** 2)
    return train + ridge * fitted @ fitted, train, test, np.mean(y**2), np.mean(y_test**2)


@pytest.mark.parametrize(("activation", "link", "eta", "residual", "bias", "first"), NETWORKS)
def test_networks_have_these_errors(activation, link, eta, residual, bias, first):
    setting = {"n": 800, "d": 400, "width": 480, "ridge": 0.05, "noise": 0.3}
    seeds = range(first, first + 24)
    runs = np.array([simulate(seed, activation, link, eta, residual, **setting) for seed in seeds])
    known = fc.data.link(link).second_moment() + setting["noise"] ** 2
    # by their means over all seeds, were y² as it is expected
    controls = np.column_stack([np.ones(len(runs)), runs[:, 3:] - known])
    fit, *_ = np.linalg.lstsq(controls, runs[:, :3], rcond=None)
    left = runs[:, :3] - controls @ fit
    spread = np.linalg.inv(controls.T @ controls)[0, 0]
    error = np.sqrt(np.sum(left**2, axis=0) / (len(runs) - 3) * spread) / fit[0]
    predicted = three(theory.errors(activation, link, **setting, step_size=eta, residual=residual))
    gap = predicted / fit[0] - 1
    assert (error < 0.02).all(), error
    assert (np.abs(gap) < bias + 3 * error).all(), (gap, error)
