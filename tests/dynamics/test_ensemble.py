"""An ensemble is its runs, one by one: the same bits, in order, each with its own stop; nothing is lost."""

import contextvars
import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest
from _runs import problem, same_history, same_net, same_run

import featcore as fc
from featcore import observables

OPTIONS = {"step_size": 0.2, "steps": 12, "observe": ["loss", "norms", "stable_rank"]}


def nets(count=7, d=4, m=9, **more):
    return [fc.TwoLayerNet.gaussian(m, d, 0.3, seed=seed, **more) for seed in range(count)]


def same_runs(ensemble, runs):
    return len(ensemble) == len(runs) and all(map(same_run, ensemble, runs))


# --- the same bits


@pytest.mark.parametrize("threads", [1, 2, 3, 5, None])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_members_have_the_bits_of_single_runs(threads, dtype):
    data = problem(dtype=dtype)[1]
    starts = nets(dtype=dtype)
    ensemble = fc.ensemble(starts, data, num_threads=threads, **OPTIONS)
    alone = [fc.descend(net, data, num_threads=2, **OPTIONS) for net in starts]
    assert same_runs(ensemble, alone)
    for run, single in zip(ensemble, alone, strict=True):
        assert run.settings == single.settings
        assert run.outcome.num_threads == 1
        assert run.outcome.counts == single.outcome.counts


def test_members_above_the_threshold_of_sharing_have_the_bits_of_single_runs():
    net, data = problem(600, 20, 130)
    starts = [net, *nets(3, 20, 130)]
    ensemble = fc.ensemble(starts, data, "hinge", num_threads=3, **OPTIONS)
    alone = [fc.descend(net, data, "hinge", num_threads=2, **OPTIONS) for net in starts]
    assert same_runs(ensemble, alone)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_members_of_different_shapes_activations_and_data(threads):
    shapes = [(30, 4, 9), (5, 2, 64), (200, 7, 3), (1, 1, 1), (65, 4, 65)]
    sigmas = [fc.ReLU(), fc.Tanh(), fc.LeakyReLU(0.1), fc.ReLU(), fc.Softplus()]
    pairs = [problem(*s, activation=a) for s, a in zip(shapes, sigmas, strict=True)]
    tests = [{"test": problem(11, s[1], seed=9)[1]} for s in shapes]
    ensemble = fc.ensemble(
        [net for net, _ in pairs],
        [data for _, data in pairs],
        evaluate=tests,
        num_threads=threads,
        **OPTIONS,
    )
    alone = [
        fc.descend(net, data, evaluate=test, **OPTIONS)
        for (net, data), test in zip(pairs, tests, strict=True)
    ]
    assert same_runs(ensemble, alone)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_order_does_not_depend_on_who_ends_first(threads):
    sizes = [900, 1, 500, 2, 300, 3]  # long and short in turn
    data = [problem(n)[1] for n in sizes]
    starts = nets(len(sizes))
    ensemble = fc.ensemble(starts, data, num_threads=threads, **OPTIONS)
    assert [run.splits["train"].n for run in ensemble] == sizes
    assert [run.settings["net_sha256"] for run in ensemble] == [net.sha256() for net in starts]


def test_every_argument_of_a_single_run_is_passed_on():
    _, data = problem(30, loss="squared", weighted=True)
    test = problem(11, loss="squared", seed=3)[1]
    options = {
        "step_size": 0.05,
        "steps": 40,
        "train": ["a"],
        "layer_rates": {"a": 0.5},
        "reduction": "sum",
        "weight_decay": 0.01,
        "output_penalty": 0.02,
        "observe": ["objective", observables.alignment(np.eye(4), labels=list("wxyz"))],
        "record": fc.Recording.every(3),
        "loss_target": 0.01,
        "gradient_target": 0.001,
        "wall_time": 60.0,
    }
    starts = nets(3)
    ensemble = fc.ensemble(starts, data, "squared", evaluate={"test": test}, **options)
    alone = [fc.descend(n, data, "squared", evaluate={"test": test}, **options) for n in starts]
    assert same_runs(ensemble, alone)
    assert [run.settings for run in ensemble] == [run.settings for run in alone]


