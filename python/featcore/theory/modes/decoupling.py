"""The linearised network of the 2021 paper on gradient starvation: coupled features, and what decouples them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, real
from featcore.theory._arrays import any_shape

Array = NDArray[np.float64]


def responses(U: ArrayLike, strengths: ArrayLike, ridge: float) -> Array:
    """Return the responses z to features under weight decay: λz = S² Uᵀσ(-Uz).

    The network is linear in its parameters, Y Φ = U S Vᵀ; z = Uᵀ Y ŷ is what it has learnt of each feature when the
    sum of log(1 + e^{-y ŷ}) and (λ/2)|θ|² is least.

    Parameters
    ----------
    U : array_like, shape (n, r)
        Left singular vectors of Y Φ: orthonormal columns.
    strengths : array_like, shape (r,)
        Its singular values, positive.
    ridge : float
        λ, positive.

    Returns
    -------
    ndarray, shape (r,)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Pezeshki et al., "Gradient Starvation" (NeurIPS 2021, arXiv 2011.09468).

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import modes
    >>> U = np.array([[np.sqrt(0.75), -0.5], [0.5, np.sqrt(0.75)]])
    >>> [round(float(modes.responses(U, [s1, 2.0], ridge=0.01)[1]), 4) for s1 in (2.0, 4.0, 6.0)]
    [1.64, 1.4668, 1.1853]
    """
    basis = _basis(U)
    s = _strengths(strengths, basis)
    lam = real("ridge", ridge, above=0.0)
    return _least(basis, lam / s**2)


def response_slopes(U: ArrayLike, strengths: ArrayLike, ridge: float) -> Array:
    """Return ∂z_k/∂(s_j²) of `responses`; a negative entry off the diagonal is starvation of k by j.

    Parameters
    ----------
    U, strengths, ridge
        As for `responses`.

    Returns
    -------
    ndarray, shape (r, r)
        Row k, column j.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    That dz_2/ds_1² < 0 for two coupled features, the first of which is stronger, is the theorem of Pezeshki et al.
    (arXiv 2011.09468); at equal strengths it is 0. The slopes are the fixed point's, differentiated (derived here).

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import modes
    >>> U = np.array([[np.sqrt(0.75), -0.5], [0.5, np.sqrt(0.75)]])
    >>> bool(modes.response_slopes(U, [4.0, 2.0], ridge=0.01)[1, 0] < 0)
    True
    """
    basis = _basis(U)
    s = _strengths(strengths, basis)
    lam = real("ridge", ridge, above=0.0)
    z = _least(basis, lam / s**2)
    return np.asarray(np.linalg.solve(_curvature(basis, lam / s**2, z), np.diag(lam * z / s**4)))


def decoupled_responses(U: ArrayLike, penalty: float) -> Array:
    """Return the responses under spectral decoupling, (μ/2)|ŷ|² instead of weight decay: μz = Uᵀσ(-Uz).

    They do not depend on the strengths of the features. Where U is square every output is the same m, μm = σ(-m).

    Parameters
    ----------
    U : array_like, shape (n, r)
        Orthonormal columns.
    penalty : float
        μ, positive, of the **sum** of ŷ²/2; n times the `output_penalty` of a mean.

    Returns
    -------
    ndarray, shape (r,)

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Pezeshki et al. (arXiv 2011.09468).

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import modes
    >>> U = np.array([[np.sqrt(0.75), -0.5], [0.5, np.sqrt(0.75)]])
    >>> modes.decoupled_responses(U, penalty=0.002).round(4)
    array([6.3727, 1.7076])
    """
    basis = _basis(U)
    mu = real("penalty", penalty, above=0.0)
    return _least(basis, np.full(basis.shape[1], mu))


def dual_flow(
    t: ArrayLike, U: ArrayLike, strengths: ArrayLike, ridge: float, alpha0: ArrayLike
) -> Array:
    """Return the dual variables α(t) of `responses`, α' = log((1-α)/α) - (1/λ) U S² Uᵀα.

    Parameters
    ----------
    t : array_like, one axis
        Times, at least 0, increasing.
    U, strengths, ridge
        As for `responses`.
    alpha0 : array_like, shape (n,)
        α at t = 0, between 0 and 1.

    Returns
    -------
    ndarray, shape (len(t), n)
        They end at σ(-Uz), z the `responses`; at any time (1/λ) S² Uᵀα is what they give for z.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or `ridge` below 1e-12 of the largest strength squared.

    Notes
    -----
    Pezeshki et al. (arXiv 2011.09468), with the rate η of their flow set to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import modes
    >>> U, s, ridge = np.eye(2), np.array([2.0, 1.0]), 0.1
    >>> alpha = modes.dual_flow([0.0, 20.0], U, s, ridge, [0.5, 0.5])
    >>> np.allclose(s**2 * (U.T @ alpha[-1]) / ridge, modes.responses(U, s, ridge))
    True
    """
    from scipy.integrate import solve_ivp

    times = any_shape("t", t)
    if times.ndim != 1 or not times.size or times[0] < 0 or (np.diff(times) < 0).any():
        raise ValueError(f"t has shape {times.shape}; pass one axis of times from 0 on, increasing")
    basis = _basis(U)
    s = _strengths(strengths, basis)
    lam = real("ridge", ridge, above=0.0)
    alpha = float_array("alpha0", alpha0, ndim=1).astype(np.float64)
    if alpha.shape != basis.shape[:1] or not ((alpha > 0) & (alpha < 1)).all():
        raise ValueError(
            f"alpha0 has shape {alpha.shape}, from {alpha.min():g} to {alpha.max():g}; pass {len(basis)} numbers "
            "between 0 and 1"
        )
    least = 1e-12 * float((s**2).max())
    if lam < least:
        raise ValueError(
            f"ridge={lam:g} is too small for these strengths: α would decay to where its logit has no digits left; "
            f"use {least:.1e} or more"
        )
    kernel = (basis * s**2) @ basis.T / lam

    # in the logit m of 1 - α nothing leaves the interval
    def speed(_: float, m: Array) -> Array:
        a = np.exp(-np.logaddexp(0.0, m))
        return np.asarray(-(m - kernel @ a) / (a * np.exp(-np.logaddexp(0.0, -m))))

    start = np.log1p(-alpha) - np.log(alpha)
    if times[-1] == 0:
        m = np.tile(start[:, None], times.size)
    else:
        m = solve_ivp(
            speed, (0.0, times[-1]), start, method="LSODA", t_eval=times, rtol=1e-10, atol=1e-12
        ).y
    return np.asarray(np.exp(-np.logaddexp(0.0, m)).T)


def _least(basis: Array, weights: Array) -> Array:
    """Return the z with the least Σ log(1 + e^{-Uz}) + ½Σ_k weights_k z_k², by damped Newton steps."""

    def value(z: Array) -> float:
        return float(np.logaddexp(0.0, -basis @ z).sum() + 0.5 * weights @ z**2)

    z = np.zeros(basis.shape[1])
    # a step raises an output by 1 at most, and e^-745 is the least double
    for _ in range(1000):
        slope = weights * z - basis.T @ np.exp(-np.logaddexp(0.0, basis @ z))
        move = np.linalg.solve(_curvature(basis, weights, z), -slope)
        gain, size = -float(slope @ move), 1.0
        # near the minimum steps are whole: the value has no digits left to tell
        while gain > 1e-8 and value(z + size * move) > value(z) - 0.25 * size * gain:
            size *= 0.5
        z = z + size * move
        if np.abs(move).max() <= 1e-14 * max(1.0, np.abs(z).max()):
            break
    return z


def _curvature(basis: Array, weights: Array, z: Array) -> Array:
    m = basis @ z
    bend = np.exp(-np.logaddexp(0.0, m) - np.logaddexp(0.0, -m))
    return np.asarray(np.diag(weights) + (basis.T * bend) @ basis)


def _basis(U: ArrayLike) -> Array:
    basis = float_array("U", U, ndim=2).astype(np.float64)
    off = np.abs(basis.T @ basis - np.eye(basis.shape[1])).max()
    if off > 1e-8:
        raise ValueError(
            f"U has columns that are off orthonormal by {off:.2g}; pass singular vectors"
        )
    return basis


def _strengths(strengths: ArrayLike, basis: Array) -> Array:
    s = float_array("strengths", strengths, ndim=1).astype(np.float64)
    if s.shape != basis.shape[1:] or not (s > 0).all():
        raise ValueError(
            f"strengths has shape {s.shape} and least entry {s.min():g}; pass {basis.shape[1]} positive numbers"
        )
    return s
