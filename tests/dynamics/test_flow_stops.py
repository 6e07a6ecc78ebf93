"""Every end of a flow: where it is, that a sentence says what to do next, and that it can be gone on from."""

import math
import signal

import numpy as np
import pytest
from _flow_problems import random_problem
from _runs import problem, same_net

import featcore as fc

NOTHING = fc.Recording.at([])
METHODS = (
    ("event", {}),
    ("tsit5", {}),
    ("heun", {"step_size": 0.05}),
)


def gradient_norm(net, data, loss="logistic"):
    return fc.loss_and_grad(net, data, loss)[1].norm


def sliding_problem():
    """A problem with slidings: sides of pairs are more than the signs of z."""
    p = random_problem(1001)
    net = fc.TwoLayerNet(p.W, p.a, fc.LeakyReLU(p.slope) if p.slope else fc.ReLU())
    return net, fc.Dataset(p.x, p.y), p.loss


def ended(run, status, *words):
    """Check how a run ended, and that where it ended was recorded."""
    assert run.outcome.status == status
    for word in words:
        assert word in run.outcome.message
    assert run.history.attrs["status"] == status
    assert run.history.time.values[-1] == run.outcome.time
    return True


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_reached_end(method, options):
    net, data = problem(20, 3, 10)
    run = fc.flow(net, data, t_end=2.3, method=method, **options)
    assert ended(run, "reached_end", "followed to t = 2.3")
    assert run.outcome.time == 2.3
    none = fc.flow(net, data, t_end=0.0, method=method, gradient_target=1e9, **options)
    assert ended(none, "reached_end", "t = 0")
    assert same_net(none.net, net)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_stationary_after_the_first_step_that_is(method, options):
    # labels that a linear function gives: no neuron slides, and loss_and_grad knows the gradient
    rng = np.random.default_rng(5)
    x = rng.standard_normal((20, 3))
    net, data = problem(20, 3, 10)[0], fc.Dataset(x, np.where(x[:, 0] > 0, 1.0, -1.0))
    target = 0.5 * gradient_norm(net, data)
    options = {**options, "t_end": 1e4, "method": method, "record": NOTHING}
    run = fc.flow(net, data, gradient_target=target, **options)
    assert ended(run, "stationary", f"at most {target:g} at", "Lower gradient_target")
    assert run.outcome.counts["slidings"] == 0
    assert gradient_norm(run.net, data) <= target * (1 + 1e-9)
    before = fc.flow(net, data, max_steps=run.outcome.counts["accepted"] - 1, **options)
    assert gradient_norm(before.net, data) > target
    # it stands there still, and goes on to the same bits
    assert same_net(run.continue_(gradient_target=target).net, run.net)
    on = run.continue_(max_steps=5, record=NOTHING)
    whole = fc.flow(net, data, max_steps=on.outcome.counts["accepted"], **options)
    assert same_net(on.net, whole.net)


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("train", [("W", "a"), ("W",), ("a",)])
def test_stationary_at_the_start(method, options, dtype, train):
    net, data = problem(20, 3, 10, dtype=dtype)
    gradient = fc.loss_and_grad(net, data)[1]
    norm = math.sqrt(sum(np.sum(getattr(gradient, layer).astype(float) ** 2) for layer in train))
    options = {**options, "t_end": 50.0, "method": method, "rtol": 1e-4, "train": train}
    margin = 1e-5 if dtype == np.float32 else 1e-12
    run = fc.flow(net, data, gradient_target=norm * (1 + margin), **options)
    assert ended(run, "stationary", "at t = 0.")
    assert run.outcome.time == 0.0
    assert run.history.sizes["time"] == 1
    assert same_net(run.net, net)
    later = fc.flow(net, data, gradient_target=norm * (1 - margin), **options)
    assert later.outcome.time > 0
    # looking at the gradient changes no bits, and neither does having stopped
    plain = fc.flow(net, data, record=NOTHING, **options)
    assert same_net(run.continue_(record=NOTHING).net, plain.net)
    assert same_net(fc.flow(net, data, gradient_target=0.0, **options).net, plain.net)


