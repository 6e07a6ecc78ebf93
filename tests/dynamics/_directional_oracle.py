"""Gradient flow of neurons whose sizes no number holds, plain and slow: unit vectors and logarithms.

Neuron j is e^L_j s_j with s_j = (u_j, b_j) of length 1 in d + 1 dimensions. With v_j = sum_i sigma'(z_ij) r_i x_i / n
and the field F = (rate_W b v, rate_a <u, v>) of its mantissa,

    ds/dt = F - <F, s> s,      dL/dt = <F, s>,      f(x) = sum_j e^(2 L_j) b_j sigma(<u_j, x>),

and in the limit f = 0. An eighth-order solver is restarted at every crossing; sliding is not followed, and shows as a
crossing that is taken back at once.
"""

import numpy as np
from scipy.integrate import solve_ivp


def residual(loss, f, y):
    """Return -dl/df."""
    if loss == "squared":
        return y - f
    if loss == "exponential":
        return y * np.exp(-y * f)
    return y / (1 + np.exp(y * f))


def flow(
    x,
    y,
    W,
    a,
    log_scale,
    t_end,
    *,
    loss="exponential",
    slope=0.0,
    rates=(1.0, 1.0),
    rtol=1e-12,
):
    """Return unit vectors of w_j, (m, d), ln|w_j| and ln|a_j| at t_end, of the mean loss.

    In the limit, log_scale = -inf, the logarithms are relative to what vanishes.
    """
    n, d = x.shape
    m = len(a)
    limit = np.isneginf(log_scale)
    theta = np.c_[W, a]
    sizes = np.linalg.norm(theta, axis=1)
    s = theta / sizes[:, None]
    L = np.log(sizes) + (0.0 if limit else log_scale)
    on = s[:, :d] @ x.T > 0

    def field(_t, state, on):
        s = state[: m * (d + 1)].reshape(m, d + 1)
        L = state[m * (d + 1) :]
        gate = np.where(on, 1.0, slope)
        f = np.zeros(n)
        if not limit:
            f = (np.exp(2 * L) * s[:, d]) @ (gate * (s[:, :d] @ x.T))
        v = gate * residual(loss, f, y) @ x / n
        F = np.c_[rates[0] * s[:, d:] * v, rates[1] * np.sum(s[:, :d] * v, axis=1)]
        along = np.sum(F * s, axis=1)
        return np.r_[(F - along[:, None] * s).ravel(), along]

    def leaves(j, i, was_on):
        def z(_t, state, on):
            return state[j * (d + 1) : j * (d + 1) + d] @ x[i]

        z.terminal = True
        z.direction = -1.0 if was_on else 1.0
        return z

    state, time, crossings = np.r_[s.ravel(), L], 0.0, 0
    while time < t_end:
        events = [leaves(j, i, on[j, i]) for j in range(m) for i in range(n)]
        piece = solve_ivp(
            field,
            (time, t_end),
            state,
            method="DOP853",
            rtol=rtol,
            atol=rtol,
            events=events,
            args=(on,),
        )
        assert piece.success
        time, state = piece.t[-1], piece.y[:, -1]
        for k, found in enumerate(piece.t_events):
            if len(found):
                on[k // n, k % n] ^= True
                crossings += 1
        assert crossings < 50 * m * n, "it slides"
    s = state[: m * (d + 1)].reshape(m, d + 1)
    norms = np.linalg.norm(s[:, :d], axis=1)
    L = state[m * (d + 1) :]
    return s[:, :d] / norms[:, None], L + np.log(norms), L + np.log(np.abs(s[:, d]))
