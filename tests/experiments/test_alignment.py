"""The parts of the alignment experiment: what they compute from runs, and that their claims hold on other seeds."""

import math
import warnings

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("sklearn")

import pydantic

import featcore as fc
from featcore.experiments import alignment
from featcore.experiments.alignment import (
    digits,
    entries,
    histories,
    late,
    stairs,
    starts,
    toys,
    vanishing,
    velocities,
)
from featcore.experiments.protocol import Figure
from featcore.report import style
from featcore.report.progress import Silent

QUICK = alignment.Settings(**alignment.quick(), digit_pairs=((1, 0),))
PARTS = (toys, entries, digits, velocities, vanishing, late, stairs, starts)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_claims_hold_on_other_seeds(part):
    stated = part.claims(QUICK)
    done = part.measure(QUICK, stated, seeds=range(500, 506), progress=Silent())
    assert [f.claim.key for f in done.findings] == [c.key for c in stated]
    assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}
    assert all(f.deterministic or len(f.samples) >= 2 for f in done.findings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in done.figures:
            if isinstance(figure, Figure):
                assert style.render(figure.draw).png
    for name, dataset in done.data.items():
        assert name == "entry-times" or dataset.sizes["seed"] >= 2


@pytest.mark.long
def test_all_claims_on_other_seeds():
    result = alignment.run(alignment.Settings(), seeds=range(700, 720), progress=Silent())
    assert {f.claim.key: f.verdict for f in result.findings if f.verdict == "fails"} == {}


def test_claims_have_keys_of_their_own_and_do_not_depend_on_runs():
    first, again = (alignment.claims(alignment.Settings()) for _ in range(2))
    assert first == again
    assert len(first) == sum(len(part.claims(alignment.Settings())) for part in PARTS)
    assert len(first) > 70


def test_the_film_has_as_many_frames_as_it_says(tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr(toys, "FRAMES", 3)
    monkeypatch.setattr(toys, "LATE", 30)
    toys._film(QUICK, 1, tmp_path / "film.gif")
    with image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3


# --- what is read from runs ---


def test_crossings_are_interpolated():
    times = np.array([0.0, 2.0, 3.0])
    assert histories.reached(np.array([0.0, 1.0, 3.0]), times, 2.0) == pytest.approx(2.5)
    assert math.isnan(histories.reached(np.array([0.0, 1.0, 1.5]), times, 2.0))
    assert math.isnan(histories.reached(np.array([3.0, 1.0, 1.5]), times, 2.0))


def test_the_share_in_the_cone_is_of_live_neurons_with_a_positive_head():
    data = fc.data.two_points(0.1)
    W = [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]]  # in, one only, dead, negative head
    assert toys.in_s_plus(fc.TwoLayerNet(W, [1.0, 1.0, 1.0, -1.0]), data) == 0.5
    assert math.isnan(toys.in_s_plus(fc.TwoLayerNet(W[2:3], [1.0]), data))


def test_a_last_neuron_that_never_comes_is_as_late_as_the_loss_drop():
    import xarray as xr

    def history(lowest):
        cosines = np.broadcast_to(np.array(lowest)[:, None, None, None], (4, 2, 2, 1))
        return xr.Dataset(
            {
                "alignment": (("time", "direction", "sign", "statistic"), cosines),
                "loss": (("time", "split"), np.array([[1.0], [1.0], [0.95], [0.75]])),
            },
            coords={
                "time": [0.0, 1.0, 2.0, 3.0],
                "direction": ["x_plus", "x_minus"],
                "sign": ["+", "-"],
                "statistic": ["min"],
                "split": ["train"],
            },
        )

    assert digits._last_aligned(history([0.0, 0.9, 1.0, 1.0])) == pytest.approx(1.5)
    assert digits._last_aligned(history([0.0, 0.1, 0.2, 0.3])) == pytest.approx(2.25)


def test_entered_shares_by_counting():
    """At time 0 those that start in the cone; later those whose entry time has passed."""
    a = entries.CROWD_ANGLE
    both, live = 0.5 * math.pi + a, 1.5 * math.pi - a
    assert entries._entered(0.0) == pytest.approx(both / live, abs=1e-4)
    latest = math.log(1 / math.tan(a / 2))
    assert entries._entered(latest) == pytest.approx(1.0, abs=1e-4)
    # dθ/dt = -sin θ, by small steps, from uniform angles on the far side
    theta = np.linspace(0, 0.5 * math.pi, 20_001)[1:]
    flown = theta.copy()
    for _ in range(7000):
        flown -= 1e-3 * np.sin(flown)
    alone = theta > a
    share = (both + 2 * (0.5 * math.pi - a) * np.mean(flown[alone] <= a)) / live
    assert entries._entered(7.0) == pytest.approx(share, abs=2e-3)


def test_velocities_are_those_of_the_network():
    data = fc.data.digits((1, 7))
    net = fc.TwoLayerNet.gaussian(6, data.d, 0.05, head="gaussian", seed=3)
    turning, growth = velocities.velocities(net, data)
    step = 1e-6
    moved = fc.descend(net, data, "exponential", step_size=step, steps=1).net
    norms = [np.linalg.norm(each.W, axis=1, keepdims=True) for each in (net, moved)]
    angles = np.linalg.norm(moved.W / norms[1] - net.W / norms[0], axis=1)
    assert angles.sum() / step == pytest.approx(turning, rel=1e-4)
    assert ((norms[1] ** 2).sum() - (norms[0] ** 2).sum()) / step == pytest.approx(growth, rel=1e-3)


@pytest.mark.parametrize("d", [64, 784])
def test_times_of_turning_by_sampling(d):
    """Neurons p cosh + a sinh along, √(d-1) across: the sums and extremes of many starts."""
    rng = np.random.default_rng(d)
    c = np.abs(rng.standard_normal((4000, 50)) + rng.standard_normal((4000, 50))) / 2
    across = math.sqrt(d - 1)
    times = np.linspace(0.5, 9.0, 200)
    mean = [np.mean(1 / np.cosh(t - np.log(across / c))) for t in times]
    at, height = velocities.turning(d)
    assert times[int(np.argmax(mean))] == pytest.approx(at, abs=0.1)
    assert max(mean) == pytest.approx(height, rel=0.01)

    centre, last = digits.aligned_at(d)
    ratio = math.sqrt(d / 25) / (c[:, :25].mean(axis=1) * math.exp(centre))
    assert np.mean(1 / np.sqrt(1 + ratio**2)) == pytest.approx(digits.NEARLY, abs=2e-3)
    slope = math.sqrt(1 - digits.BY**2) / digits.BY
    latest = np.log(math.sqrt(d) / (slope * c.min(axis=1)))
    assert latest.mean() == pytest.approx(last, abs=0.1)


def test_the_best_line_of_three_points():
    line = np.polyfit(stairs.SWORD.x[:, 0], stairs.SWORD.y, 1)
    rest = np.polyval(line, stairs.SWORD.x[:, 0]) - stairs.SWORD.y
    assert stairs.affine_loss(stairs.SWORD) == pytest.approx(np.mean(rest**2) / 2)
    assert stairs.affine_loss(stairs.TOY) == pytest.approx(0.0, abs=1e-25)


def test_starts_are_what_they_are_called():
    scale = 1e-3
    nets = {start: starts.network(start, scale, 0) for start in starts.STARTS}
    x = starts._data(0).x
    norms = np.linalg.norm(nets["balanced"].W, axis=1)
    np.testing.assert_allclose(np.abs(nets["balanced"].a), norms)
    np.testing.assert_array_equal(nets["dominated"].a, 2 * nets["balanced"].a)
    for start in ("unbalanced", "dominated"):
        np.testing.assert_array_equal(nets[start].W, nets["balanced"].W)
    assert np.std(nets["unbalanced"].a) == pytest.approx(scale, rel=0.3)
    np.testing.assert_allclose(nets["symmetric"](x), 0.0, atol=1e-18)
    assert np.abs(nets["balanced"](x)).max() > 1e-7
    assert {net.width for net in nets.values()} == {50}


def test_mini_batches_of_a_sixth_make_six_steps_an_epoch():
    pair = digits.load(QUICK, velocities.CLASSES)
    (history,) = velocities._descend(pair, [0], epochs=2)
    assert history["step"].values.tolist() == [0, 6, 12]


# --- settings ---


def test_full_has_more_of_everything():
    default, full = alignment.Settings(), alignment.Settings(**alignment.full())
    for name in alignment.full():
        assert getattr(full, name) > getattr(default, name) >= getattr(QUICK, name)


@pytest.mark.parametrize("pairs", [(), ((1, 1),), ((1, 0), (1, 0))])
def test_pairs_of_digits_are_pairs(pairs):
    with pytest.raises(pydantic.ValidationError, match="different pairs of different digits"):
        alignment.Settings(digit_pairs=pairs)


def test_other_pairs_run_without_the_papers_claims():
    settings = alignment.Settings(digit_pairs=((4, 9),), digit_seeds=2)
    done = digits.measure(settings, digits.claims(settings), seeds=range(2), progress=Silent())
    assert list(done.data) == ["digits-4-9"]
    assert {f.claim.source for f in done.findings} == {"derived", "calibrated"}
