"""Bad input: an error that names the argument and the remedy, or the right answer; never a wrong one."""

import copy
import math

import numpy as np
import pytest

import featcore as fc
from featcore import observables

rng = np.random.default_rng(0)
N, D, M = 12, 3, 5
X = rng.standard_normal((N, D))
Y = rng.choice([-1.0, 1.0], N)
W = rng.standard_normal((M, D))
A = rng.standard_normal(M)
DATA = fc.Dataset(X, Y)
NET = fc.TwoLayerNet(W, A)


def descend(net=NET, data=DATA, loss="logistic", **options):
    return fc.descend(net, data, loss, **{"step_size": 0.1, "steps": 3, **options})


# Whatever takes a network, a data set and a loss.
ENTRIES = [
    pytest.param(descend, id="descend"),
    pytest.param(fc.loss_and_grad, id="loss_and_grad"),
    pytest.param(
        lambda net, data, loss="logistic", **more: observables.evaluate(
            "loss", net, data, loss, **more
        ),
        id="evaluate",
    ),
]
entries = pytest.mark.parametrize("entry", ENTRIES)


def with_entry(array, value):
    changed = array.copy()
    changed.flat[1] = value
    return changed


# --- arrays


def bad_matrices(rows):
    good = np.ones((rows, D))
    return {
        "vector": (good[0], ValueError, "axes"),
        "cube": (good[None], ValueError, "axes"),
        "number": (3.0, ValueError, "axes"),
        "no rows": (good[:0], ValueError, "empty"),
        "no columns": (good[:, :0], ValueError, "empty"),
        "nan": (with_entry(good, np.nan), ValueError, r"nan at \(0, 1\); remove or replace"),
        "infinity": (with_entry(good, -np.inf), ValueError, r"inf at \(0, 1\); remove or replace"),
        "complex": (good + 0j, TypeError, r"complex.*\.real"),
        "masked": (np.ma.masked_array(good), TypeError, "masked.*fill or drop"),
        "object": (good.astype(object), TypeError, "object.*float64"),
        "text": (good.astype(str), TypeError, "pass float64"),
        "half": (good.astype(np.float16), TypeError, "float16.*float64"),
        "long": (good.astype(np.longdouble), TypeError, "pass float64"),
        "dates": (np.zeros((rows, D), "M8[s]"), TypeError, "pass float64"),
        "nothing": (None, TypeError, "pass float64"),
        "structured": (np.zeros((rows, D), [("u", float)]), TypeError, "pass float64"),
    }


@pytest.mark.parametrize("case", bad_matrices(1))
def test_bad_matrices_are_named(case):
    for name, make, rows in (
        ("x", lambda v: fc.Dataset(v, Y), N),
        ("means", lambda v: fc.Dataset(X, Y, means=v), 2),
        ("W", lambda v: fc.TwoLayerNet(v, A), M),
        ("x", NET, 4),
        ("directions", observables.cosines, 2),
    ):
        value, error, remedy = bad_matrices(rows)[case]
        if name == "means" and case == "nothing":
            continue
        if make is NET and case == "no rows":  # no sample, no output
            assert NET(value).shape == (0,)
            continue
        if make is NET and case == "no columns":
            remedy = r"the network takes \(n, 3\)"
        if name == "directions" and case in ("vector", "number"):
            continue
        with pytest.raises(error, match=f"{name}.*{remedy}" if remedy else name):
            make(value)


def bad_vectors(size):
    good = np.ones(size)
    return {
        "short": (good[1:], ValueError, rf"shape \({size - 1},\).*must be \({size},\)"),
        "matrix": (good[:, None], ValueError, "axes"),
        "empty": (good[:0], ValueError, "empty"),
        "nan": (with_entry(good, np.nan), ValueError, "remove or replace"),
        "infinity": (with_entry(good, np.inf), ValueError, "remove or replace"),
        "complex": (good * 1j, TypeError, r"\.real"),
        "masked": (np.ma.masked_array(good), TypeError, "fill or drop"),
        "text": (good.astype(str), TypeError, "pass float64"),
        "half": (good.astype(np.float16), TypeError, "pass float64"),
    }


