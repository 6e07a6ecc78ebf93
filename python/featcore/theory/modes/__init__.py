"""Modes of learning: classes as independent modes, times to learn, failures, and starved features.

The setting is that of Tachet des Combes, Pezeshki, Shabanian, Courville and Bengio, "On the Learning Dynamics of Deep
Neural Networks" (arXiv 1809.06848): f(x) = Σ_j z_j relu(<w_j, x>) without biases, both layers trained by gradient flow on
the **mean** loss, labels l = ±1; y_j = <w_j, x> are pre-activations, u = l f logits, κ = |x| norms and p shares of the
data. For a sum over samples instead of the mean pass the number of samples as the share. Step k of gradient descent
with step size η is at t = ηk.
"""

from featcore.theory.modes.two_classes import ClassMode, Modes, modes
from featcore.theory.modes.one_class import Mode, mode
from featcore.theory.modes.starving import Starvation, starvation
from featcore.theory.modes.times import (
    gaussian_growth,
    logit_bound,
    small_init_time,
    target_logit,
    time_to_learn,
)

__all__ = [
    "ClassMode",
    "Mode",
    "Modes",
    "Starvation",
    "gaussian_growth",
    "logit_bound",
    "mode",
    "modes",
    "small_init_time",
    "starvation",
    "target_logit",
    "time_to_learn",
]
