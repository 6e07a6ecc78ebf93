"""Linear toys: Saxe's modes, and the 2021 paper's coupled features with and without spectral decoupling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.claims import Claim
from featcore.experiments.modes.networks import RTOL
from featcore.experiments.modes.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import modes as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

Array = NDArray[np.float64]

STRENGTHS, START = (2.0, 1.0, 0.5), 1e-3
"""Of the modes of a linear network, and what it has of each at the start."""
TO = 0.9
# Figure 6 of Pezeshki and others (2021), by their code: singular vectors of angle asin ½, strengths s1 and 2, weight
# decay ½·0.01 |θ|², or 0.001 Σ f² for spectral decoupling.
SINE, SECOND, RIDGE, PENALTY = 0.5, 2.0, 0.01, 0.002
FIRST = (2.0, 3.0, 4.0, 5.0, 6.0)
SETTLED = 1e6


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    toy = "figure 6 of Pezeshki and others (2021)"
    return [
        *(
            Claim(
                key=f"saxe-{strength:g}",
                sentence=f"A linear mode of strength {strength:g} comes to 90 % of it at ln[u(s-u₀)/(u₀(s-u))]/(2s), "
                "squared loss: relative difference of its output then.",
                source="paper",
                reference="Saxe, McClelland and Ganguli (ICLR 2014), one output a mode",
                predicted=0.0,
                relation="equal",
                bias=1e-8,
            )
            for strength in STRENGTHS
        ),
        *(
            Claim(
                key=f"coupled-{first:g}",
                sentence=f"{toy}, s1 = {first:g}: response to the second feature under weight decay.",
                source="derived",
                reference="the fixed point of their theory, solved by Newton's method",
                predicted=float(theory.responses(vectors(), [first, SECOND], RIDGE)[1]),
                relation="equal",
                bias=1e-6,
            )
            for first in FIRST
        ),
        Claim(
            key="coupled-starves",
            sentence=f"{toy}: a stronger first feature starves the second: the largest step of its response from one "
            "s1 to the next.",
            source="paper",
            reference="their theorem on two coupled features, dz2/ds1² < 0",
            predicted=0.0,
            relation="at_most",
            bias=0.0,
        ),
        Claim(
            key="decoupled",
            sentence=f"{toy}: under spectral decoupling responses do not depend on s1 (largest difference to theory).",
            source="paper",
            reference="their fixed point under spectral decoupling, (6.3727, 1.7076) here",
            predicted=0.0,
            relation="equal",
            bias=1e-6,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Follow the flows of a linear network and of the toy until it rests."""
    import xarray as xr

    progress.stage("linear toys", 1 + len(FIRST))
    times, outputs = _saxe()
    progress.advance()
    coupled, decoupled = [], []
    for first in FIRST:
        coupled.append(_responses(first, weight_decay=RIDGE))
        # theirs is of the sum over two samples, featcore's of the mean
        decoupled.append(_responses(first, output_penalty=2 * PENALTY))
        progress.advance()
    second = [float(z[1]) for z in coupled]
    samples = {
        f"saxe-{strength:g}": float(outputs[k, k] / (TO * strength) - 1)
        for k, strength in enumerate(STRENGTHS)
    }
    samples |= {f"coupled-{first:g}": z for first, z in zip(FIRST, second, strict=True)}
    samples["coupled-starves"] = float(np.diff(second).max())
    expected = theory.decoupled_responses(vectors(), PENALTY)
    samples["decoupled"] = float(np.abs(np.array(decoupled) - expected).max())
    found = xr.Dataset(
        {
            "coupled": (("first", "feature"), np.array(coupled)),
            "decoupled": (("first", "feature"), np.array(decoupled)),
            "saxe_output": (("time", "mode"), outputs),
        },
        coords={"first": list(FIRST), "time": times, "mode": list(STRENGTHS)},
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "coupled",
                "Coupled features, and decoupled ones",
                "Responses to two coupled features against the strength of the first: under weight decay the second is "
                "starved; under spectral decoupling neither depends on it. Dots: networks at rest; dashed: theory.",
                lambda: _draw(found),
            )
        ],
        data={"linear": found},
    )


def vectors() -> Array:
    """Return the toy's left singular vectors U."""
    cosine = np.sqrt(1 - SINE**2)
    return np.array([[cosine, -SINE], [SINE, cosine]])


def _saxe() -> tuple[Array, Array]:
    """Return the times at which modes come to `TO`, and the outputs then; a sample and a neuron a mode."""
    count = len(STRENGTHS)
    times = theory.linear_mode_time(TO * np.array(STRENGTHS), strength=STRENGTHS, u0=START)
    run = fc.flow(
        fc.TwoLayerNet(np.sqrt(START) * np.eye(count), np.full(count, np.sqrt(START))),
        fc.Dataset(np.eye(count), STRENGTHS),
        "squared",
        t_end=float(times[-1]),
        rtol=RTOL,
        reduction="sum",
        observe=[
            fc.observables.custom(lambda net, data: net(data.x), name="outputs", dims=("at",))
        ],
        record=fc.Recording.at(times),
    )
    outputs = run.history["outputs"].transpose("time", "at").values[1:]
    return times, outputs


def _responses(first: float, **penalties: float) -> Array:
    """Return UᵀYf of a linear network at rest: one neuron with a fixed head, which is active on both samples."""
    data = fc.Dataset(vectors() * [first, SECOND], [1.0, 1.0])
    run = fc.flow(
        fc.TwoLayerNet([[0.1, 0.0]], [1.0]),
        data,
        t_end=SETTLED,
        train=("W",),
        reduction="sum",
        rtol=1e-9,
        gradient_target=1e-9,
        record=fc.Recording.linear(1),
        **penalties,  # type: ignore[arg-type]
    )
    return np.asarray(vectors().T @ run.net(data.x))


def _draw(found: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    axes = canvas.subplots()
    fine = np.linspace(FIRST[0], FIRST[-1], 40)
    lines = np.array([theory.responses(vectors(), [first, SECOND], RIDGE) for first in fine])
    level = theory.decoupled_responses(vectors(), PENALTY)
    for k, name in enumerate(("first", "second")):
        axes.plot(
            FIRST, found["coupled"].values[:, k], "o", color=f"C{k}", label=f"{name}, weight decay"
        )
        axes.plot(fine, lines[:, k], "--", color="black", lw=0.9)
        axes.plot(
            FIRST,
            found["decoupled"].values[:, k],
            "s",
            color=f"C{k}",
            mfc="none",
            label=f"{name}, decoupled",
        )
        axes.axhline(level[k], ls="--", color="black", lw=0.9)
    axes.set(xlabel="strength s1 of the first feature", ylabel="response")
    axes.legend()
    return canvas
