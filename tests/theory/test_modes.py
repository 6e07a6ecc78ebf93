"""`theory.modes` against quadrature, other integrators, its limits and its symmetries."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import minimize
from scipy.special import expi

from featcore.theory import modes as theory

relaxed = settings(deadline=None, max_examples=60)
LOSSES = ("logistic", "exponential", "hinge", "squared")
G = {
    "logistic": lambda u: 1 / (1 + np.exp(u)),
    "exponential": lambda u: np.exp(-u),
    "hinge": lambda u: np.where(u < 1, 1.0, 0.0),
    "squared": lambda u: 1 - u,
}
sizes = st.floats(-6, 0.4).map(lambda e: 10.0**e)
heads = st.builds(lambda size, sign: size * sign, sizes, st.sampled_from([1.0, -1.0]))


def exact_time(goal, norm, share, y0, z0, loss):
    """Return the time of one neuron by quadrature in 40 digits: p t = ∫ ds/g(u(s))."""
    mpmath.mp.dps = 40
    k, y, z = (mpmath.mpf(v) for v in (norm, y0, z0))
    P, M = (y + k * z) / 2, (y - k * z) / 2

    def u(s):
        return (P**2 * mpmath.exp(2 * k * s) - M**2 * mpmath.exp(-2 * k * s)) / k

    root = mpmath.sqrt((k * goal) ** 2 + 4 * (P * M) ** 2)
    end = mpmath.log((k * goal + root) / (2 * P**2)) / (2 * k)
    inverse_g = {
        "logistic": lambda u: 1 + mpmath.exp(u),
        "exponential": mpmath.exp,
        "hinge": lambda u: mpmath.mpf(1),
        "squared": lambda u: 1 / (1 - u),
    }[loss]
    return mpmath.quad(lambda s: inverse_g(u(s)), mpmath.linspace(0, end, 17)) / share


# --- times to learn ---


@settings(deadline=None, max_examples=25)
@given(
    y0=sizes, z0=heads, norm=st.floats(0.1, 5.0), loss=st.sampled_from(LOSSES), rise=st.floats(0.01, 0.99)
)  # fmt: skip
def test_times_to_learn_in_forty_digits(y0, z0, norm, loss, rise):
    top = 1.0 if loss in ("hinge", "squared") else 20.0
    start = y0 * z0
    assume(start < 0.5 * top)
    alive = y0 + norm * z0 > 0
    assume(abs(y0 + norm * z0) > 1e-3 * y0)
    goal = start + rise * (top - start) if alive else (1 - rise) * start
    found = float(theory.time_to_learn(goal, norm=norm, share=0.3, y0=y0, z0=z0, loss=loss))
    expected = exact_time(goal, norm, 0.3, y0, z0, loss)
    assert found == pytest.approx(float(expected), rel=1e-11)
    mode = theory.mode(norm, 0.3, [y0], [z0], loss)
    assert float(mode.time_to_learn(goal)) == pytest.approx(found, rel=1e-12)
    assert float(mode.u_of_t(found)) == pytest.approx(goal, rel=1e-9, abs=1e-9 * abs(start))


@relaxed
@given(u0=st.floats(1e-300, 1.0), goal=st.floats(1.5, 600.0), norm=st.floats(0.1, 10.0))
def test_the_closed_form_of_a_balanced_start(u0, goal, norm):
    """t = [ln(u*/u0) + Ei(u*) - Ei(u0)]/(2 kappa p)."""
    found = theory.time_to_learn(
        goal, norm=norm, share=0.2, y0=math.sqrt(u0 * norm), z0=math.sqrt(u0 / norm)
    )
    expected = (math.log(goal) - math.log(u0) + expi(goal) - expi(u0)) / (2 * norm * 0.2)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@relaxed
@given(
    y0=sizes, z0=heads, norm=st.floats(0.1, 5.0), share=st.floats(0.05, 1.0), stretch=st.floats(0.1, 10.0)
)  # fmt: skip
def test_what_times_depend_on(y0, z0, norm, share, stretch):
    start = y0 * z0
    assume(start < 0.9)
    assume(abs(y0 + norm * z0) > 1e-6 * y0)
    at = {"norm": norm, "share": share, "y0": y0, "z0": z0}
    times = {loss: float(theory.time_to_learn(0.95, **at, loss=loss)) for loss in LOSSES}
    fails = bool(theory.failure_region(y0, z0, norm=norm))
    for time in times.values():
        assert math.isinf(time) == fails
    if fails:
        return
    # 1/g is 1 for the hinge loss, and more for the others as long as 0 < u
    if start >= 0:
        assert times["hinge"] <= times["exponential"] <= times["logistic"]
        assert times["hinge"] <= times["squared"]
    # kappa p t is the same at one start in the units of the mode
    scaled = {
        "norm": norm * stretch, "share": share / 2, "y0": y0 * math.sqrt(stretch), "z0": z0 / math.sqrt(stretch)
    }  # fmt: skip
    for loss, time in times.items():
        again = float(theory.time_to_learn(0.95, **scaled, loss=loss))
        assert again * stretch / 2 == pytest.approx(time, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("small", [1e-3, 1e-6, 1e-100, 1e-250])
def test_the_law_of_small_starts(loss, small):
    goal = 0.9 if loss in ("hinge", "squared") else 4.6
    y0, z0 = math.sqrt(small) * 0.7, math.sqrt(small) * -0.3
    A = (y0 / math.sqrt(1.3) + z0 * math.sqrt(1.3)) ** 2 / 4
    law = theory.small_init_time(goal, norm=1.3, share=0.4, A=A, loss=loss)
    time = theory.time_to_learn(goal, norm=1.3, share=0.4, y0=y0, z0=z0, loss=loss)
    # what is neglected is of order A + B in 2 kappa p t, which is at least 1 here
    assert float(law) == pytest.approx(float(time), rel=max(5 * small, 1e-13))


def test_the_growing_part_of_a_gaussian_start():
    rng = np.random.default_rng(5)
    kappa, sigma, draws = 1.7, 0.03, 400_000
    r, z = sigma * rng.standard_normal((2, draws))
    A = np.where((r > 0) & (r + z > 0), kappa * (r + z) ** 2 / 4, 0.0)
    expected = theory.gaussian_growth(1, kappa, sigma)
    assert A.mean() == pytest.approx(expected, abs=3 * A.std() / math.sqrt(draws))
    learnt = np.mean((r > 0) & (r + z > 0))
    assert learnt == pytest.approx(theory.survival_probability(), abs=3 * 0.5 / math.sqrt(draws))
    wide = np.mean((0.5 * r > 0) & (0.5 * r + z > 0))
    assert wide == pytest.approx(theory.survival_probability(0.5), abs=3 * 0.5 / math.sqrt(draws))
    groups = (r + z > 0) & (r > 0)
    never = np.mean(~groups.reshape(-1, 8).any(axis=1))
    error = 3 * math.sqrt(0.0233 / (draws / 8))
    assert never == pytest.approx(theory.never_learnt_probability(8), abs=error)


@relaxed
@given(u0=st.floats(1e-6, 5.0), D=st.floats(0.0, 2.0), log_t=st.floats(-3, 12))
def test_the_paper_bounds_the_logit(u0, D, log_t):
    t = 10.0**log_t
    # y, z with yz = u0 and 2 sqrt(AB) = |y^2 - z^2|/2 = D
    y = math.sqrt(D + math.hypot(D, u0))
    u = float(theory.mode(1.0, 1.0, [y], [u0 / y]).u_of_t(t))
    bound = float(theory.logit_bound(t, norm=1.0, share=1.0, u0=u0))
    assert u <= bound * (1 + 1e-12)


def test_the_late_logit():
    """u = log(2kpt) + log log(2kpt), of which the second is what the bound leaves open."""
    mode = theory.mode(1.0, 1.0, [0.3], [0.3])
    assert float(mode.u_of_t(1e4)) == pytest.approx(12.32, abs=0.1)
    t = np.array([1e6, 1e9, 1e12])
    gap = mode.u_of_t(t) - np.log(2 * t) - np.log(np.log(2 * t))
    assert (np.abs(gap) < 0.2).all()
    assert (np.diff(np.abs(gap)) < 0).all()


@pytest.mark.parametrize("u0", [1e-2, 1e-6, 1e-12, 1e-200])
def test_a_logit_comes_back_from_its_intrinsic_time(u0):
    goals = np.array([1.5 * u0, 0.3, 5.0, 300.0, 690.0])
    mode = theory.mode(1.7, 0.5, [math.sqrt(u0 * 1.7)], [0.5 * math.sqrt(u0 / 1.7)])
    s = mode.s_of_u(goals)
    # u is A e^{2ks}: an error of rounding in 2ks, up to 930, is a relative one in u
    np.testing.assert_allclose(mode.u_of_s(s), goals, rtol=5e-13)


def test_precision_costs_one_over_delta():
    delta = np.array([1e-4, 1e-7, 1e-100])
    L = theory.target_logit(delta)
    t = theory.time_to_learn(L, norm=2.0, share=0.5, y0=1.0, z0=0.5)
    # the integral of e^u/u is e^L/L (1 + 1/L + 2/L^2 + ...), here less than 1 + 2/L
    assert (np.abs(t * 2 * delta * L - 1) < 2 / L).all()


# --- modes of many neurons ---


beside_zero = st.one_of(st.floats(-1, -1.1e-3), st.floats(1.1e-3, 1))
many = st.lists(st.tuples(beside_zero, st.floats(-1, 1)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=30)
@given(neurons=many, loss=st.sampled_from(LOSSES), norm=st.floats(0.3, 2.0))
def test_a_mode_is_the_flow_of_its_neurons(neurons, loss, norm):
    """The linear flow between deaths, what it conserves, and time as the integral of 1/(p g)."""
    y0, z0 = np.array(neurons).T
    assume(loss != "squared" or np.sum((y0 * z0)[y0 > 0]) < 0.9)
    mode = theory.mode(norm, 0.7, y0, z0, loss)
    steps = np.linspace(0.0, 3.0, 3001)
    y, z = mode.neurons(steps)
    # linear between deaths
    alive = (y > 0) & (steps[:, None] < mode.death_s)
    h = steps[1]
    both = alive[2:] & alive[:-2]
    for value, slope in ((y, norm**2 * z), (z, y)):
        difference = (value[2:] - value[:-2]) / (2 * h)
        scale = 1 + np.abs(value[1:-1])
        assert (np.abs(difference - slope[1:-1])[both] <= 1e-4 * scale[both]).all()
    dead = ~alive
    assert ((y <= 0) | alive).all()
    np.testing.assert_array_equal(
        z[dead & (y0 <= 0)], np.broadcast_to(z0, z.shape)[dead & (y0 <= 0)]
    )
    # y^2 - k^2 z^2 stands still, and u is what the neurons give
    invariant = y**2 - (norm * z) ** 2
    size = y**2 + (norm * z) ** 2
    assert (np.abs(invariant - invariant[0]) <= 1e-12 * size + 1e-15).all()
    u = mode.u_of_s(steps)
    np.testing.assert_allclose(
        u, (np.maximum(y, 0) * z).sum(axis=1), atol=1e-12 * np.abs(u).max() + 1e-14
    )
    assert (np.diff(u) >= 0).all()
    # time is the integral of 1/(p g)
    t = mode.t_of_s(steps)
    inside = np.isfinite(t) & (u < (0.9 if loss in ("squared", "hinge") else 30))
    last = int(np.argmin(inside)) if not inside.all() else len(steps)
    if last > 2:
        slope = 1 / (0.7 * G[loss](u[:last]))
        integral = np.concatenate([[0.0], np.cumsum((slope[1:] + slope[:-1]) / 2) * h])
        np.testing.assert_allclose(t[:last], integral, rtol=3e-3, atol=1e-12)
        np.testing.assert_allclose(mode.s_of_t(t[:last]), steps[:last], rtol=1e-9, atol=1e-14)
    for time, s in zip(mode.death_times, mode.death_s, strict=True):
        assert time == (0 if s == 0 else float(mode.t_of_s(s)))


@relaxed
@given(neurons=many, order=st.randoms(), norm=st.floats(0.3, 2.0))
def test_neurons_in_any_order_and_copies(neurons, order, norm):
    goals = np.array([-0.1, 0.0, 0.5, 3.0, 20.0])
    y0, z0 = np.array(neurons).T
    assume(np.abs(np.array(neurons)[y0 > 0]).max(initial=1e-3 * (y0 <= 0).all()) > 1e-100)
    shuffled = list(neurons)
    order.shuffle(shuffled)
    times = theory.mode(norm, 1.0, y0, z0).time_to_learn(goals)
    again = theory.mode(norm, 1.0, *np.array(shuffled).T).time_to_learn(goals)
    np.testing.assert_allclose(again, times, rtol=1e-9, atol=1e-12)
    # two copies of each at 1/sqrt 2 are the same class
    halves = np.repeat(np.array(neurons), 2, axis=0).T / math.sqrt(2)
    np.testing.assert_allclose(
        theory.mode(norm, 1.0, *halves).time_to_learn(goals), times, rtol=1e-7, atol=1e-7
    )


def test_rotations_and_the_rest_of_the_weights_do_not_matter():
    rng = np.random.default_rng(3)
    x = np.array([[1.2, 0, 0], [1.2, 0, 0], [0, 0.8, 0]])
    W = np.array([[0.1, -0.2, 0.3], [-0.1, 0.4, 0.2], [0.2, -0.1, -0.6]])
    a, y = np.array([0.1, -0.2, -0.05]), np.array([1.0, 1.0, -1.0])
    rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    plain, turned = theory.modes(x, y, W, a), theory.modes(x @ rotation, y, W @ rotation, a)
    mirrored = theory.modes(x, -y, W, -a)
    assert plain.exact
    assert turned.exact
    goals = [0.1, 1.0, 4.0]
    for label in (1, -1):
        expected = plain[label].mode.time_to_learn(goals)
        np.testing.assert_allclose(turned[label].mode.time_to_learn(goals), expected, rtol=1e-10)
        np.testing.assert_allclose(mirrored[-label].mode.time_to_learn(goals), expected, rtol=1e-13)
    np.testing.assert_allclose(turned.weights(5.0)[0], plain.weights(5.0)[0] @ rotation, atol=1e-12)


# --- depth ---


def equal_layers(N, norm, u0, loss, t_end):
    """Return the times and logits of N layers, each a scalar but the first, which is aligned with x."""
    z = (u0 / norm) ** (1 / N)

    def field(_, layers):
        u = norm * np.prod(layers)
        g = float(G[loss](np.asarray(u)))
        return np.array([norm * np.prod(np.delete(layers, k)) * g for k in range(N)])

    return solve_ivp(
        field, (0, t_end), np.full(N, z), rtol=1e-12, atol=1e-14, method="DOP853", dense_output=True
    )


@pytest.mark.parametrize(
    ("N", "norm", "logistic", "hinge"), [(4, 0.5, 9.6283, 1.5290), (8, 0.1, 6.0951, 1.3703), (1, 0.7, None, None),
                                         (2, 0.7, None, None), (3, 1.4, None, None)]
)  # fmt: skip
def test_depth_against_layers(N, norm, logistic, hinge):
    at = {"layers": N, "u0": 0.1, "norm": norm, "share": 1.0}
    goal = float(theory.target_logit(0.01))
    time = float(theory.deep_time(goal, **at))
    if logistic is not None:
        assert time == pytest.approx(logistic, abs=6e-5)
    flow = equal_layers(N, norm, 0.1, "logistic", time)
    assert norm * np.prod(flow.y[:, -1]) == pytest.approx(goal, rel=1e-9)
    t = np.linspace(0, time, 9)
    np.testing.assert_allclose(
        theory.deep_logit(t, **at), norm * np.prod(flow.sol(t), axis=0), rtol=1e-8
    )
    np.testing.assert_allclose(
        theory.deep_time(theory.deep_logit(t, **at), **at), t, rtol=1e-12, atol=1e-15
    )
    time = float(theory.deep_time(1.0, **at, loss="hinge"))
    if hinge is not None:
        assert time == pytest.approx(hinge, abs=6e-5)
    flow = equal_layers(N, norm, 0.1, "hinge", 0.999 * time)
    u = norm * np.prod(flow.y[:, -1])
    assert float(theory.deep_time(u, **at, loss="hinge")) == pytest.approx(0.999 * time, rel=1e-9)
    assert float(theory.deep_logit(2 * time, **at, loss="hinge")) == 1.0
    assert float(theory.deep_time(1.01, **at, loss="hinge")) == math.inf


def test_two_layers_are_a_mode_and_one_is_linear():
    goals = np.array([0.01, 0.5, 3.0, 300.0])
    u0, norm = 1e-8, 1.7
    start = {"norm": norm, "share": 0.4}
    np.testing.assert_allclose(
        theory.deep_time(goals, layers=2, u0=u0, **start),
        theory.time_to_learn(goals, y0=math.sqrt(u0 * norm), z0=math.sqrt(u0 / norm), **start),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        theory.deep_time(goals, layers=1, u0=u0, **start),
        (goals - u0 + np.exp(goals) - np.exp(u0)) / (norm**2 * 0.4),
        rtol=1e-12,
    )


def test_deeper_is_faster_from_large_logits_only():
    """At one size of the weights it is slower (z0 = 0.1), and at one logit that depends: hinge times at κ = 1."""
    N = np.array([2, 3, 4, 8])
    times = theory.deep_time(1.0, layers=N, u0=0.1**N, norm=1.0, share=1.0, loss="hinge")
    np.testing.assert_allclose(times, [2.3, 9.0, 49.5, 1.7e5], rtol=0.03)
    fixed = theory.deep_time(1.0, layers=N, u0=0.1, norm=1.0, share=1.0, loss="hinge")
    np.testing.assert_allclose(fixed, [1.151, 1.154, 1.081, 0.771], atol=6e-4)
    small = theory.deep_time(1.0, layers=N, u0=1e-3, norm=1.0, share=1.0, loss="hinge")
    np.testing.assert_allclose(small, [3.454, 9.0, 15.31, 29.47], rtol=1e-3)


# --- linear modes and decoupling ---


def test_linear_modes_against_a_linear_network():
    """Three modes, balanced and aligned, on whitened inputs; times of Saxe's formula."""
    rng = np.random.default_rng(2)
    left, right = (np.linalg.qr(rng.standard_normal((4, 4)))[0][:, :3] for _ in range(2))
    s, u0 = np.array([2.0, 1.0, 0.5]), 1e-3
    target = (left * s) @ right.T
    W = np.concatenate([math.sqrt(u0) * right.T, math.sqrt(u0) * left.T])  # 3 hidden units

    def field(_, state):
        first, second = state.reshape(2, 3, 4)
        error = target - second.T @ first
        return np.concatenate([(second @ error), (first @ error.T)]).ravel()

    t = np.array([0.5, 2.0, 4.0, 8.40983])
    flow = solve_ivp(field, (0, 9), W.ravel(), rtol=1e-11, atol=1e-13, t_eval=t)
    for k, time in enumerate(t):
        first, second = flow.y[:, k].reshape(2, 3, 4)
        learnt = np.diag(left.T @ second.T @ first @ right)
        np.testing.assert_allclose(learnt, theory.linear_mode(time, strength=s, u0=u0), rtol=1e-8)
    assert learnt[2] == pytest.approx(0.45, rel=1e-5)
    assert float(theory.linear_mode_time(0.45, strength=0.5, u0=u0)) == pytest.approx(
        8.40983, abs=6e-6
    )
    # one neuron on the squared loss with target 1 is such a mode
    np.testing.assert_allclose(
        theory.mode(1.0, 1.0, [math.sqrt(u0)], [math.sqrt(u0)], "squared").u_of_t(t),
        theory.linear_mode(t, strength=1.0, u0=u0),
        rtol=1e-12,
    )


