"""Dynamics: a data set and a network go in, a run comes out."""

from featcore.dynamics.descent import descend
from featcore.dynamics.flow import flow
from featcore.dynamics.gradient import features, loss_and_grad
from featcore.dynamics.one_step import one_step
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Interrupted, ObserverError, Outcome, Run, State

__all__ = [
    "Interrupted",
    "ObserverError",
    "Outcome",
    "Recording",
    "Run",
    "State",
    "descend",
    "features",
    "flow",
    "loss_and_grad",
    "one_step",
]
