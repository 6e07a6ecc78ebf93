"""Activation functions: value, derivative, what the kernels may assume, Hermite coefficients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featcore._validation import integer, real

Array = NDArray[Any]
Spec = tuple[str, float, float, tuple[float, ...]]
"""An activation as the core takes it: name, slope, offset that is subtracted, Hermite coefficients."""

_MOST = 170  # degree: its factorial is the last in the range of float64


@dataclass(frozen=True)
class Activation:
    """An activation σ; see the module's subclasses.

    `homogeneous` means σ(cz) = cσ(z) for c > 0; `kinked` that σ' jumps at 0. Z is a standard normal variable
    throughout.
    """

    name: ClassVar[str]
    homogeneous: ClassVar[bool] = False

    @property
    def spec(self) -> Spec:
        """The activation as the core takes it."""
        return (self.name, self.slope, 0.0, ())

    @property
    def compiled(self) -> bool:
        """Whether the core has it, so that networks take it."""
        return True

    @property
    def by_sign(self) -> bool:
        """Whether the sign of z says σ'(z), so that neurons have activation patterns."""
        return self.homogeneous

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
        """Return c_0 … c_degree with c_k = E[σ(Z) He_k(Z)]/k!, so that σ = Σ_k c_k He_k.

        Adaptive quadrature split at 0; ReLU and erf override it with closed forms. `degree` is from 0 to 170, the last
        whose factorial is in the range of float64.
        """
        degree = _degree(degree)
        return np.array([self._coefficient(k) for k in range(degree + 1)])

    def mean(self) -> float:
        """Return E σ(Z), which is c_0."""
        return float(self.hermite_coefficients(0)[0])

    def second_moment(self) -> float:
        """Return E σ(Z)², which is Σ_k k! c_k²; by quadrature unless a closed form is known."""
        return _expectation(lambda z: self._at(z) ** 2)

    def centred(self) -> Activation:
        """Return σ - E σ(Z), whose c_0 is 0: what theories of one gradient step assume.

        Examples
        --------
        >>> import featcore as fc
        >>> fc.ReLU().centred().hermite_coefficients(2).round(6)
        array([0.      , 0.5     , 0.199471])
        >>> fc.Tanh().centred()  # it is so already
        Tanh()
        """
        return Centred(self) if self.mean() else self

    def _at(self, z: float) -> float:
        return float(self(np.asarray(z)))

    def _coefficient(self, k: int) -> float:
        """Return c_k by quadrature."""
        # Against He_k/√k!, whose variance is 1: that of He_k would leave no digits for the quadrature to reach.
        scaled = _expectation(lambda z: self._at(z) * _orthonormal_hermite(k, z))
        return scaled / math.sqrt(math.factorial(k))


def _orthonormal_hermite(k: int, z: float) -> float:
    """Return He_k(z)/√k! by its recurrence."""
    last, value = 0.0, 1.0
    for j in range(k):
        last, value = value, (z * value - math.sqrt(j) * last) / math.sqrt(j + 1)
    return value


def _degree(degree: int) -> int:
    return integer("degree", degree, least=0, most=_MOST)


