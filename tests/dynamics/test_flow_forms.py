"""The flow in the span of the samples against the flow of the weights themselves.

A rotation of the inputs turns the flow with it, and outside the span nothing moves but the decay: the two forms follow
one curve. Steps of fixed length agree to rounding, others to their tolerance.
"""

import math
import signal
import sys
import time

import numpy as np
import pytest
from _runs import gap, same_history, same_net

import featcore as fc
from featcore import observables

NOTHING = fc.Recording.at([])
FORM = {"form": "projected"}
METHODS = (("event", {}), ("tsit5", {}), ("rk4", {"step_size": 0.05}))
KINDS = ("gaussian", "low rank", "zero rows", "lines")


def samples(n, d, seed, kind="gaussian"):
    """Return inputs, (n, d)."""
    rng = np.random.default_rng([seed, n, d])
    x = rng.standard_normal((n, d))
    if kind == "low rank":
        rank = max(1, min(n, d) // 2)
        x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) / math.sqrt(rank)
    elif kind == "zero rows":
        x[::4] = 0
    elif kind == "lines":  # longer, and on the far side; powers of 2 are exact in every dtype
        x[1::3] = 4 * x[: len(x[1::3])]
        x[2::3] = -x[: len(x[2::3])] / 2
    return x


def wide(n=25, d=60, m=30, *, seed=0, kind="gaussian", dtype=np.float64, activation=None, **more):
    """Return a network, and data whose samples are fewer than their inputs."""
    rng = np.random.default_rng([seed, 7])
    activation = fc.ReLU() if activation is None else activation
    scale = more.get("scale", 0.3)
    net = fc.TwoLayerNet.gaussian(m, d, scale, seed=seed, dtype=dtype, activation=activation)
    x = samples(n, d, seed, kind) / math.sqrt(d / 4)
    y = rng.standard_normal(n) if more.get("loss") == "squared" else rng.choice([-1.0, 1.0], n)
    return net, fc.Dataset(x.astype(dtype), y.astype(dtype))


def other_split(d, seed=9, dtype=np.float64, n=11):
    rng = np.random.default_rng([seed, d])
    x = rng.standard_normal((n, d)) / math.sqrt(d / 4)
    return fc.Dataset(x.astype(dtype), rng.choice([-1.0, 1.0], n).astype(dtype))


def both(net, data, loss="logistic", **options):
    """Return the flow in both forms, the primal one first."""
    runs = [fc.flow(net, data, loss, form=form, **options) for form in ("primal", "projected")]
    assert [run.outcome.form for run in runs] == ["primal", "projected"]
    assert [run.state.form for run in runs] == ["primal", "projected"]
    assert runs[0].outcome.status == runs[1].outcome.status
    return runs


def close(got, expected, tolerance):
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape
    size = 1 + np.abs(expected).max(initial=0.0)
    assert np.abs(got - expected).max(initial=0.0) <= tolerance * size


# --- one curve


OPTIONS = (
    {},
    {"weight_decay": 0.05},
    {"train": ("W",)},
    {"train": ("a",), "weight_decay": 0.2},
    {"layer_rates": {"W": 0.5, "a": 2.0}, "output_penalty": 0.1, "weight_decay": 0.01},
)


def settings():
    """All of them; those that differ from others in two ways are long."""
    for loss in ("logistic", "exponential", "squared"):
        for slope in (0.0, 0.2):
            for options in OPTIONS:
                twice = (loss != "logistic") + (slope != 0) + (options != {}) > 1
                marks = pytest.mark.long if twice else ()
                yield pytest.param(loss, slope, options, marks=marks)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("loss", "slope", "options"), list(settings()))
def test_the_event_resolved_flow_is_the_same_in_both_forms(kind, loss, slope, options):
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    seed = KINDS.index(kind)
    net, data = wide(kind=kind, loss=loss, activation=activation, seed=seed, scale=0.03)
    primal, span = both(net, data, loss, t_end=10.0, rtol=1e-9, record=NOTHING, **options)
    assert gap(primal.net, span.net) <= 1e-8
    for name in ("crossings", "slidings"):
        assert span.outcome.counts[name] == primal.outcome.counts[name]
    if options.get("train") != ("a",):
        assert primal.outcome.counts["crossings"] > 20


