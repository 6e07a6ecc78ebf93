"""Gradient descent: held against the plain numpy loop, and against what mathematics says of it."""

import itertools
import math

import numpy as np
import pytest
from _runs import NATIVE, PATTERNS, gap, problem, same_history, same_net, same_run
from _strategies import ACTIVATIONS, LOSSES, Case, cases, magnitudes, near_kink
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import reference

sizes = st.one_of(st.integers(1, 12), st.sampled_from((15, 16, 17, 63, 64, 65, 127, 129)))
trains = st.sampled_from((("W", "a"), ("W",), ("a",), ["a", "W"], "W"))
rates = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {}, optional={"W": st.sampled_from((0.0, 0.3, 2.0)), "a": st.sampled_from((0.0, 0.5, 3))}
    ),
)


def path(net, data, loss, **options):
    """Return a run and its network at every step."""
    run = fc.descend(
        net, data, loss, observe=["weights", "head"], record=fc.Recording.every(1), **options
    )
    history = run.history
    nets = [
        fc.TwoLayerNet(W, a.astype(W.dtype), net.activation)
        for W, a in zip(history["weights"].values, history["head"].values, strict=True)
    ]
    return run, nets


# --- the oracle


@settings(max_examples=120)
@given(
    case=cases(n=sizes, d=st.integers(1, 20), m=sizes),
    step_size=st.sampled_from((0.01, 0.1, 0.5)),
    steps=st.integers(1, 4),
    train=trains,
    layer_rates=rates,
)
def test_every_step_is_that_of_the_reference(case, step_size, steps, train, layer_rates):
    if case.settings["reduction"] == "sum":
        step_size /= case.data.n
    options = {"step_size": step_size, "train": train, "layer_rates": layer_rates}
    run, nets = path(case.net, case.data, case.loss, steps=steps, **options, **case.settings)
    assume(run.outcome.status == "reached_end")
    assert len(nets) == steps + 1
    assert same_net(nets[0], case.net)
    assert same_net(nets[-1], run.net)
    eps = float(np.finfo(case.net.dtype).eps)
    fastest = max(1.0, *(layer_rates or {"W": 1.0}).values())
    for net, after in itertools.pairwise(nets):
        assume(not near_kink(net, case.data.x, case.data.y, case.loss).any())
        if np.abs(net(case.data.x)).max() > 10:
            break  # e^{-u} has lost as many digits as u has before the point
        expected = reference.step(net, case.data, case.loss, **options, **case.settings)
        scale = np.hypot(np.linalg.norm(net.W), np.linalg.norm(net.a))
        scale += step_size * fastest * magnitudes(Case(net, case.data, case.loss, case.settings))
        distance = math.hypot(
            np.linalg.norm(after.W - expected.W), np.linalg.norm(after.a - expected.a)
        )
        assert distance <= 50 * eps * scale


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_the_whole_loop_is_that_of_the_reference(activation, loss):
    net, data = problem(70, 6, 20, activation=activation, loss=loss, weighted=True)
    options = {
        "step_size": 0.2,
        "steps": 12,
        "layer_rates": {"W": 0.5, "a": 0.25},
        "weight_decay": 0.01,
        "output_penalty": 0.1,
    }
    run = fc.descend(net, data, loss, **options)
    assert gap(run.net, reference.descend(net, data, loss, **options)) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_step_follows_loss_and_grad(loss, reduction):
    net, data = problem(40, 5, 8, loss=loss, weighted=True)
    penalties = {"weight_decay": 0.2, "output_penalty": 0.3, "reduction": reduction}
    value, gradient = fc.loss_and_grad(net, data, loss, **penalties)
    run = fc.descend(net, data, loss, step_size=0.01, steps=1, observe=["objective"], **penalties)
    np.testing.assert_allclose(run.net.W, net.W - 0.01 * gradient.W, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(run.net.a, net.a - 0.01 * gradient.a, rtol=1e-13, atol=1e-15)
    assert run.history.objective[0] == pytest.approx(value, rel=1e-14)


# --- bits do not depend on who computes


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(0.2), fc.Tanh()], ids=repr)
@pytest.mark.parametrize(
    ("n", "d", "m"), [(1500, 12, 150), (513, 40, 65), (3000, 3, 3), (7, 2, 400), (5, 3, 4)]
)
def test_a_run_has_the_same_bits_for_any_number_of_threads(n, d, m, activation, dtype):
    net, data = problem(n, d, m, activation=activation, dtype=dtype, weighted=True)
    test = problem(n // 2 + 1, d, m, seed=1, dtype=dtype)[1]
    observe = [
        *NATIVE,
        *(PATTERNS if activation.homogeneous else ()),
        fc.observables.alignment(np.eye(d)[:2]),
        fc.observables.cosines(np.eye(d)[:2]),
        fc.observables.singular_values(2),
    ]
    first, *others = (
        fc.descend(
            net,
            data,
            step_size=0.3,
            steps=4,
            evaluate={"test": test},
            observe=observe,
            num_threads=threads,
        )
        for threads in (1, 2, 3, 5)
    )
    assert first.outcome.num_threads == 1
    for other in others:
        assert same_run(first, other)


def test_what_is_observed_does_not_change_the_bits():
    net, data = problem(600, 5, 70)
    plain = fc.descend(net, data, step_size=0.1, steps=20, observe=[])
    observe = [*NATIVE, *PATTERNS, "weights", fc.observables.singular_values(3)]
    rich = fc.descend(
        net,
        data,
        step_size=0.1,
        steps=20,
        observe=observe,
        record=fc.Recording.every(1),
        evaluate={"other": problem(50, 5, 70, seed=3)[1]},
    )
    assert same_net(plain.net, rich.net)


def test_neither_network_nor_data_are_changed():
    net, data = problem()
    before = net.sha256(), data.sha256()
    run = fc.descend(net, data, step_size=0.5, steps=20)
    assert (net.sha256(), data.sha256()) == before
    assert not np.shares_memory(run.net.W, net.W)
    assert not same_net(run.net, net)
    with pytest.raises(ValueError, match="read-only"):
        run.net.W[0, 0] = 1.0


# --- the clock


def test_no_steps_is_a_run_too():
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=0)
    assert same_net(run.net, net)
    assert run.outcome.status == "reached_end"
    assert run.outcome.time == 0.0
    assert dict(run.outcome.counts) == {"steps": 0, "records": 1}
    assert run.history.step.values.tolist() == [0]


