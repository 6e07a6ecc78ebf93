"""What the parts share: a network and its batches, errors of ridge regression, and what is regressed out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import featcore as fc
from featcore.data.index_models import Link
from featcore.experiments.one_step.settings import Settings
from featcore.experiments.part import child
from featcore.theory import one_step as theory

Array = NDArray[np.float64]

QUANTITIES = ("objective", "train_error", "test_error")
WORDS = {"objective": "objective", "train_error": "training error", "test_error": "test error"}
RELU = fc.ReLU().centred()
QUADRATIC = (0.0, 1.0, 0.5**0.5)
"""z + (z² - 1)/√2, half of whose energy is linear."""


@dataclass(frozen=True)
class Case:
    """A student, a teacher and their sizes."""

    activation: fc.activations.Activation
    link: Link
    n: int
    d: int
    width: int
    ridge: float
    noise: float
    residual: Literal["labels", "full"] = "labels"

    @property
    def problem(self) -> dict[str, Any]:
        """What every function of the theory takes."""
        sizes = {"n": self.n, "d": self.d, "width": self.width, "noise": self.noise}
        return {"activation": self.activation, "link": self.link, **sizes}

    def random(self, ridge: ArrayLike | None = None) -> theory.Errors:
        """Return what is predicted without a step."""
        chosen = self.ridge if ridge is None else ridge
        return theory.random_features_errors(**self.problem, ridge=chosen)

    def predicted(self, alpha: ArrayLike, ridge: ArrayLike | None = None) -> theory.Errors:
        """Return what is predicted after a step of size n^α."""
        chosen = self.ridge if ridge is None else ridge
        eta = float(self.n) ** np.asarray(alpha)
        return theory.errors(**self.problem, ridge=chosen, step_size=eta, residual=self.residual)

    def conditional(self, alpha: ArrayLike) -> theory.Errors:
        """Return what is predicted after a step of size n^α that need not be weak."""
        eta = float(self.n) ** np.asarray(alpha)
        return theory.conditional_errors(
            **self.problem, ridge=self.ridge, step_size=eta, residual=self.residual
        )

    @property
    def energy(self) -> float:
        """E y²."""
        return float(fc.data.link(self.link).second_moment() + self.noise**2)


@dataclass(frozen=True, eq=False)
class Start:
    """A network at its start, its gradient, and batches: for the step, for ridge regression and for the test."""

    net: fc.TwoLayerNet
    gradient: Array
    step: fc.Dataset
    ridge: fc.Dataset
    test: fc.Dataset

    def stepped(self, step_size: float) -> fc.TwoLayerNet:
        """Return the network after a step; the gradient is the same for all sizes."""
        W = self.net.W + step_size * self.gradient
        return fc.TwoLayerNet(W, self.net.a, self.net.activation)


def streams(
    settings: Settings, seeds: Sequence[int], *key: int, times: int = 1
) -> list[np.random.SeedSequence]:
    """Return the seeds of a part's networks, `times` as many as the settings say."""
    return [child(seed, *key, draw) for seed in seeds for draw in range(times * settings.draws)]


def resolution(settings: Settings) -> float:
    """Return the largest 3 standard errors, relative, at which a measured error says something."""
    return 0.021 if settings.draws >= 4 else 0.08


def network(
    dim: int, width: int, activation: fc.activations.Activation, seed: np.random.SeedSequence
) -> fc.TwoLayerNet:
    """Return rows uniform on the sphere and a head of N(0, 1/width)."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((width, dim))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return fc.TwoLayerNet(W, rng.standard_normal(width) / np.sqrt(width), activation)


def start(case: Case, seed: np.random.SeedSequence, test_samples: int = 0) -> Start:
    """Draw a network and three independent batches of one teacher."""
    of_net, of_step, of_ridge, of_test = seed.spawn(4)
    net = network(case.d, case.width, case.activation, of_net)
    first = fc.data.single_index(case.n, case.d, case.link, noise=case.noise, seed=of_step)
    direction = first.means[0] if first.means is not None else None

    def batch(count: int, of: np.random.SeedSequence) -> fc.Dataset:
        return fc.data.single_index(
            count, case.d, case.link, noise=case.noise, direction=direction, seed=of
        )

    stepped = fc.one_step(net, first, 1.0, residual=case.residual)
    return Start(
        net,
        stepped.W - net.W,
        first,
        batch(case.n, of_ridge),
        batch(max(test_samples, 1), of_test),
    )


def errors(drawn: Start, step_sizes: Sequence[float], ridges: ArrayLike) -> Array:
    """Return objective, training and test error, and the mean y² of either batch: (steps, ridges, 5)."""
    lam = np.atleast_1d(np.asarray(ridges, dtype=np.float64))
    rows = []
    squares = [np.full(lam.shape, np.mean(batch.y**2)) for batch in (drawn.ridge, drawn.test)]
    for eta in step_sizes:
        net = drawn.stepped(eta)
        fit = fc.ridge(fc.features(net, drawn.ridge.x), drawn.ridge.y, lam)
        tested = fit.test_error(fc.features(net, drawn.test.x), drawn.test.y)
        rows.append([fit.objective, fit.train_error, tested, *squares])
    return np.swapaxes(np.array(rows, dtype=np.float64), 1, 2)


def controlled(runs: Array, energy: float) -> Array:
    """Return errors as they would be were mean y² what it is expected to be: (seeds, …, 3) of (seeds, …, 5).

    Labels have heavy tails, and with them errors. What a linear fit over seeds explains by mean y² of the two batches
    is taken out. Values are spread so that their standard error is that of the fit's constant, with the
    freedom that it has used up; fewer than ten networks are left as they are.
    """
    seeds = len(runs)
    values = runs[..., :3]
    if seeds < 10:
        return values
    shape = values.shape
    controls = runs[..., 3:].reshape(seeds, -1, 2)[:, 0]  # the same for all steps and ridges
    design = np.column_stack([np.ones(seeds), controls - energy])
    flat = values.reshape(seeds, -1)
    fit, *_ = np.linalg.lstsq(design, flat, rcond=None)
    left = flat - design @ fit
    spread = np.linalg.inv(design.T @ design)[0, 0]
    left *= np.sqrt(seeds * spread * (seeds - 1) / (seeds - 3))
    return np.asarray((fit[0] + left).reshape(shape))


def band(samples: Array) -> tuple[Array, Array]:
    """Return mean and three standard errors over the first axis."""
    return samples.mean(axis=0), 3 * samples.std(axis=0, ddof=1) / np.sqrt(len(samples))


def allowance(alpha: float | None) -> float:
    """Return what the theory may be off by, relative, at d = 500; settled on other seeds."""
    if alpha is None:
        return 0.02
    return 0.03 if alpha <= 0.3 else 0.06