@pytest.mark.parametrize("method", ["event", "tsit5"])
def test_of_a_dead_neuron_only_the_decay_is_left(method):
    net, data = fc.TwoLayerNet(np.zeros((1, 2)), [1.0]), problem(5, 2, 1)[1]
    still = fc.flow(net, data, t_end=9.0, gradient_target=0.0, method=method)
    assert ended(still, "stationary", "at t = 0.")
    options = {"t_end": 99.0, "weight_decay": 0.1, "method": method, "rtol": 1e-8}
    decaying = fc.flow(net, data, gradient_target=0.05, **options)
    assert decaying.outcome.status == "stationary"
    assert decaying.outcome.time >= math.log(2) / 0.1  # a = exp(-t / 10)
    assert decaying.net.a[0] == pytest.approx(math.exp(-0.1 * decaying.outcome.time), rel=1e-7)


def test_a_sliding_neuron_has_the_gradient_that_it_moves_by():
    """On the hyperplane of sample 0 it moves along (0, 1) alone, with residual g(a w2) / 2."""
    net = fc.TwoLayerNet([[-0.1, 1.0]], [0.9])
    data = fc.Dataset([[1.0, 0.0], [1.0, 1.0]], [-1.0, 1.0])
    run = fc.flow(net, data, t_end=1e4, gradient_target=0.05, record=NOTHING)
    assert run.outcome.status == "stationary"
    assert run.outcome.counts["slidings"] == 1
    (w2,), a = run.net.W[:, 1], run.net.a[0]
    residual = 0.5 / (1 + math.exp(a * w2))
    assert 0.03 < residual * math.hypot(a, w2) <= 0.05
    # On the active side it would not be at rest; rounding may have left it on either.
    assert abs(run.net.W[0, 0]) < 1e-12
    assert gradient_norm(fc.TwoLayerNet([[1e-12, w2]], [a]), data) > 0.1
    assert same_net(run.continue_(gradient_target=0.05).net, run.net)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_loss_target(method, options):
    net, data = problem(20, 3, 10)
    first = fc.loss_and_grad(net, data)[0]
    rtol = 1e-8 if method == "event" else 1e-4  # at kinks others take steps without end
    options = {**options, "t_end": 500.0, "method": method, "rtol": rtol, "record": NOTHING}
    start = fc.flow(net, data, loss_target=first * 1.01, gradient_target=1e9, **options)
    assert ended(start, "loss_target", "at t = 0.")
    assert same_net(start.net, net)
    run = fc.flow(net, data, loss_target=0.8 * first, **options)
    assert ended(run, "loss_target", f"{0.8 * first:g}", "Lower loss_target")
    assert fc.loss_and_grad(run.net, data)[0] == pytest.approx(0.8 * first, rel=1e-6)
    # it lies within a step, which is taken again from its start
    assert same_net(
        run.continue_(t_end=60.0, record=NOTHING).net,
        fc.flow(net, data, **{**options, "t_end": 60.0}).net,
    )


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("event", {"rtol": 1e-3}),
        ("event", {"rtol": 1e-6}),
        ("tsit5", {"rtol": 1e-2}),
        ("tsit5", {"rtol": 1e-4}),
        ("rk4", {"step_size": 0.5}),
    ],
)
def test_a_loss_target_that_is_passed_and_left_within_a_step(method, options):
    """Under weight decay the loss rises again, here within a long step."""
    rng = np.random.default_rng(5)
    data = fc.Dataset(rng.standard_normal((10, 3)), rng.choice([-1.0, 1.0], 10))
    net = fc.TwoLayerNet(rng.standard_normal((8, 3)), rng.standard_normal(8))
    options = {**options, "t_end": 30.0, "method": method, "weight_decay": 0.3}
    fine = fc.flow(net, data, record=fc.Recording.linear(20000), **options).history
    losses, times = fine.loss.values[:, 0], fine.time.values
    lowest = int(losses.argmin())
    assert 0 < lowest < len(losses) - 1
    for above in (1e-5, 1e-4, 1e-3, 1e-2):
        target = float(losses[lowest] * (1 + above))
        run = fc.flow(net, data, loss_target=target, record=NOTHING, **options)
        assert ended(run, "loss_target", f"at most {target:g}")
        first = int(np.flatnonzero(losses <= target)[0])
        slack = times[1]  # outputs between the ends of a step are interpolated
        assert times[first - 1] - slack <= run.outcome.time <= times[first] + slack
        assert fc.loss_and_grad(run.net, data)[0] == pytest.approx(target, rel=1e-4)
        again = run.continue_(loss_target=target, record=NOTHING)
        assert again.outcome.status == "loss_target"
        assert same_net(again.net, run.net)
        # having been looked at changes no bits
        on = run.continue_(record=NOTHING)
        assert same_net(on.net, fc.flow(net, data, record=NOTHING, **options).net)