def test_step_k_is_at_time_eta_k():
    net, data = problem()
    run = fc.descend(net, data, step_size=0.3, steps=17, record=fc.Recording.every(5))
    assert run.history.step.values.tolist() == [0, 5, 10, 15, 17]
    np.testing.assert_array_equal(run.history.time, 0.3 * run.history.step)
    assert run.outcome.time == 0.3 * 17
    assert run.outcome.counts["steps"] == run.state.step == 17


@pytest.mark.parametrize("activation", [fc.ReLU(), fc.Tanh()], ids=repr)
def test_equal_layer_rates_are_a_longer_step(activation):
    net, data = problem(activation=activation)
    fast = fc.descend(net, data, step_size=0.25, steps=10, layer_rates={"W": 2.0, "a": 2})
    assert same_net(fast.net, fc.descend(net, data, step_size=0.5, steps=10).net)


@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(-0.5)], ids=repr)
def test_layer_rates_are_a_change_of_units(activation):
    # With W' = s W and a' = a/s a homogeneous f is the same, and gradients are g/s and s g: rates s² and 1/s²
    # make the two runs the same. s = 2 is exact.
    net, data = problem(activation=activation)
    scaled = fc.TwoLayerNet(2.0 * net.W, 0.5 * net.a, activation)
    plain = fc.descend(net, data, step_size=0.1, steps=15)
    rescaled = fc.descend(scaled, data, step_size=0.1, steps=15, layer_rates={"W": 4.0, "a": 0.25})
    assert same_net(
        fc.TwoLayerNet(0.5 * rescaled.net.W, 2.0 * rescaled.net.a, activation), plain.net
    )
    assert same_history(plain.history, rescaled.history)


@pytest.mark.parametrize("n", [64, 50])
def test_the_sum_is_the_mean_n_times_as_fast(n):
    net, data = problem(n)
    mean = fc.descend(net, data, step_size=0.01 * n, steps=20)
    total = fc.descend(net, data, step_size=0.01, steps=20, reduction="sum")
    assert gap(mean.net, total.net) < 1e-13
    if n == 64:  # a power of two rounds nothing
        assert same_net(mean.net, total.net)
    np.testing.assert_allclose(mean.history.time, n * total.history.time, rtol=1e-15)
    np.testing.assert_allclose(n * mean.history.loss, total.history.loss, rtol=1e-12)


