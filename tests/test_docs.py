"""What the documentation shows works: docstrings, and the python blocks of the README and docs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import featcore

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(featcore.__path__, "featcore.")
    if not module.name.endswith(("__main__", "._core"))
)
REPOSITORY = Path(__file__).parents[1]
PAGES = [
    path
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("**/*.md")))
    if path.exists()
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("name", ["featcore", *MODULES])
def test_examples_in_docstrings(name, monkeypatch, tmp_path):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not error.name.startswith("featcore"):
            pytest.skip(f"needs {error.name}")
        raise
    monkeypatch.chdir(tmp_path)
    with np.printoptions():
        np.set_printoptions(edgeitems=3, threshold=1000, precision=8, suppress=False, linewidth=75)
        result = doctest.testmod(module)
    assert result.failed == 0
    assert list(tmp_path.iterdir()) == [], "an example leaves files behind"


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    core = (
        "featcore.dynamics.descent",
        "featcore.network",
        "featcore.data.dataset",
        "featcore.storage",
    )
    for name in core:
        tests = finder.find(importlib.import_module(name))
        assert sum(len(test.examples) for test in tests) > 0, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_python_blocks_of_a_page_run_in_order(page, monkeypatch, tmp_path, capsys):
    blocks = BLOCK.findall(page.read_text())
    if not blocks:
        pytest.skip("no python blocks")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for number, block in enumerate(blocks):
        if ">>> " in block:
            test = doctest.DocTestParser().get_doctest(block, names, str(page), str(page), 0)
            runner = doctest.DocTestRunner()
            runner.run(test, clear_globs=False)
            assert runner.failures == 0
            names = test.globs
        else:
            exec(compile(block, f"{page.name}[{number}]", "exec"), names)


def test_every_link_of_the_readme_to_a_file_is_there():
    text = (REPOSITORY / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
        assert (REPOSITORY / target).exists(), target
