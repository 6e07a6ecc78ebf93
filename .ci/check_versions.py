"""Check that every place that names the version of featcore names the same one."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import featcore

version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
cmake = re.search(r"project\(featcore VERSION (\S+)", Path("CMakeLists.txt").read_text())
changes = re.search(r"^## \[?(\d[^\]\s]*)", Path("CHANGELOG.md").read_text(), re.MULTILINE)
found = {
    "pyproject.toml": version,
    "CMakeLists.txt": cmake and cmake[1],
    "CHANGELOG.md": changes and changes[1],
    "build_info()": featcore.build_info()["version"],
    "metadata": importlib.metadata.version("featcore"),
}
print(found)
if set(found.values()) != {version}:
    raise SystemExit("versions differ")
