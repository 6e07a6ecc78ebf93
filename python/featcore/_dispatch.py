"""The compiled core, as chosen for this machine, and how it was built.

One module today; the choice between instruction sets belongs here.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from featcore import _core as core

__all__ = ["build_info", "core", "default_threads", "resolve_threads"]


def build_info() -> dict[str, Any]:
    """Return how the compiled core was built and what it runs on.

    Returns
    -------
    dict
        `version`, `isa` (instruction set the kernels were built for), `simd` (what Eigen uses),
        `openmp`, `eigen`, `compiler`, `machine`, and `num_threads`, the default of every call.

    Examples
    --------
    >>> import featcore as fc
    >>> sorted(fc.build_info())
    ['compiler', 'eigen', 'isa', 'machine', 'num_threads', 'openmp', 'simd', 'version']
    """
    return {
        **core.build_info(),
        "machine": platform.machine(),
        "num_threads": default_threads(),
    }


def default_threads() -> int:
    """Return how many threads this process may use: CPU affinity, cgroup quota and OMP_NUM_THREADS."""
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


def _cgroup_quota() -> float | None:
    """Return the CPU quota of this control group in cores, or None."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        return None
