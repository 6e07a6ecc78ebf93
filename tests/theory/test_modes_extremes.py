"""`theory.modes` at the ends of doubles, where warnings are errors, and what it refuses."""

import itertools
import math

import numpy as np
import pytest

from featcore.theory import modes as theory

LOSSES = ("logistic", "exponential", "hinge", "squared")
long = pytest.mark.long
TIMES = np.array([0.0, 1e-300, 1e-5, 1.0, 1e6, 1e12])
GOALS = [-1.0, 0.0, 1e-300, 0.5, 1.0, 4.6, 690.0, 1e4]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    "norm", [1e-150, pytest.param(1e-5, marks=long), 1.0, pytest.param(1e5, marks=long), 1e150]
)
def test_modes_from_any_start(norm, loss):
    scale = math.sqrt(norm)
    for r, q in itertools.product(
        (0.0, 1e-150, 1e-8, 0.7, 30.0), (0.0, 1e-150, -1e-150, 1e-8, -1e-8, 0.7, -0.7, -30.0)
    ):
        y0, z0 = r * scale, q / scale
        if r > 0 == r + q or (loss == "squared" and r * q > 1):
            continue  # on the line that takes for ever, to rounding; beyond the target
        times = theory.time_to_learn(GOALS, norm=norm, share=0.5, y0=y0, z0=z0, loss=loss)
        mode = theory.mode(norm, 0.5, [y0], [z0], loss)
        again = mode.time_to_learn(GOALS)
        np.testing.assert_allclose(again, times, rtol=1e-12)
        assert not np.isnan(times).any()
        assert (np.diff(times[np.isfinite(times)]) >= 0).all()
        fails = bool(theory.failure_region(y0, z0, norm=norm))
        assert fails == (r <= 0 or r + q <= 0)
        assert fails == math.isinf(times[3])
        u = mode.u_of_t(TIMES / norm)
        assert np.isfinite(u).all()
        assert (np.diff(u) >= -1e-12 * np.abs(u[1:])).all()
        y, z = mode.neurons(mode.s_of_t(TIMES / norm))
        assert np.isfinite(y).all()
        assert np.isfinite(z).all()
        products = np.maximum(y[:, 0], 0.0) * z[:, 0]
        np.testing.assert_allclose(products, u, rtol=1e-7, atol=1e-12 * max(r * r, q * q))
        death = float(theory.death_time(y0, z0, norm=norm, share=0.5, loss=loss))
        assert death == pytest.approx(float(mode.death_times[0]), rel=1e-12)


def test_one_over_1e300():
    """A balanced start from the least to the largest: 2κpt = ln(u*/u0) + Ei(u*) - Ei(u0), e^L/L to leading order."""
    L = float(theory.target_logit(1e-300))
    t = float(theory.time_to_learn(L, norm=1.0, share=1.0, y0=1e-150, z0=1e-150))
    assert t * 2 * L * 1e-300 == pytest.approx(1 + 1 / L, rel=1e-5)
    deep = float(theory.deep_time(L, layers=2, u0=1e-300, norm=1.0, share=1.0))
    assert deep == pytest.approx(t, rel=1e-12)
    assert float(theory.deep_logit(t, layers=2, u0=1e-300, norm=1.0, share=1.0)) == pytest.approx(L)


@pytest.mark.parametrize(
    "k2", [pytest.param(1e-3, marks=long), 1.0, pytest.param(30.0, marks=long)]
)
@pytest.mark.parametrize(
    "lam", [1e-6, pytest.param(1e-3, marks=long), 0.5, pytest.param(1.0, marks=long)]
)
def test_starvation_from_any_start(lam, k2):
    L = theory.target_logit([1e-2, 1e-300])
    for A0, B0, z0 in itertools.product(
        (1e-150, 1e-8, 0.1), (0.0, 1e-150, -1e-9, 0.1), (1e-150, 0.1)
    ):
        if A0 + B0 <= 0:
            continue
        at = {"norms": (1.0, k2), "A0": A0, "B0": B0, "z0": z0}
        found = theory.starvation(lam, L, **at)
        assert (found.rare_logit >= 0).all()
        assert (found.rare_logit <= found.bound * (1 + 1e-9)).all()
        # at λ = 1 a rare feature of norm 30 is the frequent one, and its e^900L takes longer than doubles
        assert found.time[0] < found.time[1] or math.isinf(found.time[1])
        hinge = theory.starvation(lam, [0.5, 1.0], loss="hinge", **at)
        assert (hinge.rare_logit <= hinge.bound * (1 + 1e-9)).all()
        assert (np.diff(hinge.rare_logit) >= 0).all()


