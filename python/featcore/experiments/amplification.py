"""Random feature amplification on XOR clusters (Frei, Chatterji, Bartlett, JMLR 2023).

Of the paper only the abstract's claims are quoted. Settings and numbers are ours: derived in
docs/derivations.md, or calibrated with a numpy simulation that preceded featcore.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.claims import Claim, Finding
from featcore.experiments.protocol import ExperimentResult, Figure, Progress
from featcore.theory import amplification as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

name = "amplification"
title = "Random feature amplification on XOR clusters"
default_seeds = 16
quick_seeds = 6

SUMMARY = """\
Four tight clusters at ±μ1 (label +1) and ±μ2 (label -1) form an XOR problem that no linear classifier \
through the origin solves better than by guessing; a constant share of the training labels is wrong. A \
two-layer ReLU network starts from small random weights, its head fixed at ±1/√m, and only the first \
layer is trained, by gradient descent on the logistic loss.

At the start a neuron is a random feature, hardly correlated with any mean. Every step adds to the \
correlation it already has: neurons with a positive head turn to ±μ1, those with a negative head to \
±μ2, keeping their initial sign. The network ends at the noise rate: it predicts the clean labels and \
leaves the wrong ones unfitted."""


class Settings(pydantic.BaseModel):
    """Sizes and rates; the defaults are those the claims are stated for."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    n: pydantic.PositiveInt = 1000
    n_test: pydantic.PositiveInt = 4000
    d: int = pydantic.Field(50, ge=2)
    width: pydantic.PositiveInt = 200
    cluster_std: pydantic.NonNegativeFloat = 0.1
    label_noise: float = pydantic.Field(0.15, ge=0.0, lt=0.5)
    step_size: pydantic.PositiveFloat = 1.0
    scale: pydantic.PositiveFloat = 0.01
    steps: int = pydantic.Field(300, ge=100)


def quick() -> Mapping[str, Any]:
    """Return what a quick run changes: the length after the last claim of the early phase."""
    return {"steps": 150}


def claims(settings: Settings) -> dict[str, Claim]:
    """Return the claims, stated before any run."""
    s = settings
    field = _mean_field(s)
    oracle = theory.oracle_error(s.cluster_std)
    noisy = theory.noisy_error(s.label_noise, oracle)
    t_amp = theory.amplification_time(
        d=s.d, width=s.width, scale=s.scale, step_size=s.step_size, label_noise=s.label_noise
    )
    stated = [
        Claim(
            key="initial_cosine",
            sentence="At the start neurons are random features: mean |cos(w, μ1)| is that of a random "
            "direction, about √(2/(πd)).",
            source="derived",
            reference="docs/derivations.md, Γ(d/2)/(√π Γ((d+1)/2))",
            predicted=theory.initial_mean_cosine(s.d),
            relation="equal",
            bias=0.5 * theory.initial_mean_cosine(s.d) / s.d,
            resolution=0.01,
        ),
        Claim(
            key="first_growth",
            sentence="The first step moves <w, μ1> of positive neurons by the population gradient at f = 0 "
            "(measured over predicted).",
            source="derived",
            reference="docs/derivations.md, population gradient; the finite sample adds noise",
            predicted=1.0,
            relation="equal",
            bias=0.02,
            resolution=0.1,
        ),
        Claim(
            key="clean_accuracy_2",
            sentence="After two steps the clean test accuracy is at least 0.99.",
            source="calibrated",
            reference="1.000 at step 2 over 60 seeds of a numpy simulation, before featcore existed",
            predicted=0.99,
            relation="at_least",
            bias=0.0,
            resolution=0.02,
        ),
        Claim(
            key="cosine_10",
            sentence="At step 10 the mean |cos(w, μ1)| of positive neurons is 0.64 within 10 %.",
            source="calibrated",
            reference="0.638 on average over seeds of the numpy simulation",
            predicted=0.64,
            relation="equal",
            bias=0.064,
            resolution=0.05,
        ),
        Claim(
            key="cosine_10_theory",
            sentence="The same against the mean field of an infinitely wide network on infinite data.",
            source="derived",
            reference="docs/derivations.md, mean field; bias allowed for finite n and m",
            predicted=float(field[10]),
            relation="equal",
            bias=0.03,
            resolution=0.05,
        ),
        Claim(
            key="amplification_time",
            sentence="Neurons reach mean |cos(w, μ1)| = 0.7 after 8√(md)·ω/(α(1-2η)) steps.",
            source="derived",
            reference="docs/derivations.md; constant growth, so right to about 20 %",
            predicted=t_amp,
            relation="equal",
            bias=0.2 * t_amp,
            resolution=2.0,
            unit="steps",
        ),
        Claim(
            key="cosine_100",
            sentence="At step 100 the mean |cos(w, μ1)| of positive neurons is at least 0.95.",
            source="calibrated",
            reference="0.976 on average over seeds of the numpy simulation",
            predicted=0.95,
            relation="at_least",
            bias=0.0,
            resolution=0.02,
        ),
        Claim(
            key="clean_accuracy_end",
            sentence="At the end the network predicts the clean labels as well as the oracle "
            "|<x, μ1>| > |<x, μ2>|: error 2Q(1-Q).",
            source="derived",
            reference="docs/derivations.md; bias allowed for the test sample",
            predicted=1.0 - oracle,
            relation="equal",
            bias=0.01,
            resolution=0.01,
        ),
        Claim(
            key="noisy_accuracy_end",
            sentence="On test labels with the same noise the accuracy is 1 - η - (1-2η)p, p the oracle error.",
            source="derived",
            reference="docs/derivations.md; the abstract says: error close to the noise rate",
            predicted=1.0 - noisy,
            relation="equal",
            bias=0.005,
            resolution=0.02,
        ),
        Claim(
            key="train_accuracy_end",
            sentence="The wrong labels are not fitted: training accuracy less the share of labels not "
            "flipped is 0 within 2 %.",
            source="calibrated",
            reference="86 % at 15 % noise in the numpy simulation",
            predicted=0.0,
            relation="equal",
            bias=0.02,
            resolution=0.01,
        ),
        Claim(
            key="loss_floor",
            sentence="The loss on fresh noisy data never falls below the entropy H(η).",
            source="derived",
            reference="docs/derivations.md; holds for any classifier, up to the test sample's own flips",
            predicted=theory.loss_floor(s.label_noise),
            relation="at_least",
            bias=0.0,
            resolution=0.02,
            unit="nats",
        ),
        Claim(
            key="stable_rank",
            sentence="The weights end with two directions: stable rank 2.",
            source="derived",
            reference="limit geometry; 10 % allowed for the two groups' unequal norms",
            predicted=2.0,
            relation="equal",
            bias=0.2,
            resolution=0.1,
        ),
        Claim(
            key="linear_chance",
            sentence="A linear classifier through the origin, fitted to the same data, guesses: accuracy 1/2.",
            source="paper",
            reference="abstract: linear classifiers are no better than guessing; exact for the population",
            predicted=0.5,
            relation="equal",
            bias=0.005,
            resolution=0.03,
        ),
    ]
    return {claim.key: claim for claim in stated}


