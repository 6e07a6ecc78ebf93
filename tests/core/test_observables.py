"""Compiled observables against their definitions in numpy, and where floating point is hard."""

import math

import numpy as np
import pytest
from _strategies import LOSSES, THREADS, cases, make_data, make_net
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import observables, reference
from featcore._dispatch import core

NAMES = tuple(name for name, *_ in core.observables())
PLAIN = tuple(name for name in NAMES if name not in ("cosines", "alignment", "singular_values"))
# Where the compiled side works in the network's own dtype, and where always in float64.
FROM_OUTPUTS = (
    *("loss", "log_loss", "objective"),
    *("margin", "normalised_margin", "smoothed_margin", "margins"),
)


def evaluate(observable, net, data, loss="logistic", num_threads=1):
    return observables.evaluate(observable, net, data, loss, num_threads=num_threads)


def any_data(net, n=3, seed=0):
    return make_data(n, net.dim, seed, dtype=net.dtype)


def test_the_reference_has_every_compiled_observable():
    assert set(reference.observables) == set(NAMES)


def test_the_docstring_names_every_plain_observable():
    table = observables.__doc__.split("====")
    listed = {line.split()[0] for line in "".join(table).splitlines() if "  " in line}
    assert set(observables.names()) <= listed
    assert set(observables.names()) == {*PLAIN, "weights"}


@st.composite
def observed(draw):
    """Draw a network and clean-labelled, weighted data, some neurons zero, some heads of one sign."""
    case = draw(cases())
    net, data = case.net, case.data
    W, a = net.W.copy(), net.a.copy()
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    W[rng.random(net.width) < draw(st.sampled_from((0.0, 0.3, 1.0)))] = 0
    a *= draw(st.sampled_from((1, -1, 0)))
    if draw(st.booleans()):
        a = np.abs(a)
    y = np.where(data.y > 0, 1, -1)
    flipped = rng.random(data.n) < 0.2
    clean = np.where(flipped, -y, y)
    data = fc.Dataset(data.x, y, clean_y=clean, flipped=flipped, weights=data.weights)
    return fc.TwoLayerNet(W, a, net.activation), data, case.loss


@settings(max_examples=120)
@given(drawn=observed(), name=st.sampled_from(PLAIN))
def test_plain_observables_are_those_of_the_reference(drawn, name):
    net, data, loss = drawn
    if name in ("patterns", "dead") and not net.activation.homogeneous:
        with pytest.raises(ValueError, match=name):
            evaluate(name, net, data, loss)
        return
    if name == "smoothed_margin" and loss not in ("logistic", "exponential"):
        with pytest.raises(ValueError, match=f"smoothed_margin.*{loss}"):
            evaluate(name, net, data, loss)
        return
    got = evaluate(name, net, data, loss)
    if name in ("accuracy", "clean_accuracy"):
        # A sample with f = 0 up to rounding may fall on either side; f = 0 exactly is wrong.
        f = reference.outputs(net.W, net.a, data.x, net.activation)
        slack = 1e-12 if net.dtype == np.float64 else 1e-5
        w = np.ones(data.n) if data.weights is None else data.weights.astype(float)
        doubt = float(w[(np.abs(f) < slack) & (f != 0)].sum() / w.sum())
        expected = reference.observables[name](net, data)
        assert abs(got - expected) <= doubt + 1e-12
        return
    expected = np.asarray(reference.observables[name](net, data, loss=loss))
    assert np.shape(got) == expected.shape
    rounding = 1e-11 if net.dtype == np.float64 or name not in FROM_OUTPUTS else 1e-4
    if name == "log_loss" and loss == "hinge":
        # log of a difference that cancels: compare the losses themselves
        got, expected = np.exp(got), np.exp(expected)
    np.testing.assert_allclose(got, expected, rtol=rounding, atol=rounding)
    first = evaluate(name, net, data, loss)
    for threads in THREADS[1:]:
        np.testing.assert_array_equal(first, evaluate(name, net, data, loss, threads))


