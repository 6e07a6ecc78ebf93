"""When a run is recorded."""

import math

import numpy as np
import pytest
from _runs import problem
from hypothesis import given
from hypothesis import strategies as st

import featcore as fc
from featcore import Recording

ends = st.one_of(st.integers(0, 50), st.integers(0, 10**7))
step_sizes = st.floats(1e-6, 10.0)
schedules = st.one_of(
    st.builds(Recording.log, st.integers(1, 40)),
    st.builds(Recording.linear, st.integers(1, 200)),
    st.builds(Recording.every, st.integers(10**4, 10**8)),
    st.builds(Recording.at, st.lists(st.floats(0, 1e6), max_size=20)),
    st.builds(Recording.at_steps, st.lists(st.integers(0, 10**8), max_size=20)),
)


@given(schedule=schedules, step_size=step_sizes, last=ends)
def test_every_schedule_increases_from_the_start_to_the_end(schedule, step_size, last):
    steps = schedule.steps(step_size, last)
    assert steps.dtype == np.int64
    assert steps[0] == 0
    assert steps[-1] == last
    assert (np.diff(steps) > 0).all()


@given(per_decade=st.integers(1, 30), last=st.integers(1, 10**9))
def test_log_has_its_points_a_decade_each_rounded_to_a_step(per_decade, last):
    inner = Recording.log(per_decade).steps(0.1, last)[1:-1]
    exponents = np.arange(per_decade * 10) / per_decade
    expected = np.unique(np.rint(10.0**exponents))
    np.testing.assert_array_equal(inner, expected[expected < last])


@given(per_decade=st.integers(1, 30), ends=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)))
def test_log_of_a_longer_run_contains_that_of_a_shorter_one(per_decade, ends):
    short, long = (Recording.log(per_decade).steps(1.0, end) for end in sorted(ends))
    assert set(short[:-1]) <= set(long)


def test_log_rows_do_not_grow_with_the_steps():
    assert len(Recording.log(20).steps(1.0, 2**62)) <= 2 + 20 * math.log10(2**62) + 1
    assert len(Recording.linear(10).steps(1e-9, 2**62)) == 11
    assert len(Recording.every(2**60).steps(1.0, 2**62)) == 5


@given(count=st.integers(1, 300), last=ends)
def test_linear_is_even(count, last):
    steps = Recording.linear(count).steps(1.0, last)
    assert len(steps) == min(count, last) + 1
    gaps = np.diff(steps)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@given(each=st.integers(1, 50), last=st.integers(0, 500))
def test_every_counts(each, last):
    steps = Recording.every(each).steps(0.1, last)
    assert steps.tolist() == sorted({*range(0, last + 1, each), last})


@given(step_size=step_sizes, last=st.integers(0, 1000), data=st.data())
def test_times_are_rounded_to_the_nearest_step(step_size, last, data):
    time = data.draw(st.floats(0, last * step_size))
    chosen = Recording.at([time]).steps(step_size, last)
    nearest = np.abs(chosen * step_size - time).min()
    assert nearest <= step_size * (0.5 + 1e-9)


def test_times_that_round_to_one_step_are_recorded_once():
    assert Recording.at([0.29, 0.3, 0.31, 0.1, 0.0]).steps(0.1, 5).tolist() == [0, 1, 3, 5]
    assert Recording.at_steps([4, 4, 2, 0]).steps(0.1, 5).tolist() == [0, 2, 4, 5]


def test_what_lies_beyond_the_end_is_dropped():
    assert Recording.at([0.2, 77.0, 1e308]).steps(1e-1, 5).tolist() == [0, 2, 5]
    assert Recording.at([1e308]).steps(1e-3, 5).tolist() == [0, 5]
    assert Recording.at_steps([3, 77, 2**70]).steps(0.1, 5).tolist() == [0, 3, 5]
    assert Recording.at([]).steps(0.1, 5).tolist() == [0, 5]


