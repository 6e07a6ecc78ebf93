"""Two classes of samples and a network as two independent modes, with what they assume checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore._validation import choice, float_array, real
from featcore.theory._arrays import any_shape
from featcore.theory.modes._piece import LOSSES
from featcore.theory.modes.one_class import Mode, mode

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassMode:
    """One class of data as a mode.

    Attributes
    ----------
    label : int
        -1 or +1.
    samples : ndarray of int
        Rows of x in the class.
    mean : ndarray, shape (d,)
        The vector that the class acts as: its weighted mean, which is the sample itself where all are equal.
    neurons : ndarray of int
        Rows of W that see the class at the start, in the order of `mode`.
    reduction : {"single_vector", "equi_gram", "approximate"}
        Why the class acts as one vector: all samples are equal; or all have the same product with the mean (their
        Gram matrix has equal row sums) and every neuron the same pre-activation on all; or it does not quite.
    mode : Mode
        With y_j = <w_j, mean> and z_j = label·a_j.
    """

    label: int
    samples: NDArray[np.intp]
    mean: Array
    neurons: NDArray[np.intp]
    reduction: str
    mode: Mode


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes of a data set and a network; see `modes`.

    Attributes
    ----------
    classes : tuple of ClassMode
        Label +1 first; one if the data have one.
    exact : bool
        Whether the gradient flow of the network is what the modes say, at all times. If not, `doubts` says why, and
        every answer is an approximation of unknown quality.
    doubts : tuple of str
        Premises that do not hold.
    h1, h2, h3 : bool
        The premises of Lemma 3.1 as the paper has them: positive products within a class and none across; every
        neuron sees all of one class and nothing of the other; the head of a neuron has the sign of its class. The
        modes need less: dead neurons and wrong heads are part of them.
    cross_class_orthogonal : bool
        Whether all products across classes are 0.
    """

    classes: tuple[ClassMode, ...]
    exact: bool
    doubts: tuple[str, ...]
    h1: bool
    h2: bool
    h3: bool
    cross_class_orthogonal: bool
    _W: Array
    _a: Array

    def __getitem__(self, label: int) -> ClassMode:
        """Return the class with this label."""
        for one in self.classes:
            if one.label == label:
                return one
        raise KeyError(f"label {label!r}; the data have {[one.label for one in self.classes]}")

    def weights(self, t: float) -> tuple[Array, Array]:
        """Return (W, a) of the network at time `t` ≥ 0."""
        W, a = self._W.copy(), self._a.copy()
        for one in self.classes:
            y, z = one.mode.neurons(one.mode.s_of_t(t))
            # the part of a neuron across the mean stays
            W[one.neurons] += np.outer(y - one.mode.y0, one.mean / one.mode.norm**2)
            a[one.neurons] = one.label * z
        return W, a


