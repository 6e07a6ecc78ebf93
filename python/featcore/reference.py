"""The specification in code: every computed quantity once more in plain numpy, always in float64.

Slow and readable. The tests hold the compiled core against it; so can you:

>>> import numpy as np, featcore as fc
>>> from featcore import reference
>>> net = fc.TwoLayerNet.gaussian(width=6, dim=3, scale=1.0, seed=0)
>>> data = fc.Dataset([[1.0, 2.0, -1.0], [0.5, -1.0, 2.0]], [1, -1])
>>> value, gradient = fc.loss_and_grad(net, data)
>>> expected_value, expected = reference.gradient(net, data)
>>> bool(np.isclose(value, expected_value)) and np.allclose(gradient.W, expected.W)
True

`observables` maps the name of every compiled observable to a function of (network, data set).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore import _seeds, activations, losses
from featcore._seeds import Seed
from featcore._validation import choice
from featcore.activations import Activation
from featcore.data.dataset import Dataset
from featcore.losses import Loss
from featcore.network import Gradient, TwoLayerNet

__all__ = [
    "descend",
    "epoch_order",
    "features",
    "gradient",
    "loss",
    "objective",
    "observables",
    "one_step",
    "outputs",
    "ridge",
    "step",
]

Array = NDArray[np.float64]
_LAYERS = ("W", "a")


def outputs(
    W: ArrayLike, a: ArrayLike, x: ArrayLike, activation: str | Activation = "relu"
) -> Array:
    """Return f(x_i) = Σ_j a_j σ(<w_j, x_i>).

    Parameters
    ----------
    W : array_like, shape (m, d)
        First layer, a neuron a row.
    a : array_like, shape (m,)
        Head.
    x : array_like, shape (n, d)
        Samples.
    activation : Activation or str
        σ.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> from featcore import reference
    >>> reference.outputs([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], [[3.0, 1.0], [-1.0, 2.0]])
    array([ 2., -2.])
    """
    sigma = activations.get(activation)
    z = _float64(x) @ _float64(W).T
    return np.asarray(sigma(z) @ _float64(a))


def features(W: ArrayLike, x: ArrayLike, activation: str | Activation = "relu") -> Array:
    """Return σ(<w_j, x_i>), shape (n, m): what the head sees.

    Arguments as in `outputs`.

    Examples
    --------
    >>> from featcore import reference
    >>> reference.features([[1.0, 0.0], [0.0, 1.0]], [[3.0, 1.0]])
    array([[3., 1.]])
    """
    return np.asarray(activations.get(activation)(_float64(x) @ _float64(W).T))


def loss(
    f: ArrayLike,
    y: ArrayLike,
    loss: str | Loss = "logistic",
    *,
    weights: ArrayLike | None = None,
    reduction: str = "mean",
) -> float:
    """Return Σ w_i ℓ(f_i, y_i), divided by Σ w_i for the mean.

    Parameters
    ----------
    f, y : array_like, shape (n,)
        Outputs and labels.
    loss : Loss or str
        ℓ.
    weights : array_like, shape (n,), optional
        Default: all 1. A sample of weight zero does not count, even where its loss is infinite.
    reduction : {"mean", "sum"}
        Weighted mean or weighted sum.

    Examples
    --------
    >>> from featcore import reference
    >>> reference.loss([1.0, 3.0], [1.0, 1.0], "squared", weights=[1.0, 3.0])
    1.5
    """
    f = _float64(f)
    w = np.ones_like(f) if weights is None else _float64(weights)
    return _data_term(f, _float64(y), w, losses.get(loss), _is_mean(reduction))


def objective(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
) -> float:
    """Return what is descended: the loss and the penalties.

    Σ_i c_i ℓ(f_i, y_i) + (weight_decay/2)(|W|² + |a|²) + (output_penalty/2) Σ_i p_i f_i²
    with p_i = w_i/Σw and c_i = p_i for the mean, w_i for the sum.

    Parameters
    ----------
    net, data, loss, reduction, weight_decay, output_penalty
        As in `featcore.loss_and_grad`.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import reference
    >>> net = fc.TwoLayerNet([[2.0]], [1.0])
    >>> data = fc.Dataset([[1.0]], [1])
    >>> reference.objective(net, data, "squared", weight_decay=0.1, output_penalty=1.0)
    2.75
    """
    return gradient(
        net,
        data,
        loss,
        reduction=reduction,
        weight_decay=weight_decay,
        output_penalty=output_penalty,
    )[0]


def gradient(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
    counts: ArrayLike | None = None,
) -> tuple[float, Gradient]:
    """Return the objective and its gradient, as `featcore.loss_and_grad` does.

    With z_ij = <w_j, x_i> and r_i = -∂(data terms)/∂f_i the gradient is
    ∂/∂w_j = -a_j Σ_i r_i σ'(z_ij) x_i + weight_decay·w_j and
    ∂/∂a_j = -Σ_i r_i σ(z_ij) + weight_decay·a_j.

    Parameters
    ----------
    net, data, loss, reduction, weight_decay, output_penalty
        As in `featcore.loss_and_grad`; any dtype, the arithmetic is float64.
    counts : array_like, shape (n,), optional
        How often the data terms of each sample are taken, 1 by default; weights are normalised over all.

    Returns
    -------
    objective : float
    gradient : Gradient
        In float64.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import reference
    >>> net = fc.TwoLayerNet([[2.0]], [3.0])
    >>> value, gradient = reference.gradient(net, fc.Dataset([[1.0]], [1]), "squared")
    >>> value, gradient.W, gradient.a
    (12.5, array([[15.]]), array([10.]))
    """
    ell, mean = losses.get(loss), _is_mean(reduction)
    W, a = _weights(net)
    x, y = _float64(data.x), _float64(data.y)
    w = _sample_weights(data)
    times = 1.0 if counts is None else np.asarray(counts, dtype=np.float64)
    share = times * w / w.sum()
    c = share if mean else times * w

    z = x @ W.T
    f = net.activation(z) @ a
    squares = np.sum(W**2) + np.sum(a**2)
    taken = c > 0
    value = np.sum(c[taken] * ell.value(f[taken], y[taken]))
    value += 0.5 * weight_decay * squares + 0.5 * output_penalty * np.sum(share * f**2)

    r = np.zeros_like(f)
    r[taken] = c[taken] * ell.residual(f[taken], y[taken])
    r -= output_penalty * share * f
    grad_W = -a[:, None] * ((r[:, None] * net.activation.derivative(z)).T @ x) + weight_decay * W
    grad_a = -net.activation(z).T @ r + weight_decay * a
    return float(value), Gradient(grad_W, grad_a)


def step(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    step_size: float,
    train: Iterable[str] = _LAYERS,
    layer_rates: Mapping[str, float] | None = None,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
    counts: ArrayLike | None = None,
) -> TwoLayerNet:
    """Return the network after one step of gradient descent.

    θ ← θ - step_size · rate_θ · ∂objective/∂θ for the layers θ in `train`; the others stay.

    Parameters
    ----------
    net, data, loss, reduction, weight_decay, output_penalty, counts
        As in `gradient`.
    step_size : float
        η; one step is time η of the flow.
    train : iterable of {"W", "a"}
        Layers that move.
    layer_rates : mapping, optional
        Factor of each layer's gradient, 1 by default.

    Returns
    -------
    TwoLayerNet
        In float64, with `log_scale` absorbed.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import reference
    >>> net = fc.TwoLayerNet([[2.0]], [3.0])
    >>> data = fc.Dataset([[1.0]], [1])
    >>> after = reference.step(net, data, "squared", step_size=0.1, layer_rates={"a": 0.5})
    >>> after.W, after.a
    (array([[0.5]]), array([2.5]))
    """
    train = (train,) if isinstance(train, str) else tuple(train)
    rates = dict.fromkeys(_LAYERS, 1.0) | dict(layer_rates or {})
    for layer in (*train, *rates):
        choice("layer", layer, _LAYERS)
    W, a = _weights(net)
    _, field = gradient(
        net,
        data,
        loss,
        reduction=reduction,
        weight_decay=weight_decay,
        output_penalty=output_penalty,
        counts=counts,
    )
    if "W" in train:
        W = W - step_size * rates["W"] * field.W
    if "a" in train:
        a = a - step_size * rates["a"] * field.a
    return TwoLayerNet(W, a, net.activation)


def one_step(
    net: TwoLayerNet, data: Dataset, step_size: float, residual: str = "labels"
) -> TwoLayerNet:
    """Return the network with W + ηG, as `featcore.one_step` does.

    G = Σ_i p_i r_i a σ'(W x_i) x_iᵀ with p_i = w_i/Σw, and r_i = y_i ("labels") or y_i - f(x_i) ("full").

    Parameters
    ----------
    net, data, step_size, residual
        As in `featcore.one_step`; any dtype, the arithmetic is float64.

    Returns
    -------
    TwoLayerNet
        In float64, with `log_scale` absorbed.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import reference
    >>> net, data = fc.TwoLayerNet([[2.0]], [3.0]), fc.Dataset([[1.0]], [1])
    >>> reference.one_step(net, data, 0.1).W, reference.one_step(net, data, 0.1, "full").W
    (array([[2.3]]), array([[0.5]]))
    """
    W, a = _weights(net)
    x, r = _float64(data.x), _float64(data.y)
    z = x @ W.T
    if choice("residual", residual, ("labels", "full")) == "full":
        r = r - net.activation(z) @ a
    w = _sample_weights(data)
    pull = (w / w.sum() * r)[:, None] * net.activation.derivative(z) * a
    return TwoLayerNet(W + step_size * pull.T @ x, a, net.activation)


def ridge(F: ArrayLike, y: ArrayLike, lam: float) -> Array:
    """Return the a that minimises (1/n)|y - Fa|² + λ|a|², as `featcore.ridge` does.

    Parameters
    ----------
    F : array_like, shape (n, N)
        Features.
    y : array_like, shape (n,)
        Targets.
    lam : float
        λ, positive.

    Returns
    -------
    ndarray, shape (N,)

    Examples
    --------
    >>> from featcore import reference
    >>> reference.ridge([[1.0], [1.0]], [1.0, 3.0], lam=1.0)
    array([1.])
    """
    F = _float64(F)
    n, N = F.shape
    stacked = np.vstack([F, math.sqrt(n * lam) * np.eye(N)])
    return np.asarray(np.linalg.lstsq(stacked, np.append(_float64(y), np.zeros(N)), rcond=None)[0])


def descend(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    step_size: float,
    steps: int,
    batch_size: int | None = None,
    batch_seed: Seed = 0,
    **kwargs: Any,
) -> TwoLayerNet:
    """Return the network after `steps` steps of gradient descent.

    Parameters
    ----------
    net, data, loss, step_size
        As in `step`.
    steps : int
        Number of steps.
    batch_size : int, optional
        Samples of a step; all of them if not given. An epoch takes them in the order of `epoch_order`.
    batch_seed : int or numpy.random.SeedSequence
        Seed of the orders.
    **kwargs
        `train`, `layer_rates`, `reduction`, `weight_decay`, `output_penalty` of `step`.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore import reference
    >>> net = fc.TwoLayerNet([[2.0]], [3.0])
    >>> data = fc.Dataset([[1.0]], [6])
    >>> reference.descend(net, data, "squared", step_size=0.1, steps=5).a  # already at the minimum
    array([3.])
    """
    if batch_size is None:
        for _ in range(steps):
            net = step(net, data, loss, step_size=step_size, **kwargs)
        return net
    key = _seeds.key(batch_seed, "batches")
    per_epoch = -(-data.n // batch_size)
    for k in range(steps):
        order = epoch_order(data.n, key, k // per_epoch)
        batch = order[k % per_epoch * batch_size :][:batch_size]
        # all other samples weigh nothing, and those of the batch n / |batch| times what they did
        counts = np.zeros(data.n)
        counts[batch] = data.n / len(batch)
        net = step(net, data, loss, step_size=step_size, counts=counts, **kwargs)
    return net


def epoch_order(n: int, key: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch of mini-batch descent goes through n samples.

    Fisher and Yates's shuffle with SplitMix64; a number in 0 … k is drawn within the next power of two until one
    fits.

    Parameters
    ----------
    n : int
        Number of samples.
    key : int
        64 bits; of a run its `settings["batch_key"]`.
    epoch : int
        From 0.

    Examples
    --------
    >>> from featcore import reference
    >>> reference.epoch_order(5, key=0, epoch=0)
    array([2, 1, 0, 3, 4])
    """
    state = _mixed(_mixed(key) + epoch)
    order = np.arange(n)
    for last in range(n - 1, 0, -1):
        mask = (1 << last.bit_length()) - 1
        drawn = last + 1
        while drawn > last:
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            drawn = _mixed(state) & mask
        order[[last, drawn]] = order[[drawn, last]]
    return order


