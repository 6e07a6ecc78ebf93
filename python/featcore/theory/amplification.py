"""Feature amplification on XOR clusters: population gradient, time scales, floors, mean field.

The setting is that of Frei, Chatterji and Bartlett, "Random Feature Amplification" (JMLR 24, 2023):
the network f(x) = Σ_j a_j relu(<w_j, x>) with a_j = ±1/√m fixed, half of each sign, and w_j ~ N(0,
ω² I), descends the mean logistic loss in steps of size α. A sample is x = μ + σz with z ~ N(0, I)
and μ one of ±μ1, ±μ2 with equal probability; the clean label is +1 on ±μ1 and -1 on ±μ2 and is
flipped independently with probability η. Where a formula needs them, μ1 and μ2 are orthogonal and
of one norm R (`mean_norm`).

**Every formula and number of this module is derived here**, none is the paper's; the derivations
are in docs/derivations.md. Times are counted in gradient steps, losses in nats.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from featcore._validation import float_array, integer, real
from featcore.theory._arrays import any_shape
from featcore.theory._floors import loss_floor, noisy_error, oracle_error
from featcore.theory._mean_field import MeanField, half_normal_nodes, mean_field
from featcore.theory._xor import Array, checked_label_noise, checked_setting, density, standardised

__all__ = [
    "MeanField",
    "amplification_time",
    "balance_cosine",
    "growth_per_step",
    "initial_mean_cosine",
    "initial_stable_rank",
    "loss_floor",
    "mean_field",
    "noisy_error",
    "oracle_error",
    "output_before_saturation",
    "population_gradient",
    "useless_projection",
]


def population_gradient(
    w: ArrayLike, means: ArrayLike, cluster_std: float, label_noise: float
) -> Array:
    """Return E[y 1(<w, x> > 0) x], which drives a neuron while the network's output is near 0.

    With u = w/|w| and t_k = <w, μ_k>/(σ|w|),

        E[y 1(<w,x> > 0) x] = (1-2η)/4 · {(2Φ(t1)-1) μ1 - (2Φ(t2)-1) μ2 + 2σ(φ(t1)-φ(t2)) u}.

    At f = 0 the logistic residual is y/2, so a step moves neuron j by α a_j/2 times this. The means
    may have any norms and need not be orthogonal.

    Parameters
    ----------
    w : array_like, shape (d,) or (m, d)
        A neuron, or a neuron a row. Only its direction matters; a zero row gives zero, as relu'(0)
        = 0.
    means : array_like, shape (2, d)
        μ1 and μ2.
    cluster_std : float
        σ, at least 0.
    label_noise : float
        η, between 0 and 1/2.

    Returns
    -------
    ndarray, shape of `w`
        The expectation, in units of x.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or a number is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import amplification
    >>> w, means = [3.0, 1.0, 0.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    >>> np.round(amplification.population_gradient(w, means, cluster_std=0.1, label_noise=0.1), 4)
    array([ 0.1999, -0.1997,  0.    ])
    """
    from scipy.special import erf

    neurons = float_array("w", w, ndim=1 if np.ndim(w) == 1 else 2).astype(np.float64)
    mu = float_array("means", means, ndim=2).astype(np.float64)
    if mu.shape != (2, neurons.shape[-1]):
        raise ValueError(
            f"means has shape {mu.shape}; w has dimension {neurons.shape[-1]}, so pass two means "
            f"as rows of shape (2, {neurons.shape[-1]})"
        )
    sigma = real("cluster_std", cluster_std, least=0.0)
    eta = checked_label_noise(label_noise)

    # Dividing by the largest entry first keeps the norm of a neuron of size 1e-200 from
    # underflowing.
    largest = np.abs(neurons).max(axis=-1, keepdims=True)
    scaled = neurons / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    u = scaled / np.where(length > 0, length, 1.0)

    t = standardised(u @ mu.T, sigma)
    gate = erf(t / math.sqrt(2.0))
    at_edge = density(t)
    along_u = 2.0 * sigma * (at_edge[..., :1] - at_edge[..., 1:]) * u
    total = gate[..., :1] * mu[0] - gate[..., 1:] * mu[1] + along_u
    return np.asarray((1.0 - 2.0 * eta) / 4.0 * total)


def growth_per_step(
    step_size: float, width: int, label_noise: float, mean_norm: float = 1.0
) -> float:
    """Return the growth of |<w, μ1>| a step if a_j = +1/√m: α(1-2η)R²/(8√m).

    It holds while the output is near 0 and once |<w, μ1>| is several σ|w|; until then it is an
    upper bound (up to terms of order σ). The sign of <w, μ1> stays. A neuron with a_j < 0 has it
    along μ2.

    Parameters
    ----------
    step_size : float
        α, positive.
    width : int
        m, at least 1.
    label_noise : float
        η, between 0 and 1/2.
    mean_norm : float
        R = |μ1| = |μ2|, positive.

    Returns
    -------
    float
        Growth of <w, μ1> (not of <w, μ1>/R) in one step.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.growth_per_step(step_size=1.0, width=200, label_noise=0.15), 6)
    0.006187
    """
    alpha, m, eta, norm = checked_setting(step_size, width, label_noise, mean_norm)
    return alpha * (1.0 - 2.0 * eta) * norm**2 / (8.0 * math.sqrt(m))


def useless_projection(
    step: ArrayLike,
    *,
    d: int,
    width: int,
    scale: float,
    step_size: float,
    label_noise: float,
    cluster_std: float,
    mean_norm: float = 1.0,
) -> Array:
    """Return the mean |<w, μ2>| of neurons with a_j > 0, which the first steps bring to 0.

    A neuron loses along the means of the other class what it gains along those of its own: with c =
    |<w, μ2>|/R and the initial norm L = ω√d, a step takes c to

        c - α(1-2η)R/(8√m) · (2Φ(t) - 1),    t = R c/(σL),

    at the full rate of `growth_per_step` while t is large, and exponentially once it is below 1. The mean is over
    c = |N(0, ω²)|.

    Parameters
    ----------
    step : array_like of integers, any shape
        Steps taken, from 0 to half of `amplification_time`.
    d, width : int
        Input dimension, at least 2, and m.
    scale, step_size, label_noise, cluster_std, mean_norm : float
        ω, α, η, σ and R.

    Returns
    -------
    ndarray, shape of `step`
        Mean |<w, μ2>|, in units of R².

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, and for steps beyond half of the amplification time: the norm of the
        neurons is no longer the initial one (`mean_field` goes on).

    Notes
    -----
    Derived here. Premises: output near 0, norms as at the start (12 % more at the last step allowed), steps
    that do not carry a neuron far across 0: α(1-2η)R/(8√m) well below σL/R. A finite sample does not let
    the projection vanish: see `balance_cosine`.

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import amplification
    >>> shrunk = amplification.useless_projection([0, 2, 5], d=50, width=200, scale=0.01,
    ...     step_size=1.0, label_noise=0.15, cluster_std=0.1)
    >>> np.round(shrunk / shrunk[0], 2)
    array([1.  , 0.24, 0.01])
    """
    from scipy.special import erf

    steps = any_shape("step", step)
    if steps.size and (steps.min() < 0 or (steps != np.rint(steps)).any()):
        raise ValueError(f"step has the entry {steps.min():g}; count whole steps from 0")
    d = integer("d", d, least=2)
    omega = real("scale", scale, above=0.0)
    sigma = real("cluster_std", cluster_std, least=0.0)
    _, _, _, norm = checked_setting(step_size, width, label_noise, mean_norm)
    limit = 0.5 * amplification_time(
        d, width, omega, step_size=step_size, label_noise=label_noise, mean_norm=norm
    )
    if steps.size and steps.max() > limit:
        raise ValueError(
            f"step={steps.max():g} is beyond {limit:.3g}, half of the amplification time, up to which norms are "
            "nearly the initial ones; use mean_field"
        )
    growth = growth_per_step(step_size, width, label_noise, norm) / norm
    nodes, probability = half_normal_nodes()
    c = omega * nodes
    last = int(steps.max()) if steps.size else 0
    means = np.empty(last + 1)
    for k in range(last + 1):
        means[k] = norm * (probability @ np.abs(c))
        gate = erf(standardised(norm * c / (omega * math.sqrt(d)), sigma) / math.sqrt(2.0))
        c = c - growth * gate
    return np.asarray(means[steps.astype(np.int64)])


def balance_cosine(
    n: int, output: ArrayLike, label_noise: float, cluster_std: float, mean_norm: float = 1.0
) -> Array:
    """Return what holds the mean |cos(w, μ2)| of neurons with a_j > 0 from vanishing: (σ/R)·2√(q/n)/r.

    The clusters at ±μ2 pull a neuron to <w, μ2> = 0 from both sides, but a sample of them does so with unequal
    strength: r = 1/(1+e^F) - η is the mean residual at output F, q = (1-η)/(1+e^F)² + η/(1+e^{-F})² its mean square.

    Parameters
    ----------
    n : int
        Number of training samples, at least 1.
    output : array_like of any shape
        F, the size of the output at the means, at least 0 and below ln((1-η)/η), where r vanishes.
    label_noise, cluster_std, mean_norm : float
        η, σ and R.

    Returns
    -------
    ndarray, shape of `output`
        Mean |cos(w, μ2)|.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or if the result exceeds σ/(2R): the linear restoring force
        behind it holds for |t2| well below 1 only (take more samples, or an earlier step).

    Notes
    -----
    Derived here, for neurons that point at ±μ1. This is where they would come to rest if nothing else moved. While they
    grow they are behind: at rate c ∝ t by a relative 1/(1 + √(2/π) R/σ), more while r falls; networks were at 0.72 ±
    0.05 and 0.70 ± 0.05 of it at steps 40 and 60 of n = 1000, d = 20, m = 100 (seeds 7300 to 7359). Premise: a width
    so large that ±μ2 carry equal outputs. Unequal numbers of neurons on them hold a neuron as well, by
    (σ/R)·√2 s(1-s)F/(r√m) with s = 1/(1+e^F), which does not fall with n: at m = 100 and F = 0.7 as much again.

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import amplification
    >>> np.round(amplification.balance_cosine(1000, [0.0, 1.0], label_noise=0.15, cluster_std=0.1), 4)
    array([0.009, 0.02 ])
    """
    n = integer("n", n, least=1)
    F = any_shape("output", output)
    eta = checked_label_noise(label_noise)
    sigma = real("cluster_std", cluster_std, least=0.0)
    norm = real("mean_norm", mean_norm, above=0.0)
    s = 1.0 / (1.0 + np.exp(F))
    r, q = s - eta, (1.0 - eta) * s**2 + eta * (1.0 - s) ** 2
    if F.size and (F.min() < 0 or r.min() <= 0):
        wrong = F.min() if F.min() < 0 else F.max()
        raise ValueError(
            f"output={wrong:g} must be at least 0 and below ln((1-η)/η), where nothing pulls any more"
        )
    t2 = 2.0 * np.sqrt(q / n) / r
    if t2.size and t2.max() > 0.5:
        raise ValueError(
            f"output={F.max():g} with n={n} and label_noise={eta:g} gives {t2.max():.2g} σ/R, beyond the 0.5 σ/R "
            "up to which the pull to 0 is linear; take more samples or a smaller output"
        )
    return np.asarray(sigma / norm * t2)


def initial_mean_cosine(d: int) -> float:
    """Return E|cos(w, μ)| of a Gaussian neuron: Γ(d/2)/(√π Γ((d+1)/2)), about √(2/(πd)).

    Parameters
    ----------
    d : int
        Input dimension, at least 1.

    Returns
    -------
    float
        Mean absolute cosine with any fixed direction.

    Raises
    ------
    TypeError, ValueError
        If `d` is not a positive integer.

    Notes
    -----
    Derived here (the exact mean of one coordinate's modulus on the sphere).

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.initial_mean_cosine(50), 4)
    0.1134
    """
    d = integer("d", d, least=1)
    return math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.sqrt(math.pi)


def initial_stable_rank(width: int, d: int) -> float:
    """Return the stable rank |W|²/|W|₂² of m × d Gaussian weights: md/(√m+√d)².

    Parameters
    ----------
    width, d : int
        m and d, at least 1.

    Returns
    -------
    float
        Stable rank, at most min(m, d).

    Raises
    ------
    TypeError, ValueError
        If an argument is not a positive integer.

    Notes
    -----
    Derived here, from the edge of the Marchenko-Pastur law: a limit of large m and d. The squared largest
    singular value of a finite matrix is smaller by a relative 1.2 (√m+√d)^{-2/3} (md)^{-1/6} on average (Tracy and
    Widom's law), 3 % at m = 200, d = 50, and the stable rank is larger by as much.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.initial_stable_rank(width=200, d=50), 1)
    22.2
    """
    m, d = integer("width", width, least=1), integer("d", d, least=1)
    return m * d / (math.sqrt(m) + math.sqrt(d)) ** 2


def amplification_time(
    d: int,
    width: int,
    scale: float,
    *,
    step_size: float,
    label_noise: float,
    mean_norm: float = 1.0,
) -> float:
    """Return the steps until |cos(w, μ1)| ≈ 1/√2 if a_j = +1/√m: 8√(md) ω/(α(1-2η)R).

    It is the time in which `growth_per_step` carries <w, μ1>/R from 0 to the initial norm ω√d.
    Neglected: the head start of the initial projection, the slow start of neurons nearly orthogonal
    to μ1, and saturation.

    Parameters
    ----------
    d : int
        Input dimension, at least 1.
    width : int
        m, at least 1.
    scale : float
        ω, the standard deviation of the initial entries of W, positive.
    step_size : float
        α, positive.
    label_noise : float
        η, between 0 and 1/2.
    mean_norm : float
        R, positive.

    Returns
    -------
    float
        Steps, not rounded; infinite at η = 1/2.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> steps = amplification.amplification_time(
    ...     d=50, width=200, scale=0.01, step_size=1.0, label_noise=0.15)
    >>> round(steps, 1)
    11.4
    """
    d = integer("d", d, least=1)
    omega = real("scale", scale, above=0.0)
    growth = growth_per_step(step_size, width, label_noise, mean_norm) / mean_norm
    return omega * math.sqrt(d) / growth if growth > 0 else math.inf


def output_before_saturation(
    step: ArrayLike, step_size: float, label_noise: float, mean_norm: float = 1.0
) -> Array:
    """Return the output at ±μ1 before the loss saturates, α(1-2η)R² step/32; minus that at ±μ2.

    A quarter of the neurons, those with a_j > 0 and <w_j, μ1> > 0, carry it, each
    `growth_per_step`/√m a step. It is meant for outputs below about 1/2; `mean_field` continues it
    beyond.

    Parameters
    ----------
    step : array_like of any shape
        Steps taken, at least 0.
    step_size : float
        α, positive.
    label_noise : float
        η, between 0 and 1/2.
    mean_norm : float
        R, positive.

    Returns
    -------
    ndarray, shape of `step`
        Output (log-odds).

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> amplification.output_before_saturation([0, 16, 32], step_size=1.0, label_noise=0.0)
    array([0. , 0.5, 1. ])
    """
    steps = any_shape("step", step)
    if steps.size and steps.min() < 0:
        raise ValueError(f"step has the negative entry {steps.min():g}; count steps from 0")
    # The width cancels: √m neurons' weight in the output, 1/√m in their growth.
    return np.asarray(steps * growth_per_step(step_size, 1, label_noise, mean_norm) / 4.0)
