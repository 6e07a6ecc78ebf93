"""The forms of a descent - weights, pre-activations, weights in a span - against the reference and each other."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from _strategies import ACTIVATIONS, EDGES, THREADS, losses, make_net, seeds
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import observables, reference

FORMS = ("primal", "gram", "projected")
OTHERS = FORMS[1:]
KINDS = ("gaussian", "low rank", "twins", "zero rows", "zero")
EPS = {np.dtype(t): float(np.finfo(t).eps) for t in (np.float32, np.float64)}

sizes = st.one_of(st.integers(1, 9), st.sampled_from(EDGES[:12]), st.integers(1, 70))


def samples(n, d, seed, kind="gaussian", dtype=np.float64):
    """Return inputs, (n, d), that span less than they could except in the first kind."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    if kind == "low rank":
        rank = int(rng.integers(1, min(n, d) + 1))
        x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) / math.sqrt(rank)
    elif kind == "twins":
        x = x[rng.integers(max(1, n // 2), size=n)]
    elif kind == "zero rows":
        x[rng.random(n) < 0.4] = 0
    elif kind == "zero":
        x[:] = 0
    return x.astype(dtype)


def dataset(n, d, seed, kind="gaussian", *, loss="logistic", weighted=False, dtype=np.float64):
    rng = np.random.default_rng([seed, 2])
    y = rng.standard_normal(n) if loss == "squared" else rng.choice([-1.0, 1.0], n)
    weights = None
    if weighted:
        weights = (rng.uniform(0.1, 3.0, n) * (rng.random(n) > 0.25)).astype(dtype)
        weights[rng.integers(n)] = 1.0
    return fc.Dataset(samples(n, d, seed, kind, dtype), y.astype(dtype), weights=weights)


@dataclass(frozen=True)
class Problem:
    net: fc.TwoLayerNet
    data: fc.Dataset
    test: fc.Dataset
    loss: str
    step: dict[str, object]
    steps: int

    @property
    def tolerance(self):
        """How far rounding may carry a step away, of numbers of order one.

        Sums have at most 70 terms of a few eps each; the span is known to 64 eps a sample, which one step may
        amplify by the norms of x and W, at most 10 here.
        """
        return 2000 * EPS[self.net.dtype] * self.steps

    def descend(self, form, **more):
        options = {"steps": self.steps, "evaluate": {"test": self.test}, **self.step, **more}
        return fc.descend(self.net, self.data, self.loss, form=form, **options)

    @property
    def names(self):
        """Return plain observables that it has."""
        labels = () if self.loss == "squared" else ("margin", "normalised_margin", "margins")
        signs = ("patterns", "dead") if self.net.activation.homogeneous else ()
        return (
            "loss",
            "objective",
            "norms",
            "head",
            "stable_rank",
            "balance_drift",
            *labels,
            *signs,
        )

    def trajectory(self):
        """Return the networks of the reference; no kink is within rounding of any."""
        nets = [reference.descend(self.net, self.data, self.loss, steps=0, **self.step)]
        for _ in range(self.steps):
            self._check(nets[-1])
            nets.append(reference.step(nets[-1], self.data, self.loss, **self.step))
        self._check(nets[-1])
        return nets

    def _check(self, net):
        with np.errstate(all="ignore"):
            for data in (self.data, self.test):
                W, x = np.asarray(net.W, float), np.asarray(data.x, float)
                z = x @ W.T
                u = data.y * (net.activation(z) @ net.a)
                assume(np.isfinite(u).all() and np.abs(u).max() < 30)
                norms = np.linalg.norm(x, axis=1)[:, None] * (1 + np.linalg.norm(W, axis=1))
                if net.activation.kinked:
                    assume((np.abs(z) >= 4 * self.tolerance * norms)[norms[:, 0] > 0].all())
                if self.loss == "hinge":
                    slack = 4 * self.tolerance * (1 + norms @ np.abs(net.a))
                    assume((np.abs(1 - u) >= slack).all())


@st.composite
def problems(draw, dtypes=(np.float64, np.float32)):
    n, d, m, seed = draw(sizes), draw(sizes), draw(sizes), draw(seeds)
    dtype, loss, kind = draw(st.sampled_from(dtypes)), draw(losses), draw(st.sampled_from(KINDS))
    reduction = draw(st.sampled_from(("mean", "sum")))
    options = {
        "step_size": 0.1 if reduction == "mean" else 0.1 / n,
        "reduction": reduction,
        "weight_decay": draw(st.sampled_from((0.0, 0.3))),
        "output_penalty": draw(st.sampled_from((0.0, 0.7))),
        "train": draw(st.sampled_from((("W",), ("a",), ("W", "a")))),
        "layer_rates": draw(st.sampled_from((None, {"W": 0.5, "a": 3.0}))) or {},
    }
    return Problem(
        make_net(m, d, seed, activation=draw(st.sampled_from(ACTIVATIONS)), dtype=dtype),
        dataset(n, d, seed, kind, loss=loss, weighted=draw(st.booleans()), dtype=dtype),
        dataset(draw(st.integers(1, 20)), d, seed + 1, loss=loss, dtype=dtype),
        loss,
        options,
        draw(st.integers(1, 4)),
    )


def close(got, expected, tolerance):
    """Whether two arrays are as near as rounding of the largest entry allows."""
    got, expected = np.asarray(got, float), np.asarray(expected, float)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    size = 1 + np.abs(np.nan_to_num(expected)).max(initial=0.0)
    assert np.nan_to_num(np.abs(got - expected)).max(initial=0.0) <= tolerance * size


@settings(max_examples=150)
@given(problem=problems())
def test_each_form_takes_the_steps_of_the_reference(problem):
    nets = problem.trajectory()
    directions = np.random.default_rng(0).standard_normal((2, problem.net.dim))
    observe = [
        *problem.names,
        observables.cosines(directions),
        observables.alignment(directions, absolute=True),
        observables.singular_values(3),
        observables.custom(lambda net, _data: np.array(net.W), name="seen"),
    ]
    extra = {
        "loss": problem.loss,
        "directions": directions,
        "count": 3,
        "initial": nets[0],
        **{k: problem.step[k] for k in ("reduction", "weight_decay", "output_penalty")},
    }
    for form in FORMS:
        run = problem.descend(form, observe=observe, record=fc.Recording.every(1))
        assert (run.outcome.status, run.outcome.form) == ("reached_end", form)
        history = run.history
        close(run.net.W, nets[-1].W, problem.tolerance)
        close(run.net.a, nets[-1].a, problem.tolerance)
        for row, net in enumerate(nets):
            close(history.seen.values[row], net.W, problem.tolerance)
            for name in problem.names:
                got = history[name].values[row]
                expected = reference.observables[name](net, problem.data, **extra)
                if "split" not in history[name].dims:
                    close(got, expected, problem.tolerance * 10)
                    continue
                close(got[0], expected, problem.tolerance * 10)
                of_test = reference.observables[name](net, problem.test, **extra)
                close(got[1], of_test, problem.tolerance * 10)
            # An angle is as uncertain as its vector is short against what moves it.
            shortest = np.linalg.norm(net.W, axis=1).min()
            if shortest > 0.05:
                expected = reference.observables["cosines"](net, problem.data, **extra)
                close(history.cosines.values[row], expected, problem.tolerance / shortest)
                expected = reference.observables["alignment"](
                    net, problem.data, absolute=True, **extra
                )
                close(
                    history.alignment.values[row][..., :3],
                    expected[..., :3],
                    problem.tolerance / shortest,
                )
            values = reference.observables["singular_values"](net, problem.data, **extra)
            got = history.singular_values.values[row]
            # squares, since they come from W Wᵀ
            close((got / values[0]) ** 2, (values / values[0]) ** 2, problem.tolerance * 10)


@settings(max_examples=40)
@given(problem=problems())
def test_bits_depend_neither_on_threads_nor_on_pauses(problem):
    observe = [*problem.names, observables.singular_values(2)]
    for form in FORMS:
        more = {"observe": observe, "record": fc.Recording.every(1)}
        first = problem.descend(form, num_threads=1, **more)
        assume(first.outcome.status == "reached_end")
        for threads in THREADS[1:]:
            assert_same(first, problem.descend(form, num_threads=threads, **more))
        part = problem.descend(form, **more | {"steps": 1})
        while part.state.step < problem.steps:
            part = part.continue_(1, record=fc.Recording.every(1))
            assert part.outcome.form == form
        assert_same(first, part)


def assert_same(one, other):
    """Check that two runs have the same bits: network, state and history."""
    assert one.net.W.tobytes() == other.net.W.tobytes()
    assert one.net.a.tobytes() == other.net.a.tobytes()
    assert one.state.step == other.state.step
    assert one.state.arrays.keys() == other.state.arrays.keys()
    for name, array in one.state.arrays.items():
        assert array.dtype == other.state.arrays[name].dtype
        assert array.tobytes() == other.state.arrays[name].tobytes(), name
    for name in one.history.data_vars:
        assert one.history[name].values.tobytes() == other.history[name].values.tobytes(), name


def wide(n=40, d=90, m=70, *, seed=0, kind="gaussian", dtype=np.float64, activation=None, **more):
    """Return a network and data on which every form has something to do."""
    net = make_net(m, d, seed, activation=activation or fc.ReLU(), dtype=dtype)
    return net, dataset(n, d, seed, kind, dtype=dtype, **more)


# --- continuing, storage, interrupts


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_stored_run_continues_to_the_same_bits(form, dtype, tmp_path):
    net, data = wide(kind="low rank", dtype=dtype)
    test = dataset(9, 90, 5, dtype=dtype)
    options = {"step_size": 0.3, "weight_decay": 0.01, "form": form, "observe": ["loss", "norms"]}
    options |= {"evaluate": {"test": test}, "record": fc.Recording.every(3)}
    whole = fc.descend(net, data, steps=40, **options)
    half = fc.descend(net, data, steps=17, **options)
    half.save(tmp_path / "run.nc")
    again = fc.load(tmp_path / "run.nc")
    assert again.state.arrays.keys() == half.state.arrays.keys()
    for name, array in half.state.arrays.items():
        np.testing.assert_array_equal(array, again.state.arrays[name])
        assert again.state.arrays[name].dtype == array.dtype
    for run, more in ((half, {}), (again, {"data": data, "evaluate": {"test": test}})):
        rest = run.continue_(23, record=fc.Recording.every(3), **more)
        assert rest.outcome.form == form
        last = rest.history.isel(time=rest.history.step.isin(whole.history.step))
        assert rest.net.W.tobytes() == whole.net.W.tobytes()
        assert rest.net.a.tobytes() == whole.net.a.tobytes()
        for name in whole.history.data_vars:
            assert last[name].values.tobytes() == whole.history[name].values.tobytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_state_of_another_shape_is_refused(form):
    net, data = wide(6, 10, 5)
    run = fc.descend(net, data, step_size=0.1, steps=2, form=form)
    for name in run.state.form_arrays:
        array = run.state.arrays[name]
        broken = {**run.state.arrays, name: np.zeros((array.shape[0] + 1, array.shape[1] + 1))}
        run.state = type(run.state)(1, form, 2, broken)
        with pytest.raises(ValueError, match="state"):
            run.continue_(1)


class Enough(Exception):
    pass


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("looks", [1, 2, 5])
def test_an_interrupt_drops_the_unfinished_step_and_nothing_else(form, num_threads, looks):
    # Steps of some milliseconds: most looks fall into one.
    net, data = wide(300, 200, 2000, kind="low rank")
    options = {"step_size": 0.2, "weight_decay": 0.01, "form": form, "gradient_target": 0.0}
    seen = []

    def watch(step):
        seen.append(step)
        if len(seen) == looks:
            raise Enough

    from featcore.dynamics import descent

    whole = {
        "batch_size": None,
        "batch_seed": 0,
        "train": ("W", "a"),
        "layer_rates": None,
        "reduction": "mean",
        "output_penalty": 0.0,
        "evaluate": None,
        "observe": (),
        "record": None,
        "loss_target": None,
        "wall_time": None,
    }
    segment = descent.prepare(net, data, "logistic", steps=10**9, **whole, **options)
    with pytest.raises(Enough) as raised:
        segment.drive(num_threads, watch=watch)
    run = raised.value.run
    done = run.state.step
    expected = fc.descend(net, data, steps=done, **options)
    assert run.net.W.tobytes() == expected.net.W.tobytes()
    assert run.net.a.tobytes() == expected.net.a.tobytes()
    after = run.continue_(2, gradient_target=0.0)
    expected = fc.descend(net, data, steps=done + 2, **options)
    assert after.net.W.tobytes() == expected.net.W.tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
def test_a_step_that_is_not_finite_is_taken_back_exactly(form, weight_decay):
    net, data = wide(20, 12, 9, loss="squared")
    options = {"step_size": 50.0, "weight_decay": weight_decay, "form": form}
    run = fc.descend(net, data, "squared", steps=10_000, **options)
    assert run.outcome.status == "non_finite"
    assert np.isfinite(run.net.W).all()
    steps = run.state.step
    assert steps > 1
    assert_same_state(run, fc.descend(net, data, "squared", steps=steps, **options))


def assert_same_state(one, other):
    assert one.state.arrays.keys() == other.state.arrays.keys()
    for name, array in one.state.arrays.items():
        assert array.tobytes() == other.state.arrays[name].tobytes(), name
    assert one.net.W.tobytes() == other.net.W.tobytes()
    assert one.net.a.tobytes() == other.net.a.tobytes()


# --- the gradient that is measured


@settings(max_examples=60)
@given(problem=problems(dtypes=(np.float64,)))
def test_a_run_is_stationary_where_its_gradient_is_small(problem):
    problem.trajectory()
    for form in FORMS:
        run = problem.descend(form)
        here = {k: problem.step[k] for k in ("reduction", "weight_decay", "output_penalty")}
        _, gradient = reference.gradient(run.net, problem.data, problem.loss, **here)
        train = problem.step["train"]
        norm = math.hypot(*(np.linalg.norm(getattr(gradient, layer)) for layer in train))
        # of the terms, which may cancel; sums of 70 terms
        slack = 1e-11 * (1 + norm + np.linalg.norm(run.net.W) + np.linalg.norm(run.net.a))
        stopped = run.continue_(1, gradient_target=norm + slack)
        assert (stopped.outcome.status, stopped.state.step) == ("stationary", problem.steps)
        assert_same_state(run, stopped)
        if norm > slack:
            on = run.continue_(1, gradient_target=norm - slack)
            # The step goes on; that of a large gradient may still overflow.
            assert on.outcome.status != "stationary", (form, on.outcome, norm, slack)
            if on.outcome.status != "non_finite":
                assert on.state.step == problem.steps + 1, (form, on.outcome, norm, slack)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_a_gradient_that_vanishes_by_cancellation_is_seen_to_its_last_digits(form, weight_decay):
    # More samples than inputs: residuals stay, and the gradient is a sum that cancels. Its square from a Gram
    # matrix would know it to 1e-8 only.
    d, n = 8, 12
    net = fc.TwoLayerNet(
        np.random.default_rng(3).standard_normal((2, d)), [1.0, -0.5], fc.LeakyReLU(1.0)
    )
    data = dataset(n, d, 0, loss="squared")
    target = 1e-12
    run = fc.descend(
        net,
        data,
        "squared",
        step_size=0.2,
        steps=20_000,
        train=("W",),
        weight_decay=weight_decay,
        form=form,
        gradient_target=target,
    )
    assert run.outcome.status == "stationary"
    _, gradient = reference.gradient(run.net, data, "squared", weight_decay=weight_decay)
    assert np.linalg.norm(gradient.W) <= target + 1e-14
    before = fc.descend(
        net,
        data,
        "squared",
        step_size=0.2,
        steps=run.state.step - 1,
        train=("W",),
        weight_decay=weight_decay,
        form=form,
    )
    _, gradient = reference.gradient(before.net, data, "squared", weight_decay=weight_decay)
    assert np.linalg.norm(gradient.W) > target - 1e-14


@pytest.mark.parametrize("form", OTHERS)
def test_weights_in_the_span_leave_no_gradient_outside(form):
    # W_0 lies in the span of x: the decay of what is outside is 0, not the rounding of a difference of squares.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 9))
    net = fc.TwoLayerNet(rng.standard_normal((4, 6)) @ x, rng.standard_normal(4), fc.LeakyReLU(1.0))
    data = fc.Dataset(x, rng.choice([-1.0, 1.0], 6))
    options = {"step_size": 0.02, "weight_decay": 0.1, "train": ("W",), "form": form}
    run = fc.descend(net, data, "squared", steps=20_000, gradient_target=1e-12, **options)
    assert run.outcome.status == "stationary"
    _, gradient = reference.gradient(run.net, data, "squared", weight_decay=0.1)
    assert np.linalg.norm(gradient.W) <= 1e-12 + 1e-13


# --- weights that shrink, cancel, or are very large or small

WATCHED = ("norms", "stable_rank", "normalised_margin", "balance_drift")


def check_against_rows(run, data, directions, tolerance, initial):
    """Check the last row of a history against numpy on the weights themselves."""
    history, net = run.history.isel(time=-1), run.net
    norms = reference.observables["norms"](net, data)
    np.testing.assert_allclose(history.norms, norms, rtol=tolerance, atol=0)
    for name in ("cosines", "alignment"):
        expected = reference.observables[name](net, data, directions=directions)
        np.testing.assert_allclose(history[name], expected, rtol=0, atol=tolerance)
    expected = reference.observables["stable_rank"](net, data)
    np.testing.assert_allclose(history.stable_rank, expected, rtol=tolerance)
    values = reference.observables["singular_values"](net, data, count=3)
    top = values[0] if values[0] > 0 else 1.0
    squares = (history.singular_values / top) ** 2, (values / top) ** 2
    np.testing.assert_allclose(*squares, rtol=0, atol=tolerance)
    drift = reference.observables["balance_drift"](net, data, initial=initial)
    np.testing.assert_allclose(history.balance_drift, drift, rtol=tolerance, atol=tolerance)
    margin = reference.observables["normalised_margin"](net, data)
    np.testing.assert_allclose(
        history.normalised_margin.values[0], margin, rtol=tolerance, atol=tolerance
    )


def watched(directions):
    return [
        *WATCHED,
        observables.cosines(directions),
        observables.alignment(directions),
        observables.singular_values(3),
    ]


# Coefficients keep at least a hundredth of a square, whose terms are right to some 1e-14.
COEFFICIENTS = 1e-11


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("m", [9, 150])
@pytest.mark.parametrize("scale", [1e-200, 1e-150, 1e-100, 1e-8, 1.0, 1e100])
def test_weights_of_any_size_are_seen_right(form, scale, m):
    # Steps move W by about its own length: f is of order W where that is small, of order 1 where it is large.
    net, data = wide(30, 200, m)
    net = fc.TwoLayerNet(scale * net.W, net.a / max(scale, 1.0))
    options = {"step_size": scale * max(scale, 1.0), "steps": 5, "train": ("W",)}
    directions = np.random.default_rng(1).standard_normal((2, 200))
    run = fc.descend(net, data, form=form, observe=watched(directions), **options)
    assert run.outcome.status == "reached_end"
    check_against_rows(run, data, directions, COEFFICIENTS, net)
    expected = fc.descend(net, data, form="primal", **options).net.W / scale
    assert np.linalg.norm(expected - net.W / scale) > 0.1
    assert np.linalg.norm(run.net.W / scale - expected) <= 1e-12 * np.linalg.norm(expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [1, 20, 150, 250, 400])
def test_weights_that_decay_away_are_seen_right(form, steps):
    # Each step leaves a tenth of W_0: 1e-20 after 20, past the range of doubles after 400.
    net, data = wide(10, 40, 7)
    data = fc.Dataset(np.zeros_like(data.x), data.y) if steps > 20 else data
    directions = np.random.default_rng(1).standard_normal((2, 40))
    run = fc.descend(
        net,
        data,
        step_size=1.0,
        steps=steps,
        weight_decay=0.9,
        train=("W",),
        form=form,
        observe=watched(directions),
    )
    check_against_rows(run, data, directions, COEFFICIENTS, net)
    if steps > 20:
        left = net.W
        for _ in range(steps):
            left = left + (-0.9 * left)
        # a rounding a step
        np.testing.assert_allclose(run.net.W, left, rtol=steps * 1e-15, atol=5e-324 * steps)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_outside_the_span_decay_exactly(form, dtype):
    net, data = wide(12, 50, 9, dtype=dtype)
    data = fc.Dataset(np.hstack([data.x[:, :25], np.zeros_like(data.x[:, 25:])]), data.y)
    run = fc.descend(net, data, step_size=0.5, steps=60, weight_decay=0.2, form=form)
    expected = net.W[:, 25:].astype(float) * 0.9**60
    np.testing.assert_allclose(run.net.W[:, 25:], expected, rtol=200 * EPS[net.dtype])
    assert np.linalg.norm(run.net.W[:, :25] - net.W[:, :25] * 0.9**60) > 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [12, 30])
def test_weights_that_cancel_are_seen_right(form, n):
    # Labels 0 and a linear network: what the samples span goes to 0 as sW_0 + CᵀX, and with n = d all of W.
    d = 12
    net = make_net(5, d, 0, activation=fc.LeakyReLU(1.0))
    x = np.linalg.qr(np.random.default_rng(0).standard_normal((d, d)))[0]
    data = fc.Dataset(np.vstack([x, x, x])[:n], np.zeros(n))
    directions = np.random.default_rng(1).standard_normal((2, d))
    for steps in (0, 5, 20, 60, 150):
        # every direction alike: W shrinks by (1 - 0.5 |a|² or so) in the one that f sees
        run = fc.descend(
            fc.TwoLayerNet(np.outer(net.a, net.W[0]), net.a, net.activation),
            data,
            "squared",
            step_size=0.4 * n / float(net.a @ net.a) / math.ceil(n / d),
            steps=steps,
            train=("W",),
            form=form,
            observe=[o for o in watched(directions) if o != "normalised_margin"],
        )
        assert run.outcome.status == "reached_end"
        history = run.history.isel(time=-1)
        norms = reference.observables["norms"](run.net, data)
        np.testing.assert_allclose(history.norms, norms, rtol=COEFFICIENTS, atol=0)
        expected = reference.observables["cosines"](run.net, data, directions=directions)
        np.testing.assert_allclose(history.cosines, expected, rtol=0, atol=COEFFICIENTS)
        assert np.isfinite(history.alignment.values[..., 3]).all()


@pytest.mark.parametrize("form", FORMS)
def test_coefficients_of_twins_cancel_among_themselves(form):
    # A sample with both labels: its coefficients grow without end, and W does not.
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 30))
    data = fc.Dataset(np.vstack([x, x]), np.repeat([1.0, -1.0], 6))
    net = make_net(9, 30, 0, activation=fc.ReLU())
    directions = rng.standard_normal((2, 30))
    options = {"step_size": 200.0, "steps": 400, "train": ("W",), "form": form}
    net = fc.TwoLayerNet(1e-3 * net.W, 1e-3 * net.a)
    run = fc.descend(net, data, observe=watched(directions), **options)
    check_against_rows(run, data, directions, COEFFICIENTS, net)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("form", [*FORMS, "auto"])
