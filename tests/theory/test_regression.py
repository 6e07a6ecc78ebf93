"""Ridge regression: the minimiser, its objective and errors, paths, and features that depend on each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import featcore as fc
from featcore import _dispatch, baselines, reference, regression

LAMBDAS = np.geomspace(1e-4, 1e3, 6)


def problem(n, N, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, N)).astype(dtype), rng.standard_normal(n)


@settings(max_examples=50)
@given(
    n=st.integers(1, 60),
    N=st.integers(1, 60),
    dtype=st.sampled_from((np.float64, np.float32)),
    seed=st.integers(0, 2**32 - 1),
    logs=st.lists(st.floats(-3, 4), min_size=1, max_size=5),
)
def test_the_fit_is_the_minimiser_and_says_what_it_reaches(n, N, dtype, seed, logs):
    F, y = problem(n, N, seed, dtype)
    lam = 10.0 ** np.array(logs)
    fit = fc.ridge(F, y, lam)
    assert fit.coefficients.shape == (len(lam), N)
    F = F.astype(np.float64)
    for k, value in enumerate(lam):
        a = reference.ridge(F, y, value)
        # Of the minimiser: ours by the condition of its normal equations, the reference's least squares by rounding of
        # y, which is no smaller than what is left of it.
        condition = np.linalg.norm(F, 2) ** 2 / (n * value) + 1
        least_squares = np.linalg.norm(y) / np.sqrt(n * value)
        distance = np.linalg.norm(fit.coefficients[k] - a)
        assert distance <= 1e-14 * (n + N) * (condition * np.linalg.norm(a) + least_squares)
        error = np.mean((y - F @ a) ** 2)
        bound = 1e-13 * (n + N) * np.mean(y**2) * condition**0.5
        assert abs(fit.train_error[k] - error) <= bound
        assert abs(fit.objective[k] - error - value * a @ a) <= bound
        # the identity of the minimum: λ yᵀ(FFᵀ + λn)⁻¹y
        dual = value * y @ np.linalg.solve(F @ F.T + value * n * np.eye(n), y)
        assert abs(fit.objective[k] - dual) <= bound


@pytest.mark.parametrize(("n", "N"), [(300, 200), (200, 300), (257, 257)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_path_is_its_points(n, N, dtype):
    # Many λ share a banded form, one is solved by Cholesky's method.
    F, y = problem(n, N, 1, dtype)
    path = fc.ridge(F, y, LAMBDAS)
    for k, lam in enumerate(LAMBDAS):
        one = fc.ridge(F, y, lam)
        assert isinstance(one.objective, float)
        assert one.coefficients.shape == (N,)
        np.testing.assert_allclose(path.coefficients[k], one.coefficients, rtol=0, atol=1e-9)
        assert path.objective[k] == pytest.approx(one.objective, rel=1e-10)
        assert path.train_error[k] == pytest.approx(one.train_error, rel=1e-9)


def test_shrinkage_is_monotone():
    F, y = problem(80, 50, 2)
    fit = fc.ridge(F, y, LAMBDAS)
    assert (np.diff(fit.objective) > 0).all()
    assert (np.diff(fit.train_error) > 0).all()
    assert (np.diff(np.linalg.norm(fit.coefficients, axis=1)) < 0).all()


def test_extreme_penalties():
    for shape in ((40, 30), (30, 40)):
        F, y = problem(*shape, 3)
        fit = fc.ridge(F, y, [1e-300, 1e-20, 1e30, 1e300])
        least = np.linalg.lstsq(F, y, rcond=None)[0]  # of least norm, where there are many
        for k in (0, 1):
            np.testing.assert_allclose(fit.coefficients[k], least, atol=1e-12)
        np.testing.assert_allclose(fit.coefficients[2] * 1e30, F.T @ y / shape[0], rtol=1e-12)
        np.testing.assert_allclose(fit.objective[2:], np.mean(y**2), rtol=1e-12)
        assert np.isfinite(fit.coefficients).all()


def test_features_that_depend_on_each_other():
    F, y = problem(50, 10, 4)
    F = np.hstack([F, F[:, :5], F @ np.ones((10, 1))])  # rank 10 of 16
    zero = np.zeros((50, 3))
    for features in (F, F[:12], zero):
        target = y[: len(features)]
        least = np.linalg.lstsq(features, target, rcond=1e-10)[0]
        for lam in (1e-18, np.array([1e-18, 1e-25, 1e-17, 1e-16])):
            fit = fc.ridge(features, target, lam)
            np.testing.assert_allclose(np.atleast_2d(fit.coefficients)[0], least, atol=1e-6)
    # a path with ordinary and lost penalties alike
    fit = fc.ridge(F, y, np.array([1e-25, 1e-2, 1.0, 10.0]))
    for k, lam in ((1, 1e-2), (2, 1.0), (3, 10.0)):
        np.testing.assert_allclose(fit.coefficients[k], reference.ridge(F, y, lam), atol=1e-12)


@pytest.mark.parametrize("lam", [1e-19, np.array([1e-19, 1e-18])], ids=["one", "path"])
def test_a_pivot_that_rounding_made_positive_is_not_trusted(lam):
    for seed in range(25):
        F, y = problem(30, 5, seed)
        F = np.hstack([F, F[:, :3] + F[:, 1:4]])
        least = np.linalg.lstsq(F, y, rcond=1e-10)[0]
        got = np.atleast_2d(fc.ridge(F, y, lam).coefficients)[0]
        np.testing.assert_allclose(got, least, atol=1e-10)


@pytest.mark.parametrize("lam", [1e-20, np.array([1e-20, 1.0])], ids=["one", "path"])
def test_contradicting_copies_of_a_sample_share_their_mean(lam):
    # Null vectors that fade along the way hide from pivots: each is large, and their matrix singular.
    for seed in range(12):
        F, y = problem(8 + 5 * seed, 20 + 8 * seed, seed)
        F[-1] = F[0]
        least = np.linalg.lstsq(F, y, rcond=1e-10)[0]
        fit = fc.ridge(F, y, lam)
        np.testing.assert_allclose(np.atleast_2d(fit.coefficients)[0], least, atol=1e-10)
        expected = (y[0] - y[-1]) ** 2 / (2 * len(y))
        np.testing.assert_allclose(np.atleast_1d(fit.objective)[0], expected, rtol=1e-9)


def test_a_null_vector_that_fades_along_the_features_is_seen():
    # Of FᵀF itself, whose last pivot magnifies rounding by the square of what is left of the vector.
    N = 20
    for seed in range(12):
        rng = np.random.default_rng(seed)
        null = np.column_stack([2.0 ** -np.arange(N), rng.standard_normal((N, N - 1))])
        F = rng.standard_normal((2 * N, N - 1)) @ np.linalg.qr(null)[0][:, 1:].T
        y = rng.standard_normal(2 * N)
        least = np.linalg.lstsq(F, y, rcond=1e-10)[0]
        for lam in (1e-20, np.array([1e-20, 1.0])):
            got = np.atleast_2d(fc.ridge(F, y, lam).coefficients)[0]
            np.testing.assert_allclose(got, least, atol=1e-9)
        with pytest.raises(ValueError, match="l2=1e-20 is lost"):
            baselines.ridge(F, y, l2=1e-20)


def test_other_penalties_of_a_path_do_not_notice_one_that_is_lost():
    F, y = problem(20, 20, 1)
    F *= np.geomspace(
        1e-6, 1e6, 20
    )  # with some lost, all small ones would be, if all were solved for alike
    lam = np.array([1.0, 10.0, 1e3])
    alone = fc.ridge(F, y, lam).coefficients
    for lost in (1e-30, 1e-12):
        np.testing.assert_array_equal(fc.ridge(F, y, [lost, *lam]).coefficients[1:], alone)


def test_other_penalties_of_a_path_do_not_notice_one_that_is_huge():
    F, y = np.diag([1.0, 2e-8]), np.ones(2)
    lam = np.array([0.6e-15, 1e302])
    expected = np.diag(F) / (np.diag(F) ** 2 + 2 * lam[:, None])
    np.testing.assert_allclose(fc.ridge(F, y, lam).coefficients, expected, rtol=1e-12)
    np.testing.assert_allclose(
        fc.ridge(2.0**-500 * F, y, [1e-290, 1.0]).coefficients[1], 2.0**-501 * np.diag(F)
    )


@pytest.mark.parametrize("shape", [(80, 50), (50, 80)])
def test_solutions_stay_in_range_wherever_squares_do(shape):
    # Features and targets near 1e150, and FᵀF next to singular: Fᵀy beside a G brought to size 1 would not.
    F, y = problem(*shape, 10)
    F *= np.geomspace(1, 1e-6, shape[1])
    lam = np.geomspace(1e-12, 1e-6, 4)
    fit = fc.ridge(F, y, lam)
    scaled = fc.ridge(2.0**498 * F, 2.0**507 * y, 2.0**996 * lam)
    np.testing.assert_allclose(scaled.train_error, 2.0**1014 * fit.train_error, rtol=1e-6)
    np.testing.assert_allclose(scaled.coefficients, 2.0**9 * fit.coefficients, rtol=1e-6)


def test_eigenvalues_are_asked_only_where_features_depend_on_each_other(monkeypatch):
    # They take three times as long as a whole path.
    monkeypatch.setattr(regression, "_solve_by_eigenvalues", None)
    for shape in ((60, 40), (40, 60)):
        F, y = problem(*shape, 11)
        fit = fc.ridge(F, y, [1e-300, 1e-20, 1.0])
        np.testing.assert_allclose(
            fit.coefficients[0], np.linalg.lstsq(F, y, rcond=None)[0], atol=1e-12
        )


@pytest.mark.parametrize("smallest", [1.2, 1e-9])
def test_a_path_is_its_points_where_penalties_are_as_large_as_rounding(smallest):
    # Features of rank 30 but for the rounding of float32, which decides: eigh would take it for zero.
    rng = np.random.default_rng(12)
    F = (rng.standard_normal((200, 30)) @ rng.standard_normal((30, 95))).astype(np.float32)
    y = rng.standard_normal(200)
    floor = regression.rounding(F.T.astype(np.float64) @ F)
    lam = floor / 200 * np.array([smallest, 1.2, 1.5, 1.9])
    path = fc.ridge(F, y, lam).coefficients
    for k in (1, 2, 3):
        one = fc.ridge(F, y, lam[k]).coefficients
        assert np.linalg.norm(path[k] - one) < 0.02 * np.linalg.norm(one)


def test_order_and_repetition_of_a_path_do_not_matter():
    F, y = problem(30, 40, 2)
    F[-1] = F[0]
    path = fc.ridge(F, y, [10.0, 1e-30, 0.1, 0.1, 1e-30]).coefficients
    again = fc.ridge(F, y, [1e-30, 0.1, 10.0]).coefficients
    np.testing.assert_allclose(
        path[[1, 2, 0, 3, 4]], again[[0, 1, 2, 1, 0]], rtol=1e-13, atol=1e-15
    )


def test_it_is_what_the_baselines_minimise():
    F, y = problem(60, 40, 5)
    for lam in (1e-3, 1.0):
        np.testing.assert_allclose(
            fc.ridge(F, y, lam).coefficients, baselines.ridge(F, y, l2=lam), rtol=1e-9
        )


def test_errors_on_other_samples():
    F, y = problem(60, 20, 6, np.float32)
    other, truth = problem(15, 20, 7, np.float32)
    path = fc.ridge(F, y, LAMBDAS)
    predicted = path.predict(other)
    np.testing.assert_allclose(predicted, path.coefficients @ other.T.astype(float), rtol=1e-14)
    np.testing.assert_allclose(
        path.test_error(other, truth), np.mean((truth - predicted) ** 2, axis=1), rtol=1e-14
    )
    one = fc.ridge(F, y, LAMBDAS[2])
    assert isinstance(one.test_error(other, truth), float)
    assert one.predict(other).shape == (15,)
    assert path.test_error(F, y) == pytest.approx(path.train_error, rel=1e-12)


def test_scaling_features_is_scaling_the_penalty():
    F, y = problem(40, 25, 8)
    one, other = fc.ridge(F, y, LAMBDAS), fc.ridge(4.0 * F, y, 16.0 * LAMBDAS)
    np.testing.assert_allclose(4.0 * other.coefficients, one.coefficients, rtol=1e-9)
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-10)


def test_nothing_is_written_to_and_results_are_read_only():
    F, y = problem(20, 10, 9)
    F.flags.writeable = y.flags.writeable = False
    fit = fc.ridge(F, y, LAMBDAS)
    for array in (fit.lam, fit.coefficients, fit.objective, fit.train_error):
        assert not array.flags.writeable
    # whatever the layout
    strided = np.zeros((40, 30))
    strided[::2, ::3] = F
    again = fc.ridge(strided[::2, ::3], y, LAMBDAS)
    np.testing.assert_array_equal(again.coefficients, fit.coefficients)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 70), (70, 3), (200, 97), (97, 200), (33, 33)])
def test_second_moments(n, m, dtype):
    F, _ = problem(n, m, 10, dtype)
    wide = F.astype(np.longdouble)
    for of_columns, expected in ((True, wide.T @ wide), (False, wide @ wide.T)):
        G = _dispatch.core.second_moments(F, of_columns, 1)
        assert G.dtype == np.float64
        np.testing.assert_allclose(G, expected.astype(float), rtol=0, atol=1e-13 * max(n, m))
        np.testing.assert_array_equal(G, G.T)
        for threads in (2, 3, 5):
            np.testing.assert_array_equal(G, _dispatch.core.second_moments(F, of_columns, threads))


def test_second_moments_in_several_slabs():
    F = np.random.default_rng(0).standard_normal((4500, 600))
    G = _dispatch.core.second_moments(F, True, 2)
    np.testing.assert_allclose(G, F.T @ F, rtol=0, atol=1e-10)


def test_bad_arguments_are_named():
    F, y = problem(6, 4)
    for lam, message in (
        (0.0, "lam has the entry 0; every penalty must be > 0"),
        (-1.0, "lam has the entry -1"),
        ([1.0, -2.0], "lam has the entry -2"),
        (np.nan, "lam has a non-finite entry"),
        ([1.0, np.inf], "lam has a non-finite entry inf"),
        ([], "lam has shape"),
        ([[1.0]], "lam has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            fc.ridge(F, y, lam)
    with pytest.raises(ValueError, match=r"y has shape \(5,\); features has 6 rows"):
        fc.ridge(F, y[:5], 1.0)
    with pytest.raises(ValueError, match="features has a non-finite entry"):
        fc.ridge(np.full((6, 4), np.nan), y, 1.0)
    with pytest.raises(TypeError, match="lam"):
        fc.ridge(F, y, "1")
    for large in (1e308, [1e308, 1.0]):
        with pytest.raises(ValueError, match=r"lam has the entry 1e\+308.*n=6"):
            fc.ridge(F, y, large)
    with pytest.raises(ValueError, match="features has entries whose squares leave the range"):
        fc.ridge(1e200 * F, y, [1.0, 2.0])
    with pytest.raises(ValueError, match="y has entries whose squares leave the range"):
        fc.ridge(F, 1e200 * y, 1.0)
    fit = fc.ridge(F, y, 1.0)
    with pytest.raises(ValueError, match=r"features has shape \(2, 3\); the fit takes \(n, 4\)"):
        fit.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"y has shape \(3,\)"):
        fit.test_error(np.ones((2, 4)), np.ones(3))


def test_features_in_float32_take_no_more_memory(monkeypatch):
    # No copy of them is made, which would be twice their size.
    F, y = problem(2000, 10, 12)
    needed = 8.0 * (5 * 10**2 + 2 * (2000 + 10) + 256 * _dispatch.default_threads())
    monkeypatch.setattr(_dispatch, "free_memory", lambda: needed + 100)
    for dtype in (np.float64, np.float32):
        assert fc.ridge(F.astype(dtype), y, 1.0).coefficients.shape == (10,)


def test_a_fit_that_does_not_fit_is_refused_with_the_number(monkeypatch):
    monkeypatch.setattr(_dispatch, "free_memory", lambda: 1000.0)
    needed = 8 * (5 * 50**2 + 2 * (60 + 50) + 256 * _dispatch.default_threads()) / 2**30
    with pytest.raises(MemoryError, match=rf"n=60, N=50, 1 penalties\) needs {needed:.3g} GiB and"):
        fc.ridge(*problem(60, 50), 1.0)