@settings(max_examples=60)
@given(
    drawn=observed(),
    k=st.integers(1, 4),
    absolute=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(("cosines", "alignment")),
)
def test_directed_observables_are_those_of_the_reference(drawn, k, absolute, seed, kind):
    net, data, _ = drawn
    directions = np.random.default_rng(seed).standard_normal((k, net.dim))
    make = getattr(observables, kind)
    got = evaluate(make(directions, absolute=absolute), net, data)
    expected = reference.observables[kind](net, data, directions=directions, absolute=absolute)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)  # NaN where NaN
    for threads in THREADS[1:]:
        np.testing.assert_array_equal(
            got, evaluate(make(directions, absolute=absolute), net, data, num_threads=threads)
        )


# --- spectrum: dense to size 128, Krylov above


def assert_spectrum(net, count=3, rel=1e-13):
    """Check the values and the stable rank; squares come from WᵀW, so their error is relative to s_1²."""
    data = any_data(net)
    expected = reference.observables["singular_values"](net, data, count=count)
    top = float(expected[0])
    got = evaluate(observables.singular_values(count), net, data)
    assert got.shape == (count,)
    assert (np.diff(got) <= 0).all()
    if top == 0:
        np.testing.assert_array_equal(got, 0.0)
        assert evaluate("stable_rank", net, data) == 0.0
        return
    np.testing.assert_allclose((got / top) ** 2, (expected / top) ** 2, rtol=0, atol=rel)
    stable_rank = evaluate("stable_rank", net, data)
    assert math.isclose(stable_rank, reference.observables["stable_rank"](net, data), rel_tol=rel)
    for threads in THREADS[1:]:
        same = evaluate(observables.singular_values(count), net, data, num_threads=threads)
        np.testing.assert_array_equal(got, same)


@settings(max_examples=30)
@given(
    m=st.one_of(st.integers(1, 20), st.sampled_from((64, 65, 127, 128, 129, 150, 200, 257))),
    d=st.one_of(st.integers(1, 20), st.sampled_from((64, 65, 127, 128, 129, 150, 200, 257))),
    count=st.sampled_from((1, 2, 5, 30)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from((1.0, 1e-160, 1e-12, 1e150)),
)
def test_spectrum_of_gaussian_weights(m, d, count, seed, scale):
    net = make_net(m, d, seed, activation=fc.ReLU())
    assert_spectrum(fc.TwoLayerNet(scale * net.W, net.a), count)


def rotated(singular_values, m, d, seed=0):
    """Return an (m, d) matrix with these singular values."""
    rng = np.random.default_rng(seed)
    k = len(singular_values)
    U, _ = np.linalg.qr(rng.standard_normal((m, k)))
    V, _ = np.linalg.qr(rng.standard_normal((d, k)))
    return (U * singular_values) @ V.T


@pytest.mark.parametrize("shape", [(9, 7), (150, 400), (400, 150), (160, 160)])
@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [1.0, 1.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        [2.0, 1.0, 1.0, 1.0, 1e-3],
        [1.0, 1.0 - 1e-9, 0.5],
        [1.0, 1e-5, 1e-9],
    ],
    ids=str,
)
def test_spectrum_of_low_rank_and_degenerate_weights(shape, values):
    W = rotated(values, *shape)
    assert_spectrum(fc.TwoLayerNet(W, np.ones(shape[0])), count=3)


def test_spectrum_of_a_spike_over_a_faint_bulk():
    # An aligned network: the bulk is small against the spike, but far above 1e-8 of it.
    values = np.concatenate([[1.0], np.linspace(1e-5, 0.0, 250)])
    assert_spectrum(fc.TwoLayerNet(rotated(values, 300, 260), np.ones(300)), count=3)


@pytest.mark.parametrize("size", [5, 128, 129, 200])
def test_spectrum_of_an_orthogonal_matrix_is_one(size):
    # Every direction is a top one: Krylov has nothing to separate.
    for W in (np.eye(size), rotated(np.ones(size), size, size)):
        assert_spectrum(fc.TwoLayerNet(W, np.ones(size)))


