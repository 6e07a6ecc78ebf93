"""Deeper networks on one class (figure 4): theory against networks of N scalars, which are integrated here.

featcore's own networks have two layers. Those of this part are N numbers, w and z¹ to z^(N-1), with the output
κ w z¹ z² …, as the paper's diagonal deep networks are for one class; scipy integrates their own N equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcore.experiments.claims import Claim
from featcore.experiments.modes.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import modes as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

Array = NDArray[np.float64]

FIGURE_4 = ((4, 0.1), (4, 0.5), (8, 0.1))
"""Layers, and the length of the class's vector."""
FIGURE_4_LOGIT = 0.1
"""At the start; the paper does not say it, and with it the curves are met."""
FIGURE_4_TIME = 10.0
FIGURE_4_ENDS = (1.704, 4.695, 6.092)
TIMES = {(4, 0.5): (9.6283, 1.5290), (8, 0.1): (6.0951, 1.3703)}
"""To 99 % confidence under cross-entropy, and to margin 1 under the hinge loss."""
LEARNT = float(theory.target_logit(0.01))
EQUAL_WEIGHTS = 0.1
SMALL_LOGIT = 1e-3
"""Of all layers, and of the output, in networks of several depths, κ = 1."""
EQUAL_DEPTHS = (2, 3, 4)
POINTS = 101


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    derived = "docs/derivations.md, from the equation of section 4 and appendix B"
    stated = [
        Claim(
            key=f"figure-4-{layers}-{kappa:g}",
            sentence=f"Figure 4, {layers} layers, κ = {kappa:g}: logit at t = 10.",
            source="derived",
            reference=f"{derived}; its curves are met from the logit {FIGURE_4_LOGIT:g}, which it does not say",
            predicted=end,
            relation="equal",
            bias=5e-4,
        )
        for (layers, kappa), end in zip(FIGURE_4, FIGURE_4_ENDS, strict=True)
    ]
    stated.append(
        Claim(
            key="figure-4-curves",
            sentence="Figure 4: logits of the networks are theory's, all along (largest difference).",
            source="derived",
            reference=derived,
            predicted=0.0,
            relation="equal",
            bias=1e-8,
        )
    )
    for (layers, kappa), predicted in TIMES.items():
        stated += [
            Claim(
                key=f"depth-time-{layers}-{loss}",
                sentence=f"{layers} layers, κ = {kappa:g}: time to learn from logit {FIGURE_4_LOGIT:g}, {loss} loss.",
                source="derived",
                reference=derived,
                predicted=time,
                relation="equal",
                bias=1e-4,
                unit="time",
            )
            for loss, time in zip(("logistic", "hinge"), predicted, strict=True)
        ]
    stated.append(
        Claim(
            key="depth-slower",
            sentence=f"From equal weights {EQUAL_WEIGHTS:g}, and not from equal logits, deeper is slower: hinge time "
            "of four layers over that of two.",
            source="derived",
            reference=f"{derived}: the logit starts at κ z^N",
            predicted=49.5 / math.log(10),
            relation="equal",
            bias=1e-6,
        )
    )
    small = theory.deep_time(1.0, layers=(4, 2), u0=SMALL_LOGIT, norm=1.0, share=1.0, loss="hinge")
    stated.append(
        Claim(
            key="depth-slower-small",
            sentence=f"So it is from equal logits if they are small, {SMALL_LOGIT:g}: the same ratio.",
            source="derived",
            reference=derived,
            predicted=float(small[0] / small[1]),
            relation="equal",
            bias=1e-6,
        )
    )
    return stated


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Integrate the networks of figure 4, and of several depths from equal weights."""
    import xarray as xr

    progress.stage("depth", len(FIGURE_4) + len(TIMES) + len(EQUAL_DEPTHS))
    times = np.linspace(0.0, FIGURE_4_TIME, POINTS)
    logits = []
    for layers, kappa in FIGURE_4:
        logits.append(logit(times, _weights(layers, kappa), kappa, "logistic"))
        progress.advance()
    expected = [
        theory.deep_logit(times, layers=layers, u0=FIGURE_4_LOGIT, norm=kappa, share=1.0)
        for layers, kappa in FIGURE_4
    ]
    samples = {
        f"figure-4-{layers}-{kappa:g}": float(line[-1])
        for (layers, kappa), line in zip(FIGURE_4, logits, strict=True)
    }
    samples["figure-4-curves"] = float(np.abs(np.array(logits) - expected).max())
    for layers, kappa in TIMES:
        weights = _weights(layers, kappa)
        samples[f"depth-time-{layers}-logistic"] = time_to_learn(LEARNT, weights, kappa, "logistic")
        samples[f"depth-time-{layers}-hinge"] = time_to_learn(1.0, weights, kappa, "hinge")
        progress.advance()
    slow, small = [], []
    for layers in EQUAL_DEPTHS:
        slow.append(time_to_learn(1.0, np.full(layers, EQUAL_WEIGHTS), 1.0, "hinge"))
        weights = np.full(layers, SMALL_LOGIT ** (1 / layers))
        small.append(time_to_learn(1.0, weights, 1.0, "hinge"))
        progress.advance()
    two, four = EQUAL_DEPTHS.index(2), EQUAL_DEPTHS.index(4)
    samples["depth-slower"] = slow[four] / slow[two]
    samples["depth-slower-small"] = small[four] / small[two]
    found = xr.Dataset(
        {
            "logit": (("source", "network", "time"), np.array([logits, expected])),
            "equal_weights_time": ("layers", slow),
            "small_logit_time": ("layers", small),
        },
        coords={
            "source": ["network", "theory"],
            "network": [f"N = {layers}, κ = {kappa:g}" for layers, kappa in FIGURE_4],
            "time": times,
            "layers": list(EQUAL_DEPTHS),
        },
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "depth",
                "Depth",
                "Left, figure 4: logits of diagonal networks of N layers from the logit 0.1, cross-entropy; dots: "
                "networks of N scalars, dashed: theory. Right: time to margin 1 under the hinge loss against depth, "
                f"from one logit, {FIGURE_4_LOGIT:g} or {SMALL_LOGIT:g}, and from equal weights {EQUAL_WEIGHTS:g}; "
                "circles: networks.",
                lambda: _draw(found),
            )
        ],
        data={"depth": found},
        notes=[
            "Deep networks are not featcore's: N scalars, integrated by scipy. Section 4's claim that deeper is faster "
            "holds for figure 4's lengths and logit; from small logits, or from equal weights, deeper is slower.",
        ],
    )


def logit(times: Array, weights: Array, kappa: float, loss: str) -> Array:
    """Return the output of a network of N scalars at `times`, on a class that is all the data."""
    from scipy.integrate import solve_ivp

    run = solve_ivp(
        _field(kappa, loss),
        (0.0, float(times[-1])),
        weights,
        method="DOP853",
        t_eval=times,
        rtol=1e-12,
        atol=1e-14,
    )
    return np.asarray(kappa * run.y.prod(axis=0))


def time_to_learn(goal: float, weights: Array, kappa: float, loss: str) -> float:
    """Return when the output of such a network comes to `goal`."""
    from scipy.integrate import solve_ivp

    def short_of(_: float, state: Array) -> float:
        return float(kappa * state.prod() - goal)

    short_of.terminal = True  # type: ignore[attr-defined]
    run = solve_ivp(
        _field(kappa, loss),
        (0.0, 1e4),
        weights,
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
        events=short_of,
    )
    return float(run.t_events[0][0]) if run.t_events[0].size else float("nan")


def _field(kappa: float, loss: str):  # type: ignore[no-untyped-def]
    def field(_: float, state: Array) -> Array:
        output = kappa * state.prod()
        # of the hinge loss up to its margin, where runs end
        pull = 1.0 if loss == "hinge" else 1 / (1 + np.exp(output))
        return np.asarray(pull * output / state)

    return field


def _weights(layers: int, kappa: float) -> Array:
    """Return N scalars of one logit at the start, which move alike: w and the others are equal."""
    return np.full(layers, (FIGURE_4_LOGIT / kappa) ** (1 / layers))


def _draw(found: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    left, right = canvas.subplots(1, 2)
    at = found["time"].values
    for k, name in enumerate(found["network"].values):
        points, line = found["logit"].isel(network=k).values
        left.plot(at[::5], points[::5], "o", color=f"C{k}", mfc="none", label=str(name))
        left.plot(at, line, "--", color="black", lw=0.9)
    left.set(xlabel="t", ylabel="logit u")
    left.legend()
    depths = np.arange(2, 9)

    def hinge(u0: ArrayLike) -> Array:
        return theory.deep_time(1.0, layers=depths, u0=u0, norm=1.0, share=1.0, loss="hinge")

    right.plot(depths, hinge(FIGURE_4_LOGIT), "--", color="C0", label="from equal logits")
    right.plot(depths, hinge(SMALL_LOGIT), "--", color="C2", label="from small ones")
    right.plot(found["layers"], found["small_logit_time"], "o", color="C2", mfc="none")
    right.plot(depths, hinge(EQUAL_WEIGHTS**depths), "--", color="C1", label="from equal weights")
    right.plot(found["layers"], found["equal_weights_time"], "o", color="C1", mfc="none")
    right.set(yscale="log", xlabel="layers", ylabel="time to margin 1")
    right.legend()
    return canvas
