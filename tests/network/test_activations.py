"""Activations: values, derivatives, extremes, Hermite coefficients."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcore as fc
from featcore import activations

ALL = (
    fc.ReLU(),
    fc.LeakyReLU(0.1),
    fc.LeakyReLU(-0.5),
    fc.LeakyReLU(1.0),
    fc.Tanh(),
    fc.Erf(),
    fc.GELU(),
    fc.Softplus(),
    fc.ReLU().centred(),
    fc.Softplus().centred(),
    fc.Hermite([0.5, 1.0, -0.25, 0.125]),
)
each = pytest.mark.parametrize("sigma", ALL, ids=repr)


def python_value(sigma, z):
    """Return σ(z) by the standard library."""
    name = sigma.name
    if name == "centred":
        return python_value(sigma.inner, z) - sigma.offset
    if name == "hermite":
        below, he, value = 0.0, 1.0, 0.0
        for k, c in enumerate(sigma.coefficients):
            value += c * he
            below, he = he, z * he - k * below
        return value
    if name in ("relu", "leaky_relu"):
        return z if z > 0 else sigma.slope * z
    return {
        "tanh": math.tanh,
        "erf": math.erf,
        "gelu": lambda z: 0.5 * z * math.erfc(-z / math.sqrt(2)),
        "softplus": lambda z: max(z, 0.0) + math.log1p(math.exp(-abs(z))),
    }[name](z)


@each
@given(z=st.floats(-30, 30))
def test_value(sigma, z):
    # e^{-z²/2} in the tail of GELU amplifies the rounding of z by z².
    # A difference, or a polynomial near its root, is as exact as its terms.
    terms = {"centred": 1e-15, "hermite": 1e-15 * (1 + abs(z)) ** 3}.get(sigma.name, 1e-300)
    assert sigma(np.array(z)) == pytest.approx(python_value(sigma, z), rel=2e-12, abs=terms)


@each
@given(z=st.floats(-30, 30), h=st.just(1e-5))
def test_derivative_is_the_slope_of_the_value(sigma, z, h):
    if sigma.kinked and abs(z) < 2 * h:
        z += 4 * h
    slope = (python_value(sigma, z + h) - python_value(sigma, z - h)) / (2 * h)
    assert sigma.derivative(np.array(z)) == pytest.approx(slope, rel=1e-7, abs=1e-8)


@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_extremes_and_dtype(sigma, dtype):
    z = np.array([-1e4, -1000.0, -0.0, 0.0, 1000.0, 1e4], dtype)
    for function in (sigma, sigma.derivative):
        with np.errstate(over="raise", invalid="raise"):
            result = function(z)
        assert result.dtype == dtype
        assert np.isfinite(result).all()
    if sigma.name in ("centred", "hermite"):
        return
    limits = {"tanh": (-1, 1), "erf": (-1, 1), "gelu": (0, 1000), "softplus": (0, 1000)}
    low, high = limits.get(sigma.name, (-1000 * sigma.slope, 1000))
    assert (sigma(z)[1], sigma(z)[4]) == (dtype(low), dtype(high))


@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_core_has_the_same_function(sigma, dtype):
    z = np.linspace(-12, 12, 801).astype(dtype)
    net = fc.TwoLayerNet(np.ones((1, 1), dtype), np.ones(1, dtype), sigma)
    got, expected = net(z[:, None]), sigma(z.astype(np.float64))
    eps = np.finfo(dtype).eps
    if sigma.name in ("centred", "hermite"):  # as exact as their terms
        terms = np.abs(expected) + 1 + (sigma.name == "hermite") * (1 + np.abs(z)) ** 3
        assert (np.abs(got - expected) <= 4 * eps * terms).all()
        return
    assert (
        np.abs(got - expected) <= 4 * eps * np.abs(expected) + 100 * np.finfo(dtype).tiny
    ).all() or (
        sigma.name == "gelu"  # Φ(z) amplifies the rounding of z by z² in its left tail
        and (np.abs(got - expected) <= 200 * eps * np.abs(expected) + 4 * eps**2).all()
    )


@each
@given(z=st.floats(-100, 100), c=st.floats(1e-3, 1e3))
def test_homogeneous_means_homogeneous(sigma, z, c):
    if sigma.homogeneous:
        got, expected = sigma(np.array(c * z)), c * sigma(np.array(z))
        assert got == pytest.approx(expected, rel=1e-14, abs=1e-300)
        assert z * sigma.derivative(np.array(z)) == sigma(np.array(z))


def test_which_are_homogeneous_and_kinked():
    assert [s.homogeneous for s in ALL] == [True] * 4 + [False] * 7
    assert [s.kinked for s in ALL] == [True, True, True, False] + [False] * 4 + [True, False, False]


def test_derivative_at_zero():
    zero = np.array([0.0, -0.0])
    np.testing.assert_array_equal(fc.ReLU().derivative(zero), 0.0)
    np.testing.assert_array_equal(fc.LeakyReLU(0.1).derivative(zero), 0.1)
    np.testing.assert_array_equal(fc.Tanh().derivative(zero), 1.0)
    np.testing.assert_array_equal(fc.Softplus().derivative(zero), 0.5)
    np.testing.assert_array_equal(fc.GELU().derivative(zero), 0.5)
    np.testing.assert_allclose(fc.Erf().derivative(zero), 2 / math.sqrt(math.pi), rtol=1e-15)


# --- Hermite coefficients


def hermite_by_quadrature(sigma, degree):
    """Return c_k by Gauss-Legendre on both sides of the kink, panel by panel."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    c = np.zeros(degree + 1)
    for lo in np.arange(-14.0, 14.0, 1.0):
        z = lo + 0.5 * (nodes + 1)
        mass = 0.5 * weights * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        for k in range(degree + 1):
            he = np.polynomial.hermite_e.hermeval(z, [0.0] * k + [1.0])
            c[k] += np.sum(mass * sigma(z) * he) / math.factorial(k)
    return c