def test_a_loss_below_its_target_at_the_start_is_not_said_to_have_come_down():
    net, data = problem(20, 3, 10)
    run = fc.flow(net, data, t_end=1.0, loss_target=1e3)
    assert run.outcome.message.startswith("The training loss is at most 1000 at t = 0.")


def test_a_gradient_below_its_target_is_not_said_to_rest():
    net, data = problem(20, 3, 10)
    message = fc.flow(net, data, t_end=1.0, gradient_target=10.0).outcome.message
    assert message == ("The gradient norm is at most 10 at t = 0. Lower gradient_target to go on.")
    same = fc.descend(net, data, step_size=0.1, steps=1, gradient_target=10.0).outcome.message
    assert "moves" not in same


@pytest.mark.parametrize("method", ["euler", "heun", "rk4"])
def test_fixed_steps_are_told_of_step_size(method):
    net, data = problem(20, 3, 10)
    short = fc.flow(net, data, t_end=1.0, method=method, step_size=1e-300)
    assert ended(short, "step_underflow", "step_size=1e-300 is too short", "Raise step_size")
    long = fc.flow(net, data, "squared", t_end=1e4, method=method, step_size=100.0)
    assert ended(long, "non_finite", "Lower step_size=100")
    some = fc.flow(net, data, t_end=1.0, method=method, step_size=0.1, max_steps=1)
    assert ended(some, "max_steps", "or raise step_size")
    for run in (short, long, some):
        assert "rtol" not in run.outcome.message


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_max_steps(method, options):
    net, data = problem(20, 3, 10)
    run = fc.flow(net, data, t_end=50.0, method=method, max_steps=2, **options)
    assert ended(run, "max_steps", "2 steps were taken", "run.continue_()")
    assert run.outcome.counts["accepted"] == 2
    assert run.continue_(max_steps=3).outcome.counts["accepted"] == 5


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_wall_time(method, options):
    net, data = problem(300, 10, 200, seed=3)
    options = {**options, "t_end": 1e5, "rtol": 1e-9, "method": method, "record": NOTHING}
    none = fc.flow(net, data, wall_time=0.0, **options)
    assert ended(none, "wall_time", "0 s", "run.continue_()")
    assert same_net(none.net, net)
    run = fc.flow(net, data, wall_time=0.2, **options)
    assert ended(run, "wall_time", "0.2 s", "run.continue_()")
    assert 0.2 <= run.outcome.seconds < 2.0  # a step more, and a machine that is busy
    taken = run.outcome.counts["accepted"]
    assert same_net(run.net, fc.flow(net, data, max_steps=taken, **options).net)


