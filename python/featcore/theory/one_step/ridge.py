"""Errors of ridge regression on the features: random, after a step of finite strength, after one of infinite."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import integer
from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step import spikes as spike_matrices
from featcore.theory.one_step.expansions import DEGREE, expand, norms
from featcore.theory.one_step.fixed_point import FixedPoint, at_least_zero, positive, solve
from featcore.theory.one_step.step import Problem, Step, problem, shaped, step

Array = NDArray[np.float64]

WIDEST = 1e9
"""Up to which the quadrature's error, which the width multiplies, does not count."""
STRONGEST = 1.0
"""Up to which functions of the spikes are well approximated by their first Hermite coefficients."""


@dataclass(frozen=True, eq=False)
class Errors:
    """Limits of ridge regression's errors; arrays of the shape that the arguments broadcast to.

    Attributes
    ----------
    objective : ndarray
        (1/n)|ỹ - Fâ|² + λ|â|², what ridge regression minimises.
    train_error : ndarray
        (1/n)|ỹ - Fâ|².
    test_error : ndarray
        E(y - f(x))² on new samples; never below σ_ε², which it contains.
    fixed_point : FixedPoint
        Of the initial features.
    step : Step or None
        What the step did; None without one.
    """

    objective: Array
    train_error: Array
    test_error: Array
    fixed_point: FixedPoint
    step: Step | None


def random_features_errors(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    ridge: ArrayLike,
    noise: ArrayLike = 0.0,
) -> Errors:
    """Return the errors of ridge regression on σ(X̃W₀ᵀ), without a step.

    Parameters
    ----------
    activation, link, n, d, width, ridge, noise
        As of `errors`. Only the ratios d/n and d/width count.

    Returns
    -------
    Errors

    Raises
    ------
    TypeError, ValueError
        As of `errors`.

    Notes
    -----
    Derived here. Networks of d = 400 to 600 are within 2 %.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.random_features_errors(
    ...     "tanh", [0, 1, 0.5**0.5], n=1000, d=500, width=600, ridge=[0.01, 0.3], noise=0.3)
    >>> found.test_error.round(3)
    array([2.28 , 1.724])
    """
    of = problem(activation, link, n=n, d=d, width=width, noise=noise)
    of, (lam,) = shaped(of, ridge=positive("ridge", ridge))
    point = solve(of.student.coefficients[1], of.student.nonlinear_square, of.phi, of.psi, lam)
    return _errors(of, point, lam)


def errors(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    ridge: ArrayLike,
    step_size: ArrayLike,
    noise: ArrayLike = 0.0,
    residual: str = "labels",
    step_samples: ArrayLike | None = None,
    order: int | None = None,
) -> Errors:
    """Return the errors of ridge regression on the features after one gradient step.

    y = σ_*(<β_*, x>) + ε with x ~ N(0, I_d) and |β_*| = 1. The student f(x) = aᵀσ(Wx) has rows of W₀ uniform on the
    unit sphere (or N(0, I/d) if σ_* has no mean or σ no c_2) and a ~ N(0, I/N). W takes one step of size η down the
    square loss (1/2n)Σ(y - f)² of one batch; a is then found by ridge regression on **another** of n samples: the
    minimum of (1/n)|ỹ - Fa|² + λ|a|².

    Arguments broadcast: a grid of step sizes and ridges is one call.

    Parameters
    ----------
    activation : str or Activation
        σ, with E σ(Z) = 0 and c_1 ≠ 0, such as `ReLU().centred()`.
    link : str, Activation, sequence of float or callable
        σ_*, as `featcore.data.link` takes it.
    n, d, width : array_like
        Samples of the ridge batch, dimension and N; positive, and need not be integers.
    ridge : array_like
        λ, positive.
    step_size : array_like
        η, at least 0; the paper's regimes are η = n^α.
    noise : array_like
        σ_ε, the standard deviation of ε.
    residual : {"labels", "full"}
        Whether the step follows y alone or y - f₀(x).
    step_samples : array_like, optional
        Samples of the step's batch; n of them by default.
    order : int, optional
        Keep only the first terms u, u², …, u^order, at most 8, of the Taylor series of what the step adds, as the paper
        does. By default all of it.

    Returns
    -------
    Errors

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range; if σ is not centred or c_1 = 0; if s exceeds 1, beyond which features are no
        longer a small change of the initial ones; if the width exceeds 1e9 without an `order`.

    Notes
    -----
    Derived here (docs/derivations.md), for n, d, N → ∞ in proportion with N s^{2k} of any size, s = c_1η|β|/√N → 0. It
    has no free parameter. Against networks of d = 500 it is within 3 % for η up to n^0.3 and 6 % to n^0.4, but for
    teachers with a mean, of which it is more than 10 % off at n^0.4. At n^0.45, where `Errors.step.neglected` is 0.2,
    it is up to 10 % off. `conditional_errors` is for such steps, at ten times the cost or, over grids, a hundred to two
    hundred times. The limit of infinite N s^{2k} is `limit_errors`; it is reached slowly. Batches shared between step
    and ridge regression are not covered.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.errors(
    ...     fc.ReLU().centred(), [0, 1, 0.5**0.5], n=1000, d=500, width=600, ridge=0.05,
    ...     step_size=1000 ** np.array([0.0, 0.2]), noise=0.3)
    >>> found.test_error.round(2), found.objective.round(3)
    (array([2.14, 1.93]), array([0.887, 0.794]))
    """
    of = problem(
        activation,
        link,
        n=n,
        d=d,
        width=width,
        noise=noise,
        residual=residual,
        step_samples=step_samples,
    )
    of, (lam, eta) = shaped(
        of, ridge=positive("ridge", ridge), step_size=at_least_zero("step_size", step_size)
    )
    point = solve(of.student.coefficients[1], of.student.nonlinear_square, of.phi, of.psi, lam)
    moved = step(of, eta)
    explained = _by_spikes(of, point, moved, coefficients(of, moved, order))
    return _errors(of, point, lam, explained, moved)


