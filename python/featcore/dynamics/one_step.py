"""One step of gradient descent on the first layer, as large as one likes."""

from __future__ import annotations

import numpy as np

from featcore._dispatch import check_memory, core, padded, resolve_threads
from featcore._progress import percent
from featcore._validation import choice, real
from featcore.data.dataset import Dataset
from featcore.dynamics.arguments import absorbed
from featcore.dynamics.gradient import split_tuple
from featcore.network import TwoLayerNet
from featcore.observables import check_match, check_net

RESIDUALS = ("labels", "full")


def one_step(
    net: TwoLayerNet,
    data: Dataset,
    step_size: float,
    residual: str = "labels",
    num_threads: int | None = None,
    progress: bool = False,
) -> TwoLayerNet:
    """Return the network with W + ηG: its first layer after one gradient step of the squared loss.

    G = Σ_i p_i r_i a σ'(W x_i) x_iᵀ, shape (m, d), with p_i = 1/n, or the sample weights over their sum. The
    residual r_i is y_i ("labels"), or y_i - f(x_i) ("full"); the latter is a step of `featcore.descend` with
    ``loss="squared", train=("W",)``. The head stays.

    The activation is taken as it is. Theories of this step assume a centred one, E σ(Z) = 0: pass
    ``fc.ReLU().centred()`` and not ``fc.ReLU()``. They also assume that a head fitted afterwards (`featcore.ridge`)
    sees other samples than the step did; nothing here stops you from passing the same.

    Parameters
    ----------
    net : TwoLayerNet
        Network of the same dtype and dimension as the data, with any activation.
    data : Dataset
        n samples; labels are any real numbers.
    step_size : float
        η, at least 0.
    residual : {"labels", "full"}
        Whether the network's own outputs are left out of the residual, as theories of large steps have it.
    num_threads : int, optional
        Threads of this call; default: what affinity and control group allow. Bits do not depend on it.
    progress : bool
        Show a progress bar on a terminal: of work, as far as it is known beforehand.

    Returns
    -------
    TwoLayerNet
        With `log_scale` absorbed; `featcore.descend` goes on from it.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, dtypes or dimensions differ, or the new weights leave the range of the dtype.
    MemoryError
        Before the step, with the number, if it needs more memory than is free.

    Examples
    --------
    >>> import featcore as fc
    >>> net = fc.TwoLayerNet([[1.0, 0.0]], [2.0], fc.ReLU().centred())
    >>> data = fc.Dataset([[1.0, 1.0], [-1.0, 0.0]], [3.0, 1.0])
    >>> fc.one_step(net, data, step_size=0.5).W  # G = 3·2·(1, 1)/2
    array([[2.5, 1.5]])
    """
    check_net(net)
    check_match(net, data, None)
    choice("residual", residual, RESIDUALS)
    step_size = real("step_size", step_size, least=0.0)
    net = absorbed(net)
    n, d, m = data.n, data.d, net.width
    threads = resolve_threads(num_threads)
    laid_out = padded(m)
    if residual == "labels" and not net.activation.by_sign:
        laid_out = min(laid_out, 256 * threads)  # neurons wait for nothing: a chunk a thread
    check_memory(
        f"one step (n={n}, d={d}, m={m}, {net.dtype})",
        float(net.dtype.itemsize) * d * (n + m + 2.0 * laid_out) + n * m / 8.0 + 2.0**26,
        "use fewer samples or neurons, or float32",
    )
    with percent(progress) as bar:
        W = core.one_step(
            net.W,
            net.a,
            net.activation.spec,
            split_tuple(data),
            residual == "full",
            step_size,
            threads,
            bar.part(0, 100),
        )
        bar.close_at(100)
    if not np.isfinite(W).all():
        raise ValueError(
            f"step_size={step_size:g} takes weights out of the range of {net.dtype}; use a smaller one"
        )
    return TwoLayerNet(W, net.a, net.activation, copy=False)
