"""The command `featcore`."""

# No `from __future__ import annotations` here: typer needs the annotations of the commands as
# objects, for they are local to `build_app`, so that a missing typer can be told kindly.

import importlib.util
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

if TYPE_CHECKING:
    import typer

    from featcore.benchmark import Growth, Report, Shape
    from featcore.experiments.protocol import ExperimentResult

_LAB = ("jinja2", "matplotlib", "pydantic", "rich", "sklearn", "typer")

_ALL_HOLD, _A_CLAIM_FAILS, _BAD_ARGUMENT, _CRASH, _INTERRUPTED = 0, 1, 2, 3, 130

_SEEDS_END = 2**63  # seeds are stored as signed 64-bit integers


def main() -> NoReturn:
    """Run the command line and exit: 0 if all went well, else as `featcore reproduce --help` says.

    An exception that nothing foresaw gives 3, not Python's 1: that says that a claim failed.
    """
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show ± gets a question mark, not a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    missing = [name for name in _LAB if importlib.util.find_spec(name) is None]
    if missing:
        _say(
            f"featcore: {', '.join(missing)} missing; run: pip install 'featcore[lab]'", error=True
        )
        sys.exit(_BAD_ARGUMENT)
    try:
        build_app()()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        _say_crash("featcore crashed", error)
        sys.exit(_CRASH)
    sys.exit(_ALL_HOLD)


def build_app() -> "typer.Typer":
    """Return the commands as a typer application."""
    import typer

    from featcore.benchmark import DTYPES, PEERS
    from featcore.experiments import NAMES

    app = typer.Typer(
        name="featcore",
        help="How wide two-layer ReLU networks learn features: theory held against simulation.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(asked: bool) -> None:
        if asked:
            from featcore.report.environment import version

            _say(f"featcore {version('featcore')}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=show_version, is_eager=True, help="Show the version."
            ),
        ] = False,
    ) -> None:
        pass

    @app.command()
    def reproduce(
        names: Annotated[
            list[str] | None,
            typer.Argument(metavar="NAME", help=f"{', '.join(NAMES)}; all by default."),
        ] = None,
        *,
        out: Annotated[
            Path, typer.Option(metavar="DIR", help="Folder of the report, its figures and data.")
        ] = Path("featcore-report"),
        seeds: Annotated[
            str | None,
            typer.Option(
                metavar="K",
                help="How many seeds, or which: 8 or 11,12,13. [default: the experiment's]",
            ),
        ] = None,
        fresh_seeds: Annotated[
            bool,
            typer.Option("--fresh-seeds", help="Seeds that no one has looked at; they are shown."),
        ] = False,
        quick: Annotated[
            bool, typer.Option("--quick", help="Smaller settings and fewer seeds.")
        ] = False,
        full: Annotated[
            bool, typer.Option("--full", help="Finer grids and phase diagrams; takes minutes.")
        ] = False,
        data: Annotated[
            Path | None,
            typer.Option(
                metavar="DIR",
                help="Folder with the files of MNIST, for alignment and modes. [default: $FEATCORE_MNIST]",
            ),
        ] = None,
    ) -> None:
        """Run experiments and hold what was measured against theory.

        Exits with 0 if no claim fails, 1 if one does, 2 for a bad argument or if the report cannot
        be written, 3 if an experiment or a figure crashed, 130 if interrupted.
        """
        try:
            chosen = _chosen(names or [], with_data=data is not None)
            # not typer's envvar: a folder that is there for all commands is not asked of all
            given = os.environ.get("FEATCORE_MNIST")
            folder = Path(given) if data is None and given else data
            plans = [_plan(name, seeds, fresh_seeds, _size(quick, full), folder) for name in chosen]
            _prepare(out)
        except _ArgumentError as error:
            raise typer.BadParameter(str(error), param_hint=error.argument) from None
        raise typer.Exit(_reproduce(plans, out))

    @app.command()
    def bench(
        *,
        shape: Annotated[
            list[str] | None,
            typer.Option(metavar="N,D,M", help="Samples, inputs, neurons. [default: nine shapes]"),
        ] = None,
        dtype: Annotated[
            list[str] | None,
            typer.Option(metavar="DTYPE", help=f"{' or '.join(DTYPES)}. [default: both]"),
        ] = None,
        peer: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME", help=f"{', '.join(PEERS)} or none. [default: those installed]"
            ),
        ] = None,
        threads: Annotated[
            int | None,
            typer.Option(metavar="K", help="Threads of all. [default: what the system allows]"),
        ] = None,
        quick: Annotated[
            bool, typer.Option("--quick", help="Fewer and smaller shapes, shorter rounds.")
        ] = False,
        growth: Annotated[
            bool,
            typer.Option("--growth", help="Tell how time grows with n, d, m and threads instead."),
        ] = False,
        json: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Write all numbers there as well.")
        ] = None,
    ) -> None:
        """Time a step of gradient descent against the machine's limit and other libraries.

        Options --shape, --dtype and --peer may be given several times. docs/benchmarks.md explains
        how to read the table. Exits with 0 if all went well, 1 if another library computes
        something else, 2 for a bad argument, a shape that does not fit into memory, or if the file
        cannot be written, 130 if interrupted.
        """
        try:
            plan = _bench_plan(shape, dtype, peer, threads, quick, growth, json)
        except _ArgumentError as error:
            raise typer.BadParameter(str(error), param_hint=error.argument) from None
        raise typer.Exit(_bench(plan))

    @app.command()
    def info() -> None:
        """Show versions, build and processors."""
        from featcore.report import environment

        known = {
            **environment.versions(),
            "processors": environment.processors(),
            **environment.build(),
        }
        column = max(map(len, known))
        _say("\n".join(f"{name:<{column}}  {value}" for name, value in known.items()))

    return app


