"""Animations are files that play, and say what they lack."""

import itertools

import numpy as np
import pytest
from matplotlib import animation

import featcore as fc
from featcore.report.animation import animate_neurons, save

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def run():
    net = fc.TwoLayerNet.gaussian(width=10, dim=2, scale=1e-2, head="gaussian", seed=0)
    return fc.descend(
        net,
        fc.data.two_points(0.1),
        "exponential",
        step_size=0.05,
        steps=400,
        observe=["weights", "head", "loss"],
        record=fc.Recording.linear(6),
    )


def frames(path):
    with Image.open(path) as image:
        pictures = []
        for k in range(image.n_frames):
            image.seek(k)
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures


def test_a_frame_a_row_and_they_differ(run, tmp_path):
    path = animate_neurons(run.history, run.splits["train"], tmp_path / "neurons.gif")
    pictures = frames(path)
    assert len(pictures) == run.history.sizes["time"]
    assert all((one != other).any() for one, other in itertools.pairwise(pictures))


def test_frames_are_spread_over_the_rows(run, tmp_path):
    few = animate_neurons(run.history, run.splits["train"], tmp_path / "few.gif", frames=2)
    every = frames(animate_neurons(run.history, run.splits["train"], tmp_path / "all.gif"))
    first, last = frames(few)
    assert (first == every[0]).all()
    assert np.abs(last.astype(int) - every[-1]).max() <= 60  # GIF has 256 colours a file


def test_a_member_of_an_ensemble_and_no_loss(tmp_path):
    nets = [fc.TwoLayerNet.gaussian(width=5, dim=2, scale=1e-2, seed=k) for k in range(2)]
    data = fc.data.two_points(0.1)
    runs = fc.ensemble(
        nets,
        data,
        "exponential",
        step_size=0.05,
        steps=20,
        observe=["weights", "head"],
        record=fc.Recording.linear(2),
    )
    with pytest.raises(ValueError, match="member="):
        animate_neurons(runs.history, data, tmp_path / "one.gif")
    assert animate_neurons(runs.history, data, tmp_path / "one.gif", member=1).exists()


def test_what_cannot_be_drawn(run, tmp_path):
    data = run.splits["train"]
    with pytest.raises(ValueError, match=r"'weights'.*observe="):
        animate_neurons(run.history[["loss"]], data, tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"\.gif"):
        animate_neurons(run.history, data, tmp_path / "a.png")
    with pytest.raises(ValueError, match="frames=0"):
        animate_neurons(run.history, data, tmp_path / "a.gif", frames=0)
    with pytest.raises(ValueError, match="dimension"):
        animate_neurons(run.history, fc.Dataset(np.ones((2, 3)), [1, -1]), tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_mp4_needs_ffmpeg(run, tmp_path):
    path = tmp_path / "neurons.mp4"
    if animation.FFMpegWriter.isAvailable():
        assert animate_neurons(run.history, run.splits["train"], path).stat().st_size > 0
    else:
        with pytest.raises(RuntimeError, match=r"ffmpeg.*\.gif"):
            animate_neurons(run.history, run.splits["train"], path)


def test_matplotlib_is_left_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)

    def start(figure):
        axes = figure.add_subplot()
        return lambda frame: axes.set_title(str(frame))

    assert len(frames(save(start, 3, tmp_path / "a.gif"))) == 3
    assert dict(matplotlib.rcParams) == before
