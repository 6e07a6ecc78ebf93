"""The flow of networks that carry log_scale: closed forms, a directional oracle, and the ordinary flow.

Seeds and tolerances were written down before the first run.
"""

import math
import os
import signal

import numpy as np
import pytest
from _directional_oracle import flow as directional
from _oracle import flow as event_oracle
from _runs import same_history

import featcore as fc
from featcore import observables, reference

NOTHING = fc.Recording.at([])
TINY = (math.log(1e-100), -400 * math.log(10), -math.inf)


def separable(seed, n=12, d=4, positive=None):
    """Return an orthogonally separable set: <y x, y' x'> > 0 for all pairs."""
    rng = np.random.default_rng([11, seed])
    y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0) if positive is None else np.full(n, positive)
    x = y[:, None] * np.eye(d)[0] * rng.uniform(1, 2, (n, 1)) + 0.3 * rng.standard_normal((n, d))
    products = (y[:, None] * x) @ (y[:, None] * x).T
    assert products.min() > 0
    return fc.Dataset(x, y)


def mantissas(seed, m, d=4, ratio=1.0):
    """Return W and a with |a_j| = ratio |w_j| and random signs."""
    rng = np.random.default_rng([12, seed])
    W = rng.standard_normal((m, d))
    return W, ratio * rng.choice([-1.0, 1.0], m) * np.linalg.norm(W, axis=1)


def net_of(seed, m, log_scale, ratio=1.0, activation=None, d=4):
    activation = fc.ReLU() if activation is None else activation
    return fc.TwoLayerNet(*mantissas(seed, m, d, ratio), activation, log_scale)


def unit(W):
    return W / np.linalg.norm(W, axis=1, keepdims=True)


def same_bits(one, other):
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("W", "a", "log_scale")
    )


def log_norms(run):
    return run.history["log_norms"].values[-1]


# --- closed forms


@pytest.mark.parametrize("log_scale", TINY)
@pytest.mark.parametrize("mu", [0.296, 0.1, 0.03, 0.01])
def test_entry_times_of_single_neurons(mu, log_scale):
    """A balanced neuron at angle theta to the far side of x1 sees x2 after ln[tan(theta/2) / tan(alpha/2)]."""
    alpha = math.asin(mu)
    x1, x2 = np.array([1.0, 0.0]), np.array([mu, math.cos(alpha)])
    theta = np.array([0.4, 0.8, 1.2, 1.5, 1.57])
    net = fc.TwoLayerNet(np.c_[np.cos(theta), -np.sin(theta)], np.ones(5), log_scale=log_scale)
    run = fc.flow(
        net,
        fc.Dataset([x1, x2], [1.0, 1.0]),
        "exponential",
        reduction="sum",
        t_end=10.0,
        rtol=1e-9,
        events=True,
        record=NOTHING,
    )
    assert run.events.sizes["event"] == 5
    order = np.argsort(run.events.neuron.values)
    assert run.events["sample"].values.tolist() == [1] * 5
    times = np.log(np.tan(theta / 2) / math.tan(alpha / 2))
    np.testing.assert_allclose(run.events.time.values[order], times, rtol=1e-9)


