"""A run that is continued has the same bits as one run, whatever stopped it."""

import signal

import numpy as np
import pytest
from _runs import NATIVE, common_rows, problem, same_history, same_net, same_run
from _strategies import ACTIVATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc

OBSERVE = (*NATIVE, fc.observables.alignment(np.eye(4)[:2], labels=["e1", "e2"]))
OPTIONS = {
    "step_size": 0.3,
    "layer_rates": {"W": 1.0, "a": 0.3},
    "weight_decay": 0.01,
    "output_penalty": 0.1,
    "observe": OBSERVE,
}


def check_continued(continued, whole):
    """Assert that a run in parts ended where one run ends and contains its rows."""
    assert same_net(continued.net, whole.net)
    assert continued.state.step == whole.state.step
    assert continued.outcome.time == whole.outcome.time
    assert set(whole.history.step.values) <= set(continued.history.step.values)
    assert same_history(common_rows(continued.history, whole.history), whole.history)
    assert (np.diff(continued.history.step) > 0).all()
    assert continued.outcome.counts["records"] == continued.history.sizes["time"]
    assert continued.outcome.counts["steps"] == continued.state.step
    assert continued.settings == whole.settings


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_two_parts_are_one_run(activation, dtype):
    net, data = problem(activation=activation, dtype=dtype, weighted=True)
    whole = fc.descend(net, data, steps=40, **OPTIONS)
    for first in (0, 1, 17, 40):
        part = fc.descend(net, data, steps=first, **OPTIONS)
        check_continued(part.continue_(40 - first), whole)


@settings(max_examples=25)
@given(
    parts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    threads=st.lists(st.sampled_from((1, 2, 3, 5)), min_size=6, max_size=6),
    shape=st.sampled_from(((30, 4, 9), (700, 4, 80))),
)
def test_any_cut_and_any_threads(parts, threads, shape):
    n, d, m = shape
    net, data = problem(n, d, m)
    whole = fc.descend(net, data, steps=sum(parts), num_threads=1, **OPTIONS)
    run = fc.descend(net, data, steps=0, num_threads=threads[0], **OPTIONS)
    for steps, number in zip(parts, threads[1:], strict=False):
        run = run.continue_(steps, num_threads=number)
    check_continued(run, whole)


def test_a_file_in_between_changes_nothing(tmp_path):
    for dtype in (np.float64, np.float32):
        net, data = problem(dtype=dtype)
        test = problem(12, seed=4, dtype=dtype)[1]
        options = {**OPTIONS, "evaluate": {"test": test}}
        whole = fc.descend(net, data, steps=30, **options)
        fc.descend(net, data, steps=13, **options).save(tmp_path / "half.nc")
        loaded = fc.load(tmp_path / "half.nc")
        check_continued(loaded.continue_(17, data=data, evaluate={"test": test}), whole)


def test_the_weights_are_known_by_name_after_loading(tmp_path):
    net, data = problem()
    options = {"step_size": 0.1, "observe": ["loss", "weights"]}
    fc.descend(net, data, steps=5, **options).save(tmp_path / "run.nc")
    continued = fc.load(tmp_path / "run.nc").continue_(5, data=data)
    check_continued(continued, fc.descend(net, data, steps=10, **options))


def test_the_rest_of_the_plan_is_the_default():
    net, data = problem()
    whole = fc.descend(net, data, steps=50, **OPTIONS)
    part = fc.descend(net, data, steps=50, wall_time=0.0, **OPTIONS)
    assert part.state.step == 0
    check_continued(part.continue_(), whole)
    assert whole.continue_().state.step == 50
    assert same_run(whole.continue_(), whole)