def limit_errors(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    ridge: ArrayLike,
    spikes: int,
    noise: ArrayLike = 0.0,
    residual: str = "labels",
    step_samples: ArrayLike | None = None,
) -> Errors:
    """Return the errors in the strict limit, where ℓ spikes are infinite and all others zero.

    With infinite spikes u, u², …, u^ℓ are features without a penalty; with a constant mixed into them if σ_* has a mean
    and c_2 ≠ 0 (`Step.tilt`).

    Parameters
    ----------
    activation, link, n, d, width, ridge, noise, residual, step_samples
        As of `errors`. Only the ratios of the sizes count.
    spikes : int
        ℓ, at least 0; `number_of_spikes` of the exponent α of the step size.

    Returns
    -------
    Errors
        Their `step` is None: no step size is in the limit.

    Raises
    ------
    TypeError, ValueError
        As of `errors`; and if a coefficient c_k of σ with k ≤ ℓ vanishes, since that spike does not exist.

    Notes
    -----
    Derived here, for any ℓ. Moniri and others (ICML 2024) have ℓ = 1 and ℓ = 2; as we remember them, these agree.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore.theory import one_step
    >>> [float(one_step.limit_errors(
    ...     fc.ReLU().centred(), [0, 1, 0.5**0.5], n=1000, d=500, width=600, ridge=0.05,
    ...     spikes=spikes, noise=0.3).test_error.round(3)) for spikes in (0, 1, 2)]
    [2.202, 1.906, 1.673]
    """
    count = integer("spikes", spikes, least=0)
    of = problem(
        activation,
        link,
        n=n,
        d=d,
        width=width,
        noise=noise,
        residual=residual,
        step_samples=step_samples,
    )
    own = expand(of.sigma, max(count, 2))
    absent = [k for k in range(1, count + 1) if own.vanishes(k)]
    if absent:
        raise ValueError(
            f"spikes={count}, but c_{absent[0]} of {of.sigma!r} vanishes: there is no spike u^{absent[0]}; pass "
            f"spikes={absent[0] - 1}, or another activation"
        )
    of, (lam,) = shaped(of, ridge=positive("ridge", ridge))
    point = solve(of.student.coefficients[1], of.student.nonlinear_square, of.phi, of.psi, lam)
    if not count:
        return _errors(of, point, lam)
    moved = step(of, np.zeros(()))
    return _errors(of, point, lam, _by_span(of, point, moved, count))


def coefficients(of: Problem, moved: Step, order: int | None) -> Array:
    """Return M, after a check that the expansion holds."""
    largest = np.abs(moved.strength).max(initial=0.0)
    if largest > STRONGEST:
        raise ValueError(
            f"step_size gives |s| = {largest:.3g}, above {STRONGEST:g}: the step is no longer a small change of the "
            f"features, which this theory expands in; keep c_1·step_size·|β|/√width below {STRONGEST:g}"
        )
    if order is not None:
        terms = integer("order", order, least=1, most=DEGREE)
        return spike_matrices.taylor(of.sigma, moved.strength, moved.tilt, terms)
    if of.width.size and of.width.max() > WIDEST:
        raise ValueError(
            f"width={of.width.max():.3g} multiplies the errors of a quadrature, which is good up to {WIDEST:g}; "
            "pass order, or use limit_errors"
        )
    return spike_matrices.finite(of.sigma, moved.strength, moved.rescaling)


def gram(of: Problem, moved: Step, point: FixedPoint, count: int) -> tuple[Array, Array]:
    """Return G_aa = lim h_a(u)ᵀ(F₀F₀ᵀ + λn)⁻¹h_a(u), which is diagonal, and its derivative with respect to κ."""
    own = np.repeat(point.m1[..., None], count, axis=-1)
    slopes = np.repeat(point.m1_slope[..., None], count, axis=-1)
    # ω > 0: β has a part along W₀ᵀa, which the features know
    w, lift = 1.0 - point.u, moved.initial_share * of.psi
    own[..., 1] = point.m1 * (point.u - w * lift * point.u)
    slopes[..., 1] = point.m1_slope * (point.u - w * lift * point.u) + point.m1 * point.u_slope * (
        1.0 + lift * (point.u - w)
    )
    return own, slopes


