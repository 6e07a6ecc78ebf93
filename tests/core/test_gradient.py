"""Objective and gradient: the compiled core against numpy, differences and autograd."""

import math
import warnings

import numpy as np
import pytest
from _strategies import (
    ACTIVATIONS,
    LOSSES,
    THREADS,
    Case,
    cases,
    distance,
    flat,
    magnitudes,
    make_data,
    make_net,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import reference

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


def assert_agrees(case, value, gradient):
    expected_value, expected = case.expected()
    tolerance = TOLERANCE[case.net.dtype]
    assert gradient.W.dtype == gradient.a.dtype == case.net.dtype
    assert gradient.W.shape == case.net.W.shape
    assert gradient.a.shape == case.net.a.shape
    error, size = distance(gradient, expected), expected.norm
    if error > tolerance * size:
        # Where the sums all but cancel, no order of summation has the relative error of the result:
        # only then is the error measured by the magnitudes that cancelled.
        terms = magnitudes(case)
        assert size < 0.1 * terms, f"relative error {error / size:.2e}"
        assert error <= tolerance * terms, f"error {error / terms:.2e} of the cancelling terms"
    # f has cancelled too (its terms are of order one), so the floor is absolute per unit of loss.
    scale = case.data.n if case.settings.get("reduction") == "sum" else 1.0
    assert math.isclose(value, expected_value, rel_tol=tolerance, abs_tol=tolerance * scale)


def assert_same_bits(one, other):
    assert one[0] == other[0]
    np.testing.assert_array_equal(one[1].W, other[1].W)
    np.testing.assert_array_equal(one[1].a, other[1].a)


@settings(max_examples=250)
@given(case=cases())
def test_gradient_is_that_of_the_reference_on_any_number_of_threads(case):
    first = case.compiled(num_threads=THREADS[0])
    assert_agrees(case, *first)
    for threads in THREADS[1:]:
        assert_same_bits(first, case.compiled(num_threads=threads))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(-0.5), fc.Tanh()], ids=repr)
@pytest.mark.parametrize(
    ("n", "d", "m"),
    [
        (511, 5, 129),
        (512, 3, 64),
        (513, 4, 65),
        (1025, 7, 130),
        (2600, 2, 1),
        (3, 2, 2100),
        (1030, 1, 300),
        (20_000, 3, 5),
    ],
)
def test_gradient_across_the_edges_of_tiles_and_groups(n, d, m, activation, dtype):
    net = make_net(m, d, 5, activation=activation, dtype=dtype)
    data = make_data(n, d, 6, net=net, weighted=True, dtype=dtype)
    case = Case(net, data, "logistic", {"weight_decay": 0.1, "output_penalty": 0.2})
    first = case.compiled(num_threads=1)
    assert_agrees(case, *first)
    for threads in THREADS[1:]:
        assert_same_bits(first, case.compiled(num_threads=threads))


@settings(max_examples=60)
@given(case=cases())
def test_outputs_are_those_of_the_reference(case):
    net, x = case.net, case.data.x
    expected = reference.outputs(net.W, net.a, x, net.activation)
    z = x.astype(np.float64) @ net.W.T.astype(np.float64)
    terms = np.abs(net.activation(z)) @ np.abs(net.a.astype(np.float64))
    f = net(x, num_threads=1)
    assert f.dtype == net.dtype
    assert (np.abs(f - expected) <= TOLERANCE[net.dtype] * (1 + terms)).all()
    for threads in THREADS[1:]:
        np.testing.assert_array_equal(f, net(x, num_threads=threads))


def test_outputs_of_no_samples_are_empty():
    net = fc.TwoLayerNet(np.eye(3), np.ones(3))
    assert net(np.zeros((0, 3))).shape == (0,)


