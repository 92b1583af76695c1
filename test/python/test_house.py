"""Rules that every module of the runtime keeps."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "priv" / "python" / "pyre"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))

# The package lists what it passes on; __main__ is a program, which nobody imports.
OWN = [source for source in SOURCES if source.stem not in {"__init__", "__main__"}]


def _stem(source: Path) -> str:
    return source.stem


def _module_name(source: Path) -> str:
    return ".".join(["pyre", *source.relative_to(PACKAGE).with_suffix("").parts])


@cache
def _tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text())


def _made(source: Path) -> set[str]:
    """Name the classes and functions without an underscore that a module makes at its top level."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    made = {node.name for node in _tree(source).body if isinstance(node, kinds)}
    return {name for name in made if not name.startswith("_")}


def _constants(source: Path) -> set[str]:
    """Name what a module assigns at its top level."""
    assignments = [node for node in _tree(source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    names = [name for node in assignments for name in ast.walk(node) if isinstance(name, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _taken(module: str) -> set[str]:
    """Name what the rest of the package and its tests import from a module."""
    return {
        alias.name
        for source in [*SOURCES, *TESTS]
        for node in ast.walk(_tree(source))
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


@pytest.mark.parametrize("source", OWN, ids=_stem)
def test_all_lists_what_a_module_makes_and_what_others_take_from_it(source: Path) -> None:
    module = importlib.import_module(_module_name(source))
    listed: list[str] = module.__all__
    wanted = _made(source) | _taken(module.__name__)
    assert wanted - set(listed) == set(), "used elsewhere or public by its name, but not listed"
    assert set(listed) - wanted - _constants(source) == set(), "listed, but neither made here nor taken from here"
    assert len(listed) == len(set(listed))


def test_the_package_passes_on_just_what_it_lists() -> None:
    package = importlib.import_module("pyre")
    tree = _tree(PACKAGE / "__init__.py")
    passed_on = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert set(package.__all__) == passed_on


@pytest.mark.parametrize("source", SOURCES, ids=_stem)
def test_every_module_says_what_it_is_for(source: Path) -> None:
    assert ast.get_docstring(_tree(source))


@pytest.mark.parametrize("source", OWN, ids=_stem)
def test_public_modules_import_the_package_by_its_full_name(source: Path) -> None:
    relative = [node for node in ast.walk(_tree(source)) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative


@pytest.mark.parametrize("source", SOURCES, ids=_stem)
def test_nothing_that_is_received_becomes_code(source: Path) -> None:
    tree = _tree(source)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle"} == set()
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    made_of_text = [node for node in called if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}]
    # The writer of a state is made of the names of its class's fields, which Python has accepted as identifiers.
    assert len(made_of_text) == (1 if source.stem == "_state" else 0)


PUBLIC = [source for source in SOURCES if not source.stem.startswith("_")]


def _examples(source: Path) -> list[str]:
    """Give the paragraphs of docstrings that are indented, as code is; drawings and lists are none."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docs = [ast.get_docstring(node) or "" for node in ast.walk(_tree(source)) if isinstance(node, kinds)]
    paragraphs = [part for doc in docs for part in [*doc.split("\n\n"), ""]]
    grouped = itertools.groupby(paragraphs, key=lambda part: part.startswith("    ") and not re.search("[├└│]", part))
    return [textwrap.dedent("\n\n".join(parts)) for is_code, parts in grouped if is_code]


@pytest.mark.parametrize("source", PUBLIC, ids=_stem)
def test_an_example_in_a_docstring_is_python(source: Path) -> None:
    for example in _examples(source):
        assert ast.parse(example, f"{source.name}: {example}").body


def test_there_are_examples() -> None:
    assert sum(len(_examples(source)) for source in PUBLIC) >= 3
