from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

_Float = NDArray[np.float64] | NDArray[np.float32]
_Split = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]
# (row, position, W, a, exponents)
_OnRow = Callable[[int, int, NDArray[Any], NDArray[Any], NDArray[np.int64] | None], None]
_Column = tuple[str, NDArray[np.float64] | None, int, bool, list[int], NDArray[np.float64]]

def build_info() -> dict[str, Any]: ...
def cpu_levels() -> list[str]: ...
def fma_rate(dtype: str, num_threads: int, seconds: float) -> float: ...
def observables() -> list[tuple[str, str, bool, bool]]: ...
def balance(W: _Float, a: _Float) -> NDArray[np.float64]: ...
def outputs(
    W: _Float, a: _Float, activation: str, slope: float, x: _Float, num_threads: int
) -> NDArray[Any]: ...
def loss_and_grad(
    W: _Float,
    a: _Float,
    activation: str,
    slope: float,
    split: _Split,
    loss: str,
    mean: bool,
    weight_decay: float,
    output_penalty: float,
    num_threads: int,
) -> tuple[float, NDArray[Any], NDArray[Any]]: ...
def descend(
    W: _Float,
    a: _Float,
    activation: str,
    slope: float,
    splits: list[_Split],
    objective: tuple[str, bool, float, float],
    balance: NDArray[np.float64],
    options: tuple[float, int, int, float, float, float, float, float],
    schedule: NDArray[np.int64],
    columns: list[_Column],
    steps: NDArray[np.int64],
    on_row: _OnRow | None,
    progress: Callable[[int], None] | None,
    num_threads: int,
    form: str = ...,
    state: dict[str, NDArray[Any]] = ...,
    memory: float = ...,
    batches: tuple[int, int] = ...,
) -> tuple[str, int, int, str, int, BaseException | None, dict[str, NDArray[Any]]]: ...
def flow(
    W: _Float,
    a: _Float,
    activation: str,
    slope: float,
    splits: list[_Split],
    objective: tuple[str, bool, float, float],
    balance: NDArray[np.float64],
    method: str,
    options: tuple[float, float, float, float, float, float, float, float, float, float, int, int],
    times: NDArray[np.float64],
    columns: list[_Column],
    state: dict[str, NDArray[Any]] | None,
    on_row: _OnRow | None,
    progress: Callable[[int], None] | None,
    num_threads: int,
    form: str = ...,
    memory: float = ...,
    scales: tuple[NDArray[np.float64], NDArray[np.float64]] | None = ...,
) -> dict[str, Any]: ...
