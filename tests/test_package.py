"""The package as a whole: what an import costs, what is public, and that imports run downwards."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import featcore as fc

PACKAGE = Path(fc.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
HEAVY = (
    "pandas",
    "xarray",
    "matplotlib",
    "sklearn",
    "scipy",
    "h5py",
    "h5netcdf",
    "jinja2",
    "pydantic",
    "typer",
    "rich",
    "tqdm",
    "torch",
    "jax",
)

# Ground floor first: a module may import those of the floors below it and of its own.
FLOORS = (
    ("_core",),
    ("_validation", "_dispatch", "_progress", "_seeds"),
    ("activations", "losses", "regression"),
    ("network",),
    ("data",),
    ("reference",),
    ("observables",),
    ("dynamics",),
    ("storage",),
    ("sweep",),
    ("__init__",),  # the public face: what lies above it is loaded when somebody enters
    ("theory",),
    ("baselines",),
    ("report", "experiments"),
    ("benchmark",),
    ("interop",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
# (module, room above it) that a function imports when it is called: shortcuts for the user.
SHORTCUTS = {
    ("network", "dynamics"),  # net(x)
    ("dynamics.run", "storage"),  # run.save(path)
}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path):
    """Yield (line, imported room, whether at load time) for imports from within the package."""
    tree = ast.parse(path.read_text())
    typing_only, deferred = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only |= {id(child) for child in ast.walk(node)}
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            deferred |= {id(child) for child in ast.walk(node)} - {id(node)}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            if node.module == "featcore":
                names = [alias.name for alias in node.names]
            elif (node.module or "").startswith("featcore."):
                names = [node.module.split(".")[1]]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "featcore":
                    names.append("__init__")
                elif alias.name.startswith("featcore."):
                    names.append(alias.name.split(".")[1])
        for name in names:
            # A name that is no room, such as `from featcore import Dataset`, is taken from the public face.
            yield node.lineno, name if name in LEVEL else "__init__", id(node) not in deferred


def python(code):
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**__import__("os").environ, "PYTHONPATH": str(PACKAGE.parent)},
    )
    return json.loads(result.stdout)


# --- imports


def test_importing_loads_nothing_heavy():
    loaded = python(
        "import sys, json, featcore\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    assert "featcore" in loaded
    assert "numpy" in loaded
    assert not set(HEAVY) & set(loaded)


def test_a_descent_loads_nothing_heavy_until_its_history_is_looked_at():
    code = """