@st.composite
def integer_cases(draw, losses):
    """Small integers and dyadic slopes: every z, f and sum is exact, and z = 0 is common."""
    n, d, m = draw(st.integers(1, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from((np.float64, np.float32)))
    activation = draw(st.sampled_from([fc.ReLU(), *map(fc.LeakyReLU, (1.0, 0.25, -0.5, 2.0))]))
    W, x = rng.integers(-1, 2, (m, d)), rng.integers(-1, 2, (n, d))
    net = fc.TwoLayerNet(W.astype(dtype), rng.choice([-1, 1], m).astype(dtype), activation)
    weights = rng.permutation(np.arange(n)) + (n == 1) if draw(st.booleans()) else None
    data = fc.Dataset(x.astype(dtype), rng.choice([-1, 1], n), weights=weights)
    return Case(net, data, draw(st.sampled_from(losses)), {"reduction": "sum"})


@settings(max_examples=80)
@given(case=integer_cases(("hinge", "squared")))
def test_ties_on_integers_are_exact(case):
    # Ties of z with 0 and of u with 1; the residuals are integers (or quarters) too.
    value, gradient = case.compiled()
    expected_value, expected = case.expected()
    assert value == expected_value
    np.testing.assert_array_equal(gradient.W, expected.W)
    np.testing.assert_array_equal(gradient.a, expected.a)


@settings(max_examples=40)
@given(case=integer_cases(("logistic", "exponential")))
def test_ties_on_integers_to_rounding_of_the_residual(case):
    _, gradient = case.compiled()
    _, expected = case.expected()
    assert distance(gradient, expected) <= TOLERANCE[case.net.dtype] * magnitudes(case)


def test_derivative_at_zero_is_the_slope_of_the_negative_side():
    data = fc.Dataset([[1.0, 1.0]], [1.0])
    for slope in (0.0, 0.25, -0.5):
        net = fc.TwoLayerNet([[1.0, -1.0]], [2.0], fc.LeakyReLU(slope))
        _, gradient = fc.loss_and_grad(net, data, "squared")  # r = 1
        np.testing.assert_array_equal(gradient.W, [[-2.0 * slope, -2.0 * slope]])
        np.testing.assert_array_equal(gradient.a, [0.0])
    _, gradient = fc.loss_and_grad(fc.TwoLayerNet([[-0.0, 0.0]], [2.0]), data, "squared")
    np.testing.assert_array_equal(gradient.W, [[0.0, 0.0]])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_is_the_slope_of_the_objective(loss, activation, reduction):
    n, d, m, h = 9, 3, 5, 1e-5
    rng = np.random.default_rng(3)
    net = make_net(m, d, 11, activation=activation)
    options = {"reduction": reduction, "weight_decay": 0.3, "output_penalty": 0.4}
    for seed in range(100):
        data = make_data(n, d, seed, weighted=True, loss=loss)
        z = data.x @ net.W.T
        u = data.y * net(data.x)
        if np.abs(z).min() > 10 * h and np.abs(1 - u).min() > 10 * h:
            break
    else:
        raise AssertionError("every data set has a kink near")
    _, gradient = fc.loss_and_grad(net, data, loss, **options)

    def objective(dW, da):
        moved = fc.TwoLayerNet(net.W + dW, net.a + da, activation)
        return fc.loss_and_grad(moved, data, loss, **options)[0]

    for _ in range(6):
        dW, da = rng.standard_normal((m, d)), rng.standard_normal(m)
        slope = (objective(h * dW, h * da) - objective(-h * dW, -h * da)) / (2 * h)
        along = np.sum(gradient.W * dW) + np.sum(gradient.a * da)
        # Truncation h² and rounding ε/h, times an objective of order n.
        assert math.isclose(slope, along, rel_tol=1e-7, abs_tol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_samples_of_weight_zero_do_not_count(loss):
    net = make_net(70, 4, 0, activation=fc.ReLU())
    data = make_data(50, 4, 1, loss=loss)
    keep = np.arange(50) % 3 > 0
    # The dropped samples would have infinite exponential loss and residual.
    x = np.where(keep[:, None], data.x, 1e5 * data.x)
    y = np.where(keep, data.y, -np.sign(net(x)) if loss != "squared" else data.y)
    y[y == 0] = 1
    weights = keep * np.linspace(1.0, 2.0, 50)
    some = fc.loss_and_grad(net, fc.Dataset(x, y, weights=weights), loss)
    only = fc.loss_and_grad(net, fc.Dataset(x[keep], y[keep], weights=weights[keep]), loss)
    assert math.isclose(some[0], only[0], rel_tol=1e-13)
    assert distance(some[1], only[1]) <= 1e-12 * only[1].norm


@settings(max_examples=40)
@given(case=cases(dtype=st.just(np.float64)), factor=st.sampled_from((1e-3, 0.5, 7.0)))
def test_the_mean_does_not_depend_on_the_size_of_the_weights(case, factor):
    data = case.data
    weights = np.ones(data.n) if data.weights is None else data.weights
    scaled = fc.Dataset(data.x, data.y, weights=factor * weights)
    value, gradient = fc.loss_and_grad(case.net, data, case.loss)
    value_scaled, gradient_scaled = fc.loss_and_grad(case.net, scaled, case.loss)
    assert math.isclose(value, value_scaled, rel_tol=1e-12)
    assert distance(gradient, gradient_scaled) <= 1e-12 * max(gradient.norm, magnitudes(case))


@settings(max_examples=40)
@given(case=cases(dtype=st.just(np.float64)))
def test_a_sample_of_weight_two_counts_twice(case):
    data = case.data
    twice = fc.Dataset(np.repeat(data.x, 2, axis=0), np.repeat(data.y, 2))
    double = fc.Dataset(data.x, data.y, weights=np.full(data.n, 2.0))
    for reduction in ("mean", "sum"):
        one = fc.loss_and_grad(case.net, twice, case.loss, reduction=reduction)
        other = fc.loss_and_grad(case.net, double, case.loss, reduction=reduction)
        assert math.isclose(one[0], other[0], rel_tol=1e-12)
        terms = magnitudes(Case(case.net, double, case.loss, {"reduction": reduction}))
        assert distance(one[1], other[1]) <= 1e-12 * terms


def test_the_float32_objective_is_accumulated_in_float64():
    # f = 0, so every loss is log 2. A float32 sum of a hundred thousand of them drifts by 1e-5 or more.
    n = 100_000
    data = fc.Dataset(np.ones((n, 1), np.float32), np.ones(n, np.float32))
    net = fc.TwoLayerNet(np.zeros((1, 1), np.float32), np.ones(1, np.float32))
    for reduction, expected in (("mean", math.log(2)), ("sum", n * math.log(2))):
        value, _ = fc.loss_and_grad(net, data, reduction=reduction)
        assert math.isclose(value, expected, rel_tol=1e-10)


# --- where the arrays lie


@settings(max_examples=25)
@given(case=cases(), shift=st.integers(1, 9))
def test_bits_do_not_depend_on_where_the_arrays_lie(case, shift):
    # Vector loads begin at aligned addresses: which elements they group must not be the address's choice.
    def moved(array, by):
        buffer = np.empty(array.size + by, array.dtype)
        buffer[by:] = array.ravel()
        return buffer[by:].reshape(array.shape)

    net, data = case.net, case.data
    weights = None if data.weights is None else moved(data.weights, shift)
    far_data = fc.Dataset(moved(data.x, shift), moved(data.y, 2 * shift), weights=weights)
    far_net = fc.TwoLayerNet(
        moved(net.W, 3 * shift), moved(net.a, shift), net.activation, copy=False
    )
    far = Case(far_net, far_data, case.loss, case.settings)
    assert_same_bits(case.compiled(num_threads=2), far.compiled(num_threads=2))


# --- log_scale


@settings(max_examples=30)
@given(case=cases(dtype=st.just(np.float64)))
def test_log_scale_multiplies_the_weights(case):
    net = case.net
    log_scale = np.linspace(-1.0, 1.0, net.width)
    scaled = fc.TwoLayerNet(net.W, net.a, net.activation, log_scale=log_scale)
    plain = fc.TwoLayerNet(
        np.exp(log_scale)[:, None] * net.W, np.exp(log_scale) * net.a, net.activation
    )
    assert_same_bits(
        fc.loss_and_grad(scaled, case.data, case.loss),
        fc.loss_and_grad(plain, case.data, case.loss),
    )


# --- PyTorch


def torch_gradient(torch, case):
    """Return objective and gradient by autograd, written from the definition."""
    import torch.nn.functional as F

    net, data, options = case.net, case.data, case.settings
    W = torch.tensor(np.array(net.W), requires_grad=True)
    a = torch.tensor(np.array(net.a), requires_grad=True)
    x, y = torch.tensor(np.array(data.x)), torch.tensor(np.array(data.y))
    w = torch.ones_like(y) if data.weights is None else torch.tensor(np.array(data.weights))
    sigma = {
        "relu": F.relu,
        "leaky_relu": lambda z: F.leaky_relu(z, net.activation.slope),
        "tanh": torch.tanh,
        "erf": torch.erf,
        "gelu": F.gelu,
        "softplus": lambda z: F.softplus(z, threshold=1e9),
    }[net.activation.name]
    f = sigma(x @ W.T) @ a
    u = y * f
    each = {
        "logistic": lambda: F.softplus(-u, threshold=1e9),
        "exponential": lambda: torch.exp(-u),
        "hinge": lambda: F.relu(1 - u),
        "squared": lambda: (f - y) ** 2 / 2,
    }[case.loss]()
    total = (w * each).sum()
    objective = total / w.sum() if options["reduction"] == "mean" else total
    objective = objective + options["weight_decay"] / 2 * ((W**2).sum() + (a**2).sum())
    objective = objective + options["output_penalty"] / 2 * (w * f**2).sum() / w.sum()
    objective.backward()
    return objective.item(), fc.Gradient(W.grad.numpy(), a.grad.numpy())


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    # On several threads the first call of a function may take MKL's low-accuracy kernel (1e-11):
    # https://github.com/pytorch/pytorch/issues/188792
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40)
@given(case=cases(dtype=st.just(np.float64)))
def test_gradient_is_that_of_pytorch(torch, case):
    value, gradient = case.compiled()
    expected_value, expected = torch_gradient(torch, case)
    assert math.isclose(value, expected_value, rel_tol=1e-12, abs_tol=1e-12)
    assert distance(gradient, expected) <= 1e-12 * max(expected.norm, magnitudes(case))


# --- invariances


@settings(max_examples=40)
@given(case=cases(dtype=st.just(np.float64)), seed=st.integers(0, 2**32 - 1))
def test_order_of_neurons_and_samples_does_not_matter(case, seed):
    net, data = case.net, case.data
    rng = np.random.default_rng(seed)
    p, q = rng.permutation(net.width), rng.permutation(data.n)
    shuffled = Case(
        fc.TwoLayerNet(net.W[p], net.a[p], net.activation), data.subset(q), case.loss, case.settings
    )
    value, gradient = case.compiled()
    value_shuffled, other = shuffled.compiled()
    back = np.argsort(p)
    assert math.isclose(value, value_shuffled, rel_tol=1e-11, abs_tol=1e-12)
    assert distance(fc.Gradient(other.W[back], other.a[back]), gradient) <= 1e-12 * magnitudes(case)


@settings(max_examples=40)
@given(case=cases(d=st.integers(1, 40), dtype=st.just(np.float64)), seed=st.integers(0, 2**32 - 1))
def test_rotating_data_and_neurons_rotates_the_gradient(case, seed):
    net, data = case.net, case.data
    Q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((data.d, data.d)))
    turned = Case(
        fc.TwoLayerNet(net.W @ Q.T, net.a, net.activation),
        fc.Dataset(data.x @ Q.T, data.y, weights=data.weights),
        case.loss,
        case.settings,
    )
    value, gradient = case.compiled()
    value_turned, other = turned.compiled()
    assert math.isclose(value, value_turned, rel_tol=1e-11, abs_tol=1e-12)
    # Rounding may put z on the other side of 0 only nearer than the data come.
    rotated = fc.Gradient(gradient.W @ Q.T, gradient.a)
    assert distance(other, rotated) <= 1e-11 * magnitudes(case)


