"""Time to learn: against norm and frequency, both losses, many neurons, correlated samples, Gaussian starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

import featcore as fc
from featcore.experiments.claims import Claim
from featcore.experiments.modes.networks import Array, network, slope, time_to_learn
from featcore.experiments.modes.settings import Settings
from featcore.experiments.part import Part, child, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import modes as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

LOSSES = ("logistic", "hinge")
LEARNT = float(theory.target_logit(0.01))
"""Logit of 99 % confidence; the hinge loss is done at 1."""
NORMS = (0.25, 0.5, 1.0, 2.0, 4.0)
SHARES = (0.05, 0.1, 0.2, 0.5, 0.8)
LOGIT = 1e-3
"""At the start, where norms and shares vary."""
# κ, p, and the start (y, z) of one neuron
ROWS = (
    (1.0, 0.5, 0.05, 0.05),
    (1.0, 0.5, 0.3, 0.02),
    (0.5, 0.2, 0.025, 0.05),
    (2.0, 0.2, 0.1, 0.05),
    (1.0, 0.8, 0.3, 0.02),
)
SMALL = (1e-12, 1e-9, 1e-6)
"""Logits at the start, along which the two losses are compared."""
CROWD, DYING = 24, 8
CROWD_CLASSES = ((1.3, 0.6), (0.8, 0.4))
"""Length and share of the two classes that a crowd of neurons learns."""
STEP = 0.01
"""Of gradient descent."""
EQUAL, EQUAL_COSINES, EQUAL_NORM = 10, (0.5, 0.0), 1.0
GAUSSIAN_WIDTH, GAUSSIAN_SCALE = 400, 1e-3


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""

    def slopes(key: str, sentence: str, reference: str) -> list[Claim]:
        return [
            Claim(
                key=f"{key}-{loss}",
                sentence=f"{sentence}, {loss} loss (exponent).",
                source="paper",
                reference=reference,
                predicted=-1.0,
                relation="equal",
                bias=1e-7,
            )
            for loss in LOSSES
        ]

    def exact(key: str, sentence: str) -> Claim:
        return Claim(
            key=key,
            sentence=sentence,
            source="derived",
            reference="docs/derivations.md; measured in flows that resolve every event",
            predicted=0.0,
            relation="equal",
            bias=1e-8,
            resolution=1e-8,
        )

    gaussian = _gaussian_theory()
    return [
        *slopes(
            "norm",
            "The time to learn a class goes as 1/κ at equal logits at the start",
            "corollary 3.3; theorem 5.1 for the hinge loss",
        ),
        *slopes(
            "share",
            "It goes as 1/p, p the share of the class in the data",
            "corollary 3.3; theorem 5.1 for the hinge loss",
        ),
        exact(
            "rows",
            "One neuron, balanced or not, five norms and shares: largest relative difference to theory.",
        ),
        exact(
            "crowd",
            f"{CROWD} neurons a class, of which {DYING} die: largest relative difference of the times of both "
            "classes to theory.",
        ),
        exact(
            "correlated",
            "Orthogonal or equally correlated samples are learnt as their mean would be: largest relative difference.",
        ),
        *(
            Claim(
                key=f"small-{loss}",
                sentence=f"Small starts: the time grows by {factor:g}/(κp) for each factor e that the logit is smaller "
                f"at the start, {loss} loss.",
                source="derived",
                reference="docs/derivations.md: while u is small g is 1/2 under cross-entropy and 1 under the hinge "
                "loss; what is left of the logit at the start is allowed",
                predicted=factor,
                relation="equal",
                bias=1e-5,
                unit="1/κp",
            )
            for loss, factor in (("logistic", 1.0), ("hinge", 0.5))
        ),
        Claim(
            key="descent",
            sentence=f"Gradient descent, hinge loss, step {STEP:g}: how many steps later than theory says it is done.",
            source="derived",
            reference="docs/derivations.md: each step multiplies y ± κz by 1 ± ηpκ",
            predicted=0.0,
            relation="equal",
            bias=0.0,
        ),
        Claim(
            key="gaussian",
            sentence=f"{GAUSSIAN_WIDTH} neurons from a Gaussian start of scale {GAUSSIAN_SCALE:g}: 99 % confidence at "
            f"κpt = {gaussian:.2f}.",
            source="derived",
            reference="docs/derivations.md, from the mean of A = Σ(y + κz)²/4κ over the neurons that live; its "
            "logarithm is smaller by half its relative variance, 3.1/h, for which 0.01/κp are allowed",
            predicted=gaussian,
            relation="equal",
            bias=0.01,
            resolution=0.2,
            unit="1/κp",
        ),
    ]


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Follow a flow for each time that is claimed."""
    import xarray as xr

    progress.stage("times to learn", 4 + len(seeds))
    by_norm = np.array(
        [[_one(loss, kappa, 0.5, *_balanced(kappa)) for kappa in NORMS] for loss in LOSSES]
    )
    progress.advance()
    by_share = np.array(
        [[_one(loss, 1.0, share, *_balanced(1.0)) for share in SHARES] for loss in LOSSES]
    )
    progress.advance()
    rows = [(_one(loss, *row), _expected(loss, *row)) for loss in LOSSES for row in ROWS]
    small = np.array(
        [[_one(loss, 1.0, 0.5, *_balanced(1.0, start)) for start in SMALL] for loss in LOSSES]
    )
    progress.advance()
    correlated = _correlated()
    progress.advance()
    crowds, gaussians = [], []
    for seed in seeds:
        crowds.append(_crowd(seed))
        gaussians.append(_gaussian(seed))
        progress.advance()
    samples: dict[str, Sequence[float] | float] = {
        "descent": _descent(),
        "rows": max(_off(*row) for row in rows),
        "correlated": correlated,
        "crowd": crowds,
        "gaussian": gaussians,
    }
    for k, loss in enumerate(LOSSES):
        samples[f"norm-{loss}"] = slope(NORMS, by_norm[k])
        samples[f"share-{loss}"] = slope(SHARES, by_share[k])
        # in units of 1/κp = 2
        samples[f"small-{loss}"] = float(-np.polyfit(np.log(SMALL), small[k] / 2, 1)[0])
    found = xr.Dataset(
        {
            "by_norm": (("loss", "norm"), by_norm),
            "by_share": (("loss", "share"), by_share),
            "by_start": (("loss", "start"), small),
            "crowd": ("seed", crowds),
            "gaussian": ("seed", gaussians),
        },
        coords={
            "loss": list(LOSSES),
            "norm": list(NORMS),
            "share": list(SHARES),
            "start": list(SMALL),
            "seed": list(seeds),
        },
    )
    return Part(
        findings=judged(stated, samples),
        figures=[
            Figure(
                "times",
                "Time to learn against norm and frequency",
                "Time to 99 % confidence (cross-entropy) and to margin 1 (hinge), from one logit at the start: against "
                "the length of the class's vector, and against its share of the data. Dots: networks; dashed: theory.",
                lambda: _draw(found),
            )
        ],
        data={"times": found},
        notes=[
            "That times go as 1/(κp) compares equal logits at the start (corollary 3.3). From equal weights a longer "
            "vector also starts at a larger logit, and its time is shorter than that.",
        ],
    )


