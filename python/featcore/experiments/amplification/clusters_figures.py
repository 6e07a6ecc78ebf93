"""Figures of `clusters`: cosines, accuracy and loss, correlations of neurons, sign maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.amplification.settings import Settings
from featcore.experiments.protocol import Figure
from featcore.theory import amplification as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

SNAPSHOTS = (0, 1, 10, 100)


@dataclass(frozen=True, eq=False)
class Measured:
    """What one seed gives."""

    history: xr.Dataset
    samples: Mapping[str, float]
    snapshots: Mapping[int, fc.TwoLayerNet]


def mean_field(s: Settings) -> NDArray[np.float64]:
    """Return the mean |cos(w, μ1)| of the mean field at every step."""
    return theory.mean_field(
        steps=s.steps,
        d=s.d,
        width=s.width,
        scale=s.scale,
        step_size=s.step_size,
        label_noise=s.label_noise,
        cluster_std=s.cluster_std,
    ).cos_mu1


def figures(s: Settings, history: xr.Dataset, first: Measured) -> list[Figure]:
    """Return the figures of this part."""
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
    field = mean_field(s)
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


def _draw_correlations(s: Settings, first: Measured) -> matplotlib.figure.Figure:
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


def _draw_maps(s: Settings, first: Measured) -> matplotlib.figure.Figure:
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