def _expectation(function: Callable[[float], float]) -> float:
    """Return E function(Z) by adaptive quadrature split at 0, where activations have their kinks."""
    from scipy.integrate import quad

    def integrand(z: float) -> float:
        return function(z) * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    # What is asked for is at the edge of rounding, of which quad warns as of anything else: its estimate tells more.
    halves = [
        quad(integrand, lo, hi, epsabs=1e-13, epsrel=1e-12, limit=400, full_output=1)[:2]
        for lo, hi in ((-40.0, 0.0), (0.0, 40.0))
    ]
    value, error = (float(sum(part)) for part in zip(*halves, strict=True))
    if not error <= 1e-9 * max(1.0, abs(value)):
        warnings.warn(
            f"an expectation of the activation is known to {error:.1e} only: it jumps, or grows too fast",
            stacklevel=2,
        )
    return value


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
        degree = _degree(degree)
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

    def second_moment(self) -> float:
        """Return E σ(Z)² = (1 + slope²)/2."""
        return 0.5 * (1.0 + self.slope**2)


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

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree by quadrature; even ones are zero, exactly."""
        degree = _degree(degree)
        return np.array([self._coefficient(k) if k % 2 else 0.0 for k in range(degree + 1)])


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
        degree = _degree(degree)
        c = np.zeros(degree + 1)
        for k in range(1, degree + 1, 2):
            j = (k - 1) // 2
            c[k] = 2 / math.sqrt(math.pi) * (-1.0) ** j * 3.0 ** (-k / 2) / (math.factorial(j) * k)
        return c

    def second_moment(self) -> float:
        """Return E σ(Z)² = (2/π) asin(2/3)."""
        return 2.0 / math.pi * math.asin(2.0 / 3.0)


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


@dataclass(frozen=True)
class Hermite(Activation):
    """σ(z) = Σ_k c_k He_k(z), with the probabilists' polynomials He_0 = 1, He_1 = z, He_2 = z² - 1, ….

    Parameters
    ----------
    coefficients : sequence of float
        c_0, c_1, …; not normalised: He_k has variance k!.

    Raises
    ------
    TypeError, ValueError
        If there are none or more than 171, or one is not a finite number.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> link = fc.Hermite([0, 1, 1 / np.sqrt(2)])  # z + (z² - 1)/√2
    >>> round(link.second_moment(), 12)
    2.0
    """

    coefficients: tuple[float, ...]
    name: ClassVar[str] = "hermite"

    def __init__(self, coefficients: Sequence[float]) -> None:
        if not np.iterable(coefficients):
            raise TypeError(
                f"coefficients={coefficients!r} must be a sequence of numbers c_0, c_1, …"
            )
        values = tuple(real(f"coefficients[{k}]", c) for k, c in enumerate(coefficients))
        if not values:
            raise ValueError("coefficients is empty; pass c_0, c_1, …, for example [0, 1] for z")
        if len(values) > _MOST + 1:
            raise ValueError(
                f"coefficients has {len(values)} entries; at most {_MOST + 1}, for beyond degree {_MOST} the variance "
                "k! of He_k leaves the range of float64"
            )
        object.__setattr__(self, "coefficients", values)

    @property
    def spec(self) -> Spec:
        """The activation as the core takes it."""
        return (self.name, 0.0, 0.0, self.coefficients)

    def __call__(self, z: Array) -> Array:
        """Return σ(z), elementwise."""
        return self._series(np.asarray(self.coefficients), z)

    def derivative(self, z: Array) -> Array:
        """Return σ'(z) = Σ_k k c_k He_{k-1}(z), elementwise."""
        return self._series(np.polynomial.hermite_e.hermeder(self.coefficients), z)

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree: those given, then zeros."""
        degree = _degree(degree)
        given = np.asarray(self.coefficients)[: degree + 1]
        return np.pad(given, (0, degree + 1 - len(given)))

    def second_moment(self) -> float:
        """Return E σ(Z)² = Σ_k k! c_k²."""
        return sum(math.factorial(k) * c**2 for k, c in enumerate(self.coefficients))

    def centred(self) -> Activation:
        """Return the same with c_0 = 0."""
        return Hermite((0.0, *self.coefficients[1:])) if self.coefficients[0] else self

    def __repr__(self) -> str:
        return f"Hermite({list(self.coefficients)})"

    @staticmethod
    def _series(coefficients: NDArray[np.floating], z: Array) -> Array:
        series = np.polynomial.hermite_e.hermeval(z, coefficients.astype(z.dtype))
        return np.asarray(series + np.zeros_like(z))  # a constant has no shape of its own


@dataclass(frozen=True)
class Centred(Activation):
    """σ(z) = inner(z) - E inner(Z), made by `Activation.centred`; σ' is that of `inner`."""

    inner: Activation
    offset: float = field(init=False, compare=False, repr=False)
    name: ClassVar[str] = "centred"

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", self.inner.mean())

    @property
    def spec(self) -> Spec:
        """The activation as the core takes it: that of `inner`, less the offset."""
        name, slope, offset, coefficients = self.inner.spec
        return (name, slope, offset + self.offset, coefficients)

    @property
    def compiled(self) -> bool:
        """Whether the core has it, so that networks take it."""
        return self.inner.compiled

    @property
    def by_sign(self) -> bool:
        """Whether the sign of z says σ'(z), so that neurons have activation patterns."""
        return self.inner.by_sign

    @property
    def kinked(self) -> bool:
        """Whether σ' jumps at 0."""
        return self.inner.kinked

    def __call__(self, z: Array) -> Array:
        """Return σ(z), elementwise."""
        return np.asarray(self.inner(z) - z.dtype.type(self.offset))

    def derivative(self, z: Array) -> Array:
        """Return σ'(z), elementwise."""
        return self.inner.derivative(z)

    def hermite_coefficients(self, degree: int) -> NDArray[np.float64]:
        """Return c_0 … c_degree: those of `inner`, with c_0 = 0."""
        c = self.inner.hermite_coefficients(degree)
        c[0] = 0.0
        return c

    def second_moment(self) -> float:
        """Return E σ(Z)², the variance of inner(Z)."""
        return self.inner.second_moment() - self.offset**2

    def __repr__(self) -> str:
        return f"Centred({self.inner!r})"


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


def describe(activation: Activation) -> dict[str, Any]:
    """Return what names an activation in a file; `described` makes it again."""
    if isinstance(activation, Centred):
        return {"name": activation.name, "inner": describe(activation.inner)}
    if isinstance(activation, Hermite):
        return {"name": activation.name, "coefficients": list(activation.coefficients)}
    return {"name": activation.name, "slope": activation.slope}


def described(description: dict[str, Any]) -> Activation:
    """Return the activation of a description."""
    name = description["name"]
    if name == Centred.name:
        return Centred(described(description["inner"]))
    if name == Hermite.name:
        return Hermite(description["coefficients"])
    return LeakyReLU(description["slope"]) if name == LeakyReLU.name else get(name)
