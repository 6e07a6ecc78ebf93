import errno
import os
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pydantic
import pytest
import xarray as xr
from typer.testing import CliRunner

import featcore
from featcore import cli, experiments
from featcore.experiments.claims import Claim
from featcore.experiments.protocol import ExperimentResult, Figure
from featcore.report import progress


def draw():
    from matplotlib.figure import Figure as Canvas

    figure = Canvas()
    figure.subplots().plot([0, 1])
    return figure


class Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    steps: int = 100
    measured: float = 1.0


class SettingsWithData(Settings):
    data: Path | None = None

    @pydantic.field_validator("data")
    @classmethod
    def has_files(cls, folder):
        if folder is not None and not (folder / "images").exists():
            raise ValueError(f"{folder} holds no images; point to the folder that does")
        return folder


def experiment(name, settings_class=Settings, measured=1.0, interrupt=None):
    module = types.ModuleType(f"fake_{name}")
    module.name, module.title = name, f"The experiment {name}"
    module.Settings, module.default_seeds, module.quick_seeds = settings_class, 4, 2
    module.quick = lambda: {"steps": 10}
    module.full = lambda: {"steps": 1000}
    module.calls = []

    def run(settings, *, seeds, progress):
        module.calls.append((settings, list(seeds)))
        progress.stage("measuring", len(seeds))
        progress.advance()
        if interrupt is not None:
            raise interrupt
        claim = Claim(
            key="one",
            sentence=f"The number of {name} is one.",
            source="derived",
            reference="arithmetic",
            predicted=1.0,
            relation="equal",
            bias=0.1,
            resolution=0.5,
        )
        return ExperimentResult(
            name=name,
            title=module.title,
            summary="A summary.",
            settings=settings.model_dump(mode="json"),
            seeds=list(seeds),
            findings=[claim.judge([measured] * len(seeds))],
            figures=[Figure("line", "A line", "It rises.", draw)],
            data={"history": xr.Dataset({"loss": ("seed", np.ones(len(seeds)))})},
        )

    module.run = run
    return module


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a runner of the command line over the given fake experiments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCORE_MNIST", raising=False)
    monkeypatch.setattr(featcore, "build_info", lambda: {"isa": "avx2"}, raising=False)

    def invoke(*arguments, over=()):
        modules = {module.name: module.__name__ for module in over}
        for module in over:
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(experiments, "_MODULES", modules)
        monkeypatch.setattr(experiments, "NAMES", tuple(modules))
        return CliRunner().invoke(cli.build_app(), list(arguments))

    return invoke


def test_all_claims_hold(run):
    first, second = experiment("first"), experiment("second")
    done = run("reproduce", over=[first, second])
    assert done.exit_code == 0, done.output
    assert "All 2 claims hold" in done.output
    assert "The number of second is one." in done.output
    assert "\x1b" not in done.output
    assert first.calls == [(Settings(), [0, 1, 2, 3])]
    out = Path("featcore-report")
    page = (out / "report.html").read_text("utf-8")
    assert "The number of first is one." in page
    assert "featcore reproduce first --seeds 4" in page
    assert (out / "figures" / "second-line.png").exists()
    assert xr.load_dataset(out / "data" / "first-history.nc", engine="h5netcdf").sizes == {
        "seed": 4
    }


def test_a_failing_claim_exits_with_1(run):
    done = run("reproduce", over=[experiment("good"), experiment("bad", measured=2.0)])
    assert done.exit_code == 1
    assert "fails: bad/one" in done.output
    assert Path("featcore-report/report.html").exists()


def test_an_inconclusive_claim_is_said_and_does_not_fail(run):
    done = run("reproduce", "--seeds", "1", over=[experiment("first")])
    assert done.exit_code == 0
    assert "inconclusive: first/one" in done.output


def test_named_experiments_run_once_each_in_the_order_given(run):
    first, second, third = (experiment(name) for name in ("first", "second", "third"))
    done = run("reproduce", "third", "first", "third", "--out", "o", over=[first, second, third])
    assert done.exit_code == 0
    assert [len(each.calls) for each in (first, second, third)] == [1, 0, 1]
    assert done.output.index("third:") < done.output.index("first:")


def test_quick_reduces_settings_and_seeds(run):
    first = experiment("first")
    assert run("reproduce", "--quick", over=[first]).exit_code == 0
    assert first.calls == [(Settings(steps=10), [0, 1])]
    assert "reproduce first --seeds 2 --quick" in Path("featcore-report/report.html").read_text(
        "utf-8"
    )


