"""Hinge flow of a ReLU network once more, slow and plain: an eighth-order solver on the weights, restarted at events.

Between events the field is smooth: gradients of the margins that count, projected off the hyperplanes that neurons
slide on, and support vectors with the multipliers that keep their margins, from one dense linear system. An event is
the first sign change of anything that must not change its sign, at a root of the dense output. What happens then is
the shortest velocity of all that are open, by an algorithm that is finite; it must pass a check, pair by pair and
sample by sample. (Every choice was tried in turn at first, those with fewer changes first: on seed 51 of `small` up to
17 pairs and samples are tied at once, and that came to no end; on seed 35 it took a minute.)
"""

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


def shortest(corner, size):
    """Return the shortest vector of a polytope and the numbers that make it: Wolfe's algorithm, which is finite.

    `corner(v)` returns the corner that is furthest against v, and its numbers.
    """
    points = [corner(np.zeros(size))]
    weights = np.ones(1)
    while True:
        corners = np.array([p for p, _ in points])
        v = weights @ corners
        new, numbers = corner(v)
        scale = max(np.linalg.norm(p) for p in corners)
        if v @ v - v @ new <= 1e-14 * scale * max(np.linalg.norm(v), 1e-14 * scale):
            return v, weights @ np.array([q for _, q in points])
        if any((new == p).all() for p in corners):  # what is left is rounding
            return v, weights @ np.array([q for _, q in points])
        points.append((new, numbers))
        weights = np.append(weights, 0.0)
        while True:
            corners = np.array([p for p, _ in points])
            edges = (corners[1:] - corners[0]).T
            rest = np.linalg.lstsq(edges, -corners[0], rcond=1e-14)[0]
            goal = np.append(1 - rest.sum(), rest)
            if (goal > 1e-14).all():
                weights = goal
                break
            falls = goal <= 1e-14
            share = min(1.0, (weights[falls] / (weights - goal)[falls]).min())
            weights = np.maximum(0.0, weights + share * (goal - weights))
            keep = weights > 1e-14
            keep[np.flatnonzero(falls)[np.argmin(weights[falls])]] = False
            points = [p for p, k in zip(points, keep, strict=True) if k]
            weights = weights[keep] / weights[keep].sum()


def propose(x, y, c, slope, theta, sides, demands, pairs, samples, heads):
    """Return sides and demands of the shortest velocity that what is tied leaves open.

    Samples at their margin have demands in [0, 1]; a pair on its hyperplane that attracts (a y < 0) has a gate in
    [0, 1] of its own: velocities with these are a polytope. Pairs that repel are on or off: one after another is turned
    to where it moves, and each turn makes the velocity longer, so that they come to an end.
    """
    m, d = sides.shape[0], x.shape[1]
    W, a = theta[: m * d].reshape(m, d), theta[m * d :]
    z = W @ x.T
    for pair in pairs:
        z[pair] = 0
    gate = np.where(sides == HIGH, 1.0, slope)
    pulls = [(j, i) for j, i in pairs if heads[j] * y[i] < 0 and c[i] > 0]
    pushes = [pair for pair in pairs if pair not in pulls]
    for pair in pairs:
        gate[pair] = slope if pair in pulls or sides[pair] != HIGH else 1.0
    open_ = set(samples)

    def gradient(i):
        return (
            c[i]
            * y[i]
            * np.r_[(a[:, None] * gate[:, i, None] * x[i]).ravel(), gate[:, i] * z[:, i]]
        )

    def step(j, i):
        out = np.zeros(m * d + m)
        out[j * d : (j + 1) * d] = (1 - slope) * c[i] * y[i] * a[j] * x[i]
        return out

    while True:
        steady = sum(
            (gradient(i) for i in range(len(y)) if i not in open_ and demands[i] == HIGH),
            np.zeros(m * d + m),
        )
        bases = {i: gradient(i) for i in samples}
        steps = {
            pair: step(*pair) for pair in pulls if pair[1] in open_ or demands[pair[1]] == HIGH
        }

        def corner(v, steady=steady, bases=bases, steps=steps):
            out, eta = steady.copy(), np.where(demands == HIGH, 1.0, 0.0)
            asked = {i: bases[i].copy() for i in samples}
            for (_, i), s in steps.items():
                if s @ v < 0:
                    if i in open_:
                        asked[i] += s
                    else:
                        out += s
            for i, whole in asked.items():
                eta[i] = 1.0 if whole @ v < 0 else 0.0
                out += eta[i] * whole
            return out, eta

        _, eta = shortest(corner, m * d + m)
        eta = np.where(abs(eta - np.rint(eta)) < 1e-12, np.rint(eta), eta)
        new_sides = sides.copy()
        # given the demands, neurons do not see each other; so also where a = 0
        fields = np.zeros((m, d))
        for j in {j for j, _ in pairs}:
            mine = [i for k, i in pulls if k == j and eta[i] > 0]
            rows = {i: (1 - slope) * eta[i] * c[i] * y[i] * x[i] for i in mine}
            base = (eta * c * y * gate[j]) @ x

            def own(v, base=base, rows=rows):
                share = np.array([1.0 if r @ v < 0 else 0.0 for r in rows.values()])
                return base + share @ np.array(list(rows.values())).reshape(-1, d), share

            fields[j], shares = shortest(own, d)
            for i, share in zip(mine, shares, strict=True):
                new_sides[j, i] = (
                    HELD if 1e-12 < share < 1 - 1e-12 else (HIGH if share > 0.5 else LOW)
                )
            for k, i in pulls:  # of samples that ask for nothing
                if k == j and i not in mine:
                    new_sides[j, i] = HIGH if heads[j] * (fields[j] @ x[i]) > 0 else LOW
        turned = False
        for j, i in pushes:
            speed = heads[j] * (fields[j] @ x[i])
            to = HIGH if gate[j, i] == 1.0 and slope != 1.0 else LOW
            if abs(speed) > 1e-12 * np.linalg.norm(x[i]) * (c @ np.abs(x)).sum() and to * speed < 0:
                gate[j, i] = slope if to == HIGH else 1.0
                to, turned = -to, True
            new_sides[j, i] = to
            if turned:
                break
        if not turned:
            new_demands = demands.copy()
            for i in samples:
                new_demands[i] = HELD if 0 < eta[i] < 1 else (HIGH if eta[i] == 1 else LOW)
            return new_sides, new_demands


