"""What experiments in parts share: claims go in, findings, figures and data come out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featcore.experiments.claims import Claim, Finding
from featcore.experiments.protocol import Animation, ExperimentResult, Figure, Progress

if TYPE_CHECKING:
    import pydantic
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Part:
    """What one part of an experiment found."""

    findings: Sequence[Finding]
    figures: Sequence[Figure | Animation] = ()
    data: Mapping[str, xr.Dataset] = field(default_factory=dict)
    notes: Sequence[str] = ()


class PartModule(Protocol):
    """A module that is a part: it states claims, and measures them."""

    def claims(self, settings: Any) -> list[Claim]:
        """Return the claims of this part, stated before any run."""

    def measure(
        self, settings: Any, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
    ) -> Part:
        """Run, and judge the claims."""


def stated(parts: Sequence[PartModule], settings: Any) -> dict[str, Claim]:
    """Return the claims of all parts by their keys."""
    return {claim.key: claim for part in parts for claim in part.claims(settings)}


def run(
    parts: Sequence[PartModule],
    settings: pydantic.BaseModel,
    *,
    seeds: Sequence[int],
    progress: Progress,
    **about: str,
) -> ExperimentResult:
    """Run all parts and judge their claims; `about` has the name, the title and the summary."""
    began = time.perf_counter()
    each = [list(part.claims(settings)) for part in parts]  # all, before anything runs
    done = [
        part.measure(settings, own, seeds=seeds, progress=progress)
        for part, own in zip(parts, each, strict=True)
    ]
    return ExperimentResult(
        **about,
        settings=settings.model_dump(mode="json"),
        seeds=list(seeds),
        findings=[finding for part in done for finding in part.findings],
        figures=[figure for part in done for figure in part.figures],
        data={key: dataset for part in done for key, dataset in part.data.items()},
        notes=[note for part in done for note in part.notes],
        seconds=time.perf_counter() - began,
    )


def judged(
    claims: Sequence[Claim], samples: Mapping[str, Sequence[float] | float]
) -> list[Finding]:
    """Return a finding a claim, in order; a number for samples is one without randomness."""
    return [
        claim.judge(samples[claim.key], deterministic=isinstance(samples[claim.key], float))
        for claim in claims
    ]


def child(seed: int, *key: int) -> np.random.SeedSequence:
    """Return the seed of one draw of a part; parts and draws differ in `key`."""
    return np.random.SeedSequence(seed, spawn_key=key)
