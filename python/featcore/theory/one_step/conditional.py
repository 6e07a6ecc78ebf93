"""Errors after a step of any strength: features are random only given u, along which the step went."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore.activations import Activation
from featcore.data.index_models import Link
from featcore.theory.one_step import conditional_point, fixed_point
from featcore.theory.one_step.conditional_moments import given, rule
from featcore.theory.one_step.conditional_point import Conditional, Point
from featcore.theory.one_step.fixed_point import at_least_zero, positive
from featcore.theory.one_step.ridge import WIDEST, Errors
from featcore.theory.one_step.step import Problem, Step, problem, shaped, step

Array = NDArray[np.float64]

STRONGEST = 1.0
"""Up to which the nodes resolve what the step adds."""
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
) -> Errors:
    """Return the errors of ridge regression after one gradient step whose strength s need not be small.

    As `errors`, which is its limit of small s and ν (`Step.strength` and `Step.neglected`), at ten times the cost, or
    a hundred times over grids. Two things that go with s² and with η² are not small at steps of n^0.4: features see
    products of u with other directions, and the gradient's noise makes neurons longer. Both are in here.

    Parameters
    ----------
    activation, link, n, d, width, ridge, step_size, noise, residual, step_samples
        As of `errors`.

    Returns
    -------
    Errors
        Their `fixed_point` is that of the initial features.

    Raises
    ------
    TypeError, ValueError
        As of `errors`.

    Notes
    -----
    Derived here (docs/derivations.md, "Steps of any strength"): given u and the neuron's head, features are a mean, a
    linear function of the other directions and noise; ν lengthens neuron j by √(1 + νξ_j²), in a direction at random.
    Against networks of d = 500 with steps up to n^0.45 it is within 3 % where `errors` is up to 10 % off.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> from featcore.theory import one_step
    >>> found = one_step.conditional_errors(
    ...     fc.ReLU().centred(), [0, 1, 0.5**0.5], n=1000, d=500, width=700, ridge=0.05,
    ...     step_size=1000 ** np.array([0.0, 0.45]))
    >>> found.test_error.round(2), found.objective.round(3)
    (array([2.03, 1.63]), array([0.744, 0.53 ]))
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
    moved = step(of, eta)
    _check(of, moved)
    flat = _flat(of, moved, lam)
    rows = [
        _three(of, {name: value[start : start + _AT_ONCE] for name, value in flat.items()})
        for start in range(0, lam.size, _AT_ONCE)
    ]
    found = np.concatenate(rows, axis=1) if rows else np.empty((3, 0))
    objective, train, test = found.reshape(3, *lam.shape)
    initial = fixed_point.solve(
        of.student.coefficients[1], of.student.nonlinear_square, of.phi, of.psi, lam
    )
    return Errors(objective, train, test, initial, moved)


def _check(of: Problem, moved: Step) -> None:
    largest = np.abs(moved.strength).max(initial=0.0)
    if largest > STRONGEST:
        raise ValueError(
            f"step_size gives |s| = {largest:.3g}, above {STRONGEST:g}, up to which what the step adds is resolved; "
            f"keep c_1·step_size·|β|/√width below {STRONGEST:g}"
        )
    if of.width.size and of.width.max() > WIDEST:
        raise ValueError(
            f"width={of.width.max():.3g} multiplies the errors of a quadrature, which is good up to {WIDEST:g}; "
            "use limit_errors"
        )


def _flat(of: Problem, moved: Step, ridge: Array) -> dict[str, Array]:
    """Return what differs between problems, as vectors."""
    every = {
        "phi": of.phi,
        "psi": of.psi,
        "width": of.width,
        "ridge": ridge,
        "noise": of.noise_square,
        "cosine": moved.teacher_cosine,
        "initial": moved.initial_share,
        "strength": moved.strength,
        "rescaling": moved.rescaling,
        "lengthening": moved.neglected,
    }
    return {name: np.ravel(value) for name, value in every.items()}


def _three(of: Problem, one: dict[str, Array]) -> Array:
    """Return objective, training and test error of each problem."""
    u, sample_weight = rule(_NODES_U)
    xi, neuron_weight = rule(_NODES_XI)
    mean, slope, rest = _features(of, one, u, xi)
    point = conditional_point.solve(
        Conditional(slope, rest, one["phi"], one["psi"], one["ridge"], sample_weight, neuron_weight)
    )
    known = _Explained(of, one, mean, slope)
    q = known(point.r, point.g)
    ridge = one["ridge"]
    train = -(ridge**2) * _derivative(known, point, np.broadcast_to(sample_weight, point.r.shape))
    # leaving a sample out multiplies its residual by n/r
    test = -_derivative(known, point, sample_weight / point.r**2)
    return np.stack([ridge * q, train, test])