COUPLED = np.array([[math.sqrt(0.75), -0.5], [0.5, math.sqrt(0.75)]])


def test_responses_to_coupled_features():
    """Numbers computed for this project at the setting of the repository's figure 6, and a general minimiser."""
    for s1, expected in zip((2, 3, 4, 5, 6), (1.6400, 1.5831, 1.4668, 1.3290, 1.1853), strict=True):
        s = np.array([s1, 2.0])
        z = theory.responses(COUPLED, s, 0.01)
        assert z[1] == pytest.approx(expected, abs=6e-5)

        def objective(theta, s=s):
            return np.logaddexp(0, -(COUPLED * s) @ theta).sum() + 0.005 * theta @ theta

        best = minimize(objective, np.zeros(2), method="BFGS", options={"gtol": 1e-10}).x
        np.testing.assert_allclose(s * best, z, rtol=1e-5)
        slopes = theory.response_slopes(COUPLED, s, 0.01)
        for j in range(2):
            moved = s**2
            moved[j] += 1e-5
            change = (theory.responses(COUPLED, np.sqrt(moved), 0.01) - z) / 1e-5
            np.testing.assert_allclose(slopes[:, j], change, rtol=1e-4, atol=1e-6)
        assert slopes[1, 0] < 0 if s1 > 2 else abs(slopes[1, 0]) < 1e-14
    decoupled = theory.decoupled_responses(COUPLED, 0.002)
    np.testing.assert_allclose(decoupled, (6.3727, 1.7076), atol=6e-5)
    m = COUPLED @ decoupled
    np.testing.assert_allclose(0.002 * m, 1 / (1 + np.exp(m)), rtol=1e-12)


