"""Print the lower bound of each dependency that pyproject.toml names, as a pip constraint."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["lab"], *extras["test"]]:
    bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)(?:,.*)?", requirement)
    if not bound:
        raise SystemExit(f"{requirement!r} has no lower bound")
    print(f"{bound[1]}=={bound[2]}")
