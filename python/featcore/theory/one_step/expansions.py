"""Hermite expansions of activations and links."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import hermite_e
from numpy.typing import NDArray

from featcore import activations
from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.data.index_models import link as as_activation

Array = NDArray[np.float64]

DEGREE = 8
"""Up to which functions of the spikes are expanded."""

_VANISHING = 1e-10
"""Coefficients below it, relative to the root of the second moment, count as zero."""


@dataclass(frozen=True, eq=False)
class Expansion:
    """Coefficients c_k of σ = Σ_k c_k He_k, and E[σ(Z)²] = Σ_k k! c_k² of all of them."""

    coefficients: Array
    second_moment: float

    @property
    def nonlinear_square(self) -> float:
        """Σ_{k≥2} k! c_k²."""
        rest = self.second_moment - self.coefficients[0] ** 2 - self.coefficients[1] ** 2
        # of a linear activation rounding is left
        return rest if rest > _VANISHING**2 * self.second_moment else 0.0

    def vanishes(self, degree: int) -> bool:
        """Return whether c_k is zero but for rounding."""
        return bool(abs(self.coefficients[degree]) <= _VANISHING * math.sqrt(self.second_moment))


@functools.lru_cache(maxsize=64)
def expand(sigma: Activation, degree: int = DEGREE) -> Expansion:
    """Return the coefficients c_0 … c_degree."""
    return Expansion(sigma.hermite_coefficients(degree), sigma.second_moment())


def student(activation: str | Activation) -> Activation:
    """Return the activation, if the theory covers it.

    Raises
    ------
    ValueError
        If c_0 ≠ 0, or c_1 = 0.
    """
    sigma = activations.get(activation)
    found = expand(sigma)
    if not found.vanishes(0):
        raise ValueError(
            f"activation={sigma!r} has the mean c_0 = {found.coefficients[0]:.6g} on Gaussian inputs, and the "
            "theory needs 0: pass activation.centred(), and give the network the same"
        )
    if found.vanishes(1):
        raise ValueError(
            f"activation={sigma!r} has c_1 = 0: the gradient has no rank-one part, which this theory is about"
        )
    return sigma


def teacher(link: Link) -> Activation:
    """Return the link, if it can be learnt from.

    Raises
    ------
    TypeError, ValueError
        If it is none, or zero.
    """
    sigma = as_activation(link)
    if expand(sigma).second_moment == 0:
        raise ValueError(f"link={link!r} is zero; there is nothing to learn")
    return sigma


def norms(count: int) -> Array:
    """Return √k!, the norms of He_k, for k below `count`."""
    return np.array([math.sqrt(math.factorial(k)) for k in range(count)])


def monomials(degrees: list[int], count: int) -> Array:
    """Return the coefficients of u^k, a row each, on He_0/√0!, He_1/√1!, … below `count`."""
    rows = np.zeros((len(degrees), count))
    for row, k in zip(rows, degrees, strict=True):
        row[: k + 1] = hermite_e.poly2herme([0.0] * k + [1.0])
    return np.asarray(rows * norms(count))


@functools.cache
def half_lines(count: int, reach: float) -> tuple[Array, Array]:
    """Return Gauss-Legendre nodes on either side of 0, where kinks are, to `reach`; and the normal law's mass there."""
    node, weight = np.polynomial.legendre.leggauss(count)
    half = 0.5 * reach * (node + 1.0)
    mass = 0.5 * reach * weight * np.exp(-0.5 * half**2) / math.sqrt(2.0 * math.pi)
    return np.concatenate([-half[::-1], half]), np.concatenate([mass[::-1], mass])