def test_a_dual_flow_that_has_no_digits_is_refused():
    U, s, start = np.eye(2), np.array([2.0, 1.0]), [0.5, 0.5]
    assert np.isfinite(theory.dual_flow([0.0, 20.0], U, s, 4.1e-12, start)).all()
    for ridge in (3.9e-12, 1e-100, 1e-300):
        with pytest.raises(ValueError, match=r"ridge=.*use 4\.0e-12 or more"):
            theory.dual_flow([0.0, 20.0], U, s, ridge, start)


def test_the_dual_flow_ends_at_the_responses():
    rng = np.random.default_rng(4)
    U = np.linalg.qr(rng.standard_normal((6, 3)))[0]
    s, ridge = np.array([3.0, 1.0, 0.3]), 0.05
    alpha = theory.dual_flow([0.0, 0.01, 200.0], U, s, ridge, rng.uniform(0.1, 0.9, 6))
    z = theory.responses(U, s, ridge)
    np.testing.assert_allclose(alpha[-1], 1 / (1 + np.exp(U @ z)), rtol=1e-6)
    kernel = (U * s**2) @ U.T / ridge
    middle = alpha[0] + 0.5 * (alpha[1] - alpha[0])
    speed = np.log(1 / middle - 1) - kernel @ middle
    assert (np.sign(alpha[1] - alpha[0]) == np.sign(speed)).mean() > 0.8


