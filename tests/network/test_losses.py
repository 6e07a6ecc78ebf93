"""Losses: values, residuals, log forms, extremes."""

import decimal
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcore import losses

ALL = tuple(losses.get(name) for name in losses.NAMES)
MARGIN = tuple(loss for loss in ALL if loss.needs_signs)
each = pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)

decimal.getcontext().prec = 60
decimal.getcontext().Emax = decimal.MAX_EMAX
decimal.getcontext().Emin = decimal.MIN_EMIN


def exact(loss, f, y):
    """Return value, residual and log value in sixty digits."""
    f, y = Decimal(float(f)), Decimal(float(y))
    u = y * f
    if loss.name == "logistic":
        value = (1 + (-u).exp()).ln()
        if u > 100:  # 1 + e^{-u} loses what 60 digits cannot hold; two terms of the series do not
            value = (-u).exp() * (1 - (-u).exp() / 2)
        return value, y / (1 + u.exp()), value.ln()
    if loss.name == "exponential":
        return (-u).exp(), y * (-u).exp(), -u
    if loss.name == "hinge":
        value = max(Decimal(0), 1 - u)
        return value, y if u < 1 else Decimal(0), value.ln() if value else Decimal("-Infinity")
    value = (f - y) ** 2 / 2
    return value, y - f, value.ln() if value else Decimal("-Infinity")


@each
@given(f=st.floats(-700, 700), y=st.sampled_from((-1.0, 1.0)))
def test_against_sixty_digits(loss, f, y):
    value, residual, log_value = (float(v) for v in exact(loss, f, y))
    f, y = np.array(f), np.array(y)
    assert loss.residual(f, y) == pytest.approx(residual, rel=1e-13, abs=0)
    if loss.name in ("logistic", "exponential"):
        assert loss.value(f, y) == pytest.approx(value, rel=1e-13, abs=0)
        # log log(1 + e^{-u}) passes through 0 near u = -0.54
        assert loss.log_value(f, y) == pytest.approx(log_value, rel=1e-13, abs=1e-15)
    else:
        assert loss.value(f, y) == pytest.approx(value, rel=1e-13, abs=1e-13)
        np.testing.assert_allclose(np.exp(loss.log_value(f, y)), value, rtol=1e-12, atol=1e-12)


@each
@given(f=st.floats(-20, 20), y=st.sampled_from((-1.0, 1.0)))
def test_residual_is_minus_the_slope(loss, f, y):
    h = 1e-6
    if loss.name == "hinge" and abs(1 - y * f) < 2 * h:
        f += 8 * h
    slope = (loss.value(np.array(f + h), y) - loss.value(np.array(f - h), y)) / (2 * h)
    assert loss.residual(np.array(f), np.array(y)) == pytest.approx(-slope, rel=1e-6, abs=1e-7)


@each
def test_extremes(loss):
    f = np.array([-1e6, -1000.0, 1000.0, 1e6])
    y = np.ones(4)
    with np.errstate(invalid="raise", divide="raise"):
        value, residual, log_value = loss.value(f, y), loss.residual(f, y), loss.log_value(f, y)
    assert not np.isnan(np.concatenate([value, residual, log_value])).any()
    if loss.name == "logistic":
        np.testing.assert_array_equal(value[:2], -f[:2])
        np.testing.assert_array_equal(residual, [1, 1, 0, 0])
        np.testing.assert_allclose(
            log_value, [math.log(1e6), math.log(1000), -1000, -1e6], rtol=1e-15
        )
    if loss.name == "exponential":
        np.testing.assert_array_equal(value, [np.inf, np.inf, 0, 0])
        np.testing.assert_array_equal(log_value, -f)
    if loss.name == "hinge":
        np.testing.assert_array_equal(value, [1e6 + 1, 1001, 0, 0])
        np.testing.assert_array_equal(residual, [1, 1, 0, 0])
        np.testing.assert_array_equal(log_value[2:], -np.inf)


@given(u=st.floats(20, 60))
def test_log_of_the_logistic_loss_has_no_seam(u):
    # The two branches meet at 37; between them log log(1 + e^{-u}) = -u - e^{-u}/2 + …
    got = losses.get("logistic").log_value(np.array(u), np.array(1.0))
    assert abs(got - (-u - math.exp(-u) / 2)) <= 2 * np.spacing(u)


def test_log_forms_against_mpmath():
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        for u in (-1000.0, -40.0, -0.5, 0.0, 0.5, 30.0, 36.99, 37.01, 100.0, 700.0, 1000.0):
            expected = float(mpmath.log(mpmath.log1p(mpmath.exp(-mpmath.mpf(u)))))
            got = losses.get("logistic").log_value(np.array(u), np.array(1.0))
            assert got == pytest.approx(expected, rel=2e-15, abs=1e-15)


@pytest.mark.parametrize("loss", MARGIN, ids=lambda loss: loss.name)
@given(u=st.lists(st.floats(-50, 50), min_size=2, max_size=2))
def test_margin_losses_fall_and_are_convex(loss, u):
    one = np.ones(())
    low, high = sorted(u)
    at = [float(loss.value(np.array(v), one)) for v in (low, (low + high) / 2, high)]
    assert at[0] >= at[2] >= 0
    assert at[1] <= (at[0] + at[2]) / 2 * (1 + 1e-12) + 1e-300
    # Only y f matters.
    assert loss.value(np.array(low), one) == loss.value(np.array(-low), -one)


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_the_core_has_the_same_losses(loss):
    import featcore as fc

    f = np.concatenate([np.linspace(-30, 30, 601), [-600.0, 600.0, 0.999, 1.0, 1.001]])
    net = fc.TwoLayerNet([[1.0]], [1.0], fc.LeakyReLU(1.0))
    for u in f:
        data = fc.Dataset([[u]], [1.0])
        value, gradient = fc.loss_and_grad(net, data, loss)
        assert value == pytest.approx(float(loss.value(np.array(u), 1.0)), rel=1e-14, abs=0)
        # f = a w x: ∂f/∂a = x
        residual = float(loss.residual(np.array(u), np.array(1.0)))
        assert gradient.a[0] == pytest.approx(-residual * u, rel=1e-14, abs=0)


def test_names_and_objects():
    assert set(losses.NAMES) == {"logistic", "exponential", "hinge", "squared"}
    for name in losses.NAMES:
        assert losses.get(name).name == name
        assert losses.get(losses.get(name)) is losses.get(name)
    assert [loss.needs_signs for loss in ALL] == [True, True, True, False]
    with pytest.raises(ValueError, match="loss='mse' is unknown; choose one of 'logistic'"):
        losses.get("mse")
