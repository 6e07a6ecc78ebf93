"""The theorem's constants, each with whether its premises hold and whose it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from featcore._validation import float_array, real
from featcore.theory.alignment.cones import (
    Array,
    class_sums,
    labelled,
    neurons_like,
    separability,
)


@dataclass(frozen=True)
class Bound:
    """A number of the theory.

    Attributes
    ----------
    value : float
        It; NaN where it has no meaning, such as a time for data that are not separable.
    holds : bool
        Whether the data and the network given meet its premises. A number whose premises do not
        hold promises nothing.
    status : {"paper", "ours"}
        As the paper states it; or derived here, from the paper's proof where its statement looks
        like a misprint.
    statement : str
        What is bounded, and where it comes from.
    """

    value: float
    holds: bool
    status: Literal["paper", "ours"]
    statement: str


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What Min, Mallada and Vidal (ICLR 2024) prove of one network on one data set; see `bounds`.

    Times are of the sum loss. Scales are natural logarithms, since the theorem's are far below the
    least double.

    Attributes
    ----------
    mu : float
        Separability μ; Assumption 1 asks for μ > 0.
    xi : float
        ξ = 1 - sup cos² between the cone of all x_i y_i and vectors outside S_plus and S_minus: equal
        to μ² (derived here).
    zeta_data, zeta_start : float
        ζ₁: vectors at cos ≥ √(1-ζ₁) to x_± lie in S_±; min_i cos²(x_±, x_i) (derived here).
        ζ₂: 1 minus the largest squared cosine of a neuron to the class sum that repels it, 0 if
        Assumption 2 fails.
    zeta : float
        min(ζ₁, ζ₂). (The paper writes the maximum; its proof needs both.)
    small_until : Bound
        T = log(1/(√h ε))/(4 n X_max): until then the next two hold.
    largest_squared_norm, largest_output : Bound
        Of |w_j|² and of |f(x_i)|, for t ≤ T.
    direction_error : Bound
        Of what the directional flow leaves out, per unit of time, for t ≤ T.
    aligned : Bound
        t_1: from then on every neuron with a positive head is in S_plus or S_dead, with a negative
        one in S_minus or S_dead.
    log_scale_needed : Bound
        log of the ε from which on down the theorem holds.
    fitting : Bound
        t_2: from then on the loss lies below `loss_envelope`.
    decay_rate : Bound
        α of that envelope, (μ X_min)²/(32 X_max).
    rank_excess : Bound
        Of |W|_F² - 2|W|_2² from t_1 on.
    """

    mu: float
    xi: float
    zeta_data: float
    zeta_start: float
    zeta: float
    small_until: Bound
    largest_squared_norm: Bound
    largest_output: Bound
    direction_error: Bound
    aligned: Bound
    log_scale_needed: Bound
    fitting: Bound
    decay_rate: Bound
    rank_excess: Bound


