"""`featcore.benchmark` says what it measured, and of what; no test depends on how fast anything is."""

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featcore as fc
from featcore import cli
from featcore.benchmark import comparison, process, runners, scaling, surroundings
from featcore.benchmark.problem import DTYPES, SHAPES, STEP_SIZE, Problem, Shape
from featcore.benchmark.process import RunnerProcess
from featcore.benchmark.report import Growth, Peer, Report, Result, Series

TINY = Shape(20, 3, 10)
FAST = {"seconds": 1e-4, "repeats": 2, "num_threads": 1}


def result(shape=TINY, dtype="float64", form="primal", ratio=3.0, fraction=0.5, skipped=None):
    peers = (
        {}
        if ratio is None
        else {name: Peer(5, 2.0, (2.0,), ratio, 1e-17) for name in runners.PEERS}
    )
    return Result(shape, dtype, form, 5, 1e-3, (1e-3, 2e-3), 1e11, fraction, peers, skipped or {})


def report(*results, **environment):
    known = surroundings.describe(["numpy"], 1, {"numpy": "some BLAS"}, 0.1)
    return Report({**known, **environment}, results)


# --- shapes and problems


def test_a_shape_is_read_as_it_is_written():
    assert Shape.parse("1000, 50,200") == Shape(1000, 50, 200)
    assert str(Shape(1000, 50, 200)) == "1000, 50, 200"
    assert Shape(2, 3, 5).flops == 120


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a,b,c", "0,1,1", "1,-2,3", "1.5,2,3"])
def test_anything_else_is_no_shape(text):
    with pytest.raises(ValueError, match="must be n,d,m"):
        Shape.parse(text)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [TINY, Shape(300, 2, 500), Shape(100, 200, 30)])
def test_a_few_steps_move_the_weights_far_enough_to_see_a_wrong_gradient(shape, dtype):
    data, net = Problem(shape, dtype).make()
    assert net.dtype == data.x.dtype == dtype
    end = fc.descend(net, data, step_size=STEP_SIZE, steps=comparison._STEPS_COMPARED).net
    moved = math.hypot(np.linalg.norm(end.W - net.W), np.linalg.norm(end.a - net.a))
    norm = math.hypot(np.linalg.norm(net.W), np.linalg.norm(net.a))
    assert moved / norm > 100 * comparison._TOLERANCES[dtype]


# --- the multiply-add rate


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_rate_of_multiply_adds_is_a_positive_number(dtype, threads):
    rate = fc.benchmark.fma_rate(dtype, num_threads=threads, seconds=1e-3)
    assert 1e6 < rate < 1e16


@pytest.mark.parametrize("isa", fc.build_info()["isas"])
def test_every_instruction_set_has_a_rate(isa):
    name = "featcore._core" + ("" if isa in ("baseline", "native") else f"_{isa}")
    assert importlib.import_module(name).fma_rate("float64", 1, 1e-3) > 1e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dtype": "float16"}, "dtype='float16'"),
        ({"num_threads": 0}, "num_threads=0"),
        ({"seconds": 0.0}, "seconds=0"),
        ({"seconds": 11.0}, "seconds=11"),
        ({"seconds": math.nan}, "seconds=nan"),
    ],
)
def test_bad_arguments_of_the_rate_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        fc.benchmark.fma_rate(**arguments)


def test_the_core_checks_again():
    core = importlib.import_module("featcore._core")
    for arguments in (
        ("half", 1, 1e-3),
        ("float32", 0, 1e-3),
        ("float32", 257, 1e-3),
        ("float64", 1, math.nan),
    ):
        with pytest.raises(ValueError, match="must be"):
            core.fma_rate(*arguments)


# --- measuring


@pytest.mark.parametrize("peer", runners.PEERS)
def test_a_peer_is_compared_where_it_is_installed(peer):
    pytest.importorskip(peer)
    found = fc.benchmark.measure([TINY, Shape(30, 40, 8)], peers=[peer], **FAST)
    assert [(each.shape, each.dtype) for each in found.results] == [
        (shape, dtype) for shape in (TINY, Shape(30, 40, 8)) for dtype in DTYPES
    ]
    for each in found.results:
        assert each.form == ("primal" if each.shape == TINY else "gram")
        assert each.skipped == {}
        other = each.peers[peer]
        assert len(each.rounds) == len(other.rounds) == 2
        assert other.difference <= comparison._TOLERANCES[each.dtype]
        assert min(each.seconds, each.fma_rate, each.fraction, other.seconds, other.ratio) > 0
        assert each.steps >= 3
    assert found.environment["threads"] == 1
    assert found.environment["versions"][peer] in found.table()
    assert found.environment["isa"] == fc.build_info()["isa"]