def test_small_steps_approach_one_flow_at_first_order():
    net, data = problem(activation=fc.Tanh(), loss="squared")
    ends = [
        fc.descend(net, data, "squared", step_size=1.0 / k, steps=4 * k, observe=[]).net
        for k in (40, 80, 160, 320)
    ]
    gaps = [gap(ends[k], ends[k + 1]) for k in range(3)]
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2.0, rel=0.05)


# --- what is conserved, what decreases


@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(0.3), fc.LeakyReLU(1.0)], ids=repr)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_changes_the_balance_by_its_squared_gradients_only(loss, activation):
    # σ(z) = σ'(z) z: a_j ∂L/∂a_j = <w_j, ∂L/∂w_j>, so a_j² - |w_j|² moves by η² (g_a² - |g_w|²) exactly.
    net, data = problem(activation=activation, loss=loss)
    eta = 0.5
    _, g = fc.loss_and_grad(net, data, loss)
    run = fc.descend(net, data, loss, step_size=eta, steps=1)
    change = fc.observables.balance(run.net) - fc.observables.balance(net)
    expected = eta**2 * (g.a**2 - (g.W**2).sum(axis=1))
    np.testing.assert_allclose(change, expected, rtol=1e-9, atol=1e-14)


def test_the_balance_drifts_at_first_order_in_the_step_size():
    net, data = problem(60, 5, 12)
    drifts = [
        float(
            fc.descend(
                net, data, step_size=1.0 / k, steps=3 * k, observe=["balance_drift"]
            ).history.balance_drift[-1]
        )
        for k in (50, 100, 200)
    ]
    assert drifts[0] > 1e-4
    assert drifts[0] / drifts[1] == pytest.approx(2.0, rel=0.05)
    assert drifts[1] / drifts[2] == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", [fc.ReLU(), fc.LeakyReLU(-0.5), fc.GELU()], ids=repr)
@pytest.mark.parametrize("train", [("W", "a"), ("W",), ("a",)])
def test_the_objective_decreases_for_small_steps(loss, activation, train):
    net, data = problem(activation=activation, loss=loss)
    run = fc.descend(
        net,
        data,
        loss,
        step_size=1e-3,
        steps=100,
        train=train,
        weight_decay=0.1,
        output_penalty=0.1,
        observe=["objective"],
        record=fc.Recording.every(1),
    )
    assert (np.diff(run.history.objective) < 0).all()


def test_weight_decay_alone_shrinks_geometrically():
    net, data = problem()
    still = fc.TwoLayerNet(net.W, np.zeros_like(net.a))  # f = 0 and W has no other gradient
    run = fc.descend(still, data, step_size=0.1, steps=50, weight_decay=0.5, train=("W",))
    np.testing.assert_allclose(run.net.W, 0.95**50 * net.W, rtol=1e-13)


# --- symmetries


@given(seed=st.integers(0, 1000))
@settings(max_examples=15)
def test_the_order_of_neurons_and_samples_does_not_matter(seed):
    net, data = problem(80, 4, 12, seed=seed, weighted=True)
    rng = np.random.default_rng(seed)
    neurons, samples = rng.permutation(12), rng.permutation(80)
    plain = fc.descend(net, data, step_size=0.2, steps=10)
    moved = fc.descend(
        fc.TwoLayerNet(net.W[neurons], net.a[neurons]),
        data.subset(samples),
        step_size=0.2,
        steps=10,
    )
    back = np.argsort(neurons)
    assert gap(plain.net, fc.TwoLayerNet(moved.net.W[back], moved.net.a[back])) < 1e-12


def test_flipping_labels_and_heads_changes_the_sign_of_everything():
    net, data = problem()
    mirrored = fc.TwoLayerNet(net.W, -net.a)
    run = fc.descend(net, data, step_size=0.2, steps=10)
    other = fc.descend(mirrored, fc.Dataset(data.x, -data.y), step_size=0.2, steps=10)
    assert same_net(other.net, fc.TwoLayerNet(run.net.W, -run.net.a))
    assert same_history(run.history, other.history)


