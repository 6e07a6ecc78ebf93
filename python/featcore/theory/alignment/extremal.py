"""Extremal vectors in the plane: where the directional flow can come to rest, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import float_array
from featcore.theory.alignment.cones import Array

_ZERO = 1e-12
"""Of Σ|y_i||x_i|: a field below it is zero but for rounding."""


@dataclass(frozen=True, eq=False)
class ExtremalVectors:
    """Directions that attract neurons of one head sign, k of them, by angle.

    Attributes
    ----------
    angles : ndarray, shape (k,)
        Polar angles in [0, 2π), increasing.
    directions : ndarray, shape (k, 2)
        The same as unit vectors.
    speeds : ndarray, shape (k,)
        G(w) = sign Σ_i y_i relu(<x_i, w>), at which log|w| grows in sum-loss time.
    at_kink : ndarray of bool, shape (k,)
        Whether it lies on the hyperplane of a sample, where the field jumps; the others are x_a(w)/|x_a(w)|.
    basins : ndarray, shape (k, 2)
        Neurons at angles from the first to the second, counter-clockwise, end there. The second may exceed 2π.
        All angles that are in no basin stay where they are: such neurons see no sample, or nothing but a balance.
    """

    angles: Array
    directions: Array
    speeds: Array
    at_kink: NDArray[np.bool_]
    basins: Array


def extremal_vectors(x: ArrayLike, y: ArrayLike, sign: int = 1) -> ExtremalVectors:
    """Enumerate the attractors of the directional flow in the plane.

    A balanced neuron with head sign s and vanishing size turns as d/dt w̄ = s (I - w̄w̄ᵀ) x_a(w̄), x_a(w) =
    Σ_{<x_i,w> > 0} y_i x_i: it climbs G(w) = s Σ_i y_i relu(<x_i, w>) on the circle. Between the 2n angles where a
    sample's hyperplane is passed x_a is constant, so that all rests are known exactly.

    Parameters
    ----------
    x : array_like, shape (n, 2)
        Samples.
    y : array_like, shape (n,)
        Labels or, for the squared loss, targets: minus the residual at f = 0.
    sign : {1, -1}
        Sign of the head.

    Returns
    -------
    ExtremalVectors

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, x is not in the plane, or `sign` is not ±1.

    Notes
    -----
    Maennel, Bousquet and Gelly (2018) define them; the enumeration is ours. Where the field vanishes towards a
    hyperplane and not beyond it, as at samples that are orthogonal to each other, neurons come from one side and never
    get through: such a point is an attractor with a basin on one side, and neurons beyond it leave it.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> found = alignment.extremal_vectors([[1.0, 0.0], [0.0, 1.0]], [1, 1])  # x_1, their sum, x_2
    >>> found.directions.round(3).tolist()
    [[1.0, 0.0], [0.707, 0.707], [0.0, 1.0]]
    >>> (found.basins / 3.141592653589793).round(3).tolist()
    [[1.5, 2.0], [0.0, 0.5], [0.5, 1.0]]
    """
    samples = float_array("x", x, ndim=2).astype(np.float64, copy=False)
    if samples.shape[1] != 2:
        raise ValueError(
            f"x has shape {samples.shape}; extremal vectors are enumerated in the plane, d=2"
        )
    targets = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if targets.shape != samples.shape[:1]:
        raise ValueError(f"y has shape {targets.shape}; x has {samples.shape[0]} samples")
    if sign not in (1, -1):
        raise ValueError(f"sign={sign!r} must be 1 or -1")
    weighed = sign * targets[:, None] * samples
    size = float(np.sum(np.abs(targets) * np.linalg.norm(samples, axis=1)))

    # Angles at which the field may change its sign: where a sample is passed, and where x_a points.
    own = np.arctan2(samples[:, 1], samples[:, 0])[samples.any(1)]
    edges = _distinct(np.concatenate([own - 0.5 * np.pi, own + 0.5 * np.pi]))
    rests = []
    for begin, end in _arcs(edges):
        total = _pull(samples, weighed, 0.5 * (begin + end))
        if np.hypot(*total) <= _ZERO * size:
            continue
        for angle in (math.atan2(total[1], total[0]), math.atan2(-total[1], -total[0])):
            inside = begin + (angle - begin) % (2 * math.pi)
            if inside < end:
                rests.append(inside % (2 * math.pi))
    cuts = _distinct(np.concatenate([edges, rests]))
    arcs = _arcs(cuts)
    # Of each arc: the sign of the turn inside, and whether the field vanishes towards either end.
    turns: list[int] = []
    fades: list[tuple[bool, bool]] = []
    for begin, end in arcs:
        total = _pull(samples, weighed, 0.5 * (begin + end))
        turn = _turn(total, 0.5 * (begin + end))
        turns.append(0 if np.hypot(*total) <= _ZERO * size else int(np.sign(turn)))
        at_begin, at_end = (abs(_turn(total, angle)) <= _ZERO * size for angle in (begin, end))
        fades.append((at_begin, at_end))

    found = []
    for k, cut in enumerate(cuts):
        before, after = k - 1, k  # the arcs on either side; arcs[-1] ends at cuts[0] + 2π
        from_below = turns[before] > 0 and (fades[before][1] or turns[after] <= 0)
        from_above = turns[after] < 0 and (fades[after][0] or turns[before] >= 0)
        if not (from_below or from_above):
            continue
        first = last = float(cut)
        if from_below:
            first -= _reach(arcs, turns, fades, before, -1)
        if from_above:
            last += _reach(arcs, turns, fades, after, +1)
        shift = -2 * math.pi * math.floor(first / (2 * math.pi))
        found.append((float(cut), first + shift, last + shift))
    angles = np.array([angle for angle, _, _ in found], dtype=np.float64)
    directions = np.column_stack([np.cos(angles), np.sin(angles)])
    speeds = np.array([float(np.maximum(samples @ w, 0) @ (sign * targets)) for w in directions])
    gaps = np.abs(np.subtract.outer(angles, edges))
    at_kink = np.asarray((np.minimum(gaps, 2 * np.pi - gaps) <= _ZERO).any(axis=1))
    basins = np.array([row[1:] for row in found], dtype=np.float64).reshape(-1, 2)
    return ExtremalVectors(angles, directions, speeds, at_kink, basins)


def _distinct(angles: Array) -> Array:
    """Return angles in [0, 2π), increasing, without those that are others but for rounding."""
    angles = np.unique(np.mod(angles, 2 * np.pi))
    if not len(angles):
        return angles
    return np.asarray(
        angles[np.append(np.diff(angles), angles[0] + 2 * np.pi - angles[-1]) > 1e-14]
    )


def _arcs(cuts: Array) -> list[tuple[float, float]]:
    """Return the arcs between cuts, counter-clockwise; the last ends beyond 2π."""
    if not len(cuts):
        return []
    ends = np.append(cuts[1:], cuts[0] + 2 * np.pi)
    return list(zip(cuts.tolist(), ends.tolist(), strict=True))


def _pull(samples: Array, weighed: Array, angle: float) -> Array:
    """Return sign · x_a at an angle that is inside an arc."""
    active = samples @ np.array([math.cos(angle), math.sin(angle)]) > 0
    return np.asarray(weighed[active].sum(0))


def _turn(total: Array, angle: float) -> float:
    """Return dθ/dt."""
    return float(total[1] * math.cos(angle) - total[0] * math.sin(angle))


def _reach(
    arcs: list[tuple[float, float]],
    turns: list[int],
    fades: list[tuple[bool, bool]],
    start: int,
    way: int,
) -> float:
    """Return how far a basin reaches from its attractor, over arcs that turn towards it."""
    length, k = 0.0, start
    for _ in arcs:
        length += arcs[k][1] - arcs[k][0]
        following = (k + way) % len(arcs)
        # a neuron beyond gets here only if the field does not vanish before
        held = fades[following][1 if way < 0 else 0]
        if turns[following] != -way or held:
            break
        k = following
    return length
