"""Networks of two inputs, whose samples are sorted by angle: every step must be that of all pairs."""

import numpy as np
import pytest
from _strategies import THREADS, Case, cases, distance, magnitudes, make_data, make_net
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import reference

KINKED = [fc.ReLU(), fc.LeakyReLU(0.1), fc.LeakyReLU(-0.5), fc.LeakyReLU(1.0)]
TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}

# From 32 samples and neurons on they are sorted.
many = st.one_of(st.integers(28, 40), st.sampled_from((63, 64, 65, 129)), st.integers(33, 400))


def assert_agrees(case, gradient):
    _, expected = case.expected()
    tolerance = TOLERANCE[case.net.dtype]
    assert distance(gradient, expected) <= tolerance * max(expected.norm, 0.1 * magnitudes(case))


@settings(max_examples=150)
@given(case=cases(n=many, d=st.just(2), m=many))
def test_gradient_is_that_of_the_reference_on_any_number_of_threads(case):
    value, gradient = case.compiled()
    assert_agrees(case, gradient)
    for threads in THREADS[1:]:
        again_value, again = case.compiled(num_threads=threads)
        assert again_value == value
        np.testing.assert_array_equal(again.W, gradient.W)
        np.testing.assert_array_equal(again.a, gradient.a)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", KINKED, ids=repr)
@pytest.mark.parametrize(
    ("n", "m"),
    [
        *((4094, 40), (4095, 40), (4096, 40), (13_000, 33), (40, 20_000)),
        pytest.param(1100, 9000, marks=pytest.mark.long),
    ],
)
def test_gradient_across_the_edges_of_blocks_and_chunks(n, m, activation, dtype):
    net = make_net(m, 2, 5, activation=activation, dtype=dtype)
    data = make_data(n, 2, 6, weighted=True, dtype=dtype)
    case = Case(net, data, "logistic", {"weight_decay": 0.1})
    value, gradient = case.compiled()
    assert_agrees(case, gradient)
    for threads in (2, 3, 5):
        again_value, again = case.compiled(num_threads=threads)
        assert again_value == value
        np.testing.assert_array_equal(again.W, gradient.W)


@pytest.mark.long
@pytest.mark.parametrize("n", [250_000, 250_001])
def test_gradient_where_sorting_ends(n):
    case = Case(make_net(32, 2, 1, activation=fc.ReLU()), make_data(n, 2, 2), "logistic")
    assert_agrees(case, case.compiled(num_threads=2)[1])