class _ArgumentError(Exception):
    def __init__(self, argument: str, message: str) -> None:
        super().__init__(message)
        self.argument = argument


@dataclass(frozen=True)
class _Plan:
    """An experiment with its settings and seeds, all checked."""

    name: str
    settings: Any
    seeds: list[int]
    options: list[str]

    @property
    def command(self) -> str:
        """What repeats the run, also with fresh seeds."""
        if self.seeds == list(range(len(self.seeds))):
            text = str(len(self.seeds))
        else:
            text = ",".join(map(str, self.seeds)) + ("," if len(self.seeds) == 1 else "")
        return shlex.join(["featcore", "reproduce", self.name, "--seeds", text, *self.options])


def _chosen(names: Sequence[str], *, with_data: bool) -> list[str]:
    from featcore import experiments

    for name in names:
        if name not in experiments.NAMES:
            raise _ArgumentError(
                "NAME", f"{name!r} is unknown; choose from {', '.join(experiments.NAMES)}"
            )
    chosen = list(dict.fromkeys(names or experiments.NAMES))
    if with_data and not any(_takes_data(name) for name in chosen):
        raise _ArgumentError("--data", f"{', '.join(chosen)} reads no files; leave --data out")
    return chosen


def _takes_data(name: str) -> bool:
    from featcore import experiments

    return "data" in experiments.get(name).Settings.model_fields


def _size(quick: bool, full: bool) -> str:
    if quick and full:
        raise _ArgumentError("--full", "--quick asks for the opposite; leave one of them out")
    return "quick" if quick else "full" if full else "default"


def _plan(name: str, seeds: str | None, fresh: bool, size: str, data: Path | None) -> _Plan:
    import pydantic

    from featcore import experiments
    from featcore.experiments.protocol import fresh_seeds

    experiment = experiments.get(name)
    chosen = _parse_seeds(seeds)
    if chosen is None:
        quick = size == "quick"
        chosen = list(range(experiment.quick_seeds if quick else experiment.default_seeds))
    if fresh:
        if chosen != list(range(len(chosen))):
            raise _ArgumentError("--seeds", "say how many with --fresh-seeds, not which")
        chosen = fresh_seeds(len(chosen))
    arguments: dict[str, Any] = {}
    options: list[str] = []
    if size != "default":
        arguments |= experiment.quick() if size == "quick" else experiment.full()
        options.append(f"--{size}")
    if data is not None and _takes_data(name):
        if not os.path.isdir(data):  # Path.is_dir raises where it may not look
            raise _ArgumentError("--data", f"{os.fspath(data)!r} is no folder")
        arguments["data"] = data.absolute()
        options += ["--data", os.fspath(data.absolute())]
    try:
        settings = experiment.Settings(**arguments)
    except (pydantic.ValidationError, OSError) as error:
        if "data" not in arguments:
            raise
        if isinstance(error, OSError):  # pydantic lets it pass
            raise _ArgumentError("--data", str(error)) from None
        messages = (each["msg"].removeprefix("Value error, ") for each in error.errors())
        raise _ArgumentError("--data", "; ".join(messages)) from None
    return _Plan(name, settings, chosen, options)


