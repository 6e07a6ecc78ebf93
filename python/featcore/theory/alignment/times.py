"""Times of the phases of learning from a small start, and how fast the loss falls in the end.

Times depend on how the loss is reduced. The paper's flow follows the **sum** over samples; a mean
loss takes n times as long, and step k of gradient descent with step size η is at t = ηk. Times of
the early phase assume a residual of modulus 1 at f = 0 (exponential or squared loss, or twice the
logistic); for the plain logistic loss it is 1/2 and they double.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import integer, real
from featcore.theory._arrays import any_shape

Array = NDArray[np.float64]


def entry_time(theta0: ArrayLike, a: float) -> Array:
    """Return when a neuron that sees one of two points sees both: ln[tan(θ0/2)/tan(a/2)].

    The data are two positive unit points at an angle π/2 - a, that is <x1, x2> = sin a. The neuron
    (balanced, v = |w|, infinitesimal) lies in the plane of the two, at the angle θ0 from x1 on the
    side away from x2. It sees x1 (θ0 < π/2) and, if θ0 > a, not x2: then only x1 attracts it, dθ/dt
    = -sin θ, and it sees x2 too, thus is in S_plus, once θ = a. For θ0 <= a it starts there and the
    time is 0. A neuron out of the plane, at the same angle from x1, needs less.

    Parameters
    ----------
    theta0 : array_like of any shape
        Initial angle from x1 in radians, in [0, π/2).
    a : float
        π/2 minus the angle between the points, in (0, π/2].

    Returns
    -------
    ndarray, shape of `theta0`
        Sum-loss time; see the module for other losses.

    Raises
    ------
    TypeError, ValueError
        If an angle is out of range.

    Notes
    -----
    Derived here, from the directional flow of Min, Mallada and Vidal (ICLR 2024), equation (4).

    Examples
    --------
    >>> import math
    >>> from featcore.theory import alignment
    >>> round(float(alignment.entry_time(math.radians(80), a=0.1)), 3)
    2.819
    """
    theta = any_shape("theta0", theta0)
    a = real("a", a, above=0.0, most=math.pi / 2)
    outside = (theta < 0) | (theta >= math.pi / 2)
    if outside.any():
        raise ValueError(
            f"theta0 has the entry {theta[outside].flat[0]:g}; it must lie in [0, π/2): a neuron "
            "at π/2 or more from x1, on the side away from x2, sees neither point and never moves"
        )
    start = np.maximum(theta, a)
    # numpy's tangent and math's differ in the last digit, which would make θ = a a negative time
    return np.maximum(np.log(np.tan(0.5 * start) / math.tan(0.5 * a)), 0.0)


def slowest_entry_time(mu: float) -> float:
    """Return the supremum of `entry_time`: ln cot(a/2) = arccosh(1/μ), where sin a = μ.

    About ln(2/μ) for small μ.

    Parameters
    ----------
    mu : float
        Correlation <x1, x2> of the two positive unit points, in (0, 1].

    Returns
    -------
    float
        Sum-loss time; see the module for other losses.

    Raises
    ------
    TypeError, ValueError
        If `mu` is out of range.

    Notes
    -----
    Derived here. It is exact for two points; the paper's general bound is far larger.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> [round(alignment.slowest_entry_time(mu), 3) for mu in (0.1, 0.03, 0.01)]
    [2.993, 4.199, 5.298]
    """
    mu = real("mu", mu, above=0.0, most=1.0)
    # cot(a/2) = (1 + cos a)/sin a; (1-μ)(1+μ) keeps cos a accurate near μ = 1
    return math.log1p(math.sqrt((1.0 - mu) * (1.0 + mu))) - math.log(mu)


def loss_envelope(
    t: ArrayLike, loss_t2: float, t2: float, *, mu: float, x_min: float, x_max: float
) -> Array:
    """Return the paper's upper bound on the loss after alignment, L(t2)/(1 + αL(t2)(t - t2)).

    α = (μ X_min)²/(32 X_max). It is an envelope: the loss of a two-homogeneous network falls
    faster, in the end as 1/(t log t).

    Parameters
    ----------
    t : array_like of any shape
        Sum-loss times, at least `t2`.
    loss_t2 : float
        L(t2), the **sum** of the sample losses, positive.
    t2 : float
        The paper's t_2: by then each class has had a sample with |f| > 1/4.
    mu : float
        Separability μ, in (0, 1].
    x_min, x_max : float
        Least and largest norm of a sample, positive.

    Returns
    -------
    ndarray, shape of `t`
        Bound on the sum loss.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Min, Mallada and Vidal (ICLR 2024), Theorem 1, which asks for S_plus and S_minus both to be
    populated.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> alignment.loss_envelope([0.0, 32.0], loss_t2=1.0, t2=0.0, mu=1.0, x_min=1.0, x_max=1.0)
    array([1. , 0.5])
    """
    times = any_shape("t", t)
    loss = real("loss_t2", loss_t2, above=0.0)
    t2 = real("t2", t2)
    mu = real("mu", mu, above=0.0, most=1.0)
    x_min = real("x_min", x_min, above=0.0)
    x_max = real("x_max", x_max, least=x_min)
    if times.size and times.min() < t2:
        raise ValueError(
            f"t has the entry {times.min():g} before t2={t2:g}; the bound holds from t2 on"
        )
    alpha = (mu * x_min) ** 2 / (32.0 * x_max)
    return np.asarray(loss / (1.0 + alpha * loss * (times - t2)))


def drop_time(n: int, class_sum_norm: float, init_std: float, fitted_norm: float = 0.175) -> float:
    """Return when a class starts to be fitted: the mean-loss time n ln(w*/α)/|x_±|.

    Aligned neurons grow from the initial scale α at the rate |x_±|/n; the loss drops once they
    reach the norm w* at which together they give an output of order 1.

    Parameters
    ----------
    n : int
        Number of samples of both classes, at least 1.
    class_sum_norm : float
        |x_+| or |x_-|, the norm of the class's sum (`class_sums`), positive.
    init_std : float
        α, the standard deviation of the initial entries of W and v, positive; below `fitted_norm`.
    fitted_norm : float
        w*, in units of the weights. With N aligned neurons and samples of norm X it is of order
        1/√(NX); the default 0.175 is **calibrated** at 50 neurons and X = 1. A factor 2 in w*
        shifts the time by n ln 2/|x_±|.

    Returns
    -------
    float
        Mean-loss time; divide by the step size for steps of gradient descent.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the weights start at the fitted norm already.

    Notes
    -----
    Derived here, but for the default of `fitted_norm`. Neglected: the time lost before alignment,
    in which a neuron grows more slowly.

    Examples
    --------
    >>> from featcore.theory import alignment
    >>> round(alignment.drop_time(n=2, class_sum_norm=1.483, init_std=1e-6), 1)
    16.3
    """
    n = integer("n", n, least=1)
    size = real("class_sum_norm", class_sum_norm, above=0.0)
    start = real("init_std", init_std, above=0.0)
    end = real("fitted_norm", fitted_norm, above=0.0)
    if start >= end:
        raise ValueError(
            f"init_std={start:g} is not below fitted_norm={end:g}: there is no early phase; "
            "use a smaller initial scale"
        )
    # A difference of logarithms: the ratio overflows at the scales this regime is about.
    return n * (math.log(end) - math.log(start)) / size
