"""Outputs, features, and the objective with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore import losses
from featcore._dispatch import check_memory, core, padded, resolve_threads
from featcore._progress import percent
from featcore._validation import choice, float_array, real
from featcore.data.dataset import Dataset
from featcore.losses import Loss
from featcore.network import Gradient, TwoLayerNet
from featcore.observables import check_match, check_net

REDUCTIONS = ("mean", "sum")


def outputs(net: TwoLayerNet, x: ArrayLike, num_threads: int | None = None) -> NDArray[Any]:
    """Return f(x), shape (n,), for x of shape (n, d); n may be 0.

    Raises
    ------
    TypeError, ValueError
        If x is not a finite real matrix of the network's dimension and dtype (integers are taken).
    """
    net = _evaluable(net)
    array = float_array("x", x, ndim=2, dtype=net.dtype, allow_empty=True)
    if array.shape[1] != net.dim:
        raise ValueError(f"x has shape {array.shape}; the network takes (n, {net.dim})")
    sigma = net.activation
    return core.outputs(net.W, net.a, sigma.spec, array, resolve_threads(num_threads))


def features(
    net: TwoLayerNet, x: ArrayLike, num_threads: int | None = None, progress: bool = False
) -> NDArray[Any]:
    """Return what the head sees: σ(<w_j, x_i>), shape (n, m).

    Parameters
    ----------
    net : TwoLayerNet
        Its W and σ, with `log_scale` absorbed; the head does not matter.
    x : array_like, shape (n, d)
        Samples, of the network's dtype (integers are taken); n may be 0.
    num_threads : int, optional
        Threads of this call; default: what affinity and control group allow. Bits do not depend on it.
    progress : bool
        Show a progress bar on a terminal.

    Returns
    -------
    ndarray, shape (n, m)
        Of the network's dtype.

    Raises
    ------
    TypeError, ValueError
        If x is not a finite real matrix of the network's dimension and dtype.
    MemoryError
        Before anything is computed, with the number, if the features do not fit.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> net = fc.TwoLayerNet([[1.0, 0.0], [0.0, 2.0]], [1.0, 1.0])
    >>> fc.features(net, np.array([[3.0, 1.0], [1.0, 0.5]]))
    array([[3., 2.],
           [1., 1.]])
    """
    check_net(net)
    net = net.absorbed()
    array = float_array("x", x, ndim=2, dtype=net.dtype, allow_empty=True)
    if array.shape[1] != net.dim:
        raise ValueError(f"x has shape {array.shape}; the network takes (n, {net.dim})")
    size = net.dtype.itemsize
    check_memory(
        f"features (n={len(array)}, m={net.width}, {net.dtype})",
        float(size) * (net.width * len(array) + padded(net.width) * net.dim) + 2.0**24,
        "take the samples in parts, or float32",
    )
    threads = resolve_threads(num_threads)
    with percent(progress) as bar:
        F = core.features(net.W, net.a, net.activation.spec, array, threads, bar.part(0, 100))
        bar.close_at(100)
    return F


def _evaluable(net: TwoLayerNet) -> TwoLayerNet:
    """Return a network without log_scale and with the outputs of `net`, where these are numbers.

    σ of first degree takes exp(2·log_scale_j) in the head, which is out of range only where f is.
    """
    if net.log_scale is None or not (net.underflows and net.activation.homogeneous):
        return net.absorbed()
    with np.errstate(over="ignore", under="ignore"):
        a = (np.exp(2 * net.log_scale) * net.a).astype(net.dtype)
    heard = (np.abs(a) >= np.finfo(net.dtype).tiny).any()  # else f is 0, all of it by underflow
    if not heard or not np.isfinite(a).all():
        return net.absorbed()
    return TwoLayerNet(net.W, a, net.activation, copy=False)


def loss_and_grad(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    reduction: str = "mean",
    weight_decay: float = 0.0,
    output_penalty: float = 0.0,
    num_threads: int | None = None,
) -> tuple[float, Gradient]:
    """Return the objective of a network on a data set, and its gradient.

    The objective is Σ_i c_i ℓ(f_i, y_i) + (weight_decay/2)(|W|² + |a|²) + (output_penalty/2) Σ_i p_i f_i²
    with p_i = w_i/Σw and c_i = p_i for the mean, w_i for the sum.

    Parameters
    ----------
    net : TwoLayerNet
        Network of the same dtype and dimension as the data.
    data : Dataset
        n samples; labels ±1 unless the loss is squared.
    loss : {"logistic", "exponential", "hinge", "squared"} or Loss
        Per-sample loss.
    reduction : {"mean", "sum"}
        Weighted mean (default) or weighted sum over samples.
    weight_decay, output_penalty : float
        Non-negative penalties.
    num_threads : int, optional
        Threads of this call; default: what affinity and control group allow. Bits do not depend on it.

    Returns
    -------
    objective : float
        Accumulated in float64 for either dtype.
    gradient : Gradient
        Arrays W, shape (m, d), and a, shape (m,), of the network's dtype.

    Raises
    ------
    TypeError, ValueError
        If dtypes or dimensions differ, labels are not ±1 where the loss needs them, or a name is
        unknown.

    Examples
    --------
    >>> import featcore as fc
    >>> net = fc.TwoLayerNet([[1.0, 0.0]], [1.0])
    >>> data = fc.Dataset([[1.0, 0.0]], [1])
    >>> value, gradient = fc.loss_and_grad(net, data, loss="squared")
    >>> value, gradient.norm
    (0.0, 0.0)
    """
    check_net(net)
    net = net.absorbed()
    loss = losses.get(loss)
    check_match(net, data, loss)
    choice("reduction", reduction, REDUCTIONS)
    value, grad_W, grad_a = core.loss_and_grad(
        net.W,
        net.a,
        net.activation.spec,
        split_tuple(data),
        loss.name,
        reduction == "mean",
        real("weight_decay", weight_decay, least=0.0),
        real("output_penalty", output_penalty, least=0.0),
        resolve_threads(num_threads),
    )
    return value, Gradient(grad_W, grad_a)


def split_tuple(
    data: Dataset,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """Return a data set as the core takes it."""
    return data.x, data.y, data.clean_y, data.weights