def test_each_member_has_its_own_stop():
    data = problem()[1]
    starts = nets()
    options = {**OPTIONS, "steps": 4000, "loss_target": 0.45}
    ensemble = fc.ensemble(starts, data, num_threads=2, **options)
    alone = [fc.descend(net, data, **options) for net in starts]
    assert same_runs(ensemble, alone)
    assert len({run.state.step for run in ensemble}) > 3
    assert {outcome.status for outcome in ensemble.outcomes} == {"loss_target"}


def test_a_member_that_diverges_does_not_disturb_the_others():
    data = problem(loss="squared")[1]
    wild = fc.TwoLayerNet(1e30 * nets(1)[0].W, 1e30 * np.ones(9))
    starts = [*nets(2), wild, *nets(2)]
    ensemble = fc.ensemble(starts, data, "squared", num_threads=2, **OPTIONS)
    assert [o.status for o in ensemble.outcomes] == [
        *["reached_end"] * 2,
        "non_finite",
        *["reached_end"] * 2,
    ]
    assert same_run(ensemble[0], ensemble[3])


def test_python_observables_see_their_own_member():
    data = problem()[1]

    def own_head(net, data):
        return net.a

    options = {**OPTIONS, "observe": [own_head, "head"], "record": fc.Recording.every(1)}
    ensemble = fc.ensemble(nets(), data, num_threads=3, **options)
    assert same_runs(ensemble, [fc.descend(net, data, **options) for net in nets()])
    history = ensemble.history
    np.testing.assert_array_equal(history.own_head, history["head"])


def test_a_list_of_observables_a_member():
    starts, data = nets(3), [problem(seed=seed)[1] for seed in range(3)]
    each = [["loss", observables.alignment(one.x[:2], labels=["p", "q"])] for one in data]
    options = {**OPTIONS, "observe": each}
    ensemble = fc.ensemble(starts, data, **options)
    alone = [
        fc.descend(net, one, **{**OPTIONS, "observe": observe})
        for net, one, observe in zip(starts, data, each, strict=True)
    ]
    assert same_runs(ensemble, alone)
    assert ensemble.history.direction.values.tolist() == ["p", "q"]


def test_python_observables_find_the_callers_context():
    mood = contextvars.ContextVar("mood", default=0.0)
    mood.set(5.0)

    def feel(net, data):
        return mood.get()

    _, data = problem()
    ensemble = fc.ensemble(nets(3), data, **{**OPTIONS, "observe": [feel]})
    assert (ensemble.history.feel == 5.0).all()


# --- what it takes


def test_iterators_are_taken_once_for_all_members():
    data = problem()[1]
    expected = fc.ensemble(nets(3), [data] * 3, **OPTIONS)
    ensemble = fc.ensemble(
        (net for net in nets(3)),
        iter([data] * 3),
        **{**OPTIONS, "observe": iter(OPTIONS["observe"])},
    )
    assert same_runs(ensemble, expected)


def test_no_members():
    ensemble = fc.ensemble([], problem()[1], **OPTIONS)
    assert len(ensemble) == 0
    assert repr(ensemble) == "Ensemble(0 runs)"
    assert ensemble.nets == ensemble.outcomes == ()
    assert dict(ensemble.history.sizes) == {"member": 0, "time": 0}
    assert len(ensemble.continue_(5)) == 0
    assert len(fc.ensemble([], [], **OPTIONS)) == 0


