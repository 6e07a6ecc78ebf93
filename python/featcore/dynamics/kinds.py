"""The kinds of dynamics, by the name that settings have: what a run of each asks for, and how one goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from featcore.dynamics import descent
from featcore.dynamics.flow import flow, prepare, prepare_more
from featcore.dynamics.run import Run
from featcore.dynamics.segment import Segment


@dataclass(frozen=True)
class Kind:
    """One dynamics."""

    call: Callable[..., Run]
    """What the user calls for one run: has the arguments and their defaults."""
    prepare: Callable[..., Segment]
    resume: Callable[..., Segment]


KINDS = {
    "descend": Kind(descent.descend, descent.prepare, descent.prepare_more),
    "flow": Kind(flow, prepare, prepare_more),
}
