"""Where something is timed: machine, load, versions."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from featcore import build_info
from featcore.benchmark.problem import Problem
from featcore.report import environment


def describe(
    peers: Sequence[str], threads: int, vectors: Mapping[str, str], load_before: float | None
) -> dict[str, Any]:
    """Return what times depend on besides the code.

    Parameters
    ----------
    peers : sequence of str
        Libraries whose versions are wanted.
    threads : int
        Of every library.
    vectors : mapping of str to str
        What libraries say of their instruction sets.
    load_before : float or None
        `load()` when it began.
    """
    build = build_info()
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "processors": environment.processors(),
        "threads": threads,
        "load_before": load_before,
        "load_after": load(),
        "isa": build["isa"],
        "compiler": build["compiler"],
        "versions": {
            "featcore": build["version"],
            **{peer: environment.version(peer) for peer in peers},
            "python": platform.python_version(),
        },
        "vectors": dict(vectors),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
    }


def load() -> float | None:
    """Return the load average of the last minute, None where there is none."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def available_memory() -> int | None:
    """Return the bytes that can still be had, by system and control group; None if nobody tells."""
    limits = []
    with contextlib.suppress(OSError, KeyError):
        known = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(int(known["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        limits.append(int(limit) - int(used))
    return min(limits, default=None)


def refuse_what_does_not_fit(problem: Problem) -> None:
    """Raise if `problem` cannot be made in the memory that there is.

    Raises
    ------
    MemoryError
        With what is needed, and what there is.
    """
    available = available_memory()
    if available is not None and problem.memory > available:
        # as decimals: a shape may be too large for a float
        needed, there = (Decimal(bytes_) / 2**30 for bytes_ in (problem.memory, available))
        raise MemoryError(
            f"shape {problem} needs at least {needed:.4g} GiB of memory, and {there:.4g} GiB are available; "
            "give fewer samples, inputs or neurons"
        )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
