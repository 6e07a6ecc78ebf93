"""Neurons that die instead of learning: from where, when, and how likely."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, integer, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._piece import LOSSES, clock
from featcore.theory.modes._start import deaths, scaled
from featcore.theory.modes.times import positive

Array = NDArray[np.float64]


def failure_region(y0: ArrayLike, z0: ArrayLike, *, norm: ArrayLike) -> NDArray[np.bool_]:
    """Return where a neuron fails to learn its class: y0 ≤ 0 or y0 + κz0 ≤ 0, whatever the loss.

    Parameters
    ----------
    y0, z0, norm : array_like
        Pre-activation, head (times the label) and κ = |x| > 0; they broadcast.

    Returns
    -------
    ndarray of bool, of the common shape
        True where the neuron is dead or dies; also on the line y0 = -κz0, from which it tends to 0 and takes for ever.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    The phases of §3.3 of Tachet des Combes et al. (arXiv 1809.06848); that they do not depend on the loss is derived
    here. The neuron must see no sample of the other class, nor come to: where products across classes are negative one
    that fails may learn the other class instead.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.failure_region([0.4, 0.4, -0.1], [-1.1, -0.5, 1.0], norm=0.7)
    array([ True, False,  True])
    """
    y, z, kappa = np.broadcast_arrays(
        any_shape("y0", y0), any_shape("z0", z0), positive("norm", norm)
    )
    # κz0 may overflow or underflow where √κ z0 does not
    scale = np.sqrt(kappa)
    return np.asarray(~((y > 0) & (y / scale + scale * z > 0)))


def death_time(
    y0: ArrayLike,
    z0: ArrayLike,
    *,
    norm: ArrayLike,
    share: ArrayLike,
    loss: str = "logistic",
) -> Array:
    """Return when a lone neuron of a class dies, entry by entry: ∫ dτ/g(u) until tanh τ = -y0/(κz0), over κp.

    Parameters
    ----------
    y0, z0 : array_like
        Pre-activation and head (times the label) at t = 0; all arguments broadcast.
    norm, share : array_like, positive
        κ and p.
    loss : {"logistic", "exponential", "hinge", "squared"}

    Returns
    -------
    ndarray, of the common shape
        0 where the neuron is dead from the start, infinite where it never dies.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here. The logit of a neuron that dies rises to 0 from below.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> float(modes.death_time(0.4, -1.1, norm=0.7, share=1.0).round(7))
    1.5017792
    """
    loss = choice("loss", loss, LOSSES)
    y, z, kappa, p = np.broadcast_arrays(
        any_shape("y0", y0),
        any_shape("z0", z0),
        positive("norm", norm),
        positive("share", share),
    )
    r, q = scaled(y, z, kappa)
    tau = deaths(r, q)
    dying = np.isfinite(tau) & (tau > 0)
    r, q = np.where(dying, r, 1.0), np.where(dying, q, 0.0)
    A, B = (0.5 * (r + q)) ** 2, (0.5 * (r - q)) ** 2
    T = clock(loss, np.where(dying, tau, 0.0), r * q, A, B)
    with np.errstate(over="ignore"):
        return np.where(dying, T / kappa / p, tau)


def survival_probability(std_ratio: float = 1.0) -> float:
    """Return the chance that a Gaussian neuron learns a class: (π - arctan(1/ρ))/(2π), ρ = σ_w/σ_z; 3/8 at ρ = 1.

    Parameters
    ----------
    std_ratio : float
        ρ, the standard deviation of the entries of w by that of the head, positive.

    Returns
    -------
    float
        Between 1/4 and 1/2.

    Raises
    ------
    TypeError, ValueError
        If `std_ratio` is out of range.

    Notes
    -----
    Derived here: (y/κ, z) is Gaussian in the plane, and `failure_region` bounds an angle. It is of one class and
    neurons that see no sample of the other, or data of one class.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> modes.survival_probability(), round(modes.survival_probability(0.5), 4)
    (0.375, 0.3238)
    """
    rho = real("std_ratio", std_ratio, above=0.0)
    return (0.5 * math.pi + math.atan(rho)) / (2.0 * math.pi)


def never_learnt_probability(width: int, std_ratio: float = 1.0) -> float:
    """Return the chance that none of h Gaussian neurons learns a class, (1 - `survival_probability`)^h.

    Parameters
    ----------
    width : int
        h, at least 0.
    std_ratio : float
        σ_w/σ_z, positive.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here, for data of one class, or neurons that see no sample of the other. (5/8)^h at equal scales.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> round(modes.never_learnt_probability(8), 4)
    0.0233
    """
    h = integer("width", width, least=0)
    return (1.0 - survival_probability(std_ratio)) ** h
