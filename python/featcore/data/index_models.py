"""Gaussian inputs with labels that depend on them in one direction, or in a few."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from featcore import activations
from featcore._seeds import Seed, describe, stream
from featcore._validation import float_array, integer, real
from featcore.activations import Activation, Hermite
from featcore.data.dataset import Dataset

_Array = NDArray[np.float64]

Link = str | Activation | Sequence[float] | Callable[[Any], Any]
"""A function of one variable, as `link` takes it."""

_ORTHONORMAL = 1e-6  # of given directions: room for the rounding of float32


@dataclass(frozen=True)
class Function(Activation):
    """A link given as a Python function of arrays: it has Hermite coefficients, but networks do not take it."""

    function: Callable[[Any], Any]
    name: ClassVar[str] = "function"

    @property
    def compiled(self) -> bool:
        """Whether the core has it, so that networks take it: no."""
        return False

    def __call__(self, z: Any) -> Any:
        """Return function(z), elementwise."""
        value = np.asarray(self.function(z))
        if value.shape != np.shape(z) or value.dtype.kind not in "fiub":
            raise ValueError(
                f"link={self.function!r} returned {value.dtype} of shape {value.shape} for an array of shape "
                f"{np.shape(z)}; it must return a real number for each"
            )
        # of dtypes, for numpy 1 takes a single number for what it may be rounded to
        return value.astype(np.result_type(np.asarray(z).dtype, np.float32), copy=False)

    def __repr__(self) -> str:
        return f"Function({_name(self.function)})"


def link(link: Link) -> Activation:
    """Return a link function as an `Activation`, with its Hermite coefficients c_k and second moment.

    Parameters
    ----------
    link : str, Activation, sequence of float or callable
        The name of a plain activation ("relu", "tanh", "erf", "gelu", "softplus") or of a Hermite polynomial
        ("H1", "H2", …, not normalised); an activation such as ``fc.ReLU().centred()``; Hermite coefficients
        c_0, c_1, …; or a function of arrays, smooth but at 0.

    Returns
    -------
    Activation
        Which theories take as the teacher: `hermite_coefficients`, `mean`, `second_moment`.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, or coefficients are not finite numbers.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.link("H3")
    Hermite([0.0, 0.0, 0.0, 1.0])
    >>> fc.data.link([0, 1, 0.5]).second_moment()
    1.5
    """
    if isinstance(link, str):
        hermite = re.fullmatch(r"H(\d{1,2})", link)
        if hermite:
            return Hermite([0.0] * int(hermite[1]) + [1.0])
        if link not in activations.NAMES:
            raise ValueError(
                f"link={link!r} is unknown; choose one of {', '.join(map(repr, activations.NAMES))}, 'H1', 'H2', …, or "
                "pass an activation, Hermite coefficients or a function"
            )
        return activations.get(link)
    if isinstance(link, Activation):
        return link
    if callable(link):
        return Function(link)
    return Hermite(link)


def single_index(
    n: int,
    d: int,
    link: Link = "H1",
    *,
    noise: float = 0.0,
    direction: ArrayLike | None = None,
    seed: Seed = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return Gaussian samples x with y = link(<β, x>) + noise·ε, |β| = 1.

    Parameters
    ----------
    n, d : int
        Number of samples and dimension, at least 1.
    link : str, Activation, sequence of float or callable
        As in `link`, for example "H1", "tanh", ``fc.ReLU().centred()`` or Hermite coefficients.
    noise : float
        Standard deviation of the labels' Gaussian noise, at least 0.
    direction : array_like, shape (d,), optional
        β, of length 1. By default uniform on the sphere. Fresh samples of the same teacher need
        ``direction=data.means[0]`` and another seed.
    seed : int or SeedSequence
        x is drawn from its stream "data", noise from "labels" and β from "direction".
    dtype : float64 or float32
        Drawn in float64 and rounded.

    Returns
    -------
    Dataset
        With `clean_y` (without noise) and `means` (β).

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, a direction of another length than 1, and labels that are not finite.

    Examples
    --------
    >>> import featcore as fc
    >>> train = fc.data.single_index(n=100, d=20, link=[0, 1, 0.7], noise=0.3, seed=0)
    >>> train
    Dataset(n=100, d=20, float64, clean_y, means)
    >>> test = fc.data.single_index(50, 20, [0, 1, 0.7], noise=0.3, direction=train.means[0], seed=1)
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    noise = real("noise", noise, least=0.0)
    sigma = _named(link)
    if direction is None:
        beta = _orthonormal(stream(seed, "direction"), 1, d)
    else:
        given = float_array("direction", direction, ndim=1)
        beta = _given("direction", given[None, :], 1, d)
    x = stream(seed, "data").standard_normal((n, d))
    clean_y = sigma(_products(x, beta)[:, 0])
    return _dataset(
        x,
        clean_y,
        noise,
        beta,
        seed,
        dtype,
        {
            "generator": "single_index",
            "n": n,
            "d": d,
            "link": repr(sigma),
            "noise": noise,
            "direction": _fingerprint(direction, beta),
        },
    )


def multi_index(
    n: int,
    d: int,
    link: Sequence[Link] | Callable[[Any], Any],
    r: int | None = None,
    *,
    noise: float = 0.0,
    directions: ArrayLike | None = None,
    seed: Seed = 0,
    dtype: DTypeLike = np.float64,
) -> Dataset:
    """Return Gaussian samples x with y = g(<u_1, x>, …, <u_r, x>) + noise·ε, u_k orthonormal.

    Parameters
    ----------
    n, d : int
        Number of samples, at least 1, and dimension, at least r.
    link : sequence of links, or callable
        One link for each direction, as `single_index` takes it: g is their sum. Or g itself, a function of an
        array (n, r) that returns (n,), such as ``lambda z: z[:, 0] + z[:, 0] * z[:, 1]``.
    r : int, optional
        Number of directions; told by the links or the directions, and needed for a callable without directions.
    noise, seed, dtype
        As in `single_index`.
    directions : array_like, shape (r, d), optional
        Rows u_k, orthonormal up to rounding. By default a uniformly random frame.

    Returns
    -------
    Dataset
        With `clean_y` (without noise) and `means` (the directions).

    Raises
    ------
    TypeError, ValueError
        For arguments out of range, directions that are not orthonormal, and labels that are not finite.

    Examples
    --------
    >>> import featcore as fc
    >>> fc.data.multi_index(100, 20, ["H1", "H2"], seed=0)
    Dataset(n=100, d=20, float64, clean_y, means)
    >>> stairs = fc.data.multi_index(100, 20, lambda z: z[:, 0] * (1 + z[:, 1]), r=2)
    """
    n, d = integer("n", n, least=1), integer("d", d, least=1)
    noise = real("noise", noise, least=0.0)
    links: tuple[Activation, ...] | None = None
    if not callable(link):
        if isinstance(link, str) or not np.iterable(link):
            raise TypeError(
                f"link={link!r} must be a list of links, such as ['H1', 'H2'], or a function"
            )
        links = tuple(_named(one) for one in link)
        if not links:
            raise ValueError("link is empty; pass one link for each direction")
    given = None if directions is None else float_array("directions", directions, ndim=2)
    counts = {
        "link": None if links is None else len(links),
        "directions": None if given is None else len(given),
        "r": None if r is None else integer("r", r, least=1),
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if not known:
        raise ValueError("r is missing; a function of several directions needs their number")
    if len(set(known.values())) > 1:
        raise ValueError(f"the number of directions differs: {known}; they must agree")
    count = next(iter(known.values()))
    if count > d:
        raise ValueError(f"r={count} directions need d >= {count}; d={d}")
    if given is None:
        frame = _orthonormal(stream(seed, "direction"), count, d)
    else:
        frame = _given("directions", given, count, d)
    x = stream(seed, "data").standard_normal((n, d))
    z = _products(x, frame)
    if links is not None:
        clean_y = np.sum([sigma(z[:, k]) for k, sigma in enumerate(links)], axis=0)
    else:
        clean_y = np.asarray(link(z))  # type: ignore[operator]
        if clean_y.shape != (n,) or clean_y.dtype.kind not in "fiub":
            raise ValueError(
                f"link={link!r} returned {clean_y.dtype} of shape {clean_y.shape} for an array of shape {z.shape}; it "
                f"must return real numbers of shape ({n},)"
            )
    return _dataset(
        x,
        clean_y.astype(np.float64),
        noise,
        frame,
        seed,
        dtype,
        {
            "generator": "multi_index",
            "n": n,
            "d": d,
            "link": _name(link) if links is None else [repr(sigma) for sigma in links],
            "r": count,
            "noise": noise,
            "directions": _fingerprint(directions, frame),
        },
    )


def _named(one: Link) -> Activation:
    return link(one)


def _name(function: Any) -> str:
    """Return what names a function in a record: its bits are not the function."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(type(function)))}"


