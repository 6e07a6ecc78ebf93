"""One gradient step on the first layer: against the reference, the gradient, `descend`, and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import _dispatch, reference

SIGMAS = (
    fc.ReLU(),
    fc.ReLU().centred(),
    fc.LeakyReLU(0.3).centred(),
    fc.Tanh(),
    fc.Erf(),
    fc.GELU().centred(),
    fc.Softplus(),
    fc.Hermite([0.2, 1.0, 0.5]),
)
RESIDUALS = ("labels", "full")
sizes = st.one_of(st.integers(1, 12), st.sampled_from((1, 7, 8, 9, 31, 33, 63, 65, 96, 97, 130)))


def problem(n, d, m, sigma, *, dtype=np.float64, seed=0, weighted=False):
    rng = np.random.default_rng(seed)
    W = (rng.standard_normal((m, d)) / np.sqrt(d)).astype(dtype)
    a = (rng.standard_normal(m) / np.sqrt(m)).astype(dtype)
    x = rng.standard_normal((n, d)).astype(dtype)
    y = rng.standard_normal(n).astype(dtype)
    weights = rng.uniform(0.1, 2.0, n).astype(dtype) if weighted else None
    return fc.TwoLayerNet(W, a, sigma), fc.Dataset(x, y, weights=weights)


def away_from_kinks(net, data):
    z = data.x.astype(np.float64) @ net.W.astype(np.float64).T
    eps = np.finfo(net.dtype).eps
    return not net.activation.kinked or (np.abs(z) > 64 * eps * net.dim).all()


def assert_agrees(after, net, data, step_size, residual):
    expected = reference.one_step(net, data, step_size, residual)
    assert after.dtype == net.dtype
    assert after.activation == net.activation
    np.testing.assert_array_equal(after.a, net.a)
    # magnitudes of what cancels
    z = data.x.astype(np.float64) @ net.W.astype(np.float64).T
    r = np.abs(data.y.astype(np.float64))
    if residual == "full":
        r = r + np.abs(net.activation(z)) @ np.abs(net.a)
    pull = (r[:, None] * np.abs(net.activation.derivative(z)) * np.abs(net.a)).T
    terms = np.abs(net.W) + step_size * pull @ np.abs(data.x) * (
        1.0 / data.n if data.weights is None else data.weights.max() / data.weights.sum()
    )
    eps = np.finfo(net.dtype).eps
    tolerance = 8 * eps * (4 + np.sqrt(data.n)) * (terms + terms.mean())
    assert (np.abs(after.W - expected.W) <= tolerance).all()


@settings(max_examples=80)
@given(
    n=sizes,
    d=sizes,
    m=sizes,
    sigma=st.sampled_from(SIGMAS),
    dtype=st.sampled_from((np.float64, np.float32)),
    seed=st.integers(0, 2**32 - 1),
    weighted=st.booleans(),
    residual=st.sampled_from(RESIDUALS),
    step_size=st.sampled_from((0.01, 1.0, 30.0)),
)
def test_the_step_is_that_of_the_reference_on_any_number_of_threads(
    n, d, m, sigma, dtype, seed, weighted, residual, step_size
):
    net, data = problem(n, d, m, sigma, dtype=dtype, seed=seed, weighted=weighted)
    after = fc.one_step(net, data, step_size, residual, num_threads=1)
    if away_from_kinks(net, data):
        assert_agrees(after, net, data, step_size, residual)
    for threads in (2, 3, 5):
        again = fc.one_step(net, data, step_size, residual, num_threads=threads)
        np.testing.assert_array_equal(again.W, after.W)


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_full_is_a_gradient_step_of_the_squared_loss(sigma):
    net, data = problem(80, 12, 50, sigma, weighted=True)
    after = fc.one_step(net, data, 0.7, "full")
    _, gradient = fc.loss_and_grad(net, data, "squared")
    np.testing.assert_allclose(after.W, net.W - 0.7 * gradient.W, rtol=0, atol=1e-14)
    run = fc.descend(net, data, "squared", step_size=0.7, steps=1, train=("W",))
    np.testing.assert_allclose(after.W, run.net.W, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_labels_is_the_slope_of_the_correlation_with_the_labels(sigma):
    # G = ∂/∂W mean(y f): central differences, exact to their third order.
    net, data = problem(30, 5, 6, sigma, seed=2)
    G = fc.one_step(net, data, 1.0).W - net.W
    h = 1e-5
    for j, k in ((0, 0), (3, 4), (5, 2)):

        def correlation(shift, j=j, k=k):
            W = net.W.copy()
            W[j, k] += shift
            return float(np.mean(data.y * fc.TwoLayerNet(W, net.a, sigma)(data.x)))

        slope = (correlation(h) - correlation(-h)) / (2 * h)
        assert G[j, k] == pytest.approx(slope, abs=1e-9)


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_no_step_moves_nothing(sigma, residual):
    net, data = problem(20, 7, 9, sigma, dtype=np.float32)
    np.testing.assert_array_equal(fc.one_step(net, data, 0.0, residual).W, net.W)


def test_labels_are_linear_in_the_labels_and_in_the_head():
    net, data = problem(40, 6, 20, fc.Tanh())
    G = fc.one_step(net, data, 1.0).W - net.W
    half = fc.Dataset(data.x, 0.5 * data.y)
    np.testing.assert_allclose(fc.one_step(net, half, 2.0).W - net.W, G, atol=1e-15)
    head = fc.TwoLayerNet(net.W, 2.0 * net.a, net.activation)
    np.testing.assert_allclose(fc.one_step(head, data, 0.5).W - net.W, G, atol=1e-15)


@pytest.mark.parametrize("sigma", [fc.ReLU().centred(), fc.Erf()], ids=repr)
def test_a_rotation_of_inputs_and_weights_rotates_the_step(sigma):
    net, data = problem(40, 6, 20, sigma)
    Q = np.linalg.qr(np.random.default_rng(9).standard_normal((6, 6)))[0]
    turned = fc.one_step(
        fc.TwoLayerNet(net.W @ Q, net.a, sigma), fc.Dataset(data.x @ Q, data.y), 1.0, "full"
    )
    np.testing.assert_allclose(turned.W, fc.one_step(net, data, 1.0, "full").W @ Q, atol=1e-13)


def test_an_offset_of_the_activation_matters_for_the_outputs_only():
    net, data = problem(60, 5, 30, fc.ReLU())
    centred = fc.TwoLayerNet(net.W, net.a, fc.ReLU().centred())
    np.testing.assert_array_equal(fc.one_step(net, data, 1.0).W, fc.one_step(centred, data, 1.0).W)
    moved = fc.one_step(net, data, 1.0, "full").W - fc.one_step(centred, data, 1.0, "full").W
    # the residual differs by the constant c Σ_j a_j
    shift = fc.ReLU().mean() * net.a.sum()
    constant = fc.Dataset(data.x, np.full(data.n, -shift))
    np.testing.assert_allclose(moved, fc.one_step(net, constant, 1.0).W - net.W, atol=1e-14)


@pytest.mark.parametrize(
    "sigma", [fc.ReLU().centred(), fc.Hermite([0, 1, 0.3]), fc.Softplus().centred()], ids=repr
)
@pytest.mark.parametrize("form", ["primal", "gram", "projected"])
def test_descend_goes_on_from_the_step_and_a_file_keeps_it(sigma, form, tmp_path):
    net, data = problem(25, 40, 30, sigma)
    net = fc.one_step(net, data, 0.5)
    run = fc.descend(net, data, "squared", step_size=0.1, steps=5, form=form)
    expected = reference.descend(net, data, "squared", step_size=0.1, steps=5)
    np.testing.assert_allclose(run.net.W, expected.W, atol=1e-11)
    np.testing.assert_allclose(run.net.a, expected.a, atol=1e-11)
    run.save(tmp_path / "run.nc")
    again = fc.load(tmp_path / "run.nc")
    assert again.net.activation == sigma
    assert again.net.sha256() == run.net.sha256()
    longer = again.continue_(3, data=data)
    np.testing.assert_array_equal(longer.net.W, run.continue_(3).net.W)


def test_centred_networks_have_the_patterns_of_the_network():
    net, data = problem(20, 4, 10, fc.ReLU())
    centred = fc.TwoLayerNet(net.W, net.a, fc.ReLU().centred())
    for name in ("patterns", "dead"):
        got, expected = (fc.observables.evaluate(name, w, data, "squared") for w in (centred, net))
        assert got == expected > (-1 if name == "dead" else 0)


def test_flows_of_centred_networks_are_runge_kutta_s():
    net, data = problem(20, 4, 10, fc.ReLU().centred())
    with pytest.raises(ValueError, match="method='tsit5'"):
        fc.flow(net, data, "squared", t_end=0.1, method="event")
    run = fc.flow(net, data, "squared", t_end=0.05, method="euler", step_size=0.05)
    one = fc.descend(net, data, "squared", step_size=0.05, steps=1)
    np.testing.assert_allclose(run.net.W, one.net.W, atol=1e-14)
    np.testing.assert_allclose(run.net.a, one.net.a, atol=1e-14)


def test_a_log_scale_is_absorbed():
    net, data = problem(20, 4, 10, fc.Tanh())
    scaled = fc.TwoLayerNet(net.W / 2, net.a / 2, fc.Tanh(), log_scale=np.log(2.0))
    after = fc.one_step(scaled, data, 1.0)
    assert after.log_scale is None
    np.testing.assert_allclose(after.W, fc.one_step(net, data, 1.0).W, rtol=1e-13, atol=1e-15)


def test_bad_arguments_are_named():
    net, data = problem(6, 3, 4, fc.Tanh())
    for step_size, message in (
        (-1.0, "step_size=-1 must be >= 0"),
        (np.nan, "step_size=nan must be finite"),
        (np.inf, "step_size=inf must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fc.one_step(net, data, step_size)
    with pytest.raises(TypeError, match="step_size='1'"):
        fc.one_step(net, data, "1")
    with pytest.raises(ValueError, match="residual='all' is unknown"):
        fc.one_step(net, data, 1.0, "all")
    with pytest.raises(TypeError, match="float32 and the network float64"):
        fc.one_step(net, data.astype(np.float32), 1.0)
    with pytest.raises(ValueError, match="dimension 2"):
        fc.one_step(net, fc.Dataset([[1.0, 2.0]], [1.0]), 1.0)
    with pytest.raises(ValueError, match="num_threads=0"):
        fc.one_step(net, data, 1.0, num_threads=0)
    with pytest.raises(ValueError, match=r"step_size=1e\+39 takes weights out of the range"):
        fc.one_step(net.astype(np.float32), data.astype(np.float32), 1e39)


def test_a_step_that_does_not_fit_is_refused_with_the_number(monkeypatch):
    monkeypatch.setattr(_dispatch, "free_memory", lambda: 2.0**20)
    net, data = problem(6, 3, 4, fc.Tanh())
    with pytest.raises(
        MemoryError, match=r"n=6, d=3, m=4, float64\) needs 0.0625 GiB and 0.000977"
    ):
        fc.one_step(net, data, 1.0)
