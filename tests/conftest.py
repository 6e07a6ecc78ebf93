"""Shared by all tests: the Hypothesis profile, and where test helpers are found."""

import os
import signal
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# --import-mode=importlib leaves sys.path alone: `from _strategies import ...` finds core/_strategies.py.
sys.path.insert(0, str(Path(__file__).parent / "core"))

_common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("dev", **_common)
# A failure in CI must be the same on the next run, and on one's own machine.
settings.register_profile("ci", **_common, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# A shell that starts the tests in the background has SIGINT ignored, and Python then keeps it so.
signal.signal(signal.SIGINT, signal.default_int_handler)