def test_without_peers_featcore_is_measured_alone():
    found = fc.benchmark.measure([TINY], ["float32"], [], **FAST)
    assert found.results[0].peers == {}
    assert found.results[0].least_ratio is None
    assert "float32" in found.table()


class Wrong(RunnerProcess):
    """numpy, if it computed something a little different."""

    change = 1e-4

    def weights(self, steps):
        W, a = super().weights(steps)
        return (W * (1 + self.change) if self.name == "numpy" else W), a


@pytest.mark.parametrize("change", [1e-4, math.nan])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch, dtype, change):
    monkeypatch.setattr(comparison, "RunnerProcess", Wrong)
    monkeypatch.setattr(Wrong, "change", change)
    monkeypatch.setattr(comparison, "steps_for", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(fc.benchmark.DisagreementError, match=f"numpy and featcore.*{TINY} {dtype}"):
        fc.benchmark.measure([TINY], [dtype], ["numpy"], **FAST)


def test_a_peer_that_is_not_installed_is_skipped_and_that_is_said(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    found = fc.benchmark.measure([TINY], ["float64"], ["numpy", "torch"], **FAST)
    assert found.results[0].skipped == {"torch": "not installed"}
    assert list(found.results[0].peers) == ["numpy"]
    assert f"torch skipped at {TINY} float64: not installed" in found.table()


def test_a_peer_whose_matrices_do_not_fit_is_skipped_and_that_is_said(monkeypatch):
    monkeypatch.setattr(surroundings, "available_memory", lambda: 2**20)
    assert comparison._obstacle("numpy", Problem(TINY, "float64")) is None
    why = comparison._obstacle("numpy", Problem(Shape(10**5, 2, 10**5), "float64"))
    assert why == "needs 223.5 GiB of memory, 0.0 GiB are available"


def test_memory_is_known_on_linux():
    available = surroundings.available_memory()
    assert available is None if sys.platform != "linux" else available > 2**20


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            Shape(1_000_000, 100_000, 1_000_000),
            "1000000, 100000, 1000000 float32 needs at least 2352 GiB",
        ),
        (Shape(10**400, 1, 1), r"GiB of memory, and .* GiB are available; give fewer"),
    ],
    ids=["large", "absurd"],
)
def test_what_does_not_fit_is_refused_before_it_is_made(monkeypatch, shape, said):
    monkeypatch.setattr(surroundings, "available_memory", lambda: 8 * 2**30)
    for module in (comparison, scaling):
        monkeypatch.setattr(module, "RunnerProcess", lambda *_: pytest.fail("it began"))
    with pytest.raises(MemoryError, match=said):
        fc.benchmark.measure([TINY, shape])
    with pytest.raises(MemoryError, match="needs at least"):
        fc.benchmark.growth([shape])
    done = run("--shape", f"{shape.n},{shape.d},{shape.m}")
    assert done.exit_code == 2
    assert "GiB" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_fits_is_not_refused():
    for shape in SHAPES:
        for dtype in DTYPES:
            assert Problem(shape, dtype).memory < 2**30


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"shapes": []}, ValueError, "shapes is empty"),
        ({"shapes": "1,2,3"}, TypeError, "shapes='1,2,3' must be a list"),
        ({"shapes": [(1, 2, 3)]}, TypeError, r"shapes has \(1, 2, 3\)"),
        ({"dtypes": []}, ValueError, "dtypes is empty"),
        ({"dtypes": ["float16"]}, ValueError, "dtypes='float16'"),
        ({"dtypes": "float32"}, TypeError, "must be a list"),
        ({"peers": ["scipy"]}, ValueError, "peers='scipy'"),
        ({"peers": "numpy"}, TypeError, "must be a list"),
        ({"num_threads": 0}, ValueError, "num_threads=0"),
        ({"seconds": 0.0}, ValueError, "seconds=0"),
        ({"repeats": 0}, ValueError, "repeats=0"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_measured(monkeypatch, arguments, error, said):
    monkeypatch.setattr(comparison, "RunnerProcess", lambda *_: pytest.fail("it began"))
    with pytest.raises(error, match=said):
        fc.benchmark.measure(**{"shapes": [TINY], **arguments})


def test_a_shape_must_be_positive_integers():
    with pytest.raises(ValueError, match="d=0"):
        Shape(1, 0, 1)
    with pytest.raises(TypeError, match=r"m=1\.5"):
        Shape(1, 1, 1.5)


# --- processes


def test_a_library_that_cannot_start_says_why():
    with pytest.raises(RuntimeError, match=r"(?s)nonsense failed at .*KeyError: 'nonsense'"):
        RunnerProcess("nonsense", Problem(TINY, "float64"), 1)


def test_a_library_that_dies_is_reported():
    with RunnerProcess("numpy", Problem(TINY, "float64"), 1) as runner:
        assert runner.seconds(1) > 0
        runner._process.kill()
        with pytest.raises(RuntimeError, match=r"numpy failed at .* float64 with exit code"):
            runner.seconds(1)
    assert not Path(runner._folder.name).exists()


def test_threads_are_limited_before_a_library_is_loaded():
    environment = process._environment(3)
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
    assert environment["NPROC"] == "3"
    assert "OMP_NUM_THREADS" not in os.environ or os.environ is not environment


# --- growth


def test_exponents_of_powers_are_those_powers():
    values = [10, 20, 40]
    assert scaling.exponent(values, [v**1.5 for v in values]) == pytest.approx(1.5)
    assert scaling.exponent([1], [3.0]) is None


@pytest.mark.parametrize(
    ("threads", "values"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_threads_double_up_to_those_there_are(threads, values):
    assert scaling._values(TINY, "threads", [1.0], threads) == values


def test_growth_varies_one_thing_at_a_time():
    options = {**FAST, "num_threads": 2}
    found = fc.benchmark.growth([TINY], ["float32"], factors=[0.01, 1, 2], **options)
    assert [(each.variable, each.values) for each in found.series] == [
        ("n", (1, 20, 40)),
        ("d", (1, 3, 6)),
        ("m", (1, 10, 20)),
        ("threads", (1, 2)),
    ]
    for each in found.series:
        assert min(each.seconds) > 0
        assert math.isfinite(each.exponent)
    assert Growth.from_json(found.to_json()) == found
    table = found.table()
    assert all(f" {each.exponent:.2f} " in table for each in found.series)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"bases": []}, ValueError, "bases is empty"),
        ({"bases": [TINY, None]}, TypeError, "bases has None"),
        ({"factors": [1, 0]}, ValueError, "factors=0"),
        ({"factors": []}, ValueError, "factors is empty"),
        ({"dtypes": ["int8"]}, ValueError, "dtypes='int8'"),
    ],
)
def test_bad_arguments_of_growth_are_named(arguments, error, said):
    with pytest.raises(error, match=said):
        fc.benchmark.growth(**{"bases": [TINY], **arguments})


