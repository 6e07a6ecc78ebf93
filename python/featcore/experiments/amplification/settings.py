"""Sizes and rates of the amplification experiment, and what --quick and --full change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic


class Settings(pydantic.BaseModel):
    """Sizes and rates; the defaults are those the claims are stated for."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    n: pydantic.PositiveInt = 1000
    n_test: pydantic.PositiveInt = 4000
    d: int = pydantic.Field(50, ge=2)
    width: pydantic.PositiveInt = 200
    cluster_std: pydantic.NonNegativeFloat = 0.1
    label_noise: float = pydantic.Field(0.15, ge=0.0, lt=0.5)
    step_size: pydantic.PositiveFloat = 1.0
    scale: pydantic.PositiveFloat = 0.01
    steps: int = pydantic.Field(300, ge=100)

    grid_points: int = pydantic.Field(5, ge=3, le=6)
    """Values of each of six parameters in the grid of amplification times."""
    grid_seeds: int = pydantic.Field(4, ge=2)
    noise_rates: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
    noise_seeds: int = pydantic.Field(4, ge=2)
    grokking_seeds: int = pydantic.Field(8, ge=2)
    phase_points: int = pydantic.Field(12, ge=4)
    """Values of d, and of |μ|, in the phase diagram."""
    phase_seeds: int = pydantic.Field(2, ge=2)

    @pydantic.field_validator("noise_rates")
    @classmethod
    def _below_one_half(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not {0.05, 0.1, 0.2} <= set(rates) or not all(0 <= rate < 0.5 for rate in rates):
            raise ValueError(
                f"noise_rates={rates} must lie in [0, 0.5) and have 0.05, 0.1 and 0.2, of which claims are made"
            )
        return tuple(sorted(rates))


def quick() -> Mapping[str, Any]:
    """Return what a quick run changes: the length after the last claim of the early phase, and fewer points."""
    return {
        "steps": 150,
        "grid_seeds": 2,
        "grid_points": 3,
        "noise_rates": (0.05, 0.1, 0.2, 0.4),
        "noise_seeds": 2,
        "grokking_seeds": 4,
        "phase_points": 6,
    }


def full() -> Mapping[str, Any]:
    """Return what a full run changes: finer grids, and the phase diagram of 20 × 20 points with 4 seeds each."""
    return {
        "grid_points": 6,
        "grid_seeds": 8,
        "noise_rates": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
        "noise_seeds": 8,
        "phase_points": 20,
        "phase_seeds": 4,
    }
