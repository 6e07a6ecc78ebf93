"""What is timed: mean logistic loss of a two-layer ReLU network on random data, a shape and a dtype."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcore import Dataset, TwoLayerNet
from featcore._validation import integer

DTYPES = ("float32", "float64")

# x and (W, a) have rows and norms near 1, so that three steps of this size move the weights by about a hundredth of
# their norm, at any shape: far enough to see a wrong gradient, and with few kinks to be crossed.
STEP_SIZE = 0.3


@dataclass(frozen=True, order=True)
class Shape:
    """Samples, inputs and neurons of a problem.

    Parameters
    ----------
    n, d, m : int
        At least 1.

    Examples
    --------
    >>> from featcore.benchmark import Shape
    >>> print(Shape(1000, 50, 200), Shape.parse("1000,50,200").flops)
    1000, 50, 200 40000000
    """

    n: int
    d: int
    m: int

    def __post_init__(self) -> None:
        for name in ("n", "d", "m"):
            integer(name, getattr(self, name), least=1)

    def __str__(self) -> str:
        return f"{self.n}, {self.d}, {self.m}"

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Return the shape that `text` says as "n,d,m".

        Raises
        ------
        ValueError
            For anything but three positive integers.
        """
        try:
            n, d, m = (int(part) for part in text.split(","))
            return cls(n, d, m)
        except ValueError:
            raise ValueError(
                f"{text!r} must be n,d,m: three positive integers, such as 1000,50,200"
            ) from None

    @property
    def flops(self) -> int:
        """Floating-point operations of a full gradient, 4·n·m·d: two products of matrices."""
        return 4 * self.n * self.m * self.d


SHAPES = (
    Shape(100, 20, 100),
    Shape(300, 2, 500),
    Shape(1000, 50, 200),
    Shape(1000, 100, 4096),
    Shape(2000, 500, 4096),
    Shape(2115, 784, 1000),
    Shape(1000, 10, 16384),
    Shape(100, 2, 100000),
    Shape(200, 20000, 500),
)
"""What `measure` measures by default: small, dense, wide, and with far more inputs than samples."""

QUICK_SHAPES = (Shape(100, 20, 100), Shape(1000, 50, 200), Shape(1000, 100, 1024))
"""Those of `featcore bench --quick`."""


@dataclass(frozen=True)
class Problem:
    """A shape with a dtype; the same arrays in every process."""

    shape: Shape
    dtype: str

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"

    @property
    def memory(self) -> int:
        """Bytes that featcore takes for it at least: making the arrays, or a run in the primal form."""
        n, d, m = self.shape.n, self.shape.d, self.shape.m
        size = np.dtype(self.dtype).itemsize
        arrays = size * (n * d + m * d)
        return arrays + max(2 * 8 * max(n, m) * d, 4 * size * m * d + n * m // 8)

    def make(self) -> tuple[Dataset, TwoLayerNet]:
        """Return the data, with labels that are coin flips, and the network at the start."""
        n, d, m = self.shape.n, self.shape.d, self.shape.m
        rng = np.random.default_rng(0)
        x = (rng.standard_normal((n, d)) / np.sqrt(d)).astype(self.dtype)
        y = rng.choice([-1.0, 1.0], n).astype(self.dtype)
        net = TwoLayerNet.gaussian(m, d, scale=(m * d) ** -0.5, dtype=self.dtype)
        return Dataset(x, y), net
