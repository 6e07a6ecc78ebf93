"""How fast a step of gradient descent is: against the multiply-add rate of the machine, and against its peers.

`measure` compares shape by shape, `growth` tells how the cost grows with n, d, m and threads, `fma_rate` is what both
are held against. docs/benchmarks.md explains how to read the results; `featcore bench` is the same on the command line.
"""

from featcore.benchmark.comparison import DisagreementError, fma_rate, measure
from featcore.benchmark.problem import DTYPES, QUICK_SHAPES, SHAPES, Shape
from featcore.benchmark.report import Growth, Peer, Report, Result, Series
from featcore.benchmark.runners import PEERS
from featcore.benchmark.scaling import GROWTH_BASES, growth

__all__ = [
    "DTYPES",
    "GROWTH_BASES",
    "PEERS",
    "QUICK_SHAPES",
    "SHAPES",
    "DisagreementError",
    "Growth",
    "Peer",
    "Report",
    "Result",
    "Series",
    "Shape",
    "fma_rate",
    "growth",
    "measure",
]
