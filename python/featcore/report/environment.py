"""What a run was made with: versions, machine and build."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

_PACKAGES = (
    "featcore",
    "numpy",
    "scipy",
    "xarray",
    "h5netcdf",
    "scikit-learn",
    "matplotlib",
    "pydantic",
)


def version(package: str) -> str:
    """Return the installed version of `package`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """Return the versions of Python, the system and the packages that take part."""
    system = f"{platform.system()} {platform.release()} ({platform.machine()})"
    return {
        **{package: version(package) for package in _PACKAGES},
        "python": platform.python_version(),
        "system": system,
    }


def build() -> dict[str, Any]:
    """Return how the compiled core was built."""
    from featcore import build_info

    return dict(build_info())


def processors() -> int:
    """Return how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