@pytest.mark.parametrize("log_scale", [-921.0, -2e4])
@pytest.mark.parametrize("loss", ["exponential", "logistic", "squared"])
def test_a_single_mode_to_its_end(loss, log_scale):
    """One balanced neuron, one sample x = kappa: du/dt = 2 kappa u g(u) from u_0 = kappa e^(2 log_scale).

    The time to u is that from u_0 to a small u_1, ln(u_1 / u_0) / (2 kappa g(0)), and on by quadrature.
    """
    from scipy.integrate import quad

    kappa, goal, small = 1.3, 0.5, 1e-12
    g = {
        "exponential": lambda u: math.exp(-u),
        "logistic": lambda u: 1 / (1 + math.exp(u)),
        "squared": lambda u: 1 - u,
    }[loss]
    target = {
        "exponential": math.exp(-goal),
        "logistic": math.log1p(math.exp(-goal)),
        "squared": (1 - goal) ** 2 / 2,
    }[loss]
    start = math.log(kappa) + 2 * log_scale
    time = (math.log(small) - start) / (2 * kappa * g(0))
    time += quad(
        lambda v: 1 / (2 * kappa * g(math.exp(v))),
        math.log(small),
        math.log(goal),
        epsabs=0,
        epsrel=1e-12,
    )[0]
    run = fc.flow(
        fc.TwoLayerNet([[1.0, 0.0]], [1.0], log_scale=log_scale),
        fc.Dataset([[kappa, 0.0]], [1.0]),
        loss,
        t_end=1.1 * time,
        loss_target=target,
        rtol=1e-10,
        record=NOTHING,
    )
    assert run.outcome.status == "loss_target"
    # what is small enough to be u_1 contributes 1e-12, log-norms 1e-10 of the last ten units of time
    assert run.outcome.time == pytest.approx(time, abs=1e-8, rel=1e-13)


@pytest.mark.parametrize("ratio", [1.0, 1e6, 1e-6])
@pytest.mark.parametrize(
    ("loss", "rate"),
    [("exponential", 1.0), ("logistic", 1.0), ("squared", 1.0), ("exponential", 0.3)],
)
def test_the_time_of_the_loss_drop_has_its_slope(loss, rate, ratio):
    """T(eps) = ln(1/eps) / kappa + const: kappa = g(0) |sum of the class's x| / n, of the class with the longer sum.

    With the head at another rate the growth is at the geometric mean of both.

    Where neurons are aligned the flow is one of their size alone, and what is left to align decays as eps^c.
    """
    data = separable(1)
    sums = [np.linalg.norm(data.x[data.y == s].sum(axis=0)) / data.n for s in (1, -1)]
    kappa = max(sums) * (0.5 if loss == "logistic" else 1.0) * math.sqrt(rate)
    first = {"exponential": 1.0, "logistic": math.log(2), "squared": 0.5}[loss]
    scales = np.log(10) * np.array([-80, -160, -320, -1000])
    times = []
    for log_scale in scales:
        run = fc.flow(
            net_of(1, 10, log_scale, ratio),
            data,
            loss,
            t_end=1.5 * (-log_scale + 40) / kappa,
            loss_target=0.9 * first,
            layer_rates={"a": rate},
            rtol=1e-10,
            record=NOTHING,
        )
        assert run.outcome.status == "loss_target"
        times.append(run.outcome.time)
    slopes = -np.diff(times) / np.diff(scales)
    # the other class has gained (eps e^(kappa' T))^2 by then: nothing but where both sums are alike
    assert min(sums) < 0.97 * max(sums)
    np.testing.assert_allclose(slopes, 1 / kappa, rtol=1e-7)


def test_equal_decay_of_both_layers_changes_sizes_only():
    """In the limit the field is of first degree: theta e^(-lambda t) solves with decay where theta does without."""
    net, data = net_of(2, 8, -math.inf), separable(2)
    options = {"t_end": 40.0, "rtol": 1e-8, "observe": ["log_norms"], "record": NOTHING}
    plain = fc.flow(net, data, **options)
    decaying = fc.flow(net, data, weight_decay=0.3, **options)
    np.testing.assert_allclose(unit(decaying.net.W), unit(plain.net.W), rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        log_norms(decaying), log_norms(plain) - 0.3 * 40.0, rtol=0, atol=1e-9
    )


def test_equal_rates_of_both_layers_are_a_clock():
    net, data = net_of(3, 8, -math.inf), separable(3)
    fast = fc.flow(net, data, t_end=7.0, layer_rates={"W": 2.0, "a": 2.0}, record=NOTHING)
    slow = fc.flow(net, data, t_end=14.0, record=NOTHING)
    np.testing.assert_allclose(unit(fast.net.W), unit(slow.net.W), rtol=0, atol=1e-11)


# --- the directional oracle


