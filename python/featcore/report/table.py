"""The claims on the terminal: a table where there is room, plain lines otherwise."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from featcore.experiments.claims import Finding, Verdict
from featcore.experiments.protocol import ExperimentResult
from featcore.report import wording

_NARROWEST_TABLE = 90
_LINE = 100
_STYLES: dict[Verdict, str] = {"holds": "green", "fails": "bold red", "inconclusive": "yellow"}


def render(results: Sequence[ExperimentResult], *, width: int | None = None) -> str:
    """Return the findings of `results` as text.

    Parameters
    ----------
    results : sequence of ExperimentResult
        What was found.
    width : int, optional
        Columns of the terminal; colours are used. None means that this is no terminal: plain lines.
    """
    if width is None or width < _NARROWEST_TABLE:
        return "\n".join(_lines(result, min(width or _LINE, _LINE)) for result in results)
    return "\n".join(_table(result, width) for result in results)


def _lines(result: ExperimentResult, width: int) -> str:
    blocks = [_wrap(_heading(result), width, "")]
    for finding in result.findings:
        claim = finding.claim
        blocks += [
            _wrap(f"[{finding.verdict}] {claim.sentence}", width, "  "),
            _wrap(
                f"predicted {wording.predicted(claim)}; measured {wording.measured(finding)}; "
                f"tolerance {wording.tolerance(finding)}",
                width,
                "      ",
            ),
            _wrap(f"{wording.SOURCE_WORDS[claim.source]}: {claim.reference}", width, "      "),
        ]
        if finding.note:
            blocks.append(_wrap(finding.note, width, "      "))
    return "\n".join(blocks) + "\n"


def _wrap(text: str, width: int, indent: str) -> str:
    # at least a few characters a line, however narrow the terminal
    return textwrap.fill(
        _printable(text), max(width, 24), initial_indent=indent, subsequent_indent=indent + "  "
    )


def _table(result: ExperimentResult, width: int) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=1)
    for name in ("predicted", "measured ± SE", "tolerance"):
        table.add_column(name, justify="right")
    for finding in result.findings:
        claim, style = finding.claim, _STYLES[finding.verdict]
        # Text, not markup: a sentence may contain brackets
        statement = Text(_printable(claim.sentence))
        statement.append(_printable(f"\n{_origin(finding)}"), style="dim")
        allowed = Text(wording.number(finding.tolerance, digits=3))
        if not finding.deterministic:
            allowed.append(f"\n{wording.tolerance_formula(finding)}", style="dim")
        table.add_row(
            Text(f"{wording.VERDICT_SIGNS[finding.verdict]} {finding.verdict}", style=style),
            statement,
            Text(_printable(wording.predicted(claim))),
            Text(_printable(wording.measured(finding))),
            allowed,
        )
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, highlight=False)
    console.print(Text(_heading(result), style="bold"))
    console.print(table)
    return out.getvalue()


def _origin(finding: Finding) -> str:
    origin = f"{wording.SOURCE_WORDS[finding.claim.source]}: {finding.claim.reference}"
    return f"{origin}\n{finding.note}" if finding.note else origin


def _heading(result: ExperimentResult) -> str:
    return _printable(f"{result.name}: {result.title} (seeds {wording.seeds(result.seeds)})")


def _printable(text: str) -> str:
    """Replace control characters: a text must not move the cursor or ring the bell."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
