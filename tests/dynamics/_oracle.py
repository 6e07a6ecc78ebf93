"""Gradient flow of a ReLU network once more, slow and plain: an eighth-order solver restarted at every event.

Between events the field is smooth: the pattern of active pairs is fixed there, and samples that hold a neuron on
their hyperplane have multipliers from a small linear system. The first pair that leaves its side, and the first
multiplier that leaves its interval, ends the piece, at a root of the dense output. What happens then is found by
trying every choice, not by pivoting. A ReLU neuron that slides into w = 0, where solutions are not unique, stays
there: relu'(0) = 0.
"""

import itertools

import numpy as np
from scipy.integrate import DOP853
from scipy.optimize import brentq

OFF, HELD, ON = -1, 0, 1
LOOKS = 8  # at each step of the solver
AT_ZERO = 1e-7  # of the norm of w at the start of a piece


def residual(loss, f, y):
    """Return -dl/df."""
    if loss == "squared":
        return y - f
    if loss == "exponential":
        return y * np.exp(-y * f)
    e = np.exp(-np.abs(y * f))
    return y * np.where(y * f > 0, e, 1.0) / (1 + e)


class Piece:
    """The smooth field with every pair on a given side.

    `solves` keeps the linear systems of sets of held samples from one piece to the next.
    """

    def __init__(self, x, y, c, loss, slope, sides, solves):
        self.x, self.y, self.c, self.loss, self.slope = x, y, c, loss, slope
        self.gate = np.where(sides == ON, 1.0, slope)
        self.held = [
            (int(j), np.flatnonzero(sides[j] == HELD))
            for j in np.flatnonzero((sides == HELD).any(1))
        ]
        self.m, self.d = sides.shape[0], x.shape[1]
        # multipliers of held samples are linear in V: -solve @ V_j, with rows of zeros behind
        self.rows = np.array([j for j, _ in self.held], dtype=int)
        most = max((len(held) for _, held in self.held), default=0)
        self.solve = np.zeros((len(self.held), most, self.d))
        self.samples = np.zeros((len(self.held), most), dtype=int)
        self.real = np.zeros((len(self.held), most), dtype=bool)
        for k, (_, held) in enumerate(self.held):
            key = held.tobytes()
            if key not in solves:
                solves[key] = np.linalg.pinv(x[held] @ x[held].T) @ x[held]
            self.solve[k, : len(held)] = solves[key]
            self.samples[k, : len(held)] = held
            self.real[k, : len(held)] = True

    def split(self, theta):
        return theta[: self.m * self.d].reshape(self.m, self.d), theta[self.m * self.d :]

    def residuals(self, theta):
        W, a = self.split(theta)
        return self.c * residual(self.loss, a @ (self.gate * (W @ self.x.T)), self.y)

    def directions(self, r):
        """Return V and the multipliers of held samples beyond slope * r."""
        V = (self.gate * r) @ self.x
        extra = -np.einsum("jkd,jd->jk", self.solve, V[self.rows])
        V[self.rows] += np.einsum("jk,jkd->jd", extra, self.x[self.samples])
        return V, extra

    def shares(self, theta):
        """Return the share in [0, 1] of each held pair, in the order of `held`."""
        if not self.held:
            return np.zeros(0)
        r = self.residuals(theta)
        _, extra = self.directions(r)
        return (extra / ((1 - self.slope) * r[self.samples]))[self.real]

    def __call__(self, _t, theta):
        W, a = self.split(theta)
        V, _ = self.directions(self.residuals(theta))
        return np.concatenate([(a[:, None] * V).ravel(), (W * V).sum(1)])


def choices(now):
    """Yield every choice of sides, those with fewer changes first."""
    for changes in range(len(now) + 1):
        for which in itertools.combinations(range(len(now)), changes):
            others = [[s for s in (OFF, HELD, ON) if s != now[p]] for p in which]
            for new in itertools.product(*others):
                choice = list(now)
                for p, s in zip(which, new, strict=True):
                    choice[p] = s
                yield tuple(choice)


def choose(tied, sides, V_off, r, x, slope, sign):
    """Return sides of the tied samples that are consistent, with as few changes as possible."""
    gram = x[tied] @ x[tied].T
    base = x[tied] @ V_off
    scale = 1e-11 * (np.abs(r[tied]) * np.diag(gram)).max()
    for choice in choices([int(sides[i]) for i in tied]):
        extra = np.array(
            [(1 - slope) * r[i] if s == ON else 0.0 for i, s in zip(tied, choice, strict=True)]
        )
        held = [p for p, s in enumerate(choice) if s == HELD]
        if held:
            rest = base + gram @ extra
            extra[held] = np.linalg.lstsq(gram[np.ix_(held, held)], -rest[held], rcond=None)[0]
        speed = sign * (base + gram @ extra)
        good = True
        for p, (i, s) in enumerate(zip(tied, choice, strict=True)):
            share = extra[p] / ((1 - slope) * r[i])
            if s == HELD:
                good &= sign * r[i] < 0 and -5e-10 <= share <= 1 + 5e-10
            else:
                good &= s * speed[p] >= -scale
        if good:
            return choice
    raise RuntimeError("no choice of sides is consistent")


