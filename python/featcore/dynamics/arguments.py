"""What every dynamics asks of its arguments: checked, named in errors, and written down as settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from featcore import losses, observables
from featcore._validation import choice, real
from featcore.data.dataset import Dataset
from featcore.dynamics.gradient import REDUCTIONS
from featcore.dynamics.recording import Recording
from featcore.dynamics.run import Run, State
from featcore.dynamics.scales import carried, log_epsilon, squared_sizes
from featcore.losses import Loss
from featcore.network import TwoLayerNet
from featcore.observables import Function, Observable, check_match, check_net

LAYERS = ("W", "a")


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, data and an objective that fit each other; `settings` say all of it in plain values."""

    net: TwoLayerNet
    loss: Loss
    splits: Mapping[str, Dataset]
    observed: tuple[Observable, ...]
    settings: dict[str, Any]

    def start(self, form: str) -> State:
        """Return the state in which a run begins."""
        arrays = {"balance": observables.balance(self.net)}
        if self.net.log_scale is not None:
            arrays |= {"log_scale": self.net.log_scale, "sizes": squared_sizes(self.net)}
        return State(State.VERSION, form, 0, arrays)


class Common(TypedDict):
    """Arguments that all dynamics share, in name and meaning."""

    train: Sequence[str]
    layer_rates: Mapping[str, float] | None
    reduction: str
    weight_decay: float
    output_penalty: float
    evaluate: Mapping[str, Dataset] | None
    observe: Iterable[str | Observable | Function]


def problem(
    net: TwoLayerNet,
    data: Dataset,
    loss: str | Loss,
    sha256: Callable[[Dataset], str],
    *,
    train: Sequence[str],
    layer_rates: Mapping[str, float] | None,
    reduction: str,
    weight_decay: float,
    output_penalty: float,
    evaluate: Mapping[str, Dataset] | None,
    observe: Iterable[str | Observable | Function],
    carries_scales: bool = False,
) -> Problem:
    """Check what dynamics have in common; `sha256` hashes a data set.

    With `carries_scales`, a network keeps its `log_scale`; else its weights must hold it.
    """
    check_net(net)
    given = net
    if not carries_scales:
        net = absorbed(net)
    loss = losses.get(loss)
    splits = _splits(net, data, evaluate, loss)
    if carries_scales and net.log_scale is not None:
        net = carried(net, float(np.abs(data.x).max()))
    observed = _observed(observe, net, splits, loss)
    rates = _rates(train, layer_rates)
    settings = {
        "loss": loss.name,
        "reduction": choice("reduction", reduction, REDUCTIONS),
        "weight_decay": real("weight_decay", weight_decay, least=0.0),
        "output_penalty": real("output_penalty", output_penalty, least=0.0),
        "rate_W": rates[0],
        "rate_a": rates[1],
        "splits": list(splits),
        "data_sha256": [sha256(split) for split in splits.values()],
        "net_sha256": given.sha256() if carries_scales else net.sha256(),
        "provenance": [_plain(split.provenance) for split in splits.values()],
    }
    if net.log_scale is not None:
        settings["log_epsilon"] = log_epsilon(net)
    return Problem(net, loss, splits, observed, settings)


def absorbed(net: TwoLayerNet) -> TwoLayerNet:
    """Return `net` with its scales in its weights.

    Raises
    ------
    ValueError
        If these cannot hold them; the message names what can.
    """
    try:
        return net.absorbed()
    except ValueError as error:
        if not net.underflows:
            raise
        raise ValueError(
            f"{error}, and follow it by fc.flow with method='event' and a loss other than the hinge, which carries "
            "log_scale of ReLU and leaky ReLU"
        ) from error


def objective(settings: Mapping[str, Any]) -> tuple[str, bool, float, float]:
    """Return the objective that settings name, as the core takes it."""
    return (
        settings["loss"],
        settings["reduction"] == "mean",
        settings["weight_decay"],
        settings["output_penalty"],
    )


def resumed(
    run: Run,
    data: Dataset | None,
    evaluate: Mapping[str, Dataset] | None,
    observe: Iterable[str | Observable | Function] | None,
) -> Problem:
    """Return the problem of a run that is to go on, from where it stands."""
    if run.state.version != State.VERSION:
        raise ValueError(
            f"the state has version {run.state.version} and this featcore continues version {State.VERSION}; "
            "continue it with the featcore that wrote it, or start a new run from run.net"
        )
    splits = _same_splits(run, data, evaluate)
    loss = losses.get(run.settings["loss"])
    observed = run.observed if observe is None else _observed(observe, run.net, splits, loss)
    if {o.name for o in observed} != {o.name for o in run.observed}:
        raise ValueError(
            f"observe has {[o.name for o in observed]}; a continued run records what it recorded "
            f"before: {[o.name for o in run.observed]}"
        )
    lost = [o.name for o in observed if o.kind is None and o.function is None]
    if lost:
        raise ValueError(
            f"observe: Python observables {lost} are not stored in a file; pass observe="
        )
    return Problem(run.net, loss, splits, observed, dict(run.settings))


