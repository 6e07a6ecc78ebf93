"""Networks with a `log_scale` as a flow carries them: mantissas, and the powers of two that they hand over."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from featcore.network import TwoLayerNet

LN2 = math.log(2.0)

# Mantissas within 2^±64 have squares that float32 holds, too.
_COMFORT = 64


def carried(net: TwoLayerNet, largest_x: float) -> TwoLayerNet:
    """Return `net`, which has a log_scale, with mantissas whose squares are numbers.

    Raises
    ------
    ValueError
        If outputs on samples with entries up to `largest_x` could leave the range of the dtype.
    """
    log_scale = _log_scale(net)
    _, exponents = np.frexp(_largest(net))
    far = (np.abs(exponents) > _COMFORT) & (log_scale > -math.inf)
    if far.any():
        shift = np.where(far, exponents, 0)
        W, a = np.ldexp(net.W, -shift[:, None]), np.ldexp(net.a, -shift)
        log_scale = log_scale + shift * LN2
        net = TwoLayerNet(W, a, net.activation, log_scale, copy=False)
    # what the core takes for finite, see largest_sound() in form.hpp
    room = math.log(1e150 if net.dtype == np.float64 else float(np.finfo(net.dtype).max))
    with np.errstate(divide="ignore", over="ignore"):
        sizes = np.log(np.abs(net.W.astype(np.float64)).sum(axis=1)) + np.log(
            np.abs(net.a.astype(np.float64))
        )
        largest = 2 * log_scale + sizes + math.log(max(largest_x, np.finfo(np.float64).tiny))
    if largest.max() + math.log(net.width) > room:
        raise ValueError(
            f"log_scale between {log_scale.min():g} and {log_scale.max():g} cannot be held: outputs of the network "
            f"would leave the range of {net.dtype}; lower log_scale"
        )
    return net


def squared_sizes(net: TwoLayerNet) -> NDArray[np.float64]:
    """Return a_j² + |w_j|² of the mantissas, shape (m,)."""
    W, a = net.W.astype(np.float64), net.a.astype(np.float64)
    sizes: NDArray[np.float64] = np.sum(W**2, axis=1) + a**2
    return sizes


def log_epsilon(net: TwoLayerNet) -> float:
    """Return ln ε, with ε the largest of the norms √(|w_j|² + a_j²) of the neurons, scale included."""
    with np.errstate(divide="ignore"):
        return float((_log_scale(net) + 0.5 * np.log(squared_sizes(net))).max())


def scaled_net(
    W: NDArray[np.floating],
    a: NDArray[np.floating],
    like: TwoLayerNet,
    log_scale: NDArray[np.float64],
    exponents: NDArray[np.int64],
) -> TwoLayerNet:
    """Return the network of mantissas W and a that have handed over 2^exponents since `log_scale`.

    Where log_scale is -inf it stays so, and the mantissas show the sizes of these neurons relative to the largest of
    them, as far as the dtype has room.
    """
    vanishing = np.isneginf(log_scale)
    if vanishing.any():
        room = -int(np.finfo(W.dtype).minexp) - 2 * _COMFORT
        shift = np.where(vanishing, exponents - exponents[vanishing].max(), 0)
        shift = np.maximum(shift, -room).astype(np.int32)
        W, a = np.ldexp(W, shift[:, None]), np.ldexp(a, shift)
    return TwoLayerNet(W, a, like.activation, log_scale + exponents * LN2, copy=False)


def _log_scale(net: TwoLayerNet) -> NDArray[np.float64]:
    return np.zeros(net.width) if net.log_scale is None else net.log_scale


def _largest(net: TwoLayerNet) -> NDArray[np.float64]:
    """Return the largest entry of each neuron, shape (m,)."""
    largest: NDArray[np.float64] = np.maximum(np.abs(net.W).max(axis=1), np.abs(net.a))
    return largest
