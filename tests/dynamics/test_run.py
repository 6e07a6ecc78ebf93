"""What a run holds: history, outcome, network; custom observables; errors that lose nothing."""

import pickle

import numpy as np
import pytest
import xarray as xr
from _runs import NATIVE, PATTERNS, problem, same_history, same_net, same_run

import featcore as fc
from featcore import observables


def descend(net, data, **options):
    return fc.descend(net, data, **{"step_size": 0.2, "steps": 6, **options})


# --- dimensions and coordinates


DIMS = {
    "loss": ("time", "split"),
    "log_loss": ("time", "split"),
    "objective": ("time",),
    "accuracy": ("time", "split"),
    "clean_accuracy": ("time", "split"),
    "margin": ("time", "split"),
    "normalised_margin": ("time", "split"),
    "smoothed_margin": ("time", "split"),
    "margins": ("time", "sample"),
    "norms": ("time", "neuron"),
    "log_norms": ("time", "neuron"),
    "head": ("time", "neuron"),
    "patterns": ("time", "split"),
    "dead": ("time", "split"),
    "stable_rank": ("time",),
    "balance_drift": ("time",),
    "weights": ("time", "neuron", "dim"),
    "cosines": ("time", "neuron", "direction"),
    "alignment": ("time", "direction", "sign", "statistic"),
    "singular_values": ("time", "rank"),
}


def test_every_name_is_in_the_table_above():
    with_arguments = {"cosines", "alignment", "singular_values"}
    assert set(observables.names()) | with_arguments == set(DIMS)


def test_the_history_has_the_documented_axes():
    net, data = problem()
    data = fc.Dataset(data.x, data.y, clean_y=data.y)
    directions = np.eye(4)[:3]
    observe = [
        *observables.names(),
        observables.cosines(directions, labels=["x", "y", "z"]),
        observables.alignment(directions, labels=["x", "y", "z"]),
        observables.singular_values(2),
    ]
    history = descend(net, data, observe=observe, evaluate={"again": data}).history
    assert isinstance(history, xr.Dataset)
    assert {name: history[name].dims for name in history.data_vars} == DIMS
    assert dict(history.sizes) == {
        "time": 7,
        "split": 2,
        "neuron": 9,
        "sample": 30,
        "dim": 4,
        "direction": 3,
        "sign": 2,
        "statistic": 4,
        "rank": 2,
    }
    assert history.split.values.tolist() == ["train", "again"]
    assert history.direction.values.tolist() == ["x", "y", "z"]
    assert history.sign.values.tolist() == ["+", "-"]
    assert history.statistic.values.tolist() == ["mean", "min", "max", "mean_neuron"]
    assert history.step.dims == ("time",)
    assert history.step.dtype == np.int64
    assert history.attrs["status"] == "reached_end"
    assert history.alignment.sel(direction="y", sign="-", statistic="max").shape == (7,)


def test_every_row_is_what_evaluate_says_of_that_network():
    net, data = problem(70, 4, 9)
    directions = np.random.default_rng(0).standard_normal((3, 4))
    observe = [
        *(name for name in (*NATIVE, *PATTERNS) if name != "balance_drift"),
        observables.cosines(directions, absolute=True),
        observables.alignment(directions),
        observables.singular_values(3),
    ]
    history = descend(
        net, data, observe=["weights", *observe], record=fc.Recording.every(1)
    ).history
    head = history["head"].values
    for row in range(7):
        now = fc.TwoLayerNet(history["weights"].values[row], head[row])
        for o in map(observables.get, observe):
            recorded = history[o.name][row]
            recorded = recorded.isel(split=0) if o.per_split else recorded
            np.testing.assert_array_equal(recorded, observables.evaluate(o, now, data))


def test_nothing_need_be_observed():
    net, data = problem()
    run = descend(net, data, observe=[])
    assert list(run.history.data_vars) == []
    assert run.history.sizes["time"] == 7


