"""Single- and multi-index data: laws, links, directions, provenance."""

import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import featcore as fc
from featcore.data import link, multi_index, single_index


def test_labels_are_the_link_of_the_projection():
    for teacher, value in (
        ("H1", lambda z: z),
        ("H2", lambda z: z**2 - 1),
        ("H3", lambda z: z**3 - 3 * z),
        ("tanh", np.tanh),
        ("relu", lambda z: np.maximum(z, 0)),
        ([0, 1, 1 / math.sqrt(2)], lambda z: z + (z**2 - 1) / math.sqrt(2)),
        (fc.ReLU().centred(), lambda z: np.maximum(z, 0) - 1 / math.sqrt(2 * math.pi)),
        (np.sin, np.sin),
    ):
        data = single_index(30, 6, teacher, noise=0.5, seed=3)
        z = data.x @ data.means[0]
        np.testing.assert_allclose(data.clean_y, value(z), atol=1e-13)
        assert data.means.shape == (1, 6)
        assert np.linalg.norm(data.means[0]) == pytest.approx(1, abs=1e-14)


def test_the_law():
    n, d = 40_000, 5
    data = single_index(n, d, "H2", noise=0.7, seed=1)
    error = 5 / math.sqrt(n)
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=error)
    np.testing.assert_allclose(data.x.T @ data.x / n, np.eye(d), atol=error * math.sqrt(2))
    noise = data.y - data.clean_y
    assert noise.std() == pytest.approx(0.7, abs=0.7 * error / math.sqrt(2))
    assert noise.mean() == pytest.approx(0, abs=0.7 * error)
    assert np.corrcoef(noise, data.clean_y)[0, 1] == pytest.approx(0, abs=error)
    # E (He_2)² = 2, with the fourth moment E(He_2)⁴ = 60 setting the error
    assert np.mean(data.clean_y**2) == pytest.approx(2, abs=error * math.sqrt(56))


def test_directions_are_uniform():
    betas = np.array([single_index(1, 3, seed=seed).means[0] for seed in range(800)])
    # E β = 0, E ββᵀ = I/3, E β_k⁴ = 3/(d(d+2)) = 1/5
    np.testing.assert_allclose(betas.mean(axis=0), 0, atol=5 * math.sqrt(1 / 3 / 800))
    spread = math.sqrt((1 / 5 - 1 / 9) / 800)
    np.testing.assert_allclose((betas**2).mean(axis=0), 1 / 3, atol=5 * spread)
    assert (betas[:, 0] < 0).mean() == pytest.approx(0.5, abs=2.5 / math.sqrt(800))


def test_streams_are_apart():
    base = single_index(20, 4, "tanh", noise=0.3, seed=5)
    more = single_index(30, 4, "H1", noise=1.0, seed=5)
    np.testing.assert_array_equal(more.x[:20], base.x)
    np.testing.assert_array_equal(more.means, base.means)
    given_ = single_index(20, 4, "tanh", noise=0.3, direction=[0, 0, 1, 0], seed=5)
    np.testing.assert_array_equal(given_.x, base.x)
    np.testing.assert_allclose(given_.y - given_.clean_y, base.y - base.clean_y, atol=1e-15)
    clean = single_index(20, 4, "tanh", seed=5)
    np.testing.assert_array_equal(clean.y, base.clean_y)
    test = single_index(20, 4, "tanh", direction=base.means[0], seed=6)
    np.testing.assert_array_equal(test.means, base.means)
    assert not np.isin(test.x, base.x).any()


def test_single_precision_is_the_same_rounded():
    double = single_index(9, 4, "H2", noise=0.1, seed=2)
    single = single_index(9, 4, "H2", noise=0.1, seed=2, dtype=np.float32)
    assert single.sha256() == double.astype(np.float32).sha256()
    # its direction, rounded, may be given again
    assert single_index(3, 4, direction=single.means[0]).n == 3


def test_a_single_index_is_a_multi_index():
    for teacher in ("tanh", [0.0, 1.0, 0.5]):
        one = single_index(15, 6, teacher, noise=0.2, seed=4)
        many = multi_index(15, 6, [teacher], noise=0.2, seed=4)
        assert one.sha256() == many.sha256()
        np.testing.assert_array_equal(one.means, many.means)


def test_multi_index_of_links_and_of_a_function():
    data = multi_index(25, 8, ["H1", "H2", np.tanh], noise=0.1, seed=0)
    z = data.x @ data.means.T
    np.testing.assert_allclose(
        data.clean_y, z[:, 0] + z[:, 1] ** 2 - 1 + np.tanh(z[:, 2]), atol=1e-13
    )
    stairs = multi_index(25, 8, lambda z: z[:, 0] * (1 + z[:, 1]), r=2, seed=0)
    z = stairs.x @ stairs.means.T
    np.testing.assert_allclose(stairs.clean_y, z[:, 0] + z[:, 0] * z[:, 1], atol=1e-13)
    np.testing.assert_array_equal(stairs.means, data.means[:2])


@given(r=st.integers(1, 9), d=st.integers(9, 12), seed=st.integers(0, 2**32))
def test_frames_are_orthonormal(r, d, seed):
    frame = multi_index(1, d, lambda z: z.sum(axis=1), r=r, seed=seed).means
    np.testing.assert_allclose(frame @ frame.T, np.eye(r), atol=1e-14)


