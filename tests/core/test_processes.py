"""Threads, forks and other OpenMP users in the same process: equal bits, no hang."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from _strategies import make_data, make_net

import featcore as fc

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs torch")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

SETUP = """
import sys
import numpy as np
import featcore as fc
rng = np.random.default_rng(0)
net = fc.TwoLayerNet(rng.standard_normal((300, 40)), rng.standard_normal(300))
data = fc.Dataset(rng.standard_normal((2000, 40)), rng.choice([-1, 1], 2000))
def bits(num_threads):
    value, gradient = fc.loss_and_grad(net, data, num_threads=num_threads)
    return np.float64(value).tobytes() + gradient.W.tobytes() + gradient.a.tobytes()
"""


def run(body, timeout=60):
    """Run SETUP and `body` in a fresh interpreter; fail if it hangs, crashes or fails."""
    code = SETUP + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout


def test_python_threads_may_call_at_once():
    problems = [
        (
            make_net(70 + k, 30, k, activation=(fc.ReLU(), fc.Tanh())[k % 2]),
            make_data(600 + k, 30, k),
        )
        for k in range(6)
    ]

    def bits(problem):
        value, gradient = fc.loss_and_grad(*problem, num_threads=3)
        return value, gradient.W.tobytes(), gradient.a.tobytes()

    alone = [bits(problem) for problem in problems]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(bits, problems * 10))
    assert together == alone * 10


def test_the_gil_is_released():
    # Another Python thread gets on with its work while a long call runs.
    run("""
        import threading, time
        big = fc.Dataset(rng.standard_normal((8000, 300)), rng.choice([-1, 1], 8000))
        wide = fc.TwoLayerNet(rng.standard_normal((800, 300)), np.ones(800))
        began, ended, ticks = threading.Event(), threading.Event(), []
        def tick():
            began.wait()
            while not ended.is_set():
                ticks.append(time.perf_counter())
                time.sleep(0.005)
        thread = threading.Thread(target=tick)
        thread.start()
        began.set()
        start = time.perf_counter()
        fc.loss_and_grad(wide, big, num_threads=1)
        stop = time.perf_counter()
        ended.set()
        thread.join()
        inside = sum(start < t < stop for t in ticks)
        # Held, at most the moments around the call would count.
        assert inside > 5, (inside, stop - start)
    """)


@needs_fork
def test_a_forked_child_computes():
    run("""
        import os, signal
        expected = bits(3)
        for num_threads in (1, 3):
            pid = os.fork()
            if pid == 0:
                signal.alarm(30)
                os._exit(0 if bits(num_threads) == expected else 7)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert status == 0, status
        assert bits(3) == expected  # the parent goes on
    """)


@needs_fork
def test_forked_pool_computes():
    run("""
        import multiprocessing
        expected = bits(2)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.map_async(bits, [1, 2, 3, 5]).get(timeout=45)
        assert results == [expected] * 4
    """)


@needs_fork
def test_a_child_forked_before_the_first_call_computes():
    run("""
        import os, signal
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            os._exit(0 if bits(3) == bits(1) else 7)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, status
    """)


def test_spawned_pool_computes():
    # What spawn pickles is the network and the data; the child loads the core anew.
    net, data = make_net(80, 9, 0, activation=fc.ReLU()), make_data(50, 9, 1)
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        value, gradient = pool.apply_async(fc.loss_and_grad, (net, data)).get(timeout=60)
    expected_value, expected = fc.loss_and_grad(net, data)
    assert value == expected_value
    np.testing.assert_array_equal(gradient.W, expected.W)


def test_no_thread_setting_of_the_process_is_touched():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    before = threadpoolctl.threadpool_info()
    net, data = make_net(300, 40, 0, activation=fc.ReLU()), make_data(2000, 40, 1)
    fc.loss_and_grad(net, data, num_threads=3)
    assert threadpoolctl.threadpool_info() == before


def test_omp_num_threads_is_the_default_and_no_more():
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = SETUP + "assert fc.build_info()['num_threads'] == 1; assert bits(None) == bits(3)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


@needs_torch
@pytest.mark.parametrize("first", ["torch", "featcore"])
def test_torch_may_live_in_the_same_process(first):
    # Two OpenMP runtimes in one process: neither hangs or changes the other's results.
    run(f"""
        if {first!r} == "torch":
            import torch
            torch.ones(500, 500) @ torch.ones(500, 500)
            alone = None
        else:
            alone = bits(3)
            import torch
        product = torch.ones(500, 500) @ torch.ones(500, 500)
        together = bits(3)
        assert alone is None or together == alone
        torch.set_num_threads(1)
        assert bits(3) == bits(1) == together
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 2
        assert torch.equal(torch.ones(500, 500) @ torch.ones(500, 500), product)
        assert bits(2) == together
    """)


@needs_torch
def test_flushing_small_numbers_elsewhere_changes_nothing():
    """`torch.set_flush_denormal` speaks for the thread that calls it, and would for no other of a team."""
    run(
        """
        import torch
        n, d, m = 600, 30, 400
        x = rng.standard_normal((n, d)).astype(np.float32)
        W = (1e-20 * rng.standard_normal((m, d))).astype(np.float32)
        a = (1e-20 * rng.choice([-1.0, 1.0], m)).astype(np.float32)
        tiny = fc.TwoLayerNet(W, a)
        y = (1e-37 * rng.choice([-1, 1], n)).astype(np.float32)
        small = fc.Dataset(x, y)
        def everything(threads):
            options = dict(num_threads=threads, observe=["loss", "norms", "objective"])
            found = [tiny(x, num_threads=threads)]
            for form in ("primal", "gram", "projected"):
                done = fc.descend(tiny, small, "squared", step_size=1e38, steps=4, form=form, **options)
                found += [done.net.W, done.history.norms.values, done.history.objective.values]
            value, gradient = fc.loss_and_grad(tiny, small, "squared", num_threads=threads)
            done = fc.flow(tiny, small, "squared", t_end=1e38, method="rk4", step_size=5e37, rtol=1e-4, **options)
            found += [np.float64(value), gradient.W, gradient.a, done.net.W]
            return b"".join(np.asarray(each).tobytes() for each in found)
        before = everything(1)
        assert np.abs(W @ x.T).max() * np.abs(a).max() < 1.17e-38  # small numbers indeed
        assert torch.set_flush_denormal(True)
        for threads in (1, 2, 3, 5):
            assert everything(threads) == before
        assert (torch.tensor([1e-310], dtype=torch.float64) * 1).item() == 0  # as it was asked for
        """
    )
