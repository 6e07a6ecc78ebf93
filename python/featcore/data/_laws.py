"""Laws of the noise within a cluster: isotropic and log-concave, mean zero, unit variance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]


def _ball(rng: np.random.Generator, shape: tuple[int, int]) -> _Array:
    d = shape[1]
    z = rng.standard_normal(shape)
    z /= np.sqrt((z * z).sum(axis=1, keepdims=True))
    # E r² = (d+2)·d/(d+2) for a uniform point of this ball: a variance of 1 each
    z *= math.sqrt(d + 2.0) * rng.random((shape[0], 1)) ** (1.0 / d)
    return z


LAWS: dict[str, Callable[[np.random.Generator, tuple[int, int]], _Array]] = {
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "laplace": lambda rng, shape: rng.laplace(scale=math.sqrt(0.5), size=shape),
    "uniform": lambda rng, shape: rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), size=shape),
    "logistic": lambda rng, shape: rng.logistic(scale=math.sqrt(3.0) / math.pi, size=shape),
    "exponential": lambda rng, shape: rng.standard_exponential(shape) - 1.0,
    "ball": _ball,
}
"""Name to a draw of z, shape (n, d). All but "exponential" are symmetric under z → -z."""
