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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, frozen, integer, real
from featcore.theory._arrays import any_shape

Array = NDArray[np.float64]

_NODES = 32
"""Quadrature nodes on |c1| and on |c2|."""
_RADIAL_NODES = 6
"""Quadrature nodes on |w_perp|."""
_RANGE = 7.5
"""|c|/ω beyond which the Gaussian law is cut: 6e-14 of its mass."""


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
    eta = _label_noise(label_noise)

    # Dividing by the largest entry first keeps the norm of a neuron of size 1e-200 from
    # underflowing.
    largest = np.abs(neurons).max(axis=-1, keepdims=True)
    scaled = neurons / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    u = scaled / np.where(length > 0, length, 1.0)

    t = _standardised(u @ mu.T, sigma)
    gate = erf(t / math.sqrt(2.0))
    density = _density(t)
    along_u = 2.0 * sigma * (density[..., :1] - density[..., 1:]) * u
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
    alpha, m, eta, norm = _setting(step_size, width, label_noise, mean_norm)
    return alpha * (1.0 - 2.0 * eta) * norm**2 / (8.0 * math.sqrt(m))


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


def loss_floor(label_noise: float) -> float:
    """Return the least population logistic loss, H(η) = -η ln η - (1-η) ln(1-η).

    It is reached at |f| = ln((1-η)/η) and bounds the loss on fresh noisy data from below, not the
    training loss, which can fit the noise.

    Parameters
    ----------
    label_noise : float
        η, between 0 and 1/2.

    Returns
    -------
    float
        Nats.

    Raises
    ------
    TypeError, ValueError
        If `label_noise` is out of range.

    Notes
    -----
    Derived here (the entropy of a flip; clean errors of the clusters' overlap only raise it).

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.loss_floor(0.15), 4)
    0.4227
    """
    eta = _label_noise(label_noise)
    return -eta * math.log(eta) - (1.0 - eta) * math.log1p(-eta) if eta > 0 else 0.0


def oracle_error(cluster_std: float, mean_norm: float = 1.0) -> float:
    """Return the clean error of the rule |<x, μ1>| > |<x, μ2>|: 2Q(1-Q), Q = P(N(0,1) > R/(√2 σ)).

    By symmetry the rule is the best there is for Gaussian clusters.

    Parameters
    ----------
    cluster_std : float
        σ, at least 0.
    mean_norm : float
        R, positive.

    Returns
    -------
    float
        Probability that the rule differs from the clean label.

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
    >>> round(amplification.oracle_error(0.3), 4)
    0.0183
    """
    sigma = real("cluster_std", cluster_std, least=0.0)
    norm = real("mean_norm", mean_norm, above=0.0)
    # Q(z) = erfc(z/√2)/2 at z = R/(√2 σ)
    tail = 0.5 * math.erfc(norm / (2.0 * sigma)) if sigma > 0 else 0.0
    return 2.0 * tail * (1.0 - tail)


def noisy_error(label_noise: float, clean_error: float) -> float:
    """Return the error η + (1-2η)p against flipped labels of a rule with clean error p.

    Parameters
    ----------
    label_noise : float
        η, between 0 and 1/2; flips independent of x.
    clean_error : float
        p, between 0 and 1.

    Returns
    -------
    float
        Probability that the rule differs from the noisy label.

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
    >>> amplification.noisy_error(label_noise=0.25, clean_error=0.5)
    0.5
    """
    eta = _label_noise(label_noise)
    return eta + (1.0 - 2.0 * eta) * real("clean_error", clean_error, least=0.0, most=1.0)


@dataclass(frozen=True, eq=False)
class MeanField:
    """Averages of `mean_field` over the neurons: read-only arrays, shape (steps + 1,)."""

    step: NDArray[np.int64]
    """Gradient steps taken: 0, 1, …."""
    cos_mu1: Array
    """Mean |cos(w, μ1)| of the neurons with a_j > 0; equally, |cos(w, μ2)| of the others."""
    cos_mu2: Array
    """Mean |cos(w, μ2)| of the neurons with a_j > 0."""
    output: Array
    """F: the network's output is F at ±μ1 and -F at ±μ2."""


