"""The deterministic equivalent of ridge regression on features whose law depends on one direction: a convex problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_NEWTON_STEPS = 200
_LONGEST = 2.0
"""No logarithm changes by more in a step."""
_CLOSE = 1e-16
"""Newton's decrement of the last step: the square of it is below rounding."""


@dataclass(frozen=True, eq=False)
class Conditional:
    """Features f_ij = μ₁(u_i, ξ_j)<w_j, x_i> + μ₂(u_i, ξ_j)z_ij on quadrature nodes, for a batch of problems.

    Attributes
    ----------
    slope, rest : ndarray, shape (problems, nodes of u, nodes of ξ)
        μ₁, and μ₂².
    phi, psi, ridge : ndarray, shape (problems,)
    sample_weight, neuron_weight : ndarray, shape (nodes of u,) and (nodes of ξ,)
        The laws of u and ξ.
    """

    slope: Array
    rest: Array
    phi: Array
    psi: Array
    ridge: Array
    sample_weight: Array
    neuron_weight: Array


@dataclass(frozen=True, eq=False)
class Point:
    """The solution: r(u) = lim n (FFᵀ + λn)⁻¹_ii and g(ξ) = lim λn (FᵀF + λn)⁻¹_jj.

    Attributes
    ----------
    r, g : ndarray, shapes (problems, nodes of u) and (problems, nodes of ξ)
    hessian : ndarray, shape (problems, nodes, nodes)
        Of the convex function whose minimum they are, in their logarithms.
    """

    r: Array
    g: Array
    hessian: Array

    def response(self, weights: Array) -> tuple[Array, Array]:
        """Return the derivatives of log r and log g when λ grows by weights(u), which are given times the law of u."""
        force = np.zeros(self.hessian.shape[:-1])
        count = self.r.shape[-1]
        force[:, :count] = -weights * self.r
        change = np.asarray(np.linalg.solve(self.hessian, force[..., None])[..., 0])
        return change[:, :count], change[:, count:]


def solve(of: Conditional) -> Point:
    """Return the fixed point, by Newton's method on a convex function of log r and log g.

    1/r(u) = λ + (φ/ψ)E_ξ[μ₂²g] + φ[k(1 + rk)⁻¹](u, u) and 1/g(ξ) = 1 + E_u[rμ₂²] + <μ₁, (1/r + k)⁻¹μ₁>, with the
    kernel k(u, u') = E_ξ[g μ₁μ₁']/ψ over the law of u, are where

        E_u[λr - log r] + (φ/ψ)(E_ξ[g - log g] + E_uξ[r μ₂² g]) + φ log det(1 + rk)

    is least. Expanded, the determinant is a sum of products of r and g with positive coefficients: the function is
    convex in the logarithms, and there is one solution.
    """
    ratio = of.phi / of.psi
    energy = np.einsum("pux,x->pu", of.slope**2 + of.rest, of.neuron_weight)
    count = energy.shape[-1]
    # r at its least, where g is 1
    logs = np.zeros((len(energy), count + of.slope.shape[-1]))
    logs[:, :count] = -np.log(of.ridge[:, None] + ratio[:, None] * energy)
    slope, hessian = _slopes(of, logs)
    for _ in range(_NEWTON_STEPS):
        change = np.linalg.solve(hessian, -slope[..., None])[..., 0]
        decrement = -np.sum(slope * change, axis=1)
        longest = np.maximum(np.abs(change).max(axis=1), _LONGEST)
        logs = logs + _LONGEST / longest[:, None] * change
        slope, hessian = _slopes(of, logs)
        if (decrement <= _CLOSE).all():
            return Point(np.exp(logs[:, :count]), np.exp(logs[:, count:]), hessian)
    raise RuntimeError(
        f"the fixed point was not found in {_NEWTON_STEPS} steps of Newton's method; please report the arguments"
    )


def _slopes(of: Conditional, logs: Array) -> tuple[Array, Array]:
    """Return gradient and Hessian of the function in (log r, log g)."""
    count = of.slope.shape[1]
    r, g = np.exp(logs[:, :count]), np.exp(logs[:, count:])
    phi, ratio = of.phi[:, None], (of.phi / of.psi)[:, None]
    sample, neuron = of.sample_weight * r, ratio * of.neuron_weight * g
    factor = np.sqrt(sample)[:, :, None] * of.slope
    factor = factor * np.sqrt(of.neuron_weight * g / of.psi[:, None])[:, None, :]
    left, size, right = np.linalg.svd(factor, full_matrices=False)
    share = (size**2 / (1.0 + size**2))[:, None, :]
    by_sample = (left * share) @ np.swapaxes(left, -1, -2)
    by_neuron = (np.swapaxes(right, -1, -2) * share) @ right
    cross = (left * (size / (1.0 + size**2))[:, None, :]) @ right
    noise = sample[:, :, None] * of.rest * neuron[:, None, :]

    first = of.ridge[:, None] * sample + noise.sum(axis=2)
    first = first + phi * np.einsum("puu->pu", by_sample)
    second = neuron + noise.sum(axis=1) + phi * np.einsum("pxx->px", by_neuron)
    slope = np.concatenate([first - of.sample_weight, second - ratio * of.neuron_weight], axis=1)
    hessian = np.empty((*logs.shape, logs.shape[1]))
    wide = phi[:, :, None]
    hessian[:, :count, :count] = -wide * by_sample**2
    hessian[:, count:, count:] = -wide * by_neuron**2
    hessian[:, :count, count:] = noise + wide * cross**2
    hessian[:, count:, :count] = np.swapaxes(hessian[:, :count, count:], -1, -2)
    diagonal = np.einsum("pii->pi", hessian)
    diagonal += np.concatenate([first, second], axis=1)
    return slope, hessian
