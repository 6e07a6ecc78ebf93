"""What an experiment is: settings and seeds go in; findings, figures and data come out."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from featcore._validation import integer
from featcore.experiments.claims import Finding

if TYPE_CHECKING:
    import matplotlib.figure
    import pydantic
    import xarray as xr

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Progress(Protocol):
    """Where an experiment says how far it is."""

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage of `total` units; it ends the one before."""

    def advance(self, amount: int = 1) -> None:
        """Finish `amount` units of the stage."""


@dataclass(frozen=True)
class Figure:
    """A figure that is drawn when the report is written.

    `draw` imports matplotlib itself and returns a new `matplotlib.figure.Figure`. It is called
    inside the report's style: fonts, constrained layout, the colours "C0" to "C6" and the size are
    set. The default of 5.6 × 3.4 inches stands in one of two columns; more than 7 inches take both,
    and 11.4 fill them. It saves nothing and never touches pyplot. Theory is drawn dashed, in the
    text colour.

    Parameters
    ----------
    name : str
        File name without ending: a-z, 0-9, "-" and "_".
    title : str
        Heading above the figure.
    caption : str
        What is seen, for a reader who does not know the code and for one who cannot see the figure.
    draw : callable
        () -> matplotlib.figure.Figure.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], matplotlib.figure.Figure]

    def __post_init__(self) -> None:
        _check_name("name", self.name)


@dataclass(frozen=True)
class Animation:
    """A moving picture that is made when the report is written; it stands among the figures.

    Parameters
    ----------
    name, title, caption : str
        As of a `Figure`.
    save : callable
        path -> anything: writes a GIF there.
    """

    name: str
    title: str
    caption: str
    save: Callable[[Path], object]

    def __post_init__(self) -> None:
        _check_name("name", self.name)


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """Everything a report needs of one experiment.

    Parameters
    ----------
    name, title : str
        As of the experiment.
    summary : str
        Plain text; paragraphs are parted by an empty line.
    settings : mapping
        `settings.model_dump(mode="json")`.
    seeds : sequence of int
        As given to `run`.
    findings : sequence of Finding
        In reading order; keys are unique.
    figures : sequence of Figure and Animation
        In reading order; names are unique.
    data : mapping of str to xarray.Dataset
        What the figures and findings were made from; a file each.
    notes : sequence of str
        What a reader should know before trusting the numbers.
    seconds : float
        Wall time of the run.

    Raises
    ------
    ValueError
        If a name cannot be a file name, or a key or figure name occurs twice.
    """

    name: str
    title: str
    summary: str
    settings: Mapping[str, Any]
    seeds: Sequence[int]
    findings: Sequence[Finding]
    figures: Sequence[Figure | Animation] = ()
    data: Mapping[str, xr.Dataset] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        for key in self.data:
            _check_name("data key", key)
        _check_unique("findings", [finding.claim.key for finding in self.findings])
        _check_unique("figures", [figure.name for figure in self.figures])


class Experiment(Protocol):
    """An experiment; a module with these names at its top is one.

    `Settings()` holds the defaults and is validated before anything is computed. An experiment that
    can run on the user's own files has a field `data: Path | None = None` in its settings, whose
    validator refuses a folder without them; the command line fills it from --data.
    """

    name: str
    title: str
    default_seeds: int
    """How many seeds are run unless told otherwise."""
    quick_seeds: int
    """How many with --quick."""

    @property
    def Settings(self) -> type[pydantic.BaseModel]:
        """A pydantic model with `frozen=True, extra="forbid"`."""

    def quick(self) -> Mapping[str, Any]:
        """Return the arguments of `Settings` that differ from the defaults in a quick run."""

    def full(self) -> Mapping[str, Any]:
        """Return the arguments of `Settings` that differ from the defaults in a full run."""

    def run(self, settings: Any, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
        """Measure with every seed and judge the claims, which are built before the first run."""


def fresh_seeds(k: int) -> list[int]:
    """Return `k` different seeds below 2³² from the operating system's entropy.

    Nobody has looked at their outcome; print them, so that a failure can be repeated.
    """
    k = integer("k", k, least=1)
    seeds: dict[int, None] = {}
    while len(seeds) < k:
        seeds[secrets.randbits(32)] = None
    return list(seeds)


def _check_name(label: str, name: str) -> None:
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(
            f"{label}={name!r} cannot be a file name everywhere; use a-z, 0-9, '-' and '_' only"
        )


def _check_unique(label: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"{label} has {', '.join(map(repr, twice))} more than once; give each its own name"
        )
