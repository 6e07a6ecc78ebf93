"""A library in a process of its own, which does as it is told, a line a task.

The number of threads is then set before the library is loaded, which for some is the only time; pools of threads do not
meet; and what a library holds is given back. Only one process works at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featcore.benchmark.problem import Problem, Shape
from featcore.benchmark.runners import RUNNERS, Runner

_CODE = """
import os, sys
threads = int(sys.argv[4])
if hasattr(os, "sched_setaffinity"):  # before anything counts processors
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
from featcore.benchmark.process import main
main()
"""

_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NPROC",  # XLA's
)


class RunnerProcess:
    """A runner of `problem` in a process of its own; a context manager that ends it.

    Parameters
    ----------
    name : str
        Which of `RUNNERS`.
    problem : Problem
        What it trains on.
    threads : int
        On how many threads, and processors.

    Attributes
    ----------
    vectors, form : str
        As of `Runner`.
    """

    def __init__(self, name: str, problem: Problem, threads: int) -> None:
        self.name, self._problem = name, problem
        self._folder = tempfile.TemporaryDirectory(prefix="featcore-bench-")
        self._errors = open(Path(self._folder.name, "stderr"), "w+", encoding="utf-8")  # noqa: SIM115
        shape = problem.shape
        arguments = (name, f"{shape.n},{shape.d},{shape.m}", problem.dtype, str(threads))
        self._process = subprocess.Popen(
            # -P: what lies in the current folder is not meant
            [sys.executable, "-P", "-c", _CODE, *arguments],
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        try:
            about = self._answer()
        except BaseException:
            self.close()
            raise
        self.vectors: str = about["vectors"]
        self.form: str = about["form"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def seconds(self, steps: int) -> float:
        """Return how long a run of so many steps from the start takes."""
        return float(self._ask(task="time", steps=steps)["seconds"])

    def weights(self, steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return W, (m, d), and a, (m,), after so many steps."""
        path = os.path.join(self._folder.name, "weights.npz")
        self._ask(task="weights", steps=steps, path=path)
        with np.load(path) as arrays:
            return arrays["W"], arrays["a"]

    def fma_rate(self, seconds: float) -> float:
        """Return the multiply-add rate of this process, in flop/s."""
        return float(self._ask(task="fma_rate", seconds=seconds)["rate"])

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.kill()  # it holds nothing worth keeping
        self._process.wait()
        self._errors.close()
        self._folder.cleanup()

    def _ask(self, **task: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: the answer says why
            print(json.dumps(task), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip()
        raise RuntimeError(
            f"{self.name} failed at {self._problem} with exit code {status}; it said:\n"
            f"{said[-4000:] or 'nothing'}"
        )


def main() -> None:
    """Do the tasks on standard input, for `RunnerProcess`."""
    # a library that prints must not speak into the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, shape, dtype, threads = sys.argv[1:]
    runner = RUNNERS[name](Problem(Shape.parse(shape), dtype), int(threads))
    print(json.dumps({"vectors": runner.vectors, "form": runner.form}), file=answers, flush=True)
    for line in sys.stdin:
        answer = _do(runner, dtype, int(threads), **json.loads(line))
        print(json.dumps(answer), file=answers, flush=True)


def _do(
    runner: Runner,
    dtype: str,
    threads: int,
    *,
    task: str,
    steps: int = 0,
    path: str = "",
    seconds: float = 0.0,
) -> dict[str, float]:
    if task == "time":
        began = time.perf_counter()
        runner.run(steps)
        return {"seconds": time.perf_counter() - began}
    if task == "weights":
        W, a = runner.run(steps)
        np.savez(path, W=np.asarray(W), a=np.asarray(a))
        return {}
    from featcore._dispatch import core

    return {"rate": core.fma_rate(dtype, threads, seconds)}


def _environment(threads: int) -> dict[str, str]:
    """Return the environment of a process: the same for every library."""
    return {
        **os.environ,
        **dict.fromkeys(_THREAD_LIMITS, str(threads)),
        "JAX_PLATFORMS": "cpu",
        # where this process finds featcore
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
