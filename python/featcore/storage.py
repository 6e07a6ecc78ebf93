"""Runs to and from netCDF-4: self-describing, nothing pickled.

Groups of a file: `/history` (as `run.history`), `/net` (W, a, log_scale), `/state`, `/directions` (of the observables
that have them), `/events` (of a flow, if kept). Settings, outcome and observables are JSON attributes of the root.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcore import activations, observables
from featcore.dynamics.run import Events, Outcome, Rows, Run, State
from featcore.network import TwoLayerNet
from featcore.observables import Observable

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "featcore run"
FORMAT_VERSION = 1


def save(run: Run, path: str | Path) -> None:
    """Write `run` to `path`; see `Run.save`."""
    import xarray as xr

    target = Path(path)
    root = xr.Dataset(
        attrs={
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "settings": json.dumps(dict(run.settings)),
            "activation": json.dumps(activations.describe(run.net.activation)),
            "observables": json.dumps([_describe(o) for o in run.observed]),
            "has_events": int(run.found is not None),
        }
    )
    history = run.history
    root.attrs["outcome"] = json.dumps({**asdict(run.outcome), "counts": dict(run.outcome.counts)})
    net = xr.Dataset({"W": (("neuron", "dim"), run.net.W), "a": ("neuron", run.net.a)})
    if run.net.log_scale is not None:
        net["log_scale"] = ("neuron", run.net.log_scale)
    state = xr.Dataset(
        {name: ([f"{name}_{k}" for k in range(v.ndim)], v) for name, v in run.state.arrays.items()},
        attrs={"version": run.state.version, "form": run.state.form, "step": run.state.step},
    )
    directions = xr.Dataset(
        {
            o.name: ([f"{o.name}_direction", "dim"], o.directions)
            for o in run.observed
            if o.directions is not None
        }
    )
    groups = {"/": root, "history": history, "net": net, "state": state, "directions": directions}
    if run.events is not None:
        groups["events"] = run.events
    _write(groups, target)


def load(path: str | Path) -> Run:
    """Read a run that `Run.save` wrote.

    The data sets are not in the file: `continue_` asks for them and checks their SHA-256. Python observables are
    in the history, but to continue they must be passed again.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a featcore run, or of a newer format.

    Examples
    --------
    >>> import tempfile, pathlib, featcore as fc
    >>> net = fc.TwoLayerNet.gaussian(width=4, dim=2, scale=0.1)
    >>> run = fc.descend(net, fc.Dataset([[1.0, 0.0]], [1]), step_size=0.1, steps=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "run.nc")
    ...     run.save(file)
    ...     again = fc.load(file)
    >>> bool((again.net.W == run.net.W).all()), again.outcome.status
    (True, 'reached_end')
    """
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"path={str(source)!r} does not exist")
    if source.is_dir():
        raise IsADirectoryError(f"path={str(source)!r} is a folder; name a file in it")
    try:
        root = _read(source, "/")
    except _DAMAGE as error:
        raise ValueError(
            f"path={str(source)!r} is not a netCDF-4 file, or is damaged: {error}"
        ) from error
    if root.attrs.get("format") != FORMAT:
        raise ValueError(f"path={str(source)!r} is a netCDF file, but not a featcore run")
    try:
        version = int(root.attrs["format_version"])
    except _DAMAGE as error:
        raise ValueError(f"path={str(source)!r} is damaged: it has no format version") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"path={str(source)!r} has format {version}; this featcore reads up to {FORMAT_VERSION}: "
            "install a newer one"
        )
    try:
        groups = [_read(source, group) for group in ("history", "net", "state", "directions")]
        run = _run(root, *groups)
        if root.attrs.get("has_events", 0):
            run.found = _events(_read(source, "events"))
        return run
    except _DAMAGE as error:
        raise ValueError(f"path={str(source)!r} is damaged: {error}") from error


# What h5py, xarray and json raise at a file that is cut off or whose bytes were changed.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _events(table: xr.Dataset) -> Events:
    about = table.attrs
    return Events(
        {str(name): column.values for name, column in table.items()},
        since=float(about["complete_from"]),
        until=float(about["complete_to"]),
        limit=int(about["limit"]),
        capped=bool(about["capped"]),
    )


def _run(
    root: xr.Dataset,
    history: xr.Dataset,
    net: xr.Dataset,
    state: xr.Dataset,
    directions: xr.Dataset,
) -> Run:
    activation = activations.described(json.loads(root.attrs["activation"]))
    settings = json.loads(root.attrs["settings"])
    observed = tuple(_restore(spec, directions) for spec in json.loads(root.attrs["observables"]))
    return Run(
        net=TwoLayerNet(
            net["W"].values,
            net["a"].values,
            activation,
            net["log_scale"].values if "log_scale" in net else None,
            copy=False,
        ),
        outcome=Outcome(**json.loads(root.attrs["outcome"])),
        settings=settings,
        state=State(
            int(state.attrs["version"]),
            str(state.attrs["form"]),
            int(state.attrs["step"]),
            {str(name): variable.values for name, variable in state.items()},
        ),
        rows=_rows(
            history,
            {o.name: history[o.name].values for o in observed if o.name in history},
            settings["dynamics"] == "flow",
        ),
        observed=observed,
    )


def _rows(history: xr.Dataset, columns: dict[str, Any], flow: bool) -> Rows:
    if not flow:
        return Rows(history["step"].values.astype(np.int64), columns)
    times = history["time"].values
    return Rows(np.arange(len(times), dtype=np.int64), columns, times)


_PLAIN = ("name", "dims", "per_split", "kind", "labels", "count", "absolute", "needs_signs")


def _describe(observable: Observable) -> dict[str, Any]:
    return {name: getattr(observable, name) for name in _PLAIN}


def _restore(spec: dict[str, Any], directions: xr.Dataset) -> Observable:
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    weights = observables.get("weights")  # the one Python observable that has a name
    if plain == _describe(weights):
        return weights
    vectors = directions[spec["name"]].values if spec["name"] in directions else None
    return Observable(**plain, directions=vectors)


def _read(path: Path, group: str) -> xr.Dataset:
    import xarray as xr

    # phony_dims: plain HDF5 files are to be refused by us, not warned of by xarray.
    return xr.load_dataset(
        path, engine="h5netcdf", group=None if group == "/" else group, phony_dims="access"
    )


def _write(groups: dict[str, xr.Dataset], target: Path) -> None:
    """Write to a neighbour and rename: a file is there whole or not at all."""
    if target.is_dir():
        raise IsADirectoryError(f"path={str(target)!r} is a folder; name a file in it")
    if target.parent.exists() and not target.parent.is_dir():
        raise NotADirectoryError(f"path={str(target)!r}: {str(target.parent)!r} is not a folder")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path={str(target)!r}: the folder {str(target.parent)!r} does not exist"
        )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    try:
        for group, dataset in groups.items():
            first = group == "/"
            dataset.to_netcdf(
                name, mode="w" if first else "a", engine="h5netcdf", group=None if first else group
            )
        # mkstemp makes files private; a result is as public as any other file of its owner.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