def test_events_are_the_same_in_both_forms():
    net, data = wide(40, 120, 50, seed=3, scale=0.03)
    primal, span = both(net, data, t_end=20.0, rtol=1e-9, events=True, record=NOTHING)
    assert primal.events.sizes["event"] > 300
    for name in ("neuron", "sample", "kind"):
        np.testing.assert_array_equal(span.events[name], primal.events[name])
    # a crossing is as uncertain as it is slow
    assert np.quantile(abs(span.events.time - primal.events.time), 0.9) <= 1e-7


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_observables_on_every_split_are_those_of_the_weights(weight_decay):
    net, data = wide(seed=4)
    directions = np.random.default_rng(1).standard_normal((2, 60))
    names = [
        *("loss", "log_loss", "objective", "accuracy", "margin", "normalised_margin", "margins"),
        *("norms", "head", "balance_drift", "stable_rank"),
    ]
    observe = [
        *names,
        observables.cosines(directions),
        observables.alignment(directions),
        observables.singular_values(4),
        observables.custom(lambda n, _data: np.array(n.W), name="seen"),
    ]
    primal, span = both(
        net,
        data,
        t_end=5.0,
        rtol=1e-9,
        weight_decay=weight_decay,
        evaluate={"test": other_split(60), "far": other_split(60, seed=3, n=70)},
        observe=observe,
        record=fc.Recording.linear(10),
    )
    for name in primal.history.data_vars:
        close(span.history[name], primal.history[name], 1e-7)
    # the test splits have something of their own to say
    assert abs(float(span.history.loss[-1, 1]) - float(span.history.loss[-1, 0])) > 1e-2


def test_signs_are_counted_on_every_split():
    net, data = wide(seed=5)
    primal, span = both(
        net,
        data,
        t_end=0.5,
        evaluate={"test": other_split(60)},
        observe=["patterns", "dead"],
        record=fc.Recording.linear(5),
    )
    assert primal.outcome.counts["slidings"] == 0  # of a pair that is held the sign is rounding
    assert primal.outcome.counts["crossings"] > 0
    assert same_history(primal.history, span.history)


@pytest.mark.parametrize(("method", "h"), [("euler", 0.1), ("heun", 0.1), ("rk4", 0.2)])
@pytest.mark.parametrize("activation", [fc.ReLU(), fc.Tanh(), fc.LeakyReLU(-0.5)])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.2}, {"train": ("a",)}])
def test_fixed_steps_agree_to_rounding(method, h, activation, options):
    """Also between the steps, where the weights are interpolated."""
    net, data = wide(activation=activation, seed=5)
    primal, span = both(
        net,
        data,
        t_end=4.0,
        method=method,
        step_size=h,
        observe=["loss", "objective", "weights"],
        evaluate={"test": other_split(60)},
        record=fc.Recording.at([0.03, 0.77, 1.31, 3.999]),
        **options,
    )
    assert gap(primal.net, span.net) <= 1e-11
    for name in primal.history.data_vars:
        close(span.history[name], primal.history[name], 1e-11)
    assert span.outcome.counts == primal.outcome.counts


@pytest.mark.parametrize("activation", [fc.Tanh(), fc.Softplus(), fc.GELU(), fc.Erf()])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_tsit5_has_its_accuracy_in_both_forms(activation, weight_decay):
    net, data = wide(activation=activation, seed=6)
    options = {"t_end": 4.0, "weight_decay": weight_decay, "record": fc.Recording.linear(7)}
    exact = fc.flow(net, data, rtol=1e-12, form="primal", observe=["weights"], **options)
    for rtol in (1e-5, 1e-8):
        run = fc.flow(net, data, rtol=rtol, observe=["weights"], **FORM, **options)
        assert run.settings["method"] == "tsit5"
        assert gap(exact.net, run.net) <= 10 * rtol
        close(run.history["weights"], exact.history["weights"], 10 * rtol)


