"""The spectrum of the features after a step: the bulk's edge, outliers, and what their vectors know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step.fixed_point import FixedPoint, at_kappa, at_least_zero
from featcore.theory.one_step.ridge import coefficients, coupled, coupling, gram
from featcore.theory.one_step.step import Problem, Step, problem, shaped, step

Array = NDArray[np.float64]

_Arrays = TypeVar("_Arrays", Problem, Step)

_HALVINGS = 60
_NEAR, _FAR = 25.0, 60.0
"""Of logarithms of distances from the singularity of λ(κ), within which the edge and outliers are looked for."""


@dataclass(frozen=True, eq=False)
class FeaturesSpectrum:
    """Limits of the singular values of F/√n, arrays with the shape (…) that the arguments broadcast to.

    Attributes
    ----------
    edge : ndarray, shape (…)
        Where the bulk ends, which is that of the initial features.
    outliers : ndarray, shape (…, degrees)
        Singular values outside the bulk, the largest first; NaN where there are no more.
    amplitudes : ndarray, shape (…, degrees, degrees)
        <v, h_a(u)>/√n of the left singular vector v of each outlier, a = 0, 1, … on the last axis, h_a = He_a/√a! and
        u = X̃β/|β|. The sign of a vector is arbitrary. Their squares are the overlaps, and they add up to less than 1;
        NaN without an outlier.
    step : Step
        What the step did.
    """

    edge: Array
    outliers: Array
    amplitudes: Array
    step: Step

    @property
    def count(self) -> NDArray[np.int64]:
        """Number of outliers, shape (…)."""
        return np.asarray(np.isfinite(self.outliers).sum(axis=-1))


def features_spectrum(
    activation: str | Activation,
    link: Link,
    *,
    n: ArrayLike,
    d: ArrayLike,
    width: ArrayLike,
    step_size: ArrayLike,
    noise: ArrayLike = 0.0,
    residual: str = "labels",
    step_samples: ArrayLike | None = None,
    order: int | None = None,
) -> FeaturesSpectrum:
    """Return the bulk's edge and the outliers of the features' singular values, divided by √n.

    Parameters
    ----------
    activation, link, n, d, width, step_size, noise, residual, step_samples, order
        As of `errors`.

    Returns
    -------
    FeaturesSpectrum

    Raises
    ------
    TypeError, ValueError
        As of `errors`.

    Notes
    -----
    Derived here (docs/derivations.md). Against ReLU networks of d = 500, n = 1000, N = 600 the first outlier is
    right to 1 % and its overlap with u to 0.03. The second stands outside at α ≈ 0.4 only, and is larger in networks
    than here: it hangs on fourth moments, which fluctuate.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.features_spectrum(
    ...     fc.ReLU().centred(), [0, 1, 0.5**0.5], n=1000, d=500, width=600, step_size=1000**0.25, noise=0.3)
    >>> [round(float(x), 3) for x in (found.edge, found.outliers[0], found.amplitudes[0, 1] ** 2)]
    [1.329, 2.221, 0.913]
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
    of, (eta,) = shaped(of, step_size=at_least_zero("step_size", step_size))
    moved = step(of, eta)
    line = _Line(_with_axis(of), _with_axis(moved), coefficients(of, moved, order)[..., None, :, :])

    shape = (*eta.shape, 1)
    at_edge = _bisect(
        lambda t: line.point(t).ridge_slope < 0, np.full(shape, -_NEAR), np.full(shape, _FAR)
    )
    edge = np.sqrt(-line.point(at_edge).ridge[..., 0])

    # one column an outlier: each has a κ of its own
    lowest = np.repeat(at_edge, line.matrix.shape[-1], axis=-1)
    out = line.beyond(lowest)
    where = _bisect(line.beyond, lowest, np.full(lowest.shape, _FAR))
    values = np.where(out, np.sqrt(-line.point(where).ridge), np.nan)
    amplitudes = np.where(out[..., None], line.amplitudes(where, out), np.nan)
    return FeaturesSpectrum(edge, values, amplitudes, moved)


@dataclass(frozen=True, eq=False)
class _Line:
    """The real line left of the singularity of λ(κ), where x = -λ(κ) runs from infinity down to the bulk's edge."""

    of: Problem
    moved: Step
    matrix: Array

    def point(self, log_distance: Array) -> FixedPoint:
        """Return the fixed point at that distance, in units of the singularity's own from 0."""
        c1, rest = self.of.student.coefficients[1], self.of.student.nonlinear_square
        end = -rest - c1**2 * (1.0 + 1.0 / np.sqrt(self.of.psi)) ** 2
        return at_kappa(end * (1.0 + np.exp(log_distance)), c1, rest, self.of.phi, self.of.psi)

    def beyond(self, log_distance: Array) -> NDArray[np.bool_]:
        """Return, for the k-th column, whether its k-th outlier lies further left."""
        point = self.point(log_distance)
        own, _ = gram(self.of, self.moved, point, self.matrix.shape[-1])
        m = coupled(self.matrix, coupling(self.of, self.moved, point)[0])
        values = np.linalg.eigvalsh(_singular_at_outliers(self.of, point, own, m))
        return np.asarray(np.diagonal(values, axis1=-2, axis2=-1) < 0)

    def amplitudes(self, log_distance: Array, out: NDArray[np.bool_]) -> Array:
        """Return <v, h_a(u)>/√n of the k-th outlier's vector, for the k-th column, where it is `out`."""
        point = self.point(log_distance)
        own, own_slope = gram(self.of, self.moved, point, self.matrix.shape[-1])
        h, h_slope = coupling(self.of, self.moved, point)
        m = coupled(self.matrix, h)
        _, vectors = np.linalg.eigh(_singular_at_outliers(self.of, point, own, m))
        # the k-th vector of the k-th matrix
        y = np.swapaxes(np.diagonal(vectors, axis1=-3, axis2=-1), -1, -2)
        # (w/G, z) is the null vector of C⁻¹ + K, whose residue at the outlier is that of the resolvent
        w = np.sqrt(-own) * y
        z = -np.einsum("...ai,...a->...i", m, w)
        slope = (point.q_slope * self.of.width) * np.sum(z**2, axis=-1)
        slope = slope - np.sum((w / own) ** 2 * own_slope, axis=-1)
        slope = slope - 2.0 * h_slope * w[..., 1] / own[..., 1] * z[..., 1]
        w[..., 1] += h * z[..., 1]
        return np.asarray(w * np.sqrt(np.where(out, point.ridge_slope / slope, 0.0))[..., None])


def _singular_at_outliers(of: Problem, point: FixedPoint, own: Array, m: Array) -> Array:
    """Return I - |G|^½S|G|^½, S = qN M̃M̃ᵀ; left of the bulk G is negative."""
    left = np.sqrt(-own)[..., None] * m * np.sqrt(point.q * of.width)[..., None, None]
    return np.asarray(np.eye(m.shape[-1]) - left @ np.swapaxes(left, -1, -2))


def _with_axis(of: _Arrays) -> _Arrays:
    """Return the same with another axis at the end of all arrays."""
    arrays = {
        field.name: getattr(of, field.name)[..., None]
        for field in fields(of)
        if isinstance(getattr(of, field.name), (np.ndarray, np.floating))
    }
    return replace(of, **arrays)


def _bisect(true: Callable[[Array], NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """Return where `true`, which holds at `low` if anywhere, ceases to."""
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        holds = true(middle)
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return low
