"""Whatever holds the numbers, the result is that of the contiguous array, or an error that names it."""

import math

import numpy as np
import pytest
from _strategies import make_data, make_net

import featcore as fc

N, D, M = 37, 19, 70


def fortran(array):
    return np.asfortranarray(array)


def strided(array):
    wide = np.full(tuple(2 * k for k in array.shape), np.nan)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def reversed_(array):
    flip = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[flip])[flip]


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def swapped(array):
    return array.astype(array.dtype.newbyteorder())


def broadcast(array):
    return np.broadcast_to(array, array.shape)


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def field_of_a_record(array):
    record = np.zeros(array.shape, dtype=[("other", "u1"), ("it", array.dtype)])
    record["it"] = array
    return record["it"]


def subclass(array):
    class Labelled(np.ndarray):
        pass

    return array.view(Labelled)


LAYOUTS = [
    fortran,
    strided,
    reversed_,
    read_only,
    swapped,
    broadcast,
    unaligned,
    field_of_a_record,
    subclass,
    np.ndarray.tolist,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_bits_of_the_contiguous_array(layout):
    net = make_net(M, D, 0, activation=fc.ReLU())
    data = make_data(N, D, 1, weighted=True)
    value, gradient = fc.loss_and_grad(net, data)
    other_data = fc.Dataset(layout(data.x), layout(data.y), weights=layout(data.weights))
    for copy in (True, False):
        other_net = fc.TwoLayerNet(layout(net.W), layout(net.a), copy=copy)
        for array in (other_net.W, other_net.a, other_data.x, other_data.y, other_data.weights):
            assert array.flags.c_contiguous
            assert array.flags.aligned
            assert array.dtype == np.dtype(np.float64)
            assert array.dtype.isnative
            assert type(array) is np.ndarray
            assert not array.flags.writeable
        other_value, other = fc.loss_and_grad(other_net, other_data)
        assert value == other_value
        np.testing.assert_array_equal(gradient.W, other.W)
        np.testing.assert_array_equal(gradient.a, other.a)
        np.testing.assert_array_equal(other_net(layout(data.x)), net(data.x))
    assert other_data.sha256() == data.sha256()
    assert other_net.sha256() == net.sha256()


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint8, bool])
def test_integers_become_float64(kind):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (6, 3)).astype(kind)
    y = np.ones(6, kind)
    data = fc.Dataset(x, y)
    assert data.dtype == data.y.dtype == np.float64
    np.testing.assert_array_equal(data.x, x)
    net = fc.TwoLayerNet(x, y)
    assert net.dtype == np.float64
    np.testing.assert_array_equal(net(x), net(x.astype(np.float64)))


def test_float32_stays_and_takes_only_what_fits():
    x = np.ones((2, 2), np.float32)
    data = fc.Dataset(x, [1, -1], weights=[0.5, 0.25], clean_y=np.array([1.0, 1.0]))
    assert {v.dtype for v in (data.x, data.y, data.weights, data.clean_y)} == {np.dtype("f4")}
    for name, kwargs in {
        "y": {"y": [1, 0.1]},
        "weights": {"y": [1, 1], "weights": [0.1, 1]},
    }.items():
        with pytest.raises(TypeError, match=f"{name} .*float32"):
            fc.Dataset(x, **kwargs)
    with pytest.raises(TypeError, match="a is float64"):
        fc.TwoLayerNet(x, [0.1, 0.2])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dataset_refers_to_contiguous_floats(dtype):
    x, y, w = np.ones((4, 3), dtype), np.ones(4, dtype), np.ones(4, dtype)
    data = fc.Dataset(x, y, clean_y=y, weights=w)
    for held, given in ((data.x, x), (data.y, y), (data.clean_y, y), (data.weights, w)):
        assert np.shares_memory(held, given)
        assert given.flags.writeable
        assert not held.flags.writeable


def test_network_copies_unless_told_otherwise():
    W, a = np.ones((4, 3)), np.ones(4)
    net = fc.TwoLayerNet(W, a)
    assert not np.shares_memory(net.W, W)
    assert not np.shares_memory(net.a, a)
    W[:] = a[:] = 7
    assert net.W.max() == net.a.max() == 1
    net = fc.TwoLayerNet(W, a, copy=False)
    assert np.shares_memory(net.W, W)
    assert np.shares_memory(net.a, a)
    assert W.flags.writeable