def modes(
    x: ArrayLike,
    y: ArrayLike,
    W: ArrayLike,
    a: ArrayLike,
    loss: str = "logistic",
    *,
    weights: ArrayLike | None = None,
    tolerance: float = 1e-9,
) -> Modes:
    """Return the two classes of a data set as independent modes of a network's gradient flow.

    The network is f(x) = Σ_j a_j relu(<w_j, x>), both layers follow the gradient flow of the (weighted) mean loss.
    Nothing is simulated. Premises are checked, and what does not hold is flagged, not refused: look at `exact`.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Samples. Those of a class act as one vector, their mean, if they are equal, or if all have the same product
        with the mean (orthogonal or equi-correlated ones of one length do) and the same pre-activations.
    y : array_like, shape (n,)
        Labels, -1 or +1.
    W, a : array_like, shapes (m, d) and (m,)
        The network at t = 0.
    loss : {"logistic", "exponential", "hinge", "squared"}
    weights : array_like, shape (n,), optional
        Of the samples in the mean loss, positive; equal by default.
    tolerance : float
        Relative rounding granted to products that ought to be equal or to vanish, at least 0 and below 1. A neuron
        that would grow from such a product is flagged.

    Returns
    -------
    Modes

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong shape or value, the mean of a class vanishes, or a squared loss starts beyond its
        target.

    Notes
    -----
    H1 to H3 are the premises of Lemma 3.1 of Tachet des Combes et al. (arXiv 1809.06848). The exact premises that are
    checked, and the modes of several neurons and of classes of several samples, are derived here
    (docs/derivations.md). A neuron whose head has the wrong sign moves away from its own class; where products across
    classes are negative it thereby moves towards the other, and is flagged if it would be seen there.

    Examples
    --------
    >>> from featcore.theory import modes
    >>> x, y = [[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], [1, 1, -1]
    >>> W, a = [[0.1, -0.1], [-0.2, 0.3]], [0.2, -0.1]
    >>> found = modes.modes(x, y, W, a, "logistic")
    >>> found.exact, found.h1, found[1].reduction
    (True, True, 'single_vector')
    >>> [round(float(one.mode.time_to_learn(modes.target_logit(0.01))), 3) for one in found.classes]
    [28.815, 26.847]
    """
    loss = choice("loss", loss, LOSSES)
    tolerance = real("tolerance", tolerance, least=0.0, below=1.0)
    samples = float_array("x", x, ndim=2).astype(np.float64, copy=False)
    labels = float_array("y", y, ndim=1).astype(np.float64, copy=False)
    if labels.shape != samples.shape[:1]:
        raise ValueError(f"y has shape {labels.shape}; x has {len(samples)} samples")
    if (wrong := np.abs(labels) != 1.0).any():
        raise ValueError(f"y has the entry {labels[wrong][0]:g}; labels must be -1 or +1")
    neurons = float_array("W", W, ndim=2).astype(np.float64)
    heads = float_array("a", a, ndim=1).astype(np.float64)
    if neurons.shape[1] != samples.shape[1] or heads.shape != neurons.shape[:1]:
        raise ValueError(
            f"W has shape {neurons.shape} and a {heads.shape}; x has shape {samples.shape}, so pass W as "
            f"(m, {samples.shape[1]}) and a as (m,)"
        )
    share = np.full(len(labels), 1.0 / len(labels))
    if weights is not None:
        share = any_shape("weights", weights)
        if share.shape != labels.shape or not (share > 0).all():
            raise ValueError(
                f"weights has shape {share.shape} and least entry {share.min(initial=np.inf):g}; pass "
                f"{len(labels)} positive ones"
            )
        share = share / share.sum()
    return _modes(samples, labels, neurons, heads, loss, share, tolerance)


