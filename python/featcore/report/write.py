"""The report on disk: figures, data, claims.json and one self-contained page."""

from __future__ import annotations

import base64
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcore.experiments.protocol import Animation, ExperimentResult, Figure
from featcore.report import environment, wording
from featcore.report.chart import WIDTH, chart

if TYPE_CHECKING:
    from featcore.experiments.claims import Finding
    from featcore.report.style import Rendered

_FOLDERS = ("figures", "data")
_FILES = ("report.html", "claims.json")
_LARGEST_INLINE_SVG = 1_500_000  # bytes; a figure of very many points goes into the page as PNG
_WIDEST_IN_A_COLUMN = 7.0  # inches; the page has two columns of figures, the default width is 5.6


@dataclass(frozen=True)
class _Picture:
    source: str
    wide: bool
    file: str


@dataclass(frozen=True)
class ReportPaths:
    """Where the parts of a report are."""

    folder: Path
    html: Path
    claims: Path
    figures: tuple[Path, ...]
    data: tuple[Path, ...]
    failures: Mapping[str, Exception] = field(default_factory=dict)
    """Figures that could not be drawn, named as their files, and why."""


def prepare(out_dir: str | os.PathLike[str]) -> Path:
    """Create the folder of a report and make sure that it can be written.

    Call it before anything is computed: a run should not be lost for want of a folder.

    Raises
    ------
    OSError
        If the folder, or something that must go into it, cannot be written.
    """
    folder = Path(out_dir)
    try:
        for place in (folder, *(folder / name for name in _FOLDERS)):
            place.mkdir(parents=True, exist_ok=True)
            _write_bytes(place / ".probe", b"")
            (place / ".probe").unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"out_dir={os.fspath(out_dir)!r} cannot be written ({reason}: {error.filename!r}); "
            "choose another folder"
        ) from error
    for name in _FILES:
        if (folder / name).is_dir():
            raise OSError(
                f"out_dir={os.fspath(out_dir)!r} has a folder {name!r} where a file must go; "
                "choose another folder"
            )
    return folder


def write(
    results: Sequence[ExperimentResult],
    out_dir: str | os.PathLike[str],
    *,
    commands: Mapping[str, str] | None = None,
    unfinished: Sequence[str] = (),
) -> ReportPaths:
    """Write figures, data, claims and the page; each file appears whole or not at all.

    A figure that cannot be drawn is no reason to lose the rest: the page says why in its place, and
    `failures` of what is returned has the exception.

    Parameters
    ----------
    results : sequence of ExperimentResult
        In reading order, each name once.
    out_dir : path
        Created if needed. Files of the same names are replaced, others left alone.
    commands : mapping, optional
        Name of an experiment to the command that repeats it.
    unfinished : sequence of str
        Experiments that were asked for and did not finish; the page says so.

    Raises
    ------
    OSError
        If something cannot be written.
    """
    folder = prepare(out_dir)
    commands = commands or {}
    about = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": environment.versions(),
        "build": environment.build(),
    }
    # what cannot be had again comes first: data, then claims, then what is made from them
    data = [path for result in results for path in _write_data(result, folder, about)]
    record = {
        **about,
        "unfinished": list(unfinished),
        "experiments": [_record(result, commands.get(result.name)) for result in results],
    }
    claims = folder / "claims.json"
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    _write_text(claims, text + "\n")

    figures: list[Path] = []
    pictures: dict[str, _Picture] = {}
    failures: dict[str, Exception] = {}
    for result in results:
        for figure in result.figures:
            name = f"{result.name}-{figure.name}"
            endings = (".gif",) if isinstance(figure, Animation) else (".png", ".svg")
            paths = [folder / "figures" / (name + ending) for ending in endings]
            try:
                pictures[name] = _draw(figure, paths)
            except _Undrawn as error:
                failures[name] = error.reason
                for path in paths:  # of an earlier report: not what the page is about
                    path.unlink(missing_ok=True)
                continue
            figures += paths
    html = folder / "report.html"
    _write_text(html, _page(results, about, commands, unfinished, pictures, failures))
    return ReportPaths(folder, html, claims, tuple(figures), tuple(data), failures)


