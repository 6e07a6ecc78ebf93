"""Small problems, and what it means for two runs to be the same."""

import numpy as np
from _strategies import make_data, make_net

import featcore as fc

NATIVE = (
    "loss",
    "log_loss",
    "objective",
    "accuracy",
    "margin",
    "normalised_margin",
    "smoothed_margin",
    "margins",
    "norms",
    "log_norms",
    "head",
    "stable_rank",
    "balance_drift",
)
PATTERNS = ("patterns", "dead")


def problem(n=30, d=4, m=9, *, seed=0, activation=None, dtype=np.float64, loss="logistic", **more):
    """Return a network and a data set of the given shape."""
    activation = fc.ReLU() if activation is None else activation
    net = make_net(m, d, seed, activation=activation, dtype=dtype)
    return net, make_data(n, d, seed, dtype=dtype, loss=loss, **more)


def same_net(one, other):
    """Whether two networks have the same bits."""
    return (
        one.activation == other.activation
        and one.W.dtype == other.W.dtype
        and one.W.tobytes() == other.W.tobytes()
        and one.a.tobytes() == other.a.tobytes()
    )


def same_history(one, other):
    """Whether two histories have the same rows, bits, names and coordinates."""
    return one.drop_attrs().identical(other.drop_attrs()) and all(
        one[name].dtype == other[name].dtype
        and one[name].values.tobytes() == other[name].values.tobytes()
        for name in one.data_vars
    )


def same_run(one, other):
    """Whether two runs ended at the same place with the same history, to the last bit."""
    return (
        same_net(one.net, other.net)
        and one.state.step == other.state.step
        and same_history(one.history, other.history)
    )


def common_rows(history, other):
    """Return `history` at the steps that `other` has too."""
    return history.isel(time=np.isin(history.step, other.step))


def gap(one, other):
    """Return the distance between two networks, relative to the size of the first."""
    distance = np.hypot(np.linalg.norm(one.W - other.W), np.linalg.norm(one.a - other.a))
    return distance / np.hypot(np.linalg.norm(one.W), np.linalg.norm(one.a))
