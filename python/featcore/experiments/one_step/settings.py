"""Seeds and grids of the one-step experiment, and what --quick and --full change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

Exponent = Annotated[float, pydantic.Field(ge=0.0, le=0.45)]


class Settings(pydantic.BaseModel):
    """Seeds and grids; the sizes of networks are those that the claims are stated for."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    alphas: Annotated[tuple[Exponent, ...], pydantic.Field(min_length=1)] = (
        0.1,
        0.2,
        0.3,
        0.4,
        0.45,
    )
    """Exponents α of step sizes n^α, of the two teachers."""
    cases: Annotated[int, pydantic.Field(ge=1)] = 3
    """How many settings of the table are run, the first ones."""
    draws: Annotated[int, pydantic.Field(ge=1)] = 1
    """Networks a seed, of the two teachers, the table, singular values and weights."""
    grid_seeds: Annotated[int, pydantic.Field(ge=2)] = 8
    """Of the parts that go over n/d, several directions and what follows the step."""
    test_samples: Annotated[int, pydantic.Field(ge=100)] = 3000


def quick() -> Mapping[str, Any]:
    """Return what a quick run changes: fewer seeds and exponents."""
    return {"alphas": (0.3,), "cases": 1, "grid_seeds": 4}


def full() -> Mapping[str, Any]:
    """Return what a full run changes: all exponents, all settings of the table, more seeds."""
    return {
        "alphas": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45),
        "cases": 100,
        "draws": 8,
        "grid_seeds": 16,
    }
