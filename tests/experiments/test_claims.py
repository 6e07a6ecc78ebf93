import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from featcore import experiments
from featcore.experiments.claims import RELATIONS, Claim
from featcore.experiments.protocol import ExperimentResult, Figure, fresh_seeds

moderate = st.floats(-1e6, 1e6)
samples = st.lists(moderate, min_size=2, max_size=12)
relations = st.sampled_from(RELATIONS)


def claim(**changes):
    stated = {
        "key": "k",
        "sentence": "A sentence.",
        "source": "derived",
        "reference": "equation (1)",
        "predicted": 0.0,
        "relation": "equal",
        "bias": 0.0,
        "resolution": 1e300,
    }
    return Claim(**(stated | changes))


@given(samples, st.floats(0, 1e3))
def test_tolerance_is_bias_plus_three_standard_errors(values, bias):
    finding = claim(bias=bias).judge(values)
    scale = max(1.0, *map(abs, values))
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert finding.measured == pytest.approx(np.mean(values), abs=1e-12 * scale)
    assert finding.standard_error == pytest.approx(error, abs=1e-12 * scale)
    assert finding.tolerance == bias + 3 * finding.standard_error
    assert finding.seeds == len(values)


@given(samples, moderate, st.floats(0, 1e6), relations)
def test_verdict_is_the_stated_comparison(values, predicted, bias, relation):
    finding = claim(predicted=predicted, bias=bias, relation=relation).judge(values)
    measured, tolerance = finding.measured, finding.tolerance
    holds = {
        "equal": abs(measured - predicted) <= tolerance,
        "at_least": measured - predicted >= -tolerance,
        "at_most": measured - predicted <= tolerance,
    }[relation]
    assert finding.verdict == ("holds" if holds else "fails")


@given(samples, moderate, st.floats(0, 1e6), st.floats(0, 1e6), relations)
def test_a_larger_bias_never_turns_holds_into_fails(values, predicted, bias, more, relation):
    small = claim(predicted=predicted, bias=bias, relation=relation).judge(values)
    large = claim(predicted=predicted, bias=bias + more, relation=relation).judge(values)
    assume(small.verdict == "holds")
    assert large.verdict == "holds"


@given(samples, moderate, st.floats(0, 1e6))
def test_equal_holds_where_both_one_sided_claims_do(values, predicted, bias):
    equal, least, most = (
        claim(predicted=predicted, bias=bias, relation=relation).judge(values).verdict
        for relation in RELATIONS
    )
    assert (equal == "holds") == (least == most == "holds")


@given(samples, st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
def test_one_sample_that_is_not_finite_fails(values, bad, data):
    values.insert(data.draw(st.integers(0, len(values))), bad)
    finding = claim(bias=1e9).judge(values)
    assert finding.verdict == "fails"
    assert "1 of" in finding.note
    assert math.isnan(finding.measured)


@given(samples, st.floats(0, 1e6))
def test_inconclusive_beyond_the_resolution(values, resolution):
    finding = claim(bias=1e9, resolution=resolution).judge(values)
    beyond = 3 * finding.standard_error > resolution
    assert finding.verdict == ("inconclusive" if beyond else "holds")
    assert bool(finding.note) == beyond


@pytest.mark.parametrize("values", [[], [0.0], 0.0])
def test_fewer_than_two_seeds_are_inconclusive(values):
    finding = claim(bias=1.0).judge(values)
    assert finding.verdict == "inconclusive"
    assert "at least 2" in finding.note


def test_a_deterministic_number_has_no_standard_error():
    stated = claim(predicted=1.0, bias=0.1, resolution=0.0)
    assert stated.judge(1.05, deterministic=True).verdict == "holds"
    assert stated.judge([1.2], deterministic=True).verdict == "fails"
    assert stated.judge(math.nan, deterministic=True).verdict == "fails"
    finding = stated.judge(np.float32(1), deterministic=True)
    assert (finding.standard_error, finding.tolerance, finding.seeds) == (0.0, 0.1, 0)
    with pytest.raises(ValueError, match="takes one"):
        stated.judge([1.0, 1.0], deterministic=True)


def test_equal_samples_have_no_error_and_large_ones_do_not_overflow():
    finding = claim(predicted=0.1).judge([0.1] * 3)
    assert (finding.measured, finding.standard_error, finding.verdict) == (0.1, 0.0, "holds")
    assert claim(predicted=1e308).judge([1e308] * 5).measured == 1e308


def test_samples_have_one_axis():
    with pytest.raises(ValueError, match="one value a seed"):
        claim().judge([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentence": " "}, "sentence"),
        ({"reference": ""}, "reference"),
        ({"source": "rumour"}, "source='rumour'"),
        ({"relation": "about"}, "relation='about'"),
        ({"predicted": math.nan}, "predicted"),
        ({"bias": -1.0}, "bias"),
        ({"resolution": math.inf}, "resolution"),
    ],
)
def test_a_claim_refuses_what_it_cannot_judge(changes, message):
    with pytest.raises(ValueError, match=message):
        claim(**changes)


def test_a_claim_is_frozen():
    with pytest.raises(AttributeError):
        claim().bias = 1.0


def test_fresh_seeds_are_different():
    seeds = fresh_seeds(50)
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert not set(seeds) & set(fresh_seeds(50))
    with pytest.raises(ValueError, match="k=0"):
        fresh_seeds(0)


def test_the_registry_names_what_there_is():
    assert experiments.NAMES == ("amplification", "alignment", "one-step", "modes")
    for name in experiments.NAMES:
        assert experiments.get(name).name == name
    with pytest.raises(ValueError, match="'amplification', 'alignment', 'one-step', 'modes'"):
        experiments.get("grokking")


def test_names_that_become_files_are_checked():
    with pytest.raises(ValueError, match="file name"):
        Figure("../escape", "title", "caption", lambda: None)
    parts = {"name": "n", "title": "t", "summary": "", "settings": {}, "seeds": [0]}
    finding = claim().judge([0.0, 0.0])
    with pytest.raises(ValueError, match="'k' more than once"):
        ExperimentResult(**parts, findings=[finding, finding])
    with pytest.raises(ValueError, match="data key='a b'"):
        ExperimentResult(**parts, findings=[], data={"a b": None})