@pytest.mark.parametrize("case", bad_vectors(2))
def test_bad_vectors_are_named(case):
    for name, make, size in (
        ("y", lambda v: fc.Dataset(X, v), N),
        ("clean_y", lambda v: fc.Dataset(X, Y, clean_y=v), N),
        ("weights", lambda v: fc.Dataset(X, Y, weights=v), N),
        ("a", lambda v: fc.TwoLayerNet(W, v), M),
    ):
        value, error, remedy = bad_vectors(size)[case]
        with pytest.raises(error, match=f"{name} .*{remedy}"):
            make(value)


@pytest.mark.parametrize(
    "flipped", [np.ones(N), np.ones(N, int), np.ones(N - 1, bool), np.ones((N, 1), bool), "yes"]
)
def test_flipped_is_a_mask(flipped):
    with pytest.raises(ValueError, match=rf"flipped.*boolean mask of shape \({N},\)"):
        fc.Dataset(X, Y, flipped=flipped)


@pytest.mark.parametrize("weights", [-np.ones(N), with_entry(np.ones(N), -1e-9), np.zeros(N)])
def test_weights_are_non_negative_with_a_positive_sum(weights):
    with pytest.raises(ValueError, match="weights must be non-negative with a positive sum"):
        fc.Dataset(X, Y, weights=weights)


def test_means_have_the_dimension_of_the_samples():
    with pytest.raises(ValueError, match=r"means.*dimension 3"):
        fc.Dataset(X, Y, means=np.eye(2))


def test_nothing_is_rounded_silently():
    third = np.full(N, 1 / 3)
    for name, make in (
        ("y", lambda: fc.Dataset(X.astype(np.float32), third)),
        ("weights", lambda: fc.Dataset(X.astype(np.float32), Y, weights=third)),
        ("means", lambda: fc.Dataset(X.astype(np.float32), Y, means=X)),
        ("a", lambda: fc.TwoLayerNet(W.astype(np.float32), A)),
        ("x", lambda: NET.astype(np.float32)(X)),
    ):
        with pytest.raises(TypeError, match=rf"{name} is float64.*float32.*\.astype"):
            make()
    assert fc.Dataset(X.astype(np.float32), Y).y.dtype == np.float32  # exact