def _errors(
    of: Problem,
    point: FixedPoint,
    ridge: Array,
    explained: tuple[Array, Array] | None = None,
    moved: Step | None = None,
) -> Errors:
    """Return the errors from Q = lim ỹᵀ(FFᵀ + λn)⁻¹ỹ and its derivative; spikes lower both by `explained`."""
    linear = of.teacher.coefficients[1] ** 2
    rest = of.teacher.second_moment - linear + of.noise_square
    q = linear * point.m2 + rest * point.m1
    slope = linear * point.m2_slope + rest * point.m1_slope
    if explained is not None:
        q, slope = q - explained[0], slope - explained[1]
    test = -(point.kappa**2) * slope / point.ridge_slope
    return Errors(ridge * q, (ridge / point.kappa) ** 2 * test, test, point, moved)


@dataclass(frozen=True, eq=False)
class _Seen:
    """G, and p_a = lim h_a(u)ᵀ(F₀F₀ᵀ + λn)⁻¹ỹ, with their derivatives with respect to κ."""

    g: Array
    g_slope: Array
    p: Array
    p_slope: Array

    @classmethod
    def of(cls, of: Problem, point: FixedPoint, moved: Step, count: int) -> _Seen:
        own = expand(of.link, count - 1).coefficients * norms(count)
        own = own * moved.teacher_cosine[..., None] ** np.arange(count)
        p, p_slope = point.m1[..., None] * own, point.m1_slope[..., None] * own
        p[..., 1], p_slope[..., 1] = point.m2 * own[..., 1], point.m2_slope * own[..., 1]
        return cls(*gram(of, moved, point, count), p, p_slope)

    def explained(self, y: Array) -> tuple[Array, Array]:
        """Return pᵀXp and its derivative, where y = Xp and X⁻¹ changes as G does."""
        slope = 2.0 * np.sum(self.p_slope * y, axis=-1) - np.sum(self.g_slope * y * y, axis=-1)
        return np.sum(self.p * y, axis=-1), slope


def _by_span(of: Problem, point: FixedPoint, moved: Step, count: int) -> tuple[Array, Array]:
    """Return by how much features without a penalty lower Q: the directions of the first spikes."""
    left = spike_matrices.directions(of.sigma, moved.tilt, count)
    span = np.swapaxes(np.linalg.qr(np.swapaxes(left, -1, -2))[0], -1, -2)
    seen = _Seen.of(of, point, moved, count + 1)
    if of.full:
        # the spike takes ξ from the initial features, of which β has a part: G_11 grows by H_11²/(qN)
        h, h_slope = coupling(of, moved, point)
        lost = h**2 / (point.q * of.width)
        seen.g[..., 1] += lost
        seen.g_slope[..., 1] += lost * (2.0 * h_slope / h - point.q_slope / point.q)
    inside = np.einsum("...ia,...a,...ja->...ij", span, seen.g, span)
    weights = _solve(inside, np.einsum("...ia,...a->...i", span, seen.p))
    return seen.explained(np.einsum("...i,...ia->...a", weights, span))


def _by_spikes(of: Problem, point: FixedPoint, moved: Step, matrix: Array) -> tuple[Array, Array]:
    """Return by how much spikes lower Q: pᵀ(G + S⁻¹)⁻¹p with S = qN M̃M̃ᵀ, which may be singular."""
    count = matrix.shape[-1]
    seen = _Seen.of(of, point, moved, count)
    h, h_slope = coupling(of, moved, point)
    m = coupled(matrix, h)
    factor = np.sqrt(point.q * of.width)[..., None, None] * m
    inside = np.einsum("...ai,...a,...aj->...ij", factor, seen.g, factor) + np.eye(count)
    f = _solve(inside, np.einsum("...ai,...a->...i", factor, seen.p))
    value, slope = seen.explained(np.einsum("...ai,...i->...a", factor, f))
    # S changes as well, with q and with H
    slope = slope + point.q_slope / point.q * np.sum(f * f, axis=-1)
    slope = slope - 2.0 * h_slope * f[..., 1] * np.einsum("...i,...i->...", m[..., 1, :], f)
    return value, slope


def coupling(of: Problem, moved: Step, point: FixedPoint) -> tuple[Array, Array]:
    """Return H_11 = lim uᵀ(F₀F₀ᵀ + λn)⁻¹F₀ξ, not 0 where β has a part along W₀ᵀa, and its derivative."""
    if not of.full:
        return np.zeros_like(point.kappa), np.zeros_like(point.kappa)
    per = of.psi * np.sqrt(of.width) / moved.gradient_norm
    return -per * (1.0 - point.u), per * point.u_slope


def coupled(matrix: Array, h: Array) -> Array:
    """Return M̃ = (I + MHᵀ)⁻¹M, where H is zero but for H_11."""
    factor = (h / (1.0 + h * matrix[..., 1, 1]))[..., None, None]
    return np.asarray(matrix - factor * matrix[..., :, 1:2] * matrix[..., 1:2, :])


def _solve(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])