def test_a_weight_counts_samples():
    net, data = problem(20)
    weights = np.arange(20) % 4
    repeated = data.subset(np.repeat(np.arange(20), weights))
    weighted = fc.Dataset(data.x, data.y, weights=weights)
    for reduction in ("mean", "sum"):
        options = {"step_size": 0.02, "steps": 20, "reduction": reduction}
        one, other = (fc.descend(net, d, **options) for d in (weighted, repeated))
        assert gap(one.net, other.net) < 1e-13
        np.testing.assert_allclose(one.history.loss, other.history.loss, rtol=1e-13)


# --- layers


@pytest.mark.parametrize("how", [{"train": ("W",)}, {"layer_rates": {"a": 0}}, {"train": "W"}])
def test_a_frozen_head_keeps_its_bits(how):
    net, data = problem()
    run = fc.descend(net, data, step_size=0.5, steps=20, weight_decay=0.3, **how)
    assert run.net.a.tobytes() == net.a.tobytes()
    assert (run.net.W != net.W).any(axis=1).all()


@pytest.mark.parametrize("how", [{"train": ("a",)}, {"layer_rates": {"W": 0.0}}])
def test_a_frozen_first_layer_keeps_its_bits(how):
    net, data = problem()
    run = fc.descend(net, data, step_size=0.5, steps=20, weight_decay=0.3, **how)
    assert run.net.W.tobytes() == net.W.tobytes()
    assert (run.net.a != net.a).all()


def test_freezing_wins_over_a_rate():
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=5, train=("W",), layer_rates={"a": 3.0})
    assert run.net.a.tobytes() == net.a.tobytes()


# --- splits


def test_splits_are_evaluated_and_not_trained_on():
    net, data = problem(40, 4, 9)
    test = fc.Dataset(data.x[:7] * 0.9, -data.y[:7])
    wide = problem(600, 4, 9, seed=5)[1]
    observe = ["loss", "accuracy", "margin", "patterns", "dead", "objective", "margins"]
    run = fc.descend(
        net, data, step_size=0.3, steps=9, observe=observe, evaluate={"test": test, "wide": wide}
    )
    history = run.history
    assert history.split.values.tolist() == ["train", "test", "wide"]
    assert history.loss.dims == ("time", "split")
    assert history.objective.dims == ("time",)
    assert history.margins.dims == ("time", "sample")
    assert history.sizes["sample"] == 40
    for name, split in {"train": data, "test": test, "wide": wide}.items():
        for observable in ("loss", "accuracy", "margin", "patterns", "dead"):
            for row, at in ((0, net), (-1, run.net)):
                value = float(history[observable].sel(split=name)[row])
                assert value == fc.observables.evaluate(observable, at, split)
    alone = fc.descend(net, data, step_size=0.3, steps=9, observe=observe)
    assert same_net(alone.net, run.net)
    np.testing.assert_array_equal(alone.history.loss, history.loss.sel(split=["train"]))


def test_the_loss_of_a_split_uses_its_own_weights_and_reduction():
    net, data = problem()
    weighted = fc.Dataset(data.x, data.y, weights=np.linspace(0, 1, data.n))
    run = fc.descend(
        net, data, step_size=0.1, steps=1, reduction="sum", evaluate={"weighted": weighted}
    )
    for name, split in (("train", data), ("weighted", weighted)):
        expected = reference.loss(run.net(split.x), split.y, weights=split.weights, reduction="sum")
        assert float(run.history.loss.sel(split=name)[-1]) == pytest.approx(expected, rel=1e-13)


# --- stops


def test_a_loss_target_stops_at_the_first_step_that_meets_it():
    net, data = problem(loss="squared")
    options = {"step_size": 0.05, "steps": 400, "record": fc.Recording.every(1)}
    full = fc.descend(net, data, "squared", **options).history.loss[:, 0]
    target = float(full[100]) * (1 + 1e-9)
    options["record"] = fc.Recording.every(7)
    run = fc.descend(net, data, "squared", loss_target=target, **options)
    assert run.outcome.status == "loss_target"
    assert run.state.step == int(np.argmax(full.values <= target))
    assert run.history.step.values[-1] == run.state.step
    assert run.history.step.values[:-1].tolist() == list(range(0, run.state.step, 7))
    assert float(run.history.loss[-1, 0]) <= target
    assert "loss_target" in run.outcome.message