def test_directions_given():
    frame = np.eye(5)[[4, 1]]
    data = multi_index(10, 5, ["H1", "H1"], directions=frame)
    np.testing.assert_allclose(data.clean_y, data.x[:, 4] + data.x[:, 1])
    np.testing.assert_array_equal(data.means, frame)


# --- links


def test_links():
    assert link("H1") == fc.Hermite([0, 1])
    assert link("H12").hermite_coefficients(12)[12] == 1
    assert link("erf") == fc.Erf()
    assert link([0, 1]) == fc.Hermite([0, 1])
    assert link(fc.Tanh()) == fc.Tanh()
    sine = link(np.sin)
    # E sin(Z) Z = E cos(Z) = e^{-1/2}; E sin² = (1 - e^{-2})/2
    assert sine.hermite_coefficients(1)[1] == pytest.approx(math.exp(-0.5), rel=1e-12)
    assert sine.second_moment() == pytest.approx((1 - math.exp(-2)) / 2, rel=1e-12)
    assert sine.mean() == pytest.approx(0, abs=1e-15)
    step = link(np.sign)
    assert step.hermite_coefficients(1)[1] == pytest.approx(math.sqrt(2 / math.pi), rel=1e-12)


def test_a_function_is_no_activation_of_a_network():
    with pytest.raises(TypeError, match="networks take"):
        fc.TwoLayerNet([[1.0]], [1.0], link(np.sin))


def test_bad_links():
    for bad, message in (
        ("sine", "link='sine' is unknown"),
        ("H", "link='H' is unknown"),
        ("H100", "link='H100' is unknown"),
        ([], "coefficients is empty"),
        ([1.0, np.nan], r"coefficients\[1\]=nan must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            single_index(3, 2, bad)
    with pytest.raises(TypeError, match="coefficients=3"):
        single_index(3, 2, 3)
    for function, message in (
        (lambda z: z.sum(), "must return a real number for each"),
        (lambda z: z + 1j, "must return a real number for each"),
    ):
        with pytest.raises(ValueError, match=message):
            single_index(3, 2, function)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(ValueError, match="link gives the label nan for sample"),
    ):
        single_index(30, 2, np.log)


# --- provenance


def test_provenance_reproduces_the_data():
    data = single_index(9, 3, "H2", noise=0.3, seed=5, dtype=np.float32)
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == "single_index"
    assert record.pop("link") == "Hermite([0.0, 0.0, 1.0])"
    assert single_index(link="H2", **record).sha256() == data.sha256()
    data = multi_index(9, 3, ["H1", fc.Tanh()], noise=0.3, seed=5)
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == "multi_index"
    assert record.pop("link") == ["Hermite([0.0, 1.0])", "Tanh()"]
    assert multi_index(link=["H1", "tanh"], **record).sha256() == data.sha256()
    given_ = single_index(4, 2, direction=[0, 1]).provenance["direction"]
    assert given_.startswith("SHA-256 ")
    assert single_index(4, 2, np.sin).provenance["link"].startswith("Function(")
    assert pickle.loads(pickle.dumps(data)).provenance == data.provenance


def test_bad_arguments_are_named():
    for kwargs, message in (
        ({"n": 0}, "n=0 must be at least 1"),
        ({"d": 0}, "d=0 must be at least 1"),
        ({"noise": -0.1}, "noise=-0.1 must be >= 0"),
        ({"noise": np.nan}, "noise=nan"),
        ({"direction": [1, 1, 0]}, "direction has norms .*; it must have length 1"),
        ({"direction": [1, 0]}, r"direction has dimension 2; it must have shape \(3,\)"),
        ({"direction": [np.nan, 0, 0]}, "direction has a non-finite entry"),
        ({"seed": -1}, "seed=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            single_index(**{"n": 4, "d": 3, "link": "H1", **kwargs})
    for kwargs, message in (
        ({"link": []}, "link is empty"),
        ({"link": ["H1"] * 4}, "r=4 directions need d >= 4; d=3"),
        ({"link": ["H1"], "r": 2}, "the number of directions differs"),
        ({"link": np.sin}, "r is missing"),
        ({"link": np.sin, "r": 2}, r"it must return real numbers of shape \(4,\)"),
        ({"link": ["H1", "H1"], "directions": np.ones((2, 3))}, "are not orthonormal"),
    ):
        with pytest.raises(ValueError, match=message):
            multi_index(**{"n": 4, "d": 3, **kwargs})
    with pytest.raises(TypeError, match="link='H1' must be a list of links"):
        multi_index(4, 3, "H1")


@pytest.mark.parametrize(
    ("make", "sha256"),
    [
        (
            lambda: single_index(20, 7, "H1", noise=0.5, seed=1),
            "04d0bacba08eedd0e1e9b2bb9bc980afa50db25c02b86f1fd4952711a4335471",
        ),
        (
            lambda: single_index(20, 7, [0, 1, 0.5], seed=2, dtype=np.float32),
            "d9199e680aab275ef6eb0ea24f410d25f48e049d9fcf973fee330bfe537c70a6",
        ),
        (
            lambda: multi_index(20, 7, ["H1", "H2", "H3"], noise=0.1, seed=3),
            "6eb088dd0a759dc8787b6cda45feeae3aef6e974333ec519ff256ebd1db6f46a",
        ),
    ],
)
def test_golden_hashes(make, sha256):
    # polynomials and plain sums only: the same bits on every processor
    assert make().sha256() == sha256
