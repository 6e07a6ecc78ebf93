"""Networks and data sets for property tests: sizes, scales and ties under control."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

import featcore as fc
from featcore import reference

ACTIVATIONS = (
    fc.ReLU(),
    fc.LeakyReLU(0.1),
    fc.LeakyReLU(-0.5),
    fc.LeakyReLU(1.0),
    fc.LeakyReLU(2.0),
    fc.Tanh(),
    fc.Erf(),
    fc.GELU(),
    fc.Softplus(),
)
LOSSES = ("logistic", "exponential", "hinge", "squared")
THREADS = (1, 2, 3, 5)

# Tiles are 64 neurons by 512 samples, lanes 8 (float64) or 16 (float32): both sides of every multiple.
EDGES = (1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 191, 193, 255, 256, 257)

sizes = st.one_of(st.integers(1, 12), st.sampled_from(EDGES), st.integers(1, 300))
seeds = st.integers(0, 2**32 - 1)
activations = st.sampled_from(ACTIVATIONS)
losses = st.sampled_from(LOSSES)
dtypes = st.sampled_from((np.float64, np.float32))


@dataclass(frozen=True)
class Case:
    """A network, a data set and an objective."""

    net: fc.TwoLayerNet
    data: fc.Dataset
    loss: str
    settings: dict[str, object] = field(default_factory=dict)

    def compiled(self, num_threads=1):
        return fc.loss_and_grad(
            self.net, self.data, self.loss, **self.settings, num_threads=num_threads
        )

    def expected(self):
        return reference.gradient(self.net, self.data, self.loss, **self.settings)


def make_data(n, d, seed, *, net=None, weighted=False, dtype=np.float64, loss="logistic"):
    """Return Gaussian data with random labels; with `net`, no sample is near a tie or hinge kink."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(dtype)
    y = rng.standard_normal(n) if loss == "squared" else rng.choice([-1.0, 1.0], n)
    y = y.astype(dtype)
    if net is not None:
        for _ in range(50):
            close = near_kink(net, x, y, loss)
            if not close.any():
                break
            x[close] = rng.standard_normal((close.sum(), d)).astype(dtype)
        else:
            raise AssertionError("no data away from ties")
    weights = None
    if weighted:
        weights = rng.uniform(0.1, 3.0, n) * (rng.random(n) > 0.25)
        weights[rng.integers(n)] = 1.0
        weights = weights.astype(dtype)
    return fc.Dataset(x, y, weights=weights)


def near_kink(net, x, y, loss="logistic"):
    """Return which samples have a pre-activation, or 1 - y f for the hinge, near rounding."""
    W, a, x, y = (np.asarray(v, dtype=np.float64) for v in (net.W, net.a, x, y))
    eps = float(np.finfo(net.dtype).eps)
    close = np.zeros(len(x), dtype=bool)
    z = x @ W.T
    if net.activation.kinked:
        lengths = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(W, axis=1)
        close |= (np.abs(z) < 16 * eps * lengths).any(axis=1)
    if loss == "hinge":
        sigma = net.activation(z)
        slack = 32 * eps * (1 + np.abs(sigma) @ np.abs(a))
        close |= np.abs(1 - y * (sigma @ a)) < slack
    return close


def make_net(m, d, seed, *, activation, dtype=np.float64):
    """Return a network whose outputs on Gaussian data are of order one."""
    rng = np.random.default_rng([seed, 1])
    W = rng.standard_normal((m, d)) / math.sqrt(d)
    a = rng.standard_normal(m) / math.sqrt(m)
    return fc.TwoLayerNet(W.astype(dtype), a.astype(dtype), activation)


@st.composite
def cases(draw, n=sizes, d=sizes, m=sizes, dtype=dtypes):
    """Draw a network, data away from ties, and an objective."""
    n, d, m, seed, dtype = draw(n), draw(d), draw(m), draw(seeds), draw(dtype)
    loss, activation = draw(losses), draw(activations)
    net = make_net(m, d, seed, activation=activation, dtype=dtype)
    weighted = draw(st.booleans())
    data = make_data(n, d, seed, net=net, weighted=weighted, dtype=dtype, loss=loss)
    settings = {
        "reduction": draw(st.sampled_from(("mean", "sum"))),
        "weight_decay": draw(st.sampled_from((0.0, 0.3))),
        "output_penalty": draw(st.sampled_from((0.0, 0.7))),
    }
    return Case(net, data, loss, settings)


def magnitudes(case):
    """Return the norm of the sums of magnitudes that the gradient's sums cancel in."""
    net, data = case.net, case.data
    W, a, x, y = (np.asarray(v, dtype=np.float64) for v in (net.W, net.a, data.x, data.y))
    w = np.ones(data.n) if data.weights is None else data.weights.astype(np.float64)
    share = w / w.sum()
    c = share if case.settings.get("reduction", "mean") == "mean" else w
    z = x @ W.T
    f = net.activation(z) @ a
    decay, penalty = (case.settings.get(k, 0.0) for k in ("weight_decay", "output_penalty"))
    # y - f cancels too, and so may f
    terms_of_f = np.abs(net.activation(z)) @ np.abs(a)
    residual = (
        np.abs(y) + terms_of_f
        if case.loss == "squared"
        else np.abs(fc.losses.get(case.loss).residual(f, y))
    )
    r = c * residual + penalty * share * terms_of_f
    slopes = np.abs(net.activation.derivative(z))
    sums_W = np.abs(a)[:, None] * ((r[:, None] * slopes).T @ np.abs(x)) + decay * np.abs(W)
    # A homogeneous activation's head gradient is <w_j, h_j>: its magnitudes are those of that sum.
    sums_a = (r[:, None] * np.maximum(np.abs(net.activation(z)), np.abs(x) @ np.abs(W).T)).sum(0)
    return math.hypot(np.linalg.norm(sums_W), np.linalg.norm(sums_a + decay * np.abs(a)))


def distance(gradient, expected):
    """Return the norm of the difference of two gradients."""
    return math.hypot(
        float(np.linalg.norm(gradient.W.astype(np.float64) - expected.W)),
        float(np.linalg.norm(gradient.a.astype(np.float64) - expected.a)),
    )


def flat(gradient):
    """Return both layers of a gradient as one vector."""
    return np.concatenate([gradient.W.ravel(), gradient.a])