@pytest.mark.parametrize("rtol", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_has_the_accuracy_it_is_asked_for(rtol, kind):
    net, data = wide(kind=kind, seed=10 + KINDS.index(kind))
    options = {"t_end": 6.0, "weight_decay": 0.02, "record": NOTHING}
    single = fc.TwoLayerNet(net.W.astype(np.float32), net.a.astype(np.float32))
    x, y = data.x.astype(np.float32), data.y.astype(np.float32)
    # the same numbers in both: rounding of the data is not the flow's
    exact = fc.flow(
        fc.TwoLayerNet(single.W.astype(float), single.a.astype(float)),
        fc.Dataset(x.astype(float), y.astype(float)),
        rtol=1e-9,
        form="primal",
        **options,
    )
    run = fc.flow(single, fc.Dataset(x, y), rtol=rtol, **FORM, **options)
    assert run.outcome.status == "reached_end"
    assert run.net.W.dtype == np.float32
    assert gap(exact.net, run.net) <= 10 * rtol


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (2, 40), (30, 3), (60, 60), (90, 40)])
@pytest.mark.parametrize("method", ["event", "tsit5"])
def test_the_form_may_be_asked_for_at_any_shape(shape, method):
    net, data = wide(*shape, 12, seed=2)
    rtol = 1e-8 if method == "event" else 1e-4
    options = {"t_end": 2.0, "rtol": rtol, "method": method, "record": NOTHING}
    primal, span = both(net, data, weight_decay=0.01, **options)
    assert primal.outcome.status == "reached_end"
    # tsit5 steps over kinks: its error is about the root of rtol
    assert gap(primal.net, span.net) <= (1e-7 if method == "event" else 1e-2)


def test_samples_that_are_all_zero_move_nothing():
    net, data = wide()
    still = fc.Dataset(np.zeros_like(data.x), data.y)
    for method, options in METHODS:
        run = fc.flow(net, still, t_end=3.0, method=method, **FORM, **options)
        assert same_net(run.net, net)
        decayed = fc.flow(
            net, still, t_end=3.0, method=method, weight_decay=0.1, rtol=1e-9, **FORM, **options
        )
        np.testing.assert_allclose(decayed.net.W, math.exp(-0.3) * net.W, rtol=1e-7)


# --- outside the span


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_outside_the_span_decay_exactly(dtype):
    net, data = wide(12, 50, 9, dtype=dtype)
    x = np.hstack([data.x[:, :25], np.zeros_like(data.x[:, 25:])])
    rate, decay, t_end = 0.7, 0.2, 5.0
    run = fc.flow(
        net,
        fc.Dataset(x, data.y),
        t_end=t_end,
        rtol=1e-4,
        weight_decay=decay,
        layer_rates={"W": rate},
        observe=["weights"],
        record=fc.Recording.linear(5),
        **FORM,
    )
    eps = np.finfo(dtype).eps
    for t, W in zip(run.history.time.values, run.history["weights"].values, strict=True):
        expected = net.W[:, 25:].astype(float) * math.exp(-rate * decay * t)
        # a rounding a step, and one of the sums that make W
        np.testing.assert_allclose(W[:, 25:], expected, rtol=200 * eps, atol=4 * eps)
    assert np.linalg.norm(run.net.W[:, :25] - net.W[:, :25] * math.exp(-rate * decay * t_end)) > 0.1


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("train", [("W", "a"), ("W",), ("a",)])
def test_the_gradient_has_the_decay_outside_the_span(method, options, train):
    net, data = wide(seed=1)
    gradient = fc.loss_and_grad(net, data, weight_decay=0.3)[1]
    norm = math.sqrt(sum(np.sum(getattr(gradient, layer) ** 2) for layer in train))
    options = {**options, "t_end": 2.0, "method": method, "train": train, "weight_decay": 0.3}
    options |= {"rtol": 1e-4, "record": NOTHING, **FORM}
    run = fc.flow(net, data, gradient_target=norm * (1 + 1e-12), **options)
    assert (run.outcome.status, run.outcome.time) == ("stationary", 0.0)
    assert same_net(run.net, net)
    later = fc.flow(net, data, gradient_target=norm * (1 - 1e-12), **options)
    assert later.outcome.time > 0
    plain = fc.flow(net, data, **options)
    assert same_net(run.continue_(record=NOTHING).net, plain.net)


