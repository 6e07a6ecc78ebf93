"""Pairs of digits (figures 5, 10 and 11): scikit-learn's, or MNIST where its files are given."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import featcore as fc
from featcore.experiments.alignment import digits_figures as drawn
from featcore.experiments.alignment.histories import (
    centres,
    class_sum_norm,
    fall,
    largest_rank,
    loss_of,
    reached,
    schedule,
    stack,
    to_class_sums,
)
from featcore.experiments.alignment.settings import SCALE, WIDTH, Settings
from featcore.experiments.claims import Claim
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import alignment as theory

if TYPE_CHECKING:
    import xarray as xr

# SHA-256 of MNIST's uncompressed train-images-idx3-ubyte and t10k-images-idx3-ubyte, as published
# widely. Only these bytes are MNIST: names, sizes and classes are the same all through its family
# (Fashion-MNIST, KMNIST, EMNIST), for which the paper says nothing.
_MNIST_IMAGES = {
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}


@dataclass(frozen=True)
class Drawn:
    """What is read off a figure of the paper, in iterations."""

    figure: int
    aligned: float
    half: float


PAPER = {
    (1, 0): Drawn(5, aligned=2000, half=3200),
    (3, 8): Drawn(10, aligned=6500, half=7000),
    (1, 7): Drawn(11, aligned=3000, half=4600),
}
NEARLY, BY = 0.99, 0.95
"""Cosines: of a mean neuron, over its largest, and of the last neuron, where they count as aligned."""
_RUN_TO = 1.6
"""In predicted times of the loss drop."""


@dataclass(frozen=True)
class Pair:
    """One pair of digit classes, and how it is trained."""

    classes: tuple[int, int]
    data: fc.Dataset
    shape: tuple[int, int]
    label: str
    step_size: float
    is_mnist: bool

    @property
    def key(self) -> str:
        """Prefix of the keys of its claims."""
        return f"digits-{self.classes[0]}-{self.classes[1]}"

    @property
    def drop(self) -> float:
        """The predicted time of the loss drop; samples are longer than 1, so that a smaller norm fits them."""
        length = float(np.linalg.norm(self.data.x, axis=1).mean())
        norm = class_sum_norm(self.data)
        return theory.drop_time(self.data.n, norm, SCALE, fitted_norm=0.175 / math.sqrt(length))

    @property
    def kappa(self) -> float:
        """The rate |x_plus|/n of the early phase."""
        return class_sum_norm(self.data) / self.data.n

    @property
    def steps(self) -> int:
        """How many steps are taken."""
        return math.ceil(_RUN_TO * self.drop / self.step_size)


def load(s: Settings, classes: tuple[int, int]) -> Pair:
    """Return a pair of the digits that the settings say."""
    return _load(s.data, classes, s.step_size if s.data is not None else s.digit_step_size)


@functools.lru_cache(maxsize=3)
def _load(folder: Path | None, classes: tuple[int, int], step_size: float) -> Pair:
    first, second = classes
    if folder is None:
        data = fc.data.digits(classes)
        label = f"scikit-learn's digits, {first} against {second}, n = {data.n}"
        return Pair(classes, data, (8, 8), label, step_size, is_mnist=False)
    # single precision: six digits, as the scale of the weights is no matter of rounding
    data = fc.data.idx(folder, classes, dtype=np.float32)
    rows, columns = data.provenance["image_shape"]
    is_mnist = data.provenance["images_sha256"] in _MNIST_IMAGES
    name = "MNIST" if is_mnist else "IDX images"
    label = f"{name} ({data.provenance['split']}), {first} against {second}, n = {data.n}"
    return Pair(classes, data, (rows, columns), label, step_size, is_mnist)


def aligned_at(d: int) -> tuple[float, float]:
    """Return κt at which the mean neuron of a sign comes to `NEARLY`, and the last of all to `BY`.

    Neuron j has grown to c_j e^κt along its class sum, c_j = |a + p|/2 with a and p normal, and is as it was across:
    √d, of the mean of half of all neurons √(2d/m).
    """
    mean_c = 1 / math.sqrt(math.pi)  # of |N(0, 1/2)|
    # ln of the least of m: exponential with the rate m times the density 2/√π of c at 0, and Euler's constant
    least_c = -math.log(WIDTH * 2 / math.sqrt(math.pi)) - np.euler_gamma
    across = 0.5 * math.log(d)

    def angle(cosine: float) -> float:
        return math.log(math.sqrt(1 - cosine**2) / cosine)

    mean = across + 0.5 * math.log(2 / WIDTH) - math.log(mean_c) - angle(NEARLY)
    return mean, across - least_c - angle(BY)


def claims(settings: Settings) -> list[Claim]:
    """Return the claims of this part."""
    return [claim for classes in settings.digit_pairs for claim in _claims(load(settings, classes))]


def _claims(pair: Pair) -> list[Claim]:
    mean, last = (at / pair.kappa for at in aligned_at(pair.data.d))
    stated = [
        Claim(
            key=f"{pair.key}-aligned",
            sentence=f"{pair.label}: both mean neurons have come to 0.99 of their largest cosines at κt = "
            f"{mean * pair.kappa:.2f}, κ = |x₊|/n.",
            source="derived",
            reference="docs/derivations.md; 15 % allowed. It stands for the times of figures 5, 10 and 11 (2000, 6500, "
            "3000 iterations), which this definition missed: 1132, 2382 and 1613 on MNIST, seeds 0 and 1",
            predicted=mean,
            relation="equal",
            bias=0.15 * mean,
            resolution=0.1 * mean,
            unit="time",
        ),
        Claim(
            key=f"{pair.key}-last",
            sentence=f"{pair.label}: the last of 50 neurons comes to a cosine of 0.95 at κt = "
            f"{last * pair.kappa:.2f} (or is as late as the loss drop).",
            source="derived",
            reference="docs/derivations.md; 10 % allowed. It varies by 1.3/κ from one start to another. "
            "Before, a start counted as a failure if the loss fell first: 1 of 20 with 3 against 8",
            predicted=last,
            relation="equal",
            bias=0.1 * last,
            resolution=0.35 * last,
            unit="time",
        ),
        Claim(
            key=f"{pair.key}-alignment",
            sentence=f"{pair.label}: at some time both mean neurons are aligned with their class sums (the smaller "
            "cosine, at its largest).",
            source="calibrated",
            reference="ours; figures 5, 10 and 11 (MNIST) show nearly 1",
            predicted=0.95,
            relation="at_least",
            bias=0.0,
            resolution=0.02,
        ),
        Claim(
            key=f"{pair.key}-rank",
            sentence=f"{pair.label}: once the loss has fallen below 0.9 the stable rank stays below 2.",
            source="calibrated",
            reference="ours, after figures 5, 10 and 11 (MNIST)",
            predicted=2.0,
            relation="at_most",
            bias=0.0,
            resolution=0.1,
        ),
        Claim(
            key=f"{pair.key}-drop-time",
            sentence=f"{pair.label}: the loss falls below 0.7 at the time n·ln(w*/α)/|x₊|, w* = 0.175/√|x|.",
            source="derived",
            reference="docs/derivations.md, its constant calibrated on figure 7; 20 % allowed, as the digits are not "
            "orthogonally separable",
            predicted=pair.drop,
            relation="equal",
            bias=0.2 * pair.drop,
            resolution=0.05 * pair.drop,
            unit="time",
        ),
    ]
    if pair.classes == (1, 0):
        stated.append(
            Claim(
                key=f"{pair.key}-order",
                sentence=f"{pair.label}: alignment comes first: both cosines exceed 0.95 before the loss falls below "
                "0.9.",
                source="calibrated",
                reference="ours, after the order of events in figure 5 (MNIST)",
                predicted=0.95,
                relation="at_least",
                bias=0.0,
                resolution=0.02,
            )
        )
    if pair.is_mnist and pair.classes in PAPER:
        stated += _paper_claims(pair, PAPER[pair.classes])
    return stated


def _paper_claims(pair: Pair, figure: Drawn) -> list[Claim]:
    reference = f"figure {figure.figure}, read off the plot, on the training file; 20 % allowed"

    def iterations(name: str, sentence: str, predicted: float) -> Claim:
        return Claim(
            key=f"{pair.key}-{name}",
            sentence=f"{pair.label}: {sentence}",
            source="paper",
            reference=reference,
            predicted=predicted,
            relation="equal",
            bias=0.2 * predicted,
            resolution=0.1 * predicted,
            unit="iterations",
        )

    stated = [
        Claim(
            key=f"{pair.key}-aligned-by",
            sentence=f"{pair.label}: both mean neurons have come to 0.99 of their largest cosines by iteration "
            f"{figure.aligned:g}.",
            source="paper",
            reference=reference + "; 0.99 is ours, the figure shows nearly 1",
            predicted=figure.aligned,
            relation="at_most",
            bias=0.2 * figure.aligned,
            resolution=0.1 * figure.aligned,
            unit="iterations",
        ),
        iterations("half", "the loss passes 0.5.", figure.half),
        Claim(
            key=f"{pair.key}-rank-drawn",
            sentence=f"{pair.label}: from iteration {max(1500.0, figure.aligned):g} on the stable rank is at "
            "most 1.15.",
            source="paper",
            reference=f"figure {figure.figure}: 1.0 to 1.15 once aligned, read off the plot",
            predicted=1.15,
            relation="at_most",
            bias=0.02,
            resolution=0.05,
        ),
    ]
    if figure.figure == 5:
        stated.append(iterations("rank-two", "the stable rank passes 2.", 1000.0))
    return stated


def measure(
    settings: Settings, stated: Sequence[Claim], *, seeds: Sequence[int], progress: Progress
) -> Part:
    """Train a network a seed and pair."""
    count = settings.digit_seeds if settings.data is None else settings.idx_seeds
    few = list(seeds)[:count]
    samples: dict[str, list[float]] = {}
    data: dict[str, xr.Dataset] = {}
    trained: list[tuple[Pair, fc.TwoLayerNet]] = []
    for classes in settings.digit_pairs:
        pair = load(settings, classes)
        progress.stage(pair.label, len(few))
        runs = _train(pair, few)
        progress.advance(len(few))
        histories = [run.history for run in runs]
        samples |= _samples(pair, histories)
        data[pair.key] = stack(histories, few)
        trained.append((pair, runs[0].net))
    figures = [
        Figure(
            pair.key,
            f"Alignment, loss and rank: {pair.label}",
            "Cosine of the mean neuron of each sign with its class's sum, with the range over neurons (first seed); "
            "then loss, stable rank and squared spectral norm, a line a seed. Dashed: the predicted time of the drop.",
            functools.partial(drawn.courses, pair, data[pair.key], pair.drop),
        )
        for pair, _ in trained
    ]
    return Part(
        findings=judged(stated, samples),
        figures=[
            *figures,
            Figure(
                "digit-images",
                "What the neurons look like",
                "Means of the two classes less the mean of all images, and the mean neuron of each sign at the end; "
                "red is positive, blue negative. First seed; a row a pair.",
                lambda: drawn.images(trained),
            ),
            Figure(
                "inner-products",
                "Inner products of the samples",
                "<x_i, x_j> of the centred images of the first pair, the positive class first: blocks of positive "
                "products within the classes, negative across.",
                lambda: drawn.products(trained[0][0]),
            ),
        ],
        data=data,
        notes=[
            f"Digits are of the first {len(few)} seeds. "
            + "; ".join(
                f"{pair.label}: {pair.steps} iterations of step {pair.step_size:g}, {pair.data.dtype}"
                for pair, _ in trained
            )
            + ".",
            "The paper's bound on the initial scale is astronomically small for these data; that neurons align at "
            "1e-6 is an observation, not a consequence of its theorem.",
        ],
    )


def _train(pair: Pair, seeds: Sequence[int]) -> Sequence[fc.Run]:
    return fc.ensemble(
        [
            fc.TwoLayerNet.gaussian(
                WIDTH, pair.data.d, SCALE, head="gaussian", seed=seed, dtype=pair.data.dtype
            )
            for seed in seeds
        ],
        pair.data,
        "exponential",
        step_size=pair.step_size,
        steps=pair.steps,
        observe=[
            "loss",
            "stable_rank",
            fc.observables.singular_values(1),
            to_class_sums(pair.data),
        ],
        record=schedule(pair.steps),
    )


def _samples(pair: Pair, histories: Sequence[xr.Dataset]) -> dict[str, list[float]]:
    """Return what every claim that may be made of a pair is judged by."""
    found = {
        "alignment": [float(np.nanmax(np.minimum(*centres(history)))) for history in histories],
        "rank": [largest_rank(history, fall(history, 0.9)) for history in histories],
        "drop-time": [fall(history, 0.7) for history in histories],
        "order": [_alignment_before(history, 0.9) for history in histories],
        "aligned": [_aligned(history) for history in histories],
        "aligned-by": [_aligned(history) / pair.step_size for history in histories],
        "last": [_last_aligned(history) for history in histories],
        "half": [fall(history, 0.5) / pair.step_size for history in histories],
        "rank-two": [_rank_falls(history, 2.0) / pair.step_size for history in histories],
    }
    if pair.classes in PAPER:
        since = max(1500.0, PAPER[pair.classes].aligned) * pair.step_size
        found["rank-drawn"] = [largest_rank(history, since) for history in histories]
    return {f"{pair.key}-{name}": values for name, values in found.items()}


def _alignment_before(history: xr.Dataset, level: float) -> float:
    """Return the smaller of the two classes' best alignments while the loss is at least `level`."""
    early = loss_of(history) >= level
    return float(min(np.nanmax(cosine[early]) for cosine in centres(history)))


def _aligned(history: xr.Dataset) -> float:
    """Return the time at which both cosines have come to `NEARLY` their largest values."""
    times = history["time"].values
    return max(
        reached(cosine, times, NEARLY * float(np.nanmax(cosine))) for cosine in centres(history)
    )


def _last_aligned(history: xr.Dataset) -> float:
    """Return the time at which every neuron's cosine with its class sum has come to `BY`.

    In less than one start of a hundred the last is so late that the loss falls first, and x_plus is no goal any more:
    then that of the loss drop.
    """
    lowest = history["alignment"].sel(statistic="min")
    each = (
        lowest.sel(direction="x_plus", sign="+").values,
        lowest.sel(direction="x_minus", sign="-").values,
    )
    last = reached(np.minimum(*each), history["time"].values, BY)
    return fall(history, 0.9) if math.isnan(last) else last


def _rank_falls(history: xr.Dataset, level: float) -> float:
    return reached(-history["stable_rank"].values, history["time"].values, -level)
