"""The exact flow of the hinge loss: held against Euler's method, closed forms, an oracle, and what it conserves."""

import itertools

import numpy as np
import pytest
from _hinge_oracle import flow as oracle
from _hinge_problems import (
    CASES,
    END,
    EULER_ERROR,
    EULER_STEPS,
    MARGIN,
    ORACLE_END,
    ORACLE_GAP,
    ORACLE_SEEDS,
    RESTING,
    RESTING_STEP,
    RESTING_TIME,
    SEEDS,
    case,
    small,
)

import featcore as fc

NOTHING = fc.Recording.at([])


def network(p, dtype=np.float64):
    activation = fc.LeakyReLU(p.slope) if p.slope else fc.ReLU()
    weights = None if p.weights is None else p.weights.astype(dtype)
    return (
        fc.TwoLayerNet(p.W.astype(dtype), p.a.astype(dtype), activation),
        fc.Dataset(p.x.astype(dtype), p.y.astype(dtype), weights=weights),
    )


def gap(net, W, a):
    """Return the largest difference of a weight."""
    return max(abs(net.W - W).max(), abs(net.a - a).max())


def outputs(net, x, slope=0.0):
    z = x @ net.W.T
    return np.where(z > 0, z, slope * z) @ net.a


# --- against others


@pytest.mark.parametrize("name", CASES)
def test_euler_tends_to_the_flow_at_first_order(name):
    p, t_end = case(name)
    net, data = network(p)
    run = fc.flow(net, data, "hinge", t_end=t_end, record=NOTHING)
    assert run.settings["method"] == "event"
    errors = []
    for k in (1, 4, 16):
        step = EULER_STEPS[name] / k
        steps = round(run.outcome.time / step)
        euler = fc.descend(net, data, "hinge", step_size=step, steps=steps, record=NOTHING).net
        errors.append(gap(euler, run.net.W, run.net.a))
    for coarse, fine in itertools.pairwise(errors):
        assert fine <= coarse / 2
    assert errors[-1] <= EULER_ERROR


@pytest.mark.parametrize("name", CASES)
def test_cases_agree_with_the_oracle(name):
    p, t_end = case(name)
    net, data = network(p)
    W, a, t, _ = oracle(p, t_end)
    run = fc.flow(net, data, "hinge", t_end=t_end, record=NOTHING)
    assert run.outcome.time == pytest.approx(t, rel=1e-9)
    assert gap(run.net, W, a) <= ORACLE_GAP
    assert run.outcome.drift < 1e-13


@pytest.mark.parametrize("seed", ORACLE_SEEDS)
def test_small_problems_agree_with_the_oracle(seed):
    p = small(seed)
    if p.x.shape[1] == 1:
        pytest.skip("all samples on one line: the oracle knows of pairs only")
    net, data = network(p)
    W, a, t, _ = oracle(p, ORACLE_END)
    run = fc.flow(net, data, "hinge", t_end=ORACLE_END, record=NOTHING)
    assert run.outcome.time == pytest.approx(t, rel=1e-9, abs=1e-12)
    assert gap(run.net, W, a) <= ORACLE_GAP


# --- how it ends


@pytest.mark.parametrize("seed", SEEDS)
def test_small_problems_end_with_every_sample_satisfied_or_say_why_not(seed):
    p = small(seed)
    net, data = network(p)
    run = fc.flow(net, data, "hinge", t_end=END, record=NOTHING)
    margins = p.y * outputs(run.net, p.x, p.slope)
    counts = np.ones(len(p.y), bool) if p.weights is None else p.weights > 0
    violated = np.flatnonzero((margins < 1 - MARGIN) & counts)
    size = max(1.0, np.linalg.norm(run.net.W) ** 2 + np.linalg.norm(run.net.a) ** 2)
    assert run.outcome.drift <= 1e-12 * size
    assert run.outcome.status in ("stationary", "reached_end")
    if not violated.size:
        assert run.outcome.status == "stationary"
        assert "Every margin is at least 1" in run.outcome.message
        return
    few = ", ".join(map(str, violated[:5]))
    assert f"{violated.size} of {len(p.y)} margins are below 1 (sample" in run.outcome.message
    assert few in run.outcome.message
    if p.slope == 0:
        dead = np.flatnonzero((p.x @ run.net.W.T <= 0).all(0))
        said = (
            "no neuron is dead" if not dead.size else f"{dead.size} of {len(p.a)} neurons are dead"
        )
        assert said in run.outcome.message
    if run.outcome.status == "stationary":
        steps = round(RESTING_TIME / RESTING_STEP)
        still = fc.descend(
            run.net, data, "hinge", step_size=RESTING_STEP, steps=steps, record=NOTHING
        )
        assert gap(still.net, run.net.W, run.net.a) <= RESTING