def _parse_seeds(text: str | None) -> list[int] | None:
    """Return 0, 1, … for a count, the seeds themselves for a list with commas."""
    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.rstrip(",").split(",")]
    except ValueError:
        raise _ArgumentError(
            "--seeds", f"{text!r} must be a number, such as 8, or a list: 11,12,13"
        ) from None
    if "," not in text:
        if numbers[0] < 1:
            raise _ArgumentError("--seeds", f"{text} must be at least 1, or a list: 11,12,13")
        if numbers[0] > 100_000:
            remedy = f"; write {text}, for one seed" if numbers[0] < _SEEDS_END else ""
            raise _ArgumentError("--seeds", f"{text} must be at most 100000{remedy}")
        return list(range(numbers[0]))
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise _ArgumentError("--seeds", f"{text!r} must list different numbers, none negative")
    if max(numbers) >= _SEEDS_END:
        raise _ArgumentError("--seeds", f"{max(numbers)} must be below 2**63 = {_SEEDS_END}")
    return numbers


def _prepare(out: Path) -> None:
    from featcore.report.write import prepare

    try:
        prepare(out)
    except OSError as error:
        raise _ArgumentError("--out", str(error)) from None


def _reproduce(plans: Sequence[_Plan], out: Path) -> int:
    """Run the plans, write the report of what was finished, and return the exit status."""
    results: list[ExperimentResult] = []
    status, interrupted, crashed = _ALL_HOLD, False, False
    # whatever stops the run, what was finished before is worth a report
    try:
        _run(plans, results)
    except KeyboardInterrupt:
        interrupted = True
    except Exception as error:
        crashed = True
        _say_crash(f"{plans[len(results)].name} crashed", error)
    unfinished = [plan.name for plan in plans[len(results) :]]
    try:
        if results:
            _tell(results)
            status = _write(results, plans, out, unfinished)
    except KeyboardInterrupt:
        interrupted = True
    except Exception as error:
        crashed = True
        _say_crash("the report crashed", error)
    if interrupted:
        done = ", ".join(result.name for result in results) or "nothing"
        undone = ", ".join(unfinished) or "the report"
        _say(f"Interrupted. Finished: {done}. Not finished: {undone}.", error=True)
        return _INTERRUPTED
    if crashed:
        if unfinished:  # the traceback may be far above
            _say(f"featcore: not finished: {', '.join(unfinished)}", error=True)
        return _CRASH
    if status != _ALL_HOLD:
        return status
    failed = any(finding.verdict == "fails" for result in results for finding in result.findings)
    return _A_CLAIM_FAILS if failed else _ALL_HOLD


def _run(plans: Sequence[_Plan], results: list["ExperimentResult"]) -> None:
    from featcore import experiments
    from featcore.report import progress, wording

    for plan in plans:
        experiment = experiments.get(plan.name)
        _say(f"{plan.name}: {experiment.title}, seeds {wording.seeds(plan.seeds)}", error=True)
        with progress.to(sys.stderr) as reporter:
            results.append(experiment.run(plan.settings, seeds=plan.seeds, progress=reporter))


def _tell(results: Sequence["ExperimentResult"]) -> None:
    from featcore.report import table, wording

    _say(table.render(results, width=_terminal_width()))
    _say(f"{wording.headline([each for result in results for each in result.findings])}.")
    for verdict in ("fails", "inconclusive"):
        keys = [
            f"{result.name}/{finding.claim.key}"
            for result in results
            for finding in result.findings
            if finding.verdict == verdict
        ]
        if keys:
            _say(f"  {verdict}: {', '.join(keys)}")