def test_no_steps():
    data = problem()[1]
    ensemble = fc.ensemble(nets(3), data, **{**OPTIONS, "steps": 0})
    assert all(map(same_net, ensemble.nets, nets(3)))
    assert ensemble.history.step.values.tolist() == [0]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"nets": fc.TwoLayerNet([[1.0]], [1.0])}, TypeError, "nets=.*list of networks"),
        ({"nets": 5}, TypeError, "nets=5"),
        ({"nets": [*nets(2), "net"]}, TypeError, "member 2: net is a str"),
        ({"nets": [*nets(2), *nets(1, d=5)]}, ValueError, "member 2: data has dimension 4"),
        ({"nets": [*nets(2), *nets(1, dtype=np.float32)]}, TypeError, "member 2: data is float64"),
        ({"data": None}, TypeError, "data=None"),
        ({"data": "digits"}, TypeError, "data='digits'"),
        ({"data": [problem()[1]] * 2}, ValueError, "data has 2 entries for 3 networks"),
        ({"data": [problem()[1], problem()[1].x, None]}, TypeError, "member 1: data is a ndarray"),
        ({"data": [*[problem()[1]] * 2, problem(loss="squared")[1]]}, ValueError, "member 2: data"),
        ({"evaluate": 5}, TypeError, "evaluate=5"),
        ({"evaluate": [{}] * 4}, ValueError, "evaluate has 4 entries for 3 networks"),
        ({"evaluate": [{}, {}, {"t": problem()[1]}]}, ValueError, "member 2: evaluate has .*'t'"),
        ({"evaluate": [{}, 5, {}]}, TypeError, "member 1: evaluate is a int"),
        ({"observe": "loss"}, TypeError, "observe='loss'"),
        ({"observe": ["wisdom"]}, ValueError, "member 0: observe: 'wisdom'"),
        ({"observe": [["loss"]] * 2}, ValueError, "observe has 2 entries for 3 networks"),
        ({"observe": [["loss"], ["loss"], ["norms"]]}, ValueError, "member 2: .*norms"),
        ({"observe": [["loss"], ["loss"], ["?"]]}, ValueError, r"member 2: observe: '\?'"),
        ({"steps": -1}, ValueError, "steps=-1"),
        ({"step_size": 0}, ValueError, "step_size=0"),
        ({"dynamics": "anneal"}, ValueError, "dynamics='anneal'.*'descend'"),
        ({"num_threads": 0}, ValueError, "num_threads=0"),
        ({"on_interrupt": "?"}, ValueError, "on_interrupt"),
        ({"stepsize": 1.0}, TypeError, "stepsize= is no argument of descend; it takes step_size"),
        ({"sha256": None}, TypeError, "sha256= is no argument of descend"),
        ({"loss": "?"}, ValueError, "loss='\\?'"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(change, error, words):
    ran = []
    observe = [observables.custom(lambda net, data: ran.append(0) or 0.0, name="ran")]
    arguments = {"nets": nets(3), "data": problem()[1], **OPTIONS, "observe": observe, **change}
    with pytest.raises(error, match=words):
        fc.ensemble(**arguments)
    assert not ran


def test_what_is_needed_is_asked_for():
    with pytest.raises(TypeError, match="step_size= is missing; descend needs it"):
        fc.ensemble(nets(2), problem()[1], steps=3)


@pytest.mark.parametrize(
    "observable",
    [
        observables.custom(lambda net, data: 0.0, name="member"),
        observables.custom(lambda net, data: 0.0, name="status"),
        observables.custom(lambda net, data: net.a, name="x", dims=("member",)),
        observables.cosines(np.eye(4), dim="member"),
    ],
)
def test_names_of_the_ensembles_own_axes_are_taken(observable):
    with pytest.raises(ValueError, match="which an ensemble has itself"):
        fc.ensemble(nets(2), problem()[1], **{**OPTIONS, "observe": [observable]})


def test_labels_that_differ_are_refused():
    each = [[observables.cosines(np.eye(4), labels=list(word))] for word in ("abcd", "efgh")]
    with pytest.raises(ValueError, match=r"member 1: .*labels"):
        fc.ensemble(nets(2), problem()[1], **{**OPTIONS, "observe": each})


# --- what it returns


def test_an_ensemble_is_an_immutable_sequence_of_runs():
    data = problem()[1]
    ensemble = fc.ensemble(nets(), data, **OPTIONS)
    assert isinstance(ensemble, fc.Ensemble)
    assert [run.net for run in ensemble] == list(ensemble.nets)
    assert ensemble[-1] is ensemble.runs[6]
    assert next(reversed(ensemble)) is ensemble[6]
    assert ensemble[2] in ensemble
    assert ensemble.index(ensemble[2]) == 2
    part = ensemble[1:6:2]
    assert isinstance(part, fc.Ensemble)
    assert [*part] == [ensemble[1], ensemble[3], ensemble[5]]
    assert same_history(
        part.history, ensemble.history.isel(member=[1, 3, 5]).assign_coords(member=range(3))
    )
    with pytest.raises(AttributeError):
        ensemble.runs = ()
    with pytest.raises(TypeError):
        ensemble[0] = ensemble[1]
    with pytest.raises(IndexError):
        ensemble[7]


def test_it_shows_how_its_members_ended():
    data = problem()[1]
    losses = fc.ensemble(nets(), data, **OPTIONS).history.loss[:, -1, 0]
    ensemble = fc.ensemble(nets(), data, **OPTIONS, loss_target=float(losses.median()))
    ended = sum(o.status == "reached_end" for o in ensemble.outcomes)
    assert 0 < ended < 7
    assert f"{ended} reached_end" in repr(ensemble)
    assert f"{7 - ended} loss_target" in repr(ensemble)
    assert repr(ensemble[:1]).startswith("Ensemble(1 run: 1 ")


def test_a_history_holds_those_of_all_members():
    data = problem()[1]
    test = problem(11, seed=5)[1]
    options = {
        **OPTIONS,
        "steps": 400,
        "loss_target": 0.45,
        "evaluate": {"test": test},
        "observe": ["loss", "norms", observables.alignment(np.eye(4)[:2], labels=["x", "y"])],
    }
    ensemble = fc.ensemble(nets(), data, **options)
    history = ensemble.history
    assert history.loss.dims == ("member", "time", "split")
    assert history.alignment.dims == ("member", "time", "direction", "sign", "statistic")
    assert history.member.values.tolist() == list(range(7))
    assert history.status.values.tolist() == [o.status for o in ensemble.outcomes]
    assert history.split.values.tolist() == ["train", "test"]
    assert history.direction.values.tolist() == ["x", "y"]
    steps = history.step.values
    assert steps.tolist() == sorted({int(k) for run in ensemble for k in run.history.step})
    np.testing.assert_array_equal(history.time, 0.2 * steps)
    assert history.time.attrs == ensemble[0].history.time.attrs
    for k, run in enumerate(ensemble):
        own = run.history
        rows = np.isin(steps, own.step)
        for name in own.data_vars:
            mine = history[name].sel(member=k)
            np.testing.assert_array_equal(mine.isel(time=rows), own[name])
            assert mine.isel(time=~rows).isnull().all()
    assert not rows.all()


def test_a_history_of_different_shapes_is_padded():
    shapes = [(30, 4, 9), (7, 4, 2)]
    pairs = [problem(*shape) for shape in shapes]
    observe = ["norms", "margins", observables.singular_values(3)]
    ensemble = fc.ensemble(*zip(*pairs, strict=True), **{**OPTIONS, "observe": observe})
    history = ensemble.history
    assert dict(history.sizes) == {"member": 2, "time": 13, "neuron": 9, "sample": 30, "rank": 3}
    assert history.norms.sel(member=1).isnull().sum() == 13 * 7
    np.testing.assert_array_equal(history.norms[1, :, :2], ensemble[1].history.norms)
    np.testing.assert_array_equal(history.margins[1, :, :7], ensemble[1].history.margins)


def test_a_history_keeps_dtypes_and_can_be_saved(tmp_path):
    import xarray as xr

    single = observables.custom(lambda net, data: np.float32(1.5), name="single")
    data = problem()[1]
    history = fc.ensemble(nets(3), data, **{**OPTIONS, "observe": ["loss", single]}).history
    assert history.single.dtype == np.float32
    assert history.loss.dtype == np.float64
    history.to_netcdf(tmp_path / "history.nc", engine="h5netcdf")
    again = xr.load_dataset(tmp_path / "history.nc", engine="h5netcdf")
    xr.testing.assert_equal(again, history)


def test_axes_that_differ_between_members_are_not_mixed_up():
    def odd(net, data):
        return 1.0 if data.n == 30 else np.ones(13)  # as many as there are rows

    pairs = [problem(), problem(7)]
    ensemble = fc.ensemble(*zip(*pairs, strict=True), **{**OPTIONS, "observe": [odd]})
    with pytest.raises(ValueError, match="'odd' has axes"):
        ensemble.history  # noqa: B018
    assert ensemble[1].history.odd.shape == (13, 13)


def test_members_can_be_saved(tmp_path):
    ensemble = fc.ensemble(nets(2), problem()[1], **OPTIONS)
    ensemble[1].save(tmp_path / "run.nc")
    assert same_run(fc.load(tmp_path / "run.nc"), ensemble[1])


def test_members_and_ensembles_continue_to_the_same_bits():
    data = problem()[1]
    half = fc.ensemble(nets(), data, **{**OPTIONS, "steps": 5})
    whole = fc.ensemble(nets(), data, **OPTIONS)
    record = fc.Recording.at_steps(range(13))
    on = half.continue_(7, num_threads=3, record=record)
    assert isinstance(on, fc.Ensemble)
    for k in range(7):
        assert same_net(on[k].net, whole[k].net)
        assert same_run(on[k], half[k].continue_(7, record=record))
    assert [run.state.step for run in half] == [5] * 7
    with pytest.raises(ValueError, match="member 0: observe"):
        half.continue_(7, observe=["norms"])


def test_an_ensemble_can_be_sent_to_another_process():
    ensemble = fc.ensemble(nets(3), problem()[1], **OPTIONS)
    again = pickle.loads(pickle.dumps(ensemble))
    assert same_runs(again, ensemble)
    for error in (fc.EnsembleInterrupted(ensemble), fc.EnsembleObserverError(ensemble, 1)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert same_runs(copy.ensemble, ensemble)


# --- errors of observables


def failing(member, at=3):
    """Observables a member: that of `member` raises at its row `at`; those after it take their time."""

    def make(k):
        calls = []

        def probe(net, data):
            calls.append(0)
            if k == member and len(calls) > at:
                raise ZeroDivisionError("on purpose")
            return float(len(calls))

        return ["loss", probe]

    return make


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_observer_that_raises_loses_nothing_of_any_member(threads):
    data = problem()[1]
    make = failing(2)
    options = {**OPTIONS, "observe": [make(k) for k in range(7)], "record": fc.Recording.every(1)}
    with pytest.raises(fc.EnsembleObserverError) as caught:
        fc.ensemble(nets(), data, num_threads=threads, **options)
    error = caught.value
    assert isinstance(error, fc.ObserverError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert error.member == 2
    assert str(error).startswith("member 2: observer_failed: ")
    assert error.run is error.ensemble[2]
    assert error.run.history.step.values.tolist() == [0, 1, 2]
    assert len(error.ensemble) == 7
    statuses = [outcome.status for outcome in error.ensemble.outcomes]
    assert statuses[2] == "observer_failed"
    assert set(statuses) <= {"reached_end", "observer_failed", "interrupted", "not_begun"}
    if threads == 1:
        assert statuses == ["reached_end"] * 2 + ["observer_failed"] + ["not_begun"] * 4
    # ... and goes on with an observable that does not raise.
    whole = fc.ensemble(nets(), data, **{**options, "observe": [failing(-1)(0)[:1]] * 7})
    on = error.ensemble.continue_(
        record=fc.Recording.every(1),
        observe=["loss", observables.custom(lambda net, data: 0.0, name="probe")],
    )
    assert all(map(same_net, on.nets, whole.nets))
    np.testing.assert_array_equal(on.history.loss, whole.history.loss)


def test_members_not_begun_stand_at_their_start():
    data = problem()[1]
    make = failing(0)
    with pytest.raises(fc.EnsembleObserverError) as caught:
        fc.ensemble(
            nets(3), data, num_threads=1, **{**OPTIONS, "observe": [make(k) for k in range(3)]}
        )
    last = caught.value.ensemble[2]
    assert last.outcome.status == "not_begun"
    assert "continue_" in last.outcome.message
    assert last.outcome.counts["steps"] == last.state.step == 0
    assert same_net(last.net, nets(3)[2])
    assert last.history.step.values.tolist() == [0]
    alone = fc.descend(nets(3)[2], data, **OPTIONS)
    assert same_net(last.continue_().net, alone.net)
    np.testing.assert_array_equal(last.continue_().history.loss, alone.history.loss)
    assert caught.value.ensemble.history.step.values.tolist()[0] == 0


def test_a_member_not_begun_can_be_saved_and_continued(tmp_path):
    data = problem()[1]
    make = failing(0)
    observe = [[*make(k)[1:], "loss"] for k in range(2)]
    with pytest.raises(fc.EnsembleObserverError) as caught:
        fc.ensemble(nets(2), data, num_threads=1, **{**OPTIONS, "observe": observe})
    caught.value.ensemble[1].save(tmp_path / "run.nc")
    again = fc.load(tmp_path / "run.nc")
    assert again.outcome.status == "not_begun"
    probe = observables.custom(lambda net, data: 0.0, name="probe")
    on = again.continue_(data=data, observe=[probe, "loss"])
    assert same_net(on.net, fc.descend(nets(2)[1], data, **OPTIONS).net)


def test_what_continues_fails_as_an_ensemble_too():
    data = problem()[1]
    half = fc.ensemble(nets(3), data, **{**OPTIONS, "steps": 5})

    def bad(net, data):
        raise ValueError("on purpose")

    before = half[2].history
    with pytest.raises(fc.EnsembleObserverError) as caught:
        half.continue_(
            5,
            num_threads=1,
            observe=["loss", "norms", observables.custom(bad, name="stable_rank")],
        )
    assert caught.value.member == 0
    assert caught.value.ensemble[2] is half[2]
    assert same_history(half[2].history, before)


@pytest.mark.parametrize("exception", [SystemExit, GeneratorExit])
def test_what_is_no_error_of_an_observer_comes_through_with_the_ensemble(exception):
    def leave(net, data):
        raise exception

    with pytest.raises(exception) as caught:
        fc.ensemble(nets(3), problem()[1], num_threads=1, **{**OPTIONS, "observe": [leave]})
    assert [o.status for o in caught.value.run.outcomes] == ["interrupted", *["not_begun"] * 2]
    assert caught.value.__notes__ == ["in member 0 of an ensemble"]


@pytest.mark.parametrize("how", ["raise", "return"])
def test_an_observer_may_interrupt_the_ensemble(how):
    calls = []

    def stop(net, data):
        calls.append(0)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return 0.0

    options = {**OPTIONS, "observe": ["loss", stop], "on_interrupt": how, "num_threads": 1}
    if how == "raise":
        with pytest.raises(fc.Interrupted) as caught:
            fc.ensemble(nets(4), problem()[1], **options)
        assert type(caught.value) is fc.EnsembleInterrupted
        assert caught.value.run is caught.value.ensemble
        ensemble = caught.value.ensemble
    else:
        ensemble = fc.ensemble(nets(4), problem()[1], **options)
    assert [o.status for o in ensemble.outcomes] == [
        "reached_end",
        "interrupted",
        "not_begun",
        "not_begun",
    ]
    assert ensemble.history.sizes["member"] == 4


def test_an_error_of_the_core_names_its_member(monkeypatch):
    from featcore.dynamics import descent

    calls = []

    def short():
        calls.append(0)
        if len(calls) == 2:
            raise MemoryError("out of it")
        return 2.0**40

    monkeypatch.setattr(descent, "free_memory", short)
    with pytest.raises(MemoryError) as caught:
        fc.ensemble(nets(3), problem()[1], num_threads=1, **OPTIONS)
    assert caught.value.__notes__ == ["in member 1 of an ensemble"]
    statuses = [outcome.status for outcome in caught.value.run.outcomes]
    assert statuses == ["reached_end", "not_begun", "not_begun"]


# --- threads and processes


def test_only_so_many_members_are_under_way_at_a_time():
    lock, under_way, most = threading.Lock(), [], []

    def make(k):
        def probe(net, data):
            with lock:
                under_way.append(k)
                most.append(len(set(under_way)))
            time.sleep(0.002)
            with lock:
                under_way.remove(k)
            return 0.0

        return [probe]

    observe = [make(k) for k in range(7)]
    fc.ensemble(nets(), problem()[1], num_threads=2, **{**OPTIONS, "observe": observe})
    assert max(most) == 2


def test_threads_are_gone_afterwards():
    before = threading.active_count()
    fc.ensemble(nets(), problem()[1], num_threads=3, **OPTIONS)
    assert threading.active_count() == before


def test_ensembles_from_several_threads_at_once():
    data = problem()[1]
    expected = fc.ensemble(nets(), data, **OPTIONS)
    found = [None] * 4

    def work(k):
        found[k] = fc.ensemble(nets(), data, num_threads=k + 1, **OPTIONS)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(same_runs(one, expected) for one in found)


def test_an_ensemble_within_an_ensemble():
    data = problem()[1]
    inner = []

    def nest(net, data):
        inner.append(
            fc.ensemble([net] * 3, data, num_threads=2, **{**OPTIONS, "observe": ["loss"]})
        )
        return float(inner[-1].history.loss[0, -1, 0])

    options = {**OPTIONS, "observe": [nest], "record": fc.Recording.at_steps([])}
    ensemble = fc.ensemble(nets(3), data, num_threads=2, **options)
    assert len(inner) == 6
    assert np.isfinite(ensemble.history.nest).all()


def _in_a_child(connection):
    data = problem()[1]
    connection.send(fc.ensemble(nets(), data, num_threads=2, **OPTIONS))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_ensemble_in_a_forked_child():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    expected = fc.ensemble(nets(), problem()[1], num_threads=2, **OPTIONS)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(there,))
    child.start()
    assert here.poll(30), "the child hangs"
    assert same_runs(here.recv(), expected)
    child.join(30)
    assert child.exitcode == 0


def test_one_bar_for_all_members(monkeypatch, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    data = problem()[1]
    fc.ensemble(nets(), data, progress=True, **{**OPTIONS, "loss_target": 0.6, "steps": 100})
    shown = capsys.readouterr().err
    assert "700/700" in shown
    assert shown.count("\n") == 1
    fc.ensemble(nets(2), data, progress=False, **OPTIONS)
    assert capsys.readouterr().err == ""


def test_a_system_that_gives_no_thread_is_told_of_with_the_members_as_they_are(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    net = fc.TwoLayerNet.gaussian(5, 3, 0.1, seed=0)
    data = fc.Dataset(np.eye(3), [1.0, -1.0, 1.0])
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="new thread") as caught:
        fc.ensemble([net, net], data, step_size=0.1, steps=2)
    assert [run.outcome.status for run in caught.value.run] == ["not_begun", "not_begun"]
