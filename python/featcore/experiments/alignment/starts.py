"""Initialisations: balanced, unbalanced, dominated, symmetric; and scales from two phases to one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.alignment.histories import class_sum_norm, reached, to_class_sums
from featcore.experiments.alignment.settings import WIDTH, Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

SAMPLES, DIM, MU = 20, 5, 0.2
STARTS = ("balanced", "unbalanced", "dominated", "symmetric")
SCALE = 1e-6
DROP = 0.9
"""Loss at which the second phase has begun."""
SMALL, SMALL_DROP = (1e-5, 1e-3), 0.999
"""Scales at which the angle is proportional to ε, and a loss at which residuals are still equal."""
SWEEP = (1e-8, 3.0)
LONG = 1e3


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    # mean of c², c = (a + p)/2 of the growing neurons, in units of ε²: what outputs grow from
    size = {"balanced": (1 + DIM) / 4, "unbalanced": 0.5, "dominated": (1 + 4 * DIM) / 4}
    later = {start: 0.5 * math.log(size["balanced"] / size[start]) for start in size}
    later["symmetric"] = 0.0
    return [
        *(
            Claim(
                key=f"start-{start}",
                sentence=f"{start.capitalize()} start of scale {SCALE:g}: mean neurons are aligned before the loss "
                f"falls below {DROP:g} (the smaller of their best cosines until then).",
                source="calibrated",
                reference="ours; the paper's theorem is of balanced starts, its figures are of unbalanced ones",
                predicted=0.99,
                relation="at_least",
                bias=0.01,
                resolution=0.02,
            )
            for start in STARTS
        ),
        *(
            Claim(
                key=f"start-{start}-time",
                sentence=f"{start.capitalize()} against balanced, same first layer: the loss falls {shift:+.2f}/κ "
                f"later.",
                source="derived",
                reference="docs/derivations.md: -ln √(mean c²)/κ; 0.2/κ allowed for neurons that die",
                predicted=shift,
                relation="equal",
                bias=0.2,
                resolution=0.3,
                unit="1/κ",
            )
            for start, shift in later.items()
            if start != "balanced"
        ),
        Claim(
            key="scale-angle",
            sentence=f"The angle of the mean positive neuron to x₊ when the loss has fallen to {SMALL_DROP:g} is "
            f"proportional to ε, from {SMALL[0]:g} to {SMALL[1]:g} (exponent).",
            source="derived",
            reference="docs/derivations.md: what is across stays, what is along grows from ε to one size; 0.1 allowed",
            predicted=1.0,
            relation="equal",
            bias=0.1,
            resolution=0.1,
        ),
        Claim(
            key="scale-two-phases",
            sentence=f"Symmetric starts: at ε = {SWEEP[0]:g} neurons are aligned when the loss has fallen to {DROP:g} "
            "(cosine of the mean positive neuron with x₊).",
            source="calibrated",
            reference="ours",
            predicted=0.99,
            relation="at_least",
            bias=0.01,
            resolution=0.02,
        ),
        Claim(
            key="scale-one-phase",
            sentence=f"At ε = {SWEEP[1]:g} they are not: loss and directions move together.",
            source="calibrated",
            reference="ours",
            predicted=0.5,
            relation="at_most",
            bias=0.0,
            resolution=0.6,
        ),
        Claim(
            key="scale-between",
            sentence=f"Its cosine is half-way between the two at ε = {between():.2g} (log₁₀ ε).",
            source="derived",
            reference="docs/derivations.md; a quarter of a decade allowed. Before, it was where the cosine passes "
            "1/√2, which 2 of 20 starts do by chance at any ε; then 0.26, extrapolated from small ε: 0.083 measured "
            "on seeds 0 to 19",
            predicted=math.log10(between()),
            relation="equal",
            bias=0.25,
            resolution=0.25,
        ),
    ]


def between() -> float:
    """Return the scale at which a symmetric start has turned half-way when the loss has fallen to `DROP`.

    In the time s = κt the mean positive neuron gains ε E|w| s along x_plus, and is √(d-1)/√(m/2) ε across: it is
    at 60° for tan 60° E|w| s = √((d-1)/(m/2)). Outputs begin at 0 and grow by (m/2) (1+d) ε² s |x_plus|/n_plus,
    each neuron by a² + p².
    """
    length = math.sqrt(2) * math.gamma(0.5 * (DIM + 1)) / math.gamma(0.5 * DIM)
    s = math.sqrt((DIM - 1) / (0.5 * WIDTH) / 3) / length
    half = 0.5 * math.acos(MU)
    mean_length = (
        math.sin(half) / half
    )  # of a class: its samples are at uniform angles up to `half`
    return math.sqrt(-math.log(DROP) / (0.5 * WIDTH * (1 + DIM) * s * mean_length))


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Follow flows from all starts and scales until the loss drops."""
    import xarray as xr

    few = list(seeds)
    progress.stage("initialisations", len(few))
    best, times = _by_start(few)
    small = np.geomspace(*SMALL, settings.grid_points)
    angles = np.arccos(_at_drop(few, small, "balanced", SMALL_DROP))
    sweep = np.geomspace(*SWEEP, 4 * settings.grid_points)
    cosines = _at_drop(few, sweep, "symmetric", DROP)
    progress.advance(len(few))
    samples: dict[str, Sequence[float]] = {}
    for k, start in enumerate(STARTS):
        samples[f"start-{start}"] = best[:, k].tolist()
        samples[f"start-{start}-time"] = (times[:, k] - times[:, 0]).tolist()
    fits = [np.polyfit(np.log(small), np.log(line), 1)[0] for line in angles]
    logs = np.log10(sweep)
    samples |= {
        "scale-angle": list(map(float, fits)),
        "scale-two-phases": cosines[:, 0].tolist(),
        "scale-one-phase": cosines[:, -1].tolist(),
        "scale-between": [
            reached(-line, logs, -0.5 * float(line[0] + line[-1])) for line in cosines
        ],
    }
    data = xr.Dataset(
        {
            "best_cosine": (("seed", "start"), best),
            "kappa_drop_time": (("seed", "start"), times),
            "angle": (("seed", "small_scale"), angles),
            "cosine": (("seed", "scale"), cosines),
        },
        coords={"seed": few, "start": list(STARTS), "small_scale": small, "scale": sweep},
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "scales",
                "From two phases to one",
                "The mean positive neuron when the loss begins to fall, against the initial scale; a line a seed. "
                f"Left: its cosine with x₊ at loss {DROP:g}, symmetric starts of zero output. Right: its angle at "
                f"loss {SMALL_DROP:g}, balanced starts; dashed: proportional to ε.",
                lambda: _draw(data),
            )
        ],
        data={"starts": data},
    )


