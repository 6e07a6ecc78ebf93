"""The floors of speed, as a table of what holds: run on a quiet machine.

    python bench/steps.py [REPORT.json]

Measures with `featcore.benchmark.measure`, or judges what `featcore bench --json REPORT.json` has stored. Exits with 1
if a floor is missed, or cannot be judged because a shape or a peer is not in the report.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from featcore.benchmark import PEERS, Report, Result, Shape, measure


@dataclass(frozen=True)
class Floor:
    """What must be reached at a shape, in float32 and float64; `of` is "fraction" or "ratio"."""

    shape: Shape
    of: str
    float32: float
    float64: float


FLOORS = (
    # of the multiply-add rate measured on the spot
    Floor(Shape(2000, 500, 4096), "fraction", 0.75, 0.70),
    Floor(Shape(2115, 784, 1000), "fraction", 0.75, 0.70),
    Floor(Shape(1000, 100, 4096), "fraction", 0.65, 0.65),
    # time of the fastest peer over featcore's
    Floor(Shape(1000, 100, 4096), "ratio", 2.2, 2.0),
    Floor(Shape(2000, 500, 4096), "ratio", 1.8, 1.5),
    Floor(Shape(2115, 784, 1000), "ratio", 1.6, 1.4),
    Floor(Shape(1000, 10, 16384), "ratio", 10, 6),
    Floor(Shape(100, 2, 100000), "ratio", 10, 6),
    Floor(Shape(100, 20, 100), "ratio", 2.5, 2.5),
    Floor(Shape(300, 2, 500), "ratio", 5, 5),
    Floor(Shape(1000, 50, 200), "ratio", 2, 2),
    Floor(Shape(200, 20000, 500), "ratio", 50, 50),
)


def reached(floor: Floor, result: Result | None) -> float | None:
    """Return what `result` reaches; None if it does not say."""
    if result is None:
        return None
    if floor.of == "fraction":
        return result.fraction
    return result.least_ratio if set(result.peers) == set(PEERS) else None


def main() -> int:
    if len(sys.argv) > 1:
        report = Report.from_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    else:
        report = measure(progress=lambda line: print(line, file=sys.stderr))
    print(report.table(), end="\n\n")
    results = {(result.shape, result.dtype): result for result in report.results}
    missed = 0
    for floor in FLOORS:
        for dtype in ("float32", "float64"):
            least = getattr(floor, dtype)
            value = reached(floor, results.get((floor.shape, dtype)))
            verdict = "unknown" if value is None else "holds" if value >= least else "FAILS"
            missed += verdict != "holds"
            shown = "–" if value is None else f"{value:.2f}"
            print(
                f"{verdict:8}{floor.shape!s:18}{dtype}  {floor.of:9}{shown:>6}, floor {least:.2f}"
            )
    print(f"{missed} of {2 * len(FLOORS)} floors missed or unknown")
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
