"""One descent step inside a run, against JAX's jitted loop: equality asserted first, medians of alternating runs.

    python bench/descend_against_jax.py [--shape n,d,m] [--steps K] [--repeats R] [--max-ratio X]

Both sides use the same dtype and threads. Build featcore with FEATCORE_NATIVE for the comparison of the issue.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

import featcore as fc


def jax_loop(data: fc.Dataset, step_size: float, steps: int) -> Callable[..., object]:
    """Return a jitted function (W, a) -> (W, a) of `steps` steps of mean logistic loss."""
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(data.x), jnp.asarray(data.y)

    def body(_: int, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        W, a = weights
        z = x @ W.T
        h = jnp.maximum(z, 0)
        r = y / (1 + jnp.exp(y * (h @ a))) / data.n
        grad_a = h.T @ r
        grad_W = a[:, None] * (jnp.where(z > 0, r[:, None], 0).T @ x)
        return W + step_size * grad_W, a + step_size * grad_a

    return jax.jit(lambda W, a: jax.lax.fori_loop(0, steps, body, (W, a)))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="1000,50,200")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument(
        "--max-ratio", type=float, help="exit 1 if featcore's time over JAX's is above"
    )
    options = parser.parse_args()
    n, d, m = map(int, options.shape.split(","))
    threads = fc.build_info()["num_threads"]
    os.environ.setdefault(
        "XLA_FLAGS", f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={threads}"
    )
    import jax

    jax.config.update("jax_enable_x64", True)
    print(
        f"featcore {fc.build_info()['isa']} ({fc.build_info()['simd']}), jax {jax.__version__}, {threads} threads"
    )
    worst = 0.0
    for dtype in (np.float64, np.float32):
        rng = np.random.default_rng(0)
        data = fc.Dataset(
            rng.standard_normal((n, d)).astype(dtype), rng.choice([-1.0, 1.0], n).astype(dtype)
        )
        net = fc.TwoLayerNet.gaussian(m, d, scale=0.1, head="rademacher", dtype=dtype)
        step_size = 1e-3
        loop = jax_loop(data, step_size, options.steps)

        def ours(
            data: fc.Dataset = data, net: fc.TwoLayerNet = net, step_size: float = step_size
        ) -> fc.TwoLayerNet:
            return fc.descend(net, data, "logistic", step_size=step_size, steps=options.steps).net

        def theirs(loop: Callable[..., object] = loop, net: fc.TwoLayerNet = net) -> object:
            return jax.block_until_ready(loop(net.W, net.a))

        W, _ = theirs()
        error = np.linalg.norm(ours().W - np.asarray(W)) / np.linalg.norm(W)
        assert error < (1e-12 if dtype is np.float64 else 1e-5), error
        times: dict[str, list[float]] = {"featcore": [], "jax": []}
        for _ in range(options.repeats):
            for name, call in (("featcore", ours), ("jax", theirs)):
                began = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - began) / options.steps)
        ratio = statistics.median(
            f / j for f, j in zip(times["featcore"], times["jax"], strict=True)
        )
        worst = max(worst, ratio)
        medians = ", ".join(
            f"{name} {1e3 * statistics.median(t):.3f} ms" for name, t in times.items()
        )
        print(f"n={n} d={d} m={m} {np.dtype(dtype)}: {medians} a step; featcore/jax = {ratio:.2f}")
    return int(options.max_ratio is not None and worst > options.max_ratio)


if __name__ == "__main__":
    raise SystemExit(main())
