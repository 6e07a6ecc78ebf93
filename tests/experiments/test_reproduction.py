"""The published and derived figures, from the networks themselves. Seeds and tolerances were written first."""

import os
from pathlib import Path

import numpy as np
import pytest

import featcore as fc
from featcore.theory import alignment as theory

pytest.importorskip("pydantic")
pytest.importorskip("sklearn")

from featcore.experiments import alignment, amplification
from featcore.experiments.alignment import toys
from featcore.experiments.amplification import clusters
from featcore.report.progress import Silent

MNIST = Path(
    os.environ.get("FEATCORE_MNIST", Path(__file__).parents[2].parent / "shared" / "data" / "mnist")
)


@pytest.mark.parametrize("figure", list(toys.TWO_POINTS))
def test_two_points_reach_the_losses_of_the_paper(figure: str) -> None:
    angle, _, late = toys.TWO_POINTS[figure]
    data = fc.data.two_points(angle)
    early_losses, late_losses = [], []
    for seed in range(100, 120):
        net = fc.TwoLayerNet.gaussian(50, 2, 1e-6, head="gaussian", seed=seed)
        history = fc.descend(
            net,
            data,
            "exponential",
            step_size=2e-3,
            steps=21000,
            record=fc.Recording.at_steps([7000, 21000]),
        ).history
        _, early, end = history["loss"].sel(split="train").values
        early_losses.append(early)
        late_losses.append(end)
    assert np.mean(late_losses) == pytest.approx(late, rel=0.03)
    assert 0.99 <= np.mean(early_losses) <= 1.0


def test_amplification_claims_hold_on_other_seeds() -> None:
    settings = amplification.Settings()
    part = clusters.measure(
        settings, clusters.claims(settings), seeds=range(500, 506), progress=Silent()
    )
    assert {f.claim.key: f.verdict for f in part.findings if f.verdict == "fails"} == {}
    samples = {f.claim.key: f.samples for f in part.findings}
    assert min(samples["clean_accuracy_end"]) >= 0.99
    assert np.mean(samples["clean_accuracy_2"]) >= 0.99
    assert np.mean(samples["cosine_10"]) == pytest.approx(0.64, rel=0.1)
    assert np.mean(samples["cosine_100"]) >= 0.95
    assert np.abs(samples["train_accuracy_end"]).max() <= 0.02


def test_unknown_settings_and_a_folder_without_images_are_refused(tmp_path: Path) -> None:
    import pydantic

    with pytest.raises(pydantic.ValidationError, match="steps_"):
        amplification.Settings(steps_=3)  # type: ignore[call-arg]
    with pytest.raises((pydantic.ValidationError, FileNotFoundError), match=str(tmp_path)):
        alignment.Settings(data=tmp_path)


@pytest.mark.long
@pytest.mark.mnist
@pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST files")
@pytest.mark.parametrize("seed", [100, 101])
def test_mnist_aligns_before_the_loss_falls(seed: int) -> None:
    data = fc.data.idx(MNIST, (1, 0))
    sums = np.stack(theory.class_sums(data.x, data.y))
    history = fc.descend(
        fc.TwoLayerNet.gaussian(50, data.d, 1e-6, head="gaussian", seed=seed),
        data,
        "exponential",
        step_size=2e-3,
        steps=4000,
        observe=["loss", "stable_rank", fc.observables.alignment(sums)],
        record=fc.Recording.every(50),
    ).history
    loss = history["loss"].sel(split="train").values
    steps = history["step"].values
    centre = history["alignment"].sel(statistic="mean_neuron").values
    before = loss >= 0.9
    assert centre[before, 0, 0].max() > 0.95
    assert centre[before, 1, 1].max() > 0.95
    assert 2700 <= steps[np.argmax(loss < 0.5)] <= 3800
    assert history["stable_rank"].values[steps >= 1500].max() < 2.0
