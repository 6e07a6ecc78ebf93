"""Ridge regression on given features: a whole path of penalties from one factorisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._dispatch import check_memory, core, resolve_threads
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
        8.0 * (5 * size**2 + 2 * len(penalties) * (n + N)) + 8.0 * F.size * (F.dtype != np.float64),
        "use fewer samples or features",
    )

    primal = n >= N
    gram = core.second_moments(F, primal, resolve_threads(None))
    F = F.astype(np.float64, copy=False)
    _check_range(gram, target, penalties)
    right = F.T @ target if primal else target
    shifts = penalties * n
    coefficients, trusted = solve(gram, shifts, right)
    if not trusted.all():
        coefficients[~trusted] = _solve_by_eigenvalues(gram, shifts[~trusted], right)
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


def solve(gram: Array, shifts: Array, right: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return (gram + s I)⁻¹ right for every shift s, shape (k, size), and for which shifts it can be trusted.

    The others are lost in rounding; their rows mean nothing. One shift is solved for by Cholesky's method. Many share a
    tridiagonal form QTQᵀ of `gram`, for which one more costs no more than a product with Q: the eigenvectors, which
    take three times as long, are not needed.

    What is lost is told by the smallest eigenvalue of gram + s I. Pivots do not tell it: they may all be large where
    the matrix is singular, if its null vector fades along the way, as it does in tridiagonal forms.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigvalsh_tridiagonal, lapack

    size = len(gram)
    solutions = np.zeros((len(shifts), size))
    floor = rounding(gram)
    if len(shifts) == 1 or size < 3:
        trusted = np.zeros(len(shifts), dtype=bool)
        for k, shift in enumerate(shifts):
            shifted = gram + shift * np.eye(size)
            try:
                factor = cho_factor(shifted, lower=True)
            except LinAlgError:
                continue
            # No eigenvalue is smaller than the shift, nor than the inverse of the inverse's norm.
            norm = np.abs(shifted).sum(axis=0).max()
            trusted[k] = shift > floor or lapack.dpocon(factor[0], norm, uplo="L")[0] * norm > floor
            if trusted[k]:
                solutions[k] = cho_solve(factor, right)
        return solutions, trusted

    work = int(lapack.dsytrd_lwork(size, lower=1)[0])
    form, diagonal, off, tau, _ = lapack.dsytrd(gram.T, lower=1, lwork=work)
    reflectors = np.asfortranarray(form[1:, :-1])  # Q is 1 beside their product

    def turned(columns: Array, transposed: str) -> Array:
        rest = np.asfortranarray(columns[1:])
        rest, _, _ = lapack.dormqr(
            "L", transposed, reflectors, tau, rest, 64 * max(rest.shape[1], 64)
        )
        return np.vstack([columns[:1], rest])

    least = eigvalsh_tridiagonal(diagonal, off, select="i", select_range=(0, 0))[0]
    trusted = shifts + least > floor
    start = turned(right[:, None], "T")
    columns = np.empty((size, int(trusted.sum())), order="F")
    for k, shift in enumerate(shifts[trusted]):
        pivots, factors, _ = lapack.dpttrf(diagonal + shift, off)
        columns[:, k : k + 1], _ = lapack.dpttrs(pivots, factors, start)
    if columns.size:
        solutions[trusted] = turned(columns, "N").T
    return solutions, trusted


def rounding(gram: Array) -> float:
    """Return what eigenvalues of a positive semidefinite matrix are known to in float64."""
    return float(len(gram) * np.finfo(np.float64).eps * np.trace(gram))


def _solve_by_eigenvalues(gram: Array, shifts: Array, right: Array) -> Array:
    """Return what `solve` does, eigenvalues of `gram` that are zero to rounding being zero: so are their parts."""
    values, vectors = np.linalg.eigh(gram)
    present = values > len(values) * np.finfo(np.float64).eps * values[-1]
    values, vectors = values[present], vectors[:, present]
    return np.asarray(((vectors.T @ right) / (values + shifts[:, None])) @ vectors.T)


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