def test_full_enlarges_settings(run):
    first = experiment("first")
    assert run("reproduce", "--full", over=[first]).exit_code == 0
    assert first.calls == [(Settings(steps=1000), [0, 1, 2, 3])]
    assert "reproduce first --seeds 4 --full" in Path("featcore-report/report.html").read_text(
        "utf-8"
    )


def test_quick_and_full_exclude_each_other(run):
    first = experiment("first")
    done = run("reproduce", "--full", "--quick", over=[first])
    assert done.exit_code == 2
    assert "--quick asks for the opposite" in done.output
    assert first.calls == []


def test_fresh_seeds_are_shown_and_can_be_repeated(run):
    first = experiment("first")
    done = run("reproduce", "--fresh-seeds", "--seeds", "3", over=[first])
    [(_, seeds)] = first.calls
    assert len(set(seeds)) == 3
    assert ", ".join(map(str, seeds)) in done.output
    page = Path("featcore-report/report.html").read_text("utf-8")
    again = re.search(r"featcore reproduce first --seeds (\S+)</pre>", page)[1]
    run("reproduce", "--seeds", again, over=[first])
    assert first.calls[1][1] == seeds


def test_one_seed_can_be_named(run):
    first = experiment("first")
    run("reproduce", "--seeds", "7,", over=[first])
    assert first.calls[0][1] == [7]
    assert "--seeds 7,</pre>" in Path("featcore-report/report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "'nonsense' is unknown"),
        (["--seeds", "0"], "0 must be at least 1, or a list"),
        (["--seeds", "-3"], "-3 must be at least 1, or a list"),
        (["--seeds", "100001"], "must be at most 100000; write 100001, for one seed"),
        (["--seeds", "9223372036854775808"], "must be at most 100000"),
        (["--seeds", "9223372036854775808,3"], "9223372036854775808 must be below 2**63"),
        (["--seeds", "99999999999999999999,"], "99999999999999999999 must be below 2**63"),
        (["--seeds", "two"], "'two' must be a number"),
        (["--seeds", "1,1"], "different"),
        (["--seeds", "1,-2"], "none negative"),
        (["--seeds", ","], "must be a number"),
        (["--seeds", "5,6", "--fresh-seeds"], "how many"),
        (["--data", "absent"], "no folder"),
        (["--data", "."], "Invalid value for --data: /"),  # without pydantic's "Value error, "
        (["--data", "."], "holds no images"),
        (["first", "--data", "."], "reads no files"),
        (["--out", "occupied"], "cannot be written"),
        (["--out", "occupied/inside"], "cannot be written"),
        (["--no-such-option"], "--no-such-option"),
    ],
)
def test_bad_arguments_exit_with_2_before_anything_is_computed(run, tmp_path, arguments, said):
    (tmp_path / "occupied").write_text("a file")
    first, second = experiment("first"), experiment("second", SettingsWithData)
    done = run("reproduce", *arguments, over=[first, second])
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert first.calls == second.calls == []
    assert not Path("featcore-report").exists()


def test_data_reaches_the_experiments_that_take_it(run, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "images").touch()
    first, second = experiment("first"), experiment("second", SettingsWithData)
    done = run("reproduce", "--data", "with space", over=[first, second])
    assert done.exit_code == 0, done.output
    assert first.calls[0][0] == Settings()
    assert second.calls[0][0] == SettingsWithData(data=folder)


def test_an_interrupt_keeps_what_was_finished(run):
    stopped = experiment("stopped", interrupt=KeyboardInterrupt())
    done = run("reproduce", over=[experiment("first"), stopped, experiment("never")])
    assert done.exit_code == 130
    assert "Finished: first. Not finished: stopped, never." in done.output
    page = Path("featcore-report/report.html").read_text("utf-8")
    assert "The number of first is one." in page
    assert "stopped, never" in page


def test_an_interrupt_before_anything_is_finished_writes_no_report(run):
    done = run("reproduce", over=[experiment("first", interrupt=KeyboardInterrupt())])
    assert done.exit_code == 130
    assert "Finished: nothing." in done.output
    assert not Path("featcore-report/report.html").exists()