# --- starvation ---


@settings(deadline=None, max_examples=25)
@given(
    lam=st.floats(1e-6, 1.0), A0=st.floats(1e-3, 1.0), tilt=st.floats(-0.9, 1.0), z0=st.floats(1e-3, 1.0),
    k2=st.floats(0.3, 3.0), L=st.floats(1.5, 300.0),
)  # fmt: skip
def test_the_bound_on_the_rare_logit(lam, A0, tilt, z0, k2, L):
    B0 = tilt * A0
    found = theory.starvation(lam, L, norms=(1.0, k2), A0=A0, B0=B0, z0=z0)
    assert found.bound_holds
    assert float(found.rare_logit) <= float(found.bound) * (1 + 1e-9)
    # the invariant of the flow
    now = found.z**2 - found.A**2 - (found.B / k2) ** 2
    assert now[0] == pytest.approx(z0**2 - A0**2 - (B0 / k2) ** 2, abs=1e-9 * found.z[0] ** 2)
    assert float(found.z[0] * found.A[0]) == pytest.approx(L, rel=1e-9)
    # copies of a neuron are one neuron
    half = math.sqrt(0.5)
    pair = theory.starvation(
        lam, L, norms=(1.0, k2), A0=[half * A0] * 2, B0=[half * B0] * 2, z0=[half * z0] * 2
    )
    assert float(pair.rare_logit) == pytest.approx(float(found.rare_logit), rel=1e-8, abs=1e-12)
    assert float(pair.time) == pytest.approx(float(found.time), rel=1e-8)


