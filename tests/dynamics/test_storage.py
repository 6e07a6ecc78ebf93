"""Runs to files and back: the same run, no half a file, and nothing pickled."""

import contextlib
import json
import os
from dataclasses import asdict

import h5py
import numpy as np
import pytest
import xarray as xr
from _runs import NATIVE, PATTERNS, problem, same_history, same_net, same_run
from _strategies import ACTIVATIONS

import featcore as fc
from featcore import observables


def rich_run(dtype=np.float64, activation=None):
    """Return a run that observes nearly everything."""
    activation = fc.ReLU() if activation is None else activation
    net, data = problem(activation=activation, dtype=dtype, weighted=True)
    outer = observables.custom(lambda net, data: np.outer(net.a, net.a), name="outer")
    mean = observables.custom(lambda net, data: net(data.x).mean(), name="mean_f", per_split=True)
    observe = [
        *NATIVE,
        *(PATTERNS if activation.homogeneous else ()),
        "weights",
        outer,
        mean,
        observables.alignment(np.eye(4)[:2], labels=["south", "ost ü"], absolute=True),
        observables.cosines(np.eye(4)[:3], name="others", dim="other"),
        observables.singular_values(2),
    ]
    return fc.descend(
        net,
        data,
        step_size=0.1,
        steps=20,
        layer_rates={"a": 1 / 3},
        observe=observe,
        evaluate={"test": problem(9, dtype=dtype)[1]},
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return the path of a saved run; not to be written to."""
    path = tmp_path_factory.mktemp("runs") / "run.nc"
    rich_run().save(path)
    return path


def leftovers(folder):
    """Return what a failed save has left behind."""
    return [name for name in os.listdir(folder) if ".part" in name]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_a_run_comes_back_as_it_was(tmp_path, activation, dtype):
    run = rich_run(dtype, activation)
    path = tmp_path / "run.nc"
    run.save(path)
    again = fc.load(path)
    assert again.history.identical(run.history)
    assert same_history(again.history, run.history)
    assert same_net(again.net, run.net)
    assert again.settings == run.settings
    assert asdict(again.outcome) == asdict(run.outcome)
    assert (again.state.version, again.state.form, again.state.step) == (1, "primal", 20)
    assert again.state.arrays.keys() == run.state.arrays.keys()
    for name, array in run.state.arrays.items():
        assert again.state.arrays[name].tobytes() == array.tobytes()
    assert again.splits is None
    assert leftovers(tmp_path) == []


def test_a_loaded_run_can_be_saved_again(tmp_path, file):
    run = fc.load(str(file))
    run.save(str(tmp_path / "again.nc"))
    assert same_run(fc.load(tmp_path / "again.nc"), run)


def test_runs_that_stopped_come_back_too(tmp_path):
    net, data = problem(loss="squared")
    options = {"step_size": 100.0, "steps": 10**6, "observe": ["loss", "norms"]}
    for stop in ({}, {"wall_time": 0.0}, {"loss_target": 1e9}):
        run = fc.descend(net, data, "squared", **options, **stop)
        assert run.outcome.status != "reached_end"
        run.save(tmp_path / "run.nc")
        again = fc.load(tmp_path / "run.nc")
        assert again.outcome == run.outcome
        assert same_run(again, run)


def test_nan_and_infinity_come_back(tmp_path):
    net, data = problem()
    values = iter([1.0, np.nan, np.inf, -np.inf, -0.0, 5e-324])
    odd = observables.custom(lambda net, data: next(values), name="odd")
    run = fc.descend(net, data, step_size=0.1, steps=5, observe=[odd], record=fc.Recording.every(1))
    run.save(tmp_path / "run.nc")
    assert same_history(fc.load(tmp_path / "run.nc").history, run.history)
    one_sign = fc.TwoLayerNet(net.W, np.abs(net.a))  # nobody in the group "-": NaN
    run = fc.descend(
        one_sign, data, step_size=0.1, steps=2, observe=[observables.alignment(np.eye(4))]
    )
    assert np.isnan(run.history.alignment.sel(sign="-")).all()
    run.save(tmp_path / "run.nc")
    assert same_history(fc.load(tmp_path / "run.nc").history, run.history)


# --- what is in the file


def test_anybody_can_read_the_file(file):
    run = fc.load(file)
    with xr.open_dataset(file, engine="h5netcdf", group="history") as history:
        np.testing.assert_array_equal(history.loss, run.history.loss)
        assert history.split.values.tolist() == ["train", "test"]
    with h5py.File(file) as raw:
        np.testing.assert_array_equal(raw["net/W"], run.net.W)
        np.testing.assert_array_equal(raw["history/time"], run.history.time)
        settings = json.loads(raw.attrs["settings"])
        assert settings["net_sha256"] == run.settings["net_sha256"]
        assert settings["data_sha256"] == run.settings["data_sha256"]
        outcome = json.loads(raw.attrs["outcome"])
        assert (outcome["version"], outcome["isa"]) == (run.outcome.version, run.outcome.isa)


def test_nothing_is_pickled(file):
    content = file.read_bytes()
    for trace in (b"pickle", b"numpy.core", b"numpy._core", b"\x80\x04\x95", b"\x80\x05\x95"):
        assert trace not in content

    def plain(name, item):
        if isinstance(item, h5py.Dataset):
            assert item.dtype.kind in "fiuSO", name
            assert item.dtype.kind != "O" or h5py.check_string_dtype(item.dtype), name

    with h5py.File(file) as raw:
        raw.visititems(plain)


def test_the_data_are_not_in_the_file(file):
    assert problem(weighted=True)[1].x.tobytes() not in file.read_bytes()


# --- reading what is not a run


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nc"):
        fc.load(tmp_path / "nowhere.nc")
    with pytest.raises(OSError, match="folder"):
        fc.load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"CDF\x01" + bytes(100), b"\x89HDF\r\n\x1a\n", bytes(5000)]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.nc"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.nc"):
        fc.load(path)


def test_other_netcdf_files_are_refused(tmp_path):
    path = tmp_path / "other.nc"
    xr.Dataset({"x": ("t", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(ValueError, match=r"other\.nc.*not a featcore run"):
        fc.load(path)
    with h5py.File(path, "w") as raw:
        raw["x"] = np.arange(3)
    with pytest.raises(ValueError, match=r"other\.nc"):
        fc.load(path)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.8, 0.95, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path, file, share):
    content = file.read_bytes()
    path = tmp_path / "cut.nc"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut\.nc"):
        fc.load(path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # h5netcdf's __del__
def test_changed_bytes_give_a_run_or_a_clear_error(tmp_path, file):
    content = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "changed.nc"
    for _ in range(25):
        changed = bytearray(content)
        for position in rng.integers(0, len(content), 40):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(ValueError):  # and nothing else
            assert isinstance(fc.load(path), fc.Run)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.__delitem__("net"),
        lambda raw: raw.__delitem__("net/W"),
        lambda raw: raw.__delitem__("history"),
        lambda raw: raw.__delitem__("history/step"),
        lambda raw: raw.__delitem__("state"),
        lambda raw: raw["state"].attrs.__delitem__("step"),
        lambda raw: raw.attrs.__delitem__("settings"),
        lambda raw: raw.attrs.__setitem__("settings", "{not json"),
        lambda raw: raw.attrs.__setitem__("outcome", "{}"),
        lambda raw: raw.attrs.__setitem__("outcome", "[1]"),
        lambda raw: raw.attrs.__setitem__("activation", '{"name": "none", "slope": 0}'),
        lambda raw: raw.attrs.__setitem__("observables", '[{"nom": 1}]'),
        lambda raw: raw["net/W"].__setitem__((0, 0), np.nan),
        lambda raw: raw.attrs.__delitem__("format_version"),
    ],
    ids=range(14),
)
def test_a_file_with_a_part_missing_is_damaged(tmp_path, file, damage):
    path = tmp_path / "damaged.nc"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "a") as raw:
        damage(raw)
    with pytest.raises(ValueError, match=r"damaged\.nc.*damaged"):
        fc.load(path)


def test_a_newer_format_asks_for_a_newer_featcore(tmp_path, file):
    path = tmp_path / "newer.nc"
    path.write_bytes(file.read_bytes())
    with h5py.File(path, "a") as raw:
        raw.attrs["format_version"] = 2
    with pytest.raises(ValueError, match=r"newer\.nc.*format 2.*newer"):
        fc.load(path)


# --- writing where one cannot


def test_a_place_that_cannot_be_written_is_named(tmp_path, file):
    run = fc.load(file)
    (tmp_path / "plain").write_text("a file")
    (tmp_path / "folder").mkdir()
    for path, name in (
        (tmp_path / "missing" / "run.nc", "missing"),
        (tmp_path / "plain" / "run.nc", "plain"),
        (tmp_path / "folder", "folder"),
    ):
        with pytest.raises(OSError, match=name):
            run.save(path)
    assert leftovers(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == ["folder", "plain"]
    assert (tmp_path / "plain").read_text() == "a file"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("part", range(5))
def test_a_file_is_replaced_only_by_a_complete_one(tmp_path, monkeypatch, part, error):
    path = tmp_path / "run.nc"
    net, data = problem()
    first = fc.descend(net, data, step_size=0.1, steps=3)
    first.save(path)
    before = path.read_bytes()
    written = []
    write = xr.Dataset.to_netcdf

    def fails(self, *args, **options):
        if len(written) == part:
            raise error
        written.append(part)
        return write(self, *args, **options)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fails)
    with pytest.raises(type(error)):
        first.continue_(5).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.nc"]
    second = first.continue_(5)
    second.save(path)
    assert same_run(fc.load(path), second)


def test_a_file_is_as_readable_as_any_other(tmp_path):
    net, data = problem()
    (tmp_path / "plain").write_text("")
    fc.descend(net, data, step_size=0.1, steps=1).save(tmp_path / "run.nc")
    modes = {name: (tmp_path / name).stat().st_mode for name in ("plain", "run.nc")}
    assert modes["plain"] == modes["run.nc"]