def goal(loss: str) -> float:
    """Return the logit at which a class counts as learnt."""
    return 1.0 if loss == "hinge" else LEARNT


def _balanced(kappa: float, logit: float = LOGIT) -> tuple[float, float]:
    return math.sqrt(logit * kappa), math.sqrt(logit / kappa)


def _expected(loss: str, kappa: float, share: float, y: float, z: float) -> float:
    return float(theory.time_to_learn(goal(loss), norm=kappa, share=share, y0=y, z0=z, loss=loss))


def _one(loss: str, kappa: float, share: float, y: float, z: float) -> float:
    """Return when a network with one neuron a class learns class +1."""
    data = fc.data.single_vector_classes(20, norms=(kappa, 1.0), positive=share)
    near = _expected(loss, kappa, share, y, z)
    net = network(data, (y, z), (0.1, 0.1))
    return time_to_learn(net, data, sample=0, logit=goal(loss), near=near, loss=loss)


def _off(measured: float, expected: float) -> float:
    return abs(measured / expected - 1)


def _crowd(seed: int) -> float:
    """Return the largest relative difference of the times of two classes, each learnt by neurons of which some die."""
    rng = np.random.default_rng(child(seed, 30))
    starts = []
    for kappa, _ in CROWD_CLASSES:
        y = rng.uniform(0.02, 0.2, CROWD)
        z = rng.uniform(0.02, 0.2, CROWD)
        z[:DYING] = -y[:DYING] / kappa - rng.uniform(0.05, 0.2, DYING)
        starts.append((y, z))
    (first, share), (second, _) = CROWD_CLASSES
    data = fc.data.single_vector_classes(20, norms=(first, second), positive=share)
    net = network(data, *starts)
    worst = 0.0
    for loss in LOSSES:
        for sample, (kappa, share), (y, z) in zip((0, -1), CROWD_CLASSES, starts, strict=True):
            near = float(theory.mode(kappa, share, y, z, loss).time_to_learn(goal(loss)))
            time = time_to_learn(net, data, sample=sample, logit=goal(loss), near=near, loss=loss)
            worst = max(worst, _off(time, near)) if math.isfinite(time) else float("nan")
    return worst