def test_two_sets_of_directions_live_on_two_axes():
    net, data = problem()
    one = observables.cosines(np.eye(4))
    two = observables.cosines(np.eye(4)[:2], name="others", dim="other")
    history = descend(net, data, observe=[one, two]).history
    assert history.cosines.dims == ("time", "neuron", "direction")
    assert history.others.dims == ("time", "neuron", "other")
    np.testing.assert_array_equal(history.others, history.cosines[..., :2])


# --- custom observables


def test_a_callable_is_called_with_the_network_of_each_row():
    net, data = problem()
    seen = []

    def largest(now, train):
        assert isinstance(now, fc.TwoLayerNet)
        assert train is data
        seen.append(now)
        return np.abs(now.a).max()

    run = descend(net, data, observe=[largest, "weights"])
    assert run.history.largest.dims == ("time",)
    assert len(seen) == 7
    for now, W in zip(seen, run.history["weights"].values, strict=True):
        np.testing.assert_array_equal(now.W, W)
    np.testing.assert_array_equal(run.history.largest, [np.abs(n.a).max() for n in seen])
    assert same_net(seen[0], net)
    assert same_net(seen[-1], run.net)


def test_axes_of_a_callable_are_named_or_numbered():
    net, data = problem()
    outer = observables.custom(lambda net, data: np.outer(net.a, net.a), name="outer")
    named = observables.custom(
        lambda net, data: net.W[:2], name="first", dims=("which", "coordinate")
    )
    history = descend(net, data, observe=[outer, named]).history
    assert history.outer.dims == ("time", "outer_0", "outer_1")
    assert history.first.dims == ("time", "which", "coordinate")
    assert history.outer.shape == (7, 9, 9)


def test_a_callable_may_see_every_split():
    net, data = problem()
    test = problem(11, seed=3)[1]
    mean = observables.custom(lambda net, data: net(data.x).mean(), name="mean_f", per_split=True)
    sizes = observables.custom(
        lambda net, data: [data.n, data.d], name="shape", per_split=True, dims=("axis",)
    )
    run = descend(net, data, observe=[mean, sizes], evaluate={"test": test})
    assert run.history.mean_f.dims == ("time", "split")
    assert float(run.history.mean_f.sel(split="test")[-1]) == run.net(test.x).mean()
    assert run.history["shape"].dims == ("time", "split", "axis")
    assert run.history["shape"].sel(split="test")[0].values.tolist() == [11, 4]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, np.float64),
        (True, np.float64),
        (1.5, np.float64),
        (np.float32(1.5), np.float32),
        ([1, 2], np.float64),
        (np.nan, np.float64),
        (np.zeros((0, 2)), np.float64),
    ],
)
def test_real_numbers_of_any_kind_are_recorded(value, dtype):
    net, data = problem()
    run = descend(net, data, observe=[observables.custom(lambda net, data: value, name="value")])
    assert run.history["value"].dtype == dtype
    np.testing.assert_array_equal(run.history["value"][0], np.asarray(value, dtype=dtype))


@pytest.mark.parametrize("value", ["text", None, 1j, object(), [[1], [2, 3]]])
def test_other_things_are_not_recorded(value):
    net, data = problem()
    with pytest.raises(fc.ObserverError) as caught:
        descend(net, data, observe=[observables.custom(lambda net, data: value, name="value")])
    assert isinstance(caught.value.__cause__, (TypeError, ValueError))


def test_a_shape_that_changes_is_an_error_at_that_row():
    net, data = problem()
    calls = []

    def growing(net, data):
        calls.append(0)
        return np.zeros(1 + (len(calls) > 3))

    with pytest.raises(fc.ObserverError) as caught:
        descend(net, data, observe=["loss", growing])
    assert "shape" in str(caught.value.__cause__)
    assert "growing" in str(caught.value.__cause__)
    assert caught.value.run.history.step.values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "dims", [("neuron",), ("neuron", "dim"), ("p", "q", "r"), ("sample", "dim")]
)
def test_axes_that_do_not_fit_fail_at_the_start_and_not_at_the_end(dims):
    net, data = problem()
    wrong = observables.custom(lambda net, data: net.W[:2], name="wrong", dims=dims)
    with pytest.raises(fc.ObserverError) as caught:
        descend(net, data, observe=["norms", "margins", wrong])
    assert "wrong" in str(caught.value.__cause__)
    assert caught.value.run.state.step == 0


