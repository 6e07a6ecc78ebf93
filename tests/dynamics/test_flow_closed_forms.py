"""The flow against closed forms: modes of learning, a linear mode, the entry time of a neuron."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

import featcore as fc

NOTHING = fc.Recording.at([])


def intrinsic_time(goal, kappa, A, B):
    """Return s at which u(s) = (A e^(2 kappa s) - B e^(-2 kappa s)) / kappa is `goal`."""
    X = (kappa * goal + math.sqrt((kappa * goal) ** 2 + 4 * A * B)) / (2 * A)
    return math.log(X) / (2 * kappa)


def time_to_learn(goal, kappa, p, y0, z0, g):
    """Return when the logit of a class is `goal`: p t = integral of ds / g(u(s)), summed over pieces between deaths.

    In s, ds = p g(u) dt, the flow of a class is linear: with y_j = <w_j, x> and z_j = |a_j|, dy/ds = kappa^2 z and
    dz/ds = y, so y_j = P_j e^(kappa s) + M_j e^(-kappa s). Neuron j dies where that is 0.
    """
    P, M = (y0 + kappa * z0) / 2, (y0 - kappa * z0) / 2
    deaths = np.array(
        [math.log(-m / q) / (2 * kappa) if q < 0 else math.inf for q, m in zip(P, M, strict=True)]
    )
    start, total = 0.0, 0.0
    while True:
        alive = deaths > start
        A, B = np.sum(P[alive] ** 2), np.sum(M[alive] ** 2)
        end = min(intrinsic_time(goal, kappa, A, B), deaths[alive].min())

        def u(s, A=A, B=B):
            return (A * math.exp(2 * kappa * s) - B * math.exp(-2 * kappa * s)) / kappa

        total += quad(lambda s: 1 / g(u(s)), start, end, epsabs=0, epsrel=1e-13)[0]
        if end < deaths[alive].min():
            return total / p
        start = end


G = {
    "logistic": lambda u: 1 / (1 + math.exp(u)),
    "exponential": lambda u: math.exp(-u),
    "squared": lambda u: 1 - u,
}


def two_classes(kappas, p, y0, z0):
    """Return a network and data: class k is kappas[k] e_k, repeated, and has neurons of its own."""
    x = np.r_[np.tile([kappas[0], 0.0, 0.0], (round(20 * p), 1)), np.zeros((20 - round(20 * p), 3))]
    x[round(20 * p) :, 1] = kappas[1]
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    ones = np.ones(len(y0))
    first = np.c_[y0 / kappas[0], -0.3 * ones, 0.1 * ones]  # the rest of w does not matter
    second = np.c_[-0.2 * ones, y0 / kappas[1], -0.4 * ones]
    return fc.TwoLayerNet(np.r_[first, second], np.r_[z0, -z0]), fc.Dataset(x, y)


MANY = np.random.default_rng(8).uniform(0.02, 0.3, 16)
MIXED = np.where(np.arange(16) % 3 == 0, -0.4, 0.15) * MANY[::-1] / MANY.max()


@pytest.mark.parametrize(
    ("kappas", "p", "y0", "z0"),
    [
        ((1.0, 2.0), 0.5, [0.05], [0.05]),
        ((1.0, 0.7), 0.5, [0.3], [0.02]),
        ((0.5, 1.0), 0.2, [0.025], [0.05]),
        ((2.0, 1.0), 0.2, [0.1], [0.05]),
        ((1.3, 0.8), 0.6, MANY, MANY[::-1]),
        ((1.3, 0.8), 0.6, MANY, MIXED),  # where z < 0, a neuron of the class dies
    ],
)
@pytest.mark.parametrize("loss", ["logistic", "exponential", "squared"])
def test_times_to_learn_of_two_modes(loss, kappas, p, y0, z0):
    y0, z0 = np.asarray(y0), np.asarray(z0)
    net, data = two_classes(kappas, p, y0, z0)
    goal = 0.9 if loss == "squared" else math.log(99.0)
    for k, share in ((0, p), (1, 1 - p)):
        time = time_to_learn(goal, kappas[k], share, y0, z0, G[loss])
        run = fc.flow(net, data, loss, t_end=time, rtol=1e-11, record=NOTHING)
        sample = 0 if k == 0 else -1
        pre = np.maximum(run.net.W @ data.x[sample], 0)
        u = data.y[sample] * (run.net.a @ pre)
        # du/dt = p g(u) |d f / d theta|^2; an error in u is one in time
        own = pre > 0
        speed = share * G[loss](u) * (pre @ pre + kappas[k] ** 2 * np.sum(run.net.a[own] ** 2))
        assert abs(u - goal) / speed <= 1e-8 * time
    dying = np.sum(z0 + y0 / kappas[0] < 0) + np.sum(z0 + y0 / kappas[1] < 0)
    assert (dying > 0) == (z0 is MIXED)


def test_an_earlier_table_of_times():
    """Times to a confidence of 0.99 that were computed for this project before, by RK4 of a network of 20."""
    for kappa, p, y0, z0, time in [
        (1.0, 0.5, 0.05, 0.05, 42.83696),
        (1.0, 0.5, 0.3, 0.02, 38.13773),
        (0.5, 0.2, 0.025, 0.05, 221.12255),
        (2.0, 0.2, 0.1, 0.05, 51.81021),
    ]:
        found = time_to_learn(
            math.log(99.0), kappa, p, np.array([y0]), np.array([z0]), G["logistic"]
        )
        assert found == pytest.approx(time, abs=6e-6)


@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_the_error_follows_the_tolerance_on_a_linear_mode(rtol):
    """Saxe's sigmoid u(t) = s e^(2 s k t) / (s / u0 - 1 + e^(2 s k t)) for f = a w k, target s."""
    k, s, scale = 2.0, 3.0, 0.01
    net = fc.TwoLayerNet([[scale]], [scale], fc.LeakyReLU(1.0))
    times = np.linspace(0.2, 3.0, 15)
    run = fc.flow(
        net,
        fc.Dataset([[k]], [s]),
        "squared",
        t_end=3.0,
        rtol=rtol,
        observe=["weights", "head"],
        record=fc.Recording.at(times),
    )
    u = k * run.history["weights"].values[1:, 0, 0] * run.history["head"].values[1:, 0]
    growth = np.exp(2 * s * k * times)
    expected = s * growth / (s / (k * scale**2) - 1 + growth)
    # u is of second order in the weights
    np.testing.assert_allclose(u, expected, rtol=max(20 * rtol, 1e-13))


