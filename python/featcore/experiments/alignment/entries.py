"""Single neurons: when they enter S_plus, and which extremal vector they come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import featcore as fc
from featcore.experiments.alignment.settings import EARLY, SCALE, WIDTH, Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import matplotlib.figure

CORRELATIONS = (0.296, 0.1, 0.03, 0.01)
"""Values of μ = <x1, x2>."""
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Of single neurons, between where x2 is seen and where x1 is lost."""
ANGLE, THETA0 = 0.1, math.radians(80.0)
"""Of the neuron that is followed by descent."""
CROWD, CROWD_ANGLE = 400, 0.001
"""Neurons in the setting of figure 8."""
VANISHING = -1e6
"""Logarithm of a scale that outputs are nothing at, and mantissas of all neurons keep their own."""
POINTS, TURNING = 12, 200.0
"""Samples of a plane with random labels, and the sum-loss time in which neurons have come to rest."""


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    entry = 2.0 * float(theory.entry_time(THETA0, ANGLE))
    # The slowest of N neurons, uniform on the circle, begins at δ from where x1 (or x2) is lost, δ exponential of
    # mean 2π/2N, and enters δ earlier than the supremum: d/dθ ln tan(θ/2) = 1 at π/2.
    early = math.pi / WIDTH
    slowest = np.mean([1.0 - early / theory.slowest_entry_time(mu) for mu in CORRELATIONS])
    return [
        Claim(
            key="entry-time",
            sentence="A single neuron 80° from the first point, on its far side, sees the second one after the time "
            "ln[tan(θ0/2)/tan(a/2)] (times n = 2 for the mean loss): by descent at the paper's step size.",
            source="derived",
            reference="docs/derivations.md; 1 % allowed for the finite step",
            predicted=entry,
            relation="equal",
            bias=0.01 * entry,
            unit="time",
        ),
        Claim(
            key="entry-times",
            sentence=f"The same of {len(PLACES)} angles at each of {len(CORRELATIONS)} correlations μ from "
            f"{CORRELATIONS[0]:g} to {CORRELATIONS[-1]:g}, by the flow at vanishing scale: the largest relative "
            "deviation.",
            source="derived",
            reference="docs/derivations.md; rounding of the flow allowed",
            predicted=0.0,
            relation="at_most",
            bias=1e-6,
        ),
        Claim(
            key="entry-latest",
            sentence="No neuron enters S₊ later than arccosh(1/μ): the last of 50 over that, the largest over μ.",
            source="derived",
            reference="docs/derivations.md",
            predicted=1.0,
            relation="at_most",
            bias=1e-6,
            resolution=0.05,
        ),
        Claim(
            key="entry-slowest",
            sentence="The last of 50 uniform neurons enters π/50 before that on average (share of it, mean over μ).",
            source="derived",
            reference="here: the first of 50 uniform angles beyond a point that both sides lose; 0.5 % allowed",
            predicted=float(slowest),
            relation="equal",
            bias=0.005,
            resolution=0.03,
        ),
        Claim(
            key="entered-share",
            sentence=f"Figure 8 with balanced positive neurons: the share of the live ones in S₊ at iteration {EARLY}.",
            source="derived",
            reference="the formula of the entry time, over uniform directions; 0.01 allowed for the finite step",
            predicted=_entered(0.5 * EARLY * settings.step_size),
            relation="equal",
            bias=0.01,
            resolution=0.06,
        ),
        Claim(
            key="basins",
            sentence=f"{POINTS} random points of the circle with random labels: neurons of either sign that start in "
            "the basin of an extremal vector at which neurons grow come to it (share).",
            source="derived",
            reference="docs/derivations.md, enumeration in the plane; 1 % allowed for those that start too near to an "
            "edge to have arrived. Before, the claim was of all neurons: 0.85 ± 0.04 on seeds 0 to 19. Those that come "
            "to a vector at which neurons shrink do so until rounding unbalances them, and turn round",
            predicted=1.0,
            relation="at_least",
            bias=0.01,
            resolution=0.02,
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Follow single neurons."""
    import xarray as xr

    few = list(seeds)[: settings.flow_seeds]
    progress.stage("entry times", 2 + len(few))
    measured = {"entry-time": _by_descent(settings)}
    progress.advance()
    singles = np.array([_singles(mu) for mu in CORRELATIONS])  # μ, (measured, formula), neuron
    measured["entry-times"] = float(np.abs(singles[:, 0] / singles[:, 1] - 1.0).max())
    progress.advance()
    ratios = np.array([[_slowest(mu, seed) for mu in CORRELATIONS] for seed in seeds])
    shares = _crowds(settings, few)
    progress.advance(len(few))
    progress.stage("basins of extremal vectors", len(seeds))
    basins = []
    for seed in seeds:
        basins.append(_basins(seed))
        progress.advance()
    samples: dict[str, Sequence[float] | float] = {
        **measured,
        "entry-latest": ratios.max(axis=1).tolist(),
        "entry-slowest": ratios.mean(axis=1).tolist(),
        "entered-share": shares,
        "basins": basins,
    }
    data = xr.Dataset(
        {
            "entry": (("mu", "neuron"), singles[:, 0]),
            "formula": (("mu", "neuron"), singles[:, 1]),
            "slowest_ratio": (("seed", "mu"), ratios),
        },
        coords={"mu": list(CORRELATIONS), "seed": list(seeds)},
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "entry-times",
                "When single neurons see both points",
                "Time (of the sum of the losses) at which a neuron on the far side of one of two points sees the "
                "other, against its angle to the first; dots: flow at vanishing scale, dashed: the formula. Colours: "
                "correlation of the points.",
                lambda: _draw(singles),
            )
        ],
        data={"entry-times": data},
    )


def _entered(time: float) -> float:
    """Return the share of live neurons, uniform on the circle, that are in S_plus at a sum-loss time."""
    quarter, a = 0.5 * math.pi, CROWD_ANGLE
    theta = np.linspace(a, quarter, 200_001)[:-1]
    share = float((theory.entry_time(theta, a) <= time).mean())
    alone = quarter - a  # where x1 is seen alone, and x2
    return (quarter + a + 2 * share * alone) / (quarter + a + 2 * alone)


def _by_descent(s: Settings) -> float:
    """Return when a single balanced neuron, on the far side of the first point, sees the second one."""
    w = 1e-10 * np.array([[math.cos(THETA0), -math.sin(THETA0)]])
    steps = math.ceil(2.4 * float(theory.entry_time(THETA0, ANGLE)) / s.step_size)
    history = fc.descend(
        fc.TwoLayerNet(w, [1e-10]),
        fc.data.two_points(ANGLE),
        "exponential",
        step_size=s.step_size,
        steps=steps,
        observe=["margins"],
        record=fc.Recording.every(1),
    ).history
    seen = np.flatnonzero(history["margins"].values[:, 1] > 0)
    return float(history["time"].values[seen[0]]) if seen.size else float("nan")


def _entries(W: NDArray[np.float64], data: fc.Dataset, t_end: float) -> NDArray[np.float64]:
    """Return when each balanced positive neuron last gained a sample, from its crossings; 0 without any."""
    net = fc.TwoLayerNet(W, np.linalg.norm(W, axis=1), log_scale=VANISHING)
    run = fc.flow(net, data, "exponential", reduction="sum", t_end=t_end, events=True, observe=[])
    assert run.events is not None
    entered = np.zeros(len(W))
    for time, neuron in zip(run.events["time"].values, run.events["neuron"].values, strict=True):
        entered[neuron] = max(entered[neuron], time)
    return entered


def _singles(mu: float) -> NDArray[np.float64]:
    """Return the entry times of single neurons, and those of the formula."""
    a = math.asin(mu)
    theta = a + np.array(PLACES) * (0.5 * math.pi - a)
    W = np.stack([np.cos(theta), -np.sin(theta)], axis=1)
    formula = theory.entry_time(theta, a)
    return np.stack([_entries(W, fc.data.two_points(a), 2 * float(formula.max())), formula])


def _slowest(mu: float, seed: int) -> float:
    """Return when the last of 50 neurons enters S_plus, over the supremum."""
    W = np.random.default_rng(child(seed, 1)).standard_normal((WIDTH, 2))
    latest = theory.slowest_entry_time(mu)
    return float(_entries(W, fc.data.two_points(math.asin(mu)), 2 * latest).max()) / latest


def _crowds(s: Settings, seeds: Sequence[int]) -> list[float]:
    """Return the share of live neurons in S_plus at the iteration `EARLY`."""
    nets = []
    for seed in seeds:
        W = SCALE * np.random.default_rng(child(seed, 2)).standard_normal((CROWD, 2))
        # as much output as 50 neurons have
        W *= math.sqrt(WIDTH / CROWD)
        nets.append(fc.TwoLayerNet(W, np.linalg.norm(W, axis=1)))
    data = fc.data.two_points(CROWD_ANGLE)
    runs = fc.ensemble(
        nets,
        data,
        "exponential",
        step_size=s.step_size,
        steps=EARLY,
        record=fc.Recording.linear(1),
    )
    shares = []
    for net in runs.nets:
        codes = theory.cone_membership(net.W, data.x, data.y)
        live = codes != theory.Cone.S_DEAD
        shares.append(float((codes[live] == theory.Cone.S_PLUS).mean()))
    return shares


def _basins(seed: int) -> float:
    """Return the share of neurons that end where the enumeration says, of those that grow there."""
    rng = np.random.default_rng(child(seed, 3))
    angles = rng.uniform(0, 2 * math.pi, POINTS)
    data = fc.Dataset(
        np.stack([np.cos(angles), np.sin(angles)], axis=1), rng.choice([-1.0, 1.0], POINTS)
    )
    start = rng.uniform(0, 2 * math.pi, 2 * WIDTH)
    W = np.stack([np.cos(start), np.sin(start)], axis=1)
    heads = np.where(np.arange(len(W)) % 2 == 0, 1.0, -1.0)
    net = fc.TwoLayerNet(W, heads, log_scale=VANISHING)
    end = fc.flow(net, data, "exponential", reduction="sum", t_end=TURNING, observe=[]).net.W
    reached = np.arctan2(end[:, 1], end[:, 0])
    expected = np.full(len(start), np.nan)
    for sign in (1, -1):
        found = theory.extremal_vectors(data.x, data.y, sign)
        for k in np.flatnonzero(found.speeds > 0):
            begin, stop = found.basins[k]
            inside = (start - begin) % (2 * math.pi) < stop - begin
            expected[inside & (heads == sign)] = found.angles[k]
    grow = np.isfinite(expected)
    gap = np.abs((reached - expected + math.pi) % (2 * math.pi) - math.pi)
    return float((gap[grow] < 1e-3).mean()) if grow.any() else float("nan")


def _draw(singles: NDArray[np.float64]) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas()
    axes = canvas.subplots()
    for k, (mu, (measured, _)) in enumerate(zip(CORRELATIONS, singles, strict=True)):
        a = math.asin(mu)
        theta = a + np.array(PLACES) * (0.5 * math.pi - a)
        axes.plot(np.degrees(theta), measured, "o", color=f"C{k}", label=f"μ = {mu:g}")
        line = np.linspace(a, 0.5 * math.pi, 200)[:-1]
        axes.plot(np.degrees(line), theory.entry_time(line, a), "--", color="black", lw=0.9)
    axes.set(xlabel="angle to the first point, degrees", ylabel="entry time")
    axes.legend()
    return canvas
