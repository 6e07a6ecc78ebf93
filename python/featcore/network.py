"""`TwoLayerNet`, its initialisers, and `Gradient`."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featcore import activations
from featcore._seeds import Seed, stream
from featcore._validation import FLOATS, choice, float_array, frozen, integer, real
from featcore.activations import Activation, ReLU

HEADS = ("rademacher", "alternating", "gaussian", "balanced")


@dataclass(frozen=True, eq=False, repr=False, init=False)
class TwoLayerNet:
    """The network f(x) = Σ_j a_j σ(<w_j, x>): no hidden prefactor, no bias, one output; frozen.

    Parameters
    ----------
    W : array_like, shape (m, d)
        First layer, a neuron a row.
    a : array_like, shape (m,)
        Head.
    activation : Activation or str
        σ; ReLU by default, with σ'(0) = 0.
    log_scale : array_like, shape (m,), or float, optional
        The real weights are exp(log_scale_j)·(w_j, a_j), which is how a scale of 1e-400 lives; `flow` carries such
        networks as they are. -inf is the limit of vanishing weights, with directions and ratios from (w_j, a_j).
    copy : bool
        Copy `W` and `a` (the default). With False, C-contiguous float arrays are referenced: do not
        change them afterwards.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or type, an empty axis or a non-finite entry, or W and a
        differ in dtype and a cannot be cast exactly.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> net = fc.TwoLayerNet([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
    >>> net(np.array([[3.0, 1.0]]))
    array([2.])
    """

    W: NDArray[Any]
    a: NDArray[Any]
    activation: Activation
    log_scale: NDArray[np.float64] | None

    def __init__(
        self,
        W: ArrayLike,
        a: ArrayLike,
        activation: Activation | str = ReLU(),
        log_scale: ArrayLike | None = None,
        *,
        copy: bool = True,
    ) -> None:
        W = float_array("W", W, ndim=2, copy=copy)
        a = float_array("a", a, ndim=1, dtype=W.dtype, copy=copy)
        m = W.shape[0]
        if a.shape != (m,):
            raise ValueError(f"a has shape {a.shape}; W has {m} neurons, so it must be ({m},)")
        if log_scale is not None:
            scalar = np.ndim(log_scale) == 0
            exponents = float_array(
                "log_scale", log_scale, ndim=0 if scalar else 1, allow_minus_infinity=True
            ).astype(np.float64)
            if exponents.shape not in ((), (m,)):
                raise ValueError(
                    f"log_scale has shape {exponents.shape}; it must be a number or ({m},)"
                )
            log_scale = frozen(np.broadcast_to(exponents, (m,)).copy())
        sigma = activations.get(activation)
        if not sigma.compiled:
            raise TypeError(
                f"activation={sigma!r} is a Python function; networks take activations that are compiled, such as "
                "fc.Tanh(), fc.ReLU().centred() or fc.Hermite(coefficients)"
            )
        set_ = object.__setattr__
        set_(self, "W", frozen(W))
        set_(self, "a", frozen(a))
        set_(self, "activation", sigma)
        set_(self, "log_scale", log_scale)

    @classmethod
    def gaussian(
        cls,
        width: int,
        dim: int,
        scale: float,
        head: str = "rademacher",
        seed: Seed = 0,
        activation: Activation | str = ReLU(),
        dtype: DTypeLike = np.float64,
    ) -> TwoLayerNet:
        """Return a network with w_jk ~ N(0, scale²).

        Parameters
        ----------
        width, dim : int
            Number of neurons m and input dimension d, at least 1.
        scale : float
            Standard deviation of the entries of W, positive.
        head : {"rademacher", "alternating", "gaussian", "balanced"}
            a_j = ±1/√m with random signs; the same with exactly half positive (+, -, +, …; with odd m one more
            positive); N(0, scale²); or ±|w_j| with random signs.
        seed : int or SeedSequence
            W does not depend on `head`.
        activation : Activation or str
            σ.
        dtype : float64 or float32
            Drawn in float64 and rounded.

        Raises
        ------
        TypeError, ValueError
            For arguments out of range, and a scale that underflows in `dtype`.

        Examples
        --------
        >>> import featcore as fc
        >>> fc.TwoLayerNet.gaussian(width=200, dim=50, scale=0.01, head="alternating", seed=1)
        TwoLayerNet(width=200, dim=50, ReLU(), float64)
        """
        m, d = integer("width", width, least=1), integer("dim", dim, least=1)
        scale = real("scale", scale, above=0.0)
        choice("head", head, HEADS)
        target = np.dtype(dtype)
        if target not in FLOATS:
            raise TypeError(f"dtype={target} must be float64 or float32")
        if scale < 1e3 * float(np.finfo(target).tiny):
            raise ValueError(
                f"scale={scale:g} underflows in {target}; use scale=1 and log_scale=math.log(scale)"
            )
        W = scale * stream(seed, "init").standard_normal((m, d))
        rng = stream(seed, "head")
        if head == "gaussian":
            a = scale * rng.standard_normal(m)
        elif head == "alternating":
            a = np.where(np.arange(m) % 2 == 0, 1.0, -1.0) / math.sqrt(m)
        else:
            signs = rng.integers(0, 2, size=m) * 2.0 - 1.0
            a = signs * (np.linalg.norm(W, axis=1) if head == "balanced" else 1.0 / math.sqrt(m))
        with np.errstate(over="ignore"):
            W, a = W.astype(target), a.astype(target)
        if not (np.isfinite(W).all() and np.isfinite(a).all()):
            raise ValueError(
                f"scale={scale:g} overflows in {target}; use log_scale=math.log(scale)"
            )
        return cls(W, a, activation, copy=False)

    @classmethod
    def balanced(
        cls,
        width: int,
        dim: int,
        scale: float,
        seed: Seed = 0,
        activation: Activation | str = ReLU(),
        dtype: DTypeLike = np.float64,
    ) -> TwoLayerNet:
        """Return a network with w_jk ~ N(0, scale²) and a_j = ±|w_j|, random signs.

        Arguments as in `gaussian`.

        Examples
        --------
        >>> import numpy as np, featcore as fc
        >>> net = fc.TwoLayerNet.balanced(width=5, dim=3, scale=1e-3)
        >>> bool(np.allclose(abs(net.a), np.linalg.norm(net.W, axis=1)))
        True
        """
        return cls.gaussian(width, dim, scale, "balanced", seed, activation, dtype)

    @property
    def width(self) -> int:
        """Number of neurons m."""
        return int(self.W.shape[0])

    @property
    def dim(self) -> int:
        """Input dimension d."""
        return int(self.W.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 or float32, of W and a."""
        return self.W.dtype

    def __call__(self, x: ArrayLike, num_threads: int | None = None) -> NDArray[Any]:
        """Return f(x), shape (n,), for x of shape (n, d)."""
        from featcore.dynamics.gradient import outputs

        return outputs(self, x, num_threads=num_threads)

    def astype(self, dtype: DTypeLike) -> TwoLayerNet:
        """Return the network rounded to `dtype` (float64 or float32)."""
        target = np.dtype(dtype)
        if target not in FLOATS:
            raise TypeError(f"dtype={target} must be float64 or float32")
        if target == self.dtype:
            return self
        return TwoLayerNet(
            self.W.astype(target),
            self.a.astype(target),
            self.activation,
            self.log_scale,
            copy=False,
        )

    @property
    def underflows(self) -> bool:
        """Whether weights of the dtype cannot hold the scaled weights because some are too small for it."""
        if self.log_scale is None:
            return False
        try:
            self.absorbed()
        except ValueError:
            largest = np.maximum(np.abs(self.W).max(axis=1), np.abs(self.a)).astype(np.float64)
            with np.errstate(divide="ignore"):
                sizes = self.log_scale + np.log(np.maximum(largest, 1.0))
            return bool(sizes.max() <= math.log(float(np.finfo(self.dtype).max)) / 2)
        return False

    def absorbed(self) -> TwoLayerNet:
        """Return the same network with `log_scale` multiplied into W and a.

        Raises
        ------
        ValueError
            If the scaled weights would underflow or overflow in the network's dtype.
        """
        if self.log_scale is None:
            return self
        info = np.finfo(self.dtype)
        low, high = float(self.log_scale.min()), float(self.log_scale.max())
        too_large = high > math.log(float(info.max)) / 2
        if low < math.log(float(info.tiny)) / 2 or too_large:
            raise ValueError(
                f"log_scale between {low:g} and {high:g} cannot be held by {self.dtype} weights whose "
                f"products matter; {'lower it' if too_large else 'keep it in log_scale'}"
            )
        factor = np.exp(self.log_scale).astype(self.dtype)
        with np.errstate(over="ignore"):
            W, a = factor[:, None] * self.W, factor * self.a
        for before, after in ((self.W, W), (self.a, a)):
            if not np.isfinite(after).all() or ((np.abs(after) < info.tiny) & (before != 0)).any():
                raise ValueError(
                    f"log_scale between {low:g} and {high:g} times these weights leaves the range of "
                    f"{self.dtype}; keep it in log_scale"
                )
        return TwoLayerNet(W, a, self.activation, copy=False)

    def sha256(self) -> str:
        """Return the SHA-256 of W, a, log_scale and the activation, as stored with a run."""
        digest = hashlib.sha256(repr(self.activation).encode())
        for name in ("W", "a", "log_scale"):
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        scale = "" if self.log_scale is None else ", log_scale"
        return f"TwoLayerNet(width={self.width}, dim={self.dim}, {self.activation!r}, {self.dtype}{scale})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("W", "a", "activation", "log_scale")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class Gradient:
    """Gradient of the objective with respect to W, shape (m, d), and a, shape (m,)."""

    W: NDArray[Any]
    a: NDArray[Any]

    @property
    def norm(self) -> float:
        """Euclidean norm of (W, a) together."""
        return math.hypot(float(np.linalg.norm(self.W)), float(np.linalg.norm(self.a)))
