"""Hinge flow of a ReLU network once more, slow and plain: an eighth-order solver on the weights, restarted at events.

Between events the field is smooth: gradients of the margins that count, projected off the hyperplanes that neurons
slide on, and support vectors with the multipliers that keep their margins, from one dense linear system. An event is
the first sign change of anything that must not change its sign, at a root of the dense output; what happens then is
found by trying every choice, those with fewer changes first.
"""

import itertools

import numpy as np
from scipy.integrate import DOP853
from scipy.optimize import brentq

LOW, HELD, HIGH = -1, 0, 1  # off, on the hyperplane, on; satisfied, support vector, violated
LOOKS = 8
RELEASE = 1e-9
SLACK = 1e-12  # of a margin: the last of its class arrives at 1 and stays
BLUR = 1e-14  # of a z: a neuron that turns off may stay where rounding has left it
AT_ZERO = 1e-7  # of the norm of w at the start of a piece


class Piece:
    """The smooth field with a side for every pair and a demand for every sample."""

    def __init__(self, x, y, c, slope, sides, demands):
        self.x, self.y, self.c, self.slope = x, y, c, slope
        self.sides, self.demands = sides, demands
        self.gate = np.where(sides == HIGH, 1.0, slope)
        self.m, self.d = sides.shape[0], x.shape[1]
        self.held = np.flatnonzero(demands == HELD)
        self.pairs = [(j, i) for j, i in zip(*np.nonzero(sides == HELD), strict=True)]
        self.tangents = np.stack([np.eye(self.d)] * self.m)
        self.pins = {}
        for j in np.flatnonzero((sides == HELD).any(1)):
            pinned = np.flatnonzero(sides[j] == HELD)
            self.pins[j] = pinned, np.linalg.pinv(x[pinned].T)
            self.tangents[j] -= x[pinned].T @ self.pins[j][1]

    def split(self, theta):
        return theta[: self.m * self.d].reshape(self.m, self.d), theta[self.m * self.d :]

    def margins(self, theta):
        W, a = self.split(theta)
        return self.y * (a @ (self.gate * (W @ self.x.T)))

    def gradients(self, theta, samples, *, raw=False):
        """Return c times the gradients of margins, rows of (m d + m) numbers."""
        W, a = self.split(theta)
        rows = []
        for i in samples:
            g = a[:, None] * self.gate[:, i, None] * self.x[i]
            if not raw:
                g = np.einsum("jkl,jl->jk", self.tangents, g)
            rows.append(self.c[i] * self.y[i] * np.r_[g.ravel(), self.gate[:, i] * (W @ self.x[i])])
        return np.array(rows).reshape(len(rows), len(theta))

    def demand(self, theta):
        """Return every sample's demand as a number, those of support vectors in (0, 1)."""
        eta = np.where(self.demands == HIGH, 1.0, 0.0)
        if len(self.held):
            J = self.gradients(theta, self.held)
            drift = self.gradients(theta, np.flatnonzero(eta)).sum(0)
            eta[self.held] = np.linalg.lstsq(J @ J.T, -J @ drift, rcond=None)[0]
        return eta

    def fields(self, theta):
        """Return v_j before the projection, the projected ones, and shares of held pairs."""
        eta = self.demand(theta)
        r = self.c * self.y * eta
        raw = (self.gate * r) @ self.x
        V = np.einsum("jkl,jl->jk", self.tangents, raw)
        shares = []
        for j, (pinned, inverse) in self.pins.items():
            jump = (1 - self.slope) * r[pinned]
            pull = -(inverse @ raw[j])
            shares += list(np.divide(pull, jump, out=np.full(len(jump), 2.0), where=jump != 0))
        return eta, V, np.array(shares)

    def __call__(self, _t, theta):
        W, a = self.split(theta)
        _, V, _ = self.fields(theta)
        return np.r_[(a[:, None] * V).ravel(), (W * V).sum(1)]

    def signs(self, theta):
        """Return everything that must stay positive, and what each is of."""
        W, a = self.split(theta)
        eta, _, shares = self.fields(theta)
        margins = self.margins(theta)
        free = self.demands != HELD
        values = [
            BLUR + (self.sides * (W @ self.x.T)).ravel(),
            np.where(free & (self.c > 0), SLACK + self.demands * (1 - margins), 1.0),
            RELEASE + np.minimum(eta, 1 - eta)[self.held],
            RELEASE + np.minimum(shares, 1 - shares),
            np.array([abs(a[j]) for j in self.pins]),
        ]
        return values

    def at(self, theta, heads):
        values = self.signs(theta)
        values[0] = np.where(self.sides.ravel() == HELD, 1.0, values[0])
        _, a = self.split(theta)
        values[4] = np.array([heads[j] * a[j] for j in self.pins])
        return np.concatenate(values)


def choices(now):
    """Yield every choice, those with fewer changes first."""
    for changes in range(len(now) + 1):
        for which in itertools.combinations(range(len(now)), changes):
            others = [[s for s in (LOW, HELD, HIGH) if s != now[p]] for p in which]
            for new in itertools.product(*others):
                choice = list(now)
                for p, s in zip(which, new, strict=True):
                    choice[p] = s
                yield tuple(choice)


