"""Activation functions: value, derivative, what the kernels may assume, Hermite coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featcore._validation import real

Array = NDArray[Any]


@dataclass(frozen=True)
class Activation:
    """An activation σ; see the module's subclasses.

    `homogeneous` means σ(cz) = cσ(z) for c > 0; `kinked` that σ' jumps at 0.
    """

    name: ClassVar[str]
    homogeneous: ClassVar[bool] = False

    @property
    def kinked(self) -> bool:
        """Whether σ' jumps at 0."""
        return False

    @property
    def slope(self) -> float:
        """Slope on the negative side of a homogeneous activation; 0 for the others."""
        return 0.0

    def __call__(self, z: Array) -> Array:
        """Return σ(z), elementwise."""
        raise NotImplementedError

    def derivative(self, z: Array) -> Array:
        """Return σ'(z), elementwise."""
        raise NotImplementedError

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree with c_k = E[σ(Z) He_k(Z)]/k!, Z standard normal.

        Adaptive quadrature split at 0; ReLU and erf override it with closed forms.
        """
        from scipy.integrate import quad

        def integrand(z: float, k: int) -> float:
            basis = np.polynomial.hermite_e.hermeval(z, [0.0] * k + [1.0])
            density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            return float(self(np.asarray(z))) * float(basis) * density

        halves = ((-40.0, 0.0), (0.0, 40.0))
        return np.array(
            [
                sum(
                    quad(integrand, lo, hi, args=(k,), epsabs=1e-13, epsrel=1e-12, limit=400)[0]
                    for lo, hi in halves
                )
                / math.factorial(k)
                for k in range(degree + 1)
            ]
        )


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """σ(z) = z for z > 0 and negative_slope·z otherwise; σ'(0) = negative_slope. Slope 1 is linear."""

    negative_slope: float = 0.01
    name: ClassVar[str] = "leaky_relu"
    homogeneous: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "negative_slope", real("negative_slope", self.negative_slope))

    @property
    def kinked(self) -> bool:
        """Whether σ' jumps at 0."""
        return self.slope != 1.0

    @property
    def slope(self) -> float:
        """Slope on the negative side."""
        return self.negative_slope

    def __call__(self, z: Array) -> Array:
        """Return σ(z), elementwise."""
        return np.asarray(np.where(z > 0, z, z.dtype.type(self.slope) * z))

    def derivative(self, z: Array) -> Array:
        """Return σ'(z), elementwise; the negative side's slope at 0."""
        one = z.dtype.type(1)
        return np.asarray(np.where(z > 0, one, z.dtype.type(self.slope)))

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree in closed form: relu has c_0 = 1/√2π, c_1 = ½, c_k = He_{k-2}(0)/(k!√2π)."""
        relu = np.zeros(degree + 1)
        relu[0] = 1.0 / math.sqrt(2.0 * math.pi)
        if degree >= 1:
            relu[1] = 0.5
        for k in range(2, degree + 1, 2):
            # He_{2q}(0) = (-1)^q (2q-1)!! = (-1)^q (2q)!/(2^q q!)
            q = k // 2 - 1
            he = (-1.0) ** q * math.factorial(2 * q) / (2.0**q * math.factorial(q))
            relu[k] = he / (math.factorial(k) * math.sqrt(2.0 * math.pi))
        linear = np.zeros(degree + 1)
        linear[1:2] = 1.0
        return self.slope * linear + (1.0 - self.slope) * relu


@dataclass(frozen=True)
class ReLU(LeakyReLU):
    """σ(z) = max(z, 0), σ'(0) = 0."""

    negative_slope: float = 0.0
    name: ClassVar[str] = "relu"

    def __post_init__(self) -> None:
        if self.negative_slope != 0.0:
            raise ValueError(
                "ReLU has slope 0 for z <= 0; use LeakyReLU(negative_slope) for another"
            )

    def __repr__(self) -> str:
        return "ReLU()"


@dataclass(frozen=True)
class Tanh(Activation):
    """σ(z) = tanh z."""

    name: ClassVar[str] = "tanh"

    def __call__(self, z: Array) -> Array:
        """Return tanh z."""
        return np.asarray(np.tanh(z))

    def derivative(self, z: Array) -> Array:
        """Return 1 - tanh² z."""
        return np.asarray(1 - np.tanh(z) ** 2)


@dataclass(frozen=True)
class Erf(Activation):
    """σ(z) = erf z (not erf(z/√2))."""

    name: ClassVar[str] = "erf"

    def __call__(self, z: Array) -> Array:
        """Return erf z."""
        from scipy.special import erf

        return np.asarray(erf(z))

    def derivative(self, z: Array) -> Array:
        """Return (2/√π) e^{-z²}."""
        return np.asarray(z.dtype.type(2.0 / math.sqrt(math.pi)) * np.exp(-z * z))

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree: c_{2j+1} = (2/√π)(-1)^j 3^{-(2j+1)/2}/(j!(2j+1)), even ones zero."""
        c = np.zeros(degree + 1)
        for k in range(1, degree + 1, 2):
            j = (k - 1) // 2
            c[k] = 2 / math.sqrt(math.pi) * (-1.0) ** j * 3.0 ** (-k / 2) / (math.factorial(j) * k)
        return c


@dataclass(frozen=True)
class GELU(Activation):
    """σ(z) = z Φ(z), Φ the standard normal distribution function (the exact form)."""

    name: ClassVar[str] = "gelu"

    def __call__(self, z: Array) -> Array:
        """Return z Φ(z)."""
        from scipy.special import ndtr

        return np.asarray(z * ndtr(z))

    def derivative(self, z: Array) -> Array:
        """Return Φ(z) + z φ(z)."""
        from scipy.special import ndtr

        density = np.exp(-0.5 * z * z) * z.dtype.type(1.0 / math.sqrt(2.0 * math.pi))
        return np.asarray(ndtr(z) + z * density)


@dataclass(frozen=True)
class Softplus(Activation):
    """σ(z) = log(1 + e^z)."""

    name: ClassVar[str] = "softplus"

    def __call__(self, z: Array) -> Array:
        """Return log(1 + e^z) without overflow."""
        return np.asarray(np.logaddexp(z.dtype.type(0), z))

    def derivative(self, z: Array) -> Array:
        """Return 1/(1 + e^{-z})."""
        from scipy.special import expit

        return np.asarray(expit(z))


_BY_NAME: dict[str, Activation] = {
    sigma.name: sigma for sigma in (ReLU(), Tanh(), Erf(), GELU(), Softplus())
}
NAMES = tuple(_BY_NAME)


def get(activation: str | Activation) -> Activation:
    """Return the activation named `activation`, or `activation` itself.

    Plain names are "relu", "tanh", "erf", "gelu" and "softplus"; a leaky ReLU needs its slope, so
    pass `LeakyReLU(slope)`.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in NAMES:
        raise ValueError(
            f"activation={activation!r} is unknown; choose one of {', '.join(map(repr, NAMES))}, "
            "or pass an object such as LeakyReLU(0.1)"
        )
    return _BY_NAME[activation]
