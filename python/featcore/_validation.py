"""Checks of arguments at the edge: every message names the argument, its value and the remedy."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

FLOATS = (np.dtype(np.float64), np.dtype(np.float32))


def float_array(
    name: str,
    value: ArrayLike,
    *,
    ndim: int,
    dtype: DTypeLike | None = None,
    copy: bool = False,
    allow_empty: bool = False,
    allow_minus_infinity: bool = False,
) -> NDArray[Any]:
    """Return `value` as a finite, C-contiguous float array of `ndim` axes.

    A C-contiguous float64 or float32 array is returned as it is (no copy unless `copy`); integers and
    booleans become float64; other layouts and byte orders are copied to C order. A cast to `dtype`
    is made only if it loses nothing.

    Raises
    ------
    TypeError
        For complex, masked, object, string or half/extended-precision arrays, and for a cast to
        `dtype` that would change a value.
    ValueError
        For a wrong number of axes, an empty axis, NaN or infinity.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop the masked entries first")
    try:
        array: NDArray[Any] = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be made an array: {error}") from error
    if array.dtype.kind in "biu":
        wide = array.dtype.itemsize > 4
        array = array.astype(np.float64)
        if wide and (np.abs(array) > 2.0**53).any():
            raise TypeError(
                f"{name} has integers above 2**53, which float64 cannot hold; rescale them"
            )
    elif array.dtype.kind == "c":
        raise TypeError(
            f"{name} is complex ({array.dtype}); pass real numbers, for example {name}.real"
        )
    elif array.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {array.dtype}; pass float64 or float32")
    native = array.dtype.newbyteorder("=")
    if native not in FLOATS:
        raise TypeError(f"{name} has dtype {array.dtype}; pass float64 or float32")
    if array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; it must have {ndim} axes")
    if not allow_empty and array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; no axis may be empty")
    finite = np.isfinite(array)
    if allow_minus_infinity:
        finite |= np.isneginf(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name} has a non-finite entry {array[where]} at {where}; remove or replace it"
        )
    target = native if dtype is None else np.dtype(dtype)
    if target != native:
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        if not np.array_equal(cast, array):
            raise TypeError(
                f"{name} is {native} and would lose digits as {target}; convert it yourself with "
                f".astype(np.{target})"
            )
        array = cast
    result: NDArray[Any] = np.require(array, target, ("C", "ALIGNED"))
    return result.copy() if copy and np.shares_memory(result, np.asarray(value)) else result


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: the caller's own array stays writeable."""
    view = array.view()
    view.flags.writeable = False
    return view


def integer(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """Return `value` as an int within [least, most]; booleans and floats are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (numbers.Integral, np.integer)):
        raise TypeError(f"{name}={value!r} must be an integer")
    number = int(value)
    if (least is not None and number < least) or (most is not None and number > most):
        raise ValueError(f"{name}={number} must be {_range(least, most)}")
    return number


def real(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float with least ≤ value ≤ most and above < value < below."""
    if isinstance(value, (bool, np.bool_, complex, np.complexfloating)) or not isinstance(
        value, (numbers.Real, np.number)
    ):
        raise TypeError(f"{name}={value!r} must be a real number")
    try:
        number = float(value)
    except OverflowError:  # an integer or a fraction
        raise ValueError(
            f"{name} must be within ±{np.finfo(np.float64).max:.2g}, and is not"
        ) from None
    if not np.isfinite(number):
        raise ValueError(f"{name}={number} must be finite")
    if (
        (least is not None and number < least)
        or (most is not None and number > most)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        bounds = [
            f"{sign} {bound:g}"
            for sign, bound in ((">=", least), ("<=", most), (">", above), ("<", below))
            if bound is not None
        ]
        raise ValueError(f"{name}={number:g} must be {' and '.join(bounds)}")
    return number


def choice(name: str, value: Any, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`."""
    options = list(allowed)
    if not isinstance(value, str) or value not in options:
        raise ValueError(
            f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, options))}"
        )
    return str(value)


def _range(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"between {least} and {most}"
    return f"at least {least}" if least is not None else f"at most {most}"
