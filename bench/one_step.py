"""Speed of one gradient step, features and ridge: run on a quiet machine.

    [OMP_NUM_THREADS=1] python bench/one_step.py [--repeats N]

(a) The step and the features at n = d = N = 4096 in float32, as a share of the multiply-add rate measured on the
spot. A step is two products, features are one.
(b) One point of the experiment (step, features, a ridge path of 20 penalties, errors on 2000 test samples) at
d = 1000, n = 2000, N = 1200 in float32, against the same in numpy with scipy's solvers: products in float32, ridge in
float64, one pass over memory where numpy can, and the faster of one eigendecomposition and 20 Cholesky factorisations.
Results are asserted equal before anything is timed; runs alternate, each after a rest; medians count.

Exits with 1 if a floor is missed. OMP_NUM_THREADS holds for both sides.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.special import erf

import featcore as fc
from featcore._dispatch import core, default_threads

SIZE = 4096
FRACTION = 0.70
POINT = {"n": 2000, "d": 1000, "N": 1200}
LAMBDAS = np.geomspace(1e-3, 1e1, 20)
STEP = 8.0
RATIO = 3.0
REST = 0.1  # OpenBLAS's threads spin for some 25 ms after a call

Array = NDArray[np.floating]
C0 = np.float32(1.0 / math.sqrt(2.0 * math.pi))


def relu(z: Array) -> Array:
    """Return centred ReLU, in place."""
    np.maximum(z, 0, out=z)
    z -= C0
    return z


def weighted_step(z: Array, y: Array) -> Array:
    """Return y σ'(z) of ReLU."""
    return np.where(z > 0, y[:, None], np.float32(0))


def weighted_gauss(z: Array, y: Array) -> Array:
    """Return y σ'(z) of erf, in place."""
    np.multiply(z, -z, out=z)
    np.exp(z, out=z)
    z *= np.float32(2.0 / math.sqrt(math.pi)) * y[:, None]
    return z


def weighted_sech(z: Array, y: Array) -> Array:
    """Return y σ'(z) of tanh, in place."""
    np.tanh(z, out=z)
    z *= -z
    z += 1
    z *= y[:, None]
    return z


PEERS: dict[str, tuple[fc.activations.Activation, Callable[..., Array], Callable[..., Array]]] = {
    "centred ReLU": (fc.ReLU().centred(), relu, weighted_step),
    "tanh": (fc.Tanh(), lambda z: np.tanh(z, out=z), weighted_sech),
    "erf": (fc.Erf(), lambda z: erf(z, out=z), weighted_gauss),
}


