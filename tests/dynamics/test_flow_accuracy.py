"""The error of the event-resolved flow is what was asked for, on problems fixed beforehand.

`flow_oracle.npz` and, for problems of later date, `flow_oracle_fresh.npz` have what `_oracle.flow` gave on them, for
it takes minutes: t_end, crossings, times a sample was caught, then W and a. Of the fresh ones 121, 128 and 139 are
missing: there the oracle did not come to an end in 300 s. `python tests/dynamics/test_flow_accuracy.py SEED` computes
one again and prints how far they are apart.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from _flow_problems import (
    ALLOWED,
    FRESH_SEEDS,
    ROUNDING_SEEDS,
    ROUNDINGS,
    SEEDS,
    TOLERANCES,
    end_time,
    random_problem,
    reference_problem,
)
from _oracle import flow as oracle

import featcore as fc

FOLDER = Path(__file__).parent
KNOWN = {**np.load(FOLDER / "flow_oracle.npz"), **np.load(FOLDER / "flow_oracle_fresh.npz")}
NOTHING = fc.Recording.at([])
SENSITIVE = 13  # 35000 crossings and 7000 slidings: half a minute at a fine tolerance
FRESH = [seed for seed in FRESH_SEEDS if f"seed_{seed}" in KNOWN]
SLOW = {f"seed_{seed}" for seed in (SENSITIVE, *FRESH)}
CASES = [
    pytest.param(name, rtol, marks=[pytest.mark.long] if name in SLOW and rtol < 1e-6 else [])
    for name in ("reference", *(f"seed_{seed}" for seed in (*SEEDS, *FRESH)))
    for rtol in TOLERANCES
]


def error(net, known):
    """Return the relative error of (W, a)."""
    theta = np.concatenate([net.W.ravel(), net.a])
    return math.dist(theta, known) / np.linalg.norm(known)


def solve(p, W, t_end, rtol):
    activation = fc.LeakyReLU(p.slope) if p.slope else fc.ReLU()
    run = fc.flow(
        fc.TwoLayerNet(W, p.a, activation),
        fc.Dataset(p.x, p.y),
        p.loss,
        t_end=t_end,
        rtol=rtol,
        record=NOTHING,
    )
    assert run.outcome.status == "reached_end"
    return run


@pytest.mark.parametrize(("name", "rtol"), CASES)
def test_error_is_within_ten_times_the_tolerance(name, rtol):
    p = (
        reference_problem()
        if name == "reference"
        else random_problem(int(name.removeprefix("seed_")))
    )
    t_end, crossings, slidings = KNOWN[name][:3]
    run = solve(p, p.W, t_end, rtol)
    assert error(run.net, KNOWN[name][3:]) <= ALLOWED * rtol
    if rtol <= 1e-8:
        assert run.outcome.counts["crossings"] == crossings
        assert run.outcome.counts["slidings"] == slidings


@pytest.mark.parametrize("seed", ROUNDING_SEEDS)
def test_roundings_do_not_decide_the_error_of_a_sensitive_problem(seed):
    """At t = 40 a neuron passes a hyperplane that repels it at a relative distance of 2e-5: from beyond it strays."""
    name, rtol = f"seed_{SENSITIVE}", 1e-4
    p = random_problem(SENSITIVE)
    noise = np.random.default_rng(seed).standard_normal(p.W.shape)
    run = solve(p, p.W * (1 + ROUNDINGS * noise), KNOWN[name][0], rtol)
    assert error(run.net, KNOWN[name][3:]) <= ALLOWED * rtol


if __name__ == "__main__":
    seed = int(sys.argv[1])
    problem = random_problem(seed)
    end = end_time(problem)
    W, a, counts = oracle(
        problem.x, problem.y, problem.W, problem.a, end, loss=problem.loss, slope=problem.slope
    )
    print(end, counts, error(fc.TwoLayerNet(W, a), KNOWN[f"seed_{seed}"][3:]))