@pytest.mark.parametrize(
    "options", [{"layer_rates": {"W": 1.0, "a": 0.3}}, {"weight_decay": 0.1}, {"train": ("a",)}]
)
def test_drift_has_what_decays_outside_the_span(options):
    """It grows steadily here: the largest is that at the end, which is the end of a step."""
    net, data = wide(seed=2)
    for form in ("primal", "projected"):
        run = fc.flow(net, data, t_end=1e3, max_steps=20, form=form, **options)
        change = [n.a**2 - np.sum(n.W**2, axis=1) for n in (net, run.net)]
        largest = np.abs(change[1] - change[0]).max()
        assert largest > 1e-3
        assert run.outcome.drift == pytest.approx(largest, rel=1e-9)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_drift_is_the_largest_change_of_balance(weight_decay):
    net, data = wide(seed=2)
    run = fc.flow(
        net,
        data,
        t_end=4.0,
        method="euler",
        step_size=0.1,
        weight_decay=weight_decay,
        observe=["head", "norms"],
        record=fc.Recording.linear(40),
        **FORM,
    )
    balance = run.history["head"] ** 2 - run.history.norms**2
    largest = float(abs(balance - balance[0]).max())
    assert largest > 1e-4
    assert run.outcome.drift == pytest.approx(largest, rel=1e-9)


def test_the_balance_is_conserved_to_rounding():
    net, data = wide(40, 300, 30, seed=3, scale=0.03)
    run = fc.flow(net, data, t_end=20.0, rtol=1e-5, record=NOTHING, **FORM)
    assert run.outcome.counts["crossings"] > 100
    size = np.sum(net.W**2, axis=1).max() + np.sum(run.net.W**2, axis=1).max()
    assert run.outcome.drift <= 1e-13 * size


# --- exact zeros


def test_neurons_without_weights_stay():
    net, data = wide(seed=1)
    W = net.W.copy()
    W[3] = W[17] = 0
    run = fc.flow(fc.TwoLayerNet(W, net.a), data, t_end=5.0, record=NOTHING, **FORM)
    assert not run.net.W[[3, 17]].any()
    assert np.array_equal(run.net.a[[3, 17]], net.a[[3, 17]])
    moved = np.abs(run.net.W - W).max(axis=1)
    assert np.sum(moved > 1e-3) > 20


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_neurons_across_all_samples_see_none(slope):
    """relu'(0) = 0: they stay; those of a leaky ReLU move as in the primal form, off the kink."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (10, 40)).astype(float)
    x[:, 38] = x[:, 0] - 2 * x[:, 1]
    x[:, 39] = x[:, :39].sum(axis=1)
    W = rng.integers(-3, 4, (8, 40)).astype(float)
    W[0] = np.r_[np.ones(39), -1.0]
    W[1] = np.r_[1.0, -2.0, np.zeros(36), -1.0, 0.0]
    W[2] = 3 * W[0] + W[1]
    assert not (W[:3] @ x.T).any()
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    net = fc.TwoLayerNet(0.125 * W, rng.standard_normal(8), activation)
    data = fc.Dataset(0.25 * x, np.resize([1.0, -1.0], 10))
    primal, span = both(net, data, t_end=3.0, rtol=1e-9, record=NOTHING)
    if not slope:
        np.testing.assert_array_equal(span.net.W[:3], net.W[:3])
        np.testing.assert_array_equal(span.net.a[:3], net.a[:3])
    assert gap(primal.net, span.net) <= 1e-8
    assert span.outcome.counts["crossings"] == primal.outcome.counts["crossings"]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_neurons_on_hyperplanes_start_there(seed, slope):
    """Small integers: many z are 0 to the last bit, where the basis, irrational, would put them on either side."""
    rng = np.random.default_rng([11, seed])
    x = rng.integers(-2, 3, (12, 40)).astype(float)
    x[:, 4:] = x[:, :1] + x[:, 1:2] * rng.integers(
        -1, 2, 36
    )  # zeros of one z are not zeros of others
    W = rng.integers(-2, 3, (15, 40)).astype(float)
    W[:, 4:] = 0
    z = W @ x.T
    assert np.sum((z == 0) & (x != 0).any(axis=1) & (W != 0).any(axis=1)[:, None]) >= 10
    activation = fc.LeakyReLU(slope) if slope else fc.ReLU()
    net = fc.TwoLayerNet(0.1 * W, 0.1 * rng.standard_normal(15), activation)
    data = fc.Dataset(x, rng.choice([-1.0, 1.0], 12))
    primal, span = both(net, data, t_end=0.5, rtol=1e-9, record=NOTHING)
    assert primal.outcome.status == "reached_end"
    assert gap(primal.net, span.net) <= 1e-7


def test_a_repelling_kink_is_left_on_the_inactive_side():
    """z = <(1, 1, -1), (1, 2, 3)> = 0: in the span's own coordinate, a root of 14, it may be 1e-17."""
    for scale in (1.0, 0.1, 3.7):
        for x in ([1.0, 2.0, 3.0], [7.0, 1.0, 8.0], [3.0, 10.0, 13.0]):
            net = fc.TwoLayerNet([[1.0, 1.0, -1.0]], [1.0])
            run = fc.flow(net, fc.Dataset(np.array([x]) * 2.0, [1.0]), t_end=5.0 * scale, **FORM)
            assert same_net(run.net, net)
            assert run.outcome.counts["crossings"] == 0


