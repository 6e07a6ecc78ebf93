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
        data: Annotated[
            Path | None,
            typer.Option(metavar="DIR", help="Folder with the files of MNIST, for alignment."),
        ] = None,
    ) -> None:
        """Run experiments and hold what was measured against theory.

        Exits with 0 if no claim fails, 1 if one does, 2 for a bad argument or if the report cannot
        be written, 3 if an experiment or a figure crashed, 130 if interrupted.
        """
        try:
            plans = [
                _plan(name, seeds, fresh_seeds, quick, data)
                for name in _chosen(names or [], with_data=data is not None)
            ]
            _prepare(out)
        except _ArgumentError as error:
            raise typer.BadParameter(str(error), param_hint=error.argument) from None
        raise typer.Exit(_reproduce(plans, out))

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


def _plan(name: str, seeds: str | None, fresh: bool, quick: bool, data: Path | None) -> _Plan:
    import pydantic

    from featcore import experiments
    from featcore.experiments.protocol import fresh_seeds

    experiment = experiments.get(name)
    chosen = _parse_seeds(seeds)
    if chosen is None:
        chosen = list(range(experiment.quick_seeds if quick else experiment.default_seeds))
    if fresh:
        if chosen != list(range(len(chosen))):
            raise _ArgumentError("--seeds", "say how many with --fresh-seeds, not which")
        chosen = fresh_seeds(len(chosen))
    arguments: dict[str, Any] = dict(experiment.quick()) if quick else {}
    options = ["--quick"] if quick else []
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
