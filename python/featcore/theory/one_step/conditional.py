"""Errors after a step of any strength: features are random only given u, along which the step went."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice
from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step import conditional_point, fixed_point
from featcore.theory.one_step.conditional_moments import Moments, moments, rule
from featcore.theory.one_step.conditional_point import Conditional, Point
from featcore.theory.one_step.fixed_point import at_least_zero, positive
from featcore.theory.one_step.gradient_rest import gradient_rest
from featcore.theory.one_step.ridge import WIDEST, Errors
from featcore.theory.one_step.step import Problem, Step, problem, shaped, slope_moment, step

Array = NDArray[np.float64]

ROWS = ("sphere", "normal")
STRONGEST, MOST_RESCALED, LONGEST = 1.5, 0.5, 1.0
"""Largest |s|, |δ| and ν."""
RIDGES = (1e-14, 1e100)
"""Smallest and largest ridge that rounding leaves anything of, over E σ²."""
_MISSED = 1e-3
"""Share of E y² that the nodes may miss."""
_NODES_U, _NODES_XI = 40, 32
_AT_ONCE = 16
"""Problems at a time, for the sake of memory."""


def conditional_errors(
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
    rows: str = "sphere",
) -> Errors:
    """Return the errors of ridge regression after one gradient step whose strength s need not be small.

    As `errors`, which is its limit of small s, δ and ν (`Step`), at ten times the cost, or a hundred to two hundred
    times over grids. What goes with s² and η² is not small at steps of n^0.4: features see products of u with other
    directions, and the rest of the gradient makes neurons longer and turns them. All that is in here.

    Parameters
    ----------
    activation, link, n, d, width, ridge, step_size, noise, residual, step_samples
        As of `errors`.
    rows : {"sphere", "normal"}
        The law of the rows of W₀: uniform on the unit sphere, or N(0, I/d). Lengths that vary are seen where σ has a
        c_2 and σ_* a mean, or s is large.

    Returns
    -------
    Errors
        Their `fixed_point` is that of the initial features.

    Raises
    ------
    TypeError, ValueError
        As of `errors`, but for |s| that exceeds 1.5; and if |δ| exceeds 0.5 or ν exceeds 1; if λ/E σ² is not between
        1e-14 and 1e100; if σ_* has more than a thousandth of its energy where the nodes do not see it, as polynomials
        of a high degree or jumps have.

    Notes
    -----
    Derived here (docs/derivations.md, "Steps of any strength"): given u and the neuron's head, features are a mean, a
    linear function of the other directions and noise. How far it is from networks is measured in docs/one_step.md.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.conditional_errors(
    ...     fc.ReLU().centred(), [0, 1, 0.5**0.5], n=1000, d=500, width=700, ridge=0.05,
    ...     step_size=1000 ** np.array([0.0, 0.45]))
    >>> found.test_error.round(2), found.objective.round(3)
    (array([2.03, 1.61]), array([0.743, 0.525]))
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
    normal = choice("rows", rows, ROWS) == "normal"
    moved = step(of, eta)
    _check(of, moved, lam)
    batch = _batch(of, moved, lam, eta)
    # features that differ by ridge only lie side by side, and are integrated once
    order = np.lexsort(batch.kinds.T)
    found = np.empty((3, lam.size))
    for start in range(0, lam.size, _AT_ONCE):
        which = order[start : start + _AT_ONCE]
        found[:, which] = _solve(of, batch[which], normal)
    objective, train, test = found.reshape(3, *lam.shape)
    initial = fixed_point.solve(
        of.student.coefficients[1], of.student.nonlinear_square, of.phi, of.psi, lam
    )
    return Errors(objective, train, test, initial, moved)


