"""Every instruction set that this machine has computes the same, to rounding."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import featcore as fc

SCRIPT = """
import json, sys
import numpy as np
import featcore as fc
results = []
for n, d, m in [(1, 1, 1), (7, 3, 5), (130, 9, 33), (600, 17, 70), (40, 200, 12), (90, 2, 70)]:
    for dtype in (np.float64, np.float32):
        for sigma in ("relu", fc.LeakyReLU(-0.5), "tanh", "gelu", "softplus"):
            rng = np.random.default_rng(n + m)
            data = fc.Dataset(rng.standard_normal((n, d)).astype(dtype), rng.choice([-1.0, 1.0], n))
            net = fc.TwoLayerNet(
                rng.standard_normal((m, d)).astype(dtype), rng.standard_normal(m).astype(dtype), sigma
            )
            oracle, want = fc.reference.gradient(net, data, "logistic")
            bits = set()
            for threads in (1, 2, 3, 5):
                value, got = fc.loss_and_grad(net, data, "logistic", num_threads=threads)
                bits.add((value, got.W.tobytes(), got.a.tobytes()))
            error = np.hypot(np.linalg.norm(got.W - want.W), np.linalg.norm(got.a - want.a)) / max(want.norm, 1e-3)
            results.append([str(np.dtype(dtype)), len(bits), abs(value - oracle), float(error)])
for n, d, m in [(1, 1, 1), (7, 9, 5), (33, 70, 65), (40, 13, 130)]:
    for dtype in (np.float64, np.float32):
        for sigma in ("relu", fc.LeakyReLU(-0.5), "tanh"):
            rng = np.random.default_rng(n + m)
            x = rng.standard_normal((n, max(1, n // 2))) @ rng.standard_normal((max(1, n // 2), d))
            data = fc.Dataset((x / n).astype(dtype), rng.choice([-1.0, 1.0], n))
            net = fc.TwoLayerNet(
                rng.standard_normal((m, d)).astype(dtype), rng.standard_normal(m).astype(dtype), sigma
            )
            options = dict(step_size=0.1, steps=2, weight_decay=0.1)
            want = fc.reference.descend(net, data, **options)
            for form in ("primal", "gram", "projected"):
                bits = set()
                for threads in (1, 2, 3, 5):
                    run = fc.descend(net, data, form=form, num_threads=threads, observe=["norms"], **options)
                    bits.add((run.net.W.tobytes(), run.net.a.tobytes(), run.rows.columns["norms"].tobytes()))
                norms = np.linalg.norm(want.W, axis=1)
                value = np.linalg.norm(run.rows.columns["norms"][-1] - norms) / np.linalg.norm(norms)
                error = np.linalg.norm(run.net.W - want.W) / np.linalg.norm(want.W)
                results.append([str(np.dtype(dtype)), len(bits), float(value), float(error)])
json.dump({"isa": fc.build_info()["isa"], "results": results}, sys.stdout)
"""


def run(isa, script=SCRIPT):
    environment = {**os.environ, "FEATCORE_ISA": isa}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("isa", fc.build_info()["isas"])
def test_each_agrees_with_the_reference_on_any_number_of_threads(isa):
    done = run(isa)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["isa"] == isa
    for dtype, bits, value, gradient in answer["results"]:
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        assert bits == 1
        assert value < tolerance * 10
        assert gradient < tolerance


def test_the_best_is_chosen_and_stored_with_a_run():
    info = fc.build_info()
    if "FEATCORE_ISA" not in os.environ:
        assert info["isa"] == info["isas"][-1]
    net = fc.TwoLayerNet(np.eye(2), [1.0, -1.0])
    run_ = fc.descend(net, fc.Dataset(np.eye(2), [1, -1]), step_size=0.1, steps=1)
    assert run_.outcome.isa == info["isa"]


def test_an_instruction_set_that_is_not_there_is_named():
    done = run("v9", "import featcore")
    assert done.returncode != 0
    assert "FEATCORE_ISA='v9'" in done.stderr
    assert "choose from" in done.stderr