def choose(x, y, c, slope, theta, sides, demands, pairs, samples, heads):
    """Return consistent sides and demands of what is at zero and at its margin."""
    now = [int(sides[p]) for p in pairs] + [int(demands[i]) for i in samples]
    for choice in choices(now):
        new_sides, new_demands = sides.copy(), demands.copy()
        for p, s in zip(pairs, choice, strict=False):
            new_sides[p] = s
        for i, s in zip(samples, choice[len(pairs) :], strict=True):
            new_demands[i] = s
        piece = Piece(x, y, c, slope, new_sides, new_demands)
        eta, V, shares = piece.fields(theta)
        ok = True
        r = c * y * eta
        share_of = dict(zip(piece.pairs, shares, strict=True))
        scale = (np.abs(c * y)[:, None] * np.abs(x)).sum()
        for j, i in pairs:
            s = new_sides[j, i]
            if s == HELD:
                ok &= heads[j] * r[i] < 0 and -RELEASE / 2 <= share_of[j, i] <= 1 + RELEASE / 2
            else:
                ok &= s * heads[j] * (V[j] @ x[i]) >= -1e-11 * scale * np.linalg.norm(x[i])
        if not ok:
            continue
        velocity = piece(0.0, theta)
        for i in samples:
            s = new_demands[i]
            gradient = piece.gradients(theta, [i], raw=True)[0]
            speed = gradient @ velocity
            if s == HELD:
                ok &= -RELEASE / 2 <= eta[i] <= 1 + RELEASE / 2
                ok &= abs(speed) <= 1e-9 * np.linalg.norm(gradient) * np.linalg.norm(velocity)
            else:
                ok &= s * speed <= 1e-11 * np.linalg.norm(gradient) * max(
                    1e-3, np.linalg.norm(velocity)
                )
        if ok:
            return new_sides, new_demands
    raise RuntimeError("no choice is consistent")


def first_wrong(piece, dense, solver, heads, looks):
    """Return when something first changes its sign on a step, and what; None if nothing does."""
    low = solver.t_old
    for high in np.linspace(solver.t_old, solver.t, looks + 1)[1:]:
        wrong = np.flatnonzero(piece.at(dense(high), heads) < 0)
        if len(wrong):
            return min((root(piece, dense, heads, int(k), low, high), int(k)) for k in wrong)
        low = high
    return None


def root(piece, dense, heads, k, low, high):
    """Return where the k-th of what must stay positive, negative at `high`, has become so."""

    def value(s):
        return piece.at(dense(s), heads)[k]

    begin = low
    if value(begin) <= 0:  # rounding of what has just happened there
        inside = [s for s in np.linspace(low, high, 201)[1:] if value(s) > 0]
        if not inside:
            return low
        begin = inside[0]
    return brentq(value, begin, high, xtol=1e-15, rtol=4 * np.finfo(float).eps)


def flow(p, t_end, *, rtol=1e-12, atol=1e-15, looks=LOOKS):
    """Return (W, a, t, demands) where the flow comes to rest, or at t_end."""
    x, y, slope = p.x, p.y, p.slope
    n, d = x.shape
    m = len(p.a)
    c = np.full(n, 1 / n) if p.weights is None else p.weights / p.weights.sum()
    theta, t = np.r_[p.W.ravel(), p.a], 0.0
    sides = np.where(p.W @ x.T > 0, HIGH, LOW)
    demands = np.where(c > 0, HIGH, LOW)
    demands = np.where(Piece(x, y, c, slope, sides, demands).margins(theta) < 1, demands, LOW)
    h = None
    while t < t_end:
        piece = Piece(x, y, c, slope, sides, demands)
        if not (demands != LOW).any() or np.linalg.norm(piece(t, theta)) < 1e-13:
            break
        solver = DOP853(piece, t, theta, t_end, rtol=rtol, atol=atol, first_step=h)
        heads = np.sign(piece.split(theta)[1])
        found = None
        while found is None:
            solver.step()
            if solver.status == "failed":
                raise RuntimeError(f"the oracle failed at t={t}")
            dense = solver.dense_output()
            found = first_wrong(piece, dense, solver, heads, looks)
            if found is None and solver.status == "finished":
                return *piece.split(solver.y), t_end, demands
        t, k = found
        norms = np.linalg.norm(piece.split(theta)[0], axis=1)
        theta = dense(t) if t > solver.t_old else solver.y_old.copy()
        h = min(max(solver.step_size, 1e-9), t_end - t) or None
        rests = [
            j
            for j in piece.pins
            if slope == 0 and np.linalg.norm(piece.split(theta)[0][j]) <= AT_ZERO * norms[j]
        ]
        if rests:  # relu'(0) = 0
            sides = sides.copy()
            sides[rests] = LOW
            piece.split(theta)[0][rests] = 0
            continue
        heads = np.sign(dense(min(t + 1e-9 * (solver.t - solver.t_old), solver.t))[m * d :])
        tied = list(piece.pairs)
        if k < m * n:
            tied.append((int(k) // n, int(k) % n))
        samples = [int(i) for i in piece.held]
        if m * n <= k < m * n + n:
            samples.append(int(k) - m * n)
        before = sides
        sides, demands = choose(x, y, c, slope, theta, sides, demands, tied, samples, heads)
        for j, i in zip(*np.nonzero((sides == HELD) & (before != HELD)), strict=True):
            w = theta[j * d : (j + 1) * d]
            w -= (w @ x[i]) / (x[i] @ x[i]) * x[i]
    W, a = theta[: m * d].reshape(m, d), theta[m * d :]
    return W, a, t, demands