def _correlated() -> float:
    """Return the largest relative difference of the times of classes whose samples are equally correlated."""
    data = fc.data.equicorrelated_classes(EQUAL, correlations=EQUAL_COSINES)
    start = (0.05, 0.1)
    net = network(data, start, start)
    worst = 0.0
    for sample, cosine in zip((0, -1), EQUAL_COSINES, strict=True):
        m = EQUAL // 2
        kappa = EQUAL_NORM * math.sqrt((1 + (m - 1) * cosine) / m)
        near = _expected("logistic", kappa, 0.5, *start)
        worst = max(
            worst,
            _off(
                time_to_learn(net, data, sample=sample, logit=LEARNT, near=near, loss="logistic"),
                near,
            ),
        )
    return worst


def _descent() -> float:
    """Return how many steps later than theory's a network is done with class +1 under the hinge loss."""
    kappa, share, y, z = ROWS[-1]
    data = fc.data.single_vector_classes(20, norms=(kappa, 1.0), positive=share)
    steps = int(
        theory.hinge_descent_steps(1.0, step_size=STEP, norm=kappa, share=share, y0=[y], z0=[z])
    )
    run = fc.descend(
        network(data, (y, z), (0.1, 0.1)),
        data,
        "hinge",
        step_size=STEP,
        steps=2 * steps,
        observe=["margins"],
        record=fc.Recording.every(1),
    )
    done = run.history["margins"].isel(sample=0).values >= 1
    return float(np.argmax(done) - steps) if done.any() else float("nan")


def _gaussian_theory() -> float:
    """Return κp times the time, at κ = 1."""
    growing = theory.gaussian_growth(GAUSSIAN_WIDTH, 1.0, GAUSSIAN_SCALE)
    return float(theory.small_init_time(LEARNT, norm=1.0, share=1.0, A=growing))


def _gaussian(seed: int) -> float:
    """Return κp times the time at which a Gaussian start learns class +1, of half the data."""
    rng = np.random.default_rng(child(seed, 31))
    y, z = GAUSSIAN_SCALE * rng.standard_normal((2, GAUSSIAN_WIDTH))
    data = fc.data.single_vector_classes(2)
    near = float(theory.mode(1.0, 0.5, y, z).time_to_learn(LEARNT))
    net = network(data, (y, z))
    return 0.5 * time_to_learn(net, data, sample=0, logit=LEARNT, near=near, loss="logistic")


def _draw(found: xr.Dataset) -> matplotlib.figure.Figure:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(11.4, 3.4))
    norm, share = canvas.subplots(1, 2, sharey=True)

    def line(at: Array, loss: str, of_norm: bool) -> Array:
        kappa, p = (at, 0.5) if of_norm else (1.0, at)
        y, z = np.sqrt(LOGIT * kappa), np.sqrt(LOGIT / kappa)
        return theory.time_to_learn(goal(loss), norm=kappa, share=p, y0=y, z0=z, loss=loss)

    for color, loss in zip(("C0", "C1"), LOSSES, strict=True):
        for axes, name, coordinate in ((norm, "by_norm", "norm"), (share, "by_share", "share")):
            at = found[coordinate].values
            axes.plot(at, found[name].sel(loss=loss), "o", color=color, mfc="none", label=loss)
            fine = np.geomspace(at[0], at[-1], 50)
            axes.plot(fine, line(fine, loss, axes is norm), "--", color="black", lw=0.9)
    for axes, ticks in ((norm, NORMS), (share, SHARES)):
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.set_xticks([], minor=True)
    norm.set(yscale="log", xlabel="length κ of the class's vector", ylabel="time to learn")
    share.set(xlabel="share p of the class")
    norm.legend()
    return canvas