def test_duplicates_of_a_neuron_remain_duplicates():
    net, data = wide(seed=3, m=70, scale=0.03)
    twins = np.r_[np.arange(70), np.arange(70)]
    run = fc.flow(
        fc.TwoLayerNet(net.W[twins], net.a[twins]), data, t_end=6.0, record=NOTHING, **FORM
    )
    assert run.outcome.counts["crossings"] > 100
    assert np.array_equal(run.net.a[:70], run.net.a[70:])
    # W itself is one product of matrices more
    close(run.net.W[:70], run.net.W[70:], 1e-15 * 60)


def test_samples_on_a_line_are_found_before_the_rotation():
    """Sample by sample, two with labels of both signs would hold a neuron that together they let through."""
    d = 8000
    rng = np.random.default_rng(5)
    base = np.abs(rng.standard_normal((4, d))) / math.sqrt(d)
    x = np.vstack([base, base / 3, -base * 7, base * math.pi])
    y = np.r_[np.ones(4), -np.ones(4), np.resize([1.0, -1.0], 8)]
    net = fc.TwoLayerNet.gaussian(20, d, 0.3, seed=2)
    primal, span = both(net, fc.Dataset(x, y), t_end=8.0, rtol=1e-8, record=NOTHING)
    assert span.outcome.counts["crossings"] == primal.outcome.counts["crossings"] > 0
    assert span.outcome.counts["slidings"] == primal.outcome.counts["slidings"]
    assert gap(primal.net, span.net) <= 1e-7


