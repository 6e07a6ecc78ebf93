"""The kinds of dynamics, by the name that settings have: what a run of each asks for, and how one goes on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
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

    def check_changes(self, names: Iterable[str]) -> None:
        """Check what a run that goes on is asked to do otherwise, by name.

        Raises
        ------
        TypeError
            If it must stay as it is, or there is no such thing.
        """
        parameters = inspect.signature(self.resume).parameters.values()
        allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        for name in names:
            if name not in allowed:
                fixed = name in inspect.signature(self.call).parameters
                raise TypeError(
                    f"continue_() of {self.call.__name__} takes no {name}="
                    + (", which stays what it was" if fixed else "")
                    + f": it takes {', '.join(f'{one}=' for one in allowed)}"
                    + (f"; for another {name} start a new run from run.net" if fixed else "")
                )


KINDS = {
    "descend": Kind(descent.descend, descent.prepare, descent.prepare_more),
    "flow": Kind(flow, prepare, prepare_more),
}