@settings(max_examples=40)
@given(case=cases(), power=st.integers(-6, 6))
def test_homogeneous_networks_trade_scale_between_layers_bit_for_bit(case, power):
    # (cW, a/c) is the same function for c > 0: with c a power of two every product is exact.
    if not case.net.activation.homogeneous:
        return
    c = case.net.dtype.type(2.0**power)
    net = case.net
    traded = fc.TwoLayerNet(c * net.W, net.a / c, net.activation)
    options = {"reduction": "sum"}
    value, gradient = fc.loss_and_grad(net, case.data, case.loss, **options)
    value_traded, other = fc.loss_and_grad(traded, case.data, case.loss, **options)
    assert value == value_traded
    np.testing.assert_array_equal(other.W * c, gradient.W)
    np.testing.assert_array_equal(other.a / c, gradient.a)


@settings(max_examples=40)
@given(case=cases(dtype=st.just(np.float64)))
def test_euler_identity_of_homogeneous_networks(case):
    # <w_j, ∂L/∂w_j> = a_j ∂L/∂a_j without weight decay: what the flow conserves.
    if not case.net.activation.homogeneous:
        return
    net = case.net
    options = {**case.settings, "weight_decay": 0.0}
    _, gradient = fc.loss_and_grad(net, case.data, case.loss, **options)
    one = np.einsum("jk,jk->j", net.W, gradient.W)
    other = net.a * gradient.a
    terms = magnitudes(Case(net, case.data, case.loss, options))
    size = np.linalg.norm(net.W) + np.linalg.norm(net.a)
    assert np.abs(one - other).max() <= 1e-13 * size * terms


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_flipping_signs_of_labels_and_head_leaves_the_loss(activation):
    net = make_net(33, 5, 2, activation=activation)
    data = make_data(21, 5, 3, net=net)
    flipped_net = fc.TwoLayerNet(net.W, -net.a, activation)
    flipped_data = fc.Dataset(data.x, -data.y)
    for loss in LOSSES:
        value, gradient = fc.loss_and_grad(net, data, loss)
        value_flipped, other = fc.loss_and_grad(flipped_net, flipped_data, loss)
        assert value == value_flipped
        np.testing.assert_array_equal(other.W, gradient.W)
        np.testing.assert_array_equal(other.a, -gradient.a)


