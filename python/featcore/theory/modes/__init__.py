"""Modes of learning: classes as independent modes, times to learn, failures, and starved features.

The setting is that of Tachet des Combes, Pezeshki, Shabanian, Courville and Bengio, "On the Learning Dynamics of Deep
Neural Networks" (arXiv 1809.06848): f(x) = Σ_j z_j relu(<w_j, x>) without biases, both layers trained by gradient flow
on the **mean** loss, labels l = ±1; y_j = <w_j, x> are pre-activations, u = l f logits, κ = |x| norms and p shares of
the data. For a sum over samples instead of the mean pass the number of samples as the share. Step k of gradient descent
with step size η is at t = ηk.
"""

from featcore.theory.modes.decoupling import (
    decoupled_responses,
    dual_flow,
    response_slopes,
    responses,
)
from featcore.theory.modes.deep import deep_logit, deep_time
from featcore.theory.modes.failure import (
    death_time,
    failure_region,
    never_learnt_probability,
    survival_probability,
)
from featcore.theory.modes.linear import linear_mode, linear_mode_time
from featcore.theory.modes.one_class import Mode, mode
from featcore.theory.modes.shared_neuron import SharedNeuron, separatrix, shared_neuron, winner
from featcore.theory.modes.starving import Starvation, late_coefficient, starvation
from featcore.theory.modes.steps import hinge_descent, hinge_descent_steps
from featcore.theory.modes.times import (
    gaussian_growth,
    logit_bound,
    small_init_time,
    target_logit,
    time_to_learn,
)
from featcore.theory.modes.two_classes import ClassMode, Modes, modes

__all__ = [
    "ClassMode",
    "Mode",
    "Modes",
    "SharedNeuron",
    "Starvation",
    "death_time",
    "decoupled_responses",
    "deep_logit",
    "deep_time",
    "dual_flow",
    "failure_region",
    "gaussian_growth",
    "hinge_descent",
    "hinge_descent_steps",
    "late_coefficient",
    "linear_mode",
    "linear_mode_time",
    "logit_bound",
    "mode",
    "modes",
    "never_learnt_probability",
    "response_slopes",
    "responses",
    "separatrix",
    "shared_neuron",
    "small_init_time",
    "starvation",
    "survival_probability",
    "target_logit",
    "time_to_learn",
    "winner",
]