@dataclass(frozen=True, eq=False)
class _Measured:
    """What one seed gives."""

    history: xr.Dataset
    samples: Mapping[str, float]
    snapshots: Mapping[int, fc.TwoLayerNet]


SNAPSHOTS = (0, 1, 10, 100)


def run(settings: Settings, *, seeds: Sequence[int], progress: Progress) -> ExperimentResult:
    """Train a network a seed and judge the claims."""
    import xarray as xr

    began = time.perf_counter()
    stated = claims(settings)
    progress.stage("XOR clusters", len(seeds))
    measured: list[_Measured] = []
    for seed in seeds:
        measured.append(_measure(settings, seed))
        progress.advance()
    findings = [_judge(claim, measured) for claim in stated.values()]
    history = xr.concat([one.history for one in measured], dim=xr.Variable("seed", list(seeds)))
    return ExperimentResult(
        name=name,
        title=title,
        summary=SUMMARY,
        settings=settings.model_dump(mode="json"),
        seeds=list(seeds),
        findings=findings,
        figures=_figures(settings, history, measured[0]),
        data={"amplification": history},
        notes=[
            "Affine classifiers do better than chance on XOR: a threshold besides the direction gets "
            "three clusters of four. The claim of chance is about classifiers through the origin.",
            "Training accuracy follows the labels that were really flipped, so it is compared with them.",
        ],
        seconds=time.perf_counter() - began,
    )


def _judge(claim: Claim, measured: Sequence[_Measured]) -> Finding:
    return claim.judge([one.samples[claim.key] for one in measured])


def _problem(s: Settings, seed: int) -> tuple[fc.TwoLayerNet, fc.Dataset, fc.Dataset]:
    """Return the network, training data and independent test data of a seed."""
    train_seed, test_seed = np.random.SeedSequence(seed).spawn(2)
    train = fc.data.xor_clusters(
        n=s.n, d=s.d, cluster_std=s.cluster_std, label_noise=s.label_noise, seed=train_seed
    )
    test = fc.data.xor_clusters(
        n=s.n_test, d=s.d, cluster_std=s.cluster_std, label_noise=s.label_noise, seed=test_seed
    )
    net = fc.TwoLayerNet.gaussian(s.width, s.d, s.scale, head="alternating", seed=train_seed)
    return net, train, test


