"""Deeper networks on one class (figure 4): theory against networks of N scalars, which are integrated here.

featcore's own networks have two layers; those of this part are N numbers a class, as the paper's diagonal deep nets
reduce to, and are integrated by scipy from their own N equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featcore.experiments.claims import Claim
from featcore.experiments.modes.settings import Settings
from featcore.experiments.part import Part, judged
from featcore.experiments.protocol import Figure, Progress
from featcore.theory import modes as theory

if TYPE_CHECKING:
    import matplotlib.figure
    import xarray as xr

FIGURE_4 = ((4, 0.1), (4, 0.5), (8, 0.1))
"""Layers and length of the class's vector."""
FIGURE_4_START = 0.1
"""Logit at the start, which the paper does not say: with it its curves are met."""
FIGURE_4_ENDS = (1.704, 4.695, 6.092)
FIGURE_4_TIME = 10.0
EQUAL_WEIGHTS = 0.1
"""Of every layer, where networks of several depths start from equal weights and not from equal outputs."""
HINGE_TIMES = {2: 2.302585092994046, 3: 9.0, 4: 49.5}
