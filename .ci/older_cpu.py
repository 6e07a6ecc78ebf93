"""Check featcore on the CPU that an emulator plays: `older_cpu.py ISA`, the one to be chosen there.

.ci/other-cpus runs it; sys.executable is then an interpreter on that CPU too.
"""

import os
import signal
import subprocess
import sys

import numpy as np

import featcore as fc

LEVELS = ["baseline", "v3", "v4"]
LOAD = """
import numpy as np
import featcore
from featcore import _core_{isa} as core
print("loaded", flush=True)
core.loss_and_grad(
    np.ones((9, 9)), np.ones(9), ("relu", 0.0, 0.0, ()), (np.ones((9, 9)), np.ones(9), None, None),
    "logistic", True, 0.0, 0.0, 1,
)
"""


def check(condition: bool, message: object) -> None:
    """Fail with a message."""
    if not condition:
        raise SystemExit(f"{sys.argv[1]}: {message}")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code on the same CPU."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check_choice(isa: str) -> None:
    """Check that the best is chosen, and that what this CPU cannot run is refused."""
    info = fc.build_info()
    print(info)
    can = LEVELS[: LEVELS.index(isa) + 1]
    check(info["isa"] == isa and info["isas"] == can, "another instruction set was chosen")
    for other in LEVELS[len(can) :]:
        done = python("import featcore", FEATCORE_ISA=other)
        said = f"ImportError: FEATCORE_ISA={other!r} is not built or this CPU cannot run it"
        check(done.returncode == 1 and said in done.stderr, (other, done))
        print(done.stderr.splitlines()[-1])
        # The emulator must mean it: else nothing here would show that no such instruction is run.
        # A module that was not built ends in 1.
        done = python(LOAD.format(isa=other))
        check(done.returncode == -signal.SIGILL, (other, done))
        print(f"_core_{other}, loaded all the same, ends in an illegal instruction")


def check_forms() -> None:
    """Check runs in each form against numpy, and their bits over threads."""
    rng = np.random.default_rng(0)
    n, d, m, rank = 70, 90, 130, 11
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-4)):
        x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) / np.sqrt(rank)
        data = fc.Dataset(x.astype(dtype), rng.choice([-1.0, 1.0], n).astype(dtype))
        W = rng.standard_normal((m, d)) / np.sqrt(d)
        a = rng.standard_normal(m) / np.sqrt(m)
        net = fc.TwoLayerNet(W.astype(dtype), a.astype(dtype))
        settings = {"loss": "logistic", "step_size": 0.5, "steps": 20, "weight_decay": 0.01}
        want = fc.reference.descend(net, data, **settings)
        for form in ("primal", "gram", "projected"):
            bits = set()
            for threads in (1, 2, 3):
                run = fc.descend(net, data, **settings, form=form, num_threads=threads)
                bits.add(run.net.W.tobytes() + run.net.a.tobytes())
            error = np.linalg.norm(run.net.W - want.W) / np.linalg.norm(want.W)
            moved = np.linalg.norm(want.W - net.W) / np.linalg.norm(want.W)
            print(f"{np.dtype(dtype)} {form}: moved {moved:.2g}, error {error:.1e}")
            check((run.outcome.form, run.outcome.isa) == (form, sys.argv[1]), run.outcome)
            check(len(bits) == 1, f"{form}: threads change bits")
            check(error < tolerance < moved, f"{form} differs from the reference")


check_choice(sys.argv[1])
check_forms()
