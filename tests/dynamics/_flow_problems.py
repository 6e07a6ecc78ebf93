"""Twenty random problems of the gradient flow, fixed before the first run of the event-resolved flow on them.

`PROBLEMS` are held to `TOLERANCES` with error <= `ALLOWED` * rtol. Nothing in the integrator was chosen by looking
at them: calibration used seeds from 1000 on. (One thing was, later: the measure of a step's error, after seed 13
failed at 1e-4.) `FRESH_SEEDS` were written down before any flow was run on them, to hold that change against problems
that it was not made for; the oracle takes them in the order of n m d for as long as 40 CPU minutes last, and 300 s each
at most.
"""

from dataclasses import dataclass

import numpy as np

SEEDS = tuple(range(20))
FRESH_SEEDS = tuple(range(100, 140))
# Of the initial weights of seed 13, which at rtol = 1e-4 once decided between errors of 8 and 33 rtol.
ROUNDINGS = 1e-15
ROUNDING_SEEDS = tuple(range(1, 9))
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
ALLOWED = 10.0
LOSSES = ("logistic", "exponential", "squared")


@dataclass(frozen=True)
class FlowProblem:
    """A network on a data set: arrays, a loss, and the slope of the activation."""

    x: np.ndarray
    y: np.ndarray
    W: np.ndarray
    a: np.ndarray
    loss: str
    slope: float
    kind: str


def reference_problem():
    """Return the reference problem of issue 4; it runs to t = 60."""
    rng = np.random.default_rng(0)
    n, d, m = 100, 20, 100
    y = np.r_[np.ones(n // 2), -np.ones(n // 2)]
    x = y[:, None] * (2 * np.eye(d)[0]) + 0.3 * rng.standard_normal((n, d))
    W = 1e-4 * rng.standard_normal((m, d))
    a = np.sign(rng.standard_normal(m)) * np.linalg.norm(W, axis=1)
    return FlowProblem(x, y, W, a, "logistic", 0.0, "separable")


def random_problem(seed):
    """Return a problem with sizes log-uniform in n 10...300, d 2...50, m 5...300 and scale 1e-6...1e-1."""
    rng = np.random.default_rng([4, seed])

    def size(least, most):
        return round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))

    n, d, m = size(10, 300), size(2, 50), size(5, 300)
    scale = 10 ** rng.uniform(-6, -1)
    loss = LOSSES[seed % 3]
    kind = ("separable", "overlapping", "random")[seed // 3 % 3]
    slope = 0.1 if seed % 5 == 4 else 0.0
    y = rng.choice([-1.0, 1.0], n)
    shift = {"separable": 2.0, "overlapping": 0.5, "random": 0.0}[kind]
    spread = 0.3 if kind == "separable" else 1.0
    x = y[:, None] * (shift * np.eye(d)[0]) + spread * rng.standard_normal((n, d))
    if loss == "squared":
        y = np.maximum(x @ rng.standard_normal((d, 3)) / np.sqrt(d), 0) @ rng.standard_normal(3)
        if kind != "separable":
            y = y + 0.3 * rng.standard_normal(n)
    W = scale * rng.standard_normal((m, d))
    # unbalanced ones have heads that may change their sign
    balanced = seed % 4 != 3
    a = (
        rng.choice([-1.0, 1.0], m) * np.linalg.norm(W, axis=1)
        if balanced
        else scale * rng.standard_normal(m)
    )
    return FlowProblem(x, y, W, a, loss, slope, kind)


def end_time(problem):
    """Return where plain descent has the loss at a tenth of its start, rounded to three digits; at most 100."""
    x, y, W, a = problem.x, problem.y, problem.W.copy(), problem.a.copy()
    first = None
    step = 0.02 / max(1.0, np.linalg.norm(x, 2) ** 2 / len(y))
    for k in range(round(100 / step)):
        z = W @ x.T
        f = a @ np.where(z > 0, z, problem.slope * z)
        if problem.loss == "squared":
            loss, r = np.mean((y - f) ** 2) / 2, y - f
        elif problem.loss == "exponential":
            loss, r = np.mean(np.exp(-y * f)), y * np.exp(-y * f)
        else:
            loss, r = np.mean(np.logaddexp(0, -y * f)), y / (1 + np.exp(y * f))
        first = loss if first is None else first
        if loss <= first / 10:
            return float(f"{k * step:.3g}")
        V = (np.where(z > 0, 1.0, problem.slope) * r) @ x / len(y)
        W, a = W + step * a[:, None] * V, a + step * (W * V).sum(1)
    return 100.0