def test_a_long_sample_does_not_hide_the_short_ones(form, dtype):
    net, data = wide(12, 40, 20, dtype=dtype)
    x = data.x.copy()
    long = 1e7 if dtype is np.float32 else 1e15
    x[0] *= long
    weights = np.ones(12, dtype)
    weights[0] = 0  # or it would drown the others
    data = fc.Dataset(x, data.y, weights=weights)
    run = fc.descend(net, data, step_size=1.0, steps=1, train=("W",), form=form)
    expected = reference.descend(net, data, step_size=1.0, steps=1, train=("W",))
    moved = np.linalg.norm(expected.W - net.W)
    assert np.linalg.norm(run.net.W - expected.W) <= 2e3 * EPS[net.dtype] * (1 + moved)


@pytest.mark.parametrize("scale", [1e-170, 1e-100, 1e100, 1e160])
def test_samples_of_any_length(scale):
    net, data = wide(10, 40, 20)
    small = fc.Dataset(scale * data.x, data.y)
    start = fc.TwoLayerNet(net.W / scale, net.a)
    expected = fc.descend(net, data, step_size=1.0, steps=3, train=("a",), form="primal")
    for form in ("auto", "primal", "projected"):
        run = fc.descend(start, small, step_size=1.0, steps=3, train=("a",), form=form)
        assert run.outcome.status == "reached_end"
        np.testing.assert_allclose(run.net.a, expected.net.a, rtol=0, atol=1e-12)
    if abs(math.log10(scale)) > 145:
        with pytest.raises(ValueError, match="range"):
            fc.descend(start, small, step_size=1.0, steps=1, form="gram")