def test_axes_that_fit_are_shared():
    net, data = problem()
    twice = observables.custom(lambda net, data: 2 * net.a, name="twice", dims=("neuron",))
    history = descend(net, data, observe=["head", twice]).history
    assert history.sizes["neuron"] == 9
    np.testing.assert_array_equal(history.twice, 2 * history["head"])


# --- names that clash


@pytest.mark.parametrize(
    "observe",
    [
        ["loss", "loss"],
        ["loss", observables.custom(lambda net, data: 0.0, name="loss")],
        [observables.custom(lambda net, data: 0.0, name="time")],
        [observables.custom(lambda net, data: 0.0, name="step")],
        [observables.custom(lambda net, data: 0.0, name="split")],
        [observables.custom(lambda net, data: 0.0, name="neuron")],
        [observables.singular_values(2, name="rank")],
        [observables.singular_values(2), observables.singular_values(3)],
        [observables.singular_values(2), observables.singular_values(3, name="other")],
        [observables.cosines(np.eye(4)), observables.cosines(-np.eye(4), name="other")],
        [observables.cosines(np.eye(4)), observables.alignment(np.eye(4)[:2])],
        [
            observables.cosines(np.eye(4), labels=list("abcd")),
            observables.alignment(np.eye(4), labels=list("efgh")),
        ],
        [observables.cosines(np.eye(4), dim="here"), observables.singular_values(1, name="here")],
    ],
)
def test_clashing_names_are_refused_before_the_run(observe):
    net, data = problem()
    with pytest.raises(ValueError, match="name") as caught:
        descend(net, data, observe=observe)
    assert not isinstance(caught.value, fc.ObserverError)


@pytest.mark.parametrize(
    "dim", ["time", "split", "neuron", "sign", "statistic", "sample", "", "a b"]
)
def test_an_axis_of_directions_has_a_name_of_its_own(dim):
    with pytest.raises(ValueError, match="dim"):
        observables.cosines(np.eye(4), dim=dim)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "1st", 5])
def test_a_name_is_an_identifier(name):
    for make in (
        lambda: observables.cosines(np.eye(4), name=name),
        lambda: observables.singular_values(1, name=name),
        lambda: observables.custom(lambda net, data: 0.0, name=name),
    ):
        with pytest.raises(ValueError, match="name="):
            make()


@pytest.mark.parametrize("dims", [("time",), ("split",), ("a", "a"), ("a/b",), ("",)])
def test_names_of_a_callables_axes_are_checked_at_once(dims):
    with pytest.raises(ValueError, match="dims"):
        observables.custom(lambda net, data: 0.0, name="x", dims=dims)


# --- errors of observables


def test_an_observer_that_raises_loses_nothing():
    net, data = problem()

    def late(now, data):
        if not same_net(now, net):
            raise ZeroDivisionError("on purpose")
        return 1.0

    options = {"steps": 50, "observe": ["loss", late], "record": fc.Recording.every(20)}
    with pytest.raises(fc.ObserverError) as caught:
        descend(net, data, **options)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    run = error.run
    assert run.outcome.status == "observer_failed"
    assert run.state.step == 20
    assert run.outcome.counts["steps"] == 20
    assert same_net(run.net, descend(net, data, steps=20).net)
    assert run.history.step.values.tolist() == [0]
    assert run.history.late.values.tolist() == [1.0]
    whole = descend(net, data, **{**options, "observe": ["loss"]})
    np.testing.assert_array_equal(run.history.loss, whole.history.loss[:1])