import sys, json
import featcore as fc
data = fc.data.xor_clusters(n=20, d=3, cluster_std=0.1, seed=0)
net = fc.TwoLayerNet.gaussian(width=4, dim=3, scale=0.1)
run = fc.descend(net, data, step_size=0.1, steps=3)
before = sorted({name.split(".")[0] for name in sys.modules})
run.history
after = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps([before, after]))
"""
    before, after = python(code)
    assert not set(HEAVY) & set(before)
    assert "xarray" in after


def test_every_module_has_a_floor():
    rooms = {module_name(path).split(".")[0] for path in SOURCES}
    assert rooms <= set(LEVEL), "add the new room to FLOORS, and to the design"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_downwards(path):
    module = module_name(path)
    room = module.split(".")[0]
    for line, target, at_load in imports(path):
        where = f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        if (module, target) in SHORTCUTS:
            assert not at_load, f"{where} when loaded; only a function may"
            continue
        assert LEVEL[target] <= LEVEL[room], f"{where}, which is above it"


@pytest.mark.parametrize(
    "name", sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "featcore."))
)
def test_every_module_loads_by_itself(name):
    # In a process of its own no other import hides a cycle; one process for all would.
    if name in ("featcore.__main__",):
        pytest.skip("runs the command line")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("featcore"):
            pytest.skip(f"needs {error.name}")
        raise


def test_no_room_needs_another_to_be_loaded_first():
    rooms = ["network", "observables", "dynamics", "storage", "data", "reference", "losses"]
    for room in rooms:
        assert python(f"import featcore.{room}, json; print(json.dumps(True))")


# --- names


def test_every_public_name_is_there():
    assert len(set(fc.__all__)) == len(fc.__all__)
    for name in fc.__all__:
        assert getattr(fc, name) is not None
    assert set(fc.__all__) <= set(dir(fc))
    with pytest.raises(AttributeError, match="nonsense"):
        fc.nonsense  # noqa: B018


def test_all_of_every_module_is_there():
    for path in SOURCES:
        name = module_name(path)
        if name == "__main__":
            continue
        try:
            module = importlib.import_module(
                "featcore" if name == "__init__" else f"featcore.{name}"
            )
        except ModuleNotFoundError:
            continue
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


def test_the_version_is_one():
    assert fc.__version__ == fc.build_info()["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", fc.__version__)
    try:
        installed = importlib.metadata.version("featcore")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("featcore is not installed")
    assert installed == fc.__version__


def public_functions():
    """Return (qualified name, object) of all that a user can call by a public path."""
    found = {}
    modules = [fc, fc.data, fc.observables, fc.losses, fc.reference, fc.theory, fc.baselines]
    for module in modules:
        for name, value in vars(module).items():
            if name.startswith("_") or not getattr(value, "__module__", "").startswith("featcore"):
                continue
            if getattr(module, "__all__", None) and name not in module.__all__:
                continue
            if inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
            elif inspect.isclass(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
                for attribute, member in vars(value).items():
                    target = getattr(member, "__func__", member)
                    if not attribute.startswith("_") and inspect.isfunction(target):
                        found[f"{value.__module__}.{target.__qualname__}"] = target
    return found


PUBLIC = public_functions()
SECTIONS = (
    "Parameters",
    "Returns",
    "Raises",
    "Notes",
    "Examples",
    "References",
    "Attributes",
    "See Also",
)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_a_numpydoc_docstring(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text, "no docstring"
    summary = text.splitlines()[0]
    assert summary[-1] in ".:,;…" or len(text.splitlines()) > 1, "a summary is a sentence"
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if set(lines[number + 1]) == {"-"}:
            assert line in SECTIONS, f"{line!r} is no section of numpydoc"
            assert len(lines[number + 1]) == len(line), f"underline of {line!r}"


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, value in PUBLIC.items()
        if inspect.isfunction(value) and value in [getattr(fc, n) for n in fc.__all__]
    ),
)
def test_the_functions_at_the_top_explain_themselves_by_example(name):
    function = PUBLIC[name]
    text = inspect.getdoc(function)
    assert ">>> " in text
    takes = inspect.signature(function).parameters
    if len(takes) > 1:
        described = text.split("Parameters\n", 1)[-1]
        for parameter in takes:
            assert re.search(rf"^(.*, )?(\*\*)?{parameter}(, .*)?( :|$)", described, re.M), (
                parameter
            )


# --- what must not be in the sources


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_nothing_is_pickled_anywhere(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle":
                    assert ast.unparse(keyword.value) == "False"
            names = [ast.unparse(node.func)]
        for name in names:
            assert name.split(".")[0] not in ("pickle", "cloudpickle", "dill", "joblib", "shelve")
            assert name not in ("eval", "exec", "np.random.seed", "numpy.random.seed")


def test_there_are_no_paths_of_one_machine():
    repository = PACKAGE.parent.parent
    places = [PACKAGE, *(repository / name for name in ("cpp", "tests", "docs", "bench"))]
    endings = {".py", ".pyi", ".hpp", ".cpp", ".txt", ".toml", ".md", ".j2", ".json"}
    local = re.compile(r"(?<![\w.])/(home|Users|work|root|mnt|tmp/\w+)/")
    for place in places:
        for path in place.rglob("*") if place.is_dir() else ():
            if path.suffix in endings and path != Path(__file__):
                for number, line in enumerate(path.read_text().splitlines(), 1):
                    assert not local.search(line), f"{path.name}:{number}: {line.strip()}"


def test_the_package_is_typed_and_the_stub_is_that_of_the_core():
    assert (PACKAGE / "py.typed").exists()
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    declared = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    core = importlib.import_module("featcore._core")
    compiled = {
        name for name in vars(core) if not name.startswith("_") and callable(vars(core)[name])
    }
    assert declared == compiled
