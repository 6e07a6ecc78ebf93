"""What a flow takes in memory: measured in processes of their own, against what is asked for before it begins."""

import json
import os
import subprocess
import sys

import pytest

MIB = 2**20

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import featcore as fc

n, d, m, form, method, others, parts = json.loads(sys.argv[1])
module = sys.modules["featcore.dynamics.flow"]
options = {"form": form, "method": method, "num_threads": 2, "observe": ["loss", "norms"]}
options |= {"step_size": 0.1} if method == "rk4" else {}

def problem(n, d, m):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) / np.sqrt(d)
    net = fc.TwoLayerNet.gaussian(m, d, 0.1, seed=0, activation=fc.Tanh() if method == "tsit5" else fc.ReLU())
    return net, fc.Dataset(x, np.resize([1.0, -1.0], n))

def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])

fc.flow(*problem(5, 4, 3), t_end=0.1, **options)  # what is loaded once
net, data = problem(n, d, m)
evaluate = {"test": problem(others, d, m)[1]} if others else None
free = module.free_memory
asked = []
for little in (0.0, 64.0 * n * d):  # enough for looking at the span
    module.free_memory = lambda: little
    try:
        fc.flow(net, data, t_end=1.0, evaluate=evaluate, **options)
    except MemoryError as error:
        asked.append(float(str(error).split(" GiB beyond")[0].split()[-1]) * 2**30)
module.free_memory = free
if parts == 2:
    first = fc.flow(net, data, t_end=1.0, max_steps=1, evaluate=evaluate, **options)
Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
before = resident("VmRSS")
if parts == 2:
    last = first.continue_(max_steps=2, num_threads=2)
else:
    last = fc.flow(net, data, t_end=1.0, max_steps=2, evaluate=evaluate, **options)
json.dump(dict(grown=resident("VmHWM") - before, asked=max(asked), form=last.outcome.form), sys.stdout)
"""

CASES = [
    (2000, 40, 2000, "primal", "event", 0, 1),
    (400, 2000, 3000, "primal", "event", 0, 1),
    (400, 3000, 3000, "projected", "event", 0, 1),
    (400, 3000, 3000, "projected", "event", 0, 2),
    (300, 2000, 2000, "projected", "event", 4000, 1),
    (400, 3000, 3000, "primal", "tsit5", 0, 1),
    (400, 3000, 3000, "projected", "tsit5", 0, 1),
    (400, 1500, 3000, "projected", "rk4", 3000, 1),
]
SHORT = (CASES[0],)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case in SHORT else pytest.mark.long) for case in CASES],
    ids=str,
)
def test_a_flow_takes_no_more_memory_than_it_asks_for_and_no_less_than_a_third(case):
    """It asks for what a long run may take: the state at a look within a step, an interpolation, the last rows."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(case)],
        # freed memory goes back at once
        env={
            **os.environ,
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["form"] == case[3]
    assert answer["grown"] <= 1.005 * answer["asked"]
    assert answer["asked"] <= 3 * answer["grown"] + 128 * MIB
