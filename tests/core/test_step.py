"""Steps of the compiled descent against those of the reference; and the reference against mathematics."""

import math

import numpy as np
import pytest
from _strategies import Case, cases, make_data, make_net
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import observables, reference
from featcore._dispatch import core

INFINITY = math.inf


def descend(case, step_size, steps, rates, num_threads=1, columns=()):
    """Return the network after `steps` compiled steps, by the raw core."""
    net, data, options = case.net, case.data, case.settings
    W, a = net.W.copy(), net.a.copy()
    objective = (
        case.loss,
        options["reduction"] == "mean",
        options["weight_decay"],
        options["output_penalty"],
    )
    status, *_ = core.descend(
        W,
        a,
        net.activation.spec,
        [(data.x, data.y, data.clean_y, data.weights)],
        objective,
        observables.balance(net),
        (step_size, 0, steps, *rates, -INFINITY, -INFINITY, INFINITY),
        np.array([steps]),
        list(columns),
        np.zeros(2, np.int64),
        None,
        None,
        num_threads,
    )
    if status == "non_finite":  # exponential losses of large outputs
        assume(False)
    assert status == "reached_end"
    return fc.TwoLayerNet(W, a, net.activation, copy=False)


@settings(max_examples=100)
@given(
    case=cases(),
    rates=st.sampled_from(((1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.5, 3.0), (0.0, 0.0))),
)
def test_one_compiled_step_is_that_of_the_reference(case, rates):
    # A step of 0.1 in the mean; the sum is n times as steep.
    step_size = 0.1 if case.settings["reduction"] == "mean" else 0.1 / case.data.n
    got = descend(case, step_size, 1, rates)
    expected = reference.step(
        case.net,
        case.data,
        case.loss,
        step_size=step_size,
        layer_rates={"W": rates[0], "a": rates[1]},
        **case.settings,
    )
    tolerance = 1e-12 if case.net.dtype == np.float64 else 1e-5
    for after, wanted, before, rate in (
        (got.W, expected.W, case.net.W, rates[0]),
        (got.a, expected.a, case.net.a, rates[1]),
    ):
        if rate == 0:
            np.testing.assert_array_equal(after, before)
        assert np.linalg.norm(after - wanted) <= tolerance * (1 + np.linalg.norm(wanted))
    for threads in (2, 3, 5):
        again = descend(case, step_size, 1, rates, threads)
        np.testing.assert_array_equal(got.W, again.W)
        np.testing.assert_array_equal(got.a, again.a)


@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(0.3), fc.Tanh()], ids=repr)
@pytest.mark.parametrize("train", [("W",), ("a",), ("W", "a")])
def test_many_compiled_steps_are_those_of_the_reference(activation, train):
    net = make_net(66, 5, 0, activation=activation)
    data = make_data(30, 5, 1, weighted=True)
    case_settings = {"reduction": "mean", "weight_decay": 0.05, "output_penalty": 0.1}
    rates = {"W": 1.0, "a": 0.5}
    expected = reference.descend(
        net, data, step_size=0.2, steps=40, train=train, layer_rates=rates, **case_settings
    )
    compiled_rates = tuple(rates[layer] if layer in train else 0.0 for layer in ("W", "a"))
    got = descend(Case(net, data, "logistic", case_settings), 0.2, 40, compiled_rates)
    np.testing.assert_allclose(got.W, expected.W, rtol=0, atol=1e-11)
    np.testing.assert_allclose(got.a, expected.a, rtol=0, atol=1e-11)


@settings(max_examples=30)
@given(case=cases(dtype=st.just(np.float64)), steps=st.integers(1, 4))
def test_compiled_balance_drift_is_that_of_the_reference(case, steps):
    out = np.zeros((2, 1))
    step_size = 0.05 if case.settings["reduction"] == "mean" else 0.05 / case.data.n
    column = ("balance_drift", None, 0, False, [0], out)
    after = descend(case, step_size, steps, (1.0, 1.0), columns=[column])
    expected = reference.observables["balance_drift"](after, case.data, initial=case.net)
    scale = 1 + float(np.abs(observables.balance(after)).max())
    assert abs(out[0, 0] - expected) <= 1e-13 * scale


# --- the reference itself


def test_reference_descent_of_a_linear_network_is_gradient_descent_of_least_squares():
    # One linear neuron with a = 1 frozen: w - w* shrinks by I - ηXᵀX/n a step.
    rng = np.random.default_rng(0)
    x, w_star = rng.standard_normal((40, 3)), rng.standard_normal(3)
    data = fc.Dataset(x, x @ w_star)
    net = fc.TwoLayerNet(np.zeros((1, 3)), [1.0], fc.LeakyReLU(1.0))
    after = reference.descend(net, data, "squared", step_size=0.3, steps=25, train="W")
    shrink = np.linalg.matrix_power(np.eye(3) - 0.3 * x.T @ x / 40, 25)
    np.testing.assert_allclose(after.W[0], w_star - shrink @ w_star, rtol=0, atol=1e-13)


def test_reference_step_by_hand():
    # f = a·relu(wx) = 6, r = y - f = -5: ∂L/∂w = 5·3, ∂L/∂a = 5·2.
    net, data = fc.TwoLayerNet([[2.0]], [3.0]), fc.Dataset([[1.0]], [1])
    after = reference.step(net, data, "squared", step_size=0.1, train=("a",))
    assert (after.W[0, 0], after.a[0]) == (2.0, 2.0)
    after = reference.step(
        net, data, "squared", step_size=0.1, layer_rates={"W": 2.0}, weight_decay=1.0
    )
    assert (after.W[0, 0], after.a[0]) == pytest.approx((2 - 0.2 * (15 + 2), 3 - 0.1 * (10 + 3)))
    after = reference.step(net, data, "squared", step_size=0.1, output_penalty=1.0)
    assert after.a[0] == pytest.approx(3 - 0.1 * (5 + 6) * 2)


def test_reference_objective_by_hand():
    net = fc.TwoLayerNet([[1.0]], [1.0], fc.LeakyReLU(1.0))
    data = fc.Dataset([[2.0], [-1.0]], [1, 1], weights=[1, 3])
    mean = (math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(1))) / 4
    for reduction, factor in (("mean", 1), ("sum", 4)):
        got = reference.objective(
            net, data, reduction=reduction, weight_decay=0.5, output_penalty=0.2
        )
        penalties = 0.25 * 2 + 0.1 * (4 + 3) / 4
        assert got == pytest.approx(factor * mean + penalties, rel=1e-15)


def test_reference_refuses_what_it_does_not_know():
    net, data = fc.TwoLayerNet([[1.0]], [1.0]), fc.Dataset([[1.0]], [1])
    with pytest.raises(ValueError, match="reduction"):
        reference.gradient(net, data, reduction="max")
    with pytest.raises(ValueError, match="layer='b'"):
        reference.step(net, data, step_size=1.0, train=("W", "b"))
    with pytest.raises(ValueError, match="layer='c'"):
        reference.step(net, data, step_size=1.0, layer_rates={"c": 1.0})
    with pytest.raises(ValueError, match="clean labels"):
        reference.observables["clean_accuracy"](net, data)