def test_the_loss_target_is_of_the_training_loss_without_penalties():
    net, data = problem()
    start = float(fc.observables.evaluate("loss", net, data))
    run = fc.descend(net, data, step_size=0.1, steps=9, weight_decay=5.0, loss_target=start)
    assert run.outcome.status == "loss_target"
    assert run.state.step == 0
    assert same_net(run.net, net)


@pytest.mark.parametrize("train", [("W", "a"), ("W",), ("a",)])
def test_a_gradient_target_stops_before_the_step(train):
    net, data = problem(activation=fc.Tanh())
    norms = []
    for steps in range(40):
        now = fc.descend(net, data, step_size=0.2, steps=steps, train=train, observe=[]).net
        g = fc.loss_and_grad(now, data)[1]
        norms.append(math.hypot(*(np.linalg.norm(getattr(g, layer)) for layer in train)))
    target = norms[25] * (1 + 1e-9)
    run = fc.descend(net, data, step_size=0.2, steps=99, train=train, gradient_target=target)
    assert run.outcome.status == "stationary"
    assert run.state.step == next(k for k, norm in enumerate(norms) if norm <= target)
    assert same_net(
        run.net,
        fc.descend(net, data, step_size=0.2, steps=run.state.step, train=train, observe=[]).net,
    )
    assert run.history.step.values[-1] == run.state.step
    assert "gradient_target" in run.outcome.message


def test_hinge_loss_comes_to_rest_where_it_is_zero():
    data = fc.Dataset([[1.0, 0.0], [-1.0, 0.2]], [1, -1])
    net = fc.TwoLayerNet([[0.5, 0.0], [-0.5, 0.0]], [0.5, -0.5])
    options = {"step_size": 0.1, "steps": 1000}
    run = fc.descend(net, data, "hinge", gradient_target=0.0, **options)
    assert run.outcome.status == "stationary"
    assert 0 < run.state.step < 1000
    assert run.history.loss.values[-1, 0] == 0.0
    full = fc.descend(net, data, "hinge", **options)
    assert full.outcome.status == "reached_end"
    assert full.state.step == 1000
    assert same_net(full.net, run.net)


def test_no_wall_time_is_no_step():
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=10**12, wall_time=0.0)
    assert run.outcome.status == "wall_time"
    assert run.state.step == 0
    assert "continue_" in run.outcome.message


def test_wall_time_ends_a_run_that_would_last_for_years():
    net, data = problem()
    run = fc.descend(net, data, step_size=1e-6, steps=10**15, wall_time=0.05)
    assert run.outcome.status == "wall_time"
    assert 0 < run.state.step < 10**15
    assert run.outcome.seconds >= 0.05
    assert run.history.step.values[-1] == run.state.step
    assert same_net(run.net, fc.descend(net, data, step_size=1e-6, steps=run.state.step).net)


def exploding():
    """Yield what makes a descent leave the numbers there are."""
    for dtype in (np.float64, np.float32):
        for loss, step_size in (("exponential", 1e3), ("squared", 1e2)):
            for activation in (fc.ReLU(), fc.Softplus()):
                yield pytest.param(
                    dtype,
                    loss,
                    step_size,
                    activation,
                    id=f"{np.dtype(dtype)}-{loss}-{activation!r}",
                )


@pytest.mark.parametrize(("dtype", "loss", "step_size", "activation"), list(exploding()))
def test_a_step_too_large_ends_at_the_last_finite_network(dtype, loss, step_size, activation):
    net, data = problem(dtype=dtype, loss=loss, activation=activation, seed=2)
    run = fc.descend(
        net,
        data,
        loss,
        step_size=step_size,
        steps=10_000,
        observe=["loss", "norms"],
        record=fc.Recording.every(2),
    )
    assert run.outcome.status == "non_finite"
    assert "lower" in run.outcome.message
    assert f"{step_size:g}" in run.outcome.message
    assert np.isfinite(run.net.W).all()
    assert np.isfinite(run.net.a).all()
    assert np.isfinite(run.net(data.x)).all()
    history = run.history
    assert history.step.values[-1] == run.state.step
    assert history.step.values.tolist() == sorted({*range(0, run.state.step, 2), run.state.step})
    assert np.isfinite(history.loss).all()
    # It is the last one: that many steps succeed with the same bits, and one more does not.
    options = {"step_size": step_size, "observe": []}
    last = fc.descend(net, data, loss, steps=run.state.step, **options)
    assert last.outcome.status == "reached_end"
    assert same_net(last.net, run.net)
    again = run.continue_(1)
    assert again.outcome.status == "non_finite"
    assert again.state.step == run.state.step
    assert same_run(again, run)