def test_no_rare_feature_is_a_mode():
    """As λ → 0 the class is x1 alone, for both losses."""
    start = {"y0": 0.1, "z0": 0.2}
    for loss, goals in (("logistic", [0.5, 5.0, 300.0]), ("hinge", [0.5, 1.0])):
        found = theory.starvation(
            1e-13, goals, norms=(1.3, 1.0), share=0.4, A0=0.1, B0=0.0, z0=0.2, loss=loss
        )
        times = theory.time_to_learn(goals, norm=1.3, share=0.4, **start, loss=loss)
        np.testing.assert_allclose(found.time, times, rtol=1e-9)
        assert (found.rare_logit < 1e-9).all()


def test_an_always_present_rare_feature_is_not_rare():
    """At λ = 1 both features are one vector x1 + x2."""
    found = theory.starvation(1.0, [0.5, 2.0, 30.0], A0=0.1, B0=0.1, z0=0.2)
    times = theory.time_to_learn([1.0, 4.0, 60.0], norm=math.sqrt(2), share=1.0, y0=0.2, z0=0.2)
    np.testing.assert_allclose(found.time, times, rtol=1e-9)
    np.testing.assert_allclose(found.rare_logit, [0.5, 2.0, 30.0], rtol=1e-9)


def test_the_rare_logit_grows_as_a_root():
    L = np.array([5.0, 20.0, 80.0, 320.0])
    found = theory.starvation(0.1, L, A0=1e-4, B0=1e-5, z0=1e-4)
    np.testing.assert_allclose(
        found.rare_logit / np.sqrt(L), (0.198, 0.300, 0.357, 0.368), atol=6e-4
    )
    limit = theory.late_coefficient(0.1, A0=1e-4, B0=1e-5, z0=1e-4)
    far = theory.starvation(0.1, [1e4, 1e6], A0=1e-4, B0=1e-5, z0=1e-4)
    np.testing.assert_allclose(far.rare_logit / [1e2, 1e3], limit, rtol=1e-4)
