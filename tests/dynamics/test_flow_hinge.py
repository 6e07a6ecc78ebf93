"""The exact flow of the hinge loss: held against Euler's method, closed forms and an oracle, and what it must conserve."""

import itertools
import math

import numpy as np
import pytest
from _hinge_oracle import flow as oracle
from _hinge_problems import (
    CASES,
    END,
    EULER_ERROR,
    EULER_STEPS,
    MARGIN,
    ORACLE_GAP,
    RESTING,
    SEEDS,
    case,
    small,
)
from scipy.optimize import lsq_linear

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


# --- how it ends


def shortest_subgradient(p, net):
    """Return the norm of the shortest subgradient, over that of the samples one by one."""
    x, y, slope = p.x, p.y, p.slope
    c = np.full(len(y), 1 / len(y)) if p.weights is None else p.weights / p.weights.sum()
    W, a = net.W, net.a
    z = W @ x.T
    lengths = np.linalg.norm(W, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    tied = (abs(z) <= 1e-10 * lengths) & (lengths > 0)
    gate = np.where(z > 0, 1.0, slope)
    gate[tied] = slope
    margins = y * (a @ (np.where(z > 0, z, slope * z)))
    columns, low_high = [], []
    base = np.zeros(W.size + a.size)

    def gradient(i, gates):
        return c[i] * y[i] * np.r_[(a[:, None] * gates[:, None] * x[i]).ravel(), gates * z[:, i]]

    for i in np.flatnonzero((margins < 1 + MARGIN) & (c > 0)):
        if margins[i] < 1 - MARGIN:
            base += gradient(i, gate[:, i])
            for j in np.flatnonzero(tied[:, i] & (a * y[i] < 0)):
                g = np.zeros_like(base)
                g[j * x.shape[1] : (j + 1) * x.shape[1]] = (1 - slope) * c[i] * y[i] * a[j] * x[i]
                columns.append(g)
        else:
            columns.append(gradient(i, gate[:, i]))
    sizes = (c[:, None] * abs(x)).sum() * math.hypot(np.linalg.norm(W), np.linalg.norm(a))
    if columns:
        found = lsq_linear(np.array(columns).T, -base, (0, 1), tol=1e-14)
        base = base + np.array(columns).T @ found.x
    return np.linalg.norm(base) / sizes


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
        assert shortest_subgradient(p, run.net) <= RESTING
