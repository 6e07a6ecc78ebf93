"""`TwoLayerNet`: initialisers, immutability, scale, identity."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

import featcore as fc
from featcore.network import HEADS, Gradient

# --- initialisers


@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0])
def test_entries_of_W_are_normal_with_this_scale(scale):
    W = fc.TwoLayerNet.gaussian(500, 400, scale, seed=3).W / scale
    n = W.size
    # Standard errors of the moments of n normal numbers; five of them.
    assert abs(W.mean()) <= 5 / math.sqrt(n)
    assert abs((W**2).mean() - 1) <= 5 * math.sqrt(2 / n)
    assert abs((W**3).mean()) <= 5 * math.sqrt(15 / n)
    assert abs((W**4).mean() - 3) <= 5 * math.sqrt(96 / n)
    # Rows and columns are uncorrelated: correlations have standard deviation 1/√length.
    assert abs(np.corrcoef(W)[np.triu_indices(500, 1)]).max() <= 6 / math.sqrt(400)


@pytest.mark.parametrize("width", [1, 2, 7, 200])
def test_alternating_head_is_exactly_half_positive(width):
    a = fc.TwoLayerNet.gaussian(width, 3, 1.0, "alternating", seed=1).a
    np.testing.assert_allclose(np.abs(a), 1 / math.sqrt(width), rtol=1e-15)
    assert (a > 0).sum() == (width + 1) // 2
    np.testing.assert_array_equal(np.sign(a[:4]), [1, -1, 1, -1][:width])


def test_rademacher_head_has_random_signs():
    a = fc.TwoLayerNet.gaussian(10_000, 2, 1.0, "rademacher", seed=1).a
    np.testing.assert_allclose(np.abs(a), 0.01, rtol=1e-14)
    assert abs(np.sign(a).mean()) <= 5 / math.sqrt(10_000)
    assert abs(np.mean(np.sign(a[1:] * a[:-1]))) <= 5 / math.sqrt(9_999)


def test_gaussian_head_has_the_scale_of_W():
    a = fc.TwoLayerNet.gaussian(10_000, 2, 0.01, "gaussian", seed=1).a / 0.01
    assert abs(a.mean()) <= 5 / math.sqrt(10_000)
    assert abs((a**2).mean() - 1) <= 5 * math.sqrt(2 / 10_000)


def test_balanced_head_has_the_norms_of_the_neurons():
    net = fc.TwoLayerNet.balanced(5000, 7, 1e-3, seed=2)
    np.testing.assert_allclose(np.abs(net.a), np.linalg.norm(net.W, axis=1), rtol=1e-14)
    assert abs(np.sign(net.a).mean()) <= 5 / math.sqrt(5000)
    same = fc.TwoLayerNet.gaussian(5000, 7, 1e-3, "balanced", seed=2)
    assert same.sha256() == net.sha256()


def test_W_does_not_depend_on_the_head_and_neither_on_the_activation():
    nets = [fc.TwoLayerNet.gaussian(20, 5, 0.1, head, seed=4) for head in HEADS]
    nets.append(fc.TwoLayerNet.gaussian(20, 5, 0.1, activation="tanh", seed=4))
    for net in nets[1:]:
        np.testing.assert_array_equal(net.W, nets[0].W)
    # … nor does the head on W: balanced and rademacher signs are the same draw.
    np.testing.assert_array_equal(np.sign(nets[0].a), np.sign(nets[3].a))
    # The scale multiplies one and the same draw.
    np.testing.assert_array_equal(fc.TwoLayerNet.gaussian(20, 5, 0.2, seed=4).W, 2 * nets[0].W)


@pytest.mark.parametrize("head", HEADS)
def test_seeds(head):
    def draw(seed):
        return fc.TwoLayerNet.gaussian(30, 5, 1.0, head, seed=seed)

    assert draw(7).sha256() == draw(7).sha256() == draw(np.random.SeedSequence(7)).sha256()
    assert draw(7).sha256() != draw(8).sha256()
    children = np.random.SeedSequence(7).spawn(2)
    assert len({draw(s).sha256() for s in (7, *children)}) == 3
    net = draw(7)
    correlation = np.corrcoef(net.W.ravel(), draw(8).W.ravel())[0, 1]
    assert abs(correlation) <= 5 / math.sqrt(150)


def test_seed_is_not_spent_by_drawing():
    seed = np.random.SeedSequence(3)
    assert (
        fc.TwoLayerNet.gaussian(4, 3, 1.0, seed=seed).sha256()
        == fc.TwoLayerNet.gaussian(4, 3, 1.0, seed=seed).sha256()
    )
    assert seed.n_children_spawned == 0


def test_float32_is_the_rounded_float64():
    one = fc.TwoLayerNet.gaussian(20, 5, 0.1, "balanced", seed=4)
    other = fc.TwoLayerNet.gaussian(20, 5, 0.1, "balanced", seed=4, dtype=np.float32)
    assert other.dtype == other.a.dtype == np.float32
    np.testing.assert_array_equal(other.W, one.W.astype(np.float32))
    np.testing.assert_array_equal(other.a, one.a.astype(np.float32))
    assert other.sha256() == one.astype("float32").sha256()


@pytest.mark.parametrize(
    ("change", "error", "name"),
    [
        ({"width": 0}, ValueError, "width"),
        ({"width": 2.0}, TypeError, "width"),
        ({"width": True}, TypeError, "width"),
        ({"dim": -1}, ValueError, "dim"),
        ({"scale": 0.0}, ValueError, "scale"),
        ({"scale": -1.0}, ValueError, "scale"),
        ({"scale": math.nan}, ValueError, "scale"),
        ({"scale": "1"}, TypeError, "scale"),
        ({"scale": 1e-320}, ValueError, "scale=.*log_scale"),
        ({"scale": 1e-36, "dtype": np.float32}, ValueError, "scale=.*log_scale"),
        ({"scale": 1e39, "dtype": np.float32}, ValueError, "scale"),
        ({"scale": 1.79e308}, ValueError, "scale"),
        ({"head": "random"}, ValueError, "head='random' is unknown"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": 1.5}, TypeError, "seed"),
        ({"seed": None}, TypeError, "seed"),
        ({"activation": "relu6"}, ValueError, "activation"),
        ({"dtype": np.float16}, TypeError, "dtype"),
        ({"dtype": int}, TypeError, "dtype"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_arguments_are_named(change, error, name):
    with pytest.raises(error, match=name):
        fc.TwoLayerNet.gaussian(**{"width": 4, "dim": 3, "scale": 1.0, **change})


# --- frozen


def net():
    return fc.TwoLayerNet.gaussian(6, 4, 0.5, seed=1, activation=fc.LeakyReLU(0.2))


def scaled():
    return fc.TwoLayerNet(net().W, net().a, log_scale=np.linspace(-1000, 0, 6))


def test_nothing_can_be_assigned():
    n = scaled()
    for name in ("W", "a", "activation", "log_scale", "new"):
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            setattr(n, name, None)
    for array in (n.W, n.a, n.log_scale):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        del n.W


def test_log_scale_is_copied():
    log_scale = np.zeros(6)
    n = fc.TwoLayerNet(net().W, net().a, log_scale=log_scale)
    log_scale[:] = 5
    np.testing.assert_array_equal(n.log_scale, 0)
    np.testing.assert_array_equal(
        fc.TwoLayerNet(net().W, net().a, log_scale=-3).log_scale, [-3.0] * 6
    )


@pytest.mark.parametrize("make", [net, scaled, lambda: net().astype(np.float32)])
@pytest.mark.parametrize(
    "again", [lambda n: pickle.loads(pickle.dumps(n)), copy.copy, copy.deepcopy]
)
def test_pickle_and_copy_round_trip(make, again):
    n = make()
    other = again(n)
    assert other.sha256() == n.sha256()
    assert other.activation == n.activation
    assert other.dtype == n.dtype
    assert not other.W.flags.writeable


def test_gradient_round_trip():
    gradient = Gradient(np.full((2, 2), 3.0), np.array([4.0, 0.0]))
    assert gradient.norm == pytest.approx(math.sqrt(36 + 16), rel=1e-15)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(gradient)).W, gradient.W)


def test_repr():
    assert repr(net()) == "TwoLayerNet(width=6, dim=4, LeakyReLU(negative_slope=0.2), float64)"
    assert repr(scaled()) == "TwoLayerNet(width=6, dim=4, ReLU(), float64, log_scale)"
    assert repr(net().astype("f4")).endswith("float32)")


# --- log_scale


def test_absorbed_is_the_same_function():
    n = fc.TwoLayerNet(net().W, net().a, log_scale=np.linspace(-2, 2, 6))
    absorbed = n.absorbed()
    assert absorbed.log_scale is None
    factor = np.exp(np.linspace(-2, 2, 6))
    np.testing.assert_allclose(absorbed.W, factor[:, None] * n.W, rtol=1e-15)
    np.testing.assert_allclose(absorbed.a, factor * n.a, rtol=1e-15)
    x = np.random.default_rng(0).standard_normal((9, 4))
    np.testing.assert_allclose(n(x), absorbed(x), rtol=1e-15)
    assert net().absorbed().sha256() == net().sha256()


@pytest.mark.parametrize("log_scale", [-400, -1000.0, -np.inf, 400, [0, 0, 0, 0, 0, -500]])
def test_scales_that_weights_cannot_hold_are_refused(log_scale):
    n = fc.TwoLayerNet(net().W, net().a, log_scale=log_scale)
    with pytest.raises(ValueError, match="log_scale between"):
        n.absorbed()
    if np.ndim(log_scale) == 0:  # else the others can be heard: see test_flow_vanishing.py
        with pytest.raises(ValueError, match="log_scale between"):
            n(np.ones((1, 4)))


def test_absorbing_does_not_lose_weights_silently():
    # exp(-300) is fine by itself, but not times 1e-200.
    n = fc.TwoLayerNet([[1e-200]], [1.0], log_scale=-300.0)
    with pytest.raises(ValueError, match="log_scale"):
        n.absorbed()
    n = fc.TwoLayerNet([[1e200]], [1.0], log_scale=300.0)
    with pytest.raises(ValueError, match="log_scale"):
        n.absorbed()


def test_float32_holds_less():
    n = fc.TwoLayerNet(net().W, net().a, log_scale=-60.0)
    n.absorbed()
    with pytest.raises(ValueError, match="float32"):
        n.astype(np.float32).absorbed()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("log_scale", "error"),
    [
        (np.nan, ValueError),
        (np.inf, ValueError),
        ([0.0, 1.0], ValueError),
        (np.zeros((6, 2)), ValueError),
        ("small", (TypeError, ValueError)),
        (1j, (TypeError, ValueError)),
        (np.ma.masked_array(np.zeros(6), [1] * 6), TypeError),
    ],
)
def test_bad_log_scale_is_named(log_scale, error):
    with pytest.raises(error, match="log_scale"):
        fc.TwoLayerNet(net().W, net().a, log_scale=log_scale)


# --- identity


def test_sha256_tells_networks_apart():
    n = net()
    W, a = n.W.copy(), n.a.copy()
    W[0, 0] = np.nextafter(W[0, 0], 1)
    others = [
        fc.TwoLayerNet(W, n.a, n.activation),
        fc.TwoLayerNet(n.W, -a, n.activation),
        fc.TwoLayerNet(n.W, n.a, fc.LeakyReLU(0.3)),
        fc.TwoLayerNet(n.W, n.a, n.activation, log_scale=0.0),
        fc.TwoLayerNet(n.W, n.a, n.activation, log_scale=1.0),
        n.astype(np.float32),
        fc.TwoLayerNet(n.W.reshape(6, 4)[:, ::-1], n.a, n.activation),
    ]
    assert len({v.sha256() for v in (n, *others)}) == 8
    assert fc.TwoLayerNet(np.asfortranarray(n.W), n.a, n.activation).sha256() == n.sha256()


def test_shape_and_dtype():
    n = net()
    assert (n.width, n.dim, n.dtype) == (6, 4, np.dtype(np.float64))
    assert n.astype(np.float64) is n
    for dtype in (np.float16, int, complex):
        with pytest.raises(TypeError, match="dtype"):
            n.astype(dtype)


def test_shapes_must_match():
    with pytest.raises(ValueError, match=r"a has shape \(5,\); W has 6 neurons"):
        fc.TwoLayerNet(net().W, np.ones(5))