def _mixed(z: int) -> int:
    """Return 64 bits, mixed as SplitMix64 does."""
    z %= 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


# --- observables: each takes (net, data) and what it needs by keyword; others are ignored


def _loss(net: TwoLayerNet, data: Dataset, **kwargs: Any) -> float:
    ell = losses.get(kwargs.get("loss", "logistic"))
    mean = _is_mean(kwargs.get("reduction", "mean"))
    return _data_term(_f(net, data), _float64(data.y), _sample_weights(data), ell, mean)


def _log_loss(
    net: TwoLayerNet, data: Dataset, *, loss: str | Loss = "logistic", **kwargs: Any
) -> float:
    from scipy.special import logsumexp

    w = _sample_weights(data)
    counts = w > 0
    terms = losses.get(loss).log_value(_f(net, data)[counts], _float64(data.y)[counts])
    if np.isneginf(terms).all():
        return -math.inf
    mean = _is_mean(kwargs.get("reduction", "mean"))
    return float(logsumexp(terms, b=w[counts]) - (np.log(w.sum()) if mean else 0.0))


def _objective(net: TwoLayerNet, data: Dataset, **kwargs: Any) -> float:
    known = ("loss", "reduction", "weight_decay", "output_penalty")
    return objective(net, data, **{k: kwargs[k] for k in known if k in kwargs})