# --- bits


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"layer_rates": {"W": 0.3, "a": 2.0}, "weight_decay": 0.07},
        {"train": ("W",), "weight_decay": 0.07},
        {"train": ("a",), "weight_decay": 0.07},
    ],
)
def test_euler_is_descend_in_the_same_form(dtype, options):
    net, data = wide(kind="low rank", dtype=dtype, seed=8)
    rtol = {"rtol": 1e-4}
    run = fc.flow(net, data, t_end=7.0, method="euler", step_size=0.1, **FORM, **rtol, **options)
    assert same_net(run.net, fc.descend(net, data, step_size=0.1, steps=70, **FORM, **options).net)


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_do_not_depend_on_threads(method, options, dtype):
    net, data = wide(50, 200, 90, dtype=dtype, seed=2)
    runs = [
        fc.flow(
            net,
            data,
            t_end=6.0,
            rtol=1e-4,
            method=method,
            weight_decay=0.01,
            evaluate={"test": other_split(200, dtype=dtype)},
            observe=["loss", "norms"],
            record=fc.Recording.linear(5),
            num_threads=k,
            **FORM,
            **options,
        )
        for k in (1, 2, 3, 5)
    ]
    assert runs[0].outcome.status == "reached_end"
    for run in runs[1:]:
        assert same_net(run.net, runs[0].net)
        assert same_history(run.history, runs[0].history)
        assert run.outcome.drift == runs[0].outcome.drift
        assert run.outcome.counts == runs[0].outcome.counts


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_continued_has_the_same_bits(method, options, dtype, tmp_path):
    # at kinks Tsitouras takes steps without end
    activation = fc.Tanh() if method == "tsit5" else fc.ReLU()
    net, data = wide(seed=7, dtype=dtype, activation=activation)
    splits = {"test": other_split(60, dtype=dtype)}
    more = {"rtol": 1e-5, "weight_decay": 0.03, "evaluate": splits, "observe": ["loss", "norms"]}
    more |= {"method": method, "record": fc.Recording.linear(6), **FORM, **options}
    whole = fc.flow(net, data, t_end=12.0, **more)
    assert whole.outcome.form == "projected"
    for first in (0.0, 1.7, 9.3):
        half = fc.flow(net, data, t_end=first, **more)
        half.save(tmp_path / "half.nc")
        loaded = fc.load(tmp_path / "half.nc")
        again = half.continue_(t_end=12.0, record=fc.Recording.linear(6))
        other = loaded.continue_(
            t_end=12.0, data=data, evaluate=splits, record=fc.Recording.linear(6)
        )
        for run in (again, other):
            assert run.outcome.form == "projected"
            assert same_net(run.net, whole.net)
            assert run.outcome.drift == whole.outcome.drift
            common = run.history.isel(time=np.isin(run.history.time, whole.history.time))
            for name in ("loss", "norms"):
                np.testing.assert_array_equal(
                    common[name][1:], whole.history[name][-len(common.time) + 1 :]
                )
    parts = fc.flow(net, data, t_end=12.0, max_steps=3, **more)
    while parts.outcome.status == "max_steps":
        parts = parts.continue_(max_steps=3)
    assert same_net(parts.net, whole.net)
    assert parts.outcome.counts["crossings"] == whole.outcome.counts["crossings"]


def test_recording_changes_no_bits_and_nothing_moves_in_no_time():
    net, data = wide(seed=5)
    runs = [
        fc.flow(net, data, t_end=9.0, weight_decay=0.1, record=r, **FORM)
        for r in (NOTHING, fc.Recording.linear(40))
    ]
    assert same_net(runs[0].net, runs[1].net)
    for method, options in METHODS:
        assert same_net(fc.flow(net, data, t_end=0.0, method=method, **FORM, **options).net, net)


def test_a_state_of_another_shape_is_refused():
    net, data = wide(6, 40, 5)
    run = fc.flow(net, data, t_end=1.0, **FORM)
    for name in set(run.state.arrays) - {"balance"}:
        array = run.state.arrays[name]
        shape = [size + 1 for size in array.shape]
        broken = {**run.state.arrays, name: np.zeros(shape, array.dtype)}
        run.state = type(run.state)(1, "projected", 0, broken)
        with pytest.raises(ValueError, match="state"):
            run.continue_(t_end=2.0)
        run.state = type(run.state)(1, "projected", 0, {**broken, name: array})
    assert run.continue_(t_end=2.0).outcome.status == "reached_end"


# --- ends


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_loss_target(method, options):
    net, data = wide(seed=6)
    first = fc.loss_and_grad(net, data)[0]
    rtol = 1e-8 if method == "event" else 1e-4
    options = {**options, "t_end": 500.0, "method": method, "rtol": rtol, "record": NOTHING, **FORM}
    run = fc.flow(net, data, loss_target=0.5 * first, **options)
    assert run.outcome.status == "loss_target"
    assert fc.loss_and_grad(run.net, data)[0] == pytest.approx(0.5 * first, rel=1e-6)
    whole = fc.flow(net, data, **{**options, "t_end": 2 * run.outcome.time})
    assert same_net(run.continue_(t_end=2 * run.outcome.time, record=NOTHING).net, whole.net)


def test_wall_time_and_steps_that_are_not_finite():
    net, data = wide(seed=6)
    none = fc.flow(net, data, t_end=5.0, wall_time=0.0, **FORM)
    assert none.outcome.status == "wall_time"
    assert same_net(none.net, net)
    big = fc.TwoLayerNet(net.W * 1e80, net.a * 1e80)
    for method, options in METHODS:
        run = fc.flow(big, data, "exponential", t_end=1.0, method=method, **FORM, **options)
        assert run.outcome.status == "non_finite"
        assert same_net(run.net, big)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX systems")