def network(start: str, scale: float, seed: int) -> fc.TwoLayerNet:
    """Return one of the starts; all have the first layer of the balanced one, symmetric ones half of it twice."""
    net = fc.TwoLayerNet.balanced(WIDTH, DIM, scale, seed=child(seed, 15))
    if start == "balanced":
        return net
    if start == "unbalanced":
        rng = np.random.default_rng(child(seed, 16))
        return fc.TwoLayerNet(net.W, scale * rng.standard_normal(WIDTH))
    if start == "dominated":
        return fc.TwoLayerNet(net.W, 2 * net.a)
    half, head = net.W[: WIDTH // 2], np.abs(net.a[: WIDTH // 2])
    return fc.TwoLayerNet(np.concatenate([half, half]), np.concatenate([head, -head]))


def _data(seed: int) -> fc.Dataset:
    return fc.data.orthogonally_separable(SAMPLES, DIM, MU, seed=child(seed, 17))


def _by_start(seeds: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best cosines before the drop, and κ times its time; shape (seeds, starts)."""
    members = [(seed, start) for seed in seeds for start in STARTS]
    data = {seed: _data(seed) for seed in seeds}
    runs = fc.ensemble(
        [network(start, SCALE, seed) for seed, start in members],
        [data[seed] for seed, _ in members],
        "exponential",
        dynamics="flow",
        t_end=LONG,
        loss_target=DROP,
        observe=[["loss", to_class_sums(data[seed])] for seed, _ in members],
        record=fc.Recording.linear(2000),
    )
    best, times = [], []
    for (seed, _), run in zip(members, runs, strict=True):
        met = run.outcome.status == "loss_target"
        own = run.history["alignment"].sel(statistic="mean_neuron")
        plus = own.sel(direction="x_plus", sign="+").max()
        minus = own.sel(direction="x_minus", sign="-").max()
        best.append(float(min(plus, minus)) if met else float("nan"))
        kappa = class_sum_norm(data[seed]) / SAMPLES
        times.append(kappa * run.outcome.time if met else float("nan"))
    shape = (len(seeds), len(STARTS))
    return np.reshape(best, shape), np.reshape(times, shape)


def _at_drop(
    seeds: Sequence[int], scales: NDArray[np.float64], start: str, level: float
) -> NDArray[np.float64]:
    """Return the cosine of the mean positive neuron with x_plus where the loss passes `level`; (seeds, scales)."""
    members = [(seed, float(scale)) for seed in seeds for scale in scales]
    data = {seed: _data(seed) for seed in seeds}
    runs = fc.ensemble(
        [network(start, scale, seed) for seed, scale in members],
        [data[seed] for seed, _ in members],
        "exponential",
        dynamics="flow",
        t_end=LONG,
        rtol=1e-8,
        loss_target=level,
        observe=[["loss", to_class_sums(data[seed])] for seed, _ in members],
        record=fc.Recording.linear(1),
    )
    cosines = []
    for run in runs:
        own = run.history["alignment"].sel(statistic="mean_neuron", direction="x_plus", sign="+")
        met = run.outcome.status == "loss_target"
        cosines.append(float(own.values[-1]) if met else float("nan"))
    return np.reshape(cosines, (len(seeds), len(scales)))


def _draw(data: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    cosine, angle = canvas.subplots(1, 2)
    for line in data["cosine"].values:
        cosine.plot(data["scale"], line, color="C0", lw=0.7)
    cosine.set(xscale="log", xlabel="ε", ylabel="cosine with x₊")
    for line in data["angle"].values:
        angle.plot(data["small_scale"], line, "o-", color="C0", lw=0.7, mfc="none")
    at = data["small_scale"].values
    middle = float(np.exp(np.log(data["angle"]).mean()))
    angle.plot(at, middle * at / np.exp(np.log(at).mean()), "--", color="black", lw=1)
    angle.set(xscale="log", yscale="log", xlabel="ε", ylabel="angle, radians")
    return canvas
