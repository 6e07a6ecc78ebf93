"""One large gradient step on the first layer, then ridge regression on the second: spikes, and exact errors.

The setting is that of Moniri, Lee, Hassani and Dobriban, "A Theory of Non-Linear Feature Learning with One Gradient
Step in Two-Layer Neural Networks" (ICML 2024): a single-index teacher y = σ_*(<β_*, x>) + ε of Gaussian inputs, a
network f(x) = aᵀσ(Wx) with rows of W₀ uniform on the unit sphere and a ~ N(0, I/N), a step of size η = n^α on W, and
ridge regression for a on samples that the step has not seen. n, d and N grow in proportion: φ = d/n, ψ = d/N.

Beyond what that paper states in the limit of infinite spikes, `errors` is for spikes of any strength and is what
networks of a few hundred inputs follow; `conditional_errors` is for steps that are no small change of the features.
Formulas are derived in docs/derivations.md. The simulation is `featcore.one_step`, `featcore.features` and
`featcore.ridge`.
"""

from featcore.theory.one_step.conditional import conditional_errors
from featcore.theory.one_step.counting import number_of_spikes, spike_threshold
from featcore.theory.one_step.features_spectrum import FeaturesSpectrum, features_spectrum
from featcore.theory.one_step.fixed_point import FixedPoint, random_features_fixed_point
from featcore.theory.one_step.ridge import Errors, errors, limit_errors, random_features_errors
from featcore.theory.one_step.step import Step
from featcore.theory.one_step.weights_spectrum import WeightsSpectrum, weights_spectrum

__all__ = [
    "Errors",
    "FeaturesSpectrum",
    "FixedPoint",
    "Step",
    "WeightsSpectrum",
    "conditional_errors",
    "errors",
    "features_spectrum",
    "limit_errors",
    "number_of_spikes",
    "random_features_errors",
    "random_features_fixed_point",
    "spike_threshold",
    "weights_spectrum",
]
