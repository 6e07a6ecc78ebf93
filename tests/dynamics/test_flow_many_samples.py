"""Flows on many samples, where neurons follow only those that come near: nothing else changes."""

import numpy as np
import pytest
from _flow_problems import random_problem
from _runs import gap, problem, same_history, same_net

import featcore as fc

NOTHING = fc.Recording.at([])
# Calibration problems, as in test_flow; all kinds and losses, 1001 and 1008 with sliding.
SEEDS = (1000, 1001, 1007, 1008, 1009)


def with_weightless(p, n, seed):
    """Return the data of a problem with n more samples that have no weight."""
    rng = np.random.default_rng([5, seed])
    count, d = p.x.shape
    more = rng.standard_normal((n, d)) * np.linalg.norm(p.x) / np.sqrt(p.x.size)
    x, y = np.r_[p.x, more], np.r_[p.y, rng.choice([-1.0, 1.0], n)]
    # the mean is over the sum of weights
    return fc.Dataset(x, y, weights=np.r_[np.ones(count), np.zeros(n)])


@pytest.mark.parametrize(
    ("seed", "more"),
    [
        *((seed, 400) for seed in SEEDS),
        pytest.param(SEEDS[1], 6001, marks=pytest.mark.long),
        (SEEDS[4], 6001),
    ],
)
def test_samples_without_weight_change_nothing(seed, more):
    """They are crossed, and make windows of what was one search; beyond 6000 no products are kept.

    At a fine tolerance: at 1e-6 roundings of the weights alone (1e-15, seed 1007) change which steps are rejected,
    and with them the end by 2e-7.
    """
    p = random_problem(seed)
    net = fc.TwoLayerNet(p.W, p.a, fc.LeakyReLU(p.slope) if p.slope else fc.ReLU())
    few, many = fc.Dataset(p.x, p.y), with_weightless(p, more, seed)
    rtol = 1e-10
    options = {"t_end": 3.0, "rtol": rtol, "record": NOTHING, "events": 2**22}
    one = fc.flow(net, few, p.loss, **options)
    other = fc.flow(net, many, p.loss, **options)
    assert other.outcome.counts["crossings"] > 2 * one.outcome.counts["crossings"]
    assert gap(one.net, other.net) <= 10 * rtol
    assert other.outcome.drift <= 1e-13 * (
        np.linalg.norm(net.W) ** 2 + np.linalg.norm(other.net.W) ** 2
    )
    first, second = (
        run.events.isel(event=run.events["sample"].values < len(p.y)) for run in (one, other)
    )
    rows = []
    for events in (first, second):
        order = np.lexsort(
            [events[name].values for name in ("time", "sample", "neuron")]
        )  # the last is the first key
        rows.append({name: events[name].values[order] for name in events.variables})
    for name in ("neuron", "sample", "kind"):
        np.testing.assert_array_equal(rows[0][name], rows[1][name])
    np.testing.assert_allclose(rows[0]["time"], rows[1]["time"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("d", "heavy"), [(3, 5), (4, 8)])
def test_windows_end_when_v_has_changed_by_more_than_was_reckoned_with(d, heavy):
    """A few samples have all the weight: crossing one turns v, and samples that went away come back.

    At vanishing scale residuals stand still and steps are long; heads are larger than weights, which so turn fast.
    Samples far away (the last input) only make windows of what was one search.
    """
    light, far, m = 40, 300, 200
    rng = np.random.default_rng([6, 0])
    near = np.c_[rng.standard_normal((heavy + light, d)), np.zeros(heavy + light)]
    y = rng.choice([-1.0, 1.0], heavy + light + far)
    x = np.r_[near, np.c_[0.01 * rng.standard_normal((far, d)), np.ones(far)]]
    weights = np.r_[np.ones(heavy), np.zeros(light + far)]
    size = 10 ** rng.uniform(-3, 0, (m, 1))
    W = 1e-12 * np.c_[size * rng.standard_normal((m, d)), np.full(m, 100.0)]
    net = fc.TwoLayerNet(W, 1e-12 * rng.choice([-1.0, 1.0], m))
    few, many = (fc.Dataset(x[:n], y[:n], weights=weights[:n]) for n in (len(near), len(x)))
    one, other = (
        fc.flow(net, data, t_end=3.0, rtol=1e-10, record=NOTHING).net.W[:, :d]
        for data in (few, many)
    )
    assert np.linalg.norm(one - W[:, :d]) > 1e-12
    assert np.linalg.norm(other - one) <= 1e-12 * np.linalg.norm(one)


def many_samples(dtype, slope):
    """Return small weights, which turn and cross much, and samples of which some are mirrored."""
    rng = np.random.default_rng(3)
    n, d, m = 400, 7, 40
    y = rng.choice([-1.0, 1.0], n)
    x = y[:, None] * (2 * np.eye(d)[0]) + rng.standard_normal((n, d))
    x[n - 30 :] = -2 * x[:30]
    W = 1e-3 * rng.standard_normal((m, d))
    a = rng.choice([-1.0, 1.0], m) * np.linalg.norm(W, axis=1)
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    net = fc.TwoLayerNet(W.astype(dtype), a.astype(dtype), activation)
    return net, fc.Dataset(x.astype(dtype), y.astype(dtype))


@pytest.mark.parametrize(("dtype", "slope"), [(np.float64, 0.0), (np.float32, 0.3)])
def test_bits_do_not_depend_on_threads_or_recording(dtype, slope):
    net, data = many_samples(dtype, slope)
    options = {"t_end": 4.0, "rtol": 1e-4, "weight_decay": 0.05}
    runs = [
        fc.flow(net, data, num_threads=k, record=fc.Recording.linear(9), **options)
        for k in (1, 2, 3, 5)
    ]
    assert runs[0].outcome.counts["crossings"] > 1000
    for run in runs[1:]:
        assert same_net(run.net, runs[0].net)
        assert same_history(run.history, runs[0].history)
    assert same_net(fc.flow(net, data, record=NOTHING, **options).net, runs[0].net)


def test_a_flow_on_many_samples_goes_on_with_the_same_bits():
    net, data = many_samples(np.float64, 0.0)
    whole = fc.flow(net, data, t_end=4.0, record=NOTHING)
    part = fc.flow(net, data, t_end=1.3, record=NOTHING)
    assert same_net(part.continue_(t_end=4.0).net, whole.net)


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_inputs_that_no_sample_has_only_decay(decay, slope):
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    net, data = problem(30, 4, 9, seed=1, activation=activation)
    idle = np.random.default_rng(0).standard_normal((9, 3))
    W = np.c_[idle[:, :1], net.W[:, :2], idle[:, 1:2], net.W[:, 2:], idle[:, 2:]]
    x = np.zeros((30, 7))
    x[:, [1, 2, 4, 5]] = data.x
    wider = fc.TwoLayerNet(W, net.a, activation)
    options = {"t_end": 2.0, "rtol": 1e-6, "weight_decay": decay, "record": NOTHING}
    one = fc.flow(net, data, **options).net
    run = fc.flow(wider, fc.Dataset(x, data.y), **options)
    other = run.net
    assert np.array_equal(other.W[:, [1, 2, 4, 5]], one.W)
    assert np.array_equal(other.a, one.a)
    np.testing.assert_allclose(other.W[:, [0, 3, 6]], np.exp(-2.0 * decay) * idle, rtol=1e-13)


def test_samples_that_are_all_zero_move_nothing_but_decay():
    net, _ = problem(30, 4, 9, seed=1)
    data = fc.Dataset(np.zeros((3, 4)), np.array([1.0, -1.0, 1.0]))
    run = fc.flow(net, data, t_end=2.0, weight_decay=0.1, record=NOTHING)
    np.testing.assert_allclose(run.net.W, np.exp(-0.2) * net.W, rtol=1e-13)
    np.testing.assert_allclose(run.net.a, np.exp(-0.2) * net.a, rtol=1e-13)
    assert run.outcome.counts["crossings"] == 0