def lattice(rng, count, most):
    return rng.integers(-most, most + 1, (count, 2)).astype(np.float64)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=many,
    m=many,
    dtype=st.sampled_from((np.float64, np.float32)),
    activation=st.sampled_from((fc.ReLU(), fc.LeakyReLU(0.5), fc.LeakyReLU(-2.0))),
)
def test_ties_on_integers_are_exact(seed, n, m, dtype, activation):
    # Samples and neurons at 0, on axes, opposite, repeated, and at right angles: every sum is exact.
    rng = np.random.default_rng(seed)
    x, W = lattice(rng, n, 3), lattice(rng, m, 3)
    a = rng.integers(-2, 3, m).astype(np.float64)
    y = rng.integers(-4, 5, n).astype(np.float64)
    net = fc.TwoLayerNet(W.astype(dtype), a.astype(dtype), activation)
    data = fc.Dataset(x.astype(dtype), y.astype(dtype))
    _, gradient = fc.loss_and_grad(net, data, "squared", reduction="sum")
    z = x @ W.T
    slope = np.where(z > 0, 1.0, activation.slope)
    r = (slope * z) @ a - y
    np.testing.assert_array_equal(gradient.W, a[:, None] * ((slope * r[:, None]).T @ x))
    np.testing.assert_array_equal(gradient.a, (slope * z * r[:, None]).sum(0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("step_size", [0.01, 1.0, 30.0])
def test_where_a_neuron_was_does_not_matter(step_size, dtype):
    # Positions are looked for where they were last: steps that turn neurons round, and a run in
    # pieces, which starts each of them without a memory.
    net = make_net(300, 2, 3, activation=fc.ReLU(), dtype=dtype)
    data = make_data(200, 2, 4, dtype=dtype)
    whole = fc.descend(net, data, step_size=step_size, steps=12)
    assert np.linalg.norm(whole.net.W - net.W) > 0.01 * step_size
    here = net
    for _ in range(12):
        here = fc.descend(here, data, step_size=step_size, steps=1).net
    np.testing.assert_array_equal(here.W, whole.net.W)
    np.testing.assert_array_equal(here.a, whole.net.a)
    if dtype == np.float64 and step_size < 30:
        want = reference.descend(net, data, step_size=step_size, steps=12)
        assert np.linalg.norm(whole.net.W - want.W) < 1e-11 * np.linalg.norm(want.W)


def test_a_small_sum_beside_large_ones_keeps_its_digits():
    # Sums are of the neuron's own samples: no difference of larger ones. Residuals from 1 to 1e-90.
    rng = np.random.default_rng(7)
    n, m = 200, 400
    x, W, a = rng.standard_normal((n, 2)), rng.standard_normal((m, 2)), np.ones(m) / m
    weights = 10.0 ** -rng.uniform(0, 90, n)
    data = fc.Dataset(x, np.ones(n), weights=weights)
    _, gradient = fc.loss_and_grad(fc.TwoLayerNet(W, a), data, "logistic", reduction="sum")
    active = W @ x.T > 0
    f = np.maximum(x @ W.T, 0) @ a
    r = weights / (1 + np.exp(f))
    want = -a[:, None] * (active * r) @ x
    terms = a[:, None] * (active * r) @ np.abs(x)
    assert (np.abs(gradient.W - want) <= 1e-13 * terms).all()


def test_dead_neurons_and_patterns_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0.2, 1.3, 150)
    x = np.c_[np.cos(angle), np.sin(angle)] * rng.uniform(0.5, 2, 150)[:, None]
    x[:3] = 0
    net = make_net(200, 2, 1, activation=fc.ReLU())
    data = fc.Dataset(x, rng.choice([-1.0, 1.0], 150))
    every = fc.Recording.every(1)
    run = fc.descend(net, data, step_size=0.5, steps=5, observe=["dead", "patterns"], record=every)
    W, a = net.W, net.a
    for step in range(6):
        active = W @ x.T > 0
        assert run.history["dead"].values.ravel()[step] == (~active.any(1)).sum()
        assert run.history["patterns"].values.ravel()[step] == len(np.unique(active, axis=0))
        here = fc.TwoLayerNet(W, a)
        after = fc.descend(here, data, step_size=0.5, steps=1).net
        dead = ~active.any(1)
        np.testing.assert_array_equal(after.W[dead], W[dead])
        W, a = after.W, after.a


@pytest.mark.parametrize("scale_x", [1e-150, 1e-10, 1e10, 1e100])
@pytest.mark.parametrize("scale_W", [1e-140, 1e-8, 1e8])
def test_signs_do_not_depend_on_scales(scale_x, scale_W):
    net = make_net(64, 2, 1, activation=fc.ReLU())
    data = make_data(90, 2, 2)
    small = fc.TwoLayerNet(scale_W * net.W, net.a / scale_W / scale_x)
    scaled = fc.Dataset(scale_x * data.x, data.y)
    np.testing.assert_allclose(small(scaled.x), net(data.x), rtol=1e-12, atol=1e-13)


def test_signs_of_the_largest_weights():
    # Products with the samples' lines would leave the range of doubles, pre-activations do not.
    rng = np.random.default_rng(4)
    x, W, a = rng.standard_normal((64, 2)), rng.uniform(-1, 1, (64, 2)), np.full(64, 1e-300)
    W[::4] *= [1.0, 0.0]
    net = fc.TwoLayerNet(1.7e308 * W, a)
    near = fc.TwoLayerNet(1.7 * W, 1e308 * a)
    data = fc.Dataset(1e-10 * x, np.ones(64))
    np.testing.assert_allclose(net(data.x), near(data.x), rtol=1e-12)


def test_many_neurons_on_many_samples():
    # Several chunks of neurons and several blocks of positions at once.
    net = make_net(60_000, 2, 8, activation=fc.LeakyReLU(0.1))
    data = make_data(9000, 2, 9)
    some_x, some_j = np.arange(0, data.n, 7), np.arange(0, net.width, 50)
    f = net(data.x)
    want = net.activation(data.x[some_x] @ net.W.T) @ net.a
    np.testing.assert_allclose(f[some_x], want, rtol=0, atol=1e-12 * np.abs(want).max())
    _, gradient = fc.loss_and_grad(net, data, "logistic", reduction="sum")
    slope = net.activation.derivative(data.x @ net.W[some_j].T)
    r = data.y / (1 + np.exp(data.y * f))
    rows = -net.a[some_j, None] * ((slope * r[:, None]).T @ data.x)
    assert np.linalg.norm(gradient.W[some_j] - rows) <= 1e-12 * np.linalg.norm(rows)


@pytest.mark.parametrize("last", [0.0, 2.0])
def test_samples_at_zero(last):
    x = np.zeros((40, 2))
    x[-1] = last
    net = make_net(50, 2, 1, activation=fc.ReLU())
    data = fc.Dataset(x, np.ones(40))
    run = fc.descend(net, data, step_size=1.0, steps=3)
    want = reference.descend(net, data, step_size=1.0, steps=3)
    np.testing.assert_allclose(run.net.W, want.W, rtol=1e-14)
    np.testing.assert_array_equal(net(x)[:-1], 0)
