"""Neurons that start on the hyperplane of samples exactly, above all on that of samples x and -x.

There relu'(0) = 0: none of them is active, and where the field of all others leads decides on the side. Where it does
not lead to either the neuron stays, as it does under `descend`, for as long as that is so. (Leaky: slope instead of 0.)
No run may depend on the order of the samples, nor on which of x and -x is the first.

Written down before the first run. Euler's method is compared at steps 4h and h: if the limit is the flow the finer one
lacks a third of their difference, and what it goes astray on a hyperplane that attracts; allowed are twice the
difference and h, and 10 h under the hinge loss, where it goes back and forth at margins too. Runs on reordered samples
agree to 1e-9, at rtol = 1e-11.

A neuron comes to a hyperplane that repels it on both sides at the start only, where its head changes sign while it
slides, or where it meets several at once: with z > 0 > dz/dt just before, or the reverse, that side does not repel.
"""

import numpy as np
import pytest
from _runs import same_net

import featcore as fc

NOTHING = fc.Recording.at([])
LOSSES = ("logistic", "hinge")
ASTRAY = {"logistic": 1, "hinge": 10}
SEEDS = range(12)
SLOPES = (0.0, 0.1, 0.5)


@pytest.fixture(params=LOSSES)
def loss(request):
    return request.param


def network(W, a, slope=0.0, dtype=np.float64):
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    return fc.TwoLayerNet(np.asarray(W, dtype), np.asarray(a, dtype), activation)


def flow(net, x, y, t_end, loss, **more):
    data = fc.Dataset(np.asarray(x, net.W.dtype), np.asarray(y, net.W.dtype))
    more = {"rtol": 1e-11, "record": NOTHING} | more
    run = fc.flow(net, data, loss, t_end=t_end, **more)
    ends = ("reached_end", "stationary") if loss == "hinge" else ("reached_end",)
    assert run.outcome.status in ends, run.outcome.message
    return run


def orders(n, rng):
    """The samples as they are, the first two exchanged, backwards, and two at random."""
    exchanged = np.r_[1, 0, 2:n]
    return [np.arange(n), exchanged, np.arange(n)[::-1], rng.permutation(n), rng.permutation(n)]


def gap(one, other):
    return max(np.abs(one.W - other.W).max(), np.abs(one.a - other.a).max())


def follows_euler(net, x, y, end, t_end, loss, steps=4_000):
    data = fc.Dataset(x, y)
    coarse, fine = (
        fc.descend(net, data, loss, step_size=t_end / k, steps=k, record=NOTHING).net
        for k in (steps, 4 * steps)
    )
    return gap(fine, end) <= 2 * gap(coarse, fine) + ASTRAY[loss] * t_end / (4 * steps)


def check(net, x, y, t_end, rng, loss):
    """In every order the flow is that limit of Euler's method."""
    runs = [flow(net, x[order], y[order], t_end, loss) for order in orders(len(x), rng)]
    assert follows_euler(net, x, y, runs[0].net, t_end, loss)
    for run in runs[1:]:
        assert gap(run.net, runs[0].net) <= 1e-9
    return runs[0]


def speeds(net, x, y, j, line, loss):
    """Speeds of z_j on the far side of sample `line`'s hyperplane, on it, and on its near side."""
    slope = getattr(net.activation, "slope", 0.0)
    z = net.W @ x.T
    f = net.a @ np.where(z > 0, z, slope * z)
    r = y * (y * f < 1 if loss == "hinge" else 1 / (1 + np.exp(y * f))) / len(x)
    along = x @ x[line]
    on_it = z[j] == 0
    gate = np.where(z[j] > 0, 1.0, slope)
    here = net.a[j] * (gate * r) @ along
    more = net.a[j] * (1 - slope) * r * along * on_it
    return here + more[along < 0].sum(), here, here + more[along > 0].sum()


