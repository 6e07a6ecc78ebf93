"""One look for all figures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.figure import Figure

# Okabe and Ito: told apart with any colour vision, and by lightness in print
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
INK = "#22262b"
_FAINT = "#d9dde2"

_STYLE: dict[Any, Any] = {
    "figure.figsize": (5.6, 3.4),
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same look on every machine
    "font.size": 9,
    "figure.titlesize": 10,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a929b",
    "xtick.color": "#8a929b",
    "ytick.color": "#8a929b",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.xmargin": 0.02,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "image.cmap": "viridis",
    "svg.fonttype": "path",
    "svg.hashsalt": "featcore",  # else the ids in the file differ from run to run
}


@contextmanager
def context() -> Iterator[None]:
    """Draw in the style of the report; matplotlib's settings are as before afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@dataclass(frozen=True)
class Rendered:
    """A figure as two files, and its width in inches."""

    png: bytes
    svg: bytes
    width: float


def render(draw: Callable[[], Figure]) -> Rendered:
    """Return what `draw` draws; the same figure gives the same bytes."""
    with context():
        figure = draw()
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Rendered(png.getvalue(), svg.getvalue(), float(figure.get_figwidth()))
