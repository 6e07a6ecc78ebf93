"""Two moons with a margin."""

import json
import sys

import numpy as np
import pytest

from featcore.data import moons

pytest.importorskip("sklearn")


def test_the_margin_moves_each_class_along_the_first_coordinate():
    touching, apart, over = (moons(300, margin=margin, seed=3) for margin in (0.0, 0.1, -0.1))
    for data, margin in ((apart, 0.1), (over, -0.1)):
        np.testing.assert_array_equal(data.y, touching.y)
        np.testing.assert_allclose(data.x[:, 0], touching.x[:, 0] - margin * data.y, atol=1e-15)
        np.testing.assert_array_equal(data.x[:, 1], touching.x[:, 1])
    assert (touching.y * touching.x[:, 0] <= 0).all()
    # both kinds of the second setting: samples beyond the line, and enough on their own side
    assert 0.02 < (over.y * over.x[:, 0] > 0).mean() < 0.3


def test_without_noise_samples_lie_on_two_half_circles():
    data = moons(200, margin=0.25, noise=0.0)
    across, along = data.x.T
    # scikit-learn's centres (0, 0) and (1, ½), moved by 0.5 along and 0.3 towards each other; a common mean is left
    upper = data.y < 0
    free = across[upper] - 0.25 - np.sqrt(1 - (along[upper] + 0.5) ** 2).clip(0)
    mirrored = across[~upper] + 0.25 + np.sqrt(1 - (along[~upper] - 0.5) ** 2).clip(0)
    assert np.ptp(free) < 1e-7
    assert np.ptp(mirrored) < 1e-7
    assert 0 < free[0] < 0.1
    assert -0.1 < mirrored[0] < 0
    assert np.bincount(upper).tolist() == [100, 100]


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_drew_them(seed):
    from sklearn.datasets import make_moons

    from featcore import _seeds

    state = _seeds.key(seed, "data") % 2**32
    x, which = make_moons(n_samples=50, noise=0.2, random_state=state)
    data = moons(50, noise=0.2, seed=seed)
    np.testing.assert_array_equal(data.y, 2 * which - 1)
    np.testing.assert_array_equal(data.x[:, 1], x[:, 0] - 0.5)


def test_seeds_provenance_and_dtype():
    data = moons(30, margin=-0.1, noise=0.05, seed=4, dtype=np.float32)
    record = json.loads(json.dumps(dict(data.provenance)))
    assert record.pop("generator") == "moons"
    assert moons(**record).sha256() == data.sha256() != moons(30, seed=5).sha256()
    assert data.dtype == np.float32


def test_golden_sum():
    """A sum and no hash: sines differ in the last digit between machines."""
    data = moons(20, seed=1)
    weights = np.arange(1, data.x.size + 1).reshape(data.x.shape)
    assert f"{(data.x * weights).sum():.9f}" == "73.830103084"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 1}, ValueError, "n=1 must be at least 2"),
        ({"margin": "a"}, TypeError, "margin='a' must be a real number"),
        ({"noise": -0.1}, ValueError, "noise=-0.1 must be"),
        ({"seed": 0.5}, TypeError, "seed=0.5"),
    ],
)
def test_bad_input_is_named(change, error, message):
    with pytest.raises(error, match=message):
        moons(**change)


def test_without_scikit_learn_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'featcore\[lab\]'"):
        moons()
