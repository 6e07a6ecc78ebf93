"""Progress of calls that take long: of a step, of features, of ridge regression."""

import io
import sys

import numpy as np
import pytest

import featcore as fc
from featcore import _dispatch


def problem(activation, n=2500, d=1200, m=1500):
    rng = np.random.default_rng(0)
    net = fc.TwoLayerNet(
        rng.standard_normal((m, d)) / np.sqrt(d), rng.standard_normal(m) / np.sqrt(m), activation
    )
    return net, fc.Dataset(rng.standard_normal((n, d)), rng.standard_normal(n))


def check(percents):
    # How often it is told is a matter of time (every 20 ms); where a call ends is tested in C++.
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)
    assert len(percents) < 4 or percents[-1] - percents[0] > 20


@pytest.mark.parametrize("activation", [fc.ReLU(), fc.Tanh()], ids=["relu", "tanh"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_tells_how_far_it_is(activation, full, threads):
    net, data = problem(activation)
    percents = []
    split = (data.x, data.y, None, None)
    arguments = (net.W, net.a, activation.spec, split, full, 1.0, threads)
    W = _dispatch.core.one_step(*arguments, percents.append)
    check(percents)
    np.testing.assert_array_equal(W, _dispatch.core.one_step(*arguments))


def test_features_and_ridge_tell_how_far_they_are():
    core = _dispatch.core
    net, data = problem(fc.ReLU())
    percents = []
    F = core.features(net.W, net.a, net.activation.spec, data.x, 1, percents.append)
    check(percents)
    percents.clear()
    gram = core.second_moments(F, True, 1, percents.append)
    check(percents)
    percents.clear()
    core.shifted_solves(gram, np.array([1e3, 1e4]), data.y[:1500], 1, percents.append)
    check(percents)


def test_what_progress_raises_ends_the_call():
    net, data = problem(fc.ReLU())

    def stop(percent):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        _dispatch.core.features(net.W, net.a, net.activation.spec, data.x, 2, stop)


def test_bars_are_full_at_the_end(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    net, data = problem(fc.ReLU(), 60, 5, 40)
    for call in (
        lambda progress: fc.one_step(net, data, 1.0, progress=progress),
        lambda progress: fc.features(net, data.x, progress=progress),
        lambda progress: fc.ridge(fc.features(net, data.x), data.y, [1.0, 2.0], progress=progress),
    ):
        for wanted in (True, False):
            terminal = Terminal()
            monkeypatch.setattr(sys, "stderr", terminal)
            call(wanted)
            assert ("100/100" in terminal.getvalue()) is wanted
