"""Rate of an ensemble against that of single runs on one thread, one after another.

    python bench/ensemble_rate.py [--shape n,d,m] [--members K] [--steps S] [--threads T] [--min-efficiency X]

Efficiency is (seconds of single runs) / (threads · seconds of the ensemble), of medians of alternating runs. Bits
are asserted equal first.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

import featcore as fc


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="100,20,100")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=fc.build_info()["num_threads"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--min-efficiency", type=float, help="exit 1 below it")
    options = parser.parse_args()
    n, d, m = map(int, options.shape.split(","))
    rng = np.random.default_rng(0)
    data = fc.Dataset(rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], n))
    nets = [fc.TwoLayerNet.gaussian(m, d, 0.1, seed=seed) for seed in range(options.members)]

    def alone() -> Sequence[fc.Run]:
        return [
            fc.descend(net, data, step_size=0.01, steps=options.steps, num_threads=1)
            for net in nets
        ]

    def together() -> Sequence[fc.Run]:
        return fc.ensemble(
            nets, data, step_size=0.01, steps=options.steps, num_threads=options.threads
        )

    for one, other in zip(alone(), together(), strict=True):
        assert one.net.W.tobytes() == other.net.W.tobytes()
        assert one.net.a.tobytes() == other.net.a.tobytes()
    pairs = [(seconds(alone), seconds(together)) for _ in range(options.repeats)]
    one, many = (statistics.median(times) for times in zip(*pairs, strict=True))
    efficiency = one / (options.threads * many)
    print(
        f"{options.members} members of (n, d, m) = ({n}, {d}, {m}), {options.steps} steps: {one:.3f} s one by one, "
        f"{many:.3f} s as an ensemble on {options.threads} threads; efficiency {efficiency:.1%}"
    )
    return int(options.min_efficiency is not None and efficiency < options.min_efficiency)


if __name__ == "__main__":
    raise SystemExit(main())