LAYOUTS = {
    "fortran": np.asfortranarray,
    "strided": lambda v: np.repeat(v, 3, axis=0)[::3],
    "reversed": lambda v: v[::-1].copy()[::-1],
    "transposed": lambda v: np.ascontiguousarray(v.T).T,
    "swapped bytes": lambda v: v.astype(v.dtype.newbyteorder()),
    "list": lambda v: v.tolist(),
    "matrix rows": lambda v: [*v],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_give_the_same_bits(layout):
    change = LAYOUTS[layout]
    data = fc.Dataset(change(X), change(Y), weights=change(np.arange(1.0, N + 1)))
    net = fc.TwoLayerNet(change(W), change(A))
    assert data.sha256() == fc.Dataset(X, Y, weights=np.arange(1.0, N + 1)).sha256()
    assert net.sha256() == NET.sha256()
    np.testing.assert_array_equal(net(change(X)), NET(X))


def test_integers_and_booleans_are_numbers():
    integers = rng.integers(-3, 4, (N, D))
    data = fc.Dataset(integers, Y.astype(np.int8), weights=np.ones(N, bool))
    plain = fc.Dataset(integers.astype(float), Y, weights=np.ones(N))
    assert data.sha256() == plain.sha256()
    net = fc.TwoLayerNet(np.ones((M, D), np.uint8), np.ones(M, bool))
    assert net.dtype == np.float64
    np.testing.assert_array_equal(net(integers), net(integers.astype(np.float64)))


def test_read_only_arrays_are_taken_and_no_array_is_written_to():
    x, y, w, a = (v.copy() for v in (X, Y, W, A))
    before = [v.copy() for v in (x, y, w, a)]
    for v in (x, y, w, a):
        v.flags.writeable = False
    data, net = fc.Dataset(x, y), fc.TwoLayerNet(w, a, copy=False)
    assert descend(net, data).outcome.status == "reached_end"
    fc.loss_and_grad(net, data)
    for v, old in zip((x, y, w, a), before, strict=True):
        np.testing.assert_array_equal(v, old)


def test_what_is_copied_is_what_is_documented():
    # A data set references arrays that are already as it needs them; a network copies unless told.
    data = fc.Dataset(X, Y)
    assert np.shares_memory(data.x, X)
    assert np.shares_memory(data.y, Y)
    assert not np.shares_memory(fc.Dataset(np.asfortranarray(X), Y).x, X)
    assert X.flags.writeable
    assert not data.x.flags.writeable
    assert not np.shares_memory(NET.W, W)
    referring = fc.TwoLayerNet(W, A, copy=False)
    assert np.shares_memory(referring.W, W)
    assert np.shares_memory(referring.a, A)
    assert W.flags.writeable


# --- networks, data and losses that do not fit one another


@entries
@pytest.mark.parametrize("net", [None, W, (W, A), "net", DATA])
def test_a_network_is_a_network(entry, net):
    with pytest.raises(TypeError, match=r"net is a .*TwoLayerNet"):
        entry(net, DATA)


@entries
@pytest.mark.parametrize("data", [None, (X, Y), X, NET])
def test_data_are_a_dataset(entry, data):
    with pytest.raises(TypeError, match=r"data is a .*Dataset"):
        entry(NET, data)


@entries
def test_types_and_dimensions_agree(entry):
    with pytest.raises(TypeError, match=r"data is float32 and the network float64.*\.astype"):
        entry(NET, DATA.astype(np.float32))
    with pytest.raises(TypeError, match=r"data is float64 and the network float32.*\.astype"):
        entry(NET.astype(np.float32), DATA)
    with pytest.raises(ValueError, match="data has dimension 4 and the network 3"):
        entry(NET, DATA.with_bias())


@entries
@pytest.mark.parametrize("loss", ["logistic", "exponential", "hinge"])
@pytest.mark.parametrize("label", [0.0, 2.0, 0.5, -3.0])
def test_margin_losses_need_labels_of_plus_and_minus_one(entry, loss, label):
    other = fc.Dataset(X, with_entry(Y, label))
    with pytest.raises(ValueError, match=rf"data\.y\[1\]={label:g}.*{loss}.*-1 or \+1.*np\.where"):
        entry(NET, other, loss)
    entry(NET, other, "squared")


@entries
@pytest.mark.parametrize("loss", ["logit", "", None, 3, "Logistic"])
def test_unknown_losses_are_named_and_the_known_listed(entry, loss):
    with pytest.raises(ValueError, match=r"loss=.*'logistic', 'exponential', 'hinge', 'squared'"):
        entry(NET, DATA, loss)


@pytest.mark.parametrize("activation", ["rely", "", None, 3, fc.ReLU, "leaky_relu"])
def test_unknown_activations_are_named_and_the_known_listed(activation):
    with pytest.raises(ValueError, match=r"activation=.*'relu', 'tanh'.*LeakyReLU\(0\.1\)"):
        fc.TwoLayerNet(W, A, activation)


@entries
@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", 10**6])
def test_a_number_of_threads_is_a_positive_integer(entry, threads):
    with pytest.raises((TypeError, ValueError), match="num_threads"):
        entry(NET, DATA, num_threads=threads)


def test_evaluation_splits_fit_too():
    for split, error, message in (
        ((X, Y), TypeError, r"evaluate\['test'\] is a tuple.*Dataset"),
        (DATA.with_bias(), ValueError, r"evaluate\['test'\] has dimension 4"),
        (DATA.astype(np.float32), TypeError, r"evaluate\['test'\] is float32"),
        (fc.Dataset(X, 0 * Y), ValueError, r"evaluate\['test'\]\.y\[0\]"),
    ):
        with pytest.raises(error, match=message):
            descend(evaluate={"test": split})
    for name in ("train", "", 5, None):
        with pytest.raises(ValueError, match="evaluate has a split named"):
            descend(evaluate={name: DATA})
    for evaluate in (DATA, [DATA], "test"):
        with pytest.raises(TypeError, match=r"evaluate.*\{'test': test\}"):
            descend(evaluate=evaluate)


# --- numbers


NUMBERS = {"nan": math.nan, "infinity": math.inf, "text": "0.1", "none": None, "complex": 1j}


@pytest.mark.parametrize("value", [*NUMBERS.values(), True, 0.0, -0.1], ids=str)
def test_a_step_size_is_a_positive_number(value):
    with pytest.raises((TypeError, ValueError), match="step_size"):
        descend(step_size=value)


@pytest.mark.parametrize("value", [-1, 1.0, True, "5", None, math.nan, 2**63])
def test_steps_are_a_non_negative_integer(value):
    with pytest.raises((TypeError, ValueError), match=r"steps=.* must be"):
        descend(steps=value)


@pytest.mark.parametrize("name", ["weight_decay", "output_penalty"])
@pytest.mark.parametrize("value", [*NUMBERS.values(), True, -0.1], ids=str)
def test_penalties_are_non_negative_numbers(name, value):
    for entry in (descend, fc.loss_and_grad):
        with pytest.raises((TypeError, ValueError), match=name):
            entry(NET, DATA, **{name: value})


@pytest.mark.parametrize("name", ["loss_target", "gradient_target", "wall_time"])
@pytest.mark.parametrize("value", [math.nan, math.inf, "0.1", 1j, True], ids=str)
def test_targets_are_numbers(name, value):
    with pytest.raises((TypeError, ValueError), match=name):
        descend(**{name: value})


@pytest.mark.parametrize("name", ["gradient_target", "wall_time"])
def test_these_targets_are_not_negative(name):
    with pytest.raises(ValueError, match=f"{name}=-1 must be >= 0"):
        descend(**{name: -1})


# --- names


@pytest.mark.parametrize("reduction", ["total", None, 1, "", np.array(["mean", "sum"]), []])
def test_reductions_are_mean_and_sum(reduction):
    for entry in (descend, fc.loss_and_grad):
        with pytest.raises(ValueError, match=r"reduction=.*'mean', 'sum'"):
            entry(NET, DATA, reduction=reduction)


@pytest.mark.parametrize("train", [(), "", "both", ("W", "b"), 5, None, "Wa", [["W"]]])
def test_train_names_layers(train):
    with pytest.raises(ValueError, match=r"train=.*'W', 'a' or both"):
        descend(train=train)


def test_train_names_a_layer_once():
    with pytest.raises(ValueError, match=r"train=\('W', 'W'\) names a layer twice"):
        descend(train=("W", "W"))


@pytest.mark.parametrize(
    "rates", [{"b": 1}, {"W": -1}, {"a": math.nan}, {"W": "1"}, {"W": True}, [1, 2], 2.0, "W"]
)
def test_layer_rates_are_non_negative_numbers_by_layer(rates):
    with pytest.raises((TypeError, ValueError), match="layer_rates"):
        descend(layer_rates=rates)


@pytest.mark.parametrize("observe", ["loss", "stable_rank", None, 5, observables.get("loss"), len])
def test_observe_is_a_list(observe):
    with pytest.raises(TypeError, match=r"observe=.*list, such as \['loss'\]"):
        descend(observe=observe)


@pytest.mark.parametrize(
    ("observable", "error", "message"),
    [
        ("los", ValueError, "observe: 'los' is unknown; choose from loss, "),
        ("", ValueError, "is unknown"),
        ("alignment", ValueError, r"call fc\.observables\.alignment\(\.\.\.\)"),
        ("cosines", ValueError, r"call fc\.observables\.cosines\(\.\.\.\)"),
        ("singular_values", ValueError, r"call fc\.observables\.singular_values\(\.\.\.\)"),
        (5, TypeError, "observe: 5 is neither"),
        (None, TypeError, "observe: None is neither"),
        (lambda net, data: 0.0, ValueError, "pass name= for a lambda"),
        ("clean_accuracy", ValueError, "clean_accuracy.*'(train|data)' has none.*clean_y"),
        (
            observables.cosines(np.eye(2)),
            ValueError,
            "'cosines' have dimension 2 and the network 3",
        ),
    ],
)
def test_observables_are_known_and_fit(observable, error, message):
    with pytest.raises(error, match=message):
        descend(observe=["norms", observable])
    with pytest.raises(error, match=message):
        observables.evaluate(observable, NET, DATA)


@pytest.mark.parametrize("name", ["patterns", "dead"])
def test_patterns_need_a_homogeneous_activation(name):
    smooth = fc.TwoLayerNet(W, A, "tanh")
    with pytest.raises(ValueError, match=rf"'{name}'.*Tanh\(\).*needs ReLU or leaky ReLU"):
        descend(smooth, observe=[name])
    with pytest.raises(ValueError, match="needs ReLU or leaky ReLU"):
        observables.evaluate(name, smooth, DATA)


@pytest.mark.parametrize("name", ["accuracy", "margin", "normalised_margin", "margins"])
def test_classification_observables_need_labels_of_plus_and_minus_one(name):
    other = fc.Dataset(X, 2 * Y)
    with pytest.raises(ValueError, match=rf"'{name}' needs labels -1 or \+1; 'train' has others"):
        descend(NET, other, "squared", observe=[name])
    with pytest.raises(ValueError, match=f"'{name}' needs labels"):
        observables.evaluate(name, NET, other, "squared")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: observables.cosines(np.zeros(3)), r"directions\[0\] is zero"),
        (lambda: observables.cosines(np.diag([1.0, 0, 1])), r"directions\[1\] is zero"),
        (lambda: observables.cosines(np.eye(3), labels=["a"]), "labels has 1 names for 3"),
        (lambda: observables.cosines(np.eye(2), labels=[1, 2]), "labels"),
        (lambda: observables.alignment(np.eye(3), absolute=1), "absolute=1"),
        (lambda: observables.alignment([1j]), "directions is complex"),
        (lambda: observables.singular_values(0), "count=0"),
        (lambda: observables.singular_values(1.5), "count=1.5"),
        (lambda: observables.custom("loss"), "function='loss'"),
        (lambda: observables.custom(len, dims="neuron"), "dims='neuron'"),
        (lambda: observables.custom(len, per_split=1), "per_split=1"),
    ],
)
def test_arguments_of_observables_are_named(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("record", [20, "log", [1, 2], fc.Recording])
def test_record_is_a_recording(record):
    with pytest.raises(TypeError, match=r"record=.*Recording\.log"):
        descend(record=record)


@pytest.mark.parametrize("how", ["ignore", None, True])
def test_on_interrupt_is_raise_or_return(how):
    with pytest.raises(ValueError, match=r"on_interrupt=.*'raise', 'return'"):
        descend(on_interrupt=how)


# --- scales below the smallest number


def test_a_log_scale_that_fits_is_multiplied_in():
    scaled = fc.TwoLayerNet(W, A, log_scale=math.log(1e-3))
    factor = np.exp(math.log(1e-3))
    plain = fc.TwoLayerNet(factor * W, factor * A)
    one, other = descend(scaled), descend(plain)
    np.testing.assert_array_equal(one.net.W, other.net.W)
    np.testing.assert_array_equal(one.history.loss, other.history.loss)
    assert fc.loss_and_grad(scaled, DATA)[0] == fc.loss_and_grad(plain, DATA)[0]
    np.testing.assert_array_equal(scaled(X), plain(X))


@entries
@pytest.mark.parametrize("log_scale", [-1000.0, 1000.0, np.linspace(-800, 0, M)])
def test_a_log_scale_that_does_not_fit_is_refused_rather_than_zero(entry, log_scale, request):
    net = fc.TwoLayerNet(W, A, log_scale=log_scale)
    if "evaluate" in request.node.callspec.id and np.max(log_scale) <= 0:
        # the loss takes the outputs as they are: right to rounding where some of them underflow
        heard = fc.TwoLayerNet(W[-1:], A[-1:], log_scale=np.max(log_scale))
        expected = (
            math.log(2) if np.max(log_scale) < 0 else fc.reference.observables["loss"](heard, DATA)
        )
        assert entry(net, DATA) == pytest.approx(expected, rel=1e-15)
        return
    with pytest.raises(ValueError, match=r"log_scale between .* cannot be held"):
        entry(net, DATA)


def test_float32_holds_fewer_scales():
    net = fc.TwoLayerNet(W, A, log_scale=-50.0)
    assert descend(net).outcome.status == "reached_end"
    with pytest.raises(ValueError, match=r"log_scale.*float32"):
        descend(net.astype(np.float32), DATA.astype(np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, with_entry(np.zeros(M), np.nan)])
def test_a_log_scale_is_finite(value):
    with pytest.raises(ValueError, match=r"log_scale.*remove or replace"):
        fc.TwoLayerNet(W, A, log_scale=value)


# --- what the rooms below do not name yet


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: fc.Dataset([[1.0], [1.0, 2.0]], [1, -1]), "x"),
        (lambda: fc.TwoLayerNet([[1.0], [1.0, 2.0]], [1, -1]), "W"),
        (lambda: fc.TwoLayerNet(W, A, log_scale=[1.0, 2.0]), "log_scale"),
        (lambda: fc.TwoLayerNet(W, A, log_scale="small"), "log_scale"),
        (lambda: fc.TwoLayerNet(W, A, log_scale=1j), "log_scale"),
        (lambda: fc.Dataset(X, Y, provenance=5), "provenance"),
        (lambda: fc.TwoLayerNet(W, A, ["relu"]), "activation"),
        (lambda: fc.loss_and_grad(NET, DATA, ["logistic"]), "loss="),
        (lambda: fc.Dataset(X, Y, flipped=np.ma.masked_array(np.ones(N, bool))), "flipped"),
    ],
)
def test_these_are_named_too(make, name):
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}"):
        make()


