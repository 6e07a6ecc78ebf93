"""The parts of the one-step experiment: what they compute from networks, and that their claims hold on other seeds."""

import math
import warnings

import numpy as np
import pytest

pytest.importorskip("pydantic")

import pydantic

import featcore as fc
from featcore.experiments import get, one_step
from featcore.experiments.one_step import (
    networks,
    onwards,
    samples,
    spectrum,
    stairs,
    table,
    teachers,
    weights,
)
from featcore.experiments.protocol import Figure
from featcore.report import style
from featcore.report.progress import Silent

QUICK = one_step.Settings(**one_step.quick(), test_samples=1000)
PARTS = (teachers, table, samples, spectrum, weights, stairs, onwards)
SMALL = networks.Case(networks.RELU, networks.QUADRATIC, n=60, d=30, width=40, ridge=0.1, noise=0.2)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.rpartition(".")[2])
def test_claims_hold_on_other_seeds(part):
    stated = part.claims(QUICK)
    done = part.measure(QUICK, stated, seeds=range(500, 504), progress=Silent())
    assert [f.claim.key for f in done.findings] == [c.key for c in stated]
    assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}
    assert all(len(f.samples) >= 2 for f in done.findings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in done.figures:
            assert isinstance(figure, Figure)
            assert style.render(figure.draw).png


@pytest.mark.long
def test_all_claims_on_other_seeds():
    result = one_step.run(one_step.Settings(), seeds=range(700, 716), progress=Silent())
    assert {f.claim.key: f.verdict for f in result.findings if f.verdict != "holds"} == {}


@pytest.mark.long
def test_the_table_of_128_networks():
    settings = one_step.Settings(**one_step.full())
    for part in (table, teachers, spectrum):
        stated = part.claims(settings)
        done = part.measure(settings, stated, seeds=range(900, 916), progress=Silent())
        assert all(len(f.samples) >= 128 for f in done.findings)
        assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}


def test_claims_have_keys_of_their_own_and_do_not_depend_on_runs():
    assert get("one-step") is one_step
    first, again = (one_step.claims(one_step.Settings()) for _ in range(2))
    assert first == again
    assert len(first) == sum(len(part.claims(one_step.Settings())) for part in PARTS)
    full = one_step.claims(one_step.Settings(**one_step.full()))
    assert set(first) <= set(full)
    # a standard error of 0.7 % at most
    assert full["quadratic-0.3-test"].resolution <= 0.0211 * full["quadratic-0.3-test"].predicted
    assert full["quadratic-0.3-test"].bias == pytest.approx(
        0.03 * full["quadratic-0.3-test"].predicted
    )


def test_full_has_more_of_everything():
    default, full = one_step.Settings(), one_step.Settings(**one_step.full())
    assert set(full.alphas) > set(default.alphas) > set(QUICK.alphas)
    for name in ("cases", "draws", "grid_seeds"):
        assert getattr(full, name) > getattr(default, name) >= getattr(QUICK, name)
    with pytest.raises(pydantic.ValidationError):
        one_step.Settings(alphas=(0.5,))
    with pytest.raises(pydantic.ValidationError, match="seeds_"):
        one_step.Settings(seeds_=3)


# --- what is computed from networks ---


@pytest.mark.parametrize("residual", ["labels", "full"])
def test_a_start_steps_as_the_network_does(residual):
    case = networks.Case(
        networks.RELU, networks.QUADRATIC, n=60, d=30, width=40, ridge=0.1, noise=0.2, residual=residual
    )  # fmt: skip
    drawn = networks.start(case, np.random.SeedSequence(1), 50)
    stepped = fc.one_step(drawn.net, drawn.step, 3.0, residual=residual)
    np.testing.assert_allclose(drawn.stepped(3.0).W, stepped.W, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(drawn.net.W, axis=1), 1.0)
    batches = (drawn.step, drawn.ridge, drawn.test)
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch.means, drawn.step.means)
    assert len({batch.x[0, 0] for batch in batches}) == 3
    assert drawn.test.n == 50


