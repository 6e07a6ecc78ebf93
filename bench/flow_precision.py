"""Work and precision of gradient flows: time against achieved error, on the reference problem, of all solvers here.

    python bench/flow_precision.py [--page docs/work_precision.md] [--seconds S]

n = 100, d = 20, m = 100, logistic loss, scale 1e-4, t = 60, float64, 5426 crossings. The error is the relative
Euclidean distance of the final (W, a) from `tests/dynamics/flow_oracle.npz`, an eighth-order solver restarted at every
crossing. Exits with 1 if a criterion fails. With --page the table of that page is written anew.
"""

import argparse
import importlib.util
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

import featcore as fc

TESTS = Path(__file__).parents[1] / "tests" / "dynamics"
T_END = 60.0
ATOL = 1e-3  # of rtol, for all
MARK = "<!-- measured: written by bench/flow_precision.py -->"

Solve = Callable[[float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Point:
    """One run of a solver."""

    rtol: float
    error: float
    seconds: float


@dataclass(frozen=True)
class Solver:
    """`make` gives what solves at a tolerance, in a process of its own; `package` has it."""

    name: str
    package: str
    make: Callable[[], Solve]
    finest: float = 1e-12


def problem():
    """Return the reference problem as the tests have it."""
    sys.path.insert(0, str(TESTS))
    from _flow_problems import reference_problem

    return reference_problem()


def featcore_solver(method: str, num_threads: int | None) -> Solve:
    p = problem()
    net, data = fc.TwoLayerNet(p.W, p.a), fc.Dataset(p.x, p.y)
    record = fc.Recording.at([])

    def solve(rtol):
        run = fc.flow(
            net,
            data,
            t_end=T_END,
            method=method,
            rtol=rtol,
            atol=ATOL * rtol,
            record=record,
            num_threads=num_threads,
            max_steps=10**9,
        )
        return run.net.W, run.net.a

    return solve


def event_one():
    return featcore_solver("event", 1)


def event_all():
    return featcore_solver("event", None)


def tsit5_all():
    return featcore_solver("tsit5", None)


def diffrax_solver(name: str) -> Solve:
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    p = problem()
    x, y = jnp.asarray(p.x), jnp.asarray(p.y)

    def field(_t, theta, _args):
        W, a = theta
        z = W @ x.T
        active = z > 0
        r = y / (1 + jnp.exp(y * (a @ jnp.where(active, z, 0.0)))) / len(y)
        V = jnp.where(active, r, 0.0) @ x
        return a[:, None] * V, (W * V).sum(1)

    @jax.jit
    def solve(theta, rtol):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            getattr(diffrax, name)(),
            0.0,
            T_END,
            None,
            theta,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=ATOL * rtol),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=None,
        )
        return solution.ys

    start = (jnp.asarray(p.W), jnp.asarray(p.a))

    def run(rtol):
        W, a = solve(start, rtol)
        return np.asarray(W)[0], np.asarray(a)[0]

    run(1e-2)  # compiles
    return run


def diffrax_tsit5():
    return diffrax_solver("Tsit5")


def diffrax_dopri8():
    return diffrax_solver("Dopri8")


def scipy_solver(method: str) -> Solve:
    from scipy.integrate import solve_ivp

    p = problem()
    m, d = p.W.shape

    def field(_t, theta):
        W, a = theta[: m * d].reshape(m, d), theta[m * d :]
        z = W @ p.x.T
        active = z > 0
        r = p.y / (1 + np.exp(p.y * (a @ (z * active)))) / len(p.y)
        V = (active * r) @ p.x
        return np.concatenate([(a[:, None] * V).ravel(), (W * V).sum(1)])

    def solve(rtol):
        theta = np.concatenate([p.W.ravel(), p.a])
        end = solve_ivp(
            field, (0, T_END), theta, method, t_eval=[T_END], rtol=rtol, atol=ATOL * rtol
        ).y[:, -1]
        return end[: m * d].reshape(m, d), end[m * d :]

    return solve


def scipy_rk45():
    return scipy_solver("RK45")


def scipy_dop853():
    return scipy_solver("DOP853")


def scipy_lsoda():
    return scipy_solver("LSODA")


def torchdiffeq_solver(method: str) -> Solve:
    import torch
    from torchdiffeq import odeint

    p = problem()
    x, y = torch.from_numpy(p.x), torch.from_numpy(p.y)
    start = (torch.from_numpy(p.W), torch.from_numpy(p.a))
    times = torch.tensor([0.0, T_END], dtype=torch.float64)

    def field(_t, theta):
        W, a = theta
        z = W @ x.T
        active = (z > 0).to(z.dtype)
        r = y / (1 + torch.exp(y * (a @ (z * active)))) / len(y)
        V = (active * r) @ x
        return a[:, None] * V, (W * V).sum(1)

    @torch.inference_mode()
    def solve(rtol):
        W, a = odeint(field, start, times, rtol=rtol, atol=ATOL * rtol, method=method)
        return W[-1].numpy(), a[-1].numpy()

    return solve


def torch_dopri5():
    return torchdiffeq_solver("dopri5")


def torch_dopri8():
    return torchdiffeq_solver("dopri8")


