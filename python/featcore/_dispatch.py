"""The compiled core: the best module that this CPU can run, and how it was built.

One module an instruction set: `_core` for the baseline, `_core_v3` (AVX2) and `_core_v4` (AVX-512) on
x86-64. FEATCORE_ISA=baseline, v3 or v4 chooses another that the CPU can run.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcore import _core as _baseline

if TYPE_CHECKING:
    from featcore import _core as core

__all__ = [
    "build_info",
    "check_memory",
    "core",
    "default_threads",
    "free_memory",
    "resolve_threads",
]


def _available() -> dict[str, str]:
    """Return the modules that were built and that this CPU can run, by instruction set, best last."""
    own = str(_baseline.build_info()["isa"])  # "native" if it was built for one machine
    modules = {own: "featcore._core"}
    for level in _baseline.cpu_levels():
        name = f"featcore._core_{level}"
        if level != own and importlib.util.find_spec(name) is not None:
            modules[level] = name
    return modules


def _choose() -> Any:
    modules = _available()
    wanted = os.environ.get("FEATCORE_ISA") or list(modules)[-1]
    if wanted not in modules:
        raise ImportError(
            f"FEATCORE_ISA={wanted!r} is not built or this CPU cannot run it; choose from "
            f"{', '.join(modules)}, or unset it"
        )
    return importlib.import_module(modules[wanted])


if not TYPE_CHECKING:
    core = _choose()


def build_info() -> dict[str, Any]:
    """Return how the compiled core was built and what it runs on.

    Returns
    -------
    dict
        `version`, `isa` (instruction set of the kernels in use), `isas` (those available, best
        last), `simd` (what Eigen uses), `openmp`, `eigen`, `compiler`, `machine`, and `num_threads`,
        the default of every call.

    Examples
    --------
    >>> import featcore as fc
    >>> sorted(fc.build_info())
    ['compiler', 'eigen', 'isa', 'isas', 'machine', 'num_threads', 'openmp', 'simd', 'version']
    """
    return {
        **core.build_info(),
        "isas": list(_available()),
        "machine": platform.machine(),
        "num_threads": default_threads(),
    }


def default_threads() -> int:
    """Return how many threads this process may use: affinity, cgroup quota, OMP_NUM_THREADS."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    if quota is not None:
        count = min(count, max(1, int(quota)))
    # A list such as "4,2" limits nested levels; the first is ours.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        count = min(count, int(wanted))
    return max(1, count)


def resolve_threads(num_threads: int | None) -> int:
    """Return `num_threads`, or the default for None."""
    from featcore._validation import integer

    if num_threads is None:
        return default_threads()
    return integer("num_threads", num_threads, least=1, most=256)


def free_memory() -> float:
    """Return how many bytes this process may still take: of the machine and of its control group."""
    free = math.inf
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass  # not on this system
    try:
        group = Path("/sys/fs/cgroup")
        most = float((group / "memory.max").read_text())
        # what is held of files is given back
        inactive = dict(
            line.split() for line in (group / "memory.stat").read_text().splitlines()
        ).get("inactive_file", "0")
        used = float((group / "memory.current").read_text()) - float(inactive)
        free = min(free, most - used)
    except (OSError, ValueError):
        pass  # no limit
    return free


def check_memory(what: str, needed: float, remedy: str) -> None:
    """Raise MemoryError, with the number, unless `needed` bytes are free."""
    free = free_memory()
    if needed > free:
        raise MemoryError(
            f"{what} needs {needed / 2**30:.3g} GiB and {free / 2**30:.3g} GiB are free; {remedy}"
        )


def padded(neurons: int) -> int:
    """Return how many neurons the core lays out for so many: whole panels, of 64 at most."""
    return -(-neurons // 64) * 64


def _cgroup_quota() -> float | None:
    """Return the CPU quota of this control group in cores, or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        return None
