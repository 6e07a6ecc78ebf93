"""Sizes of the modes experiment, and what --quick and --full change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic

import featcore as fc

Seeds = Annotated[int, pydantic.Field(ge=2)]
Share = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]


class Settings(pydantic.BaseModel):
    """Sizes; the defaults are those the claims are stated for."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    image_pairs: tuple[tuple[int, int], ...] = ((1, 0), (1, 7), (3, 8))
    """Pairs of digits, the class that is brightened first."""
    image_seeds: Seeds = 10
    image_shares: tuple[Share, ...] = (1.0, 0.95, 0.9, 0.8, 0.5)
    """Shares of the training images whose brightness tells the class."""
    data: Path | None = None
    """Folder of IDX files, which then stand for scikit-learn's digits."""
    idx_limit: Annotated[int, pydantic.Field(ge=20)] = 600
    """Images of a pair that are taken from there."""
    moon_seeds: Seeds = 10
    moon_time: pydantic.PositiveFloat = 1000.0
    """How long the moons are trained: 10 000 epochs of the published code."""
    grid_points: Annotated[int, pydantic.Field(ge=5)] = 61
    """Starts a side of the map of failed training."""
    starts: Annotated[int, pydantic.Field(ge=10)] = 100
    """Random networks a seed, of which it is counted how many learn."""

    @pydantic.field_validator("data")
    @classmethod
    def _has_images(cls, folder: Path | None) -> Path | None:
        if folder is not None:
            # limit: reads and checks the files without keeping all images
            fc.data.idx(folder, limit=2)
        return folder

    @pydantic.field_validator("image_pairs")
    @classmethod
    def _are_pairs(cls, pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        if not pairs or len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs):
            raise ValueError(f"image_pairs={pairs} must be different pairs of different digits")
        return pairs

    @pydantic.field_validator("image_shares")
    @classmethod
    def _has_the_claimed_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if not {1.0, 0.8} <= set(shares):
            raise ValueError(f"image_shares={shares} must have 1.0 and 0.8, which claims are about")
        return shares


def quick() -> Mapping[str, Any]:
    """Return what a quick run changes: one pair of digits, fewer seeds, shares and starts."""
    return {
        "image_pairs": ((3, 8),),
        "image_seeds": 8,
        "image_shares": (1.0, 0.8),
        "idx_limit": 400,
        "moon_seeds": 3,
        "grid_points": 21,
        "starts": 40,
    }


def full() -> Mapping[str, Any]:
    """Return what a full run changes: finer grids, and more images and starts."""
    return {
        "image_shares": (1.0, 0.99, 0.97, 0.95, 0.9, 0.8, 0.65, 0.5, 0.25, 0.0),
        "idx_limit": 1200,
        "grid_points": 121,
        "starts": 1000,
    }