def _dataset(
    x: _Array,
    clean_y: _Array,
    noise: float,
    directions: _Array,
    seed: Seed,
    dtype: DTypeLike,
    provenance: dict[str, Any],
) -> Dataset:
    if not np.isfinite(clean_y).all():
        at = int(np.argmin(np.isfinite(clean_y)))
        raise ValueError(
            f"link gives the label {clean_y[at]} for sample {at}; labels must be finite"
        )
    y = clean_y + noise * stream(seed, "labels").standard_normal(len(x))
    return Dataset(
        x,
        y,
        clean_y,
        means=directions,
        provenance={**provenance, "seed": describe(seed), "dtype": str(np.dtype(dtype))},
    ).astype(dtype)


def _products(x: _Array, directions: _Array) -> _Array:
    """Return <x_i, u_k>, shape (n, r); plain sums and no BLAS, so that the bits do not depend on the processor."""
    return np.stack([(x * u).sum(axis=1) for u in directions], axis=1)


def _orthonormal(rng: np.random.Generator, r: int, d: int) -> _Array:
    """Return r rows, uniform among the orthonormal frames of R^d, by Gram and Schmidt without BLAS."""
    frame = rng.standard_normal((r, d))
    for k in range(r):
        for _ in range(2):  # once loses digits when a row is nearly in the span of those before
            for row in frame[:k]:
                frame[k] -= (frame[k] * row).sum() * row
            frame[k] /= np.sqrt((frame[k] ** 2).sum())
    return frame


def _given(name: str, rows: NDArray[Any], r: int, d: int) -> _Array:
    shape = f"({d},)" if name == "direction" else f"({r}, {d})"
    frame: _Array = rows.astype(np.float64)
    if frame.shape != (r, d):
        raise ValueError(f"{name} has dimension {frame.shape[1]}; it must have shape {shape}")
    if np.abs(_products(frame, frame) - np.eye(r)).max() > _ORTHONORMAL:
        raise ValueError(
            f"{name} has norms {np.sqrt((frame**2).sum(axis=1)).round(7).tolist()}; it must have length 1"
            if r == 1
            else f"{name} are not orthonormal (their products differ from 0 and 1 by more than {_ORTHONORMAL:g}); "
            "orthonormalise them, for example by a QR decomposition"
        )
    return frame


def _fingerprint(given: ArrayLike | None, frame: _Array) -> str | None:
    # A hash, since an attribute of a file cannot hold the numbers of a large d.
    return None if given is None else f"SHA-256 {hashlib.sha256(frame.tobytes()).hexdigest()}"
