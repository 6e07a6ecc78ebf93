"""Test helpers of this folder are found here: `from _runs import ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
