"""What no classifier on XOR clusters goes below: the loss under label noise, and errors."""

from __future__ import annotations

import math

from featcore._validation import real
from featcore.theory._xor import checked_label_noise


def loss_floor(label_noise: float) -> float:
    """Return the least population logistic loss, H(η) = -η ln η - (1-η) ln(1-η).

    It is reached at |f| = ln((1-η)/η) and bounds the loss on fresh noisy data from below, not the
    training loss, which can fit the noise.

    Parameters
    ----------
    label_noise : float
        η, between 0 and 1/2.

    Returns
    -------
    float
        Nats.

    Raises
    ------
    TypeError, ValueError
        If `label_noise` is out of range.

    Notes
    -----
    Derived here (the entropy of a flip; clean errors of the clusters' overlap only raise it).

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.loss_floor(0.15), 4)
    0.4227
    """
    eta = checked_label_noise(label_noise)
    return -eta * math.log(eta) - (1.0 - eta) * math.log1p(-eta) if eta > 0 else 0.0


def oracle_error(cluster_std: float, mean_norm: float = 1.0) -> float:
    """Return the clean error of the rule |<x, μ1>| > |<x, μ2>|: 2Q(1-Q), Q = P(N(0,1) > R/(√2 σ)).

    By symmetry the rule is the best there is for Gaussian clusters.

    Parameters
    ----------
    cluster_std : float
        σ, at least 0.
    mean_norm : float
        R, positive.

    Returns
    -------
    float
        Probability that the rule differs from the clean label.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> round(amplification.oracle_error(0.3), 4)
    0.0183
    """
    sigma = real("cluster_std", cluster_std, least=0.0)
    norm = real("mean_norm", mean_norm, above=0.0)
    # Q(z) = erfc(z/√2)/2 at z = R/(√2 σ)
    tail = 0.5 * math.erfc(norm / (2.0 * sigma)) if sigma > 0 else 0.0
    return 2.0 * tail * (1.0 - tail)


def noisy_error(label_noise: float, clean_error: float) -> float:
    """Return the error η + (1-2η)p against flipped labels of a rule with clean error p.

    Parameters
    ----------
    label_noise : float
        η, between 0 and 1/2; flips independent of x.
    clean_error : float
        p, between 0 and 1.

    Returns
    -------
    float
        Probability that the rule differs from the noisy label.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Derived here.

    Examples
    --------
    >>> from featcore.theory import amplification
    >>> amplification.noisy_error(label_noise=0.25, clean_error=0.5)
    0.5
    """
    eta = checked_label_noise(label_noise)
    return eta + (1.0 - 2.0 * eta) * real("clean_error", clean_error, least=0.0, most=1.0)