def _measure(s: Settings, seed: int) -> _Measured:
    net, train, test = _problem(s, seed)
    assert train.means is not None
    assert train.flipped is not None
    means = train.means
    steps = fc.Recording.log(per_decade=20).steps(s.step_size, s.steps).tolist()
    outcome = fc.descend(
        net,
        train,
        "logistic",
        step_size=s.step_size,
        steps=s.steps,
        train=("W",),
        evaluate={"test": test},
        observe=[
            "loss",
            "accuracy",
            "clean_accuracy",
            "stable_rank",
            "norms",
            "weights",
            fc.observables.alignment(means, absolute=True, labels=["mu1", "mu2"]),
        ],
        record=fc.Recording.at_steps(sorted({*range(21), *steps, *SNAPSHOTS})),
    )
    history = outcome.history
    weights = history["weights"]

    def net_at(step: int) -> fc.TwoLayerNet:
        return fc.TwoLayerNet(_at(weights, step).values, net.a)

    cosine = history["alignment"].sel(direction="mu1", sign="+", statistic="mean")
    test_clean = history["clean_accuracy"].sel(split="test")
    linear = fc.baselines.linear(train, bias=False)
    samples = {
        "initial_cosine": float(_at(cosine, 0)),
        "first_growth": _first_growth(s, net, net_at(1), means),
        "clean_accuracy_2": float(_at(test_clean, 2)),
        "cosine_10": float(_at(cosine, 10)),
        "cosine_10_theory": float(_at(cosine, 10)),
        "amplification_time": _crossing(history["step"].values, cosine.values, 0.7),
        "cosine_100": float(_at(cosine, 100)),
        "clean_accuracy_end": float(test_clean[-1]),
        "noisy_accuracy_end": float(history["accuracy"].sel(split="test")[-1]),
        "train_accuracy_end": float(
            history["accuracy"].sel(split="train")[-1] - (1.0 - train.flipped.mean())
        ),
        "loss_floor": float(history["loss"].sel(split="test").min()),
        "stable_rank": float(history["stable_rank"][-1]),
        "linear_chance": fc.baselines.accuracy(linear, test, labels="clean"),
    }
    return _Measured(
        history.drop_vars(["weights", "norms"]), samples, {k: net_at(k) for k in SNAPSHOTS}
    )


def _at(variable: xr.DataArray, step: int) -> xr.DataArray:
    return variable.isel(time=int(np.flatnonzero(variable["step"].values == step)[0]))


def _first_growth(
    s: Settings, before: fc.TwoLayerNet, after: fc.TwoLayerNet, means: NDArray[Any]
) -> float:
    """Return the growth of |<w, μ1>| over positive neurons in one step, measured over predicted."""
    positive = before.a > 0
    old = before.W[positive]
    side = np.sign(old @ means[0])
    grown = ((after.W[positive] - old) @ means[0]) * side
    pull = theory.population_gradient(old, means, s.cluster_std, s.label_noise)
    # the residual of the logistic loss is y/2 at f = 0
    predicted = 0.5 * s.step_size * before.a[positive] * (pull @ means[0]) * side
    return float(grown.sum() / predicted.sum())


def _crossing(steps: NDArray[Any], values: NDArray[Any], level: float) -> float:
    """Return when `values` first reach `level`, linearly between records; NaN if never."""
    above = np.flatnonzero(values >= level)
    if not above.size:
        return float("nan")
    k = int(above[0])
    if k == 0:
        return float(steps[0])
    share = (level - values[k - 1]) / (values[k] - values[k - 1])
    return float(steps[k - 1] + share * (steps[k] - steps[k - 1]))


def _mean_field(s: Settings) -> NDArray[np.float64]:
    return theory.mean_field(
        steps=s.steps,
        d=s.d,
        width=s.width,
        scale=s.scale,
        step_size=s.step_size,
        label_noise=s.label_noise,
        cluster_std=s.cluster_std,
    ).cos_mu1


def _figures(s: Settings, history: xr.Dataset, first: _Measured) -> list[Figure]:
    shown = int(history["seed"].values[0])
    return [
        Figure(
            "cosines",
            "Amplification of random features",
            "Mean |cos(w, μ)| of neurons by the sign of their head, one thin line a seed; dashed: the mean field of an "
            "infinitely wide network on infinite data. Positive neurons turn to μ1 and away from μ2, "
            "negative ones the other way round.",
            lambda: _draw_cosines(s, history),
        ),
        Figure(
            "accuracy",
            "Accuracy and loss",
            "Left: accuracy on clean and given labels, mean over seeds with the range between them. Right: the loss "
            "on training and fresh noisy data, and the floor H(η), which bounds the loss on fresh data.",
            lambda: _draw_accuracy(s, history),
        ),
        Figure(
            "correlations",
            "Correlations before and after",
            f"Histograms over neurons of the norm and of the correlations with μ1 and μ2, at steps "
            f"{', '.join(map(str, SNAPSHOTS))} of seed {shown}; above for positive heads, below for negative.",
            lambda: _draw_correlations(s, first),
        ),
        Figure(
            "sign-maps",
            "The network in the plane of the means",
            "Sign and size of f on the plane of μ1 (across) and μ2 (up), in units of its largest value there, with "
            f"the four means; seed {shown}.",
            lambda: _draw_maps(s, first),
        ),
    ]


