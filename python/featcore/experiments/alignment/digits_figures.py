"""Figures of the part `digits`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

import featcore as fc
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr


class Images(Protocol):
    """What is drawn of a pair of classes."""

    @property
    def data(self) -> fc.Dataset:
        """The images, flattened."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an image."""

    @property
    def classes(self) -> tuple[int, int]:
        """The labels, the positive one first."""

    @property
    def step_size(self) -> float:
        """Of the descent."""


def courses(pair: Images, history: xr.Dataset, drop: float) -> matplotlib.figure.Figure:
    """Draw cosines, loss, stable rank and spectral norm against iterations."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 6.0))
    (cosines, loss), (rank, norm) = canvas.subplots(2, 2, sharex=True)
    steps = history["step"].values
    first = history.isel(seed=0)["alignment"]
    for color, sign, direction, label in (
        ("C0", "+", "x_plus", "a > 0 with x₊"),
        ("C1", "-", "x_minus", "a < 0 with x₋"),
    ):
        own = first.sel(sign=sign, direction=direction)
        cosines.plot(steps, own.sel(statistic="mean_neuron"), color=color, label=label)
        cosines.fill_between(
            steps, own.sel(statistic="min"), own.sel(statistic="max"), color=color, alpha=0.15, lw=0
        )
    cosines.set(ylabel="cosine", ylim=(-1.05, 1.05))
    cosines.legend(loc="lower right")
    panels = (
        (loss, history["loss"].sel(split="train"), "mean exponential loss"),
        (rank, history["stable_rank"], "stable rank of W"),
        (norm, history["singular_values"].isel(rank=0) ** 2, "largest singular value², W"),
    )
    for axes, values, label in panels:
        for line in values.transpose("seed", "time").values:
            axes.plot(steps, line, color="C0", lw=0.9)
        axes.axvline(drop / pair.step_size, color="black", lw=1, ls="--")
        axes.set_ylabel(label)
    loss.set_yscale("log")
    rank.set_yscale("log")
    for axes in (rank, norm):
        axes.set_xlabel("iteration")
    return canvas


def images(trained: Sequence[tuple[Images, fc.TwoLayerNet]]) -> matplotlib.figure.Figure:
    """Draw the class means and the mean neuron of each sign, a row a pair."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 0.4 + 2.7 * len(trained)))
    grid = canvas.subplots(len(trained), 4, squeeze=False)
    for row, (pair, net) in zip(grid, trained, strict=True):
        x_plus, x_minus = theory.class_sums(pair.data.x, pair.data.y)
        shown = {
            f"mean of class {pair.classes[0]}": x_plus,
            "mean neuron, a > 0": net.W[net.a > 0].sum(axis=0),
            f"mean of class {pair.classes[1]}": x_minus,
            "mean neuron, a < 0": net.W[net.a < 0].sum(axis=0),
        }
        for axes, (label, image) in zip(row, shown.items(), strict=True):
            reach = np.abs(image).max() or 1.0
            axes.imshow(image.reshape(pair.shape), cmap="RdBu_r", vmin=-reach, vmax=reach)
            axes.set(title=label, xticks=[], yticks=[])
            axes.grid(False)
    return canvas


def products(pair: Images) -> matplotlib.figure.Figure:
    """Draw the inner products of the samples, thinned, the positive class first."""
    from matplotlib.figure import Figure as Canvas

    order = np.argsort(-pair.data.y, kind="stable")
    thin = order[:: max(1, len(order) // 400)]
    x = pair.data.x[thin]
    inner = x @ x.T
    reach = np.abs(inner).max()
    canvas = Canvas(figsize=(5.6, 4.6))
    axes = canvas.subplots()
    shown = axes.imshow(inner, cmap="RdBu_r", vmin=-reach, vmax=reach)
    canvas.colorbar(shown, ax=axes)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    return canvas
