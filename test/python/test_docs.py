"""What the README and the guides show in Python, and as configuration, is what it claims to be: it runs."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs_page import ROOT, Block, blocks, files, pages
from pyre._discovery import discover
from pyre.ctl import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCKS = [(page, block) for page in pages() for block in blocks(page)]
PYTHON = [(page, block) for page, block in BLOCKS if block.language == "python"]
TESTS = [(page, block) for page, block in PYTHON if block.is_test]
CONFIGURATION = [(page, block) for page, block in BLOCKS if block.language in {"toml", "ini", "dockerfile"}]
# What an example's page shows goes on from the example's own files, which have tests of their own.
OF_EXAMPLES = [
    (page, block)
    for page in ROOT.glob("priv/python/examples/*/README.md")
    for block in blocks(page)
    if block.language == "python"
]
WITH_FILES = [page for page in pages() if files(page)]


def _name(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value.line) if isinstance(value, Block) else ""


@pytest.fixture(autouse=True)
def _restored_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _written(page: Path, directory: Path) -> Path:
    for name, source in files(page).items():
        (directory / name).write_text(source)
    return directory


def test_there_are_some() -> None:
    assert len(PYTHON) >= 12
    assert len(TESTS) >= 3
    assert len(WITH_FILES) >= 5


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=_name)
def test_a_block_of_python_is_a_test_or_a_part_of_a_file(page: Path, block: Block) -> None:
    tree = ast.parse(block.text, f"{page.name}:{block.line}")
    assert tree.body
    assert block.is_test or block.classes, "it is in no file, so nothing runs it"


@pytest.mark.parametrize(("page", "block"), OF_EXAMPLES, ids=_name)
def test_a_block_of_an_example_is_python(page: Path, block: Block) -> None:
    assert ast.parse(block.text, f"{page}:{block.line}").body


@pytest.mark.parametrize("page", WITH_FILES, ids=_name)
def test_the_files_of_a_page_are_imported_without_a_problem(page: Path, tmp_path: Path) -> None:
    found = discover([str(_written(page, tmp_path))])
    assert found.problems == []
    assert found.classes


def test_every_command_of_an_operator_is_in_the_guide() -> None:
    guide = (ROOT / "docs/guides/operations.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}" not in guide] == []


@pytest.mark.parametrize(("page", "block"), TESTS, ids=_name)
def test_the_tests_of_a_page_pass(page: Path, block: Block, tmp_path: Path) -> None:
    sys.path.insert(0, str(_written(page, tmp_path)))
    path = tmp_path / "shown_tests.py"
    path.write_text(block.text)
    spec = importlib.util.spec_from_file_location("shown_tests", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = [function for name, function in vars(module).items() if name.startswith("test_")]
    assert shown
    for function in shown:
        assert not inspect.signature(function).parameters, "a test with fixtures needs pytest itself"
        function()


@pytest.mark.parametrize(("page", "block"), CONFIGURATION, ids=_name)
def test_configuration_parses(page: Path, block: Block) -> None:
    assert page.suffix == ".md"
    if block.language == "toml":
        assert tomllib.loads(block.text)
    elif block.language == "ini":
        # As systemd reads it: keys may be there more than once, and have no value.
        parser = configparser.ConfigParser(strict=False, allow_no_value=True, interpolation=None)
        parser.read_string(block.text)
        assert parser.sections()
    else:
        hadolint = Path(sys.executable).with_name("hadolint")
        done = subprocess.run([hadolint, "-"], input=block.text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout
