"""Observables: named quantities of (network, data set), recorded along a run.

The plain ones are named by strings; `alignment`, `cosines` and `singular_values` take arguments; any
callable of (network, data set) can be observed too (`custom`). The compiled ones are declared once, in the core;
`reference.observables` has each of them once more in plain numpy.

=================== ========================= ===========================================================
name                dims                      quantity
=================== ========================= ===========================================================
loss                split                     weighted mean (or sum) loss, without penalties
log_loss            split                     its logarithm, right where the loss underflows
objective                                     what is descended: training loss and penalties
accuracy            split                     weighted share of samples with y f > 0
clean_accuracy      split                     the same with the clean labels
margin              split                     min_i y_i f_i
normalised_margin   split                     min_i y_i f_i / (|W|² + |a|²)
smoothed_margin     split                     u with l(u) = Σ_i w_i l_i, over |W|² + |a|²: at most the normalised
                                              margin where w_i ≥ 1, and never falling along the flow once positive
                                              (Lyu and Li 2020); logistic and exponential loss
margins             sample                    y_i f_i of the training samples
norms               neuron                    |w_j|
log_norms           neuron                    ln |w_j|, right where |w_j| underflows; -inf for a zero neuron
head                neuron                    a_j
patterns            split                     number of distinct activation patterns among the neurons
dead                split                     number of neurons inactive on every sample
stable_rank                                   |W|_F² / |W|_2²
balance_drift                                 max_j |(a_j² - |w_j|²) - its value at the start of the run|
weights             neuron, dim               W itself
=================== ========================= ===========================================================

Of a network with a `log_scale` that no dtype holds, sizes (outputs, norms, head, singular values, weights) underflow to
0 as they do in truth; what has no scale (cosines, alignment, stable rank, patterns, accuracy, normalised margin) and
log_norms are right at any scale. In the limit, log_scale = -inf, log_norms are relative to what vanishes: ln(|w_j|/ε).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore import losses
from featcore._dispatch import core, resolve_threads
from featcore._validation import float_array, integer
from featcore.data.dataset import Dataset
from featcore.losses import Loss
from featcore.network import TwoLayerNet

Function = Callable[[TwoLayerNet, Dataset], Any]

SIGNS = ("+", "-")
STATISTICS = ("mean", "min", "max", "mean_neuron")
# Names a history gives its axes and coordinates.
AXES = ("time", "step", "split", "neuron", "sample", "dim", "sign", "statistic", "rank")

_NEED_LOSS = ("loss", "log_loss", "objective", "smoothed_margin")
_NEED_SIGNED_LABELS = ("accuracy", "margin", "normalised_margin", "margins")
_HAVE_MARGINS = ("logistic", "exponential")  # losses that one margin follows from


@dataclass(frozen=True, eq=False)
class Observable:
    """What to record; made by this module's functions, or from a string.

    `kind` names a compiled observable; otherwise `function` is called with (network, data set) at
    every recorded time.
    """

    name: str
    dims: tuple[str, ...] = ()
    per_split: bool = False
    kind: str | None = None
    directions: NDArray[np.float64] | None = None
    labels: tuple[str, ...] | None = None
    count: int = 0
    absolute: bool = False
    function: Function | None = None
    needs_signs: bool = field(default=False, repr=False)


@functools.cache
def _table() -> Mapping[str, tuple[tuple[str, ...], bool, bool]]:
    return {
        name: (tuple(dims.split()), per_split, needs_signs)
        for name, dims, per_split, needs_signs in core.observables()
    }


def names() -> tuple[str, ...]:
    """Return the names that `observe` takes as plain strings.

    Examples
    --------
    >>> import featcore as fc
    >>> "stable_rank" in fc.observables.names()
    True
    """
    takes_arguments = ("alignment", "cosines", "singular_values")
    return (*(name for name in _table() if name not in takes_arguments), "weights")


def get(observable: str | Observable | Function) -> Observable:
    """Return `observable` as an `Observable`: a name of `names()`, an object, or a callable.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or the name is unknown.
    """
    if isinstance(observable, Observable):
        return observable
    if isinstance(observable, str):
        if observable == "weights":
            return Observable("weights", ("neuron", "dim"), function=_weights)
        if observable not in names():
            hint = (
                f"; call fc.observables.{observable}(...) with its arguments"
                if observable in _table()
                else f"; choose from {', '.join(names())}, or pass a callable of (net, data)"
            )
            raise ValueError(f"observe: {observable!r} is unknown{hint}")
        return _native(observable, observable)
    if callable(observable):
        return custom(observable)
    raise TypeError(f"observe: {observable!r} is neither a name, an Observable nor a callable")


def cosines(
    directions: ArrayLike,
    *,
    absolute: bool = False,
    labels: Sequence[str] | None = None,
    name: str = "cosines",
    dim: str = "direction",
) -> Observable:
    """Return the observable cos(w_j, v_k) with dims (neuron, direction).

    Parameters
    ----------
    directions : array_like, shape (k, d) or (d,)
        Non-zero directions v_k, of any length.
    absolute : bool
        Take |cos|.
    labels : sequence of str, optional
        Names of the directions, a coordinate of the result; 0 … k-1 by default.
    name, dim : str
        Names of the variable and of its direction axis in the history; change them to observe two sets.

    Notes
    -----
    The cosine of a zero neuron is 0.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> net = fc.TwoLayerNet([[3.0, 4.0]], [1.0])
    >>> data = fc.Dataset([[1.0, 0.0]], [1])
    >>> fc.observables.evaluate(fc.observables.cosines(np.eye(2)), net, data)
    array([[0.6, 0.8]])
    """
    return _directed("cosines", directions, absolute, labels, name, dim)


def alignment(
    directions: ArrayLike,
    *,
    absolute: bool = False,
    labels: Sequence[str] | None = None,
    name: str = "alignment",
    dim: str = "direction",
) -> Observable:
    """Return statistics of cos(w_j, v_k) over the neurons of each sign of a_j.

    The dims are (direction, sign, statistic): sign "+" or "-" of a_j at the time; statistics "mean",
    "min" and "max" of the cosines, and "mean_neuron", the cosine of the group's mean weight. An
    empty group gives NaN. Arguments as in `cosines`.

    Examples
    --------
    >>> import numpy as np, featcore as fc
    >>> net = fc.TwoLayerNet([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    >>> data = fc.Dataset([[1.0, 0.0]], [1])
    >>> fc.observables.evaluate(fc.observables.alignment([1.0, 0.0]), net, data)[0, 0].round(3)
    array([0.5  , 0.   , 1.   , 0.707])
    """
    return _directed("alignment", directions, absolute, labels, name, dim)


def singular_values(count: int, *, name: str = "singular_values") -> Observable:
    """Return the `count` largest singular values of W, descending, zero past min(m, d); dim rank.

    They come from the smaller of WᵀW and WWᵀ, so those below 1e-8 of the largest are rounding.

    Examples
    --------
    >>> import featcore as fc
    >>> net = fc.TwoLayerNet([[3.0, 0.0], [0.0, 4.0]], [1.0, 1.0])
    >>> data = fc.Dataset([[1.0, 0.0]], [1])
    >>> fc.observables.evaluate(fc.observables.singular_values(2), net, data)
    array([4., 3.])
    """
    observable = _native("singular_values", _identifier("name", name))
    return _replace(observable, count=integer("count", count, least=1))


def custom(
    function: Function,
    *,
    name: str | None = None,
    dims: Sequence[str] = (),
    per_split: bool = False,
) -> Observable:
    """Return an observable that calls `function(net, data)` at every recorded time.

    Parameters
    ----------
    function : callable
        Takes a TwoLayerNet and a Dataset, returns a number or an array whose shape does not change
        along the run. It runs in Python: record at few times.
    name : str, optional
        Name in the history; by default the function's.
    dims : sequence of str
        Names of the axes of the returned array; by default `name_0`, `name_1`, ….
    per_split : bool
        Call it for every split rather than for the training data only.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.observables.custom(lambda net, data: abs(net.a).max(), name="largest_head").name
    'largest_head'
    """
    if not callable(function):
        raise TypeError(f"function={function!r} must be callable with (net, data)")
    label = getattr(function, "__name__", type(function).__name__) if name is None else name
    if isinstance(dims, str):
        raise TypeError(f"dims={dims!r} must be a sequence of names, such as ({dims!r},)")
    axes = tuple(_identifier("dims", dim) for dim in dims)
    if len(set(axes)) < len(axes) or {"time", "step", "split"} & set(axes):
        raise ValueError(
            f"dims={axes} must be different names, none of them 'time', 'step' or 'split'"
        )
    if not isinstance(per_split, bool):
        raise TypeError(f"per_split={per_split!r} must be True or False")
    return Observable(_identifier("name", label), axes, per_split, function=function)


def evaluate(
    observable: str | Observable | Function,
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss = "logistic",
    *,
    num_threads: int | None = None,
) -> Any:
    """Return one observable of a network on a data set, as a float or an array.

    Raises
    ------
    TypeError, ValueError
        If network, data, loss or observable do not fit one another.

    Examples
    --------
    >>> import featcore as fc
    >>> net = fc.TwoLayerNet([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
    >>> round(fc.observables.evaluate("stable_rank", net, fc.Dataset([[1.0, 0.0]], [1])), 12)
    1.25
    """
    check_net(net)
    loss = losses.get(loss)
    observable = get(observable)
    scaled = net.underflows and net.activation.homogeneous and loss.name != "hinge"
    if not scaled:
        net = net.absorbed()
    check_match(net, data, loss if observable.kind in _NEED_LOSS else None)
    check(observable, net, {"data": data}, loss)
    columns = Columns((observable,), net, {"data": data}, rows=1 + scaled)
    if observable.kind is None:
        columns.on_row(0, net)
    elif scaled:
        _evaluate_scaled(columns, net, data, loss, resolve_threads(num_threads))
    else:
        *_, error, _ = core.descend(
            net.W.copy(),
            net.a.copy(),
            net.activation.spec,
            [(data.x, data.y, data.clean_y, data.weights)],
            (loss.name, True, 0.0, 0.0),
            balance(net),
            (1.0, 0, 0, 1.0, 1.0, -np.inf, -np.inf, np.inf),
            np.zeros(0, dtype=np.int64),
            columns.native(),
            np.zeros(1, dtype=np.int64),
            None,
            None,
            resolve_threads(num_threads),
        )
        if error is not None:  # a signal: the value is not there
            raise error
    value = columns.arrays[observable.name][0]
    if observable.per_split:
        value = value[0]
    return value if value.ndim else value.item()


def _evaluate_scaled(
    columns: Columns, net: TwoLayerNet, data: Dataset, loss: Loss, num_threads: int
) -> None:
    """Fill the first row of the columns with that of a flow to t = 0, which has room for one more."""
    assert net.log_scale is not None
    result = core.flow(
        net.W.copy(),
        net.a.copy(),
        net.activation.spec,
        [(data.x, data.y, data.clean_y, data.weights)],
        (loss.name, True, 0.0, 0.0),
        balance(net),
        "event",
        (0.0, 0.0, 1e-6, 0.0, 0.0, 1.0, 1.0, -np.inf, -np.inf, np.inf, 1, 0),
        np.zeros(1),
        columns.native(),
        None,
        None,
        None,
        num_threads,
        scales=(net.log_scale, np.ones(net.width)),
    )
    if result["error"] is not None:  # a signal: the value is not there
        raise result["error"]


def balance(net: TwoLayerNet) -> NDArray[np.float64]:
    """Return a_j² - |w_j|², shape (m,), in float64: the same bits as the core's."""
    return core.balance(net.W, net.a)


def check_net(net: TwoLayerNet) -> None:
    """Raise unless `net` is a network."""
    if not isinstance(net, TwoLayerNet):
        raise TypeError(f"net is a {type(net).__name__}; pass a featcore.TwoLayerNet(W, a)")


def check_match(net: TwoLayerNet, data: Dataset, loss: Loss | None, name: str = "data") -> None:
    """Raise unless `data` suits the network's dtype and dimension and the loss's labels."""
    if not isinstance(data, Dataset):
        raise TypeError(f"{name} is a {type(data).__name__}; pass a featcore.Dataset(x, y)")
    if data.dtype != net.dtype:
        raise TypeError(
            f"{name} is {data.dtype} and the network {net.dtype}; convert one with .astype(np.{net.dtype})"
        )
    if data.d != net.dim:
        raise ValueError(
            f"{name} has dimension {data.d} and the network {net.dim}; they must agree"
        )
    if loss is not None and loss.needs_signs:
        check_signs(data.y, f"{name}.y", f"the {loss.name} loss")


def check_signs(labels: NDArray[Any], name: str, user: str) -> None:
    """Raise unless every label is -1 or +1."""
    wrong = np.flatnonzero(np.abs(labels) != 1)
    if wrong.size:
        raise ValueError(
            f"{name}[{wrong[0]}]={labels[wrong[0]]:g}, but {user} needs labels -1 or +1; "
            "map them, for example with np.where(y > 0, 1, -1)"
        )


def check(
    observable: Observable, net: TwoLayerNet, splits: Mapping[str, Dataset], loss: Loss
) -> None:
    """Raise if `observable` cannot be had of this network, these splits and this loss."""
    if observable.kind == "smoothed_margin" and loss.name not in _HAVE_MARGINS:
        raise ValueError(
            f"observe: 'smoothed_margin' of the {loss.name} loss is not defined; it takes the logistic or the "
            "exponential loss"
        )
    if observable.directions is not None and observable.directions.shape[1] != net.dim:
        raise ValueError(
            f"observe: the directions of {observable.name!r} have dimension "
            f"{observable.directions.shape[1]} and the network {net.dim}"
        )
    if observable.needs_signs and not net.activation.by_sign:
        raise ValueError(
            f"observe: {observable.name!r} counts activation patterns, which {net.activation!r} has not; "
            "it needs ReLU or leaky ReLU"
        )
    for split, data in splits.items():
        if observable.kind in _NEED_SIGNED_LABELS and not (np.abs(data.y) == 1).all():
            raise ValueError(
                f"observe: {observable.name!r} needs labels -1 or +1; {split!r} has others"
            )
        if observable.kind == "clean_accuracy" and data.clean_y is None:
            raise ValueError(
                f"observe: 'clean_accuracy' needs clean labels, and {split!r} has none; "
                "build it with Dataset(..., clean_y=...)"
            )
        if observable.kind == "clean_accuracy" and data.clean_y is not None:
            check_signs(data.clean_y, f"{split}.clean_y", "'clean_accuracy'")


class Columns:
    """Arrays of a history: one a observable, with room for `rows` rows. Filled by the core or `on_row`.

    With `earlier`, the columns that these rows will follow, Python observables must keep their shapes.
    """

    def __init__(
        self,
        observables: Iterable[Observable],
        net: TwoLayerNet,
        splits: Mapping[str, Dataset],
        rows: int,
        earlier: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.observables = tuple(observables)
        self._splits = dict(splits)
        self._rows = rows
        self._sizes = {
            "split": len(splits),
            "neuron": net.width,
            "sample": next(iter(splits.values())).n,
            "dim": net.dim,
            "sign": 2,
            "statistic": 4,
        }
        self.arrays: dict[str, NDArray[Any]] = {}
        for o in self.observables:
            if o.kind is None:
                if earlier is not None and o.name in earlier:
                    self._add(o, earlier[o.name].shape[1:], earlier[o.name].dtype)
                continue
            own = {**self._sizes, "rank": o.count}
            if o.directions is not None:
                own[_direction_dim(o)] = o.directions.shape[0]
            shape = tuple(own[dim] for dim in o.dims)
            self._add(o, (len(splits), *shape) if o.per_split else shape, np.dtype(np.float64))

    @property
    def has_functions(self) -> bool:
        """Whether any observable is a Python callable."""
        return any(o.kind is None for o in self.observables)

    def native(self) -> list[Any]:
        """Return what the core needs to fill its columns."""
        return [
            (
                o.kind,
                o.directions,
                o.count,
                o.absolute,
                list(range(len(self._splits))) if o.per_split else [0],
                self.arrays[o.name],
            )
            for o in self.observables
            if o.kind is not None
        ]

    def on_row(self, row: int, net: TwoLayerNet) -> None:
        """Call the Python observables for `row`."""
        train = next(iter(self._splits.values()))
        for o in self.observables:
            if o.function is None:
                continue
            targets = list(self._splits.values()) if o.per_split else [train]
            values = [np.asarray(o.function(net, data)) for data in targets]
            value = np.stack(values) if o.per_split else values[0]
            if value.dtype.kind not in "biuf":
                raise TypeError(
                    f"observable {o.name!r} returned dtype {value.dtype}; return real numbers"
                )
            if o.name not in self.arrays:
                kind = value.dtype if value.dtype.kind == "f" else np.dtype(np.float64)
                self._add(o, value.shape, kind)
            column = self.arrays[o.name]
            if column.shape[1:] != value.shape:
                raise ValueError(
                    f"observable {o.name!r} returned shape {value.shape} after {column.shape[1:]}; "
                    "its shape must not change along a run"
                )
            column[row] = value

    def _add(self, o: Observable, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        for dim, size in zip(dims_of(o, len(shape)), shape, strict=True):
            if self._sizes.setdefault(dim, size) != size:
                raise ValueError(
                    f"observable {o.name!r} has {size} entries along {dim!r}, which has "
                    f"{self._sizes[dim]} elsewhere in this run; name its axis otherwise"
                )
        self.arrays[o.name] = np.full((self._rows, *shape), np.nan, dtype=dtype)


def dims_of(observable: Observable, ndim: int) -> tuple[str, ...]:
    """Return the names of the `ndim` axes of one recorded value, split axis included."""
    own = ndim - observable.per_split
    dims = observable.dims
    if observable.kind is None and len(dims) != own:
        if dims:
            raise ValueError(
                f"observable {observable.name!r} returns {own} axes, but dims names {len(dims)}: {dims}"
            )
        dims = tuple(f"{observable.name}_{k}" for k in range(own))
    return ("split", *dims) if observable.per_split else dims


def _native(kind: str, name: str, **changes: Any) -> Observable:
    dims, per_split, needs_signs = _table()[kind]
    return Observable(
        name, changes.pop("dims", dims), per_split, kind, needs_signs=needs_signs, **changes
    )


def _replace(observable: Observable, **changes: Any) -> Observable:
    from dataclasses import replace

    return replace(observable, **changes)


def _directed(
    kind: str,
    directions: ArrayLike,
    absolute: bool,
    labels: Sequence[str] | None,
    name: str,
    dim: str,
) -> Observable:
    array = np.asarray(directions)
    vectors = float_array(
        "directions", np.atleast_2d(array) if array.ndim <= 1 else directions, ndim=2
    )
    vectors = np.array(vectors, dtype=np.float64)
    zero = np.flatnonzero(~vectors.any(axis=1))
    if zero.size:
        raise ValueError(f"directions[{zero[0]}] is zero; a direction must have a length")
    if labels is not None and len(labels) != len(vectors):
        raise ValueError(f"labels has {len(labels)} names for {len(vectors)} directions")
    if not isinstance(absolute, bool):
        raise TypeError(f"absolute={absolute!r} must be True or False")
    if _identifier("dim", dim) in AXES:
        raise ValueError(
            f"dim={dim!r} is the name of another axis; choose any but {', '.join(AXES)}"
        )
    if labels is not None and not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels={labels!r} must be strings")
    dims = tuple(dim if d == "direction" else d for d in _table()[kind][0])
    vectors.flags.writeable = False
    return _native(
        kind,
        _identifier("name", name),
        dims=dims,
        directions=vectors,
        labels=None if labels is None else tuple(labels),
        absolute=absolute,
    )


def _identifier(argument: str, name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        hint = "; pass name= for a lambda" if name == "<lambda>" else ""
        raise ValueError(f"{argument}={name!r} must be an identifier{hint}")
    return name


def _direction_dim(observable: Observable) -> str:
    """Return the name of the direction axis, which the user may have chosen."""
    return next(dim for dim in observable.dims if dim not in ("neuron", "sign", "statistic"))


def _weights(net: TwoLayerNet, _data: Dataset) -> NDArray[Any]:
    if net.log_scale is None:
        return net.W
    with np.errstate(over="ignore", under="ignore"):
        real: NDArray[Any] = (np.exp(net.log_scale)[:, None] * net.W).astype(net.dtype)
    return real