def test_step_underflow():
    """w1 tends to the kink at 0 from both sides. A step over it errs by h |jump|, and w1 is of the order of h: without
    atol no step has a relative error below rtol."""
    net = fc.TwoLayerNet([[-0.1, 1.0]], [0.9])
    data = fc.Dataset([[1.0, 0.0], [1.0, 1.0]], [-1.0, 1.0])
    options = {"t_end": 3.0, "record": NOTHING}
    run = fc.flow(net, data, method="tsit5", rtol=1e-6, atol=0.0, **options)
    assert ended(
        run, "step_underflow", "no step is short enough", "rtol=1e-06", "Raise rtol or atol"
    )
    caught = fc.flow(net, data, rtol=1e-10, events=True, **options)  # "event" goes on
    assert run.outcome.time == pytest.approx(float(caught.events.time[0]), rel=1e-6)
    assert caught.outcome.status == "reached_end"
    assert abs(run.net.W[0, 0]) < 1e-12


def test_non_finite():
    net, data = problem(20, 3, 10)
    big = fc.TwoLayerNet(net.W * 1e80, net.a * 1e80)
    for method, options in METHODS:
        run = fc.flow(big, data, "exponential", t_end=1.0, method=method, **options)
        assert ended(run, "non_finite", "not finite", "smaller weights")
        assert same_net(run.net, big)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_counts_of_work(method, options):
    net, data = problem(30, 4, 20, seed=5)
    run = fc.flow(net, data, t_end=9.0, rtol=1e-7, method=method, record=NOTHING, **options)
    counts = run.outcome.counts
    tried = counts["accepted"] + counts["rejected"]
    if method == "heun":
        assert counts["accepted"] == 180
        assert counts["rejected"] == 0
    else:
        assert counts["accepted"] > 10
        assert counts["rejected"] > 0
    if method == "event":  # sweeps: at least one a try
        assert tried <= counts["evaluations"] <= 12 * tried
        assert counts["crossings"] > 0
    else:  # the field at the end of a step is that at the start of the next
        assert counts["evaluations"] == 1 + tried * (6 if method == "tsit5" else 2)
        assert counts["crossings"] == counts["slidings"] == 0
    assert counts["records"] == 2


def test_events_are_counted_as_kept():
    net, data, loss = sliding_problem()
    run = fc.flow(net, data, loss, t_end=20.0, events=True, record=NOTHING)
    counts, kinds = run.outcome.counts, run.events.kind.values
    assert counts["slidings"] == np.sum(kinds == 0) > 0
    assert counts["crossings"] == np.sum(kinds != 0) > 0


def test_drift_is_the_largest_change_of_balance():
    """Euler's method lets it drift, so that there is something to see: at every step."""
    net, data = problem(20, 3, 10)
    run = fc.flow(
        net,
        data,
        t_end=4.0,
        method="euler",
        step_size=0.1,
        observe=["head", "norms"],
        record=fc.Recording.linear(40),
    )
    balance = run.history["head"] ** 2 - run.history.norms**2
    assert run.outcome.drift == pytest.approx(float(abs(balance - balance[0]).max()), rel=1e-12)
    assert run.outcome.drift > 1e-4
    assert run.continue_(t_end=4.0).outcome.drift == run.outcome.drift
    smooth, _ = problem(20, 3, 10, activation=fc.Tanh())
    assert fc.flow(smooth, data, t_end=1.0).outcome.drift is None


# --- going on, and threads, while neurons slide


def test_a_flow_with_slidings_continues_to_the_same_bits():
    net, data, loss = sliding_problem()
    whole = fc.flow(net, data, loss, t_end=20.0, events=True, record=NOTHING)
    parts = fc.flow(net, data, loss, t_end=20.0, events=True, max_steps=4, record=NOTHING)
    while parts.outcome.status == "max_steps":
        parts = parts.continue_(max_steps=4, events=True, record=NOTHING)
    assert same_net(parts.net, whole.net)
    assert parts.events.identical(whole.events)
    within = fc.flow(net, data, loss, t_end=7.77, events=True, record=NOTHING)
    on = within.continue_(t_end=20.0, events=True, record=NOTHING)
    assert same_net(on.net, whole.net)
    assert on.events.identical(whole.events)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bits_of_slidings_do_not_depend_on_threads(dtype):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((120, 4)).astype(dtype)
    data = fc.Dataset(x, rng.choice([-1.0, 1.0], 120))
    net = fc.TwoLayerNet.gaussian(80, 4, 0.3, seed=1, dtype=dtype)
    runs = [
        fc.flow(net, data, t_end=30.0, rtol=1e-4, events=True, gradient_target=0.0, num_threads=k)
        for k in (1, 2, 3, 5)
    ]
    assert runs[0].outcome.counts["slidings"] > 20
    for run in runs[1:]:
        assert same_net(run.net, runs[0].net)
        assert run.events.identical(runs[0].events)
        assert run.outcome.counts == runs[0].outcome.counts
        assert run.outcome.drift == runs[0].outcome.drift


