"""The gradient's rank-one part, η c₁ a βᵀ, in the limit: how long β is, where it points, how much it changes."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice
from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step.expansions import Expansion, expand, half_lines, student, teacher
from featcore.theory.one_step.fixed_point import at_least_zero, positive

Array = NDArray[np.float64]

RESIDUALS = ("labels", "full")


@dataclass(frozen=True, eq=False)
class Problem:
    """A teacher, a student and their sizes: arrays of one shape."""

    sigma: Activation
    link: Activation
    student: Expansion
    teacher: Expansion
    phi: Array
    psi: Array
    width: Array
    noise_square: Array
    step_phi: Array
    """d over the samples of the step."""
    full: bool
    """Whether the step follows y - f₀, not y."""


def problem(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    noise: ArrayLike,
    residual: str = "labels",
    step_samples: ArrayLike | None = None,
) -> Problem:
    """Check the arguments that all functions share, and bring them to one shape."""
    sigma, sigma_star = student(activation), teacher(link)
    samples, dim, neurons = positive("n", n), positive("d", d), positive("width", width)
    batch = samples if step_samples is None else positive("step_samples", step_samples)
    std = at_least_zero("noise", noise)
    try:
        samples, dim, neurons, batch, std = np.broadcast_arrays(samples, dim, neurons, batch, std)
    except ValueError:
        raise ValueError(
            f"n, d, width, step_samples and noise have the shapes {samples.shape}, {dim.shape}, {neurons.shape}, "
            f"{batch.shape} and {std.shape}, which do not broadcast; give each an axis of its own or the same"
        ) from None
    return Problem(
        sigma=sigma,
        link=sigma_star,
        student=expand(sigma),
        teacher=expand(sigma_star),
        phi=dim / samples,
        psi=dim / neurons,
        width=neurons,
        noise_square=std**2,
        step_phi=dim / batch,
        full=choice("residual", residual, RESIDUALS) == "full",
    )


def shaped(of: Problem, **others: Array) -> tuple[Problem, tuple[Array, ...]]:
    """Return the problem and the other arguments with the shape that they all broadcast to."""
    sizes = (of.phi, of.psi, of.width, of.noise_square, of.step_phi)
    try:
        arrays = np.broadcast_arrays(*sizes, *others.values())
    except ValueError:
        shapes = ", ".join(f"{name} has shape {value.shape}" for name, value in others.items())
        raise ValueError(
            f"{shapes} and the sizes have {of.phi.shape}; these do not broadcast: give each an axis of its own, "
            "such as step_size[:, None]"
        ) from None
    phi, psi, width, noise_square, step_phi, *rest = arrays
    of = replace(of, phi=phi, psi=psi, width=width, noise_square=noise_square, step_phi=step_phi)
    return of, tuple(rest)


@dataclass(frozen=True, eq=False)
class Step:
    """What one step does to the features; arrays of one shape.

    Attributes
    ----------
    gradient_norm : ndarray
        |β|, β = Xᵀy/n of the step's batch, or Xᵀ(y - f₀)/n.
    teacher_cosine : ndarray
        ρ = <β, β_*>/|β|.
    initial_share : ndarray
        ω, the share of |β|² that lies along W₀ᵀa; 0 unless the residual is full.
    strength : ndarray
        s = c₁η|β|/√N: features become σ(X̃W₀ᵀ + s u ξᵀ) with u = X̃β/|β| and ξ = √N a.
    rescaling : ndarray
        δ = 2ηc₂c_{*,0}/√N: neuron j is lengthened by 1 + δξ_j if the teacher has a mean.
    tilt : ndarray
        δ/s, whatever η is: by how much the constant is mixed into the spikes.
    neglected : ndarray
        ν = η²φ₁(E r²)(E σ'² - c₁²)/N, r = y or y - f₀; by ξ_j²ν the rest of the gradient lengthens neuron j,
        relative and squared. `errors` leaves it out, and is off by a relative part of that.
    """

    gradient_norm: Array
    teacher_cosine: Array
    initial_share: Array
    strength: Array
    rescaling: Array
    tilt: Array
    neglected: Array


def step(of: Problem, step_size: Array) -> Step:
    """Return the limit of a step of size η."""
    c1, c2 = of.student.coefficients[1:3]
    mean, slope = of.teacher.coefficients[:2]
    energy = of.teacher.second_moment + of.noise_square
    if of.full:
        energy = energy + of.student.second_moment
    along = c1**2 if of.full else 0.0
    square = slope**2 + along + of.step_phi * energy
    norm = np.sqrt(square)
    root = np.sqrt(of.width)
    excess = slope_moment(of.sigma) - c1**2
    relative = step_size / root
    return Step(
        gradient_norm=norm,
        teacher_cosine=slope / norm,
        initial_share=along / square,
        strength=c1 * norm * relative,
        rescaling=2.0 * c2 * mean * relative,
        tilt=2.0 * c2 * mean / (c1 * norm),
        neglected=relative**2 * of.step_phi * energy * excess,
    )


@functools.lru_cache(maxsize=64)
def slope_moment(sigma: Activation) -> float:
    """Return E σ'(Z)²."""
    z, mass = half_lines(160, 12.0)
    return float(mass @ sigma.derivative(z) ** 2)
