"""The same loop in featcore and in its peers, each written with care.

All do the same mathematics: outputs, residuals r = -∂L/∂f, H_j = Σ_i r_i 1[z_ij > 0] x_i, and then a_j H_j and
<w_j, H_j> for the two layers. Peers compute without automatic differentiation and, where they can, in place. Of the
ways to write it the one kept here was the fastest, or as fast as any: matrices neuron by neuron, (m, n), for one. Peers
hold n×m matrices and make no use of n ≪ d.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import featcore as fc
from featcore.benchmark.problem import STEP_SIZE, Problem


@dataclass(frozen=True)
class Runner:
    """A library that is ready to train.

    Parameters
    ----------
    run : callable
        Train from the start for so many steps, and return (W, a) in arrays of the library when all is done.
    vectors : str
        What it says of its instruction set; empty if it says nothing.
    form : str
        In which coordinates it iterates; peers iterate weights, "primal".
    """

    run: Callable[[int], tuple[Any, Any]] = field(repr=False)
    vectors: str = ""
    form: str = "primal"


def featcore_runner(problem: Problem, threads: int) -> Runner:
    """Return a runner of `fc.descend`: its arguments are checked and the loss is recorded, as by default."""
    data, net = problem.make()

    def descend(steps: int) -> fc.Run:
        return fc.descend(
            net, data, "logistic", step_size=STEP_SIZE, steps=steps, num_threads=threads
        )

    def run(steps: int) -> tuple[Any, Any]:
        done = descend(steps)
        if done.outcome.status != "reached_end":
            raise RuntimeError(f"the run ended early: {done.outcome}")
        return done.net.W, done.net.a

    build = fc.build_info()
    return Runner(run, f"{build['isa']}: {build['simd']}", descend(1).outcome.form)


def numpy_runner(problem: Problem, threads: int) -> Runner:
    """Return a runner in plain numpy; its matrices are made once."""
    data, net = problem.make()
    x, y = data.x, data.y
    n, m = data.n, net.width
    z = np.empty((m, n), problem.dtype)
    on = np.empty((m, n), bool)
    f = np.empty(n, problem.dtype)
    H = np.empty_like(net.W)

    def run(steps: int) -> tuple[Any, Any]:
        W, a = net.W.copy(), net.a.copy()
        for _ in range(steps):
            np.matmul(W, x.T, out=z)
            np.maximum(z, 0, out=z)
            np.matmul(a, z, out=f)
            r = y / (1 + np.exp(y * f)) / n
            np.greater(z, 0, out=on)
            np.multiply(on, r, out=z)
            np.matmul(z, x, out=H)
            grad_a = np.einsum("jk,jk->j", W, H)
            np.multiply(H, (STEP_SIZE * a)[:, None], out=H)
            np.add(W, H, out=W)
            a += STEP_SIZE * grad_a
        return W, a

    return Runner(run, _blas())


def torch_runner(problem: Problem, threads: int) -> Runner:
    """Return a runner in PyTorch on the CPU; its matrices are made once."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)
    data, net = problem.make()
    x, y, W0, a0 = (torch.tensor(array) for array in (data.x, data.y, net.W, net.a))
    n, m = data.n, net.width
    z = torch.empty((m, n), dtype=x.dtype)
    f = torch.empty(n, dtype=x.dtype)
    H = torch.empty_like(W0)

    def run(steps: int) -> tuple[Any, Any]:
        with torch.inference_mode():
            W, a = W0.clone(), a0.clone()
            for _ in range(steps):
                torch.mm(W, x.T, out=z)
                z.clamp_min_(0)
                torch.mv(z.T, a, out=f)
                r = y * torch.sigmoid(-y * f) / n
                torch.gt(z, 0, out=z)  # zeros and ones: a matrix of bools is slower
                z.mul_(r)
                torch.mm(z, x, out=H)
                grad_a = torch.linalg.vecdot(W, H)
                H.mul_((STEP_SIZE * a)[:, None])
                W.add_(H)
                a.add_(grad_a, alpha=STEP_SIZE)
        return W, a

    return Runner(run, torch.backends.cpu.get_cpu_capability())


def jax_runner(problem: Problem, threads: int) -> Runner:
    """Return a runner in JAX on the CPU: one compiled loop for any number of steps."""
    jax: Any = importlib.import_module("jax")
    jnp: Any = importlib.import_module("jax.numpy")
    if problem.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    data, net = problem.make()
    x, y, W0, a0 = (jnp.asarray(array) for array in (data.x, data.y, net.W, net.a))
    n = data.n

    def step(_: Any, weights: tuple[Any, Any]) -> tuple[Any, Any]:
        W, a = weights
        z = W @ x.T
        r = y / (1 + jnp.exp(y * (a @ jnp.maximum(z, 0)))) / n
        H = jnp.where(z > 0, r, 0) @ x
        return W + STEP_SIZE * a[:, None] * H, a + STEP_SIZE * jnp.sum(W * H, axis=1)

    loop = jax.jit(lambda W, a, steps: jax.lax.fori_loop(0, steps, step, (W, a)))

    def run(steps: int) -> tuple[Any, Any]:
        W, a = jax.block_until_ready(loop(W0, a0, steps))
        return W, a

    return Runner(run)


RUNNERS: dict[str, Callable[[Problem, int], Runner]] = {
    "featcore": featcore_runner,
    "numpy": numpy_runner,
    "torch": torch_runner,
    "jax": jax_runner,
}

PEERS = tuple(name for name in RUNNERS if name != "featcore")
"""The libraries that featcore is compared with, where they are installed."""


def _blas() -> str:
    """Return what numpy multiplies matrices with, and for which CPU if threadpoolctl is there to ask."""
    config: Any = np.show_config(mode="dicts")
    found = config["Build Dependencies"]["blas"]
    words = [found["name"], found["version"]]
    if importlib.util.find_spec("threadpoolctl") is not None:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
        words += [pool["architecture"] for pool in pools if "architecture" in pool][:1]
    return " ".join(words)
