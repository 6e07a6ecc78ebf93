"""The parts of the modes experiment: what they compute from runs, and that their claims hold on other seeds."""

import math
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("sklearn")

import pydantic

import featcore as fc
from featcore.experiments import modes
from featcore.experiments.modes import (
    curves,
    depth,
    failures,
    images,
    linear,
    moons,
    networks,
    starvation,
    times,
)
from featcore.report import style
from featcore.report.progress import Silent
from featcore.theory import modes as theory

MNIST = Path(
    os.environ.get("FEATCORE_MNIST", Path(__file__).parents[2].parent / "shared" / "data" / "mnist")
)
QUICK = modes.Settings(**modes.quick() | {"moon_seeds": 2})
PARTS = (curves, times, failures, depth, starvation, images, linear, moons)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_claims_hold_on_other_seeds(part):
    stated = part.claims(QUICK)
    done = part.measure(QUICK, stated, seeds=range(500, 512), progress=Silent())
    assert [f.claim.key for f in done.findings] == [c.key for c in stated]
    assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}
    assert all(f.deterministic or len(f.samples) >= 2 for f in done.findings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in done.figures:
            assert style.render(figure.draw).png
    assert done.data


@pytest.mark.long
def test_all_claims_on_other_seeds():
    result = modes.run(modes.Settings(), seeds=range(700, 720), progress=Silent())
    assert {f.claim.key: f.verdict for f in result.findings if f.verdict == "fails"} == {}


@pytest.mark.long
@pytest.mark.mnist
@pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST files")
def test_brightness_on_mnist():
    settings = modes.Settings(data=MNIST)
    stated = images.claims(settings)
    assert "IDX" in stated[0].sentence
    done = images.measure(settings, stated, seeds=range(700, 710), progress=Silent())
    assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}


def test_claims_have_keys_of_their_own_and_do_not_depend_on_runs():
    first, again = (modes.claims(modes.Settings()) for _ in range(2))
    assert first == again
    assert len(first) == sum(len(part.claims(modes.Settings())) for part in PARTS)
    assert len(first) > 90


# --- networks that see one class, and what is read from their flows ---


def test_neurons_have_the_pre_activations_and_heads_they_are_given():
    data = fc.data.single_vector_classes(5, norms=(0.5, 2.0), positive=0.4)
    net = networks.network(data, ([0.1, 0.2], [0.3, -0.4]), (0.6, 0.7))
    np.testing.assert_allclose(net.W @ data.means.T, [[0.1, 0], [0.2, 0], [0, 0.6]], atol=1e-16)
    np.testing.assert_array_equal(net.a, [0.3, -0.4, -0.7])
    correlated = fc.data.equicorrelated_classes(6, correlations=(0.5, 0.0))
    net = networks.network(correlated, (0.1, 1.0), (0.2, 1.0))
    y = net.W @ correlated.x.T
    np.testing.assert_allclose(y[0, :3], y[0, 0])  # equal on all samples of the class
    np.testing.assert_allclose(y[1, 3:], y[1, 3])
    assert y[0] @ correlated.x[:3].mean(axis=0).repeat(2)[:6] != 0
    np.testing.assert_allclose(net.W[0] @ correlated.means[0], 0.1)


def test_times_are_those_of_small_steps():
    """Against Euler's method on two numbers, whose error halves with its step."""
    y, z, p = 0.3, 0.1, 0.4
    data = fc.data.single_vector_classes(5, positive=p)
    net = networks.network(data, (y, z), (0.1, 0.1))

    def euler(step):
        a, b, t = y, z, 0.0
        while a * b < 1.0:
            pull = p / (1 + math.exp(a * b))
            a, b, t, before = a + step * pull * b, b + step * pull * a, t + step, a * b
        return t - step * (a * b - 1.0) / (a * b - before)

    exact = 2 * euler(5e-4) - euler(1e-3)
    near = float(theory.time_to_learn(1.0, norm=1.0, share=p, y0=y, z0=z))
    found = networks.time_to_learn(net, data, sample=0, logit=1.0, near=near, loss="logistic")
    assert found == pytest.approx(exact, rel=1e-5)
    # to its own precision it does not depend on where it is looked for
    for off in (1 - 5e-4, 1 + 5e-4):
        again = networks.time_to_learn(
            net, data, sample=0, logit=1.0, near=off * near, loss="logistic"
        )
        assert again == pytest.approx(found, rel=1e-11)
    lost = networks.time_to_learn(net, data, sample=0, logit=1.0, near=2 * near, loss="logistic")
    assert math.isnan(lost)


def test_the_hinge_flow_tells_its_own_time():
    data = fc.data.single_vector_classes(5, positive=0.4)
    each = math.sqrt(1e-3)
    net = networks.network(data, (each, each), (0.2, 0.2))
    found = [
        networks.time_to_learn(net, data, sample=sample, logit=1.0, near=10.0, loss="hinge")
        for sample in (0, -1)
    ]
    expected = [math.log(1 / 1e-3) / (2 * 0.4), math.log(1 / 0.04) / (2 * 0.6)]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    few = networks.time_to_learn(net, data, sample=0, logit=1.0, near=5.0, loss="hinge")
    assert math.isnan(few)  # not before 5.05


def test_margins_of_a_flow_that_has_ended_stay():
    data = fc.data.single_vector_classes(2)
    net = networks.network(data, (0.5, 0.5), (0.4, 0.4))
    found = networks.margins(net, data, [0.0, 0.5, 50.0, 90.0], "hinge")
    np.testing.assert_allclose(found[0], [0.25, 0.16])
    np.testing.assert_allclose(found[1], np.array([0.25, 0.16]) * math.exp(0.5))
    np.testing.assert_allclose(found[2:], 1.0)