def choose(x, y, c, slope, theta, sides, demands, pairs, samples, heads):
    """Return consistent sides and demands of what is at zero and at its margin."""
    sides, demands = propose(x, y, c, slope, theta, sides, demands, pairs, samples, heads)
    piece = Piece(x, y, c, slope, sides, demands)
    eta, V, shares = piece.fields(theta)
    r = c * y * eta
    share_of = dict(zip(piece.pairs, shares, strict=True))
    scale = (np.abs(c * y)[:, None] * np.abs(x)).sum()
    for j, i in pairs:
        s = sides[j, i]
        if s == HELD:
            inside = -RELEASE / 2 <= share_of[j, i] <= 1 + RELEASE / 2
            ok = heads[j] * r[i] < 0 and inside
        else:
            ok = s * heads[j] * (V[j] @ x[i]) >= -1e-11 * scale * np.linalg.norm(x[i])
        if not ok:
            raise RuntimeError(f"the choice for neuron {j} on sample {i} is not consistent")
    velocity = piece(0.0, theta)
    for i in samples:
        s = demands[i]
        gradient = piece.gradients(theta, [i], raw=True)[0]
        speed = gradient @ velocity
        size = np.linalg.norm(gradient) * np.linalg.norm(velocity)
        if s == HELD:
            ok = -RELEASE / 2 <= eta[i] <= 1 + RELEASE / 2 and abs(speed) <= 1e-9 * size
        else:
            ok = s * speed <= 1e-11 * max(1e-3 * np.linalg.norm(gradient), size)
        if not ok:
            raise RuntimeError(f"the choice for sample {i} is not consistent")
    return sides, demands


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
    start = Piece(x, y, c, slope, sides, demands)
    margins = start.margins(theta)
    demands = np.where(margins < 1, demands, LOW)
    ties = [(int(j), int(i)) for j, i in np.argwhere(p.W @ x.T == 0)]
    samples = [int(i) for i in np.flatnonzero((margins == 1) & (c > 0))]
    if ties or samples:
        # heads of 0 get the sign that they take, if what is tied leaves them one
        heads = np.sign(p.a)
        for _ in range(2):
            sides, demands = choose(x, y, c, slope, theta, sides, demands, ties, samples, heads)
            speeds = Piece(x, y, c, slope, sides, demands)(0.0, theta)[m * d :]
            heads = np.where(p.a == 0, np.sign(speeds), np.sign(p.a))
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
