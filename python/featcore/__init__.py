"""featcore: how wide two-layer ReLU networks learn features, simulated with the theory beside it."""

from featcore import observables
from featcore._dispatch import build_info
from featcore.activations import GELU, Erf, LeakyReLU, ReLU, Softplus, Tanh
from featcore.data.dataset import Dataset
from featcore.dynamics.gradient import loss_and_grad
from featcore.dynamics.recording import Recording
from featcore.network import Gradient, TwoLayerNet

__all__ = [
    "GELU",
    "Dataset",
    "Erf",
    "Gradient",
    "LeakyReLU",
    "ReLU",
    "Recording",
    "Softplus",
    "Tanh",
    "TwoLayerNet",
    "build_info",
    "loss_and_grad",
    "observables",
]
