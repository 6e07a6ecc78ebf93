"""Ridge regression on given features: a whole path of penalties from one factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, frozen

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Ridge:
    """Ridge regression; made by `ridge`. Where `lam` is a number, what follows it has one axis less."""

    lam: float | Array
    """Penalties λ: a number, or shape (k,)."""
    coefficients: Array
    """Minimisers a, shape (k, N), or (N,)."""
    objective: float | Array
    """(1/n)|y - Fa|² + λ|a|² at its minimum, shape (k,), or a number."""
    train_error: float | Array
    """(1/n)|y - Fa|², shape (k,), or a number."""

    def predict(self, features: ArrayLike) -> Array:
        """Return F a for other features F, shape (n,) or (n, N): shape (k, n), or (n,)."""
        F = float_array("features", features, ndim=2)
        N = self.coefficients.shape[-1]
        if F.shape[1] != N:
            raise ValueError(f"features has shape {F.shape}; the fit takes (n, {N})")
        return np.asarray(self.coefficients @ F.T.astype(np.float64, copy=False))

    def test_error(self, features: ArrayLike, y: ArrayLike) -> float | Array:
        """Return the mean of (y - F a)² over other samples: shape (k,), or a number.

        Its expectation includes the variance of the noise of y.
        """
        predicted = self.predict(features)
        target = _target(y, predicted.shape[-1])
        errors = np.mean((target - np.atleast_2d(predicted)) ** 2, axis=1)
        return errors if isinstance(self.lam, np.ndarray) else float(errors[0])

    def __repr__(self) -> str:
        lam = self.lam if isinstance(self.lam, float) else f"{len(self.lam)} values"
        return f"Ridge(N={self.coefficients.shape[-1]}, lam={lam})"


def ridge(features: ArrayLike, y: ArrayLike, lam: ArrayLike) -> Ridge:
    """Return the minimiser a of (1/n)|y - F a|² + λ|a|², for one λ or for many.

    No halves, and the mean over samples: the normalisation of theories of random features. The minimum itself is
    λ yᵀ(FFᵀ + λn)⁻¹y. All λ share one eigendecomposition of the smaller of FᵀF and FFᵀ, in float64 whatever the
    features are. Eigenvalues that are zero to rounding of the largest are taken for zero, so that λ may be
    as small or large as one likes.

    Parameters
    ----------
    features : array_like, shape (n, N)
        F, a sample a row, for example from `featcore.features`.
    y : array_like, shape (n,)
        Targets.
    lam : float or array_like, shape (k,)
        λ, positive.

    Returns
    -------
    Ridge
        With `coefficients`, `objective`, `train_error`, `predict` and `test_error`, whose shapes follow `lam`.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, or a λ is not positive and finite.

    Examples
    --------
    >>> import featcore as fc
    >>> fit = fc.ridge([[1.0], [1.0]], [1.0, 3.0], lam=[1.0, 3.0])
    >>> fit.coefficients
    array([[1. ],
           [0.5]])
    >>> fit.objective, fit.train_error
    (array([3., 4.]), array([2.  , 3.25]))
    >>> fit.test_error([[1.0]], [1.0])
    array([0.  , 0.25])
    """
    F = float_array("features", features, ndim=2).astype(np.float64, copy=False)
    n, N = F.shape
    target = _target(y, n)
    lams = _penalties(lam)
    penalties = np.atleast_1d(lams)

    primal = n >= N
    gram = F.T @ F if primal else F @ F.T
    values, vectors = np.linalg.eigh(gram)
    del gram
    present = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[present], vectors[:, present]
    seen = vectors.T @ (F.T @ target if primal else target)
    weights = seen / (values + penalties[:, None] * n)
    coefficients = weights @ vectors.T
    if not primal:
        coefficients = coefficients @ F
    residual = target - coefficients @ F.T
    train_error = np.mean(residual**2, axis=1)
    objective = train_error + penalties * np.sum(coefficients**2, axis=1)
    return Ridge(
        frozen(lams) if isinstance(lams, np.ndarray) else lams,
        frozen(coefficients if isinstance(lams, np.ndarray) else coefficients[0]),
        _shaped(objective, lams),
        _shaped(train_error, lams),
    )


def _penalties(lam: ArrayLike) -> float | Array:
    scalar = np.ndim(lam) == 0
    lams: Array = float_array("lam", lam, ndim=0 if scalar else 1).astype(np.float64)
    if not (lams > 0).all():
        raise ValueError(f"lam has the entry {lams.min():g}; every penalty must be > 0")
    return float(lams) if scalar else lams


def _target(y: ArrayLike, n: int) -> Array:
    target: Array = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if target.shape != (n,):
        raise ValueError(f"y has shape {target.shape}; features has {n} rows, so it must be ({n},)")
    return target


def _shaped(values: Array, lam: float | Array) -> Any:
    return frozen(values) if isinstance(lam, np.ndarray) else float(values[0])