# --- the choice


def low_rank(n, d, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))


@pytest.mark.parametrize(
    ("shape", "rank", "expected"),
    [
        ((20, 100, 30), 20, "gram"),
        ((173, 100, 30), 100, "gram"),  # 2n + 12 < 3.6 d
        ((174, 100, 30), 100, "primal"),
        ((1, 1, 5), 1, "primal"),
        ((1, 4, 5), 1, "gram"),
        ((2, 4, 5), 2, "primal"),
        ((500, 64, 30), 64, "primal"),
        ((500, 64, 30), 10, "projected"),
        ((500, 64, 30), 51, "projected"),  # 4.4 rank + 4 <= 0.9 · 4d
        ((500, 64, 30), 52, "primal"),
        ((500, 64, 15), 10, "primal"),  # too narrow for looking at the rank to pay
        ((500, 31, 30), 3, "primal"),
        ((60, 64, 30), 5, "projected"),
        ((60, 64, 30), 40, "gram"),
        ((60, 64, 30), 0, "projected"),
    ],
)
def test_the_form_is_chosen_by_shape_and_rank(shape, rank, expected):
    n, d, m = shape
    x = low_rank(n, d, rank) if rank else np.zeros((n, d))
    data = fc.Dataset(x, np.resize([1.0, -1.0], n))
    net = make_net(m, d, 0, activation=fc.ReLU())
    for steps in (0, 1, 3):
        for threads in (1, 2, 5):
            run = fc.descend(net, data, step_size=0.01, steps=steps, num_threads=threads)
            assert run.outcome.form == run.state.form == expected
    assert run.continue_(1).outcome.form == expected
    by_name = fc.descend(net, data, step_size=0.01, steps=3, form=expected)
    assert_same(run, by_name)


