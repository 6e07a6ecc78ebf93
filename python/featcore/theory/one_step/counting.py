"""How many spikes stand outside the bulk, by the exponent of the step size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import integer
from featcore.theory._arrays import any_shape


def number_of_spikes(alpha: ArrayLike) -> NDArray[np.int64]:
    """Return ℓ = ⌈2α/(1-2α)⌉, the number of spikes of the features for a step size η = n^α as n → ∞.

    Parameters
    ----------
    alpha : array_like of any shape
        α, below 1/2. At α ≤ 0 the count is 0: a step of constant size has a spike if it passes a threshold of
        its own, see `features_spectrum`.

    Returns
    -------
    ndarray of integers, shape of `alpha`
        ℓ; at a threshold that of the interval below it.

    Raises
    ------
    TypeError, ValueError
        If α is 1/2 or more, where the step is no longer a small change of the features.

    Notes
    -----
    Moniri, Lee, Hassani and Dobriban (ICML 2024) have ℓ spikes for (ℓ-1)/(2ℓ) < α < ℓ/(2ℓ+2). Spikes whose
    coefficient c_k vanishes are not there. At n of a few thousand later spikes are still inside the bulk.

    Examples
    --------
    >>> from featcore.theory import one_step
    >>> one_step.number_of_spikes([0.1, 0.3, 0.35, 0.4])
    array([1, 2, 3, 4])
    """
    exponent = any_shape("alpha", alpha)
    if exponent.size and exponent.max() >= 0.5:
        raise ValueError(
            f"alpha={exponent.max():g} must be below 1/2; from there on a step changes all of the features"
        )
    ratio = 2.0 * exponent / (1.0 - 2.0 * exponent)
    nearest = np.rint(ratio)
    # 0.4 gives 4.000000000000001
    noisy = np.abs(ratio - nearest) <= 1e-9 * np.maximum(1.0, np.abs(ratio))
    return np.asarray(np.maximum(np.where(noisy, nearest, np.ceil(ratio)), 0.0).astype(np.int64))


def spike_threshold(spikes: int) -> float:
    """Return the exponent α beyond which the ℓ-th spike leaves the bulk as n → ∞, (ℓ-1)/(2ℓ).

    Parameters
    ----------
    spikes : int
        ℓ, at least 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If `spikes` is not a positive integer.

    Notes
    -----
    Moniri, Lee, Hassani and Dobriban (ICML 2024).

    Examples
    --------
    >>> from featcore.theory import one_step
    >>> [one_step.spike_threshold(spikes) for spikes in (1, 2, 4)]
    [0.0, 0.25, 0.375]
    """
    count = integer("spikes", spikes, least=1)
    return (count - 1) / (2 * count)
