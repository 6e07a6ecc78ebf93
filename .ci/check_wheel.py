"""Check what is inside a wheel: it must run on any CPU of its kind and bring nothing along."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ALLOWED = {"libgomp", "libstdc++", "libm", "libgcc_s", "libc", "libpthread", "ld-linux-x86-64"}


def output_of(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_module(path: Path) -> None:
    """Check one compiled module."""
    needed = {
        line.split()[1].split(".so")[0]
        for line in output_of("objdump", "-p", str(path)).splitlines()
        if "NEEDED" in line
    }
    if needed - ALLOWED:
        raise SystemExit(f"{path.name} links {needed - ALLOWED}")
    exported = [
        line.split()[-1] for line in output_of("nm", "-D", "--defined-only", str(path)).splitlines()
    ]
    if exported != [f"PyInit_{path.name.split('.')[0]}"]:
        raise SystemExit(f"{path.name} shows {exported}")
    if path.name.startswith(("_core_v3", "_core_v4")):  # chosen at import on CPUs that have it
        print(f"{path.name}: {path.stat().st_size // 1024} KiB, links {sorted(needed)}")
        return
    assembly = output_of("objdump", "-d", "--no-show-raw-insn", str(path))
    wide = [line for line in assembly.splitlines() if "%ymm" in line or "%zmm" in line]
    if wide:
        raise SystemExit(f"{path.name} needs AVX: {wide[0]}")
    print(f"{path.name}: {path.stat().st_size // 1024} KiB, links {sorted(needed)}, no AVX")


names = []
with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(sys.argv[1]) as wheel:
    names = wheel.namelist()
    for name in names:
        if name.endswith(".so"):
            check_module(Path(wheel.extract(name, folder)))
for wanted in ("featcore/py.typed", "featcore/_core.pyi", "featcore/report/report.html.j2"):
    if wanted not in names:
        raise SystemExit(f"{wanted} is missing")
strays = [name for name in names if not name.startswith(("featcore/", "featcore-"))]
if strays or not any(name.endswith(".so") for name in names):
    raise SystemExit(f"unexpected contents: {strays or names}")
print(f"{len(names)} files, all in place")