@pytest.mark.parametrize(
    ("method", "options"), [("event", {}), ("tsit5", {}), ("rk4", {"step_size": 1e-4})]
)
def test_ctrl_c_answers_and_the_run_goes_on(method, options):
    net, data = wide(150, 400, 300, seed=3)
    began = time.perf_counter()

    def interrupt(_signal, _frame):
        nonlocal began
        began = time.perf_counter()
        raise KeyboardInterrupt

    options = {**options, "t_end": 1e4, "rtol": 1e-9, "method": method, "weight_decay": 1e-3}
    options |= {"observe": ["loss"], **FORM}
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(fc.Interrupted) as caught:
            fc.flow(net, data, **options)
        assert time.perf_counter() - began < 0.5  # 0.1 s, and a machine that is busy
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    run = caught.value.run
    assert run.outcome.status == "interrupted"
    assert run.history.time.values[-1] == run.outcome.time
    further = run.continue_(max_steps=2, record=NOTHING)
    assert further.outcome.time > run.outcome.time
    whole = fc.flow(
        net, data, **{**options, "record": NOTHING, "max_steps": further.outcome.counts["accepted"]}
    )
    assert same_net(whole.net, further.net)


class Enough(Exception):
    pass


def test_an_interrupt_before_the_first_step_leaves_the_network():
    """The basis is being made when it comes: the first look outside."""
    from featcore.dynamics.kinds import KINDS

    net, data = wide(200, 3000, 40)
    asked = {
        "train": ("W", "a"),
        "layer_rates": None,
        "reduction": "mean",
        "weight_decay": 0.0,
        "output_penalty": 0.0,
        "evaluate": None,
        "observe": ("loss",),
        "record": NOTHING,
        "loss_target": None,
        "gradient_target": None,
        "wall_time": None,
        "method": "auto",
        "rtol": 1e-6,
        "atol": None,
        "step_size": None,
        "events": False,
        "max_steps": 3,
    }

    def watch(_position):
        raise Enough

    for form in ("projected", "auto"):
        segment = KINDS["flow"].prepare(net, data, "logistic", t_end=1.0, form=form, **asked)
        with pytest.raises(Enough) as raised:
            segment.drive(2, watch=watch)
        run = raised.value.run
        assert (run.outcome.status, run.outcome.time) == ("interrupted", 0.0)
        assert same_net(run.net, net)
        done = run.continue_(max_steps=3, record=NOTHING)
        assert done.outcome.form == "projected"
        whole = fc.flow(net, data, t_end=1.0, max_steps=3, record=NOTHING)
        assert same_net(done.net, whole.net)


# --- the choice


def low_rank(n, d, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))


@pytest.mark.parametrize(
    ("shape", "rank", "expected"),
    [
        ((20, 100, 30), 20, "projected"),
        ((80, 100, 30), 80, "projected"),  # 4.4 rank + 4 <= 0.9 · 4d
        ((81, 100, 30), 81, "primal"),
        ((90, 100, 30), 40, "projected"),
        ((20, 31, 30), 20, "primal"),  # hardly any inputs
        ((20, 100, 1), 20, "primal"),  # too narrow for a basis to pay
        ((16, 100, 1), 16, "projected"),
        ((500, 64, 30), 64, "primal"),
        ((500, 64, 30), 51, "projected"),
        ((500, 64, 30), 52, "primal"),
        ((1, 40, 5), 1, "projected"),
    ],
)
def test_the_form_is_chosen_by_shape_and_rank(shape, rank, expected):
    n, d, m = shape
    data = fc.Dataset(0.1 * low_rank(n, d, rank), np.resize([1.0, -1.0], n))
    for method, options in METHODS:
        activation = fc.Tanh() if method == "tsit5" else fc.ReLU()
        net = fc.TwoLayerNet.gaussian(m, d, 0.01, seed=1, activation=activation)
        run = fc.flow(net, data, t_end=0.1, method=method, record=NOTHING, **options)
        assert run.outcome.form == run.state.form == expected
        assert run.continue_(t_end=0.2, record=NOTHING).outcome.form == expected
        named = fc.flow(
            net, data, t_end=0.1, method=method, form=expected, record=NOTHING, **options
        )
        assert same_net(run.net, named.net)