def _features(
    of: Problem, one: dict[str, Array], u: Array, xi: Array
) -> tuple[Array, Array, Array]:
    """Return μ₀, μ₁ and μ₂² on the nodes, each of which is evaluated once for all ridges and sizes."""
    along = one["strength"] - np.sqrt(one["initial"] / one["width"])
    kinds, where = np.unique(
        np.stack([along, one["rescaling"], one["lengthening"]]), axis=1, return_inverse=True
    )
    s, delta, nu = kinds[:, :, None, None]
    length = np.sqrt((1.0 + delta * xi) ** 2 + nu * xi**2)
    shift, scale = np.broadcast_arrays(s * u[:, None] * xi, length)
    mean, slope, rest = (values[where.ravel()] for values in given(of.sigma, shift, scale))
    return mean, slope, rest


def _derivative(known: _Explained, point: Point, weights: Array) -> Array:
    """Return the derivative of Q when λ grows by weights(u), given times the law of u."""
    by_r, by_g = point.response(weights)
    # a step in the imaginary direction, where nothing cancels
    tiny = 1e-30
    moved = known(point.r * (1.0 + 1j * tiny * by_r), point.g * (1.0 + 1j * tiny * by_g))
    return np.asarray(moved.imag / tiny)


class _Explained:
    """Q = lim ỹᵀ(FFᵀ + λn)⁻¹ỹ as a function of r and g, analytic in both.

    Labels and features are functions of u, of u times v (the rest of the teacher's direction) and, if β has a part
    along q = W₀ᵀa/|a|, of u times the rest of q: a block of the nodes of u each.
    """

    def __init__(self, of: Problem, one: dict[str, Array], mean: Array, slope: Array) -> None:
        (self.u, self.sample_weight), (xi, self.neuron_weight) = rule(_NODES_U), rule(_NODES_XI)
        self.slope, self.psi, self.full = slope, one["psi"][:, None, None], of.full
        cosine, initial = one["cosine"][:, None], one["initial"][:, None]
        across = np.sqrt(1.0 - cosine**2)
        shift, scale = np.broadcast_arrays(cosine * self.u, across)
        at_u, along_v, rest = given(of.link, shift, scale)
        self.rest = rest + one["noise"][:, None]
        labels = [at_u, along_v]
        spikes = [np.sqrt(one["width"])[:, None, None] * mean]
        if of.full:
            labels.append(np.zeros_like(at_u))
            # what q is along v, and beyond
            along = cosine * np.sqrt(initial) / across
            beyond = np.sqrt(np.maximum(1.0 - initial - along**2, 0.0))
            self.by_head = xi * np.sqrt(self.neuron_weight)
            spikes += [part[:, :, None] * xi * slope for part in (along, beyond)]
        else:
            spikes.append(np.zeros_like(mean))
        self.labels, self.spikes = np.concatenate(labels, axis=1), np.concatenate(spikes, axis=1)
        self.blocks = len(labels)

    def __call__(self, r: Array, g: Array) -> Array:
        linear = (self.slope * (self.neuron_weight * g)[:, None, :]) @ np.swapaxes(self.slope, 1, 2)
        linear = linear / self.psi
        kernel = self.spikes @ self._heads(r, g, linear) @ np.swapaxes(self.spikes, 1, 2)
        nodes = len(self.u)
        for block in range(self.blocks):
            own = slice(block * nodes, (block + 1) * nodes)
            kernel[:, own, own] += linear if block else self.u[:, None] * linear * self.u
        root = np.tile(np.sqrt(self.sample_weight * r), (1, self.blocks))
        inside = np.eye(kernel.shape[1]) + root[:, :, None] * kernel * root[:, None, :]
        seen = root * self.labels
        explained = np.linalg.solve(inside, seen[:, :, None])[:, :, 0]
        return np.asarray((r * self.rest) @ self.sample_weight + np.sum(seen * explained, axis=1))

    def _heads(self, r: Array, g: Array, linear: Array) -> Array:
        """Return lim λn (F₀ᵀF₀ + λn)⁻¹ as it acts on functions of ξ."""
        if not self.full:
            return (self.neuron_weight * g)[:, :, None] * np.eye(g.shape[1])
        # of W₀ only what is orthogonal to a is random given q
        root = np.sqrt(self.sample_weight * r)[:, :, None]
        seen = root * self.slope
        inside = np.eye(len(self.u)) + root * linear * np.swapaxes(root, 1, 2)
        lost = np.swapaxes(seen, 1, 2) @ np.linalg.solve(inside, seen)
        matrix = -self.by_head[:, None] * lost * self.by_head
        diagonal = np.einsum("pxx->px", matrix)
        diagonal += 1.0 / g
        weight = np.sqrt(self.neuron_weight)
        return np.asarray(weight[:, None] * np.linalg.inv(matrix) * weight)
