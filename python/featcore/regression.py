"""Ridge regression on given features: a whole path of penalties from one factorisation."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._dispatch import check_memory, core, resolve_threads
from featcore._progress import percent
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
        predicted = _products(F, np.atleast_2d(self.coefficients))
        return predicted if self.coefficients.ndim == 2 else predicted[0]

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


def ridge(features: ArrayLike, y: ArrayLike, lam: ArrayLike, progress: bool = False) -> Ridge:
    """Return the minimiser a of (1/n)|y - F a|² + λ|a|², for one λ or for many.

    No halves, and the mean over samples: the normalisation of theories of random features. The minimum itself is
    λ yᵀ(FFᵀ + λn)⁻¹y. All λ share one factorisation of the smaller of FᵀF and FFᵀ, in float64 whatever the features
    are. λ may be as small as one likes: where it is lost in rounding, eigenvalues that are zero to rounding of the
    largest are taken for zero, and the minimiser of least norm is approached. The other λ of a path do not notice.

    Parameters
    ----------
    features : array_like, shape (n, N)
        F, a sample a row, for example from `featcore.features`.
    y : array_like, shape (n,)
        Targets.
    lam : float or array_like, shape (k,)
        λ, positive.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    Ridge
        With `coefficients`, `objective`, `train_error`, `predict` and `test_error`, whose shapes follow `lam`.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, a λ is not positive and finite, or squares leave the range of float64.
    MemoryError
        Before anything is computed, with the number, if it needs more memory than is free.

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
    F = float_array("features", features, ndim=2)
    n, N = F.shape
    target = _target(y, n)
    lams = _penalties(lam)
    penalties = np.atleast_1d(lams)
    size = min(n, N)
    check_memory(
        f"ridge regression (n={n}, N={N}, {len(penalties)} penalties)",
        8.0 * (5 * size**2 + len(penalties) * (2 * (n + N) + 256 * resolve_threads(None))),
        "use fewer samples or features",
    )

    primal = n >= N
    with percent(progress) as bar:
        gram = core.second_moments(F, primal, resolve_threads(None), bar.part(0, 50))
        _check_range(gram, target, penalties)
        right = _products(F, target[None], of_samples=True)[0] if primal else target
        coefficients = solve(gram, penalties * n, right, bar.part(50, 100))
        bar.close_at(100)
    if not primal:
        coefficients = _products(F, coefficients, of_samples=True)
    residual = target - _products(F, coefficients)
    train_error = np.mean(residual**2, axis=1)
    objective = train_error + penalties * np.sum(coefficients**2, axis=1)
    return Ridge(
        frozen(lams) if isinstance(lams, np.ndarray) else lams,
        frozen(coefficients if isinstance(lams, np.ndarray) else coefficients[0]),
        _shaped(objective, lams),
        _shaped(train_error, lams),
    )


def solve(
    gram: Array, shifts: Array, right: Array, progress: Callable[[int], None] | None = None
) -> Array:
    """Return (gram + s I)⁻¹ right for every shift s, shape (k, size).

    One shift is solved for by Cholesky's method. Many share a banded form QBQᵀ of `gram` (`banded_form.hpp`), in which
    one more costs little. Shifts that are lost in rounding are left to eigenvalues, which decide what is zero.
    """
    if len(shifts) == 1:
        found = solve_one(gram, float(shifts[0]), right)
        return _solve_by_eigenvalues(gram, shifts, right) if found is None else found[None]
    # As solve_one has it: not those above rounding, nor those beside which eigenvalues are all above it.
    lost = shifts <= rounding(gram)
    if lost.any():
        ascending = np.unique(shifts[lost])
        count = bisect_left(
            ascending, True, key=lambda s: solve_one(gram, float(s), right) is not None
        )
        lost = np.isin(shifts, ascending[:count])
    solutions = np.empty((len(shifts), len(gram)))
    if not lost.all():
        banded = core.shifted_solves(gram, shifts[~lost], right, resolve_threads(None), progress)
        if banded is None:
            lost[:] = True
        else:
            solutions[~lost] = banded
    if lost.any():
        solutions[lost] = _solve_by_eigenvalues(gram, shifts[lost], right)
    return solutions


def solve_one(gram: Array, shift: float, right: Array) -> Array | None:
    """Return (gram + shift I)⁻¹ right, or None where the shift is lost in rounding.

    That is told by the smallest eigenvalue. Pivots do not tell it: they may all be large where the matrix is singular,
    if its null vector fades along the way.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

    floor = rounding(gram)
    shifted = gram + shift * np.eye(len(gram))
    try:
        factor = cho_factor(shifted, lower=True)
    except LinAlgError:
        return None
    # No eigenvalue is smaller than the shift, nor than the inverse of the inverse's norm.
    norm = np.abs(shifted).sum(axis=0).max()
    if shift <= floor and lapack.dpocon(factor[0], norm, uplo="L")[0] * norm <= floor:
        return None
    return np.asarray(cho_solve(factor, right))


def rounding(gram: Array) -> float:
    """Return what eigenvalues of a positive semidefinite matrix are known to in float64."""
    return float(len(gram) * np.finfo(np.float64).eps * np.trace(gram))


def _solve_by_eigenvalues(gram: Array, shifts: Array, right: Array) -> Array:
    """Return what `solve` does, eigenvalues of `gram` that are zero to rounding being zero: so are their parts."""
    values, vectors = np.linalg.eigh(gram)
    present = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[present], vectors[:, present]
    return np.asarray(((vectors.T @ right) / (values + shifts[:, None])) @ vectors.T)


def _products(F: NDArray[Any], vectors: Array, of_samples: bool = False) -> Array:
    """Return vectors Fᵀ, or vectors F: in our threads, since those of numpy's products go on spinning for a while."""
    C = np.ascontiguousarray(vectors)
    return core.feature_products(F, C, of_samples, resolve_threads(None))


def _penalties(lam: ArrayLike) -> float | Array:
    scalar = np.ndim(lam) == 0
    lams: Array = float_array("lam", lam, ndim=0 if scalar else 1).astype(np.float64)
    if not (lams > 0).all():
        raise ValueError(f"lam has the entry {lams.min():g}; every penalty must be > 0")
    return float(lams) if scalar else lams


def _check_range(gram: Array, target: Array, penalties: Array) -> None:
    """Raise unless all sums of squares, and with them all products, are in the range of float64."""
    n = len(target)
    with np.errstate(over="ignore"):
        energy = target @ target
        largest = penalties.max() * n
    for name, size in (("features", np.trace(gram)), ("y", energy)):
        if not np.isfinite(size):
            raise ValueError(
                f"{name} has entries whose squares leave the range of float64; scale it"
            )
    if not np.isfinite(largest):
        raise ValueError(
            f"lam has the entry {penalties.max():g}, which leaves the range of float64 when multiplied by n={n}; "
            "use a smaller one"
        )


def _target(y: ArrayLike, n: int) -> Array:
    target: Array = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if target.shape != (n,):
        raise ValueError(f"y has shape {target.shape}; features has {n} rows, so it must be ({n},)")
    return target


def _shaped(values: Array, lam: float | Array) -> Any:
    return frozen(values) if isinstance(lam, np.ndarray) else float(values[0])