@pytest.mark.parametrize("ratio", [1.0, 1e6, 1e-6, 0.3])
@pytest.mark.parametrize(
    ("slope", "rates"), [(0.0, (1.0, 1.0)), (0.1, (1.0, 1.0)), (0.0, (1.0, 0.3))]
)
def test_the_limit_is_the_directional_flow(ratio, slope, rates):
    data, t_end = separable(4), 12.0
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    net = net_of(4, 7, -math.inf, ratio, activation)
    u, of_w, of_a = directional(
        data.x, data.y, net.W, net.a, -math.inf, t_end, slope=slope, rates=rates
    )
    run = fc.flow(
        net,
        data,
        "exponential",
        t_end=t_end,
        layer_rates={"W": rates[0], "a": rates[1]},
        observe=["log_norms"],
        record=NOTHING,
    )
    assert run.outcome.counts["slidings"] == 0
    np.testing.assert_allclose(unit(run.net.W), u, rtol=0, atol=1e-8)
    np.testing.assert_allclose(log_norms(run), of_w, rtol=0, atol=1e-8)
    heads = log_norms(run) + np.log(np.abs(run.net.a) / np.linalg.norm(run.net.W, axis=1))
    np.testing.assert_allclose(heads, of_a, rtol=0, atol=1e-8)
    assert np.isneginf(run.net.log_scale).all()


@pytest.mark.parametrize("decades", [300, 400])
@pytest.mark.parametrize(
    ("loss", "ratio"), [("exponential", 1.0), ("logistic", 1.0), ("exponential", 1e3)]
)
def test_from_1e_300_through_the_loss_drop(loss, ratio, decades):
    data = separable(5, n=6, d=3)
    log_scale = -decades * math.log(10)
    net = net_of(5, 4, log_scale, ratio, d=3)
    sums = max(np.linalg.norm(data.x[data.y == s].sum(axis=0)) / data.n for s in (1, -1))
    t_end = (-log_scale + 5) / (sums * (1.0 if loss == "exponential" else 0.5))
    u, of_w, _ = directional(data.x, data.y, net.W, net.a, log_scale, t_end, loss=loss)
    run = fc.flow(
        net, data, loss, t_end=t_end, rtol=1e-9, observe=["loss", "log_norms"], record=NOTHING
    )
    assert run.history.loss.values[-1, 0] < 0.8 * run.history.loss.values[0, 0]  # it has dropped
    assert np.isfinite(run.net.W).all()
    np.testing.assert_allclose(unit(run.net.W), u, rtol=0, atol=1e-7)
    # relative to times of 1e3: the oracle's clock
    np.testing.assert_allclose(log_norms(run), of_w, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        run.net.log_scale + np.log(np.linalg.norm(run.net.W, axis=1)), of_w, rtol=0, atol=1e-6
    )


# --- the ordinary flow


def test_a_power_of_two_is_the_ordinary_flow_to_the_bit():
    data = separable(6, n=30)
    net = net_of(6, 20, -12 * math.log(2))
    plain = fc.TwoLayerNet(np.ldexp(net.W, -12), np.ldexp(net.a, -12))
    for options in ({}, {"weight_decay": 0.01}, {"layer_rates": {"W": 1.0, "a": 0.5}}):
        one = fc.flow(net, data, t_end=20.0, rtol=1e-8, **options)
        other = fc.flow(plain, data, t_end=20.0, rtol=1e-8, **options)
        back = np.rint((one.net.log_scale + 12 * math.log(2)) / math.log(2)).astype(int) - 12
        assert np.array_equal(np.ldexp(one.net.W, back[:, None]), other.net.W)
        assert np.array_equal(np.ldexp(one.net.a, back), other.net.a)
        assert one.outcome.counts == other.outcome.counts
        np.testing.assert_allclose(one.history.loss, other.history.loss, rtol=1e-13)