@pytest.mark.parametrize("error", [FileNotFoundError(2, "Gone", "file"), PermissionError("No.")])
def test_files_that_cannot_be_read_are_a_bad_argument(run, tmp_path, error):
    class Unreadable(Settings):
        data: Path | None = None

        @pydantic.field_validator("data")
        @classmethod
        def fails(cls, folder):
            raise error

    done = run("reproduce", "--data", ".", over=[experiment("first", Unreadable)])
    assert done.exit_code == 2
    assert f"Error: Invalid value for --data: {error}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_names_a_folder_of_data_for_those_that_take_it(run, monkeypatch, tmp_path):
    for name in ("everyday", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images").touch()
    monkeypatch.setenv("FEATCORE_MNIST", str(tmp_path / "everyday"))
    first, second = experiment("first"), experiment("second", SettingsWithData)
    assert run("reproduce", over=[first, second]).exit_code == 0
    assert second.calls[-1][0].data == tmp_path / "everyday"
    page = Path("featcore-report/report.html").read_text("utf-8")
    assert "reproduce second --seeds 4 --data" in page  # what repeats it does not need the variable
    assert run("reproduce", "--data", "other", over=[first, second]).exit_code == 0
    assert second.calls[-1][0].data == tmp_path / "other"
    assert run("reproduce", "first", over=[first, second]).exit_code == 0


def test_an_empty_folder_of_data_is_a_bad_argument(run, tmp_path):
    from featcore.experiments import alignment

    (tmp_path / "empty").mkdir()
    done = run("reproduce", "--data", "empty", over=[alignment])
    assert done.exit_code == 2
    assert re.search(r"Invalid value for --data: folder='.*empty' has no train", done.stderr)


def write_idx(folder, images, labels):
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"train-{name}-ubyte").write_bytes(header + array.tobytes())


@pytest.mark.parametrize("place", ["MNIST/raw", "FashionMNIST/raw", "plain"])
@pytest.mark.parametrize("shape", [(28, 28), (10, 20), (1, 7)])
def test_other_images_are_drawn_in_their_shape_and_not_judged_as_mnist(tmp_path, place, shape):
    pytest.importorskip("sklearn")
    from featcore.experiments.alignment import Settings, digits, digits_figures
    from featcore.report import style

    rng = np.random.default_rng(0)
    labels = (np.arange(12) % 3).astype(np.uint8)
    write_idx(tmp_path / place, rng.integers(0, 256, (12, *shape), dtype=np.uint8), labels)
    folder = tmp_path / place if place == "plain" else tmp_path
    pair = digits.load(Settings(data=folder), (1, 0))
    assert pair.shape == shape
    assert not pair.is_mnist
    net = featcore.TwoLayerNet.gaussian(8, pair.data.d, 1e-6, head="gaussian", seed=0)
    assert style.render(lambda: digits_figures.images([(pair, net)])).png
    assert digits.load(Settings(), (1, 0)).shape == (8, 8)


@pytest.mark.mnist
def test_mnist_is_known_by_its_images():
    from featcore.experiments.alignment import Settings, digits

    default = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "mnist"
    folder = Path(os.environ.get("FEATCORE_MNIST", default))
    if not folder.is_dir():
        pytest.skip(f"no MNIST in {folder}; set FEATCORE_MNIST")
    keys = {
        claim.key for claim in digits.claims(Settings(data=folder, digit_pairs=((1, 0), (4, 9))))
    }
    assert "digits-1-0-half" in keys
    assert "digits-4-9-drop-time" in keys
    assert "digits-4-9-half" not in keys  # of which the paper says nothing
    pair = digits.load(Settings(data=folder), (1, 0))
    assert pair.is_mnist
    assert pair.shape == (28, 28)


def test_the_largest_seed_is_stored(run):
    done = run("reproduce", "--seeds", f"{2**63 - 1},3", over=[experiment("first")])
    assert done.exit_code == 0, done.output
    assert f"--seeds {2**63 - 1},3</pre>" in Path("featcore-report/report.html").read_text("utf-8")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("a bug"), EOFError("a bug")])
def test_an_error_in_one_experiment_exits_with_3_and_does_not_lose_the_others(run, error):
    first, broken = experiment("first", measured=2.0), experiment("broken", interrupt=error)
    done = run("reproduce", over=[first, broken, experiment("never")])
    assert done.exit_code == 3
    assert "Traceback" in done.stderr
    assert f"{type(error).__name__}: a bug\nfeatcore: broken crashed\n" in done.stderr
    assert done.stderr.endswith("featcore: not finished: broken, never\n")
    assert "The number of first is one." in Path("featcore-report/report.html").read_text("utf-8")


