"""The raw extension module under attack: every call raises or works, none may crash."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from featcore._dispatch import core

N, D, M = 5, 3, 4
REFUSED = (TypeError, ValueError, RuntimeError, IndexError, MemoryError, OverflowError)


def arguments(dtype=np.float64):
    """Return good keyword arguments of the functions."""
    rng = np.random.default_rng(0)
    W, a = rng.standard_normal((M, D)).astype(dtype), np.ones(M, dtype)
    x, y = rng.standard_normal((N, D)).astype(dtype), np.ones(N, dtype)
    net = {"W": W, "a": a, "activation": ("relu", 0.0, 0.0, ())}
    split = (x, y, None, None)
    run = {
        "splits": [split],
        "objective": ("logistic", True, 0.0, 0.0),
        "balance": np.zeros(M),
        "options": (0.1, 0, 3, 1.0, 1.0, -np.inf, -np.inf, np.inf),
        "schedule": np.array([0, 3]),
        "columns": [("loss", None, 0, False, [0], np.zeros((3, 1)))],
        "steps": np.zeros(3, np.int64),
        "on_row": None,
        "progress": None,
        "num_threads": 2,
    }
    return {
        "outputs": {**net, "x": x, "num_threads": 2},
        "features": {**net, "x": x, "num_threads": 2},
        "one_step": {**net, "split": split, "full": True, "step_size": 0.1, "num_threads": 2},
        "loss_and_grad": {
            **net,
            "split": split,
            "loss": "logistic",
            "mean": True,
            "weight_decay": 0.0,
            "output_penalty": 0.0,
            "num_threads": 2,
        },
        "descend": {**net, **run},
    }


FUNCTIONS = tuple(arguments())


def assert_refused(what, call, kwargs):
    try:
        call(**kwargs)
    except REFUSED:
        return
    pytest.fail(what)


def run(code):
    """Run `code` in a process of its own, which may crash or hang."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_good_arguments_work(function, dtype):
    result = getattr(core, function)(**arguments(dtype)[function])
    if function == "descend":
        assert result[:4] == ("reached_end", 3, 2, "primal")


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def bad_arrays(good):
    """Return what must not be taken for `good`."""
    other = np.float32 if good.dtype == np.float64 else np.float64
    wrong = [
        None,
        3.0,
        "text",
        good.tolist(),
        good.astype(other),
        good.astype(np.int32),
        good.astype(complex),
        good.astype(object),
        good.astype(good.dtype.newbyteorder()),
        good[:0],
        good[:-1],
        np.concatenate([good, good]),
        good[None],
        good.ravel()[0],
        np.repeat(good, 2, axis=-1)[..., ::2],
        good[::-1],
    ]
    if good.ndim == 2:
        wrong += [np.asfortranarray(good), good[:, :-1], good[:, :0], good.ravel()]
    return wrong


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["W", "a", "x", "balance", "schedule", "steps"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_wrong_arrays_are_refused(function, name, dtype):
    good = arguments(dtype)[function]
    if name not in good:
        return
    call = getattr(core, function)
    for k, value in enumerate(bad_arrays(good[name])):
        # Any number of samples or neurons may be asked for, if the shapes agree with the rest.
        fits = (
            isinstance(value, np.ndarray)
            and value.dtype == good[name].dtype
            and value.flags.c_contiguous
            and value.ndim == good[name].ndim
        )
        if name == "x" and fits and value.shape[1] == D:
            continue
        assert_refused(f"{name} took bad array {k}: {value!r}", call, {**good, name: value})


@pytest.mark.parametrize("function", ["loss_and_grad", "descend"])
def test_wrong_splits_are_refused(function):
    good = arguments()[function]
    x, y = (good["split"] if "split" in good else good["splits"][0])[:2]
    wrong = [None, (), (x,), (x, y), (x, y, None), (x, y, None, None, None), x, "xy", 3]
    wrong += [(v, y, None, None) for v in bad_arrays(x)]
    wrong += [(x, v, None, None) for v in bad_arrays(y)]
    wrong += [(x, y, v, None) for v in bad_arrays(y) if v is not None]
    wrong += [(x, y, None, v) for v in bad_arrays(y) if v is not None]
    wrong += [
        (x, y, None, np.zeros(N)),
        (x, y, None, -np.ones(N)),
        (x, y, None, np.full(N, np.nan)),
    ]
    for k, split in enumerate(wrong):
        change = {"split": split} if "split" in good else {"splits": [split]}
        assert_refused(
            f"took bad split {k}: {split!r}", getattr(core, function), {**good, **change}
        )


@pytest.mark.parametrize(
    ("function", "name", "values"),
    [
        (
            "outputs",
            "activation",
            (
                None,
                "relu",
                (),
                ("relu", 0.0),
                *((name, 0.0, 0.0, ()) for name in (None, "", "ReLU", "relu\0", 3, "hermite")),
                *(("relu", slope, 0.0, ()) for slope in (None, "0", [], np.nan)),
                *(("tanh", 0.0, offset, ()) for offset in (None, "0", np.inf)),
                *(("hermite", 0.0, 0.0, c) for c in (None, 1.0, (None,), (np.nan,), ("1",))),
            ),
        ),
        ("one_step", "step_size", (None, "0")),
        ("one_step", "full", ("full",)),
        ("outputs", "num_threads", (None, 1.5, "2", 2**40)),
        ("loss_and_grad", "loss", (None, "", "Hinge", 3)),
        ("loss_and_grad", "mean", ("mean",)),
        ("loss_and_grad", "weight_decay", (None, "0")),
        ("descend", "splits", (None, [], (), [None])),
        (
            "descend",
            "objective",
            (None, (), ("logistic",), ("logistic", True, 0.0), ("x", 1, 0.0, 0.0)),
        ),
        (
            "descend",
            "options",
            (
                None,
                (),
                (0.1, 0, 3),
                (-0.1, 0, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (0.0, 0, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (np.nan, 0, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (np.inf, 0, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (0.1, -1, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (0.1, 4, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (0.1, 0, -3, 1.0, 1.0, 0.0, 0.0, 1.0),
                (0.1, 0, 2**70, 1.0, 1.0, 0.0, 0.0, 1.0),
                ("0.1", 0, 3, 1.0, 1.0, 0.0, 0.0, 1.0),
            ),
        ),
    ],
)
def test_wrong_scalars_are_refused(function, name, values):
    good = arguments()[function]
    for value in values:
        assert_refused(f"{name} took {value!r}", getattr(core, function), {**good, name: value})


OUT = np.zeros((3, 1))


@pytest.mark.parametrize(
    "column",
    [
        None,
        (),
        ("loss",),
        ("loss", None, 0, False, [0]),
        ("nonsense", None, 0, False, [0], OUT),
        (None, None, 0, False, [0], OUT),
        ("loss", None, 0, False, [], OUT),
        ("loss", None, 0, False, [1], OUT),
        ("loss", None, 0, False, [-1], OUT),
        ("loss", None, 0, False, None, OUT),
        ("loss", None, 0, False, [0], None),
        ("loss", None, 0, False, [0], OUT[:2]),
        ("loss", None, 0, False, [0], np.zeros((4, 1))),
        ("loss", None, 0, False, [0], OUT.astype(np.float32)),
        ("loss", None, 0, False, [0], np.zeros((6, 1))[::2]),
        ("loss", None, 0, False, [0], read_only(OUT)),
        ("margins", None, 0, False, [0], OUT),
        ("margins", None, 0, False, [0], np.zeros((3, N + 1))),
        ("norms", None, 0, False, [0], np.zeros((3, N))),
        ("clean_accuracy", None, 0, False, [0], OUT),
        ("cosines", None, 0, False, [0], np.zeros((3, M))),
        ("cosines", np.zeros((0, D)), 0, False, [0], np.zeros((3, 0))),
        ("cosines", np.ones((1, D + 1)), 0, False, [0], np.zeros((3, M))),
        ("cosines", np.ones(D), 0, False, [0], np.zeros((3, M))),
        ("cosines", np.ones((1, D), np.float32), 0, False, [0], np.zeros((3, M))),
        ("cosines", np.ones((D, 2)).T, 0, False, [0], np.zeros((3, 2 * M))),
        ("alignment", np.ones((1, D)), 0, False, [0], np.zeros((3, 4))),
        ("singular_values", None, 0, False, [0], np.zeros((3, 0))),
        ("singular_values", None, -1, False, [0], OUT),
        ("singular_values", None, 2, False, [0], OUT),
        # 3 rows of 2^62 numbers: the product must not wrap round to the size of a small array
        ("singular_values", None, 2**62, False, [0], np.zeros(0)),
        ("singular_values", None, 2**62, False, [0, 0, 0, 0], np.zeros(0)),
        ("singular_values", None, 2**63, False, [0], OUT),
    ],
)
def test_wrong_columns_are_refused(column):
    good = arguments()["descend"]
    with pytest.raises(REFUSED):
        core.descend(**{**good, "columns": [column]})


def test_patterns_need_an_activation_with_signs():
    good = arguments()["descend"]
    column = ("patterns", None, 0, False, [0], OUT.copy())
    with pytest.raises(ValueError, match="told by a sign"):
        core.descend(**{**good, "activation": ("tanh", 0.0, 0.0, ()), "columns": [column]})


@pytest.mark.parametrize("name", ["W", "a", "steps"])
def test_what_is_written_to_must_be_writeable(name):
    good = arguments()["descend"]
    with pytest.raises(REFUSED):
        core.descend(**{**good, name: read_only(good[name])})


@pytest.mark.parametrize(
    "schedule",
    [
        np.zeros(0, np.int64),
        np.array([3, 2, 1, 0]),
        np.array([0, 0, 0, 0]),
        np.array([-5, 2**62, -(2**62), 1]),
        np.arange(200_000),
        np.full(1000, 3),
    ],
    ids=["empty", "falling", "equal", "absurd", "huge", "late"],
)
def test_any_schedule_stays_inside_its_rows(schedule):
    good = arguments()["descend"]
    rows = schedule.size + 1
    guard = 64
    out = np.full(rows + guard, np.nan)
    steps = np.full(rows + guard, -7, np.int64)
    status, step, written, *_ = core.descend(
        **{
            **good,
            "schedule": schedule.astype(np.int64),
            "steps": steps[:rows],
            "columns": [("loss", None, 0, False, [0], out[:rows])],
        }
    )
    assert (status, step) == ("reached_end", 3)
    assert 1 <= written <= min(rows, 4)
    assert np.isfinite(out[:written]).all()
    assert np.isnan(out[written:]).all()
    assert steps[written - 1] == 3
    assert (steps[written:] == -7).all()


def test_non_finite_numbers_do_not_crash():
    for value in (np.nan, np.inf, -np.inf):
        for name in ("W", "a", "x"):
            good = arguments()["outputs"]
            good[name].flat[0] = value
            assert core.outputs(**good).shape == (N,)
        names = [
            name for name, dims, *_ in core.observables() if dims == "" and name != "clean_accuracy"
        ]
        good = arguments()["descend"]
        good["W"][0, 0] = value
        columns = [(name, None, 0, False, [0], np.zeros((3, 1))) for name in names]
        columns.append(("singular_values", None, 2, False, [0], np.zeros((3, 2))))
        status, step, rows, *_ = core.descend(**{**good, "columns": columns})
        assert (status, step, rows) == ("non_finite", 0, 1)


@pytest.mark.parametrize("num_threads", [-(2**31), -1, 0, 1, 64, 2**31 - 1])
def test_any_number_of_threads_is_survived(num_threads):
    # More threads than there is work for are not started. In a process of its own: libgomp ends the
    # process when it cannot start a thread.
    code = f"""
        import numpy as np
        from featcore._dispatch import core
        rng = np.random.default_rng(0)
        W, x = rng.standard_normal((300, 40)), rng.standard_normal((2000, 40))
        args = (W, np.ones(300), ("tanh", 0.0, 0.0, ()), x)
        assert (core.outputs(*args, {num_threads}) == core.outputs(*args, 1)).all()
    """
    run(code)


def test_a_callback_cannot_pull_the_arrays_away():
    # The run must hold what it reads: here the caller's only references go away during it.
    code = """
        import gc
        import numpy as np
        from featcore._dispatch import core
        n, d, m = 2000, 64, 8
        columns = [("margins", None, 0, False, [0], np.zeros((12, n)))]
        splits = [(np.ones((n, d)), np.ones(n), None, None)]
        def on_row(*_):
            columns.clear(), splits.clear(), gc.collect()
            return None
        status, *_ = core.descend(
            np.full((m, d), 1e-3), np.ones(m), ("relu", 0.0, 0.0, ()), splits, ("logistic", True, 0.0, 0.0),
            np.zeros(m), (1e-3, 0, 10, 1.0, 1.0, -np.inf, -np.inf, np.inf), np.arange(11), columns,
            np.zeros(12, np.int64), on_row, None, 1)
        assert status == "reached_end", status
    """
    run(code)


def test_callbacks_that_raise_are_handed_back():
    good = arguments()["descend"]

    def fail(*_):
        raise KeyError("mine")

    status, step, rows, _, _, error, _ = core.descend(**{**good, "on_row": fail})
    assert (status, step, rows) == ("observer_failed", 0, 0)
    assert isinstance(error, KeyError)