def test_inputs_that_no_sample_has_do_not_count():
    """They cost the primal form of the flow nothing."""
    x = np.zeros((20, 100))
    data = fc.Dataset(x, np.resize([1.0, -1.0], 20))
    net = fc.TwoLayerNet.gaussian(30, 100, 0.01, seed=1)
    x[:, ::4] = low_rank(20, 25, 5)
    data = fc.Dataset(x, np.resize([1.0, -1.0], 20))
    assert fc.flow(net, data, t_end=0.1).outcome.form == "primal"
    x[:, ::2] = low_rank(20, 50, 5)
    data = fc.Dataset(x, np.resize([1.0, -1.0], 20))
    assert fc.flow(net, data, t_end=0.1).outcome.form == "projected"


def test_an_input_in_other_units_does_not_drown_the_rest():
    """The projected form would: it rounds at the size of |w||x|."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 40))
    x[:, 0] = 1.7e9 + 1e6 * rng.standard_normal(30)
    W = rng.standard_normal((20, 40))
    W[:, 0] = 0
    net = fc.TwoLayerNet(W.astype(np.float32), np.resize([0.1, -0.1], 20).astype(np.float32))
    data = fc.Dataset(x, np.sign(x[:, 1])).astype(np.float32)
    options = {"t_end": 0.2, "train": ("a",), "method": "rk4", "step_size": 0.05, "rtol": 1e-4}
    run, primal = (fc.flow(net, data, form=form, **options) for form in ("auto", "primal"))
    assert run.outcome.form == "primal"
    assert same_net(run.net, primal.net)
    x[:, 0] /= 1e8
    alike = fc.Dataset(x, data.y.astype(np.float64)).astype(np.float32)
    assert fc.flow(net, alike, **options).outcome.form == "projected"


def test_other_forms_are_refused_by_name():
    net, data = wide(3, 4, 5)
    with pytest.raises(ValueError, match=r"form='gram' iterates pre-activations.*form='projected'"):
        fc.flow(net, data, t_end=1.0, form="gram")
    with pytest.raises(ValueError, match="form='dual'"):
        fc.flow(net, data, t_end=1.0, form="dual")


@pytest.mark.parametrize("form", ["auto", "projected", "primal"])
def test_members_of_an_ensemble_have_the_bits_of_flows(form):
    nets = [fc.TwoLayerNet.gaussian(m, 40, 0.3, seed=m) for m in (5, 17, 33)]
    sets = [
        wide(n, 40, 5, seed=n, kind=kind)[1] for n, kind in zip((9, 30, 60), KINDS, strict=False)
    ]
    options = {"t_end": 4.0, "weight_decay": 0.1, "form": form, "rtol": 1e-5}
    members = fc.ensemble(nets, sets, dynamics="flow", num_threads=2, **options)
    forms = []
    for run, net, data in zip(members, nets, sets, strict=True):
        alone = fc.flow(net, data, num_threads=3, **options)
        forms.append(run.outcome.form)
        assert run.outcome.form == alone.outcome.form
        assert same_net(run.net, alone.net)
        assert same_history(run.history, alone.history)
    assert forms == (["projected", "projected", "primal"] if form == "auto" else [form] * 3)
    on = members.continue_(t_end=6.0)
    for run, first in zip(on, members, strict=True):
        assert same_net(run.net, first.continue_(t_end=6.0).net)


# --- memory


@pytest.mark.parametrize("form", ["auto", "primal", "projected"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_flow_that_does_not_fit_says_so_before_it_starts(form, method, options, monkeypatch):
    module = sys.modules["featcore.dynamics.flow"]
    monkeypatch.setattr(module, "free_memory", lambda: 1.5 * 2**20)
    net, data = wide(40, 90, 70)
    begun = []
    probe = observables.custom(
        lambda _net, _data: float(len(begun.append(1) or begun)), name="probe"
    )
    with pytest.raises(MemoryError) as raised:
        fc.flow(net, data, t_end=1.0, method=method, form=form, observe=[probe], **options)
    message = str(raised.value)
    assert "n=40, d=90, m=70" in message
    assert "0.00146 GiB are free" in message
    assert f"form={'projected' if form == 'auto' else form}" in message
    assert not begun