# --- signals


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX systems")
def test_ctrl_c_may_return_the_run():
    net, data = problem(300, 10, 200, seed=3)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        run = fc.flow(net, data, t_end=1e5, rtol=1e-9, on_interrupt="return")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended(run, "interrupted", "unfinished step was dropped", "run.continue_()")


# --- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rtol": math.nan}, "rtol"),
        ({"rtol": 1e-14}, r"rtol=1e-14 is finer .* float64"),
        ({"rtol": "fine"}, "rtol='fine'"),
        ({"t_end": math.nan}, "t_end"),
        ({"t_end": "5"}, "t_end='5'"),
        ({"t_end": 10**400}, r"t_end must be within ±1.8e\+308"),
        ({"loss": "?"}, r"loss='\?'"),
        ({"loss_target": math.nan}, "loss_target"),
        ({"gradient_target": -1.0}, "gradient_target"),
        ({"wall_time": -1.0}, "wall_time"),
        ({"max_steps": 2.5}, "max_steps"),
        ({"events": 1.5}, "events"),
        ({"layer_rates": {"W": -1.0}}, "layer_rates"),
        ({"reduction": "max"}, "reduction"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"output_penalty": math.inf}, "output_penalty"),
        ({"observe": ["wisdom"]}, "wisdom"),
        ({"observe": "loss"}, "observe"),
        ({"evaluate": {"test": problem(5, 3, 3)[1]}}, "evaluate"),
        ({"record": 5}, "record"),
        ({"record": fc.Recording.at_steps([1])}, "record counts steps"),
        ({"num_threads": 0}, "num_threads"),
        ({"on_interrupt": "?"}, "on_interrupt"),
        ({"method": "rk4", "step_size": math.nan}, "step_size"),
    ],
)
def test_bad_input_is_named(options, words):
    net, data = problem(5, 2, 3)
    with pytest.raises((ValueError, TypeError), match=words):
        fc.flow(net, data, **{"t_end": 1.0, **options})


def test_networks_and_data_that_do_not_fit_are_named():
    net, data = problem(5, 2, 3)
    single = problem(5, 2, 3, dtype=np.float32)
    smooth = problem(5, 2, 3, activation=fc.Tanh())[0]
    with pytest.raises(TypeError, match="data is float64"):
        fc.flow(single[0], data, t_end=1.0)
    with pytest.raises(ValueError, match="data has dimension 2"):
        fc.flow(problem(5, 4, 3)[0], data, t_end=1.0)
    with pytest.raises(TypeError, match="net is a str"):
        fc.flow("net", data, t_end=1.0)
    with pytest.raises(TypeError, match="data is a ndarray"):
        fc.flow(net, data.x, t_end=1.0)
    with pytest.raises(ValueError, match=r"rtol=1e-06 is finer .* float32 .*1e-05, or use float64"):
        fc.flow(*single, t_end=1.0, method="tsit5")
    with pytest.raises(ValueError, match=r"rtol=1e-08 is finer .* float32 .*1e-07, or use float64"):
        fc.flow(*single, t_end=1.0, rtol=1e-8)
    with pytest.raises(ValueError, match=r"rtol=1e-14 is finer .* float64 .*at least 1e-13$"):
        fc.flow(net, data, t_end=1.0, rtol=1e-14)
    for options in ({"method": "euler", "step_size": 0.1}, {"loss": "hinge"}, {}):
        assert fc.flow(*single, t_end=1.0, **options).outcome.status == "reached_end"
    with pytest.raises(ValueError, match=r"method='event'.*'tanh'.*method='tsit5'"):
        fc.flow(smooth, data, t_end=1.0, method="event")