def _modes(
    x: Array, y: Array, W: Array, a: Array, loss: str, share: Array, tolerance: float
) -> Modes:
    lengths, sizes = np.linalg.norm(x, axis=1), np.linalg.norm(W, axis=1)
    # what products may be off by, as they ought to be equal or 0
    slack = tolerance * np.outer(lengths, lengths)
    gram, same = x @ x.T, np.equal.outer(y, y)
    pre, room = x @ W.T, tolerance * np.outer(lengths, sizes)
    doubts: list[str] = []
    classes = []
    for label in (1, -1):
        members = np.flatnonzero(y == label)
        if not members.size:
            continue
        within = share[members] / share[members].sum()
        mean = within @ x[members]
        square = float(mean @ mean)
        if not square > (tolerance * lengths[members].max()) ** 2:
            raise ValueError(f"x has a vanishing mean over label {label:+d}: it is no mode")
        own = pre[members]
        seen = own > room[members]
        active = np.flatnonzero(seen.any(axis=0))
        # a neuron that does not see the class but for rounding stays so, unless it would grow from there
        grows = (own > 0) & (own + math.sqrt(square) * label * a > 0)
        faint = ~seen.any(axis=0) & grows.any(axis=0)
        if faint.any():
            j = int(np.argmax(faint))
            doubts.append(
                f"neuron {j} sees label {label:+d} by {own[:, j].max():.2g}, which is rounding to tolerance="
                f"{tolerance:g}, but which grows: set it to 0, or lower the tolerance"
            )
        alike = np.ptp(own[:, active], axis=0) <= 2 * room[members][:, active].max(axis=0)
        products = x[members] @ mean
        equal = bool((x[members] == x[members[0]]).all())
        level = np.ptp(products) <= 2 * tolerance * lengths[members].max() ** 2
        if not level:
            doubts.append(
                f"samples of label {label:+d} have unequal products with their mean, so their logits differ"
            )
        if not alike.all():
            doubts.append(
                f"neuron {active[np.argmin(alike)]} has unequal pre-activations on label {label:+d}"
            )
        reduction = "single_vector" if equal else "approximate"
        if not equal and level and alike.all():
            reduction = "equi_gram"
        classes.append(
            ClassMode(
                label=label,
                samples=members,
                mean=mean,
                neurons=active,
                reduction=reduction,
                mode=mode(
                    float(np.sqrt(square)),
                    float(share[members].sum()),
                    W[active] @ mean,
                    label * a[active],
                    loss,
                ),
            )
        )
    for one in classes:
        doubts += _crossings(one, x[y != one.label], W, tolerance)
    sees = pre > 0
    whole = [sees[y == one.label].all(axis=0) for one in classes]
    none = [~sees[y == one.label].any(axis=0) for one in classes]
    h2 = np.zeros(len(W), dtype=bool)
    h3 = True
    for k, one in enumerate(classes):
        clean = whole[k].copy()
        for j in range(len(classes)):
            if j != k:
                clean &= none[j]
        h2 |= clean
        h3 &= bool((one.label * a[clean] > 0).all())
    return Modes(
        classes=tuple(classes),
        exact=not doubts,
        doubts=tuple(doubts),
        h1=bool((gram[same] > 0).all() and (gram[~same] <= slack[~same]).all()),
        h2=bool(h2.all()),
        h3=h3,
        cross_class_orthogonal=bool((np.abs(gram[~same]) <= slack[~same]).all()),
        _W=W,
        _a=a,
    )


def _crossings(one: ClassMode, others: Array, W: Array, tolerance: float) -> list[str]:
    """Return which neurons of a class the other class would come to be seen by.

    <w_j, x'> = <w_j(0), x'> + <mean, x'>(y_j(s) - y_j(0))/κ² is largest where y_j is least, if <mean, x'> ≤ 0.
    """
    if not len(others) or not len(one.neurons):
        return []
    mine = one.mode
    r, q = mine.y0, mine.norm * mine.z0
    with np.errstate(invalid="ignore"):
        # of y = P e^{κs} + M e^{-κs}: 2√(PM), where the head starts with the wrong sign
        turning = np.sqrt(np.maximum((r - q) * (r + q), 0.0))
    least = np.where(mine.z0 >= 0, r, np.where(r + q > 0, turning, 0.0))
    products = others @ one.mean
    room = tolerance * np.outer(
        np.linalg.norm(others, axis=1), np.linalg.norm(W[one.neurons], axis=1)
    )
    pre = others @ W[one.neurons].T
    lengths = np.linalg.norm(others, axis=1) * mine.norm
    found = []
    if (both := (pre > room).any(axis=0)).any():
        found.append(f"neuron {one.neurons[np.argmax(both)]} sees both classes")
    towards = products > tolerance * lengths
    if towards.any():
        found.append(
            f"the mean of label {one.label:+d} has a positive product with a sample of the other class, which its "
            "neurons come to see"
        )
    falls = np.where(towards, 0.0, products)[:, None] * (least - mine.y0) / mine.norm**2
    recruited = (pre + falls > room).any(axis=0) & ~both
    if recruited.any():
        found.append(
            f"neuron {one.neurons[np.argmax(recruited)]} of label {one.label:+d} starts with the wrong sign of its "
            "head and turns to the other class"
        )
    return found