def test_tiny_starts_are_carried_by_the_linear_flow():
    """The same orbit from 1e-4 and from 1e-12 and 1e-140 before it, to the order of the squares."""
    near = theory.starvation(0.1, 4.6, A0=1e-4, B0=1e-5, z0=1e-4)
    for small in (1e-12, 1e-140):
        far = theory.starvation(0.1, 4.6, A0=small, B0=0.1 * small, z0=small)
        assert float(far.rare_logit) == pytest.approx(float(near.rare_logit), rel=1e-6)
        # until then g is 1/2, and growth that of x1 + λ x2
        k = math.sqrt(1 + 0.01)
        q, pull = 1.0, 1 + 0.01
        waited = 2 * (math.log(1e-4) - math.log(small)) / k
        assert abs(float(far.time) - float(near.time) - waited) < 0.02
        assert q < pull


@pytest.mark.parametrize("norms", [(1.0, 1.0), (5.0, 0.2), pytest.param((1e-2, 1e2), marks=long)])
def test_winners_of_any_size_follow_their_flow(norms):
    rng = np.random.default_rng(8)
    size = 10.0 ** rng.uniform(-3, 1, (3, 20))
    alpha, beta, z = size[0] * norms[0], size[1] * norms[1], size[2] * rng.choice([-1, 1], 20)
    found = theory.winner(alpha, beta, z, norms=norms)
    assert set(found.tolist()) == {1, 2}
    for k in range(20):
        flow = theory.shared_neuron([0.0, 1e12], alpha[k], beta[k], z[k], norms=norms)
        assert flow.winner == found[k]
        assert flow.alpha[0] == pytest.approx(alpha[k], rel=1e-12)
    # the two classes exchanged
    swapped = theory.winner(beta, alpha, -z, norms=norms[::-1])
    np.testing.assert_array_equal(swapped, 3 - found)


@pytest.mark.parametrize(
    "c", [pytest.param(1e-12, marks=long), 1e-3, 1.0, 100.0, pytest.param(1000.0, marks=long)]
)
def test_separatrices_lie_between_the_outcomes(c):
    for norms in ((1.0, 1.0), (1.3, 0.7))[: 2 if c == 1 else 1]:
        curve = theory.separatrix(c, norms=norms, num=6)
        alpha, beta, z = curve.T
        surface = (alpha / norms[0]) ** 2 + (beta / norms[1]) ** 2 - z**2
        # the edge is met to the tolerance of the event
        np.testing.assert_allclose(surface, c, rtol=1e-6)
        inside = curve[2:-2]
        up = np.abs(inside[:, 2]) * 1e-3 + 1e-3 * math.sqrt(c)
        above, below = (
            theory.winner(inside[:, 0], inside[:, 1], inside[:, 2] + s * up, norms=norms)
            for s in (1, -1)
        )
        assert (above == 1).all()
        assert (below == 2).all()


@pytest.mark.parametrize("step_size", [1e-8, 1e-18, 1e-300])
def test_steps_as_small_as_doubles_are_the_flow(step_size):
    at = {"norm": 1.0, "share": 1.0, "y0": [0.1], "z0": [0.1]}
    steps = float(theory.hinge_descent_steps(1.0, step_size=step_size, **at))
    # a balanced start has u = u0 e^{2t}
    assert step_size * steps == pytest.approx(0.5 * math.log(100.0), rel=2e-8)
    done = theory.hinge_descent([0.0, steps, 1e300], step_size=step_size, **at)
    assert done[0] == pytest.approx(0.01)
    assert done[1] == pytest.approx(1.0, rel=1e-7)


def test_a_separatrix_is_not_led_astray_by_rounding():
    """A straight line, to the order of c; steps as small as rounding asks for took minutes here."""
    for c in (1e-10, 1e-8, 1e-6):
        curve = theory.separatrix(c, num=3)
        np.testing.assert_allclose(
            curve[-1], math.sqrt(c) * np.array([0, math.sqrt(2), 1]), atol=1e-5 * math.sqrt(c)
        )