def test_spectrum_of_exactly_rank_one_integers():
    u, v = np.arange(1.0, 301.0), np.ones(150)
    net = fc.TwoLayerNet(np.outer(u, v), np.ones(300))
    values = evaluate(observables.singular_values(4), net, any_data(net))
    assert values[0] == pytest.approx(np.linalg.norm(u) * np.linalg.norm(v), rel=1e-13)
    assert values[1] <= 1e-7 * values[0]
    assert evaluate("stable_rank", net, any_data(net)) == pytest.approx(1.0, rel=1e-13)


@pytest.mark.parametrize("shape", [(4, 3), (200, 300)])
def test_spectrum_of_zero_weights_is_zero(shape):
    assert_spectrum(fc.TwoLayerNet(np.zeros(shape), np.ones(shape[0])), count=5)


def test_singular_values_past_the_rank_are_zero():
    net = fc.TwoLayerNet([[3.0, 0.0], [0.0, 4.0]], [1.0, 1.0])
    np.testing.assert_allclose(
        evaluate(observables.singular_values(5), net, any_data(net)), [4, 3, 0, 0, 0], rtol=1e-15
    )


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e300, 1e-38])
def test_the_stable_rank_does_not_depend_on_scale(scale):
    dtype = np.float32 if scale == 1e-38 else np.float64
    W = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]) * scale
    net = fc.TwoLayerNet(W.astype(dtype), np.zeros(3, dtype))
    assert evaluate("stable_rank", net, any_data(net)) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-308, 1e-200, 1e-160, 1e160, 1e300])
def test_norms_and_cosines_do_not_depend_on_scale(scale):
    net = fc.TwoLayerNet(scale * np.array([[3.0, 4.0]]), [0.0])
    data = any_data(net)
    assert evaluate("norms", net, data)[0] == pytest.approx(5 * scale, rel=1e-14)
    for length in (1.0, 1e-200, 1e200, 1e300):
        got = evaluate(observables.cosines(length * np.eye(2)), net, data)
        np.testing.assert_allclose(got, [[0.6, 0.8]], rtol=1e-13)


# --- losses where they underflow


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_log_loss_where_the_loss_underflows(loss, dtype, weighted):
    # Outputs ±2000, ±4000, …: the loss is 1e-869, its logarithm an ordinary number.
    x = np.array([[2000.0], [4000.0], [3000.0]], dtype)
    weights = [0.5, 2.0, 1.0] if weighted else None
    net = fc.TwoLayerNet(np.ones((1, 1), dtype), np.ones(1, dtype))
    data = fc.Dataset(x, [1, 1, 1], weights=weights)
    got = evaluate("log_loss", net, data, loss)
    expected = reference.observables["log_loss"](net, data, loss=loss)
    if loss == "hinge":
        assert got == expected == -math.inf
    else:
        assert got == pytest.approx(expected, rel=1e-14)
    if loss in ("logistic", "exponential"):
        share = 0.5 / 3.5 if weighted else 1 / 3
        assert got == pytest.approx(-2000 + math.log(share), rel=1e-14)


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_log_loss_of_margins_of_minus_thousands(loss):
    net = fc.TwoLayerNet([[1.0]], [1.0])
    data = fc.Dataset([[5000.0], [1.0]], [-1, 1])
    got = evaluate("log_loss", net, data, loss)
    expected = {"logistic": math.log(2500), "exponential": 5000 - math.log(2)}[loss]
    assert got == pytest.approx(expected, rel=1e-3 if loss == "logistic" else 1e-14)
    assert got == pytest.approx(reference.observables["log_loss"](net, data, loss=loss), rel=1e-14)


@settings(max_examples=60)
@given(margins=st.lists(st.floats(-30, 60), min_size=1, max_size=6), loss=st.sampled_from(LOSSES))
def test_log_loss_is_the_log_of_the_loss_where_both_exist(margins, loss):
    net = fc.TwoLayerNet([[1.0]], [1.0], fc.LeakyReLU(1.0))
    data = fc.Dataset(np.array(margins)[:, None], np.ones(len(margins)))
    value, log_value = (evaluate(name, net, data, loss) for name in ("loss", "log_loss"))
    if value == 0:
        assert log_value == -math.inf
    else:
        assert log_value == pytest.approx(math.log(value), rel=1e-13, abs=1e-13)