def bounds(x: ArrayLike, y: ArrayLike, W0: ArrayLike, signs: ArrayLike, log_scale: float) -> Bounds:
    """Return the constants of Theorem 1 and its lemmas, with flags.

    The network starts at W = ε W0 and is balanced, v_j = signs_j |w_j|; h is its width. Nothing is
    simulated, and nothing refused: what does not hold is flagged. At the scales that are used in
    practice most of it does not.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples, none of them zero.
    y : array_like, shape (n,)
        Labels, -1 or +1.
    W0 : array_like, shape (h, d)
        Directions and relative sizes of the neurons at the start, none of them zero.
    signs : array_like, shape (h,)
        Signs of the heads, -1 or +1.
    log_scale : float
        log ε.

    Returns
    -------
    Bounds

    Raises
    ------
    TypeError, ValueError
        If an array has the wrong shape, a sample or a neuron is zero, or a label or sign is not ±1.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), Lemmas 1, 3, 4, Theorem 1 and equation (28), with the closed
    forms of ξ and ζ₁ derived here (docs/derivations.md).

    Examples
    --------
    >>> import numpy as np
    >>> from featcore.theory import alignment
    >>> x, y = [[1.0, 0.0], [0.6, 0.8]], [1, 1]
    >>> found = alignment.bounds(x, y, [[1.0, 0.5], [-1.0, 1.0]], [1, 1], log_scale=np.log(1e-6))
    >>> found.mu, round(found.aligned.value, 1), found.aligned.holds
    (0.6, 39.8, False)
    >>> round(found.log_scale_needed.value)
    -319
    >>> alignment.bounds(x, y, [[1.0, 0.5], [-1.0, 1.0]], [1, 1], log_scale=-320).aligned.holds
    True
    """
    samples, labels = labelled(x, y)
    mu = separability(samples, labels)  # refuses zero samples
    neurons = neurons_like("W0", W0, samples)
    heads = float_array("signs", signs, ndim=1).astype(np.float64, copy=False)
    if heads.shape != neurons.shape[:1]:
        raise ValueError(f"signs has shape {heads.shape}; W0 has {neurons.shape[0]} neurons")
    wrong = np.abs(heads) != 1.0
    if wrong.any():
        raise ValueError(
            f"signs has the entry {heads[wrong][0]:g} at {int(np.argmax(wrong))}; they must be -1 or +1"
        )
    log_eps = real("log_scale", log_scale)
    lengths = np.linalg.norm(samples, axis=1)
    sizes = np.linalg.norm(neurons, axis=1)
    if not sizes.all():
        raise ValueError(f"W0 has a zero neuron at {int(np.argmin(sizes))}, which has no direction")

    n, h = len(samples), len(neurons)
    x_min, x_max = float(lengths.min()), float(lengths.max())
    w_min, w_max = float(sizes.min()), float(sizes.max())
    sums = class_sums(samples, labels)
    xi = max(mu, 0.0) ** 2
    zeta_data = _zeta_of_data(samples, labels, sums)
    zeta_start = _zeta_of_start(neurons / sizes[:, None], heads, sums)
    zeta = min(zeta_data, zeta_start)
    tight = min(zeta, xi)

    separable = mu > 0
    apart = zeta_start > 0
    # of Lemma 1: eps <= 1/(4 sqrt(h) X_max W_max^2)
    small = log_eps <= -math.log(4 * math.sqrt(h) * x_max * w_max**2)
    log_spread = log_eps + 0.5 * math.log(h)  # of sqrt(h) eps
    until = -log_spread / (4 * n * x_max)

    t_1 = needed = math.nan
    if tight > 0:
        t_1 = 16 * math.log(n) / (tight * math.sqrt(mu) * x_min)
        needed = min(
            math.log(min(mu, tight) * math.sqrt(mu) * x_min)
            - math.log(4 * math.sqrt(h) * n * x_max**2 * w_max**2),
            -0.5 * math.log(h) - 64 * n * x_max * math.log(n) / (tight * math.sqrt(mu) * x_min),
        )
    theorem = separable and apart and log_eps <= needed
    both = _seen(samples, labels, neurons, heads)
    t_2 = math.nan
    if tight > 0:
        for label in (1.0, -1.0):
            count = int((labels == label).sum())
            if not count:
                continue
            rate = math.sqrt(mu) * count * x_min
            growth = math.log(2 / (math.sqrt(mu) * x_min * w_min**2)) - 2 * log_eps
            fitted = t_1 + 6 / rate + 4 / rate * (growth + 4 * n * x_max * t_1)
            t_2 = fitted if math.isnan(t_2) else max(t_2, fitted)

    lemma = "Lemma 1"
    return Bounds(
        mu=mu,
        xi=xi,
        zeta_data=zeta_data,
        zeta_start=zeta_start,
        zeta=zeta,
        small_until=Bound(until, small, "paper", f"{lemma}: the end of the early phase, T"),
        largest_squared_norm=Bound(
            2 * _exp(log_eps) * w_max**2 / math.sqrt(h),
            small,
            "paper",
            f"{lemma}: |w_j|² for t ≤ T",
        ),
        largest_output=Bound(
            2 * _exp(log_spread) * x_max * w_max**2, small, "paper", f"{lemma}: |f(x_i)| for t ≤ T"
        ),
        direction_error=Bound(
            4 * _exp(log_spread) * n * x_max**2 * w_max**2,
            small,
            "paper",
            "Lemmas 3 and 4: what the directional flow leaves out, per unit of time, for t ≤ T",
        ),
        aligned=Bound(
            t_1,
            theorem,
            "ours",
            "Theorem 1, t_1, with ξ = μ² and min(ζ₁, ζ₂) for the paper's maximum",
        ),
        log_scale_needed=Bound(
            needed,
            separable and apart,
            "ours",
            "equation (28), the same; its min{μ, ζ, ξ} is min{ζ, ξ} here, since ξ = μ² ≤ μ",
        ),
        fitting=Bound(t_2, theorem and both, "ours", "Theorem 1, t_2, with our t_1"),
        decay_rate=Bound(
            (max(mu, 0.0) * x_min) ** 2 / (32 * x_max),
            theorem and both,
            "paper",
            "Theorem 1, α: L(t) ≤ L(t_2)/(1 + α L(t_2)(t - t_2))",
        ),
        rank_excess=Bound(
            4 * _exp(log_spread) * w_max**2,
            theorem,
            "paper",
            "Theorem 1: |W|_F² - 2|W|_2² for t ≥ t_1",
        ),
    )


def _zeta_of_data(samples: Array, labels: Array, sums: tuple[Array, Array]) -> float:
    """Return ζ₁: z is in S_± if its angle to x_± is at most π/2 minus the largest of x_± to a y_i x_i."""
    least = 1.0
    for sign, total in zip((1.0, -1.0), sums, strict=True):
        size = float(np.linalg.norm(total))
        if size == 0:  # no such class, or one that adds up to nothing
            if (labels == sign).any():
                return 0.0
            continue
        cosines = sign * labels * (samples @ total) / np.linalg.norm(samples, axis=1) / size
        least = min(least, max(float(cosines.min()), 0.0) ** 2)
    return least


def _zeta_of_start(directions: Array, heads: Array, sums: tuple[Array, Array]) -> float:
    """Return ζ₂, of the neurons that start closest to the class sum that repels them."""
    least = 1.0
    for sign, repels in ((1.0, sums[1]), (-1.0, sums[0])):
        size = float(np.linalg.norm(repels))
        mine = directions[heads == sign]
        if size and len(mine):
            largest = min(max(float((mine @ repels).max()) / size, 0.0), 1.0)
            least = min(least, (1.0 - largest) * (1.0 + largest))
    return least


def _seen(samples: Array, labels: Array, neurons: Array, heads: Array) -> bool:
    """Return whether some neuron of each sign starts active on its class, so that S_± will have one."""
    return all(
        bool((neurons[heads == sign] @ samples[labels == sign].T > 0).any())
        for sign in (1.0, -1.0)
        if (labels == sign).any()
    )


def _exp(logarithm: float) -> float:
    return math.exp(min(logarithm, 700.0))