EVENT, TSIT5 = "featcore event", "diffrax Tsit5"
SOLVERS = (
    Solver(EVENT, "featcore", event_all, 1e-11),
    Solver(f"{EVENT}, 1 thread", "featcore", event_one, 1e-11),
    Solver("featcore tsit5", "featcore", tsit5_all),
    Solver(TSIT5, "diffrax", diffrax_tsit5),
    Solver("diffrax Dopri8", "diffrax", diffrax_dopri8),
    Solver("scipy RK45", "scipy", scipy_rk45),
    Solver("scipy DOP853", "scipy", scipy_dop853),
    Solver("scipy LSODA", "scipy", scipy_lsoda),
    Solver("torchdiffeq dopri5", "torchdiffeq", torch_dopri5),
    Solver("torchdiffeq dopri8", "torchdiffeq", torch_dopri8),
)


def measure(solver: Solver, limit: float) -> list[Point]:
    """Return runs at finer and finer tolerances, until the next would take longer than `limit` seconds."""
    solve = solver.make()
    known = np.load(TESTS / "flow_oracle.npz")["reference"][3:]
    points: list[Point] = []
    for rtol in tolerances(solver.finest):
        took: list[float] = []
        while sum(took) < min(0.5, limit) and len(took) < 9:
            began = time.perf_counter()
            W, a = solve(rtol)
            took.append(time.perf_counter() - began)
        # the first of several wakes threads and fills caches
        seconds = statistics.median(took[1:] or took)
        error = math.dist(np.concatenate([W.ravel(), a]), known) / float(np.linalg.norm(known))
        points.append(Point(rtol, error, seconds))
        growth = seconds / points[-2].seconds if len(points) > 1 else 1.0
        if seconds * max(growth, 1.0) > limit:
            break
    return points


def tolerances(finest: float) -> Iterator[float]:
    """Yield 1e-2, 10^-2.5, 1e-3, … down to `finest`."""
    for half in range(4, round(-2 * math.log10(finest)) + 1):
        yield 10.0 ** (-half / 2)


def seconds_for(points: list[Point], error: float) -> float | None:
    """Return the time to `error`: between two runs by a straight line in logarithms; None if it is not reached."""
    before = None
    for point in points:
        if point.error <= error:
            if before is None:
                return point.seconds
            share = math.log(before.error / error) / math.log(before.error / point.error)
            return before.seconds * (point.seconds / before.seconds) ** share
        before = point
    return None


ERRORS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)


def table(found: dict[str, list[Point]]) -> str:
    def shown(seconds: float | None) -> str:
        return "" if seconds is None else f"{1000 * seconds:.3g}"

    head = ["solver", *(f"{error:.0e}" for error in ERRORS), "smallest error"]
    rows = [
        [
            name,
            *(shown(seconds_for(points, error)) for error in ERRORS),
            f"{min(p.error for p in points):.1e}",
        ]
        for name, points in found.items()
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def criteria(found: dict[str, list[Point]]) -> list[tuple[str, bool]]:
    """Return what is to hold, with what was measured, and whether it does."""
    ours, theirs = found[EVENT], found.get(TSIT5, [])
    peer = seconds_for(theirs, 1e-6)
    results = []
    for error, least in ((1e-6, 100), (1e-8, 30)):
        own = seconds_for(ours, error)
        if own is None or peer is None:
            results.append((f"error {error:.0e}: not measured", False))
            continue
        results.append(
            (
                f"error {error:.0e} in 1/{peer / own:.0f} of the time that diffrax's Tsit5 takes for 1e-06 "
                f"(at most 1/{least})",
                peer / own >= least,
            )
        )
    best = min(point.error for point in ours)
    results.append((f"smallest error {best:.1e} (at most 1e-09)", best <= 1e-9))
    return results


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--page", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0, help="limit of one run, about")
    options = parser.parse_args()
    found: dict[str, list[Point]] = {}
    for solver in SOLVERS:
        if importlib.util.find_spec(solver.package) is None:
            print(f"{solver.package} is not installed", file=sys.stderr)
            continue
        # the criteria need Tsit5 to get to 1e-6
        limit = max(options.seconds, 15.0) if solver.name == TSIT5 else options.seconds
        # in a process of its own: no threads of another library, nor its settings
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found[solver.name] = pool.submit(measure, solver, limit).result()
        for point in found[solver.name]:
            print(
                f"{solver.name:24} rtol {point.rtol:.1e}  error {point.error:.2e}  {point.seconds:.5f} s",
                file=sys.stderr,
            )
    build = fc.build_info()
    packages = dict.fromkeys(solver.package for solver in SOLVERS if solver.name in found)
    verdicts = criteria(found)
    text = "\n".join(
        [
            f"{build['num_threads']} processors ({platform.machine()}, {build['isa']}); "
            + ", ".join(
                f"{package} {version(package)}" for package in packages if package != "featcore"
            )
            + f"; featcore {build['version']}.",
            "Milliseconds to an error of",
            "",
            table(found),
            "",
            *(f"* {'holds' if good else 'FAILS'}: {sentence}" for sentence, good in verdicts),
        ]
    )
    print(text)
    if options.page is not None:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(page[: page.index(MARK)] + f"{MARK}\n\n{text}\n", encoding="utf-8")
    return int(not all(good for _, good in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
