"""Findings in words and numbers, the same on the terminal and in the report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from featcore.experiments.claims import VERDICTS, Claim, Finding, Source, Verdict

SOURCE_WORDS: dict[Source, str] = {
    "paper": "paper",
    "derived": "derived here",
    "calibrated": "calibrated",
}
VERDICT_SIGNS: dict[Verdict, str] = {"holds": "✓", "fails": "✗", "inconclusive": "?"}
_RELATION_SIGNS = {"equal": "=", "at_least": "≥", "at_most": "≤"}


def number(value: float, digits: int = 4) -> str:
    """Return `value` with up to `digits` digits, or a dash where there is none."""
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def predicted(claim: Claim) -> str:
    """Return the prediction with its relation, such as "≥ 0.99"."""
    return _with_unit(f"{_RELATION_SIGNS[claim.relation]} {number(claim.predicted)}", claim)


def measured(finding: Finding) -> str:
    """Return the mean, and its standard error with two digits, such as "0.6412 ± 0.0031"."""
    mean, error = finding.measured, finding.standard_error
    if finding.deterministic or not math.isfinite(error) or not math.isfinite(mean):
        return _with_unit(number(mean), finding.claim)
    if error <= 1e-9 * abs(mean):
        return _with_unit(f"{number(mean)} ± {error:.1g}", finding.claim)
    power = math.floor(math.log10(max(abs(mean), error)))
    if -4 <= power < 5:
        power = 0
    decimals = max(1 + power - math.floor(math.log10(error)), 0)
    # by way of text: 10.0**power leaves the range of floats where the numbers themselves do not
    figures = [f"{_shifted(value, power):.{decimals}f}" for value in (mean, error)]
    text = " ± ".join(figures)
    return _with_unit(f"({text})e{power}" if power else text, finding.claim)


def tolerance(finding: Finding) -> str:
    """Return the tolerance as it comes about, such as "0.01 + 3 × 0.0031 = 0.0193"."""
    if finding.deterministic or not math.isfinite(finding.tolerance):
        return tolerance_formula(finding)
    return f"{tolerance_formula(finding)} = {number(finding.tolerance, digits=3)}"


def tolerance_formula(finding: Finding) -> str:
    """Return bias + 3 SE in numbers; the bias alone where there is no randomness."""
    bias, error = number(finding.claim.bias), finding.standard_error
    if finding.deterministic:
        return bias
    return f"{bias} + 3 × {error:.2g}" if math.isfinite(error) else f"{bias} + 3 SE"


def seeds(values: Sequence[int]) -> str:
    """Return the seeds in words, such as "0 to 7"."""
    if len(values) > 2 and list(values) == list(range(values[0], values[0] + len(values))):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


def exception(error: BaseException) -> str:
    """Return the type and the message of `error`, such as "ValueError: no such axis"."""
    message = str(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of `text`, which are parted by empty lines."""
    return [
        paragraph for part in re.split(r"\n\s*\n", text) if (paragraph := " ".join(part.split()))
    ]


def counts(findings: Iterable[Finding]) -> dict[Verdict, int]:
    """Return how many findings there are of each verdict."""
    result = dict.fromkeys(VERDICTS, 0)
    for finding in findings:
        result[finding.verdict] += 1
    return result


def headline(findings: Sequence[Finding]) -> str:
    """Return the outcome in a line, such as "11 of 12 claims hold, 1 is inconclusive"."""
    count, total = counts(findings), len(findings)
    if not total:
        return "No claim was made"
    parts = [
        f"{count['holds']} of {total} claims hold"
        if total > 1
        else f"{count['holds']} of 1 claim holds"
    ]
    if count["holds"] == total > 1:
        parts = [f"All {total} claims hold"]
    if count["fails"]:
        parts.append(f"{count['fails']} fail{'s' if count['fails'] == 1 else ''}")
    if count["inconclusive"]:
        parts.append(
            f"{count['inconclusive']} {'is' if count['inconclusive'] == 1 else 'are'} inconclusive"
        )
    return ", ".join(parts)


def _shifted(value: float, power: int) -> float:
    half = power // 2
    return value / 10.0**half / 10.0 ** (power - half)


def _with_unit(text: str, claim: Claim) -> str:
    return f"{text} {claim.unit}" if claim.unit else text