def pair_and_others(seed, lengths=(3.0, -3.0), labels=(1.0, 1.0)):
    """A pair on the first axis, and five samples in general position."""
    rng = np.random.default_rng([44, seed])
    x = np.r_[np.outer(lengths, [1.0, 0, 0]), 0.7 * rng.standard_normal((5, 3))]
    return rng, x, np.r_[labels, rng.choice([-1.0, 1.0], 5)]


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("lengths", [(3.0, -3.0), (2.0, -4.0)])
def test_a_repelled_neuron_goes_where_the_others_pull(slope, lengths, loss):
    towards = []
    for seed in SEEDS:
        rng, x, y = pair_and_others(seed, lengths)
        W = 0.5 * rng.standard_normal((2, 3))
        W[0, 0] = 0
        net = network(W, [0.8, -0.6], slope)
        far, here, near = speeds(net, x, y, 0, 0, loss)
        if not far < 0 < near or here == 0:  # where nothing else is active it stays
            continue
        check(net, x, y, 1.0, rng, loss)
        assert flow(net, x, y, 0.01, loss).net.W[0, 0] * here > 0
        towards.append(np.sign(here))
    assert {-1.0, 1.0} <= set(towards)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("labels", [(1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)])
def test_whatever_the_hyperplane_does(slope, labels, loss):
    """Heads of both signs on the same hyperplane: it repels, attracts or lets through."""
    for seed in SEEDS:
        rng, x, y = pair_and_others(seed, (1.5, -1.0), labels)
        W = 0.5 * rng.standard_normal((3, 3))
        W[:2, 0] = 0
        check(network(W, [0.8, -0.6, 0.4], slope), x, y, 1.0, rng, loss)


@pytest.mark.parametrize("slope", SLOPES)
def test_a_head_that_starts_at_zero(slope, loss):
    for seed in SEEDS:
        rng, x, y = pair_and_others(seed)
        W = 0.5 * rng.standard_normal((2, 3))
        W[0, 0] = 0
        check(network(W, [0.0, -0.6], slope), x, y, 1.0, rng, loss)


@pytest.mark.parametrize("slope", SLOPES)
def test_two_pairs_at_once(slope, loss):
    for seed in SEEDS:
        rng = np.random.default_rng([45, seed])
        u, v = np.array([[3.0, 0.5, 0, 0], [-0.5, 3.0, 0, 0]])
        x = np.r_[[u, -u, v, -v], 0.7 * rng.standard_normal((6, 4))]
        y = np.r_[np.ones(4), rng.choice([-1.0, 1.0], 6)]
        W = 0.5 * rng.standard_normal((2, 4))
        W[:, :2] = 0
        check(network(W, [0.8, 0.6], slope), x, y, 1.0, rng, loss)


@pytest.mark.parametrize("seed", range(8))
def test_a_leaky_neuron_leaves_zero(seed, loss):
    """w = 0 is on all hyperplanes."""
    labels = np.random.default_rng([46, seed]).choice([-1.0, 1.0], 2)
    rng, x, y = pair_and_others(seed, (1.5, -1.0), labels)
    W, a = 0.4 * rng.standard_normal((3, 3)), rng.choice([-0.5, 0.5], 3)
    W[0] = 0
    run = check(network(W, a, 0.3), x, y, 1.0, rng, loss)
    assert np.abs(run.net.W[0]).max() > 1e-4


# Under the hinge loss neurons slide into w = 0 on these samples, from t = 4.09 on: Euler's method goes on there.
BEFORE_ZERO = 4.0

# Samples on axes: along the first one nothing else pulls.
AXES = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0.5], [0, -1.0, 0.25], [0, 0.5, -1.0]])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("labels", [(1.0, 1.0), (-1.0, -1.0)])
def test_where_nothing_pulls_the_neuron_stays(slope, labels, dtype, loss):
    y = np.r_[labels, -1.0, 1.0, -1.0]
    W = [[0.0, 0.7, -0.2], [0.0, -0.4, 0.3]]
    net = network(W, [0.8, -0.5], slope, dtype)
    rng = np.random.default_rng(0)
    t_end = 6.0 if loss == "logistic" else BEFORE_ZERO
    for order in orders(5, rng):
        rtol = 1e-6 if dtype is np.float64 else 1e-4
        run = flow(net, AXES[order], y[order], t_end, loss, rtol=rtol)
        assert (run.net.W[:, 0] == 0).all()
        assert np.abs(run.net.W - net.W).max() > 0.1
    if dtype is np.float64:
        check(net, AXES, y, t_end, rng, loss)


