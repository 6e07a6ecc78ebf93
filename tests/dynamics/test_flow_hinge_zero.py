"""The exact hinge flow where neurons come to w = 0: those that pass it, stay there, leave it again, or only near it."""

import math
import re

import numpy as np
import pytest
from _hinge_problems import (
    BALANCED_GAP,
    BALANCED_SEEDS,
    END,
    LEAVING,
    LEAVING_AFTER,
    LEAVING_ERROR,
    LEAVING_SHIFT,
    LEAVING_STEPS,
    SINGLE_END,
    SINGLE_ERROR,
    SINGLE_SEEDS,
    SINGLE_STEP,
    STAYING,
    STAYING_SPEED,
    UNBALANCED_END,
    UNBALANCED_GAP,
    UNBALANCED_SEEDS,
    HingeProblem,
    balanced,
    single,
    unbalanced,
)

import featcore as fc

NOTHING = fc.Recording.at([])


def network(p):
    activation = fc.LeakyReLU(p.slope) if p.slope else fc.ReLU()
    return fc.TwoLayerNet(p.W, p.a, activation), fc.Dataset(p.x, p.y)


def gap(net, other):
    """Return the largest difference of a weight."""
    return max(abs(net.W - other.W).max(), abs(net.a - other.a).max())


# Of a review: it was at rest in 0 by rounding, from t = 7.8412 on.
SMALLEST = HingeProblem(
    np.array(
        [
            [-0.11576608651485665, -1.048070520285276],
            [-0.861066052630449, 2.011168324604506],
            [1.6551850061470366, 0.5598452131081328],
            [-1.5702084634301783, 1.2892691825472278],
        ]
    ),
    np.array([-1.0, 1.0, -1.0, -1.0]),
    np.array([[-0.011030359513930995, -0.08854366213077347]]),
    np.array([0.1]),
    0.5,
)


def test_a_leaky_neuron_that_slides_to_zero_goes_on():
    net, data = network(SMALLEST)
    run = fc.flow(net, data, "hinge", t_end=17.8412, record=NOTHING, events=True)
    assert run.outcome.status == "reached_end"
    assert "still moves: 4 of 4 margins are below 1" in run.outcome.message
    at_zero = run.events.to_dataframe().query("time > 7").time
    assert at_zero.max() - at_zero.min() < 1e-12
    assert at_zero.iloc[0] == pytest.approx(7.8412, abs=1e-4)
    # what its chatter makes of the passage depends on its phase: no error halves with the step
    for step in (4e-3, 1e-3, 2.5e-4):
        steps = round(17.8412 / step)
        euler = fc.descend(net, data, "hinge", step_size=step, steps=steps, record=NOTHING)
        assert gap(euler.net, run.net) <= step


@pytest.mark.parametrize("seed", SINGLE_SEEDS)
def test_euler_tends_to_the_flow_of_a_leaky_neuron(seed):
    net, data = network(single(seed))
    run = fc.flow(net, data, "hinge", t_end=SINGLE_END, record=NOTHING)
    euler = fc.descend(
        net,
        data,
        "hinge",
        step_size=SINGLE_STEP,
        steps=round(SINGLE_END / SINGLE_STEP),
        record=NOTHING,
    )
    assert gap(euler.net, run.net) <= SINGLE_ERROR


@pytest.mark.parametrize("seed", UNBALANCED_SEEDS)
def test_the_order_of_samples_and_the_axes_change_nothing(seed):
    p = unbalanced(seed)
    n, d = p.x.shape
    net, data = network(p)
    run = fc.flow(net, data, "hinge", t_end=UNBALANCED_END, record=NOTHING)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        turn, order = np.linalg.qr(rng.standard_normal((d, d)))[0], rng.permutation(n)
        other = fc.flow(
            fc.TwoLayerNet(p.W @ turn.T, p.a, net.activation),
            fc.Dataset(p.x[order] @ turn.T, p.y[order]),
            "hinge",
            t_end=UNBALANCED_END,
            record=NOTHING,
        ).net
        assert gap(fc.TwoLayerNet(other.W @ turn, other.a), run.net) <= UNBALANCED_GAP