def test_an_observer_that_raises_at_once_still_gives_a_run(tmp_path):
    net, data = problem()

    def bad(net, data):
        raise ValueError("on purpose")

    with pytest.raises(fc.ObserverError) as caught:
        descend(net, data, observe=["loss", bad])
    run = caught.value.run
    assert same_net(run.net, net)
    assert run.history.sizes["time"] == 0
    run.save(tmp_path / "run.nc")
    assert fc.load(tmp_path / "run.nc").outcome.status == "observer_failed"


def test_errors_travel_between_processes():
    net, data = problem()

    def bad(net, data):
        raise ValueError("on purpose")

    run = descend(net, data)
    for error in (fc.ObserverError(run), fc.Interrupted(run)):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert same_run(copy.run, run)


# --- the rest


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_networks_data_and_runs_can_be_sent_to_a_worker(protocol):
    net, data = problem(activation=fc.LeakyReLU(0.3))
    run = descend(net, data, observe=["loss", "weights"])

    def copy(value):
        return pickle.loads(pickle.dumps(value, protocol))

    scaled = fc.TwoLayerNet(net.W, net.a, net.activation, log_scale=-3.0)
    for one in (net, scaled):
        again = copy(one)
        assert again.sha256() == one.sha256()
        assert same_net(again, one)
        assert not again.W.flags.writeable
    rich = fc.Dataset(
        data.x,
        data.y,
        clean_y=-data.y,
        flipped=np.ones(data.n, bool),
        means=np.eye(4),
        weights=np.arange(data.n),
        provenance={"seed": 3},
    )
    again = copy(rich)
    assert again.sha256() == rich.sha256()
    assert dict(again.provenance) == {"seed": 3}
    for name in ("x", "y", "clean_y", "flipped", "means", "weights"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rich, name))
        assert not getattr(again, name).flags.writeable
    assert same_run(copy(run), run)
    assert same_run(copy(run).continue_(3), run.continue_(3))


def test_the_outcome_says_how_the_bits_came_about():
    net, data = problem()
    run = descend(net, data, num_threads=1)
    info = fc.build_info()
    assert run.outcome.form == "primal"
    assert run.outcome.isa == info["isa"]
    assert run.outcome.version == info["version"] == fc.__version__
    assert run.outcome.dtype == "float64"
    assert run.outcome.num_threads == 1
    assert run.outcome.seconds > 0
    assert str(run.outcome).startswith("reached_end: ")
    assert run.events is None


def test_the_settings_are_what_was_asked_for_in_plain_values():
    import json

    net, data = problem()
    run = descend(
        net,
        data,
        loss=fc.losses.get("hinge"),
        step_size=np.float32(0.25),
        steps=np.int32(7),
        train=("a",),
        layer_rates={"a": 2},
        reduction="sum",
        weight_decay=1,
        output_penalty=0.5,
        evaluate={"test": data},
    )
    assert dict(run.settings) == {
        "dynamics": "descend",
        "loss": "hinge",
        "reduction": "sum",
        "weight_decay": 1.0,
        "output_penalty": 0.5,
        "step_size": 0.25,
        "steps": 7,
        "batch_size": 0,
        "batch_key": 0,
        "rate_W": 0.0,
        "rate_a": 2.0,
        "splits": ["train", "test"],
        "data_sha256": [data.sha256()] * 2,
        "net_sha256": net.sha256(),
        "provenance": [{}, {}],
    }
    assert json.loads(json.dumps(dict(run.settings))) == dict(run.settings)


def test_a_run_shows_what_matters():
    net, data = problem()
    assert repr(descend(net, data)) == (
        "Run(reached_end, t=1.2, TwoLayerNet(width=9, dim=4, ReLU(), float64))"
    )


def test_changing_a_history_does_not_change_the_run():
    net, data = problem()
    run = descend(net, data)
    before = run.history.copy(deep=True)
    extra = run.history
    extra["more"] = extra.loss * 2
    assert same_history(run.history, before)
