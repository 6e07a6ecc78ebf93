"""Moving pictures of neurons in the plane, as GIF or MP4."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featcore._validation import choice, integer, real
from featcore.data.dataset import Dataset

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

_ENDINGS = (".gif", ".mp4")
_REACH = 1.3
"""Length of a neuron's line, in units of the longest sample."""


def animate_neurons(
    history: xr.Dataset,
    data: Dataset,
    path: str | os.PathLike[str],
    *,
    frames: int | None = None,
    fps: float = 12.0,
    member: int | None = None,
) -> Path:
    """Write how neurons turn and grow among the samples of a plane.

    A neuron is a line from the origin in its direction: blue for a positive head, orange for a negative one, the more
    opaque the larger its norm is against the largest at that time. Samples are dots (label +1) and squares. If the
    history has the loss, it is drawn beside.

    Parameters
    ----------
    history : xarray.Dataset
        Of a run with `observe=["weights", "head"]`, in two dimensions; with "loss" besides, if it is to be seen.
    data : Dataset
        The samples that are drawn.
    path : path
        File to write; its ending, .gif or .mp4, says what. MP4 needs the program ffmpeg.
    frames : int, optional
        Number of frames, spread evenly over the rows of the history; a frame a row by default.
    fps : float
        Frames a second.
    member : int, optional
        Of the history of an ensemble: which member.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    TypeError, ValueError
        If the history lacks what is drawn, or is not of the plane; the message says what to observe.
    RuntimeError
        If ffmpeg is asked for and missing.

    Examples
    --------
    >>> import featcore as fc
    >>> from featcore.report.animation import animate_neurons
    >>> data = fc.data.two_points(0.1)
    >>> net = fc.TwoLayerNet.gaussian(width=10, dim=2, scale=1e-3, seed=0)
    >>> run = fc.descend(net, data, "exponential", step_size=0.01, steps=3000,
    ...                  observe=["weights", "head", "loss"], record=fc.Recording.linear(5))
    >>> animate_neurons(run.history, data, "neurons.gif").name  # doctest: +SKIP
    'neurons.gif'
    """
    if member is not None:
        history = history.isel(member=integer("member", member, least=0))
    for name in ("weights", "head"):
        if name not in history:
            raise ValueError(
                f"history has no {name!r}; run it with observe=['weights', 'head', 'loss']"
            )
    if "member" in history["weights"].dims:
        raise ValueError("history is of an ensemble; say which member= is drawn")
    W = np.asarray(history["weights"].transpose("time", "neuron", "dim").values, dtype=np.float64)
    a = np.asarray(history["head"].transpose("time", "neuron").values, dtype=np.float64)
    if W.shape[2] != 2 or data.x.shape[1] != 2:
        raise ValueError(
            f"the weights have dimension {W.shape[2]} and the samples {data.x.shape[1]}; the plane has 2"
        )
    rows = len(W)
    count = rows if frames is None else integer("frames", frames, least=1)
    chosen = np.round(np.linspace(0, rows - 1, count)).astype(int)
    times = np.asarray(history["time"].values, dtype=np.float64)
    losses = None
    if "loss" in history:
        losses = np.asarray(history["loss"].sel(split="train").values, dtype=np.float64)

    def start(canvas: matplotlib.figure.Figure) -> Callable[[int], None]:
        from matplotlib.collections import LineCollection

        plane = canvas.add_subplot(1, 1 if losses is None else 2, 1)
        longest = float(np.linalg.norm(data.x, axis=1).max()) or 1.0
        edge = 1.1 * _REACH * longest
        plane.set(aspect="equal", xlim=(-edge, edge), ylim=(-edge, edge), xticks=[], yticks=[])
        plane.grid(False)
        lines = LineCollection([], linewidths=1.2)
        plane.add_collection(lines)
        for label, marker in ((1, "o"), (-1, "s")):
            points = data.x[np.sign(data.y) == label]
            plane.plot(*points.T, marker, ms=5, mfc="C2" if label > 0 else "C3", mec="white")
        mark = None
        if losses is not None:
            beside = canvas.add_subplot(1, 2, 2)
            beside.plot(times, losses)
            beside.set(xlabel="time", ylabel="loss", yscale="log" if losses.min() > 0 else "linear")
            (mark,) = beside.plot([], [], "o", color="C1", ms=6)

        def draw(frame: int) -> None:
            row = chosen[frame]
            ends, colours = _lines(W[row], a[row], _REACH * longest)
            lines.set_segments([np.stack([np.zeros(2), end]) for end in ends])
            lines.set_color(colours)
            plane.set_title(f"t = {times[row]:.4g}")
            if mark is not None and losses is not None:
                mark.set_data([times[row]], [losses[row]])

        return draw

    return save(start, count, path, fps=fps, size=(4.2 if losses is None else 8.4, 4.2))


def save(
    start: Callable[[matplotlib.figure.Figure], Callable[[int], None]],
    frames: int,
    path: str | os.PathLike[str],
    *,
    fps: float = 12.0,
    size: tuple[float, float] = (5.6, 3.4),
) -> Path:
    """Write an animation in the style of the report.

    Parameters
    ----------
    start : callable
        figure -> draw: lays the figure out and returns what redraws it for frame 0, 1, ….
    frames : int
        Number of frames, at least 1.
    path, fps
        As in `animate_neurons`.
    size : (width, height)
        In inches.
    """
    from matplotlib import animation
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from featcore.report.style import context

    frames = integer("frames", frames, least=1)
    fps = real("fps", fps, above=0.0)
    target = Path(path)
    choice("path ending", target.suffix.lower(), _ENDINGS)
    writer: Any
    if target.suffix.lower() == ".gif":
        writer = animation.PillowWriter(fps=fps)  # type: ignore[arg-type]
    elif animation.FFMpegWriter.isAvailable():
        writer = animation.FFMpegWriter(fps=fps)  # type: ignore[arg-type]
    else:
        raise RuntimeError(
            f"path={os.fspath(path)!r} needs ffmpeg, which is not installed; use .gif"
        )
    with context():
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        draw = start(figure)
        with writer.saving(figure, str(target), dpi=100):
            for frame in range(frames):
                draw(frame)
                writer.grab_frame()
    return target


def _lines(
    W: NDArray[np.float64], a: NDArray[np.float64], length: float
) -> tuple[NDArray[np.float64], list[tuple[float, float, float, float]]]:
    """Return the ends of the neurons' lines, and their colours."""
    from matplotlib.colors import to_rgba

    norms = np.linalg.norm(W, axis=1)
    ends = length * W / np.where(norms > 0, norms, 1.0)[:, None]
    shades = 0.15 + 0.85 * norms / max(float(norms.max(initial=0.0)), np.finfo(float).tiny)
    colours = [
        to_rgba("C0" if head > 0 else "C1", min(shade, 1.0))
        for head, shade in zip(a, shades, strict=True)
    ]
    return ends, colours
