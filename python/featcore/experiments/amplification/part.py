"""What the parts of the experiment share: claims go in, findings, figures and data come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from featcore.experiments.claims import Claim, Finding
from featcore.experiments.protocol import Figure

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Part:
    """What one part of the experiment found."""

    findings: Sequence[Finding]
    figures: Sequence[Figure] = ()
    data: Mapping[str, xr.Dataset] = field(default_factory=dict)
    notes: Sequence[str] = ()


def judged(claims: Sequence[Claim], samples: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Return a finding a claim, in order."""
    return [claim.judge(samples[claim.key]) for claim in claims]


def child(seed: int, *key: int) -> np.random.SeedSequence:
    """Return the seed of one draw of a part; parts and draws differ in `key`."""
    return np.random.SeedSequence(seed, spawn_key=key)
