"""The Python in the README and the guides is what it claims to be."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyre._discovery import discover

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *ROOT.glob("priv/python/examples/*/README.md"),
]
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, number, block) for page in PAGES for number, block in enumerate(FENCE.findall(page.read_text()), start=1)
]
# What a block goes on from, where an earlier one of its page has the imports.
GIVEN = "from pyre import Agent, Context, handler\n"
AGENTS = [(page, number, block) for page, number, block in BLOCKS if "(Agent)" in block]


def _name(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value) if isinstance(value, int) else ""


@pytest.fixture(autouse=True)
def _restored_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_there_are_some() -> None:
    assert len(AGENTS) >= 5


@pytest.mark.parametrize(("page", "number", "block"), BLOCKS, ids=_name)
def test_a_block_is_python(page: Path, number: int, block: str) -> None:
    # Where a page shows methods alone, they are indented as they stand in their class.
    ast.parse(textwrap.dedent(block), f"{page.name}, block {number}")


@pytest.mark.parametrize(("page", "number", "block"), AGENTS, ids=_name)
def test_a_block_with_agents_is_imported_without_a_problem(page: Path, number: int, block: str, tmp_path: Path) -> None:
    (tmp_path / f"docs_{page.stem.replace('-', '_')}_{number}.py").write_text(
        block if "import" in block else GIVEN + block
    )
    found = discover([str(tmp_path)])
    assert found.problems == []
    assert found.classes
