"""The event-resolved flow to eleven digits, against Taylor series in 40 digits restarted at every crossing.

The data are orthogonally separable: y_i y_k <x_i, x_k> > 0, so that a neuron never meets a hyperplane that holds it
as long as every residual has the sign of its label, which the oracle checks.
"""

import math

import numpy as np
import pytest

import featcore as fc

mpmath = pytest.importorskip("mpmath")
mp = mpmath.mp

ORDER = 28
TOLERANCE = 1e-11
LOSSES = ("logistic", "exponential", "squared")


def small_problem(seed):
    """Six samples in the plane, labels times vectors of a cone of 80 degrees, and four neurons of both signs."""
    rng = np.random.default_rng([11, seed])
    angles, y = np.radians(rng.uniform(5, 85, 6)), np.array([1.0, -1.0] * 3)
    x = (y * rng.uniform(0.5, 1.5, 6))[:, None] * np.c_[np.cos(angles), np.sin(angles)]
    W = 0.2 * rng.standard_normal((4, 2))
    a = np.array([1.0, -1.0, 1.0, -1.0]) * rng.uniform(0.1, 0.4, 4)
    return x, y, W, a


def exact(values):
    """Return an array of 40-digit numbers equal to doubles."""
    array = np.asarray(values)
    return np.array([mpmath.mpf(float(v)) for v in array.ravel()], object).reshape(array.shape)


def convolved(p, q, k):
    return sum(p[i] * q[k - i] for i in range(k + 1))


def series(x, y, W, a, gate, loss):
    """Return the Taylor coefficients of W and a while every pair stays on its side."""
    n = len(y)
    Ws, as_, us, ss, qs, Vs, zs = [W], [a], [], [], [], [], []
    for k in range(ORDER + 1):
        zs.append(gate * (Ws[k] @ x.T))
        us.append(y * sum(as_[i] @ zs[k - i] for i in range(k + 1)))
        if loss == "squared":  # y r n = 1 - u
            ss.append((1 if k == 0 else 0) - us[k])
        elif k == 0:
            e = np.array([mpmath.exp(-u) for u in us[0]], object)
            ss.append(e / (1 + e) if loss == "logistic" else e)
        else:  # s' = -q u', q = s (1 - s) or s
            ss.append(-sum(qs[k - i] * us[i] * i for i in range(1, k + 1)) / k)
        if loss == "logistic":
            qs.append(ss[k] - convolved(ss, ss, k))
        else:
            qs.append(ss[k])
        Vs.append((gate * (y * ss[k] / n)) @ x)
        if k < ORDER:
            Ws.append(sum(as_[k - i][:, None] * Vs[i] for i in range(k + 1)) / (k + 1))
            as_.append(sum((Ws[k - i] * Vs[i]).sum(1) for i in range(k + 1)) / (k + 1))
    assert all(s > 0 for s in ss[0])
    return Ws, as_


def value(terms, tau):
    total = 0 * terms[0]
    for term in reversed(terms):
        total = total * tau + term
    return total


def oracle(x, y, W, a, t_end, loss):
    """Return (W, a, crossings) at t_end."""
    x, y, W, a, left = exact(x), exact(y), exact(W), exact(a), mpmath.mpf(t_end)
    on = np.array(W @ x.T > 0, bool)
    crossings = 0
    while left > 0:
        gate = np.where(on, mpmath.mpf(1), mpmath.mpf(0))
        Ws, as_ = series(x, y, W, a, gate, loss)
        last = max(abs(v) for v in [*Ws[-1].ravel(), *as_[-1]])
        h = min(left, (mpmath.mpf(10) ** -32 / last) ** (mpmath.mpf(1) / ORDER))
        zs = [term @ x.T for term in Ws]
        step, who = h, None
        for probe in range(1, 17):
            wrong = np.array(value(zs, h * probe / 16) > 0, bool) != on
            if wrong.any():
                for j, i in np.argwhere(wrong):
                    low, high = h * (probe - 1) / 16, h * probe / 16
                    terms = [z[j, i] for z in zs]
                    for _ in range(120):
                        middle = (low + high) / 2
                        if (value(terms, middle) > 0) == on[j, i]:
                            low = middle
                        else:
                            high = middle
                    if high < step or who is None:
                        step, who = high, (j, i)
                break
        W, a, left = value(Ws, step), value(as_, step), left - step
        if who is not None:
            on[who] = not on[who]
            crossings += 1
    return W.astype(float), a.astype(float), crossings


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("seed", [0, 1])
def test_eleven_digits(seed, loss):
    x, y, W, a = small_problem(seed)
    t_end = 2.0 if loss == "squared" else 6.0
    with mp.workdps(40):
        W_true, a_true, crossings = oracle(x, y, W, a, t_end, loss)
    run = fc.flow(fc.TwoLayerNet(W, a), fc.Dataset(x, y), loss, t_end=t_end, rtol=1e-13)
    distance = math.hypot(np.linalg.norm(run.net.W - W_true), np.linalg.norm(run.net.a - a_true))
    assert distance <= TOLERANCE * math.hypot(np.linalg.norm(W_true), np.linalg.norm(a_true))
    assert run.outcome.counts["crossings"] == crossings > 0
    assert run.outcome.counts["slidings"] == 0
