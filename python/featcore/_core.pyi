from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

_Float = NDArray[np.float64] | NDArray[np.float32]
_Split = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]
# (name, slope, offset, Hermite coefficients)
_Activation = tuple[str, float, float, tuple[float, ...]]
# (row, position, W, a, exponents)
_Progress = Callable[[int], None] | None
_OnRow = Callable[[int, int, NDArray[Any], NDArray[Any], NDArray[np.int64] | None], None]
_Column = tuple[str, NDArray[np.float64] | None, int, bool, list[int], NDArray[np.float64]]

def build_info() -> dict[str, Any]: ...
def cpu_levels() -> list[str]: ...
def fma_rate(dtype: str, num_threads: int, seconds: float) -> float: ...
def observables() -> list[tuple[str, str, bool, bool]]: ...
def balance(W: _Float, a: _Float) -> NDArray[np.float64]: ...
def outputs(
    W: _Float, a: _Float, activation: _Activation, x: _Float, num_threads: int
) -> NDArray[Any]: ...
def features(
    W: _Float,
    a: _Float,
    activation: _Activation,
    x: _Float,
    num_threads: int,
    progress: _Progress = None,
) -> NDArray[Any]: ...
def one_step(
    W: _Float,
    a: _Float,
    activation: _Activation,
    split: _Split,
    full: bool,
    step_size: float,
    num_threads: int,
    progress: _Progress = None,
) -> NDArray[Any]: ...
def second_moments(
    F: _Float, of_columns: bool, num_threads: int, progress: _Progress = None
) -> NDArray[np.float64]: ...
def feature_products(
    F: _Float, C: NDArray[np.float64], of_samples: bool, num_threads: int
) -> NDArray[np.float64]: ...
def shifted_solves(
    G: NDArray[np.float64],
    shifts: NDArray[np.float64],
    right: NDArray[np.float64],
    num_threads: int,
    progress: _Progress = None,
) -> NDArray[np.float64] | None: ...
def loss_and_grad(
    W: _Float,
    a: _Float,
    activation: _Activation,
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
    activation: _Activation,
    splits: list[_Split],
    objective: tuple[str, bool, float, float],
    balance: NDArray[np.float64],
    options: tuple[float, int, int, float, float, float, float, float],
    schedule: NDArray[np.int64],
    columns: list[_Column],
    steps: NDArray[np.int64],
    on_row: _OnRow | None,
    progress: _Progress,
    num_threads: int,
    form: str = ...,
    state: dict[str, NDArray[Any]] = ...,
    memory: float = ...,
    batches: tuple[int, int] = ...,
) -> tuple[str, int, int, str, int, BaseException | None, dict[str, NDArray[Any]]]: ...
def flow(
    W: _Float,
    a: _Float,
    activation: _Activation,
    splits: list[_Split],
    objective: tuple[str, bool, float, float],
    balance: NDArray[np.float64],
    method: str,
    options: tuple[float, float, float, float, float, float, float, float, float, float, int, int],
    times: NDArray[np.float64],
    columns: list[_Column],
    state: dict[str, NDArray[Any]] | None,
    on_row: _OnRow | None,
    progress: _Progress,
    num_threads: int,
    form: str = ...,
    memory: float = ...,
    scales: tuple[NDArray[np.float64], NDArray[np.float64]] | None = ...,
) -> dict[str, Any]: ...