def problem(
    n: int, d: int, N: int, sigma: fc.activations.Activation
) -> tuple[fc.TwoLayerNet, list[fc.Dataset]]:
    """Return a network as the theory has it, and three independent sets of samples."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((N, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    a = rng.standard_normal(N) / math.sqrt(N)
    net = fc.TwoLayerNet(W.astype(np.float32), a.astype(np.float32), sigma)
    teacher = [0.0, 1.0, math.sqrt(0.5)]
    first = fc.data.single_index(n, d, teacher, noise=0.3, seed=0, dtype=np.float32)
    beta = first.means[0].astype(np.float64)  # type: ignore[index]
    rest = [
        fc.data.single_index(n, d, teacher, noise=0.3, seed=k, direction=beta, dtype=np.float32)
        for k in (1, 2)
    ]
    return net, [first, *rest]


def ours(net: fc.TwoLayerNet, data: list[fc.Dataset]) -> tuple[Array, Array]:
    """Return objectives and test errors along the path."""
    batch, train, test = data
    stepped = fc.one_step(net, batch, STEP)
    fit = fc.ridge(fc.features(stepped, train.x), train.y, LAMBDAS)
    return np.asarray(fit.objective), np.asarray(
        fit.test_error(fc.features(stepped, test.x), test.y)
    )


def theirs(
    net: fc.TwoLayerNet, data: list[fc.Dataset], name: str, solver: str
) -> tuple[Array, Array]:
    """Return the same by numpy and scipy."""
    _, sigma, weighted = PEERS[name]
    batch, train, test = data
    n = train.n
    B = weighted(batch.x @ net.W.T, batch.y)
    W = net.W + (np.float32(STEP / n) * net.a)[:, None] * (B.T @ batch.x)
    F = sigma(train.x @ W.T).astype(np.float64)
    gram, right = F.T @ F, F.T @ train.y.astype(np.float64)
    if solver == "eigh":
        values, vectors = eigh(gram, driver="evd", overwrite_a=True, check_finite=False)
        seen = (vectors.T @ right)[:, None] / (values[:, None] + n * LAMBDAS)
        A = vectors @ seen
    else:
        A = np.empty((net.width, len(LAMBDAS)))
        diagonal = np.diagonal(gram).copy()
        for k, lam in enumerate(LAMBDAS):
            np.fill_diagonal(gram, diagonal + n * lam)
            A[:, k] = cho_solve(
                cho_factor(gram, lower=True, check_finite=False), right, check_finite=False
            )
    residual = train.y[:, None] - F @ A
    objective = np.mean(residual**2, axis=0) + LAMBDAS * np.sum(A**2, axis=0)
    predicted = sigma(test.x @ W.T).astype(np.float64) @ A
    return objective, np.mean((test.y[:, None] - predicted) ** 2, axis=0)


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call, after a rest in which threads of the call before, which still spin, go to sleep."""
    time.sleep(REST)
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fractions(repeats: int, threads: int) -> bool:
    """Print (a); return whether all floors hold."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    W = (rng.standard_normal((SIZE, SIZE)) / math.sqrt(SIZE)).astype(np.float32)
    a = (rng.standard_normal(SIZE) / math.sqrt(SIZE)).astype(np.float32)
    data = fc.Dataset(x, rng.standard_normal(SIZE).astype(np.float32))
    product = 2.0 * SIZE**3
    holds = True
    for name, (sigma, *_) in PEERS.items():
        net = fc.TwoLayerNet(W, a, sigma, copy=False)
        calls = {
            "step": (2 * product, lambda net=net: fc.one_step(net, data, 1.0)),
            "step, full residual": (
                2 * product,
                lambda net=net: fc.one_step(net, data, 1.0, "full"),
            ),
            "features": (product, lambda net=net: fc.features(net, x)),
        }
        for what, (flops, call) in calls.items():
            rates, times = [], []
            for _ in range(repeats):
                rates.append(core.fma_rate("float32", threads, 0.2))
                times.append(seconds(call))
            reached = flops / statistics.median(times) / statistics.median(rates)
            asked = what != "step, full residual"  # three products, where σ' is not in a sign
            verdict = ("holds" if reached >= FRACTION else "FAILS") if asked else "told"
            holds &= verdict != "FAILS"
            print(
                f"{verdict:6}{name:14}{what:20}{reached:6.2f} of the multiply-add rate", flush=True
            )
    return holds


def point(repeats: int) -> bool:
    """Print (b); return whether all floors hold."""
    holds = True
    for name, (sigma, *_) in PEERS.items():
        net, data = problem(POINT["n"], POINT["d"], POINT["N"], sigma)
        calls = {
            "featcore": lambda net=net, data=data: ours(net, data),
            "eigh": lambda net=net, data=data, name=name: theirs(net, data, name, "eigh"),
            "Cholesky": lambda net=net, data=data, name=name: theirs(net, data, name, "Cholesky"),
        }
        results = {who: call() for who, call in calls.items()}
        for who in ("eigh", "Cholesky"):
            for got, expected in zip(results["featcore"], results[who], strict=True):
                np.testing.assert_allclose(got, expected, rtol=2e-4)  # features are float32
        times: dict[str, list[float]] = {who: [] for who in calls}
        for _ in range(repeats):
            for who, call in calls.items():
                times[who].append(seconds(call))
        medians = {who: statistics.median(all_) for who, all_ in times.items()}
        ratio = min(medians["eigh"], medians["Cholesky"]) / medians["featcore"]
        verdict = "holds" if ratio >= RATIO else "FAILS"
        holds &= ratio >= RATIO
        shown = ", ".join(f"{who} {1e3 * value:.0f} ms" for who, value in medians.items())
        print(f"{verdict:6}{name:14}one point: {shown}: {ratio:.2f} times faster", flush=True)
    return holds


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    threads = default_threads()
    print(f"{threads} threads, {fc.build_info()['isa']}", flush=True)
    holds = [point(repeats), fractions(repeats, threads)]
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