def recording(record: Recording | None) -> Recording:
    """Return when to record."""
    if record is not None and not isinstance(record, Recording):
        raise TypeError(
            f"record={record!r} must be a Recording, such as fc.Recording.log(per_decade=20)"
        )
    return Recording.log() if record is None else record


def _splits(
    net: TwoLayerNet, data: Dataset, evaluate: Mapping[str, Dataset] | None, loss: Loss
) -> dict[str, Dataset]:
    check_match(net, data, loss)
    splits = {"train": data}
    for name, split in _mapping("evaluate", evaluate, "{'test': test}").items():
        if name == "train" or not name or type(name) is not str:
            raise ValueError(
                f"evaluate has a split named {name!r}; use any other string than 'train'"
            )
        check_match(net, split, loss, f"evaluate[{name!r}]")
        splits[name] = split
    return splits


def _same_splits(
    run: Run, data: Dataset | None, evaluate: Mapping[str, Dataset] | None
) -> Mapping[str, Dataset]:
    """Return the data sets of a run, checked against their hashes if they were passed again."""
    if data is None and evaluate is None and run.splits is not None:
        return run.splits
    if data is None and run.splits is not None:
        data = run.splits["train"]
    if data is None:
        raise ValueError("data is not stored in the file of a run; pass the training data as data=")
    splits = {"train": data, **_mapping("evaluate", evaluate, "{'test': test}")}
    names = run.settings["splits"]
    if list(splits) != names:
        raise ValueError(f"evaluate has splits {list(splits)[1:]}; the run has {names[1:]}")
    for (name, split), expected in zip(splits.items(), run.settings["data_sha256"], strict=True):
        if not isinstance(split, Dataset):
            raise TypeError(f"split {name!r} is a {type(split).__name__}; pass a featcore.Dataset")
        if split.sha256() != expected:
            raise ValueError(
                f"the data of split {name!r} are not those of the run (their SHA-256 differs)"
            )
    return splits


def _observed(
    observe: Iterable[str | Observable | Function],
    net: TwoLayerNet,
    splits: Mapping[str, Dataset],
    loss: Loss,
) -> tuple[Observable, ...]:
    if isinstance(observe, (str, Observable)) or callable(observe) or not np.iterable(observe):
        raise TypeError(f"observe={observe!r} must be a list, such as ['loss']")
    observed = tuple(observables.get(o) for o in observe)
    directions: dict[str, Observable] = {}
    names: set[str] = set()
    for o in observed:
        if o.name in names or o.name in observables.AXES:
            raise ValueError(
                f"observe: the name {o.name!r} is taken; give one of them another with name="
            )
        names.add(o.name)
        observables.check(o, net, splits, loss)
        for dim in o.dims if o.directions is not None else ():
            if dim in ("neuron", "sign", "statistic"):
                continue
            other = directions.setdefault(dim, o)
            if other.labels != o.labels or not np.array_equal(other.directions, o.directions):  # type: ignore[arg-type]
                raise ValueError(
                    f"observe: {other.name!r} and {o.name!r} have different directions on one axis "
                    f"{dim!r}; name one axis otherwise with dim="
                )
    for name in names & {dim for o in observed for dim in o.dims}:
        raise ValueError(f"observe: {name!r} names both an observable and an axis; rename one")
    return observed


def _plain(value: Any) -> Any:
    """Return `value` in types that JSON has; anything else as text, since a run must be storable."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _rates(train: Sequence[str], layer_rates: Mapping[str, float] | None) -> tuple[float, float]:
    layers = (train,) if isinstance(train, str) or not np.iterable(train) else tuple(train)
    if not layers or any(layer not in LAYERS for layer in layers):
        raise ValueError(f"train={train!r} must name layers to train: 'W', 'a' or both")
    if len(set(layers)) < len(layers):
        raise ValueError(f"train={train!r} names a layer twice")
    rates = dict.fromkeys(LAYERS, 1.0)
    for layer, rate in _mapping("layer_rates", layer_rates, "{'W': 1, 'a': 0.1}").items():
        choice("layer_rates key", layer, LAYERS)
        rates[layer] = real(f"layer_rates[{layer!r}]", rate, least=0.0)
    W, a = (rates[layer] if layer in layers else 0.0 for layer in LAYERS)
    return W, a


def _mapping(name: str, value: Mapping[str, Any] | None, example: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}; pass a mapping, such as {example}")
    return value or {}
