"""Experiments: one file a paper, with its settings, run, claims and figures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from featcore._validation import choice

if TYPE_CHECKING:
    from featcore.experiments.protocol import Experiment

# imported when asked for: a module brings matplotlib's and pydantic's friends with it
_MODULES = {
    "amplification": "featcore.experiments.amplification",
    "alignment": "featcore.experiments.alignment",
    "one-step": "featcore.experiments.one_step",
    "modes": "featcore.experiments.modes",
}

NAMES = tuple(_MODULES)


def get(name: str) -> Experiment:
    """Return the experiment called `name`, one of `NAMES`.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    choice("name", name, NAMES)
    return cast("Experiment", importlib.import_module(_MODULES[name]))