def _draw_cosines(s: Settings, history: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.6))
    steps = history["step"].values
    field = _mean_field(s)
    for axes, sign, head in zip(
        canvas.subplots(1, 2, sharey=True), "+-", ("positive", "negative"), strict=True
    ):
        for color, direction, label in (("C0", "mu1", "μ1"), ("C1", "mu2", "μ2")):
            lines = history["alignment"].sel(direction=direction, sign=sign, statistic="mean")
            for k, line in enumerate(lines.values):
                axes.plot(
                    steps + 1, line, color=color, lw=0.6, alpha=0.6, label=label if k == 0 else None
                )
        axes.plot(np.arange(len(field)) + 1, field, "--", color="black", label="mean field")
        axes.axhline(
            theory.initial_mean_cosine(s.d), color="black", lw=0.7, ls=":", label="√(2/πd)"
        )
        axes.set(xscale="log", xlabel="step + 1", title=f"{head} heads", ylim=(0, 1.02))
    canvas.axes[0].set_ylabel("mean |cos(w, μ)|")
    canvas.axes[0].legend(loc="center left")
    return canvas


def _draw_accuracy(s: Settings, history: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    left, right = canvas.subplots(1, 2)
    steps = history["step"].values + 1

    def band(axes: Any, values: xr.DataArray, color: str, label: str) -> None:
        axes.plot(steps, values.mean("seed"), color=color, label=label)
        axes.fill_between(
            steps, values.min("seed"), values.max("seed"), color=color, alpha=0.18, lw=0
        )

    band(left, history["clean_accuracy"].sel(split="test"), "C0", "test, clean labels")
    band(left, history["accuracy"].sel(split="test"), "C1", "test, given labels")
    band(left, history["accuracy"].sel(split="train"), "C2", "training, given labels")
    left.axhline(1 - s.label_noise, ls="--", color="black", lw=1, label="1 - η")
    left.set(xscale="log", xlabel="step + 1", ylabel="accuracy")
    left.legend(loc="lower right")
    band(right, history["loss"].sel(split="test"), "C1", "test, given labels")
    band(right, history["loss"].sel(split="train"), "C2", "training")
    right.axhline(theory.loss_floor(s.label_noise), ls="--", color="black", lw=1, label="H(η)")
    right.set(xscale="log", xlabel="step + 1", ylabel="mean logistic loss")
    right.legend()
    return canvas


def _draw_correlations(s: Settings, first: _Measured) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 4.6))
    grid = canvas.subplots(2, 3, sharex="col")
    # the means of xor_clusters on the axes are the unit vectors e1 and e2
    quantities: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
        "|w|": lambda W: np.asarray(np.linalg.norm(W, axis=1)),
        "<w, μ1>": lambda W: W[:, 0],
        "<w, μ2>": lambda W: W[:, 1],
    }
    for row, sign, head in zip(grid, (1, -1), ("a > 0", "a < 0"), strict=True):
        for axes, (label, quantity) in zip(row, quantities.items(), strict=True):
            values = {
                k: quantity(net.W[np.sign(net.a) == sign]) for k, net in first.snapshots.items()
            }
            edges = np.histogram_bin_edges(np.concatenate(list(values.values())), 40)
            for k, sample in values.items():
                axes.hist(sample, edges, histtype="step", lw=1.3, label=f"step {k}")
            axes.set(yscale="log", title=f"{label}, {head}")
        row[0].set_ylabel("neurons")
    grid[0, 0].legend()
    return canvas


def _draw_maps(s: Settings, first: _Measured) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.0))
    reach = np.linspace(-2.0, 2.0, 161)
    across, up = np.meshgrid(reach, reach)
    plane = np.zeros((across.size, s.d))
    plane[:, 0], plane[:, 1] = across.ravel(), up.ravel()
    for axes, (step, net) in zip(
        canvas.subplots(1, len(first.snapshots)), first.snapshots.items(), strict=True
    ):
        f = net(plane).reshape(across.shape)
        axes.imshow(
            f / np.abs(f).max(), extent=(-2, 2, -2, 2), origin="lower", cmap="RdBu", vmin=-1, vmax=1
        )
        axes.contour(across, up, f, [0.0], colors="black", linewidths=0.8)
        axes.plot([1, -1], [0, 0], "o", mfc="C0", mec="white")
        axes.plot([0, 0], [1, -1], "s", mfc="C1", mec="white")
        axes.set(title=f"step {step}", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        axes.grid(False)
    return canvas