def far_units(dtype=np.float32):
    """Return a problem with a time stamp among its inputs, which the weights switch off."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100, 40))
    x[:, 0] = 1.7e9 + 1e6 * rng.standard_normal(100)
    W = rng.standard_normal((64, 40))
    W[:, 0] = 0
    net = fc.TwoLayerNet(W.astype(dtype), np.resize([0.125, -0.125], 64).astype(dtype))
    return net, fc.Dataset(x, np.sign(x[:, 1])).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [30, 100])
def test_an_input_in_other_units_does_not_drown_the_rest(n, dtype):
    """The projected form would: it rounds at the size of |w||x|."""
    net, data = far_units(dtype)
    data = fc.Dataset(data.x[:n], data.y[:n])
    options = {"step_size": 0.1, "steps": 30, "train": ("a",)}
    expected = reference.descend(net, data, **options)
    run = fc.descend(net, data, **options)
    assert run.outcome.form != "projected"
    np.testing.assert_allclose(run.net.a, expected.a, rtol=0, atol=100 * EPS[np.dtype(dtype)])


def test_a_split_that_is_evaluated_does_not_change_the_run():
    """Looking at the rank is allowed the memory of the run: that of training."""
    n, d, m = 19_000, 450, 120
    x = np.ones((n, d), np.float32)
    data = fc.Dataset(x, np.resize([1.0, -1.0], n).astype(np.float32))
    test = fc.Dataset(np.ones((30_000, d), np.float32), np.ones(30_000, np.float32))
    net = make_net(m, d, 0, activation=fc.ReLU(), dtype=np.float32)
    alone, run = (
        fc.descend(net, data, step_size=0.01, steps=1, evaluate=evaluate)
        for evaluate in ({}, {"test": test})
    )
    assert run.outcome.form == alone.outcome.form
    np.testing.assert_array_equal(run.net.W, alone.net.W)


def test_an_unknown_form_is_named():
    net, data = wide(3, 4, 5)
    with pytest.raises(ValueError, match="form='dual'"):
        fc.descend(net, data, step_size=0.1, steps=1, form="dual")


@pytest.mark.parametrize("form", [*FORMS, "auto"])
def test_members_of_an_ensemble_have_the_bits_of_runs(form):
    nets = [make_net(m, 40, m, activation=fc.ReLU()) for m in (5, 17, 33)]
    sets = [dataset(n, 40, n, "low rank") for n in (9, 30, 100)]
    options = {"step_size": 0.3, "steps": 12, "weight_decay": 0.1, "form": form}
    members = fc.ensemble(nets, sets, num_threads=2, **options)
    for run, net, data in zip(members, nets, sets, strict=True):
        alone = fc.descend(net, data, num_threads=3, **options)
        assert run.outcome.form == alone.outcome.form
        assert_same(run, alone)
