"""The spectrum of the weights after a step: a bulk, and one outlier beyond a transition (Baik, Ben Arous, Péché)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step.fixed_point import at_least_zero, positive
from featcore.theory.one_step.step import problem, shaped, step

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WeightsSpectrum:
    """Limits of the singular values of W = W₀ + ηG; arrays of one shape.

    Attributes
    ----------
    spike : ndarray
        θ = η|c₁||β||a|, the size of the rank-one part.
    edge : ndarray
        Largest singular value of W₀, 1 + √(N/d).
    outlier : ndarray
        Largest singular value of W; NaN if it is in the bulk.
    right_overlap, left_overlap : ndarray
        <v, β/|β|>² and <u, a/|a|>² of its singular vectors; 0 without an outlier.
    teacher_overlap : ndarray
        <v, β_*>².
    """

    spike: Array
    edge: Array
    outlier: Array
    right_overlap: Array
    left_overlap: Array
    teacher_overlap: Array


def weights_spectrum(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    step_size: ArrayLike,
    noise: ArrayLike = 0.0,
    head_norm: ArrayLike = 1.0,
) -> WeightsSpectrum:
    """Return the largest singular value of the weights after a step, and what its vectors know.

    The step follows the labels. Of W₀ + θ âb̂ᵀ a singular value stands outside the bulk if and only if
    θ > (N/d)^{1/4}.

    Parameters
    ----------
    activation, link, d, width, step_size, noise
        As of `errors`.
    n : array_like
        Samples of the step's batch.
    head_norm : array_like
        |a|, 1 for a ~ N(0, I/N).

    Returns
    -------
    WeightsSpectrum

    Raises
    ------
    TypeError, ValueError
        As of `errors`.

    Notes
    -----
    The outlier and its overlaps are the known ones of a rectangular Gaussian matrix and a spike (Benaych-Georges and
    Nadakuditi, 2012); θ is derived here (docs/derivations.md). The rest of the gradient is left out. It lengthens
    neurons: at d = 600, N = 900, η = 3 the outlier was 4 % and the overlap with β 0.025 above the limit.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.weights_spectrum(
    ...     fc.ReLU().centred(), [0, 1], n=1200, d=600, width=900, step_size=[0.5, 3.0])
    >>> found.edge.round(3), found.outlier.round(3), found.teacher_overlap.round(3)
    (array([2.225, 2.225]), array([  nan, 2.514]), array([0.   , 0.447]))
    """
    of = problem(activation, link, n=n, d=d, width=width, noise=noise)
    of, (length, eta) = shaped(
        of,
        head_norm=positive("head_norm", head_norm),
        step_size=at_least_zero("step_size", step_size),
    )
    moved = step(of, eta)
    theta = np.abs(moved.strength) * np.sqrt(of.width) * length
    aspect = 1.0 / of.psi
    square = theta**2
    out = square > np.sqrt(aspect)
    safe = np.where(out, square, 1.0 + aspect)
    right = np.where(out, 1.0 - (aspect + safe) / (safe * (safe + 1.0)), 0.0)
    left = np.where(out, 1.0 - aspect * (1.0 + safe) / (safe * (safe + aspect)), 0.0)
    return WeightsSpectrum(
        spike=theta,
        edge=1.0 + np.sqrt(aspect),
        outlier=np.where(out, np.sqrt((1.0 + safe) * (aspect + safe) / safe), np.nan),
        right_overlap=right,
        left_overlap=left,
        teacher_overlap=moved.teacher_cosine**2 * right,
    )