def test_where_both_sides_pull_the_same_way_it_stays_too(loss):
    """Labels +1 at x and -1 at -x pull upward on either side, but not on the hyperplane."""
    y = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    net = network([[0.0, 0.7, -0.2]], [0.8])
    far, here, near = speeds(net, AXES, y, 0, 0, loss)
    assert far > 0
    assert near > 0
    assert here == 0
    t_end = 6.0 if loss == "logistic" else BEFORE_ZERO
    run = check(net, AXES, y, t_end, np.random.default_rng(1), loss)
    assert run.net.W[0, 0] == 0
    # and not for a hair's breadth
    W = net.W.copy()
    W[0, 0] = 1e-12
    assert flow(network(W, net.a), AXES, y, 6.0, loss).net.W[0, 0] > 0.1


def test_orthogonal_samples_do_not_pull(loss):
    """As on the points of a cube: not on an axis, but the products are 0 to the last digit."""
    x = np.array([[1.0, 1.0], [-1.0, -1.0], [-1.0, 1.0]])
    net = network([[-0.5, 0.5]], [0.5])
    for labels in ((1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (-1.0, -1.0)):
        run = check(net, x, np.r_[labels, 1.0], 2.0, np.random.default_rng(8), loss)
        assert abs(run.net.W.sum()) <= 1e-15


def test_terms_that_cancel_do_not_keep_it_where_both_sides_pull_the_same_way(loss):
    """Any rounding sends it there, by either side; what repels it keeps it, for want of a side."""
    x = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0.7, 0.9, 0.3], [-0.7, 0.9, 0.3], [0, 0.5, -1.0]])
    net, near = (network([[first, 0.7, -0.2]], [0.8]) for first in (0.0, 1e-13))
    for labels, sign in (((1.0, -1.0), 1), ((-1.0, 1.0), -1)):
        y = np.r_[labels, 1.0, 1.0, -1.0]
        far, here, ahead = speeds(net, x, y, 0, 0, loss)
        assert min(sign * far, sign * ahead) > 0
        assert abs(here) < 1e-15
        for order in orders(5, np.random.default_rng(6)):
            run = flow(net, x[order], y[order], 2.0, loss)
            assert sign * run.net.W[0, 0] > 0.05
            assert gap(run.net, flow(near, x, y, 2.0, loss).net) <= 1e-9
    y = np.r_[1.0, 1.0, 1.0, 1.0, -1.0]
    for order in orders(5, np.random.default_rng(7)):
        assert abs(flow(net, x[order], y[order], 2.0, loss).net.W[0, 0]) <= 1e-12


def test_one_sample_alone_does_not_pull_either(loss):
    y = np.array([1.0, -1.0, 1.0, -1.0])
    net = network([[0.0, 0.7, -0.2]], [0.8])
    t_end = 6.0 if loss == "logistic" else BEFORE_ZERO
    for x in (AXES[[0, 2, 3, 4]], AXES[[1, 2, 3, 4]]):
        assert check(net, x, y, t_end, np.random.default_rng(2), loss).net.W[0, 0] == 0


def test_rounding_of_a_symmetric_field_is_none(loss):
    """Reflected in the first axis samples and neurons are the same: what is on it stays."""
    rng = np.random.default_rng(47)
    for _ in range(6):
        half, hidden = rng.standard_normal((7, 3)), 0.3 * rng.standard_normal((5, 3))
        mirror = [-1.0, 1.0, 1.0]
        x = np.r_[[[2.0, 0, 0], [-2.0, 0, 0]], half, mirror * half]
        y = np.r_[1.0, 1.0, np.tile(rng.choice([-1.0, 1.0], 7), 2)]
        W = np.r_[[[0.0, 0.5, -0.3]], hidden, mirror * hidden]
        a = np.r_[0.5, np.tile(rng.choice([-0.4, 0.4], 5), 2)]
        for order in orders(16, rng):
            end = flow(network(W, a), x[order], y[order], 1.0, loss).net
            assert abs(end.W[0, 0]) <= 1e-12