def along(dense, part, direction):
    """Return the dense output of `theta[part] @ direction` as a function of time, without all the rest of theta."""
    terms = (dense.F[:, part] @ direction)[::-1].tolist()
    start = float(dense.y_old[part] @ direction)

    def value(s):
        p = (s - dense.t_old) / dense.h
        total = 0.0
        for k, term in enumerate(terms):
            total = (total + term) * (p if k % 2 == 0 else 1 - p)
        return start + total

    return value


def first_cause(piece, sides, solver, dense, high, signs, heads):
    """Return when and at which (neuron, sample) something first happens before `high`; no sample for a head."""
    m, d, x = piece.m, piece.d, piece.x
    wrong, loose, turned = signs

    def root(g):
        low = solver.t_old
        if g(low) <= 0:
            # rounding of what has just happened there: it may move away first and come back later
            inside = [s for s in np.linspace(low, high, 401)[1:] if g(s) > 0]
            if not inside:
                return low
            low = inside[0]
        return brentq(g, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps)

    def margin(s, p):
        share = piece.shares(dense(s))[p]
        return 1e-9 + min(share, 1 - share)

    pairs = [(j, i) for j, held in piece.held for i in held]
    found = [
        (root(along(dense, slice(j * d, (j + 1) * d), sides[j, i] * x[i])), (j, i))
        for j, i in zip(*np.nonzero(wrong), strict=True)
    ]
    found += [(root(lambda s, p=p: margin(s, p)), pairs[p]) for p in np.flatnonzero(loose)]
    found += [(root(lambda s, j=j: heads[j] * dense(s)[m * d + j]), (j, None)) for j in turned]
    return min(found, key=lambda item: item[0])


def flow(x, y, W, a, t_end, *, loss="logistic", slope=0.0, rtol=1e-13, atol=1e-18, weights=None):
    """Return (W, a, counts) at t_end, counts = (crossings, times a sample was caught)."""
    n, d = x.shape
    m = len(a)
    c = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    t, theta, h = 0.0, np.concatenate([W.ravel(), a]), None
    sides = np.where(W @ x.T > 0, ON, OFF)
    crossings = catches = 0
    solves = {}
    while t < t_end:
        piece = Piece(x, y, c, loss, slope, sides, solves)
        solver = DOP853(piece, t, theta, t_end, rtol=rtol, atol=atol, first_step=h)
        heads = np.sign(solver.y[m * d :])
        while True:
            solver.step()
            if solver.status == "failed":
                raise RuntimeError(f"the oracle failed at t={t}")
            dense = solver.dense_output()
            # also in between: a pair may leave its side and come back within a step
            for high in np.linspace(solver.t_old, solver.t, LOOKS + 1)[1:]:
                at_high = dense(high)
                wrong = sides * (piece.split(at_high)[0] @ x.T) < 0
                shares = piece.shares(at_high)
                loose = (shares < -1e-9) | (shares > 1 + 1e-9)
                turned = [j for j, _ in piece.held if heads[j] * at_high[m * d + j] < 0]
                if wrong.any() or loose.any() or turned:
                    break
            else:
                if solver.status == "finished":
                    return *piece.split(solver.y), (crossings, catches)
                continue
            break
        first, (j, i) = first_cause(
            piece, sides, solver, dense, high, (wrong, loose, turned), heads
        )
        before = np.linalg.norm(theta[j * d : (j + 1) * d])
        theta = dense(first) if first > solver.t_old else solver.y_old.copy()
        if (
            slope == 0
            and (sides[j] == HELD).any()
            and np.linalg.norm(theta[j * d : (j + 1) * d]) <= AT_ZERO * before
        ):
            theta[j * d : (j + 1) * d] = 0
            sides[j] = OFF
            t, h = first, min(max(solver.step_size, 1e-9), t_end - first) or None
            continue
        tied = [int(k) for k in np.flatnonzero(sides[j] == HELD)]
        if i is not None and i not in tied:
            tied.append(int(i))
        r = piece.residuals(theta)
        gate = piece.gate[j].copy()
        gate[tied] = slope
        sign = np.sign((at_high if i is None else theta)[m * d + j])
        choice = choose(tied, sides[j], (gate * r) @ x, r, x, slope, sign)
        for k, s in zip(tied, choice, strict=True):
            if s != sides[j, k]:
                crossings += s != HELD
                catches += s == HELD
            if s == HELD:  # onto the hyperplane exactly
                w = theta[j * d : (j + 1) * d]
                w -= (w @ x[k]) / (x[k] @ x[k]) * x[k]
            sides[j, k] = s
        t = first
        h = min(max(solver.step_size, 1e-9), t_end - t) or None
    return *Piece(x, y, c, loss, slope, sides, solves).split(theta), (crossings, catches)