@pytest.mark.parametrize("scale", [1e-3, 1e-4, 1e-5, 1e-6, 1e-8])
@pytest.mark.parametrize("rtol", [1e-5, 1e-8])
def test_the_ordinary_flow_where_both_can_run(scale, rtol):
    data = separable(7, n=30)
    W, a = mantissas(7, 20)
    options = {"t_end": 60.0, "rtol": rtol, "observe": ["loss", "weights"]}
    one = fc.flow(fc.TwoLayerNet(W, a, log_scale=math.log(scale)), data, **options).history
    other = fc.flow(fc.TwoLayerNet(scale * W, scale * a), data, **options).history
    sizes = np.linalg.norm(other["weights"].values, axis=(1, 2))
    gaps = np.linalg.norm(one["weights"].values - other["weights"].values, axis=(1, 2))
    assert (gaps <= 20 * rtol * sizes).all()  # each may be off by 10 rtol
    np.testing.assert_allclose(one.loss, other.loss, rtol=200 * rtol)


def test_small_scales_tend_to_the_limit_at_second_order():
    """What f adds to the residuals is of order eps^2, at a fixed time; O(eps) is what the theorems bound it by."""
    data, t_end = separable(8), 10.0
    limit = unit(
        fc.flow(net_of(8, 10, -math.inf), data, t_end=t_end, rtol=1e-11, record=NOTHING).net.W
    )
    gaps = {}
    for scale in (1e-3, 1e-4, 1e-8):
        net = net_of(8, 10, math.log(scale))
        run = fc.flow(net, data, t_end=t_end, rtol=1e-11, record=NOTHING)
        gaps[scale] = np.abs(unit(run.net.W) - limit).max()
    assert gaps[1e-3] / gaps[1e-4] == pytest.approx(100, rel=0.05)
    assert gaps[1e-8] <= 1e-8
    assert gaps[1e-3] > 1e-9  # it is there to be seen


def test_neurons_without_weight_are_passengers():
    """Some neurons vanish beside ordinary ones: they feel these and are not felt, at 1e-500 as in the limit."""
    data = separable(9, n=20)
    W, a = mantissas(9, 12)
    runs = [
        fc.flow(
            fc.TwoLayerNet(W, a, log_scale=np.where(np.arange(12) < 6, math.log(1e-2), vanishing)),
            data,
            t_end=30.0,
            record=NOTHING,
        )
        for vanishing in (-500 * math.log(10), -math.inf)
    ]
    alone = fc.flow(
        fc.TwoLayerNet(W[:6], a[:6], log_scale=math.log(1e-2)), data, t_end=30.0, record=NOTHING
    )
    for run in runs:
        np.testing.assert_allclose(
            np.exp(run.net.log_scale[:6, None]) * run.net.W[:6],
            alone.net.absorbed().W,
            rtol=1e-4,
            atol=1e-6,
        )
    np.testing.assert_allclose(unit(runs[0].net.W), unit(runs[1].net.W), rtol=0, atol=1e-12)


def test_steps_are_as_long_as_those_of_weights_once_these_rest():
    """Labels that contradict each other: residuals stay, weights rest, and steps grow without a bound."""
    rng = np.random.default_rng(26)
    x = rng.standard_normal((10, 3))
    data = fc.Dataset(np.r_[x, x], np.r_[np.ones(10), -0.2 * np.ones(10)])
    W, a = mantissas(26, 12, d=3)
    options = {"t_end": 1e5, "rtol": 1e-5, "record": NOTHING}
    one = fc.flow(fc.TwoLayerNet(W, a, log_scale=math.log(0.1)), data, "squared", **options)
    other = fc.flow(fc.TwoLayerNet(0.1 * W, 0.1 * a), data, "squared", **options)
    assert one.outcome.status == other.outcome.status == "reached_end"
    assert one.outcome.counts["accepted"] <= 1.2 * other.outcome.counts["accepted"] + 10