def test_it_stays_until_another_sample_pulls(loss):
    """The last sample comes to its hyperplane, and then pulls along the first axis too."""
    x = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0.5, 1.0, -1.0]])
    for label in (1.0, -1.0):
        y = np.array([1.0, 1.0, 1.0, label])
        net = network([[0.0, 0.4, 0.6]], [0.8])
        run = check(net, x, y, 4.0, np.random.default_rng(3), loss)
        assert run.net.W[0, 0] * label > 0.01
        events = flow(net, x, y, 4.0, loss, events=True).events.to_dataframe()
        events = events[events.neuron == 0]
        first = float(events.time.iloc[0])
        soon = events[events.time <= first + 1e-9]
        found = set(zip(soon["sample"], soon.kind, strict=True))
        assert found == ({(3, 1), (0, 1)} if label > 0 else {(3, 0), (1, 1)})
        # (the exact flow has no order at one time)
        assert loss == "hinge" or soon["sample"].iloc[0] == 3
        assert flow(net, x, y, 0.99 * first, loss).net.W[0, 0] == 0


def test_a_head_that_changes_sign_lets_go_to_where_the_others_pull(loss):
    """An attracting line begins to repel: Euler's method leaves it at random, the flow as from a start on it."""
    y = np.ones(3)
    for tilt in (0.3, -0.3):
        x = np.array([[1.0, 0], [-1.0, 0], [tilt, 1.0]])
        net = network([[0.01, 1.0]], [-0.3])
        rng = np.random.default_rng(4)
        runs = [flow(net, x[order], y[order], 6.0, loss) for order in orders(3, rng)]
        assert runs[0].net.a[0] > 0
        for run in runs:
            assert run.outcome.counts["slidings"] > 0
            assert run.net.W[0, 0] * tilt > 0.01
            assert gap(run.net, runs[0].net) <= 1e-9


def wide_problem(m=40, seed=48):
    rng = np.random.default_rng(seed)
    n, d = 12, 60
    half = rng.standard_normal((n // 2, d)) / np.sqrt(d / 4)
    x = np.r_[half, -half][rng.permutation(n)]
    W = 0.3 * rng.standard_normal((m, d))
    # every second neuron is across one sample: to rounding, and exactly along an axis
    x[0] = 0
    x[0, 3] = 2.0
    x[1] = -x[0]
    W[::2, 3] = 0
    return network(W, 0.3 * rng.standard_normal(m)), x, rng.choice([-1.0, 1.0], n)


def test_in_other_coordinates(loss):
    net, x, y = wide_problem()
    rng = np.random.default_rng(5)
    primal = flow(net, x, y, 2.0, loss, form="primal")
    for order in orders(len(x), rng):
        run = flow(net, x[order], y[order], 2.0, loss, form="projected")
        assert gap(run.net, primal.net) <= 1e-9


def test_bits_do_not_depend_on_threads_nor_on_stops(loss):
    net, x, y = wide_problem(m=90)
    runs = [flow(net, x, y, 2.0, loss, rtol=1e-6, num_threads=k) for k in (1, 2, 3, 5)]
    for run in runs[1:]:
        assert same_net(run.net, runs[0].net)
    W = [[0.0, 0.7, -0.2], [0.0, -0.4, 0.3]]
    net, y = network(W, [0.8, -0.5]), np.array([1.0, 1.0, -1.0, 1.0, -1.0])
    whole = flow(net, AXES, y, 5.0, loss)
    for stop in (0.0, 0.7, 3.0):
        assert same_net(flow(net, AXES, y, stop, loss).continue_(t_end=5.0).net, whole.net)


def test_the_gradient_at_the_start_is_that_of_descend():
    """Not so under the hinge loss: there it is what the neuron leaves by."""
    rng, x, y = pair_and_others(1)
    W = 0.5 * rng.standard_normal((2, 3))
    W[0, 0] = 0
    net = network(W, [0.8, -0.6])
    data = fc.Dataset(x, y)
    step = 2.0**-20
    moved = fc.descend(net, data, step_size=step, steps=1, record=NOTHING).net
    size = np.hypot(np.linalg.norm(moved.W - net.W), np.linalg.norm(moved.a - net.a)) / step
    above, below = (
        fc.flow(net, data, t_end=1.0, gradient_target=factor * size, record=NOTHING).outcome
        for factor in (1.0001, 0.9999)
    )
    assert above.status == "stationary"
    assert above.time == 0
    assert below.time > 0