def scaled(weights, samples, dtype):
    """A problem with weights times `weights`, and samples times `samples`."""
    net, data = problem(20, 4, 10)
    return (
        fc.TwoLayerNet((weights * net.W).astype(dtype), (weights * net.a).astype(dtype)),
        fc.Dataset((samples * data.x).astype(dtype), data.y.astype(dtype)),
    )


@pytest.mark.parametrize(
    ("weights", "samples", "dtype", "words"),
    [
        (1e-155, 1.0, np.float64, r"net has no weight beyond .*e-155.*one of 1e-150.*log_scale="),
        (1e-300, 1.0, np.float64, r"net has no weight beyond"),
        (1e-41, 1.0, np.float32, r"net has no weight beyond .*float32.*1.2e-38.*log_scale="),
        (1.0, 1e78, np.float64, r"data.x has entries up to .*e\+78.*5e\+74.*scale x"),
        (1.0, 1e-78, np.float64, r"data.x has entries up to .*e-78.*between 1e-75.*scale x"),
        (1.0, 1e19, np.float32, r"data.x has entries up to .*e\+19.*float32.*scale x"),
        (1.0, 1e-22, np.float32, r"data.x has entries up to .*e-22.*between 1e-19.*scale x"),
    ],
)
def test_sizes_that_would_go_astray_are_refused(weights, samples, dtype, words):
    net, data = scaled(weights, samples, dtype)
    options = {"t_end": 1.0, "rtol": 1e-4}
    with pytest.raises(ValueError, match=words):
        fc.flow(net, data, **options)
    with pytest.raises(ValueError, match=words.replace("log_scale=", "larger weights")):
        fc.flow(net, data, "hinge", **options)
    fc.flow(net, data, method="euler", step_size=1e-30, max_steps=1, **options)
    if samples != 1.0:
        carried = fc.TwoLayerNet(net.W, net.a, log_scale=-1000.0)
        with pytest.raises(ValueError, match=words):
            fc.flow(carried, data, **options)
    else:
        alike = fc.TwoLayerNet(net.W, net.a, log_scale=0.0)
        assert fc.flow(alike, data, **options).outcome.status == "reached_end"


@pytest.mark.parametrize(
    ("dtype", "weights", "samples"),
    [
        (np.float64, (1e-149,), (1e-74, 4e73)),
        (np.float32, (1e-36,), (1e-18, 1e17)),
    ],
)
def test_within_the_bounds_of_sizes_the_flow_is_that_of_ordinary_ones(dtype, weights, samples):
    """x → cx, θ → θ/√c, t → t/c is an exact symmetry; and small weights are those of a log_scale."""
    options = {"rtol": 1e-4 if dtype == np.float32 else 1e-6, "record": NOTHING}
    allowed = 10 * options["rtol"]
    plain = fc.flow(*scaled(1.0, 1.0, dtype), t_end=5.0, **options).net
    for c in samples:
        other = fc.flow(*scaled(c**-0.5, c, dtype), t_end=5.0 / c, **options).net
        np.testing.assert_allclose(
            c**0.5 * other.W.astype(float), plain.W, atol=allowed * np.abs(plain.W).max()
        )
    for c in weights:
        small = fc.flow(*scaled(c, 1.0, dtype), t_end=5.0, **options).net
        net, data = scaled(1.0, 1.0, dtype)
        net = fc.TwoLayerNet(net.W, net.a, log_scale=math.log(c))
        carried = fc.flow(net, data, t_end=5.0, **options).net
        real = carried.W * np.exp(carried.log_scale - math.log(c))[:, None]
        np.testing.assert_allclose(
            small.W.astype(float) / c, real, atol=allowed * np.abs(real).max()
        )