# --- arguments


def test_gradient_is_new_memory_each_time():
    net, data = fc.TwoLayerNet(np.eye(2), np.ones(2)), fc.Dataset(np.eye(2), [1, -1])
    one, other = (fc.loss_and_grad(net, data)[1] for _ in range(2))
    assert not np.shares_memory(one.W, other.W)
    assert one.norm == math.hypot(*flat(one))


@pytest.mark.parametrize(
    ("kwargs", "error", "name"),
    [
        ({"loss": "log"}, ValueError, "loss"),
        ({"reduction": "max"}, ValueError, "reduction"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay"),
        ({"weight_decay": "0"}, TypeError, "weight_decay"),
        ({"output_penalty": -1e-9}, ValueError, "output_penalty"),
        ({"output_penalty": math.inf}, ValueError, "output_penalty"),
        ({"output_penalty": 1j}, TypeError, "output_penalty"),
        ({"num_threads": 0}, ValueError, "num_threads"),
        ({"num_threads": -1}, ValueError, "num_threads"),
        ({"num_threads": 2.5}, TypeError, "num_threads"),
        ({"num_threads": True}, TypeError, "num_threads"),
        ({"num_threads": "2"}, TypeError, "num_threads"),
        ({"num_threads": 10**9}, ValueError, "num_threads"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, name):
    net, data = fc.TwoLayerNet(np.eye(2), np.ones(2)), fc.Dataset(np.eye(2), [1, -1])
    with pytest.raises(error, match=name):
        fc.loss_and_grad(net, data, **kwargs)


def test_network_and_data_must_match():
    net, data = fc.TwoLayerNet(np.eye(2), np.ones(2)), fc.Dataset(np.eye(2), [1, -1])
    with pytest.raises(TypeError, match=r"data is float32.*astype"):
        fc.loss_and_grad(net, data.astype(np.float32))
    with pytest.raises(ValueError, match="data has dimension 2 and the network 3"):
        fc.loss_and_grad(fc.TwoLayerNet(np.eye(3), np.ones(3)), data)
    with pytest.raises(TypeError, match="data is a tuple"):
        fc.loss_and_grad(net, (data.x, data.y))
    with pytest.raises(ValueError, match=r"data\.y\[1\]=0\.5.*logistic"):
        fc.loss_and_grad(net, fc.Dataset(np.eye(2), [1, 0.5]))
    fc.loss_and_grad(net, fc.Dataset(np.eye(2), [1, 0.5]), "squared")
    with pytest.raises(ValueError, match=r"x has shape \(2, 3\)"):
        net(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="x is float64"):
        net.astype(np.float32)(np.full((1, 2), 0.1))