# --- frozen things


def test_networks_and_data_are_frozen():
    for thing, attribute in ((NET, "W"), (DATA, "x")):
        with pytest.raises(AttributeError):
            setattr(thing, attribute, X)
        with pytest.raises(ValueError, match="read-only"):
            getattr(thing, attribute)[0, 0] = 1.0
    with pytest.raises(TypeError):
        DATA.provenance["seed"] = 1
    assert copy.deepcopy(NET).sha256() == NET.sha256()


@pytest.mark.parametrize("weight", [1e308, 1e-310])
def test_weights_whose_sum_cannot_be_divided_by_are_refused(weight):
    with pytest.raises(ValueError, match=r"weights sum to .*rescale"):
        fc.Dataset(X, Y, weights=np.full(N, weight))


def test_clean_accuracy_needs_clean_labels_of_one():
    data = fc.Dataset(X, Y, clean_y=np.zeros(N))
    with pytest.raises(ValueError, match=r"clean_y.*labels -1 or \+1"):
        fc.observables.evaluate("clean_accuracy", NET, data)


def test_integers_that_float64_cannot_hold_are_refused():
    with pytest.raises(TypeError, match=r"x has integers above 2\*\*53"):
        fc.Dataset([[2**60 + 1]], [1])


def test_other_clean_labels_are_other_data():
    flipped = fc.Dataset(X, Y, clean_y=-Y)
    assert flipped.sha256() != fc.Dataset(X, Y, clean_y=Y).sha256()
