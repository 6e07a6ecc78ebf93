"""The four losses: value, residual and log-domain value.

Margin losses are functions of u = y f with y in {-1, +1}; the squared loss takes any real y. The
residual is r = -∂ℓ/∂f, the quantity that drives the dynamics. Values and residuals never overflow
where the result is representable; `log_value` stays accurate where the value itself underflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Loss:
    """A loss ℓ(f, y) of one sample; see the module's subclasses."""

    name: ClassVar[str]
    needs_signs: ClassVar[bool] = True
    """Whether labels must be -1 or +1."""

    def value(self, f: Array, y: Array) -> Array:
        """Return ℓ(f, y), elementwise."""
        raise NotImplementedError

    def residual(self, f: Array, y: Array) -> Array:
        """Return r = -∂ℓ/∂f, elementwise."""
        raise NotImplementedError

    def log_value(self, f: Array, y: Array) -> Array:
        """Return log ℓ(f, y), elementwise; -inf where the loss is exactly zero."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.value(f, y)))


@dataclass(frozen=True)
class Logistic(Loss):
    """Logistic loss log(1 + e^{-u}), u = y f."""

    name: ClassVar[str] = "logistic"

    def value(self, f: Array, y: Array) -> Array:
        """Return log(1 + e^{-u}) without overflow."""
        return np.asarray(np.logaddexp(0.0, -y * f))

    def residual(self, f: Array, y: Array) -> Array:
        """Return y / (1 + e^{u})."""
        u = y * f
        tail = np.exp(-np.abs(u))
        return np.asarray(y * np.where(u > 0, tail, 1.0) / (1.0 + tail))

    def log_value(self, f: Array, y: Array) -> Array:
        """Return log log(1 + e^{-u}); -u - e^{-u}/2 once e^{-u} is below rounding."""
        u = np.asarray(y * f)
        far = u > 37.0
        near = np.where(far, 0.0, u)
        return np.asarray(np.where(far, -u, np.log(np.logaddexp(0.0, -near))))


@dataclass(frozen=True)
class Exponential(Loss):
    """Exponential loss e^{-u}, u = y f."""

    name: ClassVar[str] = "exponential"

    def value(self, f: Array, y: Array) -> Array:
        """Return e^{-u}; infinite where that overflows."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-y * f))

    def residual(self, f: Array, y: Array) -> Array:
        """Return y e^{-u}."""
        return y * self.value(f, y)

    def log_value(self, f: Array, y: Array) -> Array:
        """Return -u."""
        return np.asarray(-y * f)


@dataclass(frozen=True)
class Hinge(Loss):
    """Hinge loss max(0, 1 - u), u = y f; the residual at u = 1 is 0."""

    name: ClassVar[str] = "hinge"

    def value(self, f: Array, y: Array) -> Array:
        """Return max(0, 1 - u)."""
        return np.asarray(np.maximum(0.0, 1.0 - y * f))

    def residual(self, f: Array, y: Array) -> Array:
        """Return y where u < 1, else 0."""
        return np.asarray(np.where(y * f < 1.0, y, 0.0))


@dataclass(frozen=True)
class Squared(Loss):
    """Squared loss (f - y)²/2 for any real y."""

    name: ClassVar[str] = "squared"
    needs_signs: ClassVar[bool] = False

    def value(self, f: Array, y: Array) -> Array:
        """Return (f - y)²/2."""
        return np.asarray(0.5 * (f - y) ** 2)

    def residual(self, f: Array, y: Array) -> Array:
        """Return y - f."""
        return np.asarray(y - f)


_BY_NAME: dict[str, Loss] = {
    loss.name: loss for loss in (Logistic(), Exponential(), Hinge(), Squared())
}
NAMES = tuple(_BY_NAME)


def get(loss: str | Loss) -> Loss:
    """Return the loss named `loss` ("logistic", "exponential", "hinge", "squared"), or `loss` itself.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if isinstance(loss, Loss):
        return loss
    if loss not in NAMES:
        raise ValueError(f"loss={loss!r} is unknown; choose one of {', '.join(map(repr, NAMES))}")
    return _BY_NAME[loss]
