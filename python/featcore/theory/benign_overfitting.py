"""Benign overfitting and grokking on XOR clusters of few samples in very high dimension.

The setting is that of Xu, Wang, Frei, Vardi and Hu, "Benign Overfitting and Grokking in ReLU Networks for XOR Cluster
Data" (ICLR 2024): n samples x = ±μ_k + σz, z ~ N(0, I_d), with d far above n, |μ1| = |μ2| = R and R² far below σ²d, so
that samples are nearly orthogonal; clean label +1 on ±μ1 and -1 on ±μ2, flipped at rate η; a network f(x) = Σ_j a_j
relu(<w_j, x>) with a_j = ±1/√m fixed and w_j ~ N(0, ω² I), which descends the mean logistic loss in steps of size α.
That paper's abstract says that after one step the network is nearly linear, with a test error near 1/2 while all
training labels are fitted, and that it generalises later.

**Every formula of this module is derived here**, none is the paper's; the derivations are in docs/derivations.md.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, integer, real

Array = NDArray[np.float64]


def first_output(x: ArrayLike, train_x: ArrayLike, train_y: ArrayLike, step_size: float) -> Array:
    """Return the output after one step from vanishing weights: α/(8n) <Σ_i y_i x_i, x>, a linear classifier.

    A step moves neuron j by α a_j/(2n) Σ_i y_i 1(z_ij > 0) x_i, half of the samples, which half being a matter of the
    initial weights. The averages of relu over the neurons with a_j > 0 and over those with a_j < 0 have opposite
    arguments of equal law, and relu(u) - relu(-u) = u. By the symmetry x → -x such a classifier errs on exactly half
    of XOR clusters, while <Σ y x, x_i> is dominated by y_i|x_i|² on a training sample.

    Parameters
    ----------
    x : array_like, shape (k, d)
        Where.
    train_x : array_like, shape (n, d)
        Training samples.
    train_y : array_like, shape (n,)
        Their labels, -1 and +1.
    step_size : float
        α, positive.

    Returns
    -------
    ndarray, shape (k,)
        Output after the first step.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range or has the wrong shape.

    Notes
    -----
    Derived here. Premises: initial weights so small that their part in z is negligible after a step
    (`initialisation_steps` well below 1); clusters of equal size; a large width (a relative 1/√m remains of the
    random halves, which on new samples competes with a sum that is random, too).

    Examples
    --------
    >>> from featcore.theory import benign_overfitting
    >>> benign_overfitting.first_output([[4.0, 1.0]], [[2.0, 0.0], [0.0, 2.0]], [1, -1], step_size=0.8)
    array([0.3])
    """
    at = float_array("x", x, ndim=2).astype(np.float64)
    samples = float_array("train_x", train_x, ndim=2).astype(np.float64)
    labels = float_array("train_y", train_y, ndim=1).astype(np.float64)
    if at.shape[1] != samples.shape[1]:
        raise ValueError(
            f"x has shape {at.shape} and train_x {samples.shape}; both must have the same columns"
        )
    if labels.shape != (len(samples),):
        raise ValueError(
            f"train_y has shape {labels.shape}; train_x has {len(samples)} samples, so it must be ({len(samples)},)"
        )
    alpha = real("step_size", step_size, above=0.0)
    return np.asarray(alpha / (8.0 * len(samples)) * (at @ (labels @ samples)))


def first_training_accuracy(n: int, d: int) -> float:
    """Return the share of training labels, wrong ones included, that one step fits: Φ(√(d/n)).

    The linear classifier of `first_output` has y_i f(x_i) in proportion to |x_i|² + y_i <Σ_{k≠i} y_k x_k, x_i>: σ²d
    with a random part of standard deviation σ²√(nd).

    Parameters
    ----------
    n, d : int
        Number of samples and dimension, n at most d/2.

    Returns
    -------
    float
        Expected share.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range: for n above d/2 samples are far from orthogonal.

    Notes
    -----
    Derived here. Premises: those of `first_output`, and R² well below σ²√(d/n).

    Examples
    --------
    >>> from featcore.theory import benign_overfitting
    >>> round(benign_overfitting.first_training_accuracy(n=100, d=400), 4)
    0.9772
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    if 2 * n > d:
        raise ValueError(
            f"n={n} must be at most d/2 = {d / 2:g}: else samples are far from orthogonal"
        )
    return 0.5 * math.erfc(-math.sqrt(d / n / 2.0))