def test_samples_of_weight_zero_do_not_count():
    net = fc.TwoLayerNet([[1.0]], [1.0], fc.LeakyReLU(1.0))
    data = fc.Dataset([[-2000.0], [1.0]], [1, 1], weights=[0, 3])
    assert evaluate("loss", net, data, "exponential") == pytest.approx(math.exp(-1), rel=1e-14)
    assert evaluate("log_loss", net, data, "exponential") == pytest.approx(-1, rel=1e-14)
    assert evaluate("accuracy", net, data) == 1.0


# --- what each one means


def test_accuracy_counts_zero_output_as_wrong():
    net = fc.TwoLayerNet([[1.0]], [1.0])
    data = fc.Dataset([[-1.0], [-1.0], [2.0], [2.0]], [1, -1, 1, -1], clean_y=[1, -1, 1, 1])
    assert evaluate("accuracy", net, data) == 0.25
    assert evaluate("clean_accuracy", net, data) == 0.5
    weighted = fc.Dataset(data.x, data.y, weights=[1, 2, 3, 4])
    assert evaluate("accuracy", net, weighted) == pytest.approx(0.3, rel=1e-15)


def test_patterns_and_dead_neurons_by_hand():
    # On x = e1, e2, e1+e2 neurons see (on, off, on), twice; (off, off, off), twice; (on, on, on).
    W = [[1, -0.5], [3, -1], [-1, -1], [0, 0], [2, 1]]
    net = fc.TwoLayerNet(W, np.ones(5))
    data = fc.Dataset([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1, 1, 1])
    assert evaluate("patterns", net, data) == 3
    assert evaluate("dead", net, data) == 2


def test_z_of_zero_is_off():
    net = fc.TwoLayerNet([[1.0, -1.0], [-1.0, -1.0]], [1.0, 1.0])
    data = fc.Dataset([[1.0, 1.0]], [1])
    assert evaluate("dead", net, data) == 2
    assert evaluate("patterns", net, data) == 1


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "m"), [(7, 3), (8, 64), (513, 65), (1030, 300), (1, 1)])
def test_patterns_and_dead_across_the_edges_of_tiles(n, m, dtype):
    net = make_net(m, 2, 0, activation=fc.ReLU(), dtype=dtype)
    data = make_data(n, 2, 1, net=net, dtype=dtype)
    for name in ("patterns", "dead"):
        assert evaluate(name, net, data) == reference.observables[name](net, data)


def test_normalised_margin_of_homogeneous_networks_does_not_depend_on_scale():
    net = make_net(20, 4, 1, activation=fc.ReLU())
    data = make_data(15, 4, 2)
    scaled = fc.TwoLayerNet(8.0 * net.W, 8.0 * net.a)
    assert evaluate("normalised_margin", net, data) == evaluate("normalised_margin", scaled, data)
    zero = fc.TwoLayerNet(np.zeros((2, 4)), np.zeros(2))
    assert evaluate("normalised_margin", zero, data) == 0.0


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
def test_smoothed_margins_by_hand(loss):
    linear = fc.LeakyReLU(1.0)

    def smoothed(margins, weights=None):
        net = fc.TwoLayerNet([[0.5]], [2.0], linear)  # |W|^2 + |a|^2 = 4.25
        data = fc.Dataset(np.array(margins)[:, None], np.ones(len(margins)), weights=weights)
        return 4.25 * evaluate("smoothed_margin", net, data, loss)

    # one sample tells its own margin, also where the loss underflows or is large
    for margin in (-800.0, -2.0, -1e-3, 0.0, 0.5, 36.9, 37.1, 5000.0):
        assert smoothed([margin]) == pytest.approx(margin, rel=1e-13, abs=1e-15)
    # k equal ones, far out: log k less; a weight counts as so many
    assert smoothed([900.0] * 8) == pytest.approx(900 - math.log(8), rel=1e-14)
    assert smoothed([900.0], [8]) == pytest.approx(900 - math.log(8), rel=1e-14)
    # below the least margin, and near it where the others are far
    assert smoothed([1.0, 60.0]) == pytest.approx(1.0, rel=1e-14)
    assert smoothed([1.0, 1.2]) < 1.0