@pytest.mark.parametrize("seed", [30, 31, 32, 33])
def test_the_limit_slides_as_small_weights_do(seed):
    """On samples with random labels neurons are held; the solver of event_oracle at scale 1e-9 feels nothing of f."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((10, 3)), rng.choice([-1.0, 1.0], 10)
    W, a = mantissas(seed, 8, d=3, ratio=0.8)
    t_end = 6.0
    small, _, (crossings, slidings) = event_oracle(x, y, 1e-9 * W, 1e-9 * a, t_end, loss="logistic")
    net = fc.TwoLayerNet(W, a, log_scale=-math.inf)
    run = fc.flow(
        net, fc.Dataset(x, y), t_end=t_end, rtol=1e-9, observe=["log_norms"], record=NOTHING
    )
    assert run.outcome.counts["slidings"] == slidings
    assert run.outcome.counts["crossings"] == crossings
    # those that slid into 0 rest there
    alive = np.linalg.norm(run.net.W, axis=1) > 0
    sizes = np.linalg.norm(small, axis=1) / 1e-9
    assert (sizes[~alive] < 1e-5).all()
    np.testing.assert_allclose(log_norms(run)[alive], np.log(sizes[alive]), rtol=0, atol=1e-6)
    np.testing.assert_allclose(unit(run.net.W[alive]), unit(small[alive]), rtol=0, atol=1e-6)


# --- invariants, bits, files


@pytest.mark.parametrize("log_scale", [math.log(1e-3), -921.0, -math.inf])
@pytest.mark.parametrize("ratio", [1.0, 0.2, 30.0])
def test_the_balance_is_conserved_relative_to_each_neuron(log_scale, ratio):
    net, data = net_of(10, 15, log_scale, ratio), separable(10, n=25)
    run = fc.flow(net, data, t_end=60.0, rtol=1e-4, record=NOTHING)
    assert 0 < run.outcome.drift < 1e-12
    # with unequal rates it is not conserved
    bent = fc.flow(net, data, t_end=60.0, layer_rates={"a": 0.5}, record=NOTHING)
    assert bent.outcome.drift > 1e-3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("log_scale", [-60.0, -921.0, -math.inf])
def test_bits_do_not_depend_on_threads(dtype, log_scale):
    rng = np.random.default_rng(13)
    net = fc.TwoLayerNet(*mantissas(13, 70, d=5), log_scale=log_scale).astype(dtype)
    x = rng.standard_normal((60, 5)).astype(dtype)
    data = fc.Dataset(x, rng.choice([-1.0, 1.0], 60).astype(dtype))
    runs = [
        fc.flow(
            net,
            data,
            t_end=300.0,
            rtol=1e-4,
            num_threads=k,
            record=fc.Recording.linear(5),
            observe=["loss", "log_norms", "stable_rank"],
        )
        for k in (1, 2, 3, 5)
    ]
    assert runs[0].outcome.status == "reached_end"
    assert runs[0].net.dtype == dtype
    for run in runs[1:]:
        assert same_bits(run.net, runs[0].net)
        assert same_history(run.history, runs[0].history)


def test_single_precision_follows_double():
    net, data = net_of(14, 8, -921.0), separable(14)
    options = {"t_end": 30.0, "rtol": 1e-5, "record": NOTHING}
    double = fc.flow(net, data, **options).net
    single = fc.flow(net.astype(np.float32), data.astype(np.float32), **options).net
    np.testing.assert_allclose(unit(single.W), unit(double.W), rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["primal", "projected"])
@pytest.mark.parametrize("log_scale", [-50.0, -math.inf])
def test_continued_stored_and_in_an_ensemble_it_has_the_same_bits(form, log_scale, tmp_path):
    net, data = net_of(15, 9, log_scale), separable(15)
    options = {
        "form": form,
        "observe": ["loss", "log_norms", "weights"],
        "record": fc.Recording.linear(6),
    }
    whole = fc.flow(net, data, t_end=120.0, **options)
    for first in (0.0, 1.7, 60.0):
        half = fc.flow(net, data, t_end=first, **options)
        again = half.continue_(t_end=120.0, record=fc.Recording.linear(6))
        assert same_bits(again.net, whole.net)
        half.save(tmp_path / "half.nc")
        loaded = fc.load(tmp_path / "half.nc")
        assert same_bits(loaded.net, half.net)
        assert same_history(loaded.history, half.history)
        end = loaded.continue_(t_end=120.0, data=data, observe=options["observe"])
        assert same_bits(end.net, whole.net)
    parts = fc.flow(net, data, t_end=120.0, max_steps=3, **options)
    while parts.outcome.status == "max_steps":
        parts = parts.continue_(max_steps=3)
    assert same_bits(parts.net, whole.net)
    many = fc.ensemble([net, net_of(16, 9, -30.0)], data, dynamics="flow", t_end=120.0, **options)
    assert same_bits(many[0].net, whole.net)
    assert many.history.relative_time.dims == ("member", "time")
    np.testing.assert_array_equal(
        many.history.relative_time.isel(member=0), whole.history.relative_time
    )
    # a run of its own goes on from the network
    more = fc.flow(whole.net, data, t_end=5.0, record=NOTHING)
    further = whole.continue_(t_end=125.0, record=NOTHING)
    np.testing.assert_allclose(unit(more.net.W), unit(further.net.W), rtol=0, atol=1e-5)


def test_nothing_happens_in_no_time():
    net, data = net_of(17, 5, [-1000.0, -math.inf, 0.5, -3.0, -700.0]), separable(17)
    run = fc.flow(net, data, t_end=0.0)
    assert same_bits(run.net, net)


def test_an_interrupted_run_is_recorded_where_it_stands():
    net, data = net_of(18, 9, -2e5), separable(18)

    def interrupt(net, data):
        if interrupt.armed and net.log_scale.max() > -1.9e5:
            interrupt.armed = False
            os.kill(os.getpid(), signal.SIGINT)
        return 0.0

    interrupt.armed = True
    run = fc.flow(
        net,
        data,
        t_end=1e5,
        observe=["log_norms", "loss", interrupt],
        record=fc.Recording.linear(50),
        on_interrupt="return",
    )
    assert run.outcome.status == "interrupted"
    assert run.history.time[-1] == run.outcome.time < 1e5
    np.testing.assert_allclose(
        log_norms(run), run.net.log_scale + np.log(np.linalg.norm(run.net.W, axis=1)), rtol=1e-12
    )
    whole = fc.flow(net, data, t_end=1e5, record=NOTHING)
    assert same_bits(run.continue_(record=NOTHING).net, whole.net)


# --- coordinates


@pytest.mark.parametrize("log_scale", [-20.0, -math.inf])
def test_the_span_is_as_good_as_the_whole(log_scale):
    rng = np.random.default_rng(19)
    x = np.r_[1.5 * np.eye(40)[:1], np.zeros((7, 40))] + 0.3 * rng.standard_normal((8, 40))
    data = fc.Dataset(x, np.array([1.0, 1, -1, 1, -1, -1, 1, 1]))
    net = fc.TwoLayerNet(*mantissas(19, 6, d=40), log_scale=log_scale)
    options = {
        "t_end": 60.0,
        "rtol": 1e-9,
        "weight_decay": 0.01,
        "observe": ["log_norms", "norms", "stable_rank", "balance_drift", observables.cosines(x)],
        "evaluate": {"other": fc.Dataset(rng.standard_normal((5, 40)), np.ones(5))},
    }
    one = fc.flow(net, data, form="primal", **options)
    other = fc.flow(net, data, form="projected", **options)
    assert other.outcome.form == "projected"
    np.testing.assert_allclose(unit(other.net.W), unit(one.net.W), rtol=0, atol=1e-7)
    for name in ("log_norms", "cosines", "stable_rank"):
        np.testing.assert_allclose(other.history[name], one.history[name], rtol=1e-6, atol=1e-7)
    balanced = [
        fc.flow(net, data, form=form, t_end=60.0, record=NOTHING).outcome.drift
        for form in ("primal", "projected")
    ]
    assert 0 < max(balanced) < 1e-12


# --- observables


def test_observables_are_those_of_the_weights():
    """At scales that weights hold, each differently scaled neuron against the same in plain numpy."""
    rng = np.random.default_rng(20)
    W, a = mantissas(20, 9)
    net = fc.TwoLayerNet(W, a, log_scale=rng.uniform(-4, 1, 9))
    data = fc.Dataset(rng.standard_normal((15, 4)), rng.choice([-1.0, 1.0], 15))
    directions = rng.standard_normal((3, 4))
    plain = [
        "loss", "log_loss", "objective", "accuracy", "margin", "normalised_margin", "smoothed_margin",
        "margins", "norms",
        "log_norms", "head", "patterns", "dead", "stable_rank", "balance_drift", "weights",
    ]  # fmt: skip
    run = fc.flow(
        net,
        data,
        t_end=3.0,
        weight_decay=0.1,
        observe=[
            *plain,
            observables.cosines(directions),
            observables.alignment(directions),
            observables.singular_values(3),
        ],
        record=fc.Recording.at([1.0]),
    )
    first, last = run.history.isel(time=0), run.history.isel(time=-1)
    for row, now in ((first, net), (last, run.net)):
        for name, compute in reference.observables.items():
            if name == "clean_accuracy":
                continue
            options = {
                "cosines": {"directions": directions},
                "alignment": {"directions": directions},
                "singular_values": {"count": 3},
                "objective": {"weight_decay": 0.1},
                "balance_drift": {"initial": net},
            }.get(name, {})
            np.testing.assert_allclose(
                np.squeeze(row[name].values),
                compute(now, data, **options),
                rtol=1e-9,
                atol=1e-13,
                err_msg=name,
            )
    np.testing.assert_allclose(
        last["weights"], np.exp(run.net.log_scale)[:, None] * run.net.W, rtol=1e-12
    )


@pytest.mark.parametrize("log_scale", [-921.0, -2000.0, -math.inf])
def test_what_has_no_scale_is_right_at_every_scale(log_scale):
    W, a = mantissas(21, 9)
    data = separable(21)
    tiny, plain = fc.TwoLayerNet(W, a, log_scale=log_scale), fc.TwoLayerNet(W, a)
    directions = np.eye(4)
    free = [
        "stable_rank", "normalised_margin", "accuracy", "patterns", "dead",
        observables.cosines(directions), observables.alignment(directions),
    ]  # fmt: skip
    for observable in free:
        np.testing.assert_allclose(
            observables.evaluate(observable, tiny, data),
            observables.evaluate(observable, plain, data),
            rtol=1e-12,
            atol=1e-15,
        )
    for name in ("norms", "head", "margins", observables.singular_values(2), "weights"):
        assert not np.any(observables.evaluate(name, tiny, data))
    # the mean of twelve times ln 2, each rounded
    assert observables.evaluate("loss", tiny, data) == pytest.approx(math.log(2), rel=1e-15)
    shift = 0.0 if np.isinf(log_scale) else log_scale
    np.testing.assert_allclose(
        observables.evaluate("log_norms", tiny, data),
        np.log(np.linalg.norm(W, axis=1)) + shift,
        rtol=1e-14,
    )


def test_a_group_far_below_another_has_a_mean_direction():
    """alignment's mean neuron of a sign whose neurons are 1e-400 while those of the other are 1."""
    W, a = np.array([[1.0, 0.0], [3.0, 4.0], [4.0, 3.0]]), np.array([1.0, -1.0, -1.0])
    net = fc.TwoLayerNet(W, a, log_scale=[0.0, -921.0, -921.0])
    data = fc.Dataset([[1.0, 0.0]], [1.0])
    value = observables.evaluate(observables.alignment([0.0, 1.0]), net, data)
    assert value[0, 1, 3] == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert value[0, 0, 3] == 0.0


