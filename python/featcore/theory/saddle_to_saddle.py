"""Square loss on orthogonal inputs from a vanishing start: from saddle to saddle, in two stairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array, real

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stair:
    """One drop of the loss: the neurons of one sign fit the targets of that sign.

    Attributes
    ----------
    sign : int
        Of the targets that are fitted, and of the heads that do it.
    relative_time : float
        When, in units of log(1/ε), ε the scale of the start; mean-loss time.
    loss : float
        The mean loss on the plateau that follows.
    direction : ndarray, shape (d,)
        Σ_j a_j w_j of these neurons after it: Σ y_k x_k/|x_k|² over the targets of that sign. Neurons are at
        ± its direction.
    """

    sign: int
    relative_time: float
    loss: float
    direction: Array


@dataclass(frozen=True, eq=False)
class Staircase:
    """The first plateau and the stairs, in order of time; see `staircase`."""

    loss: float
    """On the first plateau: mean y²/2."""
    stairs: tuple[Stair, ...]


def staircase(x: ArrayLike, y: ArrayLike, *, tolerance: float = 1e-9) -> Staircase:
    """Return the plateaus of the square loss, and when they are left, as ε → 0.

    Inputs are orthogonal, neurons balanced (|a_j| = |w_j|) at scale ε, and wide enough that some neuron of each sign
    starts active on a target of its own. Directions settle in a time of order 1, at D_± = (1/n) Σ_{±y_k > 0} y_k x_k;
    then norms grow at the rate |D_±| and reach order 1 at log(1/ε)/|D_±|, when those neurons fit all targets of their
    sign at once, in a time that is short against it. The other sign does not see it: its inputs are orthogonal to the
    neurons that have grown.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Orthogonal inputs, none of them zero.
    y : array_like, shape (n,)
        Targets.
    tolerance : float
        Largest cosine between two inputs that counts as orthogonal.

    Returns
    -------
    Staircase

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, an input is zero, or two are not orthogonal.

    Notes
    -----
    Boursier, Pillaud-Vivien and Flammarion (NeurIPS 2022) prove the picture; the closed forms here are derived
    (docs/derivations.md). Of two equal rates both drops come at one time.

    Examples
    --------
    >>> from featcore.theory import saddle_to_saddle
    >>> steps = saddle_to_saddle.staircase([[1.0, 0.0], [0.0, 1.0]], [3.0, -1.0])
    >>> steps.loss, [(stair.sign, round(stair.relative_time, 3), stair.loss) for stair in steps.stairs]
    (2.5, [(1, 0.667, 0.25), (-1, 2.0, 0.0)])
    """
    inputs = float_array("x", x, ndim=2).astype(np.float64, copy=False)
    targets = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if targets.shape != inputs.shape[:1]:
        raise ValueError(f"y has shape {targets.shape}; x has {inputs.shape[0]} samples")
    tolerance = real("tolerance", tolerance, least=0.0)
    squares = np.einsum("ij,ij->i", inputs, inputs)
    if not squares.all():
        raise ValueError(f"x has a zero input at {int(np.argmin(squares))}; drop it")
    lengths = np.sqrt(squares)
    cosines = np.abs(inputs @ inputs.T) / np.outer(lengths, lengths)
    np.fill_diagonal(cosines, 0.0)
    if cosines.max(initial=0.0) > tolerance:
        i, k = np.unravel_index(np.argmax(cosines), cosines.shape)
        raise ValueError(
            f"x has inputs {int(min(i, k))} and {int(max(i, k))} at a cosine of {cosines.max():.3g}; the staircase is "
            "known for orthogonal ones"
        )
    n = len(targets)
    left = float(np.sum(targets**2)) / (2 * n)
    found = []
    for sign in (1, -1):
        mine = sign * targets > 0
        if mine.any():
            rate = float(np.linalg.norm(targets[mine] @ inputs[mine])) / n
            found.append((1 / rate, sign, mine))
    stairs = []
    first = left
    for time, sign, mine in sorted(found, key=lambda entry: entry[:2]):
        left -= float(np.sum(targets[mine] ** 2)) / (2 * n)
        direction = (targets[mine] / squares[mine]) @ inputs[mine]
        stairs.append(Stair(sign, time, max(left, 0.0), direction))
    return Staircase(first, tuple(stairs))