def _write(
    results: Sequence["ExperimentResult"],
    plans: Sequence[_Plan],
    out: Path,
    unfinished: Sequence[str],
) -> int:
    """Write the report and return the exit status, for the part of the report in it."""
    from featcore.report.write import write

    commands = {plan.name: plan.command for plan in plans}
    try:
        paths = write(results, out, commands=commands, unfinished=unfinished)
    except OSError as error:  # it could be at the start: the disk is full, or the folder is gone
        _say(f"featcore: the report cannot be written: {error}", error=True)
        return _BAD_ARGUMENT
    for name, failure in paths.failures.items():
        _say_crash(f"the figure {name} could not be drawn", failure)
    _say(f"Report: {paths.html}")
    return _CRASH if paths.failures else _ALL_HOLD


@dataclass(frozen=True)
class _BenchPlan:
    """What is timed, all checked: arguments of `measure`, or of `growth`."""

    shapes: Sequence["Shape"]
    dtypes: Sequence[str]
    peers: Sequence[str]
    growth: bool
    json: Path | None
    options: dict[str, Any]


def _bench_plan(
    shapes: Sequence[str] | None,
    dtypes: Sequence[str] | None,
    peers: Sequence[str] | None,
    threads: int | None,
    quick: bool,
    growth: bool,
    json: Path | None,
) -> _BenchPlan:
    from featcore import benchmark

    by_default = benchmark.QUICK_SHAPES if quick else benchmark.SHAPES
    chosen: Sequence[Shape] = benchmark.GROWTH_BASES if growth else by_default
    if shapes:
        try:
            chosen = [benchmark.Shape.parse(text) for text in shapes]
        except ValueError as error:
            raise _ArgumentError("--shape", str(error)) from None
    for dtype in dtypes or ():
        if dtype not in benchmark.DTYPES:
            raise _ArgumentError(
                "--dtype", f"{dtype!r} is unknown; choose from {', '.join(benchmark.DTYPES)}"
            )
    if peers and growth:
        raise _ArgumentError("--peer", "--growth measures featcore alone; leave --peer out")
    for peer in peers or ():
        if peer not in (*benchmark.PEERS, "none"):
            raise _ArgumentError(
                "--peer", f"{peer!r} is unknown; choose from {', '.join(benchmark.PEERS)}, none"
            )
    if peers and "none" in peers and len(set(peers)) > 1:
        raise _ArgumentError("--peer", "'none' goes with no other; leave it or the others out")
    if threads is not None and not 1 <= threads <= 256:
        raise _ArgumentError("--threads", f"{threads} must be between 1 and 256")
    if json is not None and os.path.isdir(json):
        raise _ArgumentError("--json", f"{os.fspath(json)!r} is a folder; name a file")
    if json is not None and not os.path.isdir(json.absolute().parent):
        raise _ArgumentError("--json", f"{os.fspath(json)!r} lies in no folder that is there")
    return _BenchPlan(
        shapes=chosen,
        dtypes=dtypes or benchmark.DTYPES,
        peers=[peer for peer in peers or benchmark.PEERS if peer != "none"],
        growth=growth,
        json=json,
        options={"num_threads": threads, **({"seconds": 0.05, "repeats": 3} if quick else {})},
    )


def _bench(plan: _BenchPlan) -> int:
    """Measure, print the table, write the file, and return the exit status."""
    from featcore import benchmark
    from featcore.report import progress

    found: Report | Growth
    with progress.to(sys.stderr) as reporter:
        try:
            if plan.growth:
                found = benchmark.growth(
                    plan.shapes, plan.dtypes, progress=reporter.stage, **plan.options
                )
            else:
                found = benchmark.measure(
                    plan.shapes, plan.dtypes, plan.peers, progress=reporter.stage, **plan.options
                )
        except benchmark.DisagreementError as error:
            _say(f"featcore: {error}", error=True)
            return _A_CLAIM_FAILS
        except MemoryError as error:
            _say(f"featcore: {error}", error=True)
            return _BAD_ARGUMENT
    _say(found.table())
    if plan.json is not None:
        try:
            plan.json.write_text(found.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            _say(f"featcore: {plan.json} cannot be written: {error}", error=True)
            return _BAD_ARGUMENT
    return _ALL_HOLD


def _terminal_width() -> int | None:
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return None


def _say_crash(what: str, error: Exception) -> None:
    _say("".join(traceback.format_exception(error)) + f"featcore: {what}", error=True)


def _say(text: str, *, error: bool = False) -> None:
    from featcore.report.progress import say

    say(text, sys.stderr if error else sys.stdout)
