"""Sizes and rates of the alignment experiment, and what --quick and --full change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

import featcore as fc

WIDTH = 50
SCALE = 1e-6
"""Of the paper, and fixed: neurons, and the standard deviation of all initial weights."""
EARLY, LATE = 7000, 21000
"""Iterations of the paper's snapshots of its two-dimensional cases."""


class Settings(pydantic.BaseModel):
    """Sizes and rates; the defaults are those the claims are stated for."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    step_size: pydantic.PositiveFloat = 2e-3
    """Of the paper: its two-dimensional cases, and MNIST."""
    digit_pairs: tuple[tuple[int, int], ...] = ((1, 0), (3, 8), (1, 7))
    """Pairs of digits, the positive class first."""
    digit_seeds: Annotated[int, pydantic.Field(ge=2)] = 16
    digit_step_size: pydantic.PositiveFloat = 5e-3
    """Of scikit-learn's digits."""
    data: Path | None = None
    """Folder of IDX files, which then stand for scikit-learn's digits."""
    idx_seeds: Annotated[int, pydantic.Field(ge=2)] = 4
    flow_seeds: Annotated[int, pydantic.Field(ge=2)] = 10
    """Of the parts that follow flows."""
    grid_points: Annotated[int, pydantic.Field(ge=3)] = 5
    """Values of n, of μ and of ε along their two decades and more."""

    @pydantic.field_validator("data")
    @classmethod
    def _has_images(cls, folder: Path | None) -> Path | None:
        if folder is not None:
            # limit: reads and checks the files without keeping all images
            fc.data.idx(folder, limit=2)
        return folder

    @pydantic.field_validator("digit_pairs")
    @classmethod
    def _are_pairs(cls, pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if not pairs or len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs):
            raise ValueError(f"digit_pairs={pairs} must be different pairs of different digits")
        return pairs


def quick() -> Mapping[str, Any]:
    """Return what a quick run changes: fewer seeds and points."""
    return {"digit_seeds": 6, "idx_seeds": 2, "flow_seeds": 3, "grid_points": 3}


def full() -> Mapping[str, Any]:
    """Return what a full run changes: more seeds, and finer grids."""
    return {"digit_seeds": 20, "idx_seeds": 8, "flow_seeds": 20, "grid_points": 9}
