"""The code blocks of a page, and the files that a reader who follows the page ends up with.

`python docs_page.py PAGE LINE DIRECTORY` writes the files that a reader has by that line, for
test/integration/docs_blocks_test.exs, which starts real agents from them.

A block of Python that imports something begins a file, named after its first class; one without an import goes on in
that file. A class whose body begins with `...` adds to the class of that name.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "blocks", "files", "pages"]

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and the line on which it begins."""

    language: str
    text: str
    line: int

    @property
    def is_test(self) -> bool:
        """Tell whether it is a file of tests, which a reader runs with pytest."""
        return self.language == "python" and re.search(r"^def test_", self.text, re.MULTILINE) is not None

    @property
    def classes(self) -> list[str]:
        """Name the classes that it defines or adds to, in order."""
        return [node.name for node in ast.parse(self.text).body if isinstance(node, ast.ClassDef)]


def pages() -> list[Path]:
    """Give the pages whose blocks are run."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs" / "guides").glob("*.md")),
    ]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    return [Block(found[1].strip(), found[2], text.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(text)]


def files(page: Path, before_line: int | None = None) -> dict[str, str]:
    """Give the Python files that the page has its reader write, by name: all, or those that come before a line."""
    made: dict[str, str] = {}
    latest = ""
    for block in blocks(page):
        if block.language != "python" or block.is_test or not block.classes:
            continue
        if before_line and block.line >= before_line:
            break
        if re.search(r"^(from|import) ", block.text, re.MULTILINE):
            latest = _file_name(block.classes[0])
            made[latest] = block.text
        elif not latest:
            raise ValueError(f"{page.name}:{block.line} goes on from a file that no block begins")
        else:
            _go_on(made, latest, block)
    return made


def _file_name(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower() + ".py"


def _go_on(made: dict[str, str], latest: str, block: Block) -> None:
    node = next(node for node in ast.parse(block.text).body if isinstance(node, ast.ClassDef))
    if not _adds(node):
        made[latest] += f"\n\n{block.text}"
        return
    addition = block.text.splitlines()[node.body[0].lineno :]
    for name, text in made.items():
        for known in ast.parse(text).body:
            if isinstance(known, ast.ClassDef) and known.name == node.name and known.end_lineno:
                lines = text.splitlines()
                made[name] = "\n".join([*lines[: known.end_lineno], *addition, *lines[known.end_lineno :]]) + "\n"
                return
    raise ValueError(f"line {block.line} adds to {node.name}, which no earlier block defines")


def _adds(node: ast.ClassDef) -> bool:
    first = node.body[0]
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.value.value is ...


if __name__ == "__main__":
    for file_name, source in files(Path(sys.argv[1]), int(sys.argv[2])).items():
        (Path(sys.argv[3]) / file_name).write_text(source)