# --- reports


def test_a_report_comes_back_from_json():
    one = report(result(), result(dtype="float32", ratio=None, skipped={"jax": "not installed"}))
    text = one.to_json()
    assert Report.from_json(text) == one
    assert json.loads(text)["results"][0]["flops"] == TINY.flops


def test_other_json_is_refused():
    growth = Growth(report().environment, (Series(TINY, "float32", "n", (1,), (0.1,), None),))
    assert Growth.from_json(growth.to_json()) == growth
    for text in (growth.to_json(), "[]", "{}"):
        with pytest.raises(ValueError, match="must be a 'featcore benchmark of steps"):
            Report.from_json(text)
    with pytest.raises(ValueError, match="this text does not say what it is; it must be"):
        Report.from_json("{}")


def test_the_table_is_markdown_with_a_row_each():
    lines = report(result(), result(Shape(1000, 50, 200), "float32")).table().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    assert len({len(row) for row in rows}) == 1
    assert "| 20, 3, 10     | float64 | 1 ms     | 50 % of 100 GF/s |" in rows[2]
    assert "2000 ms, 3.00×" in rows[2]


def test_flops_of_the_gram_form_are_counted_too():
    gram = result(Shape(10, 1000, 5), form="gram", fraction=40.0)
    assert gram.flops == 200_000
    assert gram.form_flops == 1000
    assert gram.form_fraction == pytest.approx(0.2)
    assert "4000 % of 100 GF/s; 20 % in gram form" in report(gram).table()


def test_a_busy_machine_is_mentioned():
    assert "busy" not in report(result(), load_before=0.1).table()
    assert "busy" in report(result(), load_before=2.0).table()
    assert "load ? before" in report(result(), load_before=None).table()


# --- the command line