def test_inputs_are_never_written_to():
    net = make_net(M, D, 0, activation=fc.Tanh())
    data = make_data(N, D, 1, weighted=True)
    before = net.sha256(), data.sha256()
    fc.loss_and_grad(net, data, weight_decay=0.1, output_penalty=0.1)
    fc.observables.evaluate("stable_rank", net, data)
    assert (net.sha256(), data.sha256()) == before


# --- what is refused

REFUSED = [
    (lambda v: np.ma.masked_array(v, v > 0), TypeError, "masked"),
    (lambda v: v.astype(complex), TypeError, "complex"),
    (lambda v: v.astype(object), TypeError, "object"),
    (lambda v: v.astype(str), TypeError, "<U"),
    (lambda v: v.astype(np.float16), TypeError, "float16"),
    (lambda v: v.astype(np.longdouble), TypeError, "float128|longdouble"),
    (lambda v: v.astype("m8[s]"), TypeError, "timedelta"),
    (lambda _: None, TypeError, "object"),
    (lambda v: v[..., None], ValueError, "shape"),
    (lambda v: v[0], ValueError, "shape"),
    (lambda v: v[:0], ValueError, "empty|shape"),
    (lambda v: np.where(np.arange(v.size).reshape(v.shape) == 1, np.nan, v), ValueError, "nan"),
    (lambda v: np.where(np.arange(v.size).reshape(v.shape) == 1, np.inf, v), ValueError, "inf"),
    (lambda v: np.where(np.arange(v.size).reshape(v.shape) == 1, -np.inf, v), ValueError, "inf"),
]
MATRIX, VECTOR = np.ones((4, 3)), np.ones(4)
ARGUMENTS = {
    "x": (MATRIX, lambda v: fc.Dataset(v, VECTOR)),
    "y": (VECTOR, lambda v: fc.Dataset(MATRIX, v)),
    "clean_y": (VECTOR, lambda v: fc.Dataset(MATRIX, VECTOR, clean_y=v)),
    "means": (MATRIX, lambda v: fc.Dataset(MATRIX, VECTOR, means=v)),
    "weights": (VECTOR, lambda v: fc.Dataset(MATRIX, VECTOR, weights=v)),
    "W": (MATRIX, lambda v: fc.TwoLayerNet(v, VECTOR)),
    "a": (VECTOR, lambda v: fc.TwoLayerNet(MATRIX, v)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(("spoil", "error", "words"), REFUSED)
def test_bad_arrays_are_named(name, spoil, error, words):
    good, build = ARGUMENTS[name]
    build(good)
    value = spoil(good)
    if value is None and name in ("clean_y", "means", "weights"):
        return  # the default
    with pytest.raises(error, match=rf"^{name} (?s:.*)({words})"):
        build(value)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_wrong_lengths_are_named(name):
    good, build = ARGUMENTS[name]
    with pytest.raises(ValueError, match=r"(W|a|x|y|clean_y|means|weights) has shape"):
        build(np.vstack([good, good])[:, :2] if good.ndim == 2 else np.tile(good, 2))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_ragged_lists_are_named(name):
    _, build = ARGUMENTS[name]
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b"):
        build([[1.0, 2.0, 3.0], [1.0], [2.0], [3.0]])


@pytest.mark.parametrize("weights", [[-1, 1, 1, 1], [0, 0, 0, 0]])
def test_weights_must_weigh(weights):
    with pytest.raises(ValueError, match="weights must be non-negative with a positive sum"):
        fc.Dataset(MATRIX, VECTOR, weights=weights)


@pytest.mark.parametrize(
    "value", [np.full((1, 3), math.nan), np.ones((1, 3), complex), [["a"] * 3]]
)
def test_samples_to_predict_are_checked(value):
    with pytest.raises((TypeError, ValueError), match=r"^x "):
        fc.TwoLayerNet(MATRIX, VECTOR)(value)
