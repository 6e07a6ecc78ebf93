"""featcore: how wide two-layer ReLU networks learn features, simulated with the theory beside it.

Data and a network go into a dynamics; a run comes out; theory predicts it; an experiment holds the two against
each other.
"""

from typing import TYPE_CHECKING, Any

from featcore import data, losses, observables
from featcore._dispatch import build_info
from featcore.activations import GELU, Centred, Erf, Hermite, LeakyReLU, ReLU, Softplus, Tanh
from featcore.data.dataset import Dataset
from featcore.dynamics import (
    Interrupted,
    ObserverError,
    Outcome,
    Recording,
    Run,
    descend,
    features,
    flow,
    loss_and_grad,
    one_step,
)
from featcore.network import Gradient, TwoLayerNet
from featcore.regression import Ridge, ridge
from featcore.storage import load
from featcore.sweep import Ensemble, EnsembleInterrupted, EnsembleObserverError, ensemble

if TYPE_CHECKING:
    from featcore import baselines, benchmark, experiments, reference, theory

__version__: str = build_info()["version"]

__all__ = [
    "GELU",
    "Centred",
    "Dataset",
    "Ensemble",
    "EnsembleInterrupted",
    "EnsembleObserverError",
    "Erf",
    "Gradient",
    "Hermite",
    "Interrupted",
    "LeakyReLU",
    "ObserverError",
    "Outcome",
    "ReLU",
    "Recording",
    "Ridge",
    "Run",
    "Softplus",
    "Tanh",
    "TwoLayerNet",
    "__version__",
    "baselines",
    "benchmark",
    "build_info",
    "data",
    "descend",
    "ensemble",
    "experiments",
    "features",
    "flow",
    "load",
    "loss_and_grad",
    "losses",
    "observables",
    "one_step",
    "reference",
    "ridge",
    "theory",
]

_LAZY = ("baselines", "benchmark", "experiments", "reference", "theory")


def __getattr__(name: str) -> Any:
    # Rooms that need more than the core are loaded when somebody enters.
    if name in _LAZY:
        import importlib

        return importlib.import_module(f"featcore.{name}")
    raise AttributeError(f"module 'featcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
