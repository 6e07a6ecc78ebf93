"""The staircase of the square loss against the flow of networks at scales that vanish."""

import math

import numpy as np
import pytest

import featcore as fc
from featcore.theory.saddle_to_saddle import staircase


def problem(seed, n=6, d=8, width=40):
    """Return orthogonal inputs, targets of both signs, and a balanced start of size 1."""
    rng = np.random.default_rng([81, seed])
    Q, _ = np.linalg.qr(rng.standard_normal((d, n)))
    x = Q.T * rng.uniform(0.7, 1.5, n)[:, None]
    y = np.where(np.arange(n) < n // 2, 1.0, -1.0) * rng.uniform(0.5, 2.0, n)
    W = rng.standard_normal((width, d))
    W /= np.linalg.norm(W, axis=1)[:, None]
    a = np.where(np.arange(width) % 2 == 0, 1.0, -1.0)
    return fc.Dataset(x, y), W, a


@pytest.mark.parametrize("seed", range(4))
def test_networks_climb_down_the_stairs(seed):
    """At ε = exp(-2000) a drop is off by O(1/log(1/ε)) in relative time: what it takes to align and to fit."""
    data, W, a = problem(seed)
    log_scale = -2000.0
    steps = staircase(data.x, data.y)
    first, second = steps.stairs
    net = fc.TwoLayerNet(W, a, log_scale=np.full(len(a), log_scale))
    middle = 0.5 * (first.relative_time + second.relative_time)
    looks = np.array([0.9 * first.relative_time, middle, 1.1 * second.relative_time])
    run = fc.flow(
        net,
        data,
        "squared",
        t_end=-log_scale * looks[-1],
        rtol=1e-8,
        record=fc.Recording.at(-log_scale * looks),
    )
    assert run.outcome.status in ("reached_end", "stationary")
    losses = run.history.loss.sel(split="train").values[-3:]
    np.testing.assert_allclose(losses, [steps.loss, first.loss, second.loss], atol=1e-6)
    squared = np.exp(2 * run.net.log_scale) * run.net.a
    for stair in steps.stairs:
        mine = np.sign(run.net.a) == stair.sign
        np.testing.assert_allclose(squared[mine] @ run.net.W[mine], stair.direction, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_drops_come_at_their_times(seed):
    """The half-way points of both drops, at two scales: their difference has the predicted slope."""
    data, W, a = problem(seed)
    steps = staircase(data.x, data.y)
    before = steps.loss
    for stair in steps.stairs:
        halfway = 0.5 * (before + stair.loss)
        times = []
        for log_scale in (-1000.0, -2000.0):
            net = fc.TwoLayerNet(W, a, log_scale=np.full(len(a), log_scale))
            run = fc.flow(net, data, "squared", t_end=1e5, rtol=1e-8, loss_target=halfway)
            assert run.outcome.status == "loss_target"
            times.append(run.outcome.time)
        assert (times[1] - times[0]) / 1000 == pytest.approx(stair.relative_time, rel=1e-6)
        before = stair.loss


def test_levels_are_what_is_left():
    steps = staircase(2 * np.eye(3), [1.0, 0.0, -2.0])
    assert steps.loss == pytest.approx(5 / 6)
    assert [stair.sign for stair in steps.stairs] == [-1, 1]  # the larger pull comes first
    assert [stair.loss for stair in steps.stairs] == pytest.approx([1 / 6, 0.0])
    np.testing.assert_allclose(steps.stairs[0].direction, [0, 0, -1.0])
    assert steps.stairs[0].relative_time == pytest.approx(3 / 4)


def test_targets_of_one_sign_make_one_stair():
    steps = staircase(np.eye(2), [1.0, 2.0])
    assert len(steps.stairs) == 1
    assert staircase(np.eye(2), [0.0, 0.0]).stairs == ()


def test_rotations_and_orders_do_not_matter():
    data, *_ = problem(9)
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    order = rng.permutation(6)
    one, other = staircase(data.x, data.y), staircase((data.x @ Q)[order], data.y[order])
    for stair, same in zip(one.stairs, other.stairs, strict=True):
        assert stair.relative_time == pytest.approx(same.relative_time, rel=1e-12)
        np.testing.assert_allclose(stair.direction @ Q, same.direction, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        ([[1.0, 0.0], [1.0, 1.0]], [1, 1], "inputs 0 and 1 at a cosine of 0.707"),
        ([[1.0, 0.0], [0.0, 0.0]], [1, 1], "zero input at 1"),
        ([[1.0, 0.0]], [1, 1], "y has shape"),
        ([[math.nan, 0.0]], [1], "x"),
    ],
)
def test_bad_input(x, y, match):
    with pytest.raises(ValueError, match=match):
        staircase(x, y)