def test_stops_do_not_carry_over():
    net, data = problem()
    whole = fc.descend(net, data, steps=50, **OPTIONS)
    losses = whole.history.loss[:, 0]
    stopped = fc.descend(
        net, data, steps=50, loss_target=float(losses[len(losses) // 2]), **OPTIONS
    )
    assert stopped.outcome.status == "loss_target"
    assert 0 < stopped.state.step < 50
    continued = stopped.continue_()
    assert continued.outcome.status == "reached_end"
    check_continued(continued, whole)
    again = stopped.continue_(loss_target=float(losses[len(losses) // 2]))
    assert again.outcome.status == "loss_target"
    assert same_run(again, stopped)
    # A plan that is overrun is not shortened, and a new one may be given.
    assert stopped.continue_(3).state.step == stopped.state.step + 3
    assert stopped.continue_(3).settings["steps"] == stopped.state.step + 3


def test_a_stationary_stop_continues():
    net, data = problem(activation=fc.Tanh())
    whole = fc.descend(net, data, steps=50, **OPTIONS)
    stopped = fc.descend(net, data, steps=50, gradient_target=0.3, **OPTIONS)
    assert stopped.outcome.status == "stationary"
    assert stopped.state.step < 50
    check_continued(stopped.continue_(), whole)


def test_a_run_continues_from_an_interrupt_inside_an_observable():
    net, data = problem()
    calls = []

    def probe(net, data):
        calls.append(len(calls))
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return net.a

    options = {**OPTIONS, "observe": [*OBSERVE, probe], "record": fc.Recording.every(3)}
    with pytest.raises(fc.Interrupted) as caught:
        fc.descend(net, data, steps=40, **options)
    run = caught.value.run
    assert run.outcome.status == "interrupted"
    assert run.state.step == 12
    continued = run.continue_(record=fc.Recording.every(3))
    check_continued(continued, fc.descend(net, data, steps=40, **options))
    assert continued.history.step.values.tolist() == [*range(0, 40, 3), 40]


@pytest.mark.parametrize("failing", [0, 1, 12])
def test_a_row_that_an_observable_failed_to_give_is_given_when_continued(failing):
    net, data = problem()
    broken = True

    def probe(now, data):
        if broken and len(rows) == failing:
            raise ZeroDivisionError("on purpose")
        rows.append(1)
        return now.a[0]

    options = {**OPTIONS, "observe": [*OBSERVE, probe], "record": fc.Recording.every(2)}
    rows = []
    with pytest.raises(fc.ObserverError) as caught:
        fc.descend(net, data, steps=40, **options)
    run = caught.value.run
    assert run.history.step.values.tolist() == list(range(0, 2 * failing, 2))
    broken = False
    continued = run.continue_(record=fc.Recording.every(2))
    check_continued(continued, fc.descend(net, data, steps=40, **options))


def test_evaluation_splits_may_be_passed_again_without_the_data():
    net, data = problem()
    test = problem(seed=3)[1]
    part = fc.descend(net, data, step_size=0.3, steps=5, evaluate={"test": test})
    assert same_net(part.continue_(5, evaluate={"test": test}).net, part.continue_(5).net)
    with pytest.raises(ValueError, match=r"evaluate has splits \[\]; the run has \['test'\]"):
        part.continue_(5, evaluate={})


def test_the_drift_of_the_balance_is_since_the_start():
    net, data = problem()
    options = {"step_size": 0.3, "observe": ["balance_drift"]}
    part = fc.descend(net, data, steps=20, **options)
    continued = part.continue_(20)
    expected = np.abs(fc.observables.balance(continued.net) - fc.observables.balance(net)).max()
    assert float(continued.history.balance_drift[-1]) == pytest.approx(expected, rel=1e-12)
    since_part = np.abs(fc.observables.balance(continued.net) - fc.observables.balance(part.net))
    assert since_part.max() < 0.9 * expected


def test_a_run_can_be_continued_twice_from_one_place():
    net, data = problem()
    part = fc.descend(net, data, steps=10, **OPTIONS)
    before = part.history, part.net.sha256()
    one, other = part.continue_(10), part.continue_(10)
    assert same_run(one, other)
    assert same_history(part.history, before[0])
    assert part.net.sha256() == before[1]


def test_the_time_of_all_parts_adds_up():
    net, data = problem()
    part = fc.descend(net, data, steps=10, **OPTIONS)
    assert part.continue_(5).outcome.seconds > part.outcome.seconds


# --- what does not fit


def test_data_must_be_those_of_the_run(tmp_path):
    net, data = problem()
    test, other = problem(12, seed=4)[1], problem(seed=7)[1]
    run = fc.descend(net, data, step_size=0.1, steps=3, evaluate={"test": test})
    run.save(tmp_path / "run.nc")
    loaded = fc.load(tmp_path / "run.nc")
    with pytest.raises(ValueError, match="data="):
        loaded.continue_(2)
    for r in (run, loaded):
        with pytest.raises(ValueError, match="'train' are not those of the run"):
            r.continue_(2, data=other, evaluate={"test": test})
        with pytest.raises(ValueError, match="'test' are not those of the run"):
            r.continue_(2, data=data, evaluate={"test": other})
        with pytest.raises(ValueError, match=r"evaluate has splits \[\].*\['test'\]"):
            r.continue_(2, data=data)
        with pytest.raises(TypeError, match=r"'train'.*Dataset"):
            r.continue_(2, data=data.x, evaluate={"test": test})
        with pytest.raises(TypeError, match=r"evaluate.*mapping"):
            r.continue_(2, data=data, evaluate=test)
    # One changed bit of one weight is another data set.
    weighted = fc.Dataset(data.x, data.y, weights=np.ones(data.n))
    with pytest.raises(ValueError, match="SHA-256"):
        loaded.continue_(2, data=weighted, evaluate={"test": test})


def test_python_observables_are_asked_for_after_loading(tmp_path):
    net, data = problem()

    def largest(net, data):
        return np.abs(net.a).max()

    options = {"step_size": 0.1, "observe": ["loss", largest]}
    fc.descend(net, data, steps=3, **options).save(tmp_path / "run.nc")
    loaded = fc.load(tmp_path / "run.nc")
    with pytest.raises(ValueError, match=r"observe: .*largest.*pass observe="):
        loaded.continue_(2, data=data)
    with pytest.raises(ValueError, match="records what it recorded"):
        loaded.continue_(2, data=data, observe=["loss"])
    continued = loaded.continue_(2, data=data, observe=["loss", largest])
    check_continued(continued, fc.descend(net, data, steps=5, **options))


def test_a_python_observable_of_another_shape_is_refused_before_a_step():
    net, data = problem()
    one = fc.observables.custom(lambda net, data: net.a[:2], name="head_part")
    other = fc.observables.custom(lambda net, data: net.a[:3], name="head_part")
    run = fc.descend(net, data, step_size=0.1, steps=3, observe=[one])
    with pytest.raises(fc.ObserverError) as caught:
        run.continue_(2, observe=[other])
    assert "shape" in str(caught.value.__cause__)
    assert same_history(caught.value.run.history, run.history)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "steps"),
        ({"steps": 1.0}, "steps"),
        ({"steps": True}, "steps"),
        ({"record": 5}, "record"),
        ({"num_threads": 0}, "num_threads"),
        ({"loss_target": np.nan}, "loss_target"),
        ({"on_interrupt": "ignore"}, "on_interrupt"),
        ({"step_size": 0.2}, "step_size"),
        ({"observe": "loss"}, "observe"),
    ],
)
def test_bad_changes_are_named(changes, message):
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=3)
    with pytest.raises((TypeError, ValueError), match=message):
        run.continue_(**changes)


def test_what_a_run_was_begun_with_stays():
    net, data = problem()
    flow = fc.flow(net, data, t_end=1.0)
    takes = "observe=, record=, events=, loss_target=, gradient_target=, max_steps=, wall_time="
    with pytest.raises(TypeError) as caught:
        flow.continue_(t_end=2.0, rtol=1e-3)
    assert str(caught.value) == (
        "continue_() of flow takes no rtol=, which stays what it was: it takes "
        f"{takes}; for another rtol start a new run from run.net"
    )
    with pytest.raises(
        TypeError, match=rf"continue_\(\) of flow takes no speed=: it takes {takes}$"
    ):
        flow.continue_(speed=3)
    with pytest.raises(TypeError, match=r"continue_\(\) of descend takes no step_size="):
        fc.descend(net, data, step_size=0.1, steps=1).continue_(1, step_size=0.2)
    with pytest.raises(TypeError, match=r"continue_\(\) of descend takes no step_size="):
        fc.ensemble([net], data, step_size=0.1, steps=1).continue_(1, step_size=0.2)


# --- events of a flow


def crossing_problem():
    """A problem with crossings all along to t = 9, and the events of its flow in one go."""
    net, data = problem(60, 4, 40, seed=5)
    whole = fc.flow(net, data, t_end=9.0, events=True)
    assert whole.events.sizes["event"] > 40
    return net, data, whole.events


@pytest.mark.parametrize("stored", [False, True])
def test_events_are_kept_on_when_a_flow_goes_on(stored, tmp_path):
    net, data, whole = crossing_problem()
    run = fc.flow(net, data, t_end=3.0, events=True)
    if stored:
        run.save(tmp_path / "run.nc")
        run = fc.load(tmp_path / "run.nc")
    on = run.continue_(t_end=9.0, data=data if stored else None)
    assert on.events.identical(whole)
    assert on.events.attrs["complete_from"] == 0.0
    assert on.events.attrs["complete_to"] == 9.0
    assert on.events.attrs["capped"] == 0
    assert fc.flow(net, data, t_end=3.0).continue_(t_end=9.0).events is None
    ensemble = fc.ensemble([net], data, dynamics="flow", t_end=3.0, events=True)
    assert ensemble.continue_(t_end=9.0).runs[0].events.identical(whole)


def test_a_table_of_events_says_from_when_and_up_to_when_it_is_complete():
    net, data, whole = crossing_problem()
    late = fc.flow(net, data, t_end=3.0).continue_(t_end=9.0, events=True).events
    assert late.attrs["complete_from"] == 3.0
    assert late.drop_attrs().identical(whole.isel(event=whole.time > 3.0).drop_attrs())
    # told to stop, it has what it had, and does not begin again by itself
    quiet = fc.flow(net, data, t_end=3.0, events=True).continue_(t_end=5.0, events=False)
    for run in (quiet, quiet.continue_(t_end=9.0)):
        assert run.events.attrs["complete_to"] == 3.0
        assert run.events.drop_attrs().identical(whole.isel(event=whole.time <= 3.0).drop_attrs())
    # nor does it get a hole: asked again, a new one begins
    again = quiet.continue_(t_end=9.0, events=True).events
    assert again.attrs["complete_from"] == 5.0
    assert again.drop_attrs().identical(whole.isel(event=whole.time > 5.0).drop_attrs())


@pytest.mark.parametrize("cut", [None, 1e-3, 3.0, 8.9])
def test_a_capped_table_of_events_says_so(cut):
    net, data, whole = crossing_problem()
    number = whole.sizes["event"]
    for limit in (1, 10, number - 1, number, number + 1):
        run = fc.flow(net, data, t_end=cut or 9.0, events=limit)
        run = run if cut is None else run.continue_(t_end=9.0)
        few, attrs = run.events, run.events.attrs
        assert attrs["limit"] == limit
        assert attrs["capped"] == (limit < number)
        assert few.drop_attrs().identical(whole.isel(event=slice(limit)).drop_attrs())
        assert attrs["complete_to"] == (float(whole.time[limit]) if limit < number else 9.0)


def test_a_state_of_another_version_is_refused():
    from dataclasses import replace

    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=3)
    run.state = replace(run.state, version=99)
    with pytest.raises(ValueError, match=r"version 99.*run\.net"):
        run.continue_(2)