def test_errors_are_those_of_ridge_regression():
    drawn = networks.start(SMALL, np.random.SeedSequence(2), 80)
    found = networks.errors(drawn, [0.0, 2.0], [0.1, 0.5])
    assert found.shape == (2, 2, 5)
    for k, eta in enumerate((0.0, 2.0)):
        F = fc.features(drawn.stepped(eta), drawn.ridge.x)
        G = fc.features(drawn.stepped(eta), drawn.test.x)
        for j, lam in enumerate((0.1, 0.5)):
            a = np.linalg.solve(F.T @ F + lam * 60 * np.eye(40), F.T @ drawn.ridge.y)
            train = np.mean((drawn.ridge.y - F @ a) ** 2)
            test = np.mean((drawn.test.y - G @ a) ** 2)
            squares = [np.mean(drawn.ridge.y**2), np.mean(drawn.test.y**2)]
            np.testing.assert_allclose(found[k, j], [train + lam * a @ a, train, test, *squares])


def test_what_mean_squares_explain_is_taken_out():
    rng = np.random.default_rng(0)
    controls = rng.standard_normal((40, 2)) + 2.0
    noise = 0.01 * rng.standard_normal((40, 3, 3))
    values = 5.0 + (controls @ [1.5, -0.5])[:, None, None] + noise
    runs = np.concatenate([values, np.broadcast_to(controls[:, None, :], (40, 3, 2))], axis=-1)
    done = networks.controlled(runs, 2.0)
    assert done.shape == (40, 3, 3)
    np.testing.assert_allclose(done.mean(axis=0), 7.0, atol=0.01)
    assert done.std(axis=0).max() < 0.02 < values.std(axis=0).min()
    # the standard error is that of the fit's constant
    design = np.column_stack([np.ones(40), controls - 2.0])
    fit, rest, *_ = np.linalg.lstsq(design, runs[:, 0, 0], rcond=None)
    error = math.sqrt(rest[0] / 37 * np.linalg.inv(design.T @ design)[0, 0])
    assert done[:, 0, 0].std(ddof=1) / math.sqrt(40) == pytest.approx(error)
    assert done[:, 0, 0].mean() == pytest.approx(fit[0])
    np.testing.assert_array_equal(networks.controlled(runs[:5], 2.0), values[:5])


def test_vectors_are_projected_on_polynomials():
    drawn = networks.start(SMALL, np.random.SeedSequence(3))
    rng = np.random.default_rng(3)
    u = rng.standard_normal(60)
    values, cosines = spectrum._decompose(drawn.net, drawn.ridge, u)
    left, expected, _ = np.linalg.svd(fc.features(drawn.net, drawn.ridge.x) / math.sqrt(60))
    np.testing.assert_allclose(values, expected)
    for k in range(2):
        v = left[:, k]
        assert cosines[k, 0] == pytest.approx((v @ u) ** 2 / (u @ u))
        even = np.column_stack([np.ones(60), u**2])
        fit, *_ = np.linalg.lstsq(even, v, rcond=None)
        assert cosines[k, 1] == pytest.approx(np.sum((even @ fit) ** 2))


def test_labels_without_their_linear_part():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((50, 4))
    bare = stairs.without_linear_part(x, 3.0 + x @ [1.0, 2.0, 0.0, -1.0])
    np.testing.assert_allclose(bare, 0.0, atol=1e-12)
    bare = stairs.without_linear_part(x, x[:, 0] ** 2)
    np.testing.assert_allclose(x.T @ bare, 0.0, atol=1e-12)
    assert bare.sum() == pytest.approx(0.0, abs=1e-12)


def test_teachers_of_two_directions_have_the_energies_they_are_said_to_have():
    z = np.random.default_rng(5).standard_normal((400_000, 2))
    for teacher in stairs.TEACHERS.values():
        y = teacher(z)
        assert np.mean(y * z[:, 0]) == pytest.approx(1.0, abs=0.01)
        assert np.mean(y**2) == pytest.approx(2.0, abs=0.05)
        assert np.mean(y * z[:, 1]) == pytest.approx(0.0, abs=0.02)
    given_first = z[:, 0] > 1
    assert np.mean((stairs._staircase(z) * z[:, 1])[given_first]) > 1.0
    assert np.mean((stairs._leap(z) * z[:, 1])[given_first]) == pytest.approx(0.0, abs=0.05)
