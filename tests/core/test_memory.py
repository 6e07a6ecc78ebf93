"""What a run takes in memory: measured in processes of their own, against what is promised and asked for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from _strategies import make_net

import featcore as fc
from featcore.dynamics import descent

MIB = 2**20

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import featcore as fc
from featcore.dynamics import descent

n, d, m, form, dtype, others, rank, parts, splits, observe = json.loads(sys.argv[1])

def problem(n, d, m):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d)) if rank else rng.standard_normal((n, d))
    data = fc.Dataset(x.astype(dtype), np.resize([1.0, -1.0], n).astype(dtype))
    return fc.TwoLayerNet.gaussian(m, d, 0.1, seed=0, dtype=np.dtype(dtype)), data

def run(net, data, evaluate):
    options = dict(step_size=0.1, evaluate=evaluate, num_threads=2, observe=["loss", "norms", *observe])
    return fc.descend(net, data, steps=2, form=form, **options)

def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])

run(*problem(5, 4, 3), None)  # what is loaded once
net, data = problem(n, d, m)
evaluate = {f"test {k}": problem(others, d, m)[1] for k in range(splits)} if others else None
messages = []
free = descent.free_memory
for little in (0.0, 8.01 * n * d):  # enough for looking at the span
    descent.free_memory = lambda: little
    try:
        fc.descend(net, data, step_size=0.1, steps=1, form=form, evaluate=evaluate)
    except MemoryError as error:
        messages.append(str(error))
descent.free_memory = free
if parts == 2:
    first = run(net, data, evaluate)
Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
before = resident("VmRSS")
last = run(net, data, evaluate) if parts == 1 else first.continue_(2, num_threads=2)
json.dump(dict(grown=resident("VmHWM") - before, messages=messages), sys.stdout)
"""


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def measured(n, d, m, form, dtype="float64", *, others=0, rank=0, parts=1, splits=1, observe=()):
    """Return by how many bytes the peak grew, and how many were asked for."""
    arguments = json.dumps([n, d, m, form, dtype, others, rank, parts, splits, list(observe)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, arguments],
        # freed memory goes back at once
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return answer["grown"], max(map(asked, answer["messages"]))


def asked(message):
    """Return the bytes that a MemoryError says are needed; three digits are printed."""
    return float(message.split(" GiB beyond")[0].split()[-1]) * 2**30


CASES = [
    ((20_000, 20, 4000, "primal"), {}),
    ((4000, 500, 2000, "primal"), {"dtype": "float32", "others": 6000}),
    ((1000, 1000, 3000, "gram"), {}),
    ((1000, 1000, 3000, "gram"), {"parts": 2}),
    ((600, 400, 2000, "gram"), {"others": 6000, "dtype": "float32"}),
    ((3000, 800, 6000, "projected"), {"rank": 300}),
    pytest.param((3000, 800, 6000, "projected"), {"rank": 300, "parts": 2}, marks=pytest.mark.long),
    ((1000, 2000, 1000, "projected"), {"rank": 100, "others": 5000}),
    ((131_072, 3, 512, "primal"), {"others": 131_072, "splits": 6}),
    ((200_000, 2, 500, "primal"), {"others": 200_000, "splits": 4}),
]


@linux
@pytest.mark.parametrize(("arguments", "more"), CASES, ids=str)
def test_a_run_takes_no_more_memory_than_it_asks_for_and_no_less_than_half(arguments, more):
    grown, bytes_asked = measured(*arguments, **more)
    assert grown <= 1.005 * bytes_asked
    assert bytes_asked <= 2 * grown + 64 * MIB


@linux
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_primal_form_keeps_one_bit_a_pair(dtype):
    n, d, m = 20_000, 20, 4000
    grown, _ = measured(n, d, m, "primal", dtype)
    copies = 4 * m * d * np.dtype(dtype).itemsize  # three of its own, one that is returned
    assert grown <= n * m / 8 + 64 * MIB + copies  # a matrix of numbers would be 640 MB, or 320


@linux
def test_counting_patterns_takes_no_second_bit_a_pair():
    n, d, m = 30_000, 3, 30_000
    grown, _ = measured(n, d, m, "primal", observe=["patterns", "dead"])
    assert grown <= n * m / 8 + 64 * MIB + 4 * m * d * 8


STEP = """
import json, resource, sys
from pathlib import Path
import numpy as np
import featcore as fc
from featcore import _dispatch

def problem(n, d, m):
    rng = np.random.default_rng(0)
    net = fc.TwoLayerNet.gaussian(m, d, 0.01, seed=0, activation=fc.Tanh(), dtype=np.dtype("float32"))
    x, y = (rng.standard_normal(size, dtype="float32") for size in ((n, d), n))
    return net, fc.Dataset(x, y)

def step(net, data):
    return fc.one_step(net, data, 0.1, num_threads=2)

def memory(field, file="status", unit=1024):
    for line in Path("/proc/self", file).read_text().splitlines():
        if line.startswith(field + ":"):
            return unit * int(line.split()[1])

step(*problem(5, 600, 3000))  # what is loaded once, and its threads
net, data = problem(*json.loads(sys.argv[1]))
"""

STEP_GROWS = (
    STEP
    + """
_dispatch.free_memory, free = (lambda: 0.0), _dispatch.free_memory
try:
    step(net, data)
except MemoryError as error:
    asked = float(str(error).split(" needs ")[1].split()[0]) * 2**30
_dispatch.free_memory = free
Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
before = memory("VmRSS")
step(net, data)
print(memory("VmHWM") - before, asked)
"""
)

STEP_LACKS = (
    STEP
    + """
_, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + 2**20, hard))
try:
    bytes(2**27)
    sys.exit("limits do nothing here")  # an emulator keeps them from us
except MemoryError:
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
for extra in range(0, 60, 3):
    most = memory("VmSize") + net.W.nbytes + extra * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        step(net, data)
        print("done")
    except MemoryError:
        print("refused")
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
"""
)


def stepped(script, n, d, m):
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([n, d, m])],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "limits do nothing here" in done.stderr:
        pytest.skip("no limits of memory")
    assert done.returncode == 0, done.stderr  # it may die of a signal, too
    return done.stdout.split()