@pytest.mark.parametrize("mu", [0.296, 0.1, 0.03])
@pytest.mark.parametrize("theta", [0.4, 1.2, 1.5])
def test_entry_times_at_vanishing_scale(mu, theta):
    """A neuron at angle theta from x1, away from x2, sees x2 after ln[tan(theta/2) / tan(alpha/2)], sin alpha = mu.

    theta is measured to the far side: the neuron turns towards x1 alone until it is orthogonal to x2.
    """
    alpha, scale = math.asin(mu), 1e-7
    x1, x2 = np.array([1.0, 0.0]), np.array([mu, math.cos(alpha)])
    w = scale * np.array([math.cos(theta), -math.sin(theta)])
    run = fc.flow(
        fc.TwoLayerNet([w], [scale]),
        fc.Dataset([x1, x2], [1.0, 1.0]),
        "exponential",
        reduction="sum",
        t_end=10.0,
        rtol=1e-9,
        events=True,
        record=NOTHING,
    )
    entry = run.events.isel(event=0)
    assert (int(entry.neuron), int(entry["sample"]), int(entry.kind)) == (0, 1, 1)
    time = math.log(math.tan(theta / 2) / math.tan(alpha / 2))
    assert float(entry.time) == pytest.approx(time, rel=1e-6)


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("frozen", [{"train": ("W",)}, {"layer_rates": {"W": 1.0, "a": 0.0}}])
@pytest.mark.parametrize(
    ("a", "w", "decay", "time"),
    [(1e-3, 1.0, 0.5, 20.0), (0.1, 0.3, 2.0, 5.0), (1e-2, 1.0, 1e-2, 1e3)],
)
def test_weights_decay_beside_a_frozen_head(a, w, decay, time, frozen, rtol):
    """Linear: dw/dt = a (1 - a w) - decay w."""
    run = fc.flow(
        fc.TwoLayerNet([[w]], [a]),
        fc.Dataset([[1.0]], [1.0]),
        "squared",
        t_end=time,
        rtol=rtol,
        weight_decay=decay,
        record=NOTHING,
        **frozen,
    )
    rate = a * a + decay
    expected = a / rate + (w - a / rate) * math.exp(-rate * time)
    assert run.net.W[0, 0] == pytest.approx(expected, rel=20 * rtol + 1e-12)


@pytest.mark.parametrize("slope", [1.5, 3.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_slopes_above_one(slope, sign):
    """On one sample of one sign a leaky neuron is a linear mode: f = c a w with c = 1 or the slope."""
    w, goal, time = 0.1, 2.0, 1.5
    run = fc.flow(
        fc.TwoLayerNet([[sign * w]], [sign * w], fc.LeakyReLU(slope)),
        fc.Dataset([[1.0]], [goal]),
        "squared",
        t_end=time,
        rtol=1e-9,
        record=NOTHING,
    )
    k = 1.0 if sign > 0 else slope
    growth = math.exp(2 * goal * k * time)
    expected = goal * growth / (goal / (k * w * w) - 1 + growth)
    assert k * run.net.W[0, 0] * run.net.a[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("rate", [1e-30, 1e-10, 2.0**-100, 2.0**-33, 2.0**33, 1e10, 2.0**100, 1e30])
def test_layer_rates_are_a_unit_of_time(rate):
    """Powers of two round nothing: every step is the same. Others may move a step's end by its last digit."""
    rng = np.random.default_rng(0)
    data = fc.Dataset(rng.standard_normal((12, 3)), rng.choice([-1.0, 1.0], 12))
    net = fc.TwoLayerNet.balanced(width=6, dim=3, scale=0.3, seed=1)
    plain = fc.flow(net, data, t_end=5.0, rtol=1e-8, record=NOTHING)
    other = fc.flow(
        net, data, t_end=5.0 / rate, rtol=1e-8, record=NOTHING, layer_rates={"W": rate, "a": rate}
    )
    np.testing.assert_allclose(other.net.W, plain.net.W, rtol=0, atol=1e-7)
    if math.frexp(rate)[0] == 0.5:
        np.testing.assert_array_equal(other.net.W, plain.net.W)
        assert other.outcome.counts == plain.outcome.counts
