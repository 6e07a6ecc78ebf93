"""What a network is compared with: linear models, random features and the neural tangent kernel.

Every fit minimises

    Σ_i w_i ℓ(f(x_i), y_i) / Σ_i w_i + (l2/2) |v|²

over the coefficients v, w_i being `Dataset.weights`: the mean loss and the weight decay of
featcore, with the squared loss (f - y)²/2. An intercept is not penalised. All is computed in
float64, whatever the dtype of the data.

**The trap of "chance level" on XOR clusters.** Clusters at ±μ1 (label +1) and ±μ2 (label -1) are
symmetric under x → -x, labels included, while sgn<v, x> is odd: the clean error of *every*
homogeneous linear classifier is exactly 1/2. An affine one, sgn(<v, x> + b), is not bound by this:
it can cut off one cluster and reach 1/4 as the clusters shrink. So "no better than guessing" is a
statement about `bias=False`; report both. (A fitted affine logistic regression also ends near 1/2:
the loss does not see the way to 1/4.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore import losses, regression
from featcore._validation import choice, float_array, frozen, real
from featcore.activations import Activation
from featcore.data.dataset import Dataset
from featcore.network import TwoLayerNet

Array = NDArray[np.float64]

_GRADIENT_TOLERANCE = 1e-6
"""Largest Euclidean norm of the objective's gradient at which a logistic fit is returned."""
_BLOCK = 1 << 23
"""Entries of an intermediate matrix that are held at a time."""


class Model(Protocol):
    """Anything that predicts: a baseline."""

    def predict(self, x: ArrayLike) -> Array:
        """Return f(x), shape (n,), for x of shape (n, d)."""
        ...