@linux
def test_a_smooth_step_lays_out_a_chunk_of_neurons_a_thread():
    d, m = 20_000, 2048
    grown, bytes_asked = map(float, stepped(STEP_GROWS, 8, d, m))
    assert grown <= 1.005 * bytes_asked  # three digits are printed
    assert bytes_asked <= 4 * d * (m + 2 * 512 + 100) + 64 * MIB  # the network in panels: 3 m


@linux
def test_a_step_that_gets_less_memory_than_was_free_says_so():
    assert set(stepped(STEP_LACKS, 8, 10_000, 4096)) == {"refused", "done"}


# --- a run that does not fit


@pytest.mark.parametrize("form", ["auto", "primal", "gram", "projected"])
def test_a_run_that_does_not_fit_says_so_before_it_starts(form, monkeypatch):
    monkeypatch.setattr(descent, "free_memory", lambda: 1.5 * 2**20)
    net = make_net(70, 50, 0, activation=fc.ReLU())
    data = fc.Dataset(np.random.default_rng(0).standard_normal((40, 50)), np.resize([1, -1], 40))
    begun = []
    probe = fc.observables.custom(
        lambda net, data: float(len(begun.append(1) or begun)), name="probe"
    )
    with pytest.raises(MemoryError) as raised:
        fc.descend(net, data, step_size=0.1, steps=3, form=form, observe=[probe])
    message = str(raised.value)
    assert "n=40, d=50, m=70" in message
    assert "0.00146 GiB are free" in message
    assert f"form={'gram' if form == 'auto' else form}" in message
    assert not begun
    if form != "projected":  # that asks for looking at the span first
        assert asked(message) >= 64 * MIB * 0.995


def test_what_is_needed_is_what_is_compared(monkeypatch):
    net = make_net(70, 50, 0, activation=fc.ReLU())
    data = fc.Dataset(np.random.default_rng(0).standard_normal((40, 50)), np.resize([1, -1], 40))
    options = {"step_size": 0.1, "steps": 1, "form": "primal"}
    need = 64 * MIB + 40 * 70 / 8 + 3 * 8 * 50 * 70
    monkeypatch.setattr(descent, "free_memory", lambda: need - 1)
    with pytest.raises(MemoryError):
        fc.descend(net, data, **options)
    monkeypatch.setattr(descent, "free_memory", lambda: need)
    assert fc.descend(net, data, **options).outcome.status == "reached_end"


def test_a_run_that_no_longer_fits_is_not_lost(monkeypatch):
    net = make_net(70, 50, 0, activation=fc.ReLU())
    data = fc.Dataset(np.random.default_rng(0).standard_normal((40, 50)), np.resize([1, -1], 40))
    run = fc.descend(net, data, step_size=0.1, steps=2)
    with monkeypatch.context() as short:
        short.setattr(descent, "free_memory", lambda: 0.0)
        with pytest.raises(MemoryError):
            run.continue_(2)
    whole = fc.descend(net, data, step_size=0.1, steps=4)
    assert run.continue_(2).net.W.tobytes() == whole.net.W.tobytes()


@linux
def test_outputs_and_gradients_that_do_not_fit_say_how_much_they_need():
    code = """
import re, resource
from pathlib import Path
import numpy as np
import featcore as fc
net = fc.TwoLayerNet.gaussian(8000, 1000, 1.0)
data = fc.Dataset(np.ones((4, 1000)), np.ones(4))
grown = dict(re.findall(r"(\\w+):\\s+(\\d+) kB", Path("/proc/self/status").read_text()))
limit = 1024 * int(grown["VmSize"]) + 40 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for call in (lambda: net(data.x, num_threads=1), lambda: fc.loss_and_grad(net, data, num_threads=1)):
    try:
        call()
    except MemoryError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert said[0].startswith("this needs up to 0.182 GiB beyond its data (n=4, d=1000, m=8000)")
