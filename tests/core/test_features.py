"""Features σ(W x): the compiled core against numpy, for all activations, shapes, layouts and threads."""

import numpy as np
import pytest
from _strategies import ACTIVATIONS, EDGES, THREADS, make_net
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import _dispatch, reference

ALL = (
    *ACTIVATIONS,
    fc.ReLU().centred(),
    fc.LeakyReLU(-0.5).centred(),
    fc.GELU().centred(),
    fc.Softplus().centred(),
    fc.Hermite([0.3, 1.0, -0.5, 0.1]),
    fc.Hermite([2.0]),
)
sizes = st.one_of(st.integers(1, 12), st.sampled_from(EDGES))


def assert_agrees(F, net, x):
    """Assert equality to the rounding of a sum of d products, carried through σ."""
    assert F.dtype == net.dtype
    expected = reference.features(net.W, x, net.activation)
    assert F.shape == expected.shape == (len(x), net.width)
    eps = np.finfo(net.dtype).eps
    W, x = net.W.astype(np.float64), np.asarray(x, np.float64)
    terms = np.abs(x) @ np.abs(W).T
    z = x @ W.T
    # of σ between z and what rounding may make of it; kinks have two slopes
    slopes = np.max(
        [np.abs(net.activation.derivative(z + s * 4 * eps * terms)) for s in (-1, 0, 1)], axis=0
    )
    # Clenshaw's sums are as large as these
    series = getattr(net.activation, "coefficients", ())
    size = sum(abs(c) * (1 + np.abs(z)) ** k for k, c in enumerate(series))
    tolerance = (4 + np.sqrt(net.dim)) * eps * (slopes * terms + np.abs(expected) + 1 + 4 * size)
    assert (np.abs(F - expected) <= tolerance).all()


@settings(max_examples=70)
@given(
    n=sizes,
    d=sizes,
    m=sizes,
    sigma=st.sampled_from(ALL),
    dtype=st.sampled_from((np.float64, np.float32)),
    seed=st.integers(0, 2**32 - 1),
)
def test_features_are_those_of_the_reference_on_any_number_of_threads(n, d, m, sigma, dtype, seed):
    net = make_net(m, d, seed, activation=sigma, dtype=dtype)
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(dtype)
    F = fc.features(net, x, num_threads=1)
    assert_agrees(F, net, x)
    for threads in THREADS[1:]:
        np.testing.assert_array_equal(F, fc.features(net, x, num_threads=threads))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "d", "m"), [(97, 1500, 130), (1, 3000, 1), (400, 1, 259)])
def test_features_across_the_edges_of_blocks_of_inputs(n, d, m, dtype):
    for sigma in (fc.ReLU(), fc.Erf()):
        net = make_net(m, d, 3, activation=sigma, dtype=dtype)
        x = np.random.default_rng(4).standard_normal((n, d)).astype(dtype)
        F = fc.features(net, x, num_threads=1)
        assert_agrees(F, net, x)
        np.testing.assert_array_equal(F, fc.features(net, x, num_threads=3))


@pytest.mark.parametrize("sigma", ALL, ids=repr)
def test_the_head_sees_the_features(sigma):
    # Two kernels, one definition.
    net = make_net(70, 9, 5, activation=sigma)
    x = np.random.default_rng(6).standard_normal((40, 9))
    np.testing.assert_allclose(fc.features(net, x) @ net.a, net(x), rtol=1e-12, atol=1e-12)


def test_any_layout_gives_the_same_bits():
    net = make_net(33, 6, 1, activation=fc.Tanh())
    x = np.random.default_rng(2).standard_normal((21, 6))
    F = fc.features(net, x)
    wide = np.zeros((42, 12))
    wide[::2, ::2] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (np.asfortranarray(x), wide[::2, ::2], read_only, x.astype(">f8"), x.tolist()):
        np.testing.assert_array_equal(fc.features(net, other), F)
    integers = np.arange(12).reshape(2, 6)
    np.testing.assert_array_equal(
        fc.features(net, integers), fc.features(net, integers.astype(np.float64))
    )


def test_no_samples_have_no_features():
    net = make_net(5, 3, 0, activation=fc.ReLU(), dtype=np.float32)
    F = fc.features(net, np.zeros((0, 3), np.float32))
    assert F.shape == (0, 5)
    assert F.dtype == np.float32


def test_a_log_scale_is_absorbed():
    net = make_net(5, 3, 0, activation=fc.Tanh())
    scaled = fc.TwoLayerNet(net.W, net.a, net.activation, log_scale=np.log(2.0))
    x = np.random.default_rng(1).standard_normal((4, 3))
    twice = fc.TwoLayerNet(2.0 * net.W, net.a, net.activation)
    np.testing.assert_allclose(fc.features(scaled, x), fc.features(twice, x), rtol=1e-14)
    tiny = fc.TwoLayerNet(net.W, net.a, net.activation, log_scale=-1e4)
    with pytest.raises(ValueError, match="log_scale"):
        fc.features(tiny, x)


def test_relu_features_are_homogeneous_and_hermite_features_are_polynomials():
    net = make_net(20, 4, 0, activation=fc.ReLU())
    x = np.random.default_rng(1).standard_normal((30, 4))
    np.testing.assert_array_equal(fc.features(net, 2.0 * x), 2.0 * fc.features(net, x))
    z = x @ net.W.T
    cubic = fc.TwoLayerNet(net.W, net.a, fc.Hermite([0, 0, 0, 1]))
    np.testing.assert_allclose(fc.features(cubic, x), z**3 - 3 * z, atol=1e-12)


def test_wrong_samples_are_refused():
    net = make_net(5, 3, 0, activation=fc.ReLU())
    for x, message in (
        (np.zeros((2, 4)), r"takes \(n, 3\)"),
        (np.zeros(3), "must have 2 axes"),
        (np.full((2, 3), np.nan), "non-finite"),
    ):
        with pytest.raises(ValueError, match=message):
            fc.features(net, x)
    with pytest.raises(TypeError, match="lose digits"):
        fc.features(net.astype(np.float32), np.full((1, 3), 0.1))
    with pytest.raises(TypeError, match="net is a list"):
        fc.features([1], np.zeros((1, 3)))


def test_features_that_do_not_fit_are_refused_with_the_number(monkeypatch):
    monkeypatch.setattr(_dispatch, "free_memory", lambda: 2.0**24 + 2.0**20)
    net = fc.TwoLayerNet(np.ones((2000, 2)), np.ones(2000))
    with pytest.raises(
        MemoryError, match=r"n=3000, m=2000, float64\) needs 0.06\d* GiB and 0.0166"
    ):
        fc.features(net, np.ones((3000, 2)))
    assert fc.features(net, np.ones((1, 2))).shape == (1, 2000)