@pytest.mark.parametrize("seed", STAYING)
def test_a_leaky_neuron_stays_at_zero_where_no_direction_lets_it_grow(seed):
    p = unbalanced(seed)
    net, data = network(p)
    run = fc.flow(net, data, "hinge", t_end=END, record=NOTHING)
    zero = np.flatnonzero((run.net.W == 0).all(1))
    assert zero.size > 0
    hidden = run.net.W @ p.x.T
    margins = p.y * (run.net.a @ np.where(hidden > 0, hidden, p.slope * hidden))
    if (margins < 1 - 1e-9).any():
        said = f"{zero.size} of {len(p.a)} neurons are at w = 0 (neuron"
        assert said in run.outcome.message
    residuals = p.y * run.state.arrays["eta"] / len(p.y)
    directions = np.random.default_rng(0).standard_normal((20000, p.x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    z = directions @ p.x.T
    gains = np.where(z > 0, z, p.slope * z) @ residuals
    for j in zero:
        assert (np.sign(run.net.a[j]) * gains <= STAYING_SPEED).all()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_neurons_at_zero_are_counted_in_the_span_too(slope):
    """In forms that carry the span of the samples w is 0 there, and what is beyond it does not move."""
    net = fc.TwoLayerNet([[0.5, 0.01]], [-0.6], fc.LeakyReLU(slope) if slope else fc.ReLU())
    # outputs are negative wherever w is, as each direction has a positive z that outweighs the others
    x, y = np.array([[0.0, 1.0], [1.0, -0.7], [-1.0, 0.0]]), np.ones(3)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))[0]
    wide = fc.TwoLayerNet(
        np.pad(net.W, ((0, 0), (0, 28)), constant_values=0.3) @ turn, net.a, net.activation
    )
    for form in ("primal", "projected"):
        run = fc.flow(
            wide,
            fc.Dataset(np.pad(x, ((0, 0), (0, 28))) @ turn, y),
            "hinge",
            t_end=1e4,
            form=form,
            record=NOTHING,
        )
        assert run.outcome.status == "stationary"
        said = "neurons are at w = 0" if slope else "neurons are dead"
        assert f"1 of 1 {said} (neuron 0)" in run.outcome.message


@pytest.mark.parametrize(("seed", "time"), LEAVING)
def test_a_leaky_neuron_leaves_zero_when_demands_let_it(seed, time):
    p = unbalanced(seed)
    net, data = network(p)
    before = fc.flow(net, data, "hinge", t_end=time - 0.02, record=NOTHING)
    zero = (before.net.W == 0).all(1)
    on = before.continue_(t_end=time + LEAVING_AFTER, record=NOTHING)
    assert zero.any()
    assert (on.net.W[zero] != 0).any()
    shift = LEAVING_SHIFT * np.random.default_rng(seed).standard_normal(p.W.shape)
    start = fc.TwoLayerNet(
        np.where(zero[:, None], shift, before.net.W), before.net.a, net.activation
    )
    errors = []
    for step in LEAVING_STEPS:
        steps = round((0.02 + LEAVING_AFTER) / step)
        euler = fc.descend(start, data, "hinge", step_size=step, steps=steps, record=NOTHING)
        errors.append(gap(euler.net, on.net))
    assert errors[1] <= min(LEAVING_ERROR, errors[0])


# Heads keep their signs: a² = |w|², so that a = 0 is w = 0, which is not reached in finite time.
@pytest.mark.parametrize("seed", BALANCED_SEEDS)
def test_heads_of_balanced_neurons_keep_their_sign(seed):
    p, rates = balanced(seed)
    net, data = network(p)
    run = fc.flow(net, data, "hinge", t_end=END, layer_rates=rates, record=NOTHING)
    assert (np.sign(run.net.a) * np.sign(p.a) >= 0).all()
    head, weight = rates["W"] * run.net.a**2, rates["a"] * (run.net.W**2).sum(1)
    assert (abs(weight - head) <= BALANCED_GAP * (weight + head)).all()


def test_a_balanced_neuron_that_falls_to_zero_comes_to_rest():
    # the first sample holds it, with a gate of 0.7, on the axis on which the second leads it to 0
    data = fc.Dataset([[0.0, 1.0], [1.0, -0.7]], [1.0, 1.0])
    net = fc.TwoLayerNet([[0.5, 0.0]], [-0.5], fc.LeakyReLU(0.5))
    run = fc.flow(net, data, "hinge", t_end=10.0, record=NOTHING)
    assert run.net.a[0] == pytest.approx(-0.5 * math.exp(-5.0), rel=1e-12)
    assert run.net.W[0, 0] == pytest.approx(0.5 * math.exp(-5.0), rel=1e-12)
    end = fc.flow(net, data, "hinge", t_end=1e4, record=NOTHING)
    assert end.outcome.status == "stationary"
    assert end.outcome.time < 720
    assert not end.net.W.any()
    assert not end.net.a.any()
    assert "1 of 1 neurons are at w = 0 (neuron 0)" in end.outcome.message


@pytest.mark.parametrize(
    ("of_W", "of_a", "words"),
    [
        (
            1e100,
            1e100,
            r"terms up to .*e\+200, of which rounding leaves .*e\+18\d.*smaller weights",
        ),
        (1.0, 1e30, r"terms up to .*e\+30, of which rounding leaves .*e\+15.*smaller weights"),
        (1e10, 1e-4, r"weights of W are .*e\+1\d times as large as those of a"),
    ],
)
def test_sizes_that_are_in_the_way_are_told(of_W, of_a, words):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], 6)
    net = fc.TwoLayerNet(of_W * rng.standard_normal((4, 3)), of_a * rng.standard_normal(4))
    run = fc.flow(net, fc.Dataset(x, y), "hinge", t_end=1e3, max_steps=2, record=NOTHING)
    assert run.outcome.status in ("stationary", "step_underflow", "max_steps")
    assert re.search(words, run.outcome.message), run.outcome.message
