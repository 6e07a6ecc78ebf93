"""Where directions go in the end: the max-margin vector of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from featcore.theory.alignment.cones import Array, labelled


def max_margin_vectors(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return (u_+, u_-): the shortest u with <u, x_i> ≥ 1 on all positive (negative) samples.

    On orthogonally separable data and from a small start, positive neurons end in the direction of
    u_+ and negative ones in that of u_-: Phuong and Lampert (ICLR 2021) for the logistic loss, as
    quoted by Min, Zhu and Vidal (NeurIPS 2025), equation (12). They leave the class sums for them
    late, and slowly (docs/derivations.md).

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples.
    y : array_like, shape (n,)
        Labels, -1 or +1.

    Returns
    -------
    u_plus, u_minus : ndarray, shape (d,)
        In units of 1/x; zero for a class without samples.

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape or a label is not ±1, or a class lies in no half-space.

    Notes
    -----
    Lawson and Hanson's least distance programme: with E = (X; 1ᵀ) over the class and α ≥ 0 of least
    |E α - e|, e = (0, …, 0, 1), u is (E α - e)'s first part over minus its last.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> alignment.max_margin_vectors([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0], [0.0, -1.0]], [1, 1, 1, -1])
    (array([1. , 0.5]), array([ 0., -1.]))
    """
    samples, labels = labelled(x, y)
    u_plus, u_minus = (
        _least_distance(samples[labels == sign], name)
        for sign, name in ((1.0, "positive"), (-1.0, "negative"))
    )
    return u_plus, u_minus


def _least_distance(samples: Array, name: str) -> Array:
    from scipy.optimize import nnls

    n, d = samples.shape
    if n == 0:
        return np.zeros(d)
    unit = float(np.linalg.norm(samples, axis=1).max())
    if unit == 0:
        raise ValueError(f"x has only zero samples in its {name} class; no vector separates them")
    E = np.vstack([samples.T / unit, np.ones(n)])
    target = np.zeros(d + 1)
    target[-1] = 1.0
    dual, residual = nnls(E, target)
    rest = E @ dual - target
    if residual <= 1e-10 or rest[-1] >= 0:
        raise ValueError(
            f"the {name} samples of x lie in no open half-space: no u has <u, x_i> ≥ 1 on all of them"
        )
    return np.asarray(rest[:-1] / (-rest[-1] * unit))