@each
def test_hermite_coefficients_by_quadrature(sigma):
    c = sigma.hermite_coefficients(9)
    assert c.shape == (10,)
    np.testing.assert_allclose(c, hermite_by_quadrature(sigma, 9), rtol=0, atol=1e-12)


@pytest.mark.parametrize("degree", [0, 1, 2])
@each
def test_hermite_coefficients_of_low_degree(sigma, degree):
    np.testing.assert_allclose(
        sigma.hermite_coefficients(degree), sigma.hermite_coefficients(5)[: degree + 1], atol=1e-14
    )


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        # shared/science/one_step.md, section 6, six decimals
        (fc.ReLU(), [0.5, 0.199471, 0.0, -0.016623, 0.0]),
        (fc.Tanh(), [0.605706, 0.0, -0.060599, 0.0, 0.005710]),
        (fc.Erf(), [0.651470, 0.0, -0.072386, 0.0, 0.007239]),
    ],
)
def test_hermite_coefficients_as_tabulated(sigma, expected):
    np.testing.assert_allclose(sigma.hermite_coefficients(5)[1:], expected, rtol=0, atol=6e-7)


@pytest.mark.parametrize(
    ("sigma", "energy", "tail"),
    [
        (fc.ReLU(), 0.5, 1e-2),
        (fc.LeakyReLU(1.0), 1.0, 1e-14),
        (fc.Erf(), 2 / math.pi * math.asin(2 / 3), 1e-4),
        (fc.Tanh(), 0.394294, 1e-4),
    ],
)
def test_parseval(sigma, energy, tail):
    # Σ k! c_k² grows to E σ(Z)².
    c = sigma.hermite_coefficients(14)
    squares = np.cumsum([math.factorial(k) * c[k] ** 2 for k in range(15)])
    assert energy - tail <= squares[-1] <= energy + 1e-6


def test_relu_mean_is_closed_form():
    assert fc.ReLU().hermite_coefficients(0)[0] == pytest.approx(
        1 / math.sqrt(2 * math.pi), rel=1e-15
    )


# --- moments


@each
def test_moments_by_quadrature(sigma):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    mean = energy = 0.0
    for lo in np.arange(-14.0, 14.0, 1.0):
        z = lo + 0.5 * (nodes + 1)
        mass = 0.5 * weights * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        mean += np.sum(mass * sigma(z))
        energy += np.sum(mass * sigma(z) ** 2)
    assert sigma.mean() == pytest.approx(mean, abs=1e-13)
    assert sigma.second_moment() == pytest.approx(energy, rel=1e-12)


@each
def test_centred(sigma):
    centred = sigma.centred()
    z = np.linspace(-3, 3, 7)
    assert centred.mean() == 0
    assert centred.centred() is centred
    np.testing.assert_allclose(centred(z), sigma(z) - sigma.mean(), atol=1e-14)
    np.testing.assert_array_equal(centred.derivative(z), sigma.derivative(z))
    variance = sigma.second_moment() - sigma.mean() ** 2
    assert centred.second_moment() == pytest.approx(variance, rel=1e-12)
    np.testing.assert_array_equal(
        centred.hermite_coefficients(4)[1:], sigma.hermite_coefficients(4)[1:]
    )


def test_odd_activations_are_centred_exactly():
    for sigma in (fc.Tanh(), fc.Erf(), fc.LeakyReLU(1.0), fc.Hermite([0, 1, 0, 2])):
        assert sigma.mean() == 0
        assert sigma.centred() is sigma