def test_alignment_of_an_empty_group_is_nan():
    net = fc.TwoLayerNet(np.eye(2), [1.0, 0.0])  # a zero head is in neither group
    got = evaluate(observables.alignment([1.0, 0.0]), net, any_data(net))
    np.testing.assert_array_equal(got[0, 0], [1, 1, 1, 1])
    assert np.isnan(got[0, 1]).all()


def test_cosine_never_leaves_the_unit_interval():
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2000, 3))
    net = fc.TwoLayerNet(W, np.ones(2000))
    got = evaluate(observables.cosines(W[:50]), net, any_data(net))
    assert (np.abs(got) <= 1).all()
    np.testing.assert_allclose(np.diagonal(got), 1, rtol=1e-14)


def test_balance_drift_is_zero_at_the_start():
    net = make_net(30, 4, 0, activation=fc.ReLU())
    assert evaluate("balance_drift", net, any_data(net)) <= 1e-15


def test_observables_take_log_scale_into_account():
    net = fc.TwoLayerNet([[3.0, 4.0]], [2.0], log_scale=math.log(2))
    assert evaluate("norms", net, any_data(net))[0] == pytest.approx(10, rel=1e-15)
    assert evaluate("head", net, any_data(net))[0] == pytest.approx(4, rel=1e-15)


def test_a_callable_is_observed():
    net = fc.TwoLayerNet(np.eye(2), [1.0, -3.0])
    largest = observables.custom(lambda net, _data: np.abs(net.a).max(), name="largest")
    assert evaluate(largest, net, any_data(net)) == 3.0
    np.testing.assert_array_equal(evaluate("weights", net, any_data(net)), np.eye(2))


# --- arguments


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: observables.cosines([[0.0, 0.0]]), ValueError, "directions"),
        (lambda: observables.cosines([[np.nan, 0.0]]), ValueError, "directions"),
        (lambda: observables.cosines([[1j, 0.0]]), TypeError, "directions"),
        (lambda: observables.cosines(np.ones((1, 1, 2))), ValueError, "directions"),
        (lambda: observables.cosines(np.eye(2), labels=["one"]), ValueError, "labels"),
        (lambda: observables.cosines(np.eye(2), absolute=1), TypeError, "absolute"),
        (lambda: observables.singular_values(0), ValueError, "count"),
        (lambda: observables.singular_values(1.0), TypeError, "count"),
        (lambda: observables.custom(3), TypeError, "function"),
        (lambda: observables.custom(lambda *_: 0), ValueError, "name"),
        (lambda: observables.get("los"), ValueError, "'los' is unknown"),
        (lambda: observables.get("cosines"), ValueError, r"fc\.observables\.cosines"),
        (lambda: observables.get(3), TypeError, "neither a name"),
    ],
)
def test_bad_observables_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_what_an_observable_needs_is_checked():
    net = fc.TwoLayerNet(np.eye(2), np.ones(2))
    real_valued = fc.Dataset(np.eye(2), [0.5, 2.0])
    for name in ("accuracy", "margin", "normalised_margin", "margins"):
        with pytest.raises(ValueError, match=f"{name}.*labels"):
            evaluate(name, net, real_valued, "squared")
    with pytest.raises(ValueError, match="clean_y"):
        evaluate("clean_accuracy", net, any_data(net))
    with pytest.raises(ValueError, match="directions"):
        evaluate(observables.cosines(np.eye(3)), net, any_data(net))
    with pytest.raises(ValueError, match="patterns"):
        evaluate("patterns", fc.TwoLayerNet(np.eye(2), np.ones(2), "tanh"), any_data(net))


def test_evaluate_names_a_mismatch_of_network_and_data():
    net = fc.TwoLayerNet(np.eye(2), np.ones(2))
    with pytest.raises(TypeError, match="float32"):
        evaluate("loss", net, any_data(net).astype(np.float32))
    with pytest.raises(ValueError, match="dimension"):
        evaluate("loss", net, fc.Dataset(np.eye(3), [1, 1, 1]))