def test_large_steps_are_exact():
    odd = 2**53 + 1  # not a float
    assert Recording.at_steps([odd]).steps(1.0, 2**62).tolist() == [0, odd, 2**62]


def test_any_collection_of_steps_or_times_will_do():
    expected = [0, 2, 4, 9]
    for steps in ([2, 4], (4, 2), np.array([2, 4]), range(2, 5, 2), {2, 4}, iter([2, 4])):
        assert Recording.at_steps(steps).steps(1.0, 9).tolist() == expected
    for times in ([2, 4], np.array([2.0, 4.0], dtype=np.float32), np.arange(2.0, 6.0)[::2]):
        assert Recording.at(times).steps(1.0, 9).tolist() == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Recording.log(0), ValueError, "per_decade=0"),
        (lambda: Recording.log(2.5), TypeError, "per_decade"),
        (lambda: Recording.log(True), TypeError, "per_decade"),
        (lambda: Recording.linear(-1), ValueError, "count=-1"),
        (lambda: Recording.linear("9"), TypeError, "count"),
        (lambda: Recording.every(0), ValueError, "steps=0"),
        (lambda: Recording.every(1.0), TypeError, "steps"),
        (lambda: Recording.at([0.0, -1.0]), ValueError, "times has -1"),
        (lambda: Recording.at([np.nan]), ValueError, "times"),
        (lambda: Recording.at([np.inf]), ValueError, "times"),
        (lambda: Recording.at(1.0), ValueError, "times"),
        (lambda: Recording.at(["a"]), TypeError, "times"),
        (lambda: Recording.at([1j]), TypeError, "times"),
        (lambda: Recording.at_steps([1, -2]), ValueError, "steps=-2"),
        (lambda: Recording.at_steps([1.0]), TypeError, "steps"),
        (lambda: Recording.at_steps([True]), TypeError, "steps"),
        (lambda: Recording.at_steps(3), TypeError, "steps"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        Recording.log(3),
        Recording.linear(4),
        Recording.every(7),
        Recording.at([0.26, 0.34, 1.0, 99.0]),
        Recording.at_steps([1, 5, 5, 400]),
    ],
    ids=lambda schedule: schedule.kind,
)
def test_a_run_is_recorded_as_scheduled(schedule):
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=23, record=schedule)
    assert run.history.step.values.tolist() == schedule.steps(0.1, 23).tolist()
    assert run.outcome.counts["records"] == run.history.sizes["time"]


def test_the_default_is_log_20():
    net, data = problem()
    run = fc.descend(net, data, step_size=0.1, steps=300)
    assert run.history.step.values.tolist() == Recording.log(20).steps(0.1, 300).tolist()


def test_rows_are_the_same_whatever_else_is_recorded():
    net, data = problem()
    options = {"step_size": 0.3, "steps": 30, "observe": ["loss", "norms", "margins"]}
    every = fc.descend(net, data, record=Recording.every(1), **options).history
    few = fc.descend(net, data, record=Recording.at_steps([3, 29]), **options).history
    assert few.identical(every.isel(time=[0, 3, 29, 30]))


def test_memory_does_not_grow_with_the_steps():
    net, data = problem()
    short, long = (
        fc.descend(net, data, step_size=1e-9, steps=steps, wall_time=0.0, observe=["norms"])
        for steps in (10**3, 10**18)
    )
    assert long.history.sizes["time"] == short.history.sizes["time"] == 1
    assert long.rows.columns["norms"].base.nbytes < 400 * 8 * net.width


def test_an_unplanned_stop_has_room_for_its_row():
    net, data = problem(loss="squared", seed=2)
    run = fc.descend(
        net, data, "squared", step_size=50.0, steps=10**6, record=Recording.at_steps([])
    )
    assert run.outcome.status == "non_finite"
    assert run.history.step.values.tolist() == [0, run.state.step]
