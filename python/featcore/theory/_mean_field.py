"""`mean_field`: the descent of an infinitely wide network on infinitely many samples of XOR clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featcore._validation import frozen, integer, real
from featcore.theory._xor import Array, checked_setting, density, standardised

_NODES = 32
"""Quadrature nodes on |c1| and on |c2|."""
_RADIAL_NODES = 6
"""Quadrature nodes on |w_perp|."""
_RANGE = 7.5
"""|c|/ω beyond which the Gaussian law is cut: 6e-14 of its mass."""


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
    stable_rank: Array
    """|W|²/|W|₂² (Frobenius over spectral) of `width` neurons drawn from the mean field's law."""


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

    * The stable rank is that of m independent neurons: the two means are spikes over a bulk of d - 2
      directions, and the largest eigenvalue of WᵀW is that of the spiked-covariance model, or the
      edge of the bulk (Marchenko and Pastur) while the spikes are within. Right to some 3 % at
      m = 200 where spike and edge are apart. The drift above is not in it; it adds a relative κ²/2.

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
    alpha, m, eta, norm = checked_setting(step_size, width, label_noise, mean_norm)
    sigma = real("cluster_std", cluster_std, least=0.0)
    from scipy.special import erf, expit

    c1, c2, rho, probability = _initial_law(d, omega)
    cos_mu1, cos_mu2, output, stable_rank = np.empty((4, steps + 1))
    for k in range(steps + 1):
        length = np.hypot(np.hypot(c1, c2), rho)
        cos_mu1[k] = probability @ (np.abs(c1) / length)
        cos_mu2[k] = probability @ (np.abs(c2) / length)
        output[k] = 0.25 * math.sqrt(m) * norm * (probability @ (np.abs(c1) - np.abs(c2)))
        stable_rank[k] = _stable_rank(c1, c2, rho, probability, d, m)
        pull = alpha * (float(expit(-output[k])) - eta) / (4.0 * math.sqrt(m))
        t1, t2 = (standardised(norm * c / length, sigma) for c in (c1, c2))
        radial = 2.0 * sigma * (density(t1) - density(t2)) / length
        c1 = c1 + pull * (norm * erf(t1 / math.sqrt(2.0)) + radial * c1)
        c2 = c2 + pull * (-norm * erf(t2 / math.sqrt(2.0)) + radial * c2)
        rho = rho + pull * radial * rho
    columns = (frozen(column) for column in (cos_mu1, cos_mu2, output, stable_rank))
    return MeanField(frozen(np.arange(steps + 1)), *columns)


def _stable_rank(c1: Array, c2: Array, rho: Array, probability: Array, d: int, m: int) -> float:
    """Return the stable rank of m neurons, half with (c1, c2) along (μ1, μ2), half with (c2, c1)."""
    # in units of |w|, or squares of tiny scales would leave the range of floats
    largest = max(float(np.abs(c1).max()), float(np.abs(c2).max()), float(rho.max()))
    c1, c2, rho = c1 / largest, c2 / largest, rho / largest
    unit = float(probability @ (c1**2 + c2**2 + rho**2))
    square1, square2 = c1**2 / unit, c2**2 / unit
    mean1, mean2 = float(probability @ square1), float(probability @ square2)
    spike = 0.5 * (mean1 + mean2)
    # Of the two spikes the larger counts: they differ as sums over m neurons do.
    gap = float(probability @ (square1 - square2) ** 2) - (mean1 - mean2) ** 2
    spike += math.sqrt(max(gap, 0.0) / (2.0 * math.pi * m))
    bulk = float(probability @ rho**2) / unit / max(d - 2, 1)
    ratio = (d - 2) / m
    edge = bulk * (1.0 + math.sqrt(ratio)) ** 2
    outside = spike > bulk * (1.0 + math.sqrt(ratio))
    top = spike * (1.0 + ratio * bulk / (spike - bulk)) if outside else edge
    return 1.0 / max(top, spike)


def half_normal_nodes() -> tuple[Array, Array]:
    """Return nodes and probabilities of |N(0, 1)|."""
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    v = 0.5 * (node + 1.0)
    nodes = _RANGE * v**2
    mass = weight * v * np.exp(-0.5 * nodes**2)
    return nodes, mass / mass.sum()


def _initial_law(d: int, omega: float) -> tuple[Array, Array, Array, Array]:
    """Return nodes (c1, c2, ρ) and probabilities of w ~ N(0, ω² I), folded onto c1, c2 > 0.

    The dynamics are odd in c1 and in c2, so the signs average out; on the half-line the integrands
    have no kink and Gauss-Legendre converges fast. Nodes are dense at 0, where the gates vary on
    the scale σ√d ω.
    """
    half_normal, mass = half_normal_nodes()
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