def run(*arguments):
    return CliRunner().invoke(cli.build_app(), ["bench", *arguments])


def test_bench_prints_a_table_and_writes_json(tmp_path):
    path = tmp_path / "report.json"
    done = run(
        *("--shape", "20,3,10", "--shape", "5,4,3", "--dtype", "float64", "--peer", "numpy"),
        *("--threads", "1", "--quick", "--json", str(path)),
    )
    assert done.exit_code == 0, done.output
    found = Report.from_json(path.read_text(encoding="utf-8"))
    assert [each.shape for each in found.results] == [TINY, Shape(5, 4, 3)]
    assert found.table() in done.stdout


def test_bench_tells_of_growth(tmp_path):
    path = tmp_path / "growth.json"
    done = run(
        *("--growth", "--shape", "8,2,4", "--dtype", "float32", "--threads", "1"),
        *("--quick", "--json", str(path)),
    )
    assert done.exit_code == 0, done.output
    found = Growth.from_json(path.read_text(encoding="utf-8"))
    assert found.table() in done.stdout
    assert {each.base for each in found.series} == {Shape(8, 2, 4)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shape", "1,2"], "--shape: '1,2' must be n,d,m"),
        (["--dtype", "f"], "--dtype: 'f' is unknown; choose from float32, float64"),
        (["--peer", "x"], "--peer: 'x' is unknown; choose from numpy, torch, jax, none"),
        (["--peer", "none", "--peer", "jax"], "--peer: 'none' goes with no other"),
        (["--peer", "jax", "--growth"], "--peer: --growth measures featcore alone"),
        (["--threads", "0"], "--threads: 0 must be between 1 and 256"),
        (["--json", "."], "--json: '.' is a folder"),
        (["--json", "absent/r.json"], "--json: 'absent/r.json' lies in no folder"),
    ],
)
def test_bad_arguments_of_bench_exit_with_2_before_anything_is_measured(
    monkeypatch, tmp_path, arguments, said
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "RunnerProcess", lambda *_: pytest.fail("it began"))
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_bench_without_arguments_measures_everything(monkeypatch):
    asked = {}

    def measure(shapes, dtypes, peers, **options):
        asked.update(options, shapes=shapes, dtypes=dtypes, peers=peers)
        return report(result())

    monkeypatch.setattr(fc.benchmark, "measure", measure)
    assert run().exit_code == 0
    assert (tuple(asked["shapes"]), tuple(asked["dtypes"])) == (SHAPES, DTYPES)
    assert tuple(asked["peers"]) == runners.PEERS
    assert run("--peer", "none", "--quick").exit_code == 0
    assert (asked["peers"], asked["shapes"]) == ([], fc.benchmark.QUICK_SHAPES)


def test_bench_exits_with_1_if_results_differ(monkeypatch):
    monkeypatch.setattr(comparison, "RunnerProcess", Wrong)
    done = run("--shape", "20,3,10", "--dtype", "float64", "--peer", "numpy")
    assert done.exit_code == 1
    assert "featcore: numpy and featcore disagree at 20, 3, 10 float64" in done.stderr


def test_a_full_disk_still_shows_the_table(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr(fc.benchmark, "measure", lambda *_, **__: report(result()))
    monkeypatch.setattr(Path, "write_text", full)
    done = run("--json", str(tmp_path / "r.json"))
    assert done.exit_code == 2
    assert "20, 3, 10" in done.stdout
    assert "r.json cannot be written: the disk is full" in done.stderr


# --- the floors

STEPS = Path(__file__).parents[1] / "bench" / "steps.py"


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 0, "0 of 24 floors missed"),
        ({"fraction": 0.69}, 1, "FAILS   2000, 500, 4096   float64  fraction   0.69, floor 0.70"),
        ({"ratio": 9.9}, 1, "FAILS   100, 2, 100000    float32  ratio      9.90, floor 10.00"),
        ({"ratio": None}, 1, "unknown 300, 2, 500       float32  ratio         –, floor 5.00"),
    ],
)
def test_floors_are_judged(tmp_path, change, status, said):
    best = {"ratio": 60.0, "fraction": 0.8, **change}
    stored = report(*(result(shape, dtype, **best) for shape in SHAPES for dtype in DTYPES))
    path = tmp_path / "report.json"
    path.write_text(stored.to_json(), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(STEPS), str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(fc.__file__).parents[1]), "PYTHONUTF8": "1"},
    )
    assert done.returncode == status, done.stderr
    assert said in done.stdout