def test_sizes_in_the_limit_are_relative_to_the_largest():
    net, data = net_of(22, 10, -math.inf), separable(22)
    run = fc.flow(net, data, t_end=3000.0, observe=["log_norms", "stable_rank"], record=NOTHING)
    assert log_norms(run).max() > 800  # beyond what a double holds
    norms = np.log(np.linalg.norm(run.net.W, axis=1))
    seen = norms > norms.max() - 500
    assert seen.sum() >= 2
    np.testing.assert_allclose(
        (log_norms(run) - norms)[seen], (log_norms(run) - norms)[np.argmax(norms)], atol=1e-9
    )
    assert observables.evaluate("stable_rank", run.net, data) == pytest.approx(
        float(run.history.stable_rank[-1]), rel=1e-12
    )


def test_time_in_units_of_the_logarithm_of_the_scale():
    data = separable(23)
    W, a = mantissas(23, 6)
    history = fc.flow(fc.TwoLayerNet(W, a, log_scale=-921.0), data, t_end=100.0).history
    epsilon = -921.0 + np.log(np.sqrt(np.sum(W**2, axis=1) + a**2).max())
    assert history.relative_time.dims == ("time",)
    np.testing.assert_allclose(history.relative_time, history.time / -epsilon, rtol=1e-14)
    limit = fc.flow(fc.TwoLayerNet(W, a, log_scale=-math.inf), data, t_end=100.0).history
    assert not limit.relative_time.any()
    for plain in (fc.TwoLayerNet(W, a, log_scale=3.0), fc.TwoLayerNet(1e-3 * W, 1e-3 * a)):
        assert "relative_time" not in fc.flow(plain, data, t_end=0.1).history.coords


