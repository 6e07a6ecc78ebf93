"""Sizes and rates of the amplification experiment, and what --quick and --full change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic


class Grokking(pydantic.BaseModel):
    """The part with few samples in very high dimension; clusters are balanced, flips exact."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    n: pydantic.PositiveInt = 200
    n_test: Annotated[int, pydantic.Field(ge=2)] = 400
    d: pydantic.PositiveInt = 40_000
    mean_norm: pydantic.PositiveFloat = 28.0
    label_noise: Annotated[float, pydantic.Field(ge=0.0, lt=0.5)] = 0.1
    width: pydantic.PositiveInt = 500
    step_size: pydantic.PositiveFloat = 1e-3
    steps: Annotated[int, pydantic.Field(ge=100)] = 200
    seeds: Annotated[int, pydantic.Field(ge=2)] = 8

    @pydantic.model_validator(mode="after")
    def _spans_less(self) -> Grokking:
        return _spanning(self, self.d)


class Phase(pydantic.BaseModel):
    """The phase diagram over dimension and length of the means."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    n: pydantic.PositiveInt = 100
    n_test: Annotated[int, pydantic.Field(ge=2)] = 200
    dimensions: tuple[pydantic.PositiveInt, pydantic.PositiveInt] = (1000, 40_000)
    norms: tuple[pydantic.PositiveFloat, pydantic.PositiveFloat] = (2.0, 40.0)
    label_noise: Annotated[float, pydantic.Field(ge=0.0, lt=0.5)] = 0.1
    width: pydantic.PositiveInt = 200
    scale: pydantic.PositiveFloat = 1e-7
    step_size_times_d: pydantic.PositiveFloat = 40.0
    """Outputs on the training samples grow at one rate at all dimensions."""
    steps: pydantic.PositiveInt = 100
    points: Annotated[int, pydantic.Field(ge=4)] = 12
    """Values of the dimension, and of the norm, evenly in their logarithms."""
    seeds: Annotated[int, pydantic.Field(ge=2)] = 2

    @pydantic.model_validator(mode="after")
    def _spans_less(self) -> Phase:
        return _spanning(self, self.dimensions[0])


_Part = TypeVar("_Part", Grokking, Phase)


def _spanning(part: _Part, d: int) -> _Part:
    if d < part.n + part.n_test + 2:
        raise ValueError(
            f"n={part.n} and n_test={part.n_test} samples and two means span more than the dimension {d}; "
            "lower them, or raise the dimension"
        )
    return part


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
    grokking: Grokking = Grokking()
    phase: Phase = Phase()

    @pydantic.field_validator("noise_rates")
    @classmethod
    def _below_one_half(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if not {0.05, 0.2} <= set(rates) or not all(0 <= rate < 0.5 for rate in rates):
            raise ValueError(
                f"noise_rates={rates} must lie in [0, 0.5) and have 0.05 and 0.2, of which claims are made"
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
        "grokking": {"seeds": 4},
        "phase": {"points": 6},
    }


def full() -> Mapping[str, Any]:
    """Return what a full run changes: finer grids, and the phase diagram of 20 × 20 points with 4 seeds each."""
    return {
        "grid_points": 6,
        "grid_seeds": 8,
        "noise_rates": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
        "noise_seeds": 8,
        "phase": {"points": 20, "seeds": 4},
    }