def test_zero_weights_and_samples_are_of_every_size():
    net, data = problem(20, 4, 10)
    still = fc.flow(fc.TwoLayerNet(0 * net.W, 0 * net.a), data, t_end=1.0)
    assert same_net(still.net, fc.TwoLayerNet(0 * net.W, 0 * net.a))
    assert fc.flow(net, fc.Dataset(0 * data.x, data.y), t_end=1.0).outcome.status == "reached_end"
    W, a = net.W.copy(), net.a.copy()
    W[0], a[0] = 1e-200 * W[0], 1e-200 * a[0]
    beside = fc.flow(fc.TwoLayerNet(W, a), data, t_end=1.0, record=NOTHING).net
    W[0], a[0] = 0.0, 0.0
    without = fc.flow(fc.TwoLayerNet(W, a), data, t_end=1.0, record=NOTHING).net
    np.testing.assert_allclose(beside.W[1:], without.W[1:], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("log_scale", [1e308, 1000.0])
def test_a_scale_that_is_too_large_for_every_method_is_to_be_lowered(log_scale):
    net, data = problem(5, 2, 3)
    huge = fc.TwoLayerNet(net.W, net.a, log_scale=log_scale)
    for options in ({}, {"method": "tsit5"}, {"loss": "hinge"}):
        with pytest.raises(ValueError, match=r"cannot be held.*lower") as caught:
            fc.flow(huge, data, **{"t_end": 1.0, **options})
        assert "keep it" not in str(caught.value)
    tiny = fc.TwoLayerNet(net.W, net.a, log_scale=-1e308)
    assert fc.flow(tiny, data, t_end=1.0).outcome.status == "reached_end"


def test_continuing_is_checked_too():
    net, data = problem(5, 2, 3)
    run = fc.flow(net, data, t_end=1.0)
    with pytest.raises(ValueError, match=r"t_end=0.5 must be >= 1"):
        run.continue_(t_end=0.5)
    with pytest.raises(ValueError, match="SHA-256"):
        run.continue_(t_end=2.0, data=problem(5, 2, 3, seed=1)[1])
    with pytest.raises(ValueError, match="observe has"):
        run.continue_(t_end=2.0, observe=["norms"])


@pytest.mark.parametrize("seed", range(12))
def test_neurons_that_slide_into_zero_do_not_stop_the_others(seed):
    """Small weights beside large heads on labels that contradict: many neurons end in w = 0 early on."""
    rng = np.random.default_rng([5, 244 + seed])
    n, d, m = int(rng.integers(3, 30)), int(rng.integers(2, 5)), int(rng.integers(1, 10))
    data = fc.Dataset(rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n))
    net = fc.TwoLayerNet(1e-3 * rng.standard_normal((m, d)), rng.choice([-1.0, 1.0], m))
    for rtol in (1e-6, 1e-10):
        run = fc.flow(net, data, t_end=3.0, rtol=rtol, record=fc.Recording.at([]))
        assert run.outcome.status == "reached_end"


@pytest.mark.parametrize("rtol", [1e-6, 1e-9, 1e-12, 1e-13])
def test_a_dead_network_is_left_alone_in_few_steps(rtol):
    rng = np.random.default_rng(3)
    x = np.abs(rng.standard_normal((3, 2)))
    net = fc.TwoLayerNet(-np.abs(rng.standard_normal((2, 2))), [1.0, -1.0])
    data = fc.Dataset(x, [1.0, -1.0, 0.5])
    run = fc.flow(net, data, "squared", t_end=1e6, rtol=rtol, record=fc.Recording.at([]))
    assert run.outcome.status == "reached_end"
    assert run.outcome.counts["accepted"] <= 30
    np.testing.assert_array_equal(run.net.W, net.W)