def test_an_exponent():
    x = np.array([0.5, 1.0, 4.0])
    assert networks.slope(x, 3 * x**-1.5) == pytest.approx(-1.5)


# --- failures ---


def test_the_grid_of_starts_is_off_all_boundaries():
    for points in (21, 61, 121):
        side = failures.grid(points)
        y, z = np.meshgrid(side, side)
        assert np.abs(y).min() > 1e-3
        assert np.abs(y + failures.KAPPA * z).min() > 1e-4


def test_eleven_sixteenths_by_sampling():
    """Of neurons that see what they see of two orthogonal classes: theory's winner, on the distribution itself."""
    rng = np.random.default_rng(1)
    alpha, beta, z = rng.standard_normal((3, 400))
    fails = theory.winner(alpha, beta, z) != 1
    assert fails.mean() == pytest.approx(11 / 16, abs=3 * math.sqrt(11 * 5 / 256 / 400))


def test_the_separatrix_that_is_drawn_separates():
    betas = np.array([0.2, 0.7])
    alphas = failures._separating(betas, -0.3)
    assert theory.winner(alphas, betas, -0.3).tolist() == [1, 1]
    assert theory.winner(alphas - 2e-3, betas, -0.3).tolist() == [2, 2]


# --- starvation, depth, images, moons ---


def test_the_closed_margin_is_the_limit_of_small_starts():
    for lam in (0.05, 0.5):
        found = theory.starvation(lam, loss="hinge", A0=1e-7, B0=lam * 1e-7, z0=1e-7)
        assert float(found.rare_logit) == pytest.approx(starvation._closed(lam), rel=1e-9)


def test_table_1_is_the_bound_of_the_theorem():
    for delta, row in starvation.TABLE_1.items():
        logits = np.array(starvation.LAMBDAS) * theory.target_logit(delta)
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), row, atol=5.1e-5)


def test_two_scalars_are_the_two_layer_network():
    """The deep networks of this part, at N = 2, against featcore's own."""
    weights, kappa = np.array([0.2, 0.3]), 0.7
    at = np.linspace(0.0, 20.0, 5)
    data = fc.Dataset([[kappa]], [1.0])
    net = fc.TwoLayerNet(weights[:1, None], weights[1:])
    run = fc.flow(
        net, data, t_end=20.0, rtol=1e-10, observe=["margins"], record=fc.Recording.at(at)
    )
    own = run.history["margins"].values[:, 0]
    np.testing.assert_allclose(depth.logit(at, weights, kappa, "logistic"), own, rtol=1e-8)
    hinge = depth.time_to_learn(1.0, np.full(2, 0.1), 1.0, "hinge")
    assert hinge == pytest.approx(math.log(10), rel=1e-10)


def test_the_same_images_are_tested_with_every_penalty_and_share():
    found = images._train(modes.Settings(image_shares=(1.0, 0.8)), (3, 8), range(2))["accuracy"]
    plain, decoupled = found.sel(penalty=0.0), found.sel(penalty=images.DECOUPLING)
    assert plain.notnull().all()
    assert decoupled.sel(share=1.0).notnull().all()
    assert decoupled.sel(share=0.8).isnull().all()  # not claimed, and not run


def test_a_line_gets_none_of_what_lies_beyond_it():
    line = fc.TwoLayerNet([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [1.0, -1.0])
    assert moons.beyond_the_line(line, 0) == 0.0
    assert moons.beyond_the_line(fc.TwoLayerNet(line.W, -line.a), 0) == 1.0


def test_moons_start_as_pytorch_does():
    net = moons.network(3)
    assert net.W.shape == (500, 3)
    assert np.abs(net.W).max() < math.sqrt(0.5)
    assert np.abs(net.a).max() < math.sqrt(1 / 500)
    assert net.W.std() == pytest.approx(math.sqrt(1 / 6), rel=0.1)
    assert net.a.std() == pytest.approx(math.sqrt(1 / 1500), rel=0.15)


def test_the_toy_has_the_features_it_says():
    assert linear.vectors() @ linear.vectors().T == pytest.approx(np.eye(2), abs=1e-15)
    settled = linear._responses(4.0, weight_decay=0.01)
    z, s = settled, np.array([4.0, 2.0])
    pulled = s**2 * (linear.vectors().T @ (1 / (1 + np.exp(linear.vectors() @ z))))
    np.testing.assert_allclose(0.01 * z, pulled, rtol=1e-6)


# --- settings ---


def test_full_has_more_of_everything():
    default, full = modes.Settings(), modes.Settings(**modes.full())
    quick = modes.Settings(**modes.quick())
    for name in modes.full():
        sizes = [getattr(s, name) for s in (full, default, quick)]
        if isinstance(sizes[0], tuple):
            sizes = [len(size) for size in sizes]
        assert sizes[0] > sizes[1] >= sizes[2], name


@pytest.mark.parametrize("pairs", [(), ((1, 1),), ((1, 0), (1, 0))])
def test_pairs_of_digits_are_pairs(pairs):
    with pytest.raises(pydantic.ValidationError, match="different pairs of different digits"):
        modes.Settings(image_pairs=pairs)


@pytest.mark.parametrize("shares", [(), (1.0,), (0.8, 0.5)])
def test_shares_that_claims_are_about_are_there(shares):
    with pytest.raises(pydantic.ValidationError, match=r"must have 1.0 and 0.8"):
        modes.Settings(image_shares=shares)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    with pytest.raises((pydantic.ValidationError, FileNotFoundError), match=str(tmp_path)):
        modes.Settings(data=tmp_path)