def initialisation_steps(
    n: int, d: int, width: int, scale: float, *, step_size: float, cluster_std: float = 1.0
) -> float:
    """Return in how many steps a sample's own pull outgrows the initial weights: 2nω√m/(ασ√d).

    A pre-activation starts at ωσ√d, and while the output is near 0 a sample adds α|a_j||x_i|²/(2n) = ασ²d/(2n√m) to
    its own a step. Below 1 the first step decides who is active for whom, and what is learnt from there on are features
    ("feature learning from the first step"); far above 1 the activation patterns stay those of the initial weights
    until the labels are fitted, as with a fixed kernel, and test accuracy waits ("grokking") or stays low.

    Parameters
    ----------
    n, d, width : int
        Number of samples, dimension and m, at least 1.
    scale, step_size, cluster_std : float
        ω, α and σ, positive.

    Returns
    -------
    float
        Steps, not rounded.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here, with |x|² = σ²d; an order of magnitude for what test accuracy waits for. At n = 200, d = 40 000,
    m = 500 and 4.5 such steps it reached 0.9 later by 19.4 ± 0.5 steps than from vanishing weights (8 seeds), and
    beyond `fitting_steps`, where pulls decay, later still.

    Examples
    --------
    >>> from featcore.theory import benign_overfitting
    >>> steps = benign_overfitting.initialisation_steps(200, 40_000, 500, 1e-4, step_size=1e-3)
    >>> round(steps, 2)
    4.47
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    m = integer("width", width, least=1)
    omega = real("scale", scale, above=0.0)
    alpha = real("step_size", step_size, above=0.0)
    sigma = real("cluster_std", cluster_std, above=0.0)
    return 2.0 * n * omega * math.sqrt(m) / (alpha * sigma * math.sqrt(d))


def fitting_steps(n: int, d: int, *, step_size: float, cluster_std: float = 1.0) -> float:
    """Return the steps until outputs on the training samples would reach 1: 16n/(3ασ²d).

    A sample's output is carried by the neurons of its label's sign that are active for it: half of them at first, and
    after a step half of the others, too, which the other samples happen to push across. These are 3/8 of all neurons,
    each with the sample's own pull: 3ασ²d/(16n) a step, before the loss saturates.

    Parameters
    ----------
    n, d : int
        Number of samples and dimension, at least 1.
    step_size, cluster_std : float
        α and σ, positive.

    Returns
    -------
    float
        Steps, not rounded.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here, with |x|² = σ²d and without what samples of a cluster do for each other. Premise:
    `initialisation_steps` well below √(n/(2d)). The first step adds two thirds of the others; later ones up to a third
    more, as more neurons are pushed across.

    Examples
    --------
    >>> from featcore.theory import benign_overfitting
    >>> round(benign_overfitting.fitting_steps(200, 40_000, step_size=1e-3), 1)
    26.7
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    alpha = real("step_size", step_size, above=0.0)
    sigma = real("cluster_std", cluster_std, above=0.0)
    return 16.0 * n / (3.0 * alpha * sigma**2 * d)


def cluster_pull(n: ArrayLike, d: ArrayLike, mean_norm: ArrayLike, cluster_std: Any = 1.0) -> Array:
    """Return nR²/(4σ²d): the pull of a sample's whole cluster on it, over its own.

    Above 1, clusters decide together which neurons they make active, and flipped samples in them go with the rest;
    well below 1, each sample is on its own, and a neuron's alignment with a mean is what the random half of the samples
    that it was active for leaves of it (of order √n R² against a noise of √(nd) σ²).

    Parameters
    ----------
    n, d, mean_norm, cluster_std : array_like of shapes that broadcast
        Number of samples, dimension, R and σ, all positive.

    Returns
    -------
    ndarray
        The ratio.

    Raises
    ------
    ValueError
        If an entry is not positive.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import benign_overfitting
    >>> benign_overfitting.cluster_pull(200, 40_000, [14.0, 28.0])
    array([0.245, 0.98 ])
    """
    arrays = [np.asarray(value, dtype=np.float64) for value in (n, d, mean_norm, cluster_std)]
    for name, array in zip(("n", "d", "mean_norm", "cluster_std"), arrays, strict=True):
        if not (np.isfinite(array) & (array > 0)).all():
            raise ValueError(f"{name} has an entry {array.min():g}; all must be positive")
    samples, dims, R, sigma = arrays
    return np.asarray(samples * R**2 / (4.0 * sigma**2 * dims))
