"""`Dataset`: samples, labels, and what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featcore._validation import FLOATS, float_array, frozen

_ARRAYS = ("x", "y", "clean_y", "flipped", "means", "weights")


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Dataset:
    """Samples with labels; frozen.

    Arrays are held as read-only, C-contiguous float64 or float32. An array that already is so is
    referenced, not copied (do not change it behind the dataset's back); any other layout, byte
    order or integer type is copied once, here. The dtype is that of `x`; the others are cast to it
    if the cast is exact.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples. There is no bias in the network: append a column of ones (`with_bias`) if wanted.
    y : array_like, shape (n,)
        Labels the network is trained on; -1 or +1 for classification.
    clean_y : array_like, shape (n,), optional
        Labels before noise. None means unknown.
    flipped : array_like of bool, shape (n,), optional
        Which labels were corrupted.
    means : array_like, shape (k, d), optional
        Known directions of the distribution, such as the cluster means μ1, μ2.
    weights : array_like, shape (n,), optional
        Non-negative sample weights with a positive sum; default equal. The mean loss is
        Σ w_i ℓ_i / Σ w_i, the sum loss Σ w_i ℓ_i.
    provenance : mapping, optional
        How the data came to be (generator, arguments, seed), stored with every run.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or type, an empty axis, or a non-finite entry.

    Examples
    --------
    >>> import featcore as fc
    >>> data = fc.Dataset([[1.0, 0.0], [0.0, 2.0]], [1, -1])
    >>> data.n, data.d, data.dtype
    (2, 2, dtype('float64'))
    """

    x: NDArray[Any]
    y: NDArray[Any]
    clean_y: NDArray[Any] | None
    flipped: NDArray[np.bool_] | None
    means: NDArray[Any] | None
    weights: NDArray[Any] | None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        clean_y: ArrayLike | None = None,
        flipped: ArrayLike | None = None,
        means: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        x = float_array("x", x, ndim=2)
        n, d = x.shape
        y = _vector("y", y, n, x.dtype)
        if clean_y is not None:
            clean_y = frozen(_vector("clean_y", clean_y, n, x.dtype))
        if flipped is not None:
            if isinstance(flipped, np.ma.MaskedArray):
                raise TypeError("flipped is a masked array; fill the masked entries first")
            flipped = np.ascontiguousarray(flipped)
            if flipped.dtype != np.bool_ or flipped.shape != (n,):
                raise ValueError(
                    f"flipped has dtype {flipped.dtype} and shape {flipped.shape}; "
                    f"it must be a boolean mask of shape ({n},)"
                )
            flipped = frozen(flipped)
        if means is not None:
            means = float_array("means", means, ndim=2, dtype=x.dtype)
            if means.shape[1] != d:
                raise ValueError(
                    f"means has shape {means.shape}; its rows must have x's dimension {d}"
                )
            means = frozen(means)
        if weights is not None:
            weights = _vector("weights", weights, n, x.dtype)
            if weights.min() < 0 or not weights.any():
                raise ValueError(
                    "weights must be non-negative with a positive sum; the smallest is "
                    f"{weights.min()}"
                )
            # the mean divides by the sum, in the arrays' own dtype
            total, info = float(weights.sum(dtype=np.longdouble)), np.finfo(x.dtype)
            if not 1e3 * float(info.tiny) < total < 1e-3 * float(info.max):
                raise ValueError(
                    f"weights sum to {total:g}, which {x.dtype} cannot divide by; rescale them, for "
                    "example to a mean of 1"
                )
            weights = frozen(weights)
        if not isinstance(provenance, (Mapping, type(None))):
            raise TypeError(f"provenance={provenance!r} must be a mapping, such as {{'seed': 0}}")
        set_ = object.__setattr__
        set_(self, "x", frozen(x))
        set_(self, "y", frozen(y))
        set_(self, "clean_y", clean_y)
        set_(self, "flipped", flipped)
        set_(self, "means", means)
        set_(self, "weights", weights)
        set_(self, "provenance", MappingProxyType(dict(provenance or {})))

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.x.shape[0])

    @property
    def d(self) -> int:
        """Dimension of the samples."""
        return int(self.x.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 or float32, of every array."""
        return self.x.dtype

    def __len__(self) -> int:
        return self.n

    def astype(self, dtype: DTypeLike) -> Dataset:
        """Return the dataset rounded to `dtype` (float64 or float32)."""
        target = np.dtype(dtype)
        if target not in FLOATS:
            raise TypeError(f"dtype={target} must be float64 or float32")
        if target == self.dtype:
            return self

        def cast(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array.astype(target)

        return Dataset(
            self.x.astype(target),
            self.y.astype(target),
            cast(self.clean_y),
            self.flipped,
            cast(self.means),
            cast(self.weights),
            self.provenance,
        )

    def subset(self, index: ArrayLike | slice) -> Dataset:
        """Return the samples selected by `index` (integers, a boolean mask or a slice)."""
        chosen: Any = index if isinstance(index, slice) else np.asarray(index)

        def take(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[chosen]

        return Dataset(
            self.x[chosen],
            self.y[chosen],
            take(self.clean_y),
            take(self.flipped),
            self.means,
            take(self.weights),
            {**self.provenance, "subset": True},
        )

    def with_bias(self, value: float = 1.0) -> Dataset:
        """Return the dataset with a column of `value` appended to x (and zeros to the means)."""
        column = np.full((self.n, 1), value, dtype=self.dtype)
        means = self.means
        if means is not None:
            means = np.hstack([means, np.zeros((means.shape[0], 1), dtype=self.dtype)])
        return Dataset(
            np.hstack([self.x, column]),
            self.y,
            self.clean_y,
            self.flipped,
            means,
            self.weights,
            {**self.provenance, "bias": value},
        )

    def sha256(self) -> str:
        """Return the SHA-256 of x, y, clean_y and weights (with shapes and dtype)."""
        digest = hashlib.sha256()
        for name in ("x", "y", "clean_y", "weights"):
            array = getattr(self, name)
            if array is not None:
                digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        extras = [name for name in _ARRAYS[2:] if getattr(self, name) is not None]
        tail = f", {', '.join(extras)}" if extras else ""
        return f"Dataset(n={self.n}, d={self.d}, {self.dtype}{tail})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _ARRAYS} | {
            "provenance": dict(self.provenance)
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _vector(name: str, value: ArrayLike, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = float_array(name, value, ndim=1, dtype=dtype)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}; x has {n} samples, so it must be ({n},)")
    return array
