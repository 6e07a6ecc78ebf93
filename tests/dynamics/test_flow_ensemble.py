"""An ensemble of flows is its flows, one by one: the same bits, in order, each with its own steps and stop."""

import signal

import numpy as np
import pytest
from _runs import problem, same_history, same_net

import featcore as fc
from featcore import observables

OPTIONS = {"t_end": 6.0, "observe": ["loss", "norms"], "record": fc.Recording.linear(6)}


def nets(count=7, d=4, m=9, **more):
    return [fc.TwoLayerNet.gaussian(m, d, 0.3, seed=seed, **more) for seed in range(count)]


def flows(starts, data, loss="logistic", **options):
    return fc.ensemble(starts, data, loss, dynamics="flow", **options)


def same_flow(one, other):
    """Whether two flows ended at the same place with the same rows, events and counts, to the last bit."""
    events = one.events is None and other.events is None
    return (
        same_net(one.net, other.net)
        and same_history(one.history, other.history)
        and one.outcome.time == other.outcome.time
        and one.outcome.status == other.outcome.status
        and one.outcome.counts == other.outcome.counts
        and one.outcome.drift == other.outcome.drift
        and (events or one.events.identical(other.events))
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 5, None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_members_have_the_bits_of_single_flows(threads, dtype):
    data = problem(dtype=dtype)[1]
    options = {**OPTIONS, "events": True, "rtol": 1e-5}
    ensemble = flows(nets(dtype=dtype), data, num_threads=threads, **options)
    alone = [fc.flow(net, data, num_threads=2, **options) for net in nets(dtype=dtype)]
    assert all(map(same_flow, ensemble, alone))
    for run, single in zip(ensemble, alone, strict=True):
        assert run.settings == single.settings
        assert run.outcome.num_threads == 1
    # or the above says nothing: they took steps of their own
    assert len({run.outcome.counts["accepted"] for run in ensemble}) > 1


@pytest.mark.parametrize(
    "options", [{"method": "tsit5"}, {"method": "rk4", "step_size": 0.07}, {"method": "event"}]
)
def test_of_any_method(options):
    data = problem()[1]
    ensemble = flows(nets(3), data, num_threads=2, **OPTIONS, **options)
    assert all(map(same_flow, ensemble, [fc.flow(n, data, **OPTIONS, **options) for n in nets(3)]))


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_the_exact_hinge_flow_to_its_end(threads, dtype):
    data = problem(dtype=dtype)[1]
    # the fourth rests at t = 32472 only
    options = {**OPTIONS, "t_end": 1e5, "events": True, "rtol": 1e-5}
    ensemble = flows(nets(dtype=dtype), data, "hinge", num_threads=threads, **options)
    alone = [fc.flow(net, data, "hinge", num_threads=2, **options) for net in nets(dtype=dtype)]
    assert all(map(same_flow, ensemble, alone))
    for run, single in zip(ensemble, alone, strict=True):
        assert run.outcome.message == single.outcome.message
        assert run.outcome.status == "stationary"
    assert len({run.outcome.time for run in ensemble}) > 1
    half = flows(nets(dtype=dtype), data, "hinge", num_threads=threads, max_steps=9, **options)
    assert "max_steps" in {outcome.status for outcome in half.outcomes}
    on = half.continue_(num_threads=2, record=OPTIONS["record"])
    assert all(map(same_net, on.nets, ensemble.nets))


def test_each_member_has_its_own_stop_and_all_share_the_times_of_the_recording():
    data = problem()[1]
    options = {**OPTIONS, "t_end": 60.0, "loss_target": 0.58, "record": fc.Recording.linear(30)}
    ensemble = flows(nets(), data, num_threads=2, **options)
    alone = [fc.flow(net, data, **options) for net in nets()]
    assert all(map(same_flow, ensemble, alone))
    assert {outcome.status for outcome in ensemble.outcomes} == {"loss_target"}
    ends = [outcome.time for outcome in ensemble.outcomes]
    assert len(set(ends)) == 7
    history = ensemble.history
    assert "step" not in history.coords
    asked = fc.Recording.linear(30).times(60.0)
    times = history.time.values
    assert times.tolist() == sorted({*ends, *asked[asked < max(ends)]})
    assert history.status.values.tolist() == ["loss_target"] * 7
    for k, run in enumerate(ensemble):
        own = run.history
        rows = np.isin(times, own.time)
        mine = history.sel(member=k)
        np.testing.assert_array_equal(mine.time.values[rows], own.time)
        for name in own.data_vars:
            np.testing.assert_array_equal(mine[name].isel(time=rows), own[name])
            assert mine[name].isel(time=~rows).isnull().all()
    # at a time of the recording that nobody had reached the end of, all are there
    assert not history.loss.sel(time=asked[asked < min(ends)]).isnull().any()


def test_members_of_different_shapes():
    pairs = [problem(), problem(7, 4, 2)]
    ensemble = flows(*zip(*pairs, strict=True), **OPTIONS)
    assert all(map(same_flow, ensemble, [fc.flow(net, data, **OPTIONS) for net, data in pairs]))
    assert dict(ensemble.history.sizes) == {"member": 2, "time": 7, "split": 1, "neuron": 9}


def test_no_members():
    ensemble = flows([], problem()[1], **OPTIONS)
    assert len(ensemble) == 0
    assert dict(ensemble.history.sizes) == {"member": 0, "time": 0}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"step_size": 0.1}, ValueError, "member 0: step_size=0.1"),
        ({"steps": 5}, TypeError, "steps= is no argument of flow; it takes t_end"),
        ({"t_end": -1.0}, ValueError, "member 0: t_end"),
        ({"record": fc.Recording.every(2)}, ValueError, "member 0: record counts steps"),
        (
            {"loss": "hinge", "method": "event", "weight_decay": 1.0},
            ValueError,
            "member 0: .*hinge",
        ),
        ({"max_steps": 0}, ValueError, "member 0: max_steps"),
        ({"nets": [*nets(2), *nets(1, d=5)]}, ValueError, "member 2: data has dimension 4"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(change, error, words):
    ran = []
    observe = [observables.custom(lambda net, data: ran.append(0) or 0.0, name="ran")]
    arguments = {"nets": nets(3), "data": problem()[1], **OPTIONS, "observe": observe, **change}
    with pytest.raises(error, match=words):
        fc.ensemble(dynamics="flow", **arguments)
    assert not ran


def test_what_is_needed_is_asked_for():
    with pytest.raises(TypeError, match="t_end= is missing; flow needs it"):
        flows(nets(2), problem()[1])


def test_flows_continue_to_the_same_bits():
    data = problem()[1]
    whole = flows(nets(), data, **OPTIONS)
    half = flows(nets(), data, **{**OPTIONS, "t_end": 2.5})
    on = half.continue_(t_end=6.0, num_threads=3, record=OPTIONS["record"])
    for k in range(7):
        assert same_net(on[k].net, whole[k].net)
        assert same_flow(on[k], half[k].continue_(t_end=6.0, record=OPTIONS["record"]))
    parts = flows(nets(), data, max_steps=3, **OPTIONS)
    assert {outcome.status for outcome in parts.outcomes} == {"max_steps"}
    assert all(map(same_net, parts.continue_().nets, whole.nets))
    with pytest.raises(ValueError, match=r"member 0: steps=5 is of a descent"):
        half.continue_(5)
    with pytest.raises(ValueError, match=r"member 0: t_end=5.0 is of a flow"):
        fc.ensemble(nets(2), data, step_size=0.1, steps=2).continue_(t_end=5.0)


def test_an_observer_that_raises_loses_nothing_and_those_not_begun_begin_later():
    data = problem()[1]
    calls = []

    def probe(net, data):
        calls.append(0)
        if len(calls) == 4:
            raise ZeroDivisionError("on purpose")
        return 0.0

    options = {**OPTIONS, "observe": ["loss", probe], "events": True}
    with pytest.raises(fc.EnsembleObserverError) as caught:
        flows(nets(3), data, num_threads=1, **options)
    ensemble = caught.value.ensemble
    assert [o.status for o in ensemble.outcomes] == ["observer_failed", "not_begun", "not_begun"]
    assert ensemble[0].history.time.values.tolist() == [0.0, 1.0, 2.0]
    last = ensemble[2]
    assert last.outcome.time == 0.0
    assert same_net(last.net, nets(3)[2])
    assert last.events.sizes["event"] == last.outcome.counts["crossings"] == 0
    assert "continue_" in last.outcome.message
    assert last.history.time.values.tolist() == [0.0]
    expected = flows(nets(3), data, **{**options, "observe": ["loss"]})
    fine = observables.custom(lambda net, data: 0.0, name="probe")
    on = ensemble.continue_(record=OPTIONS["record"], observe=["loss", fine], events=True)
    assert all(map(same_net, on.nets, expected.nets))
    for run, other in zip(on, expected, strict=True):
        assert run.events.identical(other.events)
        np.testing.assert_array_equal(run.history.loss, other.history.loss)


def test_one_bar_for_all_members(monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    flows(nets(3), problem()[1], progress=True, **OPTIONS)
    shown = capsys.readouterr().err
    assert "3000/3000" in shown
    assert shown.count("\n") == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX systems")
def test_ctrl_c_answers_and_every_member_goes_on():
    data = problem(300, 10)[1]
    starts = nets(4, 10, 200)
    options = {"t_end": 1e4, "rtol": 1e-9, "observe": ["loss"], "record": fc.Recording.at([])}
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    try:
        with pytest.raises(fc.EnsembleInterrupted) as caught:
            flows(starts, data, num_threads=2, **options)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    ensemble = caught.value.ensemble
    statuses = [outcome.status for outcome in ensemble.outcomes]
    assert statuses == ["interrupted", "interrupted", "not_begun", "not_begun"]
    on = ensemble.continue_(max_steps=2, record=options["record"])
    for run, net in zip(on, starts, strict=True):
        taken = run.outcome.counts["accepted"]
        assert same_net(run.net, fc.flow(net, data, max_steps=taken, **options).net)
