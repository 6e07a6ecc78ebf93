"""Late times: the law of the loss, the rank, and where directions and margins go."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.alignment.histories import stack, to_class_sums
from featcore.experiments.alignment.settings import Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

SAMPLES, DIM, MU, WIDTH = 16, 4, 0.2, 30
START = -100 * math.log(10)
END, LATE = 1e100, 1e50
"""The mean-loss time that is followed, and from when on the law is fitted."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    derived = "docs/derivations.md, late times"
    return [
        Claim(
            key="late-envelope",
            sentence="From t₂ on, when every class has had a sample with |f| > 1/4, the loss stays below "
            "L(t₂)/(1 + αL(t₂)(t - t₂)): the largest ratio.",
            source="paper",
            reference="theorem 1, part 2",
            predicted=1.0,
            relation="at_most",
            bias=0.0,
            resolution=0.1,
        ),
        Claim(
            key="late-law",
            sentence="In the end the loss falls as 1/(t log t), faster than the envelope: d log(L log(1/L))/d log t "
            f"beyond t = {LATE:g}.",
            source="derived",
            reference=f"{derived}; 1 % allowed",
            predicted=-1.0,
            relation="equal",
            bias=0.01,
            resolution=0.01,
        ),
        Claim(
            key="late-constant",
            sentence=f"4γ·t·L·log(1/L) comes to 1, γ = 1/(2(|u₊| + |u₋|)) (at t = {END:g}).",
            source="derived",
            reference=f"{derived}; 5 % allowed for terms that fall as 1/log t",
            predicted=1.0,
            relation="equal",
            bias=0.05,
            resolution=0.05,
        ),
        Claim(
            key="late-margin",
            sentence=f"The normalised margin min y f/(|W|² + |a|²) comes to that γ (share of it at t = {END:g}).",
            source="derived",
            reference=f"{derived}, u₊ and u₋ the max-margin vectors of the classes; 5 % allowed",
            predicted=1.0,
            relation="equal",
            bias=0.05,
            resolution=0.05,
        ),
        Claim(
            key="late-smoothed",
            sentence="Once positive the smoothed margin never falls (largest relative fall between records).",
            source="derived",
            reference="docs/flow_modes.md, after Lyu and Li (2020); the flow's own error allowed",
            predicted=0.0,
            relation="at_most",
            bias=1e-5,
            resolution=1e-5,
        ),
        Claim(
            key="late-directions",
            sentence=f"Mean neurons come to u₊ and u₋ (the smaller cosine at t = {END:g}).",
            source="paper",
            reference="Phuong and Lampert (2021), as quoted by Min, Zhu and Vidal (2025), equation (12), for the "
            "logistic loss; 0.01 allowed, as they come like 1/√log t",
            predicted=1.0,
            relation="at_least",
            bias=0.01,
            resolution=0.02,
        ),
        Claim(
            key="late-leaves",
            sentence="They have left the class sums for them: the angle to u₊ (u₋) over that to x₊ (x₋), at its "
            "larger.",
            source="derived",
            reference="docs/derivations.md; that it is a half at most is ours",
            predicted=0.5,
            relation="at_most",
            bias=0.0,
            resolution=0.3,
        ),
        Claim(
            key="late-rank",
            sentence=f"The stable rank of W is at most 2 at t = {END:g}.",
            source="paper",
            reference="theorem 1, part 2: at most 2 + o(1)",
            predicted=2.0,
            relation="at_most",
            bias=0.01,
            resolution=0.05,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Follow flows from ε = 1e-100 to t = 1e100."""
    few = list(seeds)[: settings.flow_seeds]
    progress.stage("late times", len(few))
    data = [fc.data.orthogonally_separable(SAMPLES, DIM, MU, seed=child(seed, 10)) for seed in few]
    goals = [theory.max_margin_vectors(each.x, each.y) for each in data]
    starts = [fc.TwoLayerNet.balanced(WIDTH, DIM, 1.0, seed=child(seed, 10)) for seed in few]
    runs = fc.ensemble(
        [fc.TwoLayerNet(net.W, net.a, log_scale=START) for net in starts],
        data,
        "exponential",
        dynamics="flow",
        t_end=END,
        rtol=1e-7,
        observe=[
            [
                "log_loss",
                "stable_rank",
                "normalised_margin",
                "smoothed_margin",
                "margins",
                to_class_sums(each),
                fc.observables.alignment(
                    np.stack(goal), labels=["u_plus", "u_minus"], name="to_margin", dim="goal"
                ),
            ]
            for each, goal in zip(data, goals, strict=True)
        ],
        record=fc.Recording.log(per_decade=4),
    )
    progress.advance(len(few))
    histories = [run.history for run in runs]
    gammas = [0.5 / sum(map(np.linalg.norm, goal)) for goal in goals]
    samples: dict[str, list[float]] = {claim.key: [] for claim in stated}
    for history, each, gamma in zip(histories, data, gammas, strict=True):
        for key, value in _read(history, each, float(gamma)).items():
            samples[key].append(value)
    stacked = stack(histories, few)
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "late",
                "Late times",
                f"Flows from ε = 1e-100, {len(few)} seeds, against mean-loss time. Left: 4γ·t·L·log(1/L), which comes "
                "to 1 (dashed). Middle: normalised margin over γ. Right: angles of the mean positive neuron to u₊ "
                "(blue) and to x₊ (orange).",
                functools.partial(_draw, stacked, np.array(gammas)),
            )
        ],
        data={"late": stacked},
    )


def _read(history: xr.Dataset, data: fc.Dataset, gamma: float) -> dict[str, float]:
    times = history["time"].values
    log_loss = history["log_loss"].sel(split="train").values
    smoothed = history["smoothed_margin"].sel(split="train").values
    late = times >= LATE
    logs = log_loss[late]
    law = np.polyfit(np.log(times[late]), logs + np.log(-logs), 1)[0] if len(logs) > 2 else np.nan
    positive = smoothed[smoothed > 0]
    goal, total = (
        _angles(history, "to_margin", "goal", "u"),
        _angles(history, "alignment", "direction", "x"),
    )
    return {
        "late-envelope": _over_envelope(times, log_loss, history["margins"].values, data),
        "late-law": float(law),
        "late-constant": float(
            np.exp(math.log(4 * gamma * times[-1]) + log_loss[-1]) * -log_loss[-1]
        ),
        "late-margin": float(history["normalised_margin"].sel(split="train").values[-1] / gamma),
        "late-smoothed": float(max(0.0, np.max(1 - positive[1:] / positive[:-1]))),
        "late-directions": float(np.cos(goal[-1].max())),
        "late-leaves": float((goal[-1] / total[-1]).max()),
        "late-rank": float(history["stable_rank"].values[-1]),
    }


def _angles(history: xr.Dataset, name: str, dim: str, letter: str) -> NDArray[np.float64]:
    """Return the angles of the mean neurons of either sign to their own goals, over time."""
    own = history[name].sel(statistic="mean_neuron")
    cosines = [
        own.sel({"sign": sign, dim: f"{letter}_{word}"}).values
        for sign, word in (("+", "plus"), ("-", "minus"))
    ]
    angles: NDArray[np.float64] = np.arccos(np.clip(np.stack(cosines, axis=-1), -1.0, 1.0))
    return angles


def _over_envelope(
    times: NDArray[np.float64],
    log_loss: NDArray[np.float64],
    margins: NDArray[np.float64],
    data: fc.Dataset,
) -> float:
    """Return the largest ratio of the loss to the theorem's envelope, both of the sum."""
    fitted = np.all([margins[:, data.y == sign].max(axis=1) > 0.25 for sign in (1, -1)], axis=0)
    start = int(np.argmax(fitted))
    lengths = np.linalg.norm(data.x, axis=1)
    sum_times, sum_losses = times / data.n, data.n * np.exp(log_loss)
    envelope = theory.loss_envelope(
        sum_times[start:],
        float(sum_losses[start]),
        float(sum_times[start]),
        mu=theory.separability(data.x, data.y),
        x_min=float(lengths.min()),
        x_max=float(lengths.max()),
    )
    return float((sum_losses[start:] / envelope)[1:].max())


def _draw(history: xr.Dataset, gammas: NDArray[np.float64]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    law, margin, angle = canvas.subplots(1, 3)
    for k, gamma in enumerate(gammas):
        one = history.isel(seed=k)
        times = one["time"].values
        log_loss = one["log_loss"].sel(split="train").values
        fallen = (log_loss < -1) & (times > 0)
        at, logs = times[fallen], log_loss[fallen]
        law.plot(at, np.exp(np.log(4 * gamma * at) + logs) * -logs, color="C0", lw=0.9)
        normalised = one["normalised_margin"].sel(split="train").values[fallen]
        margin.plot(at, normalised / gamma, color="C0", lw=0.9)
        angle.plot(at, _angles(one, "to_margin", "goal", "u")[fallen, 0], color="C0", lw=0.9)
        angle.plot(at, _angles(one, "alignment", "direction", "x")[fallen, 0], color="C1", lw=0.9)
    law.axhline(1.0, color="black", lw=1, ls="--")
    margin.axhline(1.0, color="black", lw=1, ls="--")
    law.set_ylim(0.9, 1.5)
    for axes, label in (
        (law, "4γ t L log(1/L)"),
        (margin, "normalised margin / γ"),
        (angle, "angle, radians"),
    ):
        axes.set(xscale="log", xlabel="time", ylabel=label)
    return canvas