def test_a_figure_that_cannot_be_drawn_exits_with_3_after_the_report(run, monkeypatch):
    def broken():
        raise ZeroDivisionError("no axes")

    monkeypatch.setitem(globals(), "draw", broken)
    done = run("reproduce", over=[experiment("first", measured=2.0)])
    assert done.exit_code == 3
    assert "Traceback" in done.stderr
    assert "featcore: the figure first-line could not be drawn" in done.stderr
    assert "Report: " in done.stdout
    page = Path("featcore-report/report.html").read_text("utf-8")
    assert "The number of first is one." in page
    assert "ZeroDivisionError: no axes" in page


def test_a_crash_of_the_report_exits_with_3(run, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr("featcore.report.write.write", broken)
    done = run("reproduce", over=[experiment("first")])
    assert done.exit_code == 3
    assert "TypeError: a bug\nfeatcore: the report crashed" in done.stderr
    assert "The number of first is one." in done.stdout


def test_a_disk_that_fills_up_still_shows_the_claims(run, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("featcore.report.write.write", full)
    done = run("reproduce", over=[experiment("first")])
    assert done.exit_code == 2
    assert "The number of first is one." in done.output
    assert "cannot be written" in done.output


def test_info_and_version(run):
    done = run("info")
    assert done.exit_code == 0
    assert re.search(rf"^numpy +{re.escape(np.__version__)}$", done.output, re.MULTILINE)
    assert re.search(r"^isa +avx2$", done.output, re.MULTILINE)
    assert re.search(r"^processors +[1-9]", done.output, re.MULTILINE)
    done = run("--version")
    assert done.exit_code == 0
    assert done.output.startswith("featcore ")


def python(code, **options):
    script = "import featcore; featcore.build_info = lambda: {'isa': 'avx2'}\n" + textwrap.dedent(
        code
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **options,
    )


def test_a_missing_extra_is_one_line_and_exit_2():
    process = python(
        """
        from featcore import cli
        cli._LAB = ("typer", "package_that_is_not_there")
        cli.main()
        """
    )
    out, said = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert said == "featcore: package_that_is_not_there missing; run: pip install 'featcore[lab]'\n"


def test_any_other_crash_is_a_traceback_and_exit_3():
    process = python(
        """
        from featcore import cli
        def broken(): raise ValueError("a bug")
        cli.build_app = lambda: broken
        cli.main()
        """
    )
    out, said = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert said.startswith("Traceback")
    assert said.endswith("ValueError: a bug\nfeatcore: featcore crashed\n")


def test_the_command_line_imports_nothing_of_the_lab():
    process = python(
        """
        import sys, featcore.cli, featcore.report, featcore.experiments
        lab = {"typer", "rich", "jinja2", "matplotlib", "pydantic", "sklearn", "xarray", "pandas"}
        print(sorted(lab & set(sys.modules)))
        """
    )
    assert process.communicate()[0] == "[]\n"


def test_a_broken_pipe_is_quiet():
    process = python(
        "import sys; sys.argv = ['featcore', 'info']; from featcore.cli import main; main()"
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


def test_a_terminal_without_unicode_gets_question_marks():
    process = python(
        "from featcore.cli import _say, main; import sys; sys.argv = ['featcore', '--version']\n"
        "try: main()\nexcept SystemExit: _say('1 ± 2')",
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    out, said = process.communicate()
    assert out.splitlines()[-1] == "1 ? 2"
    assert said == ""


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "featcore", "reproduce", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'nonsense' is unknown" in done.stderr


def test_progress_lines_say_a_stage_and_then_wait(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.to(sys.stderr) as reporter:
        reporter.stage("training", 3)
        reporter.advance()
        now[0] += 11
        reporter.advance()
        reporter.stage("theory")
    assert capsys.readouterr().err == "training\ntraining: 2 of 3\ntheory\n"


def test_progress_bars_on_a_terminal(monkeypatch):
    class Terminal:
        text = ""
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    terminal = Terminal()
    with progress.to(terminal) as reporter:
        reporter.stage("training", 3)
        reporter.advance(3)
        reporter.stage("theory")
    assert "training" in terminal.text
    assert "theory" in terminal.text


def test_silence(capsys):
    with progress.Silent() as reporter:
        reporter.stage("training", 3)
        reporter.advance()
    assert capsys.readouterr() == ("", "")