def test_a_loss_that_overflows_is_not_finite_though_the_output_is():
    net = fc.TwoLayerNet([[1.0]], [1.0], fc.LeakyReLU(1.0))
    data = fc.Dataset([[1.0]], [0.0])
    run = fc.descend(
        net, data, "squared", step_size=10.0, steps=400, train=("W",), observe=["loss", "log_loss"]
    )
    assert run.outcome.status == "non_finite"
    assert np.isfinite(run.history.loss).all()


def test_decay_that_overshoots_is_seen_on_dead_neurons_too():
    data = fc.Dataset(np.abs(problem()[1].x), problem()[1].y)
    net = fc.TwoLayerNet(-np.ones((3, 4)), np.zeros(3))  # dead, and f = 0 for ever
    run = fc.descend(net, data, step_size=1.0, steps=5000, weight_decay=3.0, train=("W",))
    assert run.outcome.status == "non_finite"
    # |w| doubles each step until its square would overflow: 2^498 < 1e150 < 2^499.
    assert run.state.step == 498
    np.testing.assert_array_equal(np.abs(run.net.W), 2.0**run.state.step)


def test_a_network_that_overflows_from_the_start_takes_no_step():
    net, data = problem()
    huge = fc.TwoLayerNet(1e200 * net.W, 1e200 * net.a)
    run = fc.descend(huge, data, "squared", step_size=1e-9, steps=10, observe=["accuracy"])
    assert run.outcome.status == "non_finite"
    assert run.state.step == 0
    assert same_net(run.net, huge)
    assert run.history.step.values.tolist() == [0]


@pytest.mark.parametrize("width", [1, 5, 64])
def test_neurons_that_fill_up_a_panel_end_no_run(width):
    """Derivatives are 0 at the weights, but would overflow where they are 1: at weights of 0."""
    data = fc.Dataset(np.full((40, 3), 1e38, np.float32), np.ones(40, np.float32))
    net = fc.TwoLayerNet(
        np.ones((width, 3), np.float32), np.full(width, 0.1, np.float32), fc.Tanh()
    )
    run = fc.descend(net, data, step_size=0.1, steps=3, reduction="sum", train=("W",))
    assert run.outcome.status == "reached_end"


def test_the_exponential_loss_of_a_weightless_sample_may_overflow():
    net, data = problem()
    x = data.x.copy()
    x[3] *= 1e6
    weights = np.ones(data.n)
    weights[3] = 0.0
    y = data.y.copy()
    y[3] = -np.sign(net(x[3:4])[0])
    run = fc.descend(net, fc.Dataset(x, y, weights=weights), "exponential", step_size=1e-3, steps=5)
    assert run.outcome.status == "reached_end"
    without = fc.descend(
        net, data.subset(np.arange(data.n) != 3), "exponential", step_size=1e-3, steps=5
    )
    assert gap(run.net, without.net) < 1e-13


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_network_of_one_type_stays_of_it(dtype):
    net, data = problem(dtype=dtype)
    run = fc.descend(net, data, step_size=0.1, steps=3, observe=["loss", "weights"])
    assert run.net.dtype == dtype
    assert run.outcome.dtype == np.dtype(dtype).name
    assert run.history.loss.dtype == np.float64
    assert run.history["weights"].dtype == dtype


def test_a_log_scale_is_multiplied_in():
    net, data = problem()
    scaled = fc.TwoLayerNet(net.W, net.a, log_scale=math.log(0.5))
    plain = fc.TwoLayerNet(np.exp(np.log(0.5)) * net.W, np.exp(np.log(0.5)) * net.a)
    one, other = (fc.descend(n, data, step_size=0.1, steps=5) for n in (scaled, plain))
    assert same_run(one, other)
