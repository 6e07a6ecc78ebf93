"""Where the samples of a finding lie: one small chart a table row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from featcore.experiments.claims import Finding

WIDTH = 132.0
_EDGE = 6.0


@dataclass(frozen=True)
class Chart:
    """Horizontal positions in a box `WIDTH` wide."""

    predicted: float
    allowed: tuple[float, float]
    samples: tuple[float, ...]
    mean: float


def chart(finding: Finding) -> Chart | None:
    """Return the chart of `finding`; None if there is no number to show."""
    claim, tolerance = finding.claim, finding.tolerance
    if not math.isfinite(finding.measured):
        return None
    if not math.isfinite(tolerance):
        tolerance = claim.bias
    low = -math.inf if claim.relation == "at_most" else claim.predicted - tolerance
    high = math.inf if claim.relation == "at_least" else claim.predicted + tolerance
    shown = [
        value for value in (claim.predicted, low, high, *finding.samples) if math.isfinite(value)
    ]
    # halves: the difference of two large floats may not be one
    start, half_span = min(shown), max(shown) / 2 - min(shown) / 2

    def place(value: float) -> float:
        if math.isinf(value):
            return WIDTH if value > 0 else 0.0
        if not half_span:
            return WIDTH / 2
        share = (value / 2 - start / 2) / half_span
        return round(_EDGE + share * (WIDTH - 2 * _EDGE), 2)

    return Chart(
        predicted=place(claim.predicted),
        allowed=(place(low), place(high)),
        samples=tuple(place(value) for value in finding.samples),
        mean=place(finding.measured),
    )
