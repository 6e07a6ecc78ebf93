"""Early neuron alignment on orthogonally separable data: cones, extremal vectors, times, bounds, limits.

The setting is that of Min, Mallada and Vidal, "Early Neuron Alignment in Two-layer ReLU Networks
with Small Initialization" (ICLR 2024): f(x) = Σ_j v_j relu(<w_j, x>), both layers trained by
gradient flow from a tiny initial scale, labels ±1, data of which all x_i y_i have positive pairwise
correlations.

Times depend on how the loss is reduced. The paper's flow follows the **sum** over samples; a mean
loss takes n times as long, and step k of gradient descent with step size η is at t = ηk. Times of
the early phase assume a residual of modulus 1 at f = 0 (exponential or squared loss, or twice the
logistic); for the plain logistic loss it is 1/2 and they double.
"""

from featcore.theory.alignment.cones import (
    Cone,
    class_sums,
    cone_distance,
    cone_membership,
    separability,
)
from featcore.theory.alignment.extremal import ExtremalVectors, extremal_vectors
from featcore.theory.alignment.max_margin import max_margin_vectors
from featcore.theory.alignment.theorem import Bound, Bounds, bounds
from featcore.theory.alignment.times import (
    drop_time,
    entry_time,
    loss_envelope,
    slowest_entry_time,
)

__all__ = [
    "Bound",
    "Bounds",
    "Cone",
    "ExtremalVectors",
    "bounds",
    "class_sums",
    "cone_distance",
    "cone_membership",
    "drop_time",
    "entry_time",
    "extremal_vectors",
    "loss_envelope",
    "max_margin_vectors",
    "separability",
    "slowest_entry_time",
]