def _share_right(net: TwoLayerNet, data: Dataset, labels: NDArray[Any]) -> float:
    w = _sample_weights(data)
    return float(np.sum(w[_f(net, data) * _float64(labels) > 0]) / w.sum())


def _accuracy(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    return _share_right(net, data, data.y)


def _clean_accuracy(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    if data.clean_y is None:
        raise ValueError("data has no clean labels")
    return _share_right(net, data, data.clean_y)


def _margins(net: TwoLayerNet, data: Dataset, **_: Any) -> Array:
    return _float64(data.y) * _f(net, data)


def _margin(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    return float(_margins(net, data).min())


def _normalised_margin(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    W, a = _weights(net)
    squares = float(np.sum(W**2) + np.sum(a**2))
    return _margin(net, data) / squares if squares > 0 else 0.0


def _smoothed_margin(
    net: TwoLayerNet, data: Dataset, *, loss: str | Loss = "logistic", **_: Any
) -> float:
    log_total = _log_loss(net, data, loss=loss, reduction="sum")
    if losses.get(loss).name == "exponential" or log_total < -37:
        margin = -log_total
    else:  # log(1 + e^-u) = l
        total = math.exp(log_total)
        margin = (
            -total - math.log1p(-math.exp(-total)) if total > 1 else -math.log(math.expm1(total))
        )
    W, a = _weights(net)
    squares = float(np.sum(W**2) + np.sum(a**2))
    if squares > 0:
        return margin / squares
    return -math.inf if margin < 0 else 0.0


def _norms(net: TwoLayerNet, data: Dataset, **_: Any) -> Array:
    return _row_norms(_weights(net)[0])


def _log_norms(net: TwoLayerNet, data: Dataset, **_: Any) -> Array:
    with np.errstate(divide="ignore"):
        return np.log(_row_norms(_float64(net.W))) + (0 if net.log_scale is None else net.log_scale)


def _head(net: TwoLayerNet, data: Dataset, **_: Any) -> Array:
    return _weights(net)[1]


def _cosines(
    net: TwoLayerNet,
    data: Dataset,
    *,
    directions: ArrayLike,
    absolute: bool = False,
    **_: Any,
) -> Array:
    """Return cos(w_j, v_k), (m, k); 0 for a zero neuron."""
    cosines = _unit_rows(_weights(net)[0]) @ _unit_rows(np.atleast_2d(_float64(directions))).T
    return np.abs(cosines) if absolute else cosines


def _alignment(
    net: TwoLayerNet,
    data: Dataset,
    *,
    directions: ArrayLike,
    absolute: bool = False,
    **_: Any,
) -> Array:
    """Return mean, min, max of the cosines and that of the mean neuron, (k, sign of a_j, 4)."""
    W, a = _weights(net)
    cosines = _cosines(net, data, directions=directions, absolute=absolute)
    result = np.full((cosines.shape[1], 2, 4), np.nan)
    for sign, group in enumerate((a > 0, a < 0)):
        if not group.any():
            continue
        c = cosines[group]
        mean = _unit_rows(W[group].mean(axis=0, keepdims=True))
        of_mean = mean @ _unit_rows(np.atleast_2d(_float64(directions))).T
        of_mean = np.abs(of_mean[0]) if absolute else of_mean[0]
        result[:, sign] = np.stack([c.mean(axis=0), c.min(axis=0), c.max(axis=0), of_mean], axis=1)
    return result


def _active(net: TwoLayerNet, data: Dataset) -> NDArray[np.bool_]:
    """Return whether z_ij > 0, (n, m)."""
    return np.asarray(_float64(data.x) @ _weights(net)[0].T > 0)


def _patterns(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    return float(len(np.unique(_active(net, data), axis=1).T))


def _dead(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    return float(np.sum(~_active(net, data).any(axis=0)))


def _singular_values(net: TwoLayerNet, data: Dataset, *, count: int, **_: Any) -> Array:
    """Return the `count` largest singular values of W; zero past min(m, d)."""
    values = np.linalg.svd(_weights(net)[0], compute_uv=False)
    return np.pad(values, (0, count))[:count]


def _stable_rank(net: TwoLayerNet, data: Dataset, **_: Any) -> float:
    values = np.linalg.svd(_weights(net)[0], compute_uv=False)
    return float(np.sum((values / values[0]) ** 2)) if values[0] > 0 else 0.0


def _balance_drift(
    net: TwoLayerNet, data: Dataset, *, initial: TwoLayerNet | None = None, **_: Any
) -> float:
    """Return max_j |(a_j² - |w_j|²) - its value in `initial`|."""
    return float(np.abs(_balance(net) - _balance(net if initial is None else initial)).max())


observables: Mapping[str, Callable[..., Any]] = {
    "loss": _loss,
    "log_loss": _log_loss,
    "objective": _objective,
    "accuracy": _accuracy,
    "clean_accuracy": _clean_accuracy,
    "margin": _margin,
    "normalised_margin": _normalised_margin,
    "smoothed_margin": _smoothed_margin,
    "margins": _margins,
    "norms": _norms,
    "log_norms": _log_norms,
    "head": _head,
    "cosines": _cosines,
    "alignment": _alignment,
    "patterns": _patterns,
    "dead": _dead,
    "stable_rank": _stable_rank,
    "singular_values": _singular_values,
    "balance_drift": _balance_drift,
}
"""Name → function (net, data, **kwargs) for every compiled observable; see `featcore.observables`.

Keywords: `loss`, `reduction`, `weight_decay`, `output_penalty` (loss, log_loss, objective);
`directions`, `absolute` (cosines, alignment); `count` (singular_values); `initial`, the network at
the start of the run (balance_drift).
"""


# --- helpers


def _data_term(f: Array, y: Array, w: Array, loss: Loss, mean: bool) -> float:
    counts = w > 0
    total = float(np.sum(w[counts] * loss.value(f[counts], y[counts])))
    return total / float(w.sum()) if mean else total


def _float64(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=np.float64)


def _is_mean(reduction: str) -> bool:
    return choice("reduction", reduction, ("mean", "sum")) == "mean"


def _weights(net: TwoLayerNet) -> tuple[Array, Array]:
    """Return W and a in float64, `log_scale` multiplied in."""
    W, a = _float64(net.W), _float64(net.a)
    if net.log_scale is None:
        return W, a
    factor = np.exp(net.log_scale)
    return factor[:, None] * W, factor * a


def _sample_weights(data: Dataset) -> Array:
    return np.ones(data.n) if data.weights is None else _float64(data.weights)


def _f(net: TwoLayerNet, data: Dataset) -> Array:
    return outputs(*_weights(net), data.x, net.activation)


def _balance(net: TwoLayerNet) -> Array:
    W, a = _weights(net)
    return np.asarray(a**2 - np.sum(W**2, axis=1))


def _row_norms(rows: Array) -> Array:
    """Return the norm of each row; scaled first, so that squares neither underflow nor overflow."""
    largest = np.abs(rows).max(axis=1)
    scale = np.where(largest > 0, largest, 1.0)
    return np.asarray(largest * np.linalg.norm(rows / scale[:, None], axis=1))


def _unit_rows(rows: Array) -> Array:
    """Return the rows at length 1; zero rows stay."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    return np.asarray(scaled / np.where(largest > 0, _row_norms(scaled)[:, None], 1.0))