def test_hermite_coefficients_of_high_degree():
    # c_k = E σ'(Z) He_{k-1}(Z)/k! by parts, and all of the energy up to what is left in the tail; without warnings.
    c = fc.Tanh().hermite_coefficients(41)
    z = np.linspace(-14, 14, 200_001)
    weight = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    last, h = np.zeros_like(z), np.ones_like(z)  # He_k/√k!
    for k in range(41):
        by_parts = (weight / np.cosh(z) ** 2 * h).sum() / math.sqrt(k + 1)
        assert c[k + 1] * math.sqrt(math.factorial(k + 1)) == pytest.approx(by_parts, abs=1e-12)
        last, h = h, (z * h - math.sqrt(k) * last) / math.sqrt(k + 1)


@each
def test_hermite_coefficients_end_where_factorials_do(sigma):
    for degree in (-1, 171):
        with pytest.raises(ValueError, match=f"degree={degree} must be"):
            sigma.hermite_coefficients(degree)


def test_the_last_hermite_coefficient_of_all():
    # of ReLU: √k! c_k = He_{k-2}(0)/√(2π k!), in logarithms
    c = fc.ReLU().hermite_coefficients(170)
    q = 84
    he = math.exp(math.lgamma(2 * q + 1) - math.lgamma(q + 1) - q * math.log(2.0))
    expected = he / math.sqrt(2 * math.pi) * math.exp(-0.5 * math.lgamma(171))
    assert abs(c[170]) * math.sqrt(math.factorial(170)) == pytest.approx(expected, rel=1e-11)
    last = fc.Hermite([0.0] * 170 + [1.0])
    assert last.second_moment() == float(math.factorial(170))


def test_hermite_coefficients_given_are_those_had():
    sigma = fc.Hermite([1, 2, 3])
    np.testing.assert_array_equal(sigma.hermite_coefficients(4), [1, 2, 3, 0, 0])
    np.testing.assert_array_equal(sigma.hermite_coefficients(1), [1, 2])
    assert sigma.second_moment() == 1 + 4 + 2 * 9
    constant = fc.Hermite([2.0])
    np.testing.assert_array_equal(constant(np.zeros((2, 3))), np.full((2, 3), 2.0))
    np.testing.assert_array_equal(constant.derivative(np.zeros((2, 3))), np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([], ValueError, "coefficients is empty"),
        ([0.0, math.nan], ValueError, r"coefficients\[1\]=nan must be finite"),
        ([math.inf], ValueError, r"coefficients\[0\]=inf must be finite"),
        (["1"], TypeError, r"coefficients\[0\]='1' must be a real number"),
        ("12", TypeError, r"coefficients\[0\]='1' must be a real number"),
        (1.0, TypeError, "coefficients=1.0 must be a sequence"),
        ([[1.0]], TypeError, r"coefficients\[0\]"),
        ([0.0] * 172, ValueError, "coefficients has 172 entries; at most 171"),
    ],
)
def test_bad_hermite_coefficients(bad, error, message):
    with pytest.raises(error, match=message):
        fc.Hermite(bad)


@each
def test_descriptions_go_both_ways(sigma):
    description = json.loads(json.dumps(activations.describe(sigma)))
    assert activations.described(description) == sigma


# --- names


def test_names_and_objects():
    assert set(activations.NAMES) == {"relu", "tanh", "erf", "gelu", "softplus"}
    for name in activations.NAMES:
        assert activations.get(name).name == name
    sigma = fc.LeakyReLU(0.3)
    assert activations.get(sigma) is sigma
    with pytest.raises(ValueError, match="activation='leaky_relu' is unknown"):
        activations.get("leaky_relu")
    with pytest.raises(ValueError, match="activation=None"):
        activations.get(None)


@each
def test_pickles_and_compares(sigma):
    assert pickle.loads(pickle.dumps(sigma)) == sigma
    assert hash(pickle.loads(pickle.dumps(sigma))) == hash(sigma)
    assert eval(repr(sigma), {**vars(activations)}) == sigma


def test_slopes_are_checked():
    for slope in (math.nan, math.inf):
        with pytest.raises(ValueError, match="negative_slope"):
            fc.LeakyReLU(slope)
    with pytest.raises(ValueError, match="LeakyReLU"):
        fc.ReLU(0.1)
    assert fc.LeakyReLU(0.1) != fc.LeakyReLU(0.2)


def test_an_expectation_that_is_not_known_says_so():
    def jumps(z: np.ndarray) -> np.ndarray:
        return np.sign(np.sin(1e3 * z))

    with pytest.warns(UserWarning, match="is known to .* only: it jumps"):
        fc.data.link(jumps).hermite_coefficients(1)