def mean_field(
    steps: int,
    *,
    d: int,
    width: int,
    scale: float,
    step_size: float,
    label_noise: float,
    cluster_std: float,
    mean_norm: float = 1.0,
) -> MeanField:
    """Return the descent of an infinitely wide network on infinitely many samples, step by step.

    A neuron moves along μ1, μ2 and its own direction only, so (c1, c2, ρ) = (<w, μ1>/R, <w, μ2>/R,
    |w_perp|) close. With t_k = R c_k/(σ|w|), a neuron with a_j = +1/√m moves by

        Δw = α r/(4√m) · {(2Φ(t1)-1) μ1 - (2Φ(t2)-1) μ2 + 2σ(φ(t1)-φ(t2)) w/|w|},

    where r = 1/(1+e^F) - η is the logistic residual at a mean with output F, averaged over label
    noise ((1-2η)/2 at F = 0). Neurons with a_j = -1/√m are these with μ1 and μ2 exchanged, hence
    F = (√m R/4)(E|c1| - E|c2|) at each step. The expectation over the Gaussian initial law is a
    fixed quadrature: no random numbers.

    Parameters
    ----------
    steps : int
        Number of gradient steps, at least 0.
    d : int
        Input dimension, at least 2.
    width : int
        m: it enters through a_j = ±1/√m alone.
    scale : float
        ω, the standard deviation of the initial entries of W, positive.
    step_size : float
        α, positive.
    label_noise : float
        η, between 0 and 1/2.
    cluster_std : float
        σ, at least 0.
    mean_norm : float
        R, positive.

    Returns
    -------
    MeanField
        Mean cosines and output over steps 0 … `steps`.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here. What is neglected, and what that does to a simulation, with the mean square
    residual q = (1-η)/(1+e^F)² + η/(1+e^{-F})²:

    * Finite n. The sample's noise across μ1, μ2 is the same at every step and adds up to a drift of
      w out of their plane: a neuron that has left its initial weights behind makes the angle arctan
      κ with it, κ = 4σ√((d-2)/(2n)) Σ_k√q_k / (R Σ_k r_k). Simulated cosines are lower by about
      1/√(1+κ²), and keep falling once F has saturated and only noise is left to fit. This is first
      order in κ: at κ near 0.3 (σ = 0.3 with n = 1000, d = 50) they lose another 0.03 on the way.
      |cos(w, μ2)| of a neuron with a_j > 0 does not vanish but drifts towards 2(σ/R)√(q/n)/r, where
      unequal clusters balance. Both are sampling errors: they go as 1/√n.
    * Finite m. The number of neurons on a cluster, m/4, fluctuates, and F with it, by a relative
      2/√m.
    * The residual is taken at the means. The average of f over a cluster is smaller than F, by up
      to a relative √(2/π) σ/R (the neurons of the other class answer to its spread), so a simulated
      F gets ahead of this one by up to that much as it saturates.
    * The output of the initial network, of order ωR.

    Quadrature errors are below 1e-4 for d >= 10 and 5e-3 for smaller d. They reach 3e-3 where a
    step is so large against σ|w| that neurons jump to and fro across c2 = 0, or σ = 0.

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import amplification
    >>> theory = amplification.mean_field(
    ...     steps=10, d=50, width=200, scale=0.01, step_size=1.0, label_noise=0.15, cluster_std=0.1)
    >>> np.round(theory.cos_mu1[[0, 10]], 3)
    array([0.113, 0.647])
    """
    steps = integer("steps", steps, least=0)
    d = integer("d", d, least=2)
    omega = real("scale", scale, above=0.0)
    alpha, m, eta, norm = _setting(step_size, width, label_noise, mean_norm)
    sigma = real("cluster_std", cluster_std, least=0.0)
    from scipy.special import erf, expit

    c1, c2, rho, probability = _initial_law(d, omega)
    cos_mu1, cos_mu2, output = np.empty((3, steps + 1))
    for k in range(steps + 1):
        length = np.hypot(np.hypot(c1, c2), rho)
        cos_mu1[k] = probability @ (np.abs(c1) / length)
        cos_mu2[k] = probability @ (np.abs(c2) / length)
        output[k] = 0.25 * math.sqrt(m) * norm * (probability @ (np.abs(c1) - np.abs(c2)))
        pull = alpha * (float(expit(-output[k])) - eta) / (4.0 * math.sqrt(m))
        t1, t2 = (_standardised(norm * c / length, sigma) for c in (c1, c2))
        radial = 2.0 * sigma * (_density(t1) - _density(t2)) / length
        c1 = c1 + pull * (norm * erf(t1 / math.sqrt(2.0)) + radial * c1)
        c2 = c2 + pull * (-norm * erf(t2 / math.sqrt(2.0)) + radial * c2)
        rho = rho + pull * radial * rho
    return MeanField(frozen(np.arange(steps + 1)), frozen(cos_mu1), frozen(cos_mu2), frozen(output))


def _initial_law(d: int, omega: float) -> tuple[Array, Array, Array, Array]:
    """Return nodes (c1, c2, ρ) and probabilities of w ~ N(0, ω² I), folded onto c1, c2 > 0.

    The dynamics are odd in c1 and in c2, so the signs average out; on the half-line the integrands
    have no kink and Gauss-Legendre converges fast. Nodes are dense at 0, where the gates vary on
    the scale σ√d ω.
    """
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    v = 0.5 * (node + 1.0)
    half_normal = _RANGE * v**2
    mass = weight * v * np.exp(-0.5 * half_normal**2)
    mass /= mass.sum()

    if d > 2:
        # ρ²/(2ω²) has the Gamma((d-2)/2) law; its Gauss rule comes from the Laguerre
        # recurrence, in which no Γ overflows at large d.
        k, order = np.arange(_RADIAL_NODES), (d - 4) / 2
        off = np.sqrt(k[1:] * (k[1:] + order))
        jacobi = np.diag(2.0 * k + order + 1.0) + np.diag(off, 1) + np.diag(off, -1)
        half_square, vectors = np.linalg.eigh(jacobi)
        chi, chi_mass = np.sqrt(2.0 * half_square), vectors[0] ** 2
    else:
        chi, chi_mass = np.zeros(1), np.ones(1)

    grids = np.meshgrid(half_normal, half_normal, chi, indexing="ij")
    c1, c2, rho = (omega * grid.ravel() for grid in grids)
    return c1, c2, rho, np.einsum("i,j,k->ijk", mass, mass, chi_mass).ravel()


def _standardised(projection: Array, sigma: float) -> Array:
    """Return projection/σ; at σ = 0 its limit, ±inf or 0."""
    if sigma > 0:
        with np.errstate(over="ignore"):
            return projection / sigma
    return np.where(projection == 0, 0.0, np.copysign(np.inf, projection))


def _density(t: Array) -> Array:
    """Return the standard normal density φ(t)."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi))


def _label_noise(label_noise: Any) -> float:
    return real("label_noise", label_noise, least=0.0, most=0.5)


def _setting(
    step_size: Any, width: Any, label_noise: Any, mean_norm: Any
) -> tuple[float, int, float, float]:
    """Return the checked (α, m, η, R)."""
    return (
        real("step_size", step_size, above=0.0),
        integer("width", width, least=1),
        _label_noise(label_noise),
        real("mean_norm", mean_norm, above=0.0),
    )
