"""Late times: closed forms to t = 1e290, the decay of the loss, margins that only grow, and where directions go."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, nnls
from scipy.special import expi

import featcore as fc

NOTHING = fc.Recording.at([])
LOSSES = ("exponential", "logistic")


def single_mode(p0, time, loss):
    """Return a w at `time`, for one sample x = 1, a = w and p0 = a w at the start.

    dp/dt = 2 p r(p) with r = e^-p or 1/(1 + e^p), hence t = [F(p) - F(p0)] / 2 with F = Ei, or Ei + log.
    """

    def elapsed(p):
        F = expi(p) - expi(p0)
        return 0.5 * (F + (math.log(p / p0) if loss == "logistic" else 0.0))

    return brentq(
        lambda p: math.log(max(elapsed(p), 1e-300)) - math.log(time),
        p0,
        min(700.0, math.log(time) + 20),
        xtol=1e-14,
        rtol=4 * np.finfo(float).eps,
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rtol", [1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("time", [1e3, 1e6, 1e9, 1e12, 1e30, 1e100, 1e140, 1e200, 1e290])
def test_a_single_mode_at_any_time(time, rtol, loss):
    net, data = fc.TwoLayerNet([[0.3]], [0.3]), fc.Dataset([[1.0]], [1.0])
    run = fc.flow(net, data, loss, t_end=time, rtol=rtol, record=NOTHING)
    assert run.outcome.status == "reached_end"
    p = single_mode(0.09, time, loss)
    # a = w: twice the relative error of the weights
    assert run.net.a[0] * run.net.W[0, 0] == pytest.approx(p, rel=20 * rtol)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_single_mode_in_units_of_any_time(loss):
    """Whether time is counted in years or nanoseconds does not matter: neither to the error nor to the steps."""
    steps = set()
    for unit in (2.0**-60, 1.0, 2.0**60):
        # the sum over samples of weight w is a loss, and so a clock, w times as fast
        data = fc.Dataset([[1.0]], [1.0], weights=[unit])
        net = fc.TwoLayerNet([[0.3]], [0.3])
        run = fc.flow(net, data, loss, t_end=1e9 / unit, rtol=1e-6, record=NOTHING, reduction="sum")
        p = single_mode(0.09, 1e9, loss)
        assert run.net.a[0] * run.net.W[0, 0] == pytest.approx(p, rel=2e-5)
        steps.add(run.outcome.counts["accepted"])
    assert len(steps) == 1


def separable(seed):
    data = fc.data.orthogonally_separable(n=16, d=4, mu=0.2, seed=seed)
    net = fc.TwoLayerNet.balanced(width=20, dim=4, scale=0.05, seed=seed)
    return net, data


SEEDS = (0, 1, 2)


def late_run(seed, loss, t_end, rtol=1e-8, per_decade=4, start=0, **options):
    net, data = separable(seed)
    times = np.logspace(start, math.log10(t_end), int(per_decade * (math.log10(t_end) - start)) + 1)
    observe = ["loss", "log_loss", "margin", "normalised_margin", "smoothed_margin", "weights"]
    record = fc.Recording.at(times)
    observe += ["head"]
    return data, fc.flow(
        net, data, loss, t_end=t_end, rtol=rtol, observe=observe, record=record, **options
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_a_single_mode_falls_like_one_over_t_log_t(loss):
    net, data = fc.TwoLayerNet([[0.3]], [0.3]), fc.Dataset([[1.0]], [1.0])
    record = fc.Recording.at(np.logspace(6, 12, 25))
    run = fc.flow(net, data, loss, t_end=1e12, rtol=1e-8, observe=["log_loss"], record=record)
    log_loss = run.history["log_loss"].sel(split="train").values[1:]
    law = np.exp(np.log(run.history["time"].values[1:]) + log_loss) * -log_loss
    assert law.max() / law.min() - 1 <= 0.04
    # Derived: 2 t = Ei(p) ~ e^p / p (1 + 1/p + ...), so t L log(1/L) -> 1/2 (1 + 1/p + ...)
    p = -log_loss[-1]
    assert law[-1] == pytest.approx(0.5 * (1 + 1 / p), abs=3 / p**2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_separable_data_falls_like_one_over_t_log_t(loss, seed):
    _, run = late_run(seed, loss, 1e12, start=6)
    log_loss = run.history["log_loss"].sel(split="train").values[1:]
    law = np.exp(np.log(run.history["time"].values[1:]) + log_loss) * -log_loss
    assert law.max() / law.min() - 1 <= 0.04


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", LOSSES)
def test_margins_only_grow(loss, seed):
    """The smoothed margin by theorem (Lyu and Li 2020), once positive; the normalised one is at least that."""
    _, run = late_run(seed, loss, 1e40)
    train = run.history.sel(split="train")
    smoothed, least = train["smoothed_margin"].values, train["normalised_margin"].values
    assert (smoothed <= least * (1 + 1e-12)).all()
    separated = smoothed > 0
    assert separated[-1]
    assert np.diff(smoothed[separated]).min() >= -1e-8 * smoothed[-1]
    assert np.diff(least[separated]).min() >= -1e-8 * least[-1]


def max_margin(x):
    """Return the u of least norm with <u, x_i> >= 1 (Lawson and Hanson's least distance programming)."""
    A = np.r_[x.T, np.ones((1, len(x)))]
    target = np.r_[np.zeros(x.shape[1]), 1.0]
    residual = A @ nnls(A, target)[0] - target
    return -residual[:-1] / residual[-1]


@pytest.mark.parametrize("seed", [*SEEDS, 3, 4, 5])
@pytest.mark.parametrize("loss", LOSSES)
def test_directions_converge_to_the_max_margin_of_each_class(loss, seed):
    """Derived in docs/derivations.md: within the span of the support vectors like 1/log t, outside like its root.

    What a weight has outside that span stays, while the weight itself grows like the root of log t. (A first claim,
    1/log t throughout, failed on seeds 0, 1, 2: it had forgotten this.)
    """
    data, run = late_run(seed, loss, 1e160, per_decade=0.25)
    history = run.history.isel(time=[run.history.sizes["time"] // 2, -1])
    root = np.sqrt(np.log(history["time"].values))
    for sign in (1, -1):
        x = data.x[data.y == sign]
        u = max_margin(x)
        supports = x @ u < 1 + 1e-9
        if (x @ u)[
            ~supports
        ].min() < 1.02:  # a sample that is nearly a support vector takes t^(1/0.02)
            continue
        basis = np.linalg.svd(x[supports], full_matrices=False)[2]
        W, a = history["weights"].values, history["head"].values
        v = np.einsum("tj,tjk->tk", np.where(a * sign > 0, a, 0.0), W) * sign
        gap = v / np.linalg.norm(v, axis=1, keepdims=True) - u / np.linalg.norm(u)
        within = np.linalg.norm(gap @ basis.T, axis=1)
        outside = np.linalg.norm(gap - gap @ basis.T @ basis, axis=1)
        assert np.linalg.norm(gap[-1]) < 0.05
        assert 1 / 1.5 < (within * root**2)[1] / (within * root**2)[0] < 1.5
        if supports.sum() < data.d:
            assert (outside * root)[1] / (outside * root)[0] == pytest.approx(1.0, abs=0.03)
        else:
            assert outside[-1] < 1e-12


@pytest.mark.parametrize("num_threads", [1, 2, 3, 5])
def test_bits_of_late_times_do_not_depend_on_threads(num_threads):
    _, run = late_run(0, "logistic", 1e30, per_decade=1, num_threads=num_threads)
    _, other = late_run(0, "logistic", 1e30, per_decade=1, num_threads=1)
    np.testing.assert_array_equal(run.net.W, other.net.W)
    np.testing.assert_array_equal(run.net.a, other.net.a)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_with_margins_of_hundreds(loss):
    """Nothing moves for e^300, and then all does as it must."""
    net, data = fc.TwoLayerNet([[18.0]], [18.0]), fc.Dataset([[1.0]], [1.0])
    for time in (1e100, 1e139, 1e145):
        run = fc.flow(net, data, loss, t_end=time, rtol=1e-8, record=NOTHING)
        assert run.outcome.status == "reached_end"
        # 2 t = Ei(p) - Ei(324), and Ei(p) = e^p times a factor that expi has
        start = expi(324.0)
        p = brentq(lambda p: expi(p) - start - 2 * time, 324.0, 700.0, xtol=1e-12)  # noqa: B023
        assert run.net.a[0] * run.net.W[0, 0] == pytest.approx(p, rel=2e-7)


@pytest.mark.parametrize("loss", LOSSES)
def test_margins_that_no_time_moves(loss):
    net, data = fc.TwoLayerNet([[30.0]], [30.0]), fc.Dataset([[1.0]], [1.0])
    run = fc.flow(net, data, loss, t_end=1e308, observe=["log_loss", "smoothed_margin"])
    assert run.outcome.status == "reached_end"
    assert run.net.W[0, 0] == run.net.a[0] == 30.0
    last = run.history.sel(split="train").isel(time=-1)
    assert float(last["log_loss"]) == pytest.approx(-900.0, rel=1e-14)
    assert float(last["smoothed_margin"]) == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_late_run_goes_on_to_the_same_bits(loss, tmp_path):
    _, whole = late_run(1, loss, 1e60, per_decade=0.5)
    data, part = late_run(1, loss, 1e25, per_decade=0.5)
    part.save(tmp_path / "part.nc")
    for run in (part, fc.load(tmp_path / "part.nc")):
        more = run.continue_(t_end=1e60, data=data)
        np.testing.assert_array_equal(more.net.W, whole.net.W)
        np.testing.assert_array_equal(more.net.a, whole.net.a)


def test_float32_follows_margins_up_to_its_range():
    net, data = fc.TwoLayerNet([[0.3]], [0.3]), fc.Dataset([[1.0]], [1.0])
    run = fc.flow(
        net.astype(np.float32), data.astype(np.float32), t_end=1e30, rtol=1e-5, record=NOTHING
    )
    assert run.outcome.status == "reached_end"
    got = float(run.net.a[0]) * float(run.net.W[0, 0])
    assert got == pytest.approx(single_mode(0.09, 1e30, "logistic"), rel=2e-4)