def accuracy(model: Model, data: Dataset, labels: Literal["given", "clean"] = "given") -> float:
    """Return the (weighted) share of samples with y f(x) > 0: an output of 0 counts as wrong.

    Parameters
    ----------
    model : Model
        A baseline, or anything with `predict`.
    data : Dataset
        Samples, labels and weights.
    labels : {"given", "clean"}
        Compare with `data.y`, noise included, or with `data.clean_y`.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If `labels` is unknown, or "clean" and the dataset has no clean labels.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import baselines
    >>> data = fc.Dataset([[1.0], [2.0], [-1.0], [-2.0]], [1, 1, 1, -1], clean_y=[1, 1, -1, -1])
    >>> model = baselines.linear(data)
    >>> baselines.accuracy(model, data), baselines.accuracy(model, data, labels="clean")
    (0.75, 1.0)
    """
    target = data.y
    if choice("labels", labels, ("given", "clean")) == "clean":
        if data.clean_y is None:
            raise ValueError(
                "labels='clean' needs data.clean_y, which is unknown; use labels='given'"
            )
        target = data.clean_y
    return float(np.average(target * model.predict(data.x) > 0, weights=data.weights))


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The model f(x) = <v, x> + intercept; see `linear`."""

    v: Array
    """Coefficients, shape (d,)."""
    intercept: float
    """0 for a homogeneous model."""

    def predict(self, x: ArrayLike) -> Array:
        """Return f(x), shape (n,), for x of shape (n, d)."""
        return np.asarray(_samples("x", x, self.v.size) @ self.v + self.intercept)


@dataclass(frozen=True, eq=False)
class RandomFeatures:
    """The model f(x) = Σ_j v_j σ(<w_j, x>) with W as it was; see `random_features`."""

    W: Array
    """First layer, shape (m, d)."""
    v: Array
    """Fitted head, shape (m,)."""
    activation: Activation
    """σ."""

    def predict(self, x: ArrayLike) -> Array:
        """Return f(x), shape (n,), for x of shape (n, d)."""
        samples = _samples("x", x, self.W.shape[1])
        f = np.empty(len(samples))
        for rows in _blocks(len(samples), len(self.W)):
            f[rows] = self.activation(samples[rows] @ self.W.T) @ self.v
        return f


@dataclass(frozen=True, eq=False)
class KernelModel:
    """The model f(x) = Σ_i coef_i K(x, x_i), K the tangent kernel of `net`; see `ntk`."""

    net: TwoLayerNet
    """Network, float64, at whose weights the kernel is taken."""
    train: tuple[str, ...]
    """Layers whose weights count."""
    x: Array
    """Samples fitted to, shape (n, d)."""
    coef: Array
    """Coefficients, shape (n,)."""

    def predict(self, x: ArrayLike) -> Array:
        """Return f(x), shape (k,), for x of shape (k, d)."""
        samples = _samples("x", x, self.net.dim)
        f = np.empty(len(samples))
        # The blocks bound the kernel matrix; the features of the fitted samples are needed whole.
        for rows in _blocks(len(samples), max(len(self.x), self.net.width)):
            f[rows] = _tangent_kernel(self.net, samples[rows], self.x, self.train) @ self.coef
        return f


def linear(
    data: Dataset, *, l2: float = 1e-3, bias: bool = False, loss: str = "logistic"
) -> LinearModel:
    """Return the linear model that minimises the mean loss plus (l2/2)|v|².

    Parameters
    ----------
    data : Dataset
        Samples, labels and weights.
    l2 : float
        Weight decay of v, positive.
    bias : bool
        Fit an (unpenalised) intercept. Without it the classifier is homogeneous; see the module for
        what that means on XOR clusters.
    loss : {"logistic", "squared"}
        Logistic fits need labels ±1. They are returned once the gradient's norm g is at most 1e-6,
        which puts the objective within g²/(2 l2) of its minimum if there is no intercept.

    Returns
    -------
    LinearModel
        The fit.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, labels are not ±1, or all are equal where that leaves the
        intercept without a minimum.
    RuntimeError
        If the fit does not reach its tolerance.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> from featcore import baselines
    >>> corners = fc.Dataset([[1, 0], [-1, 0], [0, 1], [0, -1]], [1, 1, -1, -1])
    >>> affine = baselines.LinearModel(np.array([-1.0, -2.0]), 1.5)  # cuts (0, 1) off
    >>> baselines.accuracy(affine, corners)
    0.75
    >>> homogeneous = baselines.LinearModel(np.array([1.0, -0.2]), 0.0)
    >>> baselines.accuracy(homogeneous, corners)
    0.5
    >>> baselines.linear(corners, bias=True, loss="squared")
    LinearModel(v=array([0., 0.]), intercept=0.0)
    """
    l2 = real("l2", l2, above=0.0)
    x = data.x.astype(np.float64, copy=False)
    y, weights = _targets(data, loss)
    if choice("loss", loss, ("logistic", "squared")) == "squared":
        if not bias:
            return LinearModel(frozen(ridge(x, y, l2, weights)), 0.0)
        centre, level = weights @ x, float(weights @ y)
        v = ridge(x - centre, y - level, l2, weights)
        return LinearModel(frozen(v), level - float(centre @ v))
    if bias and np.unique(y[weights > 0]).size == 1:
        raise ValueError(
            f"data.y is {y[weights > 0][0]:+g} throughout: the intercept has no minimum; use "
            "bias=False, loss='squared' or data of both classes"
        )
    v, intercept = _logistic(x, y, l2, weights, bias)
    return LinearModel(frozen(v), intercept)


def random_features(
    net: TwoLayerNet, data: Dataset, *, l2: float, loss: str = "logistic"
) -> RandomFeatures:
    """Return the network with its first layer frozen and a new head fitted.

    The features σ(Wx) are taken as they are: with W of scale 0.01 they are 100 times smaller than
    with scale 1 and the same `l2` weighs 10⁴ times more. Compare at equal scales, or at the best
    `l2` of each.

    Parameters
    ----------
    net : TwoLayerNet
        Network whose W and σ make the features.
    data : Dataset
        Samples, labels and weights.
    l2 : float
        Weight decay of the head, positive.
    loss : {"logistic", "squared"}
        As in `linear`.

    Returns
    -------
    RandomFeatures
        The fit.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, the network and the data differ in dimension, or the
        network's `log_scale` does not fit into float64 weights.
    RuntimeError
        If the fit does not reach its tolerance.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import baselines
    >>> corners = fc.Dataset([[1, 0], [-1, 0], [0, 1], [0, -1]], [1, 1, -1, -1])
    >>> net = fc.TwoLayerNet.gaussian(width=100, dim=2, scale=1.0, seed=0)
    >>> baselines.accuracy(baselines.random_features(net, corners, l2=1e-3), corners)
    1.0
    """
    l2 = real("l2", l2, above=0.0)
    choice("loss", loss, ("logistic", "squared"))
    net = _matched(net, data)
    y, weights = _targets(data, loss)
    features = net.activation(data.x.astype(np.float64, copy=False) @ net.W.T)
    if loss == "squared":
        v = ridge(features, y, l2, weights)
    else:
        v, _ = _logistic(features, y, l2, weights, bias=False)
    return RandomFeatures(net.W, frozen(v), net.activation)


def ntk(
    net: TwoLayerNet, data: Dataset, *, l2: float, train: tuple[str, ...] = ("W", "a")
) -> KernelModel:
    """Return kernel ridge regression with the empirical tangent kernel of the network.

    At the network's weights, K(x, x') = Σ_j a_j² σ'(z_j) σ'(z'_j) <x, x'> + Σ_j σ(z_j) σ(z'_j), the
    two terms belonging to W and to a. The squared loss is fitted to the labels themselves; the
    network's own output is not added (the linearised network would be f_0 plus a fit to y - f_0;
    they agree when f_0 is small).

    Parameters
    ----------
    net : TwoLayerNet
        Network at whose weights the kernel is taken.
    data : Dataset
        Samples, labels and weights.
    l2 : float
        Weight decay of the displacement of the weights, positive.
    train : tuple of {"W", "a"}
        Layers whose weights count, as in `descend`.

    Returns
    -------
    KernelModel
        The fit.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, the network and the data differ in dimension, or the
        network's `log_scale` does not fit into float64 weights.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import baselines
    >>> corners = fc.Dataset([[1, 0], [-1, 0], [0, 1], [0, -1]], [1, 1, -1, -1])
    >>> net = fc.TwoLayerNet.gaussian(width=100, dim=2, scale=1.0, seed=0)
    >>> baselines.accuracy(baselines.ntk(net, corners, l2=1e-3, train=("W",)), corners)
    1.0
    """
    l2 = real("l2", l2, above=0.0)
    layers = tuple(train)
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= {"W", "a"}:
        raise ValueError(f"train={train!r} must be ('W',), ('a',) or ('W', 'a')")
    net = _matched(net, data)
    x = data.x.astype(np.float64, copy=False)
    y, weights = _targets(data, "squared")
    root = np.sqrt(weights)
    gram = _tangent_kernel(net, x, x, layers) * np.outer(root, root)
    coef = root * _solve(gram, l2, root * y)
    return KernelModel(net, layers, frozen(x), frozen(coef))


def ridge(features: ArrayLike, y: ArrayLike, l2: float, weights: ArrayLike | None = None) -> Array:
    """Return the v that minimises Σ w_i (<φ_i, v> - y_i)²/2 / Σ w_i + (l2/2)|v|².

    `featcore.ridge` is the same for equal weights, with λ = l2 and a path of them; this one weighs samples and
    refuses an `l2` that rounding loses.

    Solves the system of the smaller size: (ΦᵀDΦ + l2 I) v = ΦᵀDy, or v = Φᵀ√D (√DΦΦᵀ√D + l2 I)⁻¹
    √Dy, D being the weights over their sum.

    Parameters
    ----------
    features : array_like, shape (n, p)
        Φ, a sample a row.
    y : array_like, shape (n,)
        Targets, any real numbers.
    l2 : float
        Weight decay, positive.
    weights : array_like, shape (n,), optional
        Non-negative sample weights with a positive sum; default equal.

    Returns
    -------
    ndarray, shape (p,)
        Coefficients.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, a number is out of range, or `l2` is lost in rounding.

    Examples
    --------
    >>> from featcore import baselines
    >>> baselines.ridge([[1.0], [1.0]], [1.0, 3.0], l2=1.0)
    array([1.])
    """
    phi = float_array("features", features, ndim=2).astype(np.float64, copy=False)
    n, p = phi.shape
    target = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if target.shape != (n,):
        raise ValueError(f"y has shape {target.shape}; features has {n} rows, so it must be ({n},)")
    l2 = real("l2", l2, above=0.0)
    root = np.sqrt(_normalised(weights, n))
    scaled, target = root[:, None] * phi, root * target
    if p <= n:
        return _solve(scaled.T @ scaled, l2, scaled.T @ target)
    return np.asarray(scaled.T @ _solve(scaled @ scaled.T, l2, target))


def _solve(gram: Array, l2: float, right: Array) -> Array:
    """Return (gram + l2 I)⁻¹ right."""
    solution = regression.solve_one(gram, l2, right)
    if solution is None:
        raise ValueError(
            f"l2={l2:g} is lost in the rounding of these features, which are linearly dependent to "
            f"machine precision; use l2 >= {2 * regression.rounding(gram):.1e}"
        )
    return solution


def _logistic(phi: Array, y: Array, l2: float, weights: Array, bias: bool) -> tuple[Array, float]:
    """Return (v, intercept) that minimise the weighted logistic loss plus (l2/2)|v|², by L-BFGS."""
    from scipy.optimize import minimize

    loss = losses.Logistic()
    p = phi.shape[1]

    def objective(theta: Array) -> tuple[float, Array]:
        v = theta[:p]
        f = phi @ v + (theta[p] if bias else 0.0)
        pull = weights * loss.residual(f, y)
        gradient = np.append(l2 * v - pull @ phi, -pull.sum()) if bias else l2 * v - pull @ phi
        return float(weights @ loss.value(f, y) + 0.5 * l2 * (v @ v)), gradient

    # ftol=0: only the gradient ends it, or a line search that finds no more progress within
    # rounding.
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 30, "gtol": 1e-9, "ftol": 0.0}
    fit = minimize(objective, np.zeros(p + bias), jac=True, method="L-BFGS-B", options=options)
    norm = float(np.linalg.norm(fit.jac))
    if not norm <= _GRADIENT_TOLERANCE:
        raise RuntimeError(
            f"the logistic fit stopped with a gradient of norm {norm:.1e}, above "
            f"{_GRADIENT_TOLERANCE:g} ({fit.message}); raise l2={l2:g} or bring the features to a "
            "size near 1"
        )
    return fit.x[:p], float(fit.x[p]) if bias else 0.0


def _tangent_kernel(net: TwoLayerNet, x: Array, other: Array, train: tuple[str, ...]) -> Array:
    """Return K(x_i, x'_k), shape (len(x), len(other))."""
    z, z_other = x @ net.W.T, other @ net.W.T
    kernel = np.zeros((len(x), len(other)))
    if "W" in train:
        sigma = net.activation.derivative
        kernel += ((sigma(z) * net.a**2) @ sigma(z_other).T) * (x @ other.T)
    if "a" in train:
        kernel += net.activation(z) @ net.activation(z_other).T
    return kernel


def _matched(net: TwoLayerNet, data: Dataset) -> TwoLayerNet:
    """Return `net` in float64 with its scale absorbed, if it takes samples of `data`."""
    if net.dim != data.d:
        raise ValueError(
            f"net has dimension {net.dim} and data {data.d}; build the network with dim={data.d}"
        )
    return net.astype(np.float64).absorbed()


def _targets(data: Dataset, loss: str) -> tuple[Array, Array]:
    """Return y and the weights over their sum, both float64; labels are ±1 if `loss` needs that."""
    y = data.y.astype(np.float64, copy=False)
    wrong = np.abs(y) != 1.0
    if loss == "logistic" and wrong.any():
        raise ValueError(
            f"data.y has the entry {y[wrong][0]:g} at {int(np.argmax(wrong))}; the logistic loss "
            "needs labels -1 or +1 (loss='squared' takes any)"
        )
    return y, _normalised(data.weights, data.n)


def _normalised(weights: ArrayLike | None, n: int) -> Array:
    """Return checked weights over their sum; equal ones for None."""
    if weights is None:
        return np.full(n, 1.0 / n)
    array = float_array("weights", weights, ndim=1).astype(np.float64, copy=False)
    if array.shape != (n,) or array.min() < 0 or not array.any():
        raise ValueError(
            f"weights has shape {array.shape} and least entry {array.min():g}; pass {n} "
            "non-negative weights with a positive sum"
        )
    return np.asarray(array / array.sum())


def _samples(name: str, x: ArrayLike, dim: int) -> Array:
    """Return `x` as float64 of shape (n, dim)."""
    samples = float_array(name, x, ndim=2).astype(np.float64, copy=False)
    if samples.shape[1] != dim:
        raise ValueError(f"{name} has shape {samples.shape}; it must be (n, {dim})")
    return samples


def _blocks(n: int, columns: int) -> list[slice]:
    """Return slices of rows that keep rows × columns below `_BLOCK`."""
    rows = max(1, _BLOCK // columns)
    return [slice(start, start + rows) for start in range(0, n, rows)]