# --- bad input


@pytest.mark.parametrize(
    ("log_scale", "options", "message"),
    [
        (1000.0, {}, r"log_scale between 1000 and 1000 cannot be held.*lower log_scale"),
        (-921.0, {"method": "tsit5"}, r"log_scale between .* cannot be held.*method='event'"),
        (-921.0, {"method": "euler", "step_size": 0.1}, r"cannot be held.*method='event'"),
        (-921.0, {"loss": "hinge"}, r"cannot be held.*a loss other than the hinge"),
        (
            -math.inf,
            {"method": "tsit5"},
            r"log_scale between -inf .* cannot be held.*method='event'",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused(log_scale, options, message):
    with pytest.raises(ValueError, match=message):
        fc.flow(net_of(0, 4, log_scale), separable(0), t_end=1.0, **options)


def test_other_dynamics_say_what_carries_scales():
    with pytest.raises(ValueError, match=r"log_scale between .*fc\.flow with method='event'"):
        fc.descend(net_of(0, 4, -921.0), separable(0), step_size=0.1, steps=3)
    with pytest.raises(ValueError, match=r"log_scale between .*fc\.flow with method='event'"):
        fc.flow(net_of(0, 4, -921.0, activation=fc.Tanh()), separable(0), t_end=1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, [0.0, math.nan, 0.0, 0.0]])
def test_a_scale_is_a_number_or_the_limit(value):
    with pytest.raises(ValueError, match=r"log_scale.*remove or replace"):
        net_of(0, 4, value)


def test_mantissas_may_be_anything():
    """1e-200 with e^-300 is what 1 is with e^-760.5."""
    W, a = mantissas(24, 5)
    data, shift = separable(24), 660
    one = fc.flow(
        fc.TwoLayerNet(np.ldexp(W, -shift), np.ldexp(a, -shift), log_scale=-300.0), data, t_end=20.0
    )
    other = fc.flow(fc.TwoLayerNet(W, a, log_scale=-300.0 - shift * math.log(2)), data, t_end=20.0)
    np.testing.assert_allclose(unit(one.net.W), unit(other.net.W), rtol=0, atol=1e-13)
    assert one.outcome.drift < 1e-12


def test_outputs_take_what_can_be_heard():
    """A network of which some neurons vanish is evaluated as it is; one that vanishes whole is no zero."""
    W, a = mantissas(25, 5)
    x = np.random.default_rng(25).standard_normal((7, 4))
    net = fc.TwoLayerNet(W, a, log_scale=[0.0, -900.0, 1.0, -math.inf, -2.0])
    heard = fc.TwoLayerNet(W[[0, 2, 4]], a[[0, 2, 4]], log_scale=[0.0, 1.0, -2.0])
    np.testing.assert_allclose(net(x), heard(x), rtol=1e-13)
    for log_scale in (-900.0, -math.inf):
        with pytest.raises(ValueError, match="log_scale between"):
            fc.TwoLayerNet(W, a, log_scale=log_scale)(x)