def _write_data(result: ExperimentResult, folder: Path, about: Mapping[str, Any]) -> list[Path]:
    paths = []
    for key, dataset in result.data.items():
        path = folder / "data" / f"{result.name}-{key}.nc"
        described = dataset.assign_attrs(
            experiment=result.name,
            settings=json.dumps(result.settings, default=str),
            seeds=json.dumps(list(result.seeds)),
            versions=json.dumps(about["versions"]),
            build=json.dumps(about["build"], default=str),
        )
        _atomically(path, lambda target, it=described: it.to_netcdf(target, engine="h5netcdf"))  # type: ignore[misc]
        paths.append(path)
    return paths


def _record(result: ExperimentResult, command: str | None) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "settings": _json_safe(result.settings),
        "seeds": list(result.seeds),
        "seconds": result.seconds,
        "command": command,
        "notes": list(result.notes),
        "findings": [_finding_record(finding) for finding in result.findings],
    }


def _finding_record(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    names = (
        "key",
        "sentence",
        "source",
        "reference",
        "predicted",
        "relation",
        "bias",
        "resolution",
        "unit",
    )
    outcome = {
        "verdict": finding.verdict,
        "measured": finding.measured,
        "standard_error": finding.standard_error,
        "tolerance": finding.tolerance,
        "deterministic": finding.deterministic,
        "samples": list(finding.samples),
        "note": finding.note,
    }
    return {name: getattr(claim, name) for name in names} | {
        name: _json_safe(value) for name, value in outcome.items()
    }


def _json_safe(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are written as null and as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_safe(item) for item in value]
    return value


def _page(
    results: Sequence[ExperimentResult],
    about: Mapping[str, Any],
    commands: Mapping[str, str],
    unfinished: Sequence[str],
    pictures: Mapping[str, _Picture],
    failures: Mapping[str, Exception],
) -> str:
    from jinja2 import Environment, StrictUndefined

    template = (resources.files("featcore.report") / "report.html.j2").read_text(encoding="utf-8")
    surroundings = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    findings = [finding for result in results for finding in result.findings]
    return surroundings.from_string(template).render(
        results=results,
        about=about,
        commands={result.name: commands.get(result.name) for result in results},
        unfinished=unfinished,
        pictures=pictures,
        failures={name: wording.exception(error) for name, error in failures.items()},
        findings=findings,
        words=wording,
        chart=chart,
        chart_width=WIDTH,
    )


class _Undrawn(Exception):
    """A figure could not be drawn; that it cannot be written is another matter."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _draw(figure: Figure | Animation, paths: Sequence[Path]) -> _Picture:
    """Draw a figure, write its files, and return it as the page has it."""
    from featcore.report.style import render

    if isinstance(figure, Animation):
        (path,) = paths
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / path.name
            try:
                figure.save(film)
                content = film.read_bytes()
            except Exception as error:
                raise _Undrawn(error) from error
        _write_bytes(path, content)
        return _Picture(_data_url("gif", content), wide=True, file=path.name)
    try:
        drawn = render(figure.draw)
    except Exception as error:
        raise _Undrawn(error) from error
    for path, content in zip(paths, (drawn.png, drawn.svg), strict=True):
        _write_bytes(path, content)
    return _Picture(_inline(drawn), drawn.width > _WIDEST_IN_A_COLUMN, paths[-1].name)


def _inline(drawn: Rendered) -> str:
    if len(drawn.svg) <= _LARGEST_INLINE_SVG:
        return _data_url("svg+xml", drawn.svg)
    return _data_url("png", drawn.png)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _write_text(path: Path, text: str) -> None:
    # surrogates come from file names that are no Unicode; a report must not fail over one
    _write_bytes(path, text.encode("utf-8", errors="replace"))


def _write_bytes(path: Path, content: bytes) -> None:
    _atomically(path, lambda target: target.write_bytes(content))


def _atomically(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a temporary neighbour of `path`, then put it in its place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fill(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
