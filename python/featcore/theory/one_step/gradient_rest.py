"""What the gradient has besides c₁aβᵀ, along the few directions that labels and β know."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featcore.activations import Activation
from featcore.theory.one_step.conditional_moments import label_moment
from featcore.theory.one_step.expansions import half_lines
from featcore.theory.one_step.step import Problem, Step

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GradientRest:
    """Neuron j gains (η/√N)ξ_j(2c₂Hw_j + others), H = (1/n)Σ r_i x_ix_iᵀ less its trace.

    Matrices are on b, on the rest of β_* and on the rest of q = W₀ᵀa/|a|.

    Attributes
    ----------
    linear, square : ndarray, shape (…, 3, 3)
        H and H².
    spread : ndarray, shape (…, 3, 3)
        (1/n²)Σ r_i² x_ix_iᵀ d, the covariance of what the others add, for each unit of E σ'² - c₁² - 4c₂².
    start : ndarray, shape (…, 3)
        q.
    lengths : ndarray, shape (…,)
        d times the variance of <w_j, the gain> for each unit of ξ_jη/√N: not that of a gain at random, which does not
        know w_j.
    """

    linear: Array
    square: Array
    spread: Array
    start: Array
    lengths: Array


def gradient_rest(of: Problem, moved: Step) -> GradientRest:
    """Return the limits, one each of the flat arrays of `of` and `moved`.

    On (β_*, q, ŵ) first, ŵ the part of β that is neither: β is the mean of r_i x_i, so that <x_i, ŵ> is φ r_i and a
    variable of variance φ E r² that does not know the sample, over √(φ E r²). f₀ counts as Gaussian.
    """
    # f₀, if the gradient has it
    first, square = (
        (of.student.coefficients[1], of.student.second_moment) if of.full else (0.0, 0.0)
    )
    unit = np.sqrt(of.teacher.second_moment + of.noise_square + square)
    # from here on labels, f₀ and what they make are in this unit, and E r² = 1
    c0, c1_star, c2_star = (c / unit for c in of.teacher.coefficients[:3])
    own, echo, noise = first / unit, square / unit**2, of.noise_square / unit**2
    label = 1.0 - echo

    share = np.sqrt(of.teacher.second_moment) / unit

    def moment(power: int, degree: int) -> Array:
        return np.asarray(label_moment(of.link, power, degree) * share**power)

    third = moment(3, 0) + 3.0 * c0 * (noise + echo)
    fourth = moment(4, 0) + 6.0 * moment(2, 0) * noise + 3.0 * noise**2
    fourth = fourth + 6.0 * label * echo + 3.0 * echo**2
    phi, root = of.step_phi, np.sqrt(of.step_phi)

    linear = np.zeros((*phi.shape, 3, 3))
    linear[..., 0, 0] = 2.0 * c2_star
    linear[..., 0, 2] = linear[..., 2, 0] = root * moment(2, 1)
    linear[..., 1, 2] = linear[..., 2, 1] = -2.0 * root * c0 * own
    linear[..., 2, 2] = phi * third

    spread = np.zeros((*phi.shape, 3, 3))
    spread[..., 0, 0] = phi * (moment(2, 2) + noise + echo)
    spread[..., 1, 1] = phi * (1.0 + 2.0 * own**2)
    spread[..., 2, 2] = phi**2 * fourth + phi
    spread[..., 0, 1] = spread[..., 1, 0] = -2.0 * phi * c1_star * own
    both = moment(3, 1) + 3.0 * c1_star * (noise + echo)
    spread[..., 0, 2] = spread[..., 2, 0] = phi * root * both
    spread[..., 1, 2] = spread[..., 2, 1] = -3.0 * phi * root * own

    # over all directions but β_* and q H² is `spread`: what samples share there cancels with the trace
    twice = linear[..., :, :2] @ linear[..., :2, :] + spread

    basis = _basis(of, moved)
    turned = np.swapaxes(basis, -1, -2)
    size = unit[..., None, None]
    apart, along = _radial(of.sigma, float(of.student.coefficients[1]))
    return GradientRest(
        size * (basis @ linear @ turned),
        size**2 * (basis @ twice @ turned),
        size**2 * (basis @ spread @ turned),
        basis[..., :, 1],
        unit**2 * phi * apart + (along * moved.gradient_norm) ** 2,
    )


def _basis(of: Problem, moved: Step) -> Array:
    """Return b, the rest of β_* and the rest of q, a row each, on β_*, q and ŵ."""
    cosine = moved.teacher_cosine
    share = -np.sign(of.student.coefficients[1]) * np.sqrt(moved.initial_share)
    beyond = np.sqrt(np.maximum(1.0 - cosine**2 - moved.initial_share, 0.0))
    across = np.hypot(share, beyond)
    # without noise in β two directions are all there is
    safe = np.where(across > 0, across, 1.0)
    basis = np.zeros((*cosine.shape, 3, 3))
    basis[..., 0, :] = np.stack([cosine, share, beyond], axis=-1)
    basis[..., 1, :] = np.stack([across, -cosine * share / safe, -cosine * beyond / safe], axis=-1)
    basis[..., 2, :] = np.stack([0.0 * cosine, beyond / safe, -share / safe], axis=-1)
    return basis


@functools.lru_cache(maxsize=64)
def _radial(sigma: Activation, c1: float) -> tuple[float, float]:
    """Return Var h - h₁² and h₁ = E zh of h(z) = z(σ'(z) - c₁): <w_j, gain> is the mean of r_i h(<w_j, x_i>)."""
    z, mass = half_lines(160, 12.0)
    h = z * (sigma.derivative(z) - c1)
    mean, along = float(mass @ h), float(mass @ (z * h))
    return float(mass @ (h - mean - along * z) ** 2), along
