"""The parts of the amplification experiment: what they compute from runs, and that their claims hold on other seeds."""

import math
import warnings

import numpy as np
import pytest

pytest.importorskip("pydantic")
pytest.importorskip("sklearn")

import pydantic

import featcore as fc
from featcore.experiments import amplification
from featcore.experiments.amplification import grokking, laws, noise, phase, times
from featcore.report import style
from featcore.report.progress import Silent

QUICK = amplification.Settings(**amplification.quick())


def holds(part, settings, seeds):
    """Measure a part, draw its figures, and return its samples; no claim may fail."""
    done = part.measure(settings, part.claims(settings), seeds=seeds, progress=Silent())
    assert [f.claim.key for f in done.findings] == [c.key for c in part.claims(settings)]
    assert {f.claim.key: f.verdict for f in done.findings if f.verdict == "fails"} == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in done.figures:
            assert style.render(figure.draw).png
    for dataset in done.data.values():
        assert dataset.sizes["seed"] >= 2
    return {f.claim.key: np.array(f.samples) for f in done.findings}


def test_amplification_times_on_other_seeds():
    samples = holds(times, QUICK, range(500, 503))
    assert np.mean(samples["exponent_width"]) == pytest.approx(0.5, abs=0.05)
    assert np.mean(samples["exponent_scale"]) == pytest.approx(1.0, abs=0.07)
    assert np.mean(samples["exponent_step_size"]) == pytest.approx(-1.0, abs=0.07)


def test_noise_on_other_seeds():
    samples = holds(noise, QUICK, range(500, 502))
    assert samples["noise_rates"].max() < 0.02
    np.testing.assert_allclose(samples["adversary_above"], 0.25, atol=0.02)


def test_laws_on_other_seeds():
    holds(laws, amplification.Settings(), range(500, 504))


def test_the_phase_diagram_on_other_seeds():
    samples = holds(phase, amplification.Settings(phase={"points": 8}), range(510, 513))
    np.testing.assert_allclose(samples["phase_exponent"], 0.25, atol=0.05)


def test_grokking_on_other_seeds():
    # The setting of the issue, 8 seeds: balanced clusters, exact flips
    few, g = range(500, 508), amplification.Settings().grokking
    train, test = zip(*(grokking._problem(g, seed) for seed in few), strict=True)
    history = fc.ensemble(
        [grokking._net(g, train[0].d, grokking.SCALE, seed) for seed in few],
        train,
        evaluate=[{"test": data} for data in test],
        observe=["accuracy", "clean_accuracy"],
        **grokking._descent(g),
    ).history
    fitted = history.accuracy.sel(split="train").values
    right = history.clean_accuracy.sel(split="test").values
    steps = history["step"].values
    assert (fitted[:, 1:] == 1.0).all()
    assert right[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    assert right[:, steps == 8].mean() >= 0.99
    assert (right[:, -1] >= 0.99).all()


@pytest.mark.long
def test_all_claims_on_other_seeds():
    settings = amplification.Settings()
    result = amplification.run(settings, seeds=range(700, 716), progress=Silent())
    assert {f.claim.key: f.verdict for f in result.findings if f.verdict == "fails"} == {}


def test_claims_have_keys_of_their_own_and_do_not_depend_on_runs():
    first, again = (amplification.claims(amplification.Settings()) for _ in range(2))
    assert first == again
    parts = (times, noise, laws, grokking, phase)
    count = sum(len(part.claims(QUICK)) for part in parts)
    assert len(amplification.claims(QUICK)) > count > 20


def test_the_grid_varies_one_parameter_at_a_time():
    grid = times.points(amplification.Settings(grid_points=6))
    assert len(set(grid)) == len(grid) == 1 + 6 * 5
    base = grid[0].values
    for point in grid[1:]:
        assert [name for name, value in point.values.items() if value != base[name]] == [point.axis]
        assert point.width % 2 == 0


def test_the_fit_finds_the_exponents_of_the_formula():
    settings = amplification.Settings()
    exact = {point: 3.0 * point.time for point in times.points(settings)}
    for name, axis in times._AXES.items():
        assert times.slope(settings, name, exact) == pytest.approx(axis.exponent, abs=1e-12)


def test_crossings_are_interpolated():
    level = times.LEVEL
    assert times.crossing(np.array([0.1, level - 0.1, level + 0.3])) == pytest.approx(1.25)
    assert math.isnan(times.crossing(np.array([0.1, 0.2])))
    assert math.isnan(times.crossing(np.array([0.9, 0.95])))
    rows = np.array([[0.5, 0.8, 1.0], [0.5, 0.5, 0.5]])
    found = grokking._reached(rows, np.array([0, 2, 6]))
    assert found[0] == pytest.approx(4.0)
    assert math.isnan(found[1])


def test_the_boundary_is_where_accuracy_stays_above():
    norms = [1.0, 10.0, 100.0, 1000.0]
    assert phase._boundary(np.array([0.5, 0.5, 1.0, 1.0]), norms) == pytest.approx(10**1.5)
    assert phase._boundary(np.array([0.8, 0.5, 1.0, 1.0]), norms) == pytest.approx(10**1.5)
    assert math.isnan(phase._boundary(np.array([1.0, 1.0, 1.0, 1.0]), norms))
    assert math.isnan(phase._boundary(np.array([0.5, 0.5, 0.5, 0.5]), norms))
    line = 2.0 * np.array([1000.0, 2000.0, 9000.0]) ** 0.25
    assert phase._slope([1000, 2000, 9000], line) == pytest.approx(0.25)
    assert math.isnan(phase._slope([1000, 2000, 9000], np.array([1.0, np.nan, np.nan])))


def test_full_has_the_phase_diagram_of_twenty_by_twenty():
    settings = amplification.Settings(**amplification.full())
    dimensions, norms = phase.axes(settings.phase)
    assert (len(dimensions), len(norms), settings.phase.seeds) == (20, 20, 4)
    assert (dimensions[0], dimensions[-1]) == (1000, 40_000)
    assert set(amplification.full()) <= set(amplification.Settings.model_fields)


def test_noise_rates_that_claims_need_cannot_be_left_out():
    with pytest.raises(pydantic.ValidationError, match=r"must lie in \[0, 0.5\)"):
        amplification.Settings(noise_rates=(0.1, 0.2))
    with pytest.raises(pydantic.ValidationError, match=r"must lie in \[0, 0.5\)"):
        amplification.Settings(noise_rates=(0.05, 0.1, 0.2, 0.5))
    assert amplification.Settings(noise_rates=(0.2, 0.05)).noise_rates == (0.05, 0.2)


def test_other_papers_settings_run_with_one_argument_changed():
    settings = amplification.Settings(
        grokking={"n": 40, "n_test": 80, "d": 2000, "mean_norm": 9.0, "width": 60, "steps": 100, "seeds": 2}
    )  # fmt: skip
    done = grokking.measure(settings, grokking.claims(settings), seeds=range(2), progress=Silent())
    assert done.data["grokking"].sizes["seed"] == 2
    assert "n = 40, d = 2000" in done.figures[0].caption
    with pytest.raises(pydantic.ValidationError, match="span more than the dimension 500"):
        amplification.Settings(grokking={"d": 500})
    with pytest.raises(pydantic.ValidationError, match="span more than the dimension 301"):
        amplification.Settings(phase={"dimensions": (301, 5000)})