def _check(of: Problem, moved: Step, ridge: Array) -> None:
    """Refuse what the nodes do not resolve, or rounding leaves nothing of."""
    for name, value, most in (
        ("s", moved.strength, STRONGEST),
        ("δ", moved.rescaling, MOST_RESCALED),
        ("ν", moved.neglected, LONGEST),
    ):
        largest = np.abs(value).max(initial=0.0)
        if largest > most * (1.0 + 1e-9):
            raise ValueError(
                f"step_size gives |{name}| = {largest:.3g}, above {most:g}, up to which what the step does is resolved "
                "(Step has its formula); take a smaller step_size"
            )
    if of.width.size and of.width.max() > WIDEST:
        raise ValueError(
            f"width={of.width.max():.3g} multiplies the errors of a quadrature, which is good up to {WIDEST:g}; "
            "use limit_errors"
        )
    low, high = (share * of.student.second_moment for share in RIDGES)
    for value in (ridge.min(initial=high), ridge.max(initial=low)):
        if not low <= value <= high:
            raise ValueError(
                f"ridge={value:.3g} is so far from the features' {of.student.second_moment:.3g} that rounding leaves "
                f"nothing of it; pass {low:.1g} to {high:.1g}, or use errors"
            )


@dataclass(frozen=True, eq=False)
class _Batch:
    """Problems, flat: the first axis of each array goes over them."""

    phi: Array
    psi: Array
    width: Array
    ridge: Array
    noise: Array
    cosine: Array
    strength: Array
    rescaling: Array
    lengthening: Array
    turning: Array
    """2ηc₂/√N, of H."""
    others: Array
    """η²(E σ'² - c₁² - 4c₂²)/N."""
    linear: Array
    square: Array
    spread: Array
    start: Array
    lengths: Array
    """η²/N times d times the variance of <w_j, gain>, for each unit of ξ²."""

    def __getitem__(self, which: NDArray[np.intp]) -> _Batch:
        return _Batch(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @property
    def own(self) -> Array:
        """q/√N, on b, the rest of β_*, the rest of q: what neurons have of it, for each unit of ξ."""
        return self.start / np.sqrt(self.width)[:, None]

    @property
    def kinds(self) -> Array:
        """What features depend on, a row each."""
        return np.stack([self.strength, self.rescaling, self.lengthening, self.own[:, 0]], axis=1)


def _batch(of: Problem, moved: Step, ridge: Array, step_size: Array) -> _Batch:
    relative = step_size / np.sqrt(of.width)
    turning = 2.0 * of.student.coefficients[2] * relative
    excess = slope_moment(of.sigma) - of.student.coefficients[1] ** 2
    rest = gradient_rest(of, moved)
    return _Batch(
        phi=of.phi.ravel(),
        psi=of.psi.ravel(),
        width=of.width.ravel(),
        ridge=ridge.ravel(),
        noise=of.noise_square.ravel(),
        cosine=moved.teacher_cosine.ravel(),
        strength=moved.strength.ravel(),
        rescaling=moved.rescaling.ravel(),
        lengthening=moved.neglected.ravel(),
        turning=turning.ravel(),
        others=np.maximum(relative**2 * excess - turning**2, 0.0).ravel(),
        linear=rest.linear.reshape(-1, 3, 3),
        square=rest.square.reshape(-1, 3, 3),
        spread=rest.spread.reshape(-1, 3, 3),
        start=rest.start.reshape(-1, 3),
        lengths=(relative**2 * rest.lengths).ravel(),
    )


def _solve(of: Problem, batch: _Batch, normal: bool) -> Array:
    """Return objective, training and test error of each problem."""
    (_, sample_weight), (_, neuron_weight) = rule(_NODES_U), rule(_NODES_XI)
    neurons = _Neurons.of(batch, normal)
    features = _features(of, batch, neurons)
    point = conditional_point.solve(
        Conditional(
            slope=features.slope,
            rest=features.rest,
            phi=batch.phi,
            psi=batch.psi,
            ridge=batch.ridge,
            sample_weight=sample_weight,
            neuron_weight=neuron_weight,
        )
    )
    known = _Explained(of, batch, neurons, features)
    objective = batch.ridge * known(point.r, point.g)
    everywhere = np.broadcast_to(sample_weight, point.r.shape)
    train = -(batch.ridge**2) * _derivative(known, point, everywhere)
    # (FFᵀ + λn)⁻¹ỹ over the inverse's diagonal, r/n, is what is left of a label when its sample is left out
    test = -_derivative(known, point, sample_weight / point.r**2)
    return np.stack([objective, train, test])


@dataclass(frozen=True, eq=False)
class _Neurons:
    """What the step did to neurons, by ξ: first axes over problems and nodes.

    Attributes
    ----------
    kept : ndarray
        1 + δξ, times what the neuron was.
    length : ndarray
        ℓ, the standard deviation of <w_j, x> across u.
    shift : ndarray, shape (problems, nodes, 3)
        The mean of <w_j, x>, on b, the rest of β_*, the rest of q.
    covariance : ndarray, shape (problems, nodes, 3, 3)
        Of d^½ w_j on the same, over ℓ².
    variance : ndarray
        Of ℓ over neurons with the same ξ, times d.
    """

    kept: Array
    length: Array
    shift: Array
    covariance: Array
    variance: Array

    @classmethod
    def of(cls, batch: _Batch, normal: bool) -> _Neurons:
        xi = rule(_NODES_XI)[0]
        kept = 1.0 + batch.rescaling[:, None] * xi
        longer = batch.lengthening[:, None] * xi**2
        length = np.sqrt(kept**2 + longer)
        turning = batch.turning[:, None] * xi
        shift = (kept * xi)[..., None] * batch.own[:, None, :]
        shift[..., 0] += batch.strength[:, None] * xi
        covariance = kept[..., None, None] ** 2 * np.eye(3)
        for factor, matrix in (
            (2.0 * kept * turning, batch.linear),
            (turning**2, batch.square),
            (batch.others[:, None] * xi**2, batch.spread),
        ):
            covariance = covariance + factor[..., None, None] * matrix[:, None]
        variance = kept**2 * batch.lengths[:, None] * xi**2 + 0.5 * longer**2
        if normal:
            variance = variance + 0.5 * kept**4
        return cls(
            kept, length, shift, covariance / length[..., None, None] ** 2, variance / length**2
        )


def _features(of: Problem, batch: _Batch, neurons: _Neurons) -> Moments:
    """Return the moments of features given u and ξ, over z."""
    u = rule(_NODES_U)[0]
    _, one, where = np.unique(batch.kinds, axis=0, return_index=True, return_inverse=True)
    shift = u[:, None] * neurons.shift[one, None, :, 0]
    scale = np.broadcast_to(neurons.length[one, None, :], shift.shape)
    found = moments(of.sigma, shift, scale)
    every = where.ravel()
    return Moments(found.mean[every], found.slope[every], found.rest[every], found.growth[every])


def _derivative(known: _Explained, point: Point, weights: Array) -> Array:
    """Return the derivative of Q when λ grows by weights(u), given times the law of u."""
    by_r, by_g = point.response(weights)
    largest = np.maximum(np.abs(by_r).max(axis=1), np.abs(by_g).max(axis=1))
    # a step in the imaginary direction, where nothing cancels
    tiny = 1e-30 / largest[:, None]
    moved = known(point.r * (1.0 + 1j * tiny * by_r), point.g * (1.0 + 1j * tiny * by_g))
    return np.asarray(moved.imag / tiny[:, 0])


class _Explained:
    """Q = lim ỹᵀ(FFᵀ + λn)⁻¹ỹ as a function of r and g, analytic in both.

    Labels and what features have of them are functions of u, functions of u times v (along the rest of β_*) and, if β
    has a part along q, of u times v' (along the rest of q): a block of the nodes of u each.
    """

    def __init__(self, of: Problem, batch: _Batch, neurons: _Neurons, features: Moments) -> None:
        (self.u, self.sample_weight), (xi, self.neuron_weight) = rule(_NODES_U), rule(_NODES_XI)
        self.features, self.neurons, self.psi, self.full = features, neurons, batch.psi, of.full
        self.blocks = 3 if of.full else 2
        labels = _labels(of, batch)
        self.rest = labels.rest + batch.noise[:, None]
        self.labels = np.zeros((len(batch.psi), self.blocks * len(self.u)))
        self.labels[:, : len(self.u)] = labels.mean
        self.labels[:, len(self.u) : 2 * len(self.u)] = labels.slope
        self.spikes = features.mean
        if of.full:
            shift = neurons.shift / neurons.length[..., None]
            beside = [shift[:, None, :, k] * features.slope for k in (1, 2)]
            self.spikes = np.concatenate([features.mean, *beside], axis=1)
            self.by_head = xi * neurons.kept / neurons.length * np.sqrt(self.neuron_weight)
        self.spikes = np.sqrt(batch.width)[:, None, None] * self.spikes

    def __call__(self, r: Array, g: Array) -> Array:
        nodes = len(self.u)
        # of neurons with the same ξ: what varies at random, and what does not
        heads = self.neuron_weight * g
        share, across = heads / self.psi[:, None], self.neurons.covariance
        kernel = np.zeros((len(r), self.blocks * nodes, self.blocks * nodes), dtype=r.dtype)
        for a in range(self.blocks):
            for b in range(self.blocks):
                part = _weighted(self.features.slope, share * across[..., a, b])
                part = part if a else self.u[:, None] * part
                part = part if b else part * self.u
                kernel[:, a * nodes : (a + 1) * nodes, b * nodes : (b + 1) * nodes] = part
        kernel[:, :nodes, :nodes] += _weighted(self.features.growth, share * self.neurons.variance)
        if self.full:
            common = self._heads(r, g, _weighted(self.features.slope, share))
            kernel += self.spikes @ common @ np.swapaxes(self.spikes, 1, 2)
        else:
            kernel[:, :nodes, :nodes] += _weighted(self.spikes, heads)

        root = np.tile(np.sqrt(self.sample_weight * r), (1, self.blocks))
        inside = np.eye(kernel.shape[1]) + root[:, :, None] * kernel * root[:, None, :]
        seen = root * self.labels
        explained = np.linalg.solve(inside, seen[:, :, None])[:, :, 0]
        return np.asarray((r * self.rest) @ self.sample_weight + np.sum(seen * explained, axis=1))

    def _heads(self, r: Array, g: Array, linear: Array) -> Array:
        """Return lim λn (F₀ᵀF₀ + λn)⁻¹ as it acts on functions of ξ, where W₀ is random but for a."""
        root = np.sqrt(self.sample_weight * r)[:, :, None]
        seen = root * self.features.slope
        inside = np.eye(len(self.u)) + root * linear * np.swapaxes(root, 1, 2)
        lost = np.swapaxes(seen, 1, 2) @ np.linalg.solve(inside, seen)
        matrix = -self.by_head[:, :, None] * lost * self.by_head[:, None, :]
        diagonal = np.einsum("pxx->px", matrix)
        diagonal += 1.0 / g
        weight = np.sqrt(self.neuron_weight)
        return np.asarray(weight[:, None] * np.linalg.inv(matrix) * weight)


def _weighted(functions: Array, weights: Array) -> Array:
    """Return Σ_ξ weight(ξ) f(u, ξ) f(u', ξ)."""
    return np.asarray((functions * weights[:, None, :]) @ np.swapaxes(functions, 1, 2))


def _labels(of: Problem, batch: _Batch) -> Moments:
    """Return the moments of σ_* given u, over v."""
    u, weight = rule(_NODES_U)
    cosine = batch.cosine[:, None]
    # where β is β_* itself nothing of σ_* is random, and nothing divides by 0
    across = np.sqrt(np.maximum(1.0 - cosine**2, 1e-30))
    shift, scale = np.broadcast_arrays(cosine * u, across)
    found = moments(of.link, shift, scale)
    energy = of.teacher.second_moment
    seen = (found.mean**2 + found.slope**2 + found.rest) @ weight
    missed = np.abs(seen / energy - 1.0).max(initial=0.0)
    if missed > _MISSED:
        raise ValueError(
            f"link={of.link!r}: the nodes miss {missed:.1%} of E σ_*², as of polynomials of a high degree or jumps; "
            "use errors"
        )
    return found