@pytest.mark.parametrize("ridge", [1e-100, 1e-290])
def test_responses_to_the_least_decay(ridge):
    U, s = np.array([[math.sqrt(0.75), -0.5], [0.5, math.sqrt(0.75)]]), np.array([4.0, 2.0])
    z = theory.responses(U, s, ridge)
    pull = s**2 * (U.T @ np.exp(-np.logaddexp(0.0, U @ z))) / ridge
    np.testing.assert_allclose(z, pull, rtol=1e-9)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_no_goals_are_no_answers(loss):
    found = theory.starvation(0.1, np.empty((0, 2)), A0=[0.1, 0.2, 0.3], loss=loss)
    assert found.time.shape == found.rare_logit.shape == (0, 2)
    assert found.A.shape == found.z.shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.target_logit(0.0), "delta has the entry 0"),
        (lambda: theory.mode(1.0, 1.0, [1e-160], [0.0]), "between 1e-152 and 1e\\+100"),
        (lambda: theory.time_to_learn(1, norm=1, share=1, y0=1e-160, z0=0), "rescale it"),
        (lambda: theory.mode(1.0, 1.0, [1.0], [0.1, 0.2]), "one of each a neuron"),
        (lambda: theory.mode(1.0, 1.0, [2.0], [1.0], "squared"), "beyond the target 1"),
        (lambda: theory.time_to_learn(1, norm=-1, share=1, y0=1, z0=1), "norm has the entry -1"),
        (lambda: theory.mode(1.0, 1.0, [1.0], [1.0]).u_of_t(-1.0), "t has the entry -1"),
        (lambda: theory.small_init_time(1.0, norm=1, share=1, A=2.0), "not small"),
        (lambda: theory.starvation(0.1), "pass target_logit"),
        (lambda: theory.starvation(0.1, 1.0, A0=0.1, B0=-0.2), "must see x1"),
        (lambda: theory.starvation(0.1, 1.0, A0=0.1, B0=0.0, z0=-1.0), "only some of the samples"),
        (lambda: theory.starvation(0.1, 0.005, A0=0.1, z0=0.1), "must be above"),
        (lambda: theory.starvation(0.1, 2.0, loss="hinge"), "stops at 1"),
        (lambda: theory.starvation(0.1, A0=1, z0=-2.0, B0=0, loss="hinge"), "only some of the"),
        (lambda: theory.deep_time(1.0, layers=1.5, u0=1, norm=1, share=1), "whole numbers"),
        (lambda: theory.separatrix(-1.0), "c=-1 must be > 0"),
        (
            lambda: theory.hinge_descent(1, step_size=2, norm=1, share=1, y0=[1.0], z0=[0.1]),
            "take steps below 1",
        ),
        (
            lambda: theory.hinge_descent(1, step_size=0.1, norm=1, share=1, y0=[0.1], z0=[-0.5]),
            "dies",
        ),
        (
            lambda: theory.hinge_descent(
                1, step_size=0.1, norm=1, share=1, y0=[1e-200], z0=[1e-200]
            ),
            "rescale it",
        ),
        (lambda: theory.responses(np.ones((2, 2)), [1.0, 1.0], 0.1), "off orthonormal"),
        (lambda: theory.responses(np.eye(2), [1.0, 0.0], 0.1), "positive numbers"),
        (lambda: theory.dual_flow([0, 1], np.eye(2), [1, 1], 0.1, [0.5, 1.0]), "between 0 and 1"),
        (lambda: theory.modes([[1.0, 0.0], [-1.0, 0.0]], [1, 1], [[1.0, 0]], [1.0]), "vanishing"),
        (lambda: theory.modes([[1.0]], [0.5], [[1.0]], [1.0]), "labels must be"),
        (lambda: theory.modes([[1.0]], [1], [[1.0]], [1.0], tolerance=-1), "tolerance=-1 must be"),
        (lambda: theory.modes([[1.0]], [1], [[1.0]], [1.0], tolerance=math.nan), "tolerance=nan"),
        (lambda: theory.mode(1.0, 1.0, [1.0], [1.0]).t_of_s(math.nan), "s has a non-finite"),
        (lambda: theory.mode(1.0, 1.0, [1.0], [1.0]).t_of_s(-math.inf), "s has a non-finite"),
        (lambda: theory.modes([[1.0]], [1.0], [[1.0, 2.0]], [1.0]), "pass W as"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
