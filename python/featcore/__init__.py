"""featcore: how wide two-layer ReLU networks learn features, simulated with the theory beside it."""

from featcore.data.dataset import Dataset
from featcore.network import Gradient, TwoLayerNet

__all__ = ["Dataset", "Gradient", "TwoLayerNet"]
