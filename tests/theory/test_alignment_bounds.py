"""The theorem's constants against networks, and against brute force."""

import math

import numpy as np
import pytest

import featcore as fc
from featcore.theory import alignment as theory


def separable(seed, n=4, d=3, spread=0.5):
    """Return data whose x_i y_i lie within `spread` of an axis, and starting directions."""
    rng = np.random.default_rng([71, seed])
    y = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    x = np.zeros((n, d))
    x[:, 0] = 1.0
    x[:, 1:] = spread / math.sqrt(d - 1) * rng.uniform(-1, 1, (n, d - 1))
    x *= y[:, None] * rng.uniform(0.8, 1.25, n)[:, None]
    W0 = rng.standard_normal((8, d))
    signs = np.where(np.arange(8) < 4, 1.0, -1.0)
    # one of each sign sees its class, as part 2 of the theorem asks
    W0[0], W0[4] = x[0], x[1]
    return x, y, W0, signs


def run(x, y, W0, signs, log_scale, t_end, **options):
    net = fc.TwoLayerNet(
        W0, signs * np.linalg.norm(W0, axis=1), log_scale=np.full(len(W0), log_scale)
    )
    return fc.flow(
        net,
        fc.Dataset(x, y),
        "exponential",
        reduction="sum",
        t_end=t_end,
        rtol=1e-8,
        **options,
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_network_stays_within_all_bounds(seed):
    x, y, W0, signs = separable(seed)
    needed = theory.bounds(x, y, W0, signs, -1.0).log_scale_needed.value
    log_scale = needed - 1
    found = theory.bounds(x, y, W0, signs, log_scale)
    for name in ("small_until", "aligned", "log_scale_needed", "rank_excess"):
        assert getattr(found, name).holds, name

    early = run(
        x,
        y,
        W0,
        signs,
        log_scale,
        found.small_until.value,
        observe=["log_norms", "margins"],
        record=fc.Recording.linear(20),
    )
    # in logarithms: the bounds themselves are far below the least double
    log_bound = (
        math.log(2 / math.sqrt(8)) + log_scale + 2 * math.log(np.linalg.norm(W0, axis=1).max())
    )
    assert 2 * float(early.history.log_norms.max()) <= log_bound + 1e-9

    aligned = run(x, y, W0, signs, log_scale, found.aligned.value)
    codes = theory.cone_membership(aligned.net.W, x, y)
    allowed = np.where(signs > 0, theory.Cone.S_PLUS, theory.Cone.S_MINUS)
    assert ((codes == allowed) | (codes == theory.Cone.S_DEAD)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_of_a_network_stays_below_the_envelope(seed):
    x, y, W0, signs = separable(seed)
    needed = theory.bounds(x, y, W0, signs, -1.0).log_scale_needed.value
    found = theory.bounds(x, y, W0, signs, needed - 1)
    assert found.fitting.holds
    assert found.decay_rate.holds
    t2 = found.fitting.value
    run_ = run(
        x,
        y,
        W0,
        signs,
        needed - 1,
        20 * t2,
        record=fc.Recording.at([t2, 2 * t2, 5 * t2, 20 * t2]),
        observe=["loss", "stable_rank"],
    )
    times, losses = run_.history.time.values, run_.history.loss.sel(split="train").values
    start = int(np.searchsorted(times, t2))
    lengths = np.linalg.norm(x, axis=1)
    envelope = theory.loss_envelope(
        times[start:],
        losses[start],
        t2,
        mu=found.mu,
        x_min=lengths.min(),
        x_max=lengths.max(),
    )
    assert (losses[start:] <= envelope * (1 + 1e-9)).all()
    assert (run_.history.stable_rank.values[start:] <= 2 + 1e-6).all()


@pytest.mark.parametrize("seed", range(10))
def test_xi_and_zeta_are_what_they_are_defined_as(seed):
    """Sampled directions never contradict them, and generators attain ξ."""
    x, y, W0, signs = separable(seed, n=5)
    found = theory.bounds(x, y, W0, signs, -1.0)
    rng = np.random.default_rng([72, seed])
    rays = y[:, None] * x
    z = rng.standard_normal((20000, 3))
    z /= np.linalg.norm(z, axis=1)[:, None]
    codes = theory.cone_membership(z, x, y)
    outside = z[(codes != theory.Cone.S_PLUS) & (codes != theory.Cone.S_MINUS)]
    K = rng.exponential(size=(2000, 5)) ** 4 @ rays
    K /= np.linalg.norm(K, axis=1)[:, None]
    assert np.abs(K @ outside.T).max() <= math.sqrt(1 - found.xi) + 1e-12
    for total, cone in zip(
        theory.class_sums(x, y), (theory.Cone.S_PLUS, theory.Cone.S_MINUS), strict=True
    ):
        near = z @ total / np.linalg.norm(total) >= math.sqrt(1 - found.zeta_data)
        assert (codes[near] == cone).all()
        assert near.any()
    plus, minus = theory.class_sums(x, y)
    directions = W0 / np.linalg.norm(W0, axis=1)[:, None]
    worst = max(
        (directions[signs > 0] @ minus).max() / np.linalg.norm(minus),
        (directions[signs < 0] @ plus).max() / np.linalg.norm(plus),
    )
    assert worst <= math.sqrt(1 - found.zeta_start) + 1e-12


def test_what_does_not_hold_is_flagged():
    x, y, W0, signs = separable(0)
    close = theory.bounds(x, y, W0, signs, math.log(1e-6))
    assert close.small_until.holds
    assert not close.aligned.holds
    assert not close.fitting.holds
    large = theory.bounds(x, y, W0, signs, 0.0)
    assert not large.small_until.holds
    mixed = theory.bounds(x, -y * np.array([1, 1, 1, -1.0]), W0, signs, -1e6)
    assert mixed.mu < 0
    assert math.isnan(mixed.aligned.value)
    assert not mixed.aligned.holds
    repelled = W0.copy()
    repelled[0] = theory.class_sums(x, y)[1]  # Assumption 2 fails
    assert theory.bounds(x, y, repelled, signs, -1e6).zeta_start == pytest.approx(0, abs=1e-15)


def test_no_neuron_on_a_class_leaves_part_two_open():
    x, y, W0, signs = separable(1)
    W0[signs > 0] = -np.abs(W0[signs > 0]) * np.array([1, 0, 0])  # active on no positive sample
    found = theory.bounds(x, y, W0 + np.array([0, 1e-3, 0]), signs, -1e6)
    assert not found.fitting.holds


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"W0": np.ones((8, 2))}, r"W0 has shape \(8, 2\)"),
        ({"W0": np.zeros((8, 3))}, "zero neuron at 0"),
        ({"signs": np.ones(7)}, "signs has shape"),
        ({"signs": np.full(8, 0.5)}, "signs has the entry 0.5"),
        ({"x": np.zeros((4, 3))}, "zero sample"),
        ({"log_scale": math.nan}, "log_scale"),
    ],
)
def test_bad_input(change, match):
    x, y, W0, signs = separable(0)
    with pytest.raises(ValueError, match=match):
        theory.bounds(**{"x": x, "y": y, "W0": W0, "signs": signs, "log_scale": -1.0, **change})
