"""Which agent classes an interpreter is for, where an instance has several pools of workers.

A class names its pool (`pool = "ml"`), or is in the pool of its directory. What a file needs may be installed for one
pool only, so where the source says that a file is for other pools, it is not even imported.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Collection, Iterator

    from pyre.agent import Agent

__all__ = ["DEFAULT", "Place", "agent_classes", "named_pool"]

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """The pool of this interpreter among those of its instance, and the directories that only this pool looks at."""

    pool: str
    pools: tuple[str, ...]
    own: tuple[str, ...]

    def is_own(self, root: pathlib.Path) -> bool:
        """Tell whether a directory is this pool's alone."""
        return str(root) in self.own

    def wants(self, root: pathlib.Path, sources: pathlib.Path) -> bool | None:
        """Tell whether a file, or a folder of them, brings classes for this pool; None where the source doesn't say."""
        if self.is_own(root):
            return True
        if self.pools == (DEFAULT,):
            return None
        named = {pool or DEFAULT for pool in agent_classes(sources, self.pools).values()}
        if not named:
            return None
        # What names a pool that there isn't is for the default one to tell.
        return bool(named - (set(self.pools) - {DEFAULT})) if self.pool == DEFAULT else self.pool in named

    def tells(self, root: pathlib.Path, *, wanted: bool | None) -> bool:
        """Tell whether what is wrong with a file is for this interpreter to say: of shared ones one pool is enough."""
        return wanted is True or self.pool == DEFAULT or self.is_own(root)

    def takes(self, root: pathlib.Path, pool: str | None) -> bool:
        """Tell whether a class that names this pool, or none, is for this interpreter."""
        return self.is_own(root) or (pool or DEFAULT) == self.pool

    def misplaced(self, root: pathlib.Path, name: str, pool: str | None) -> str | None:
        """Say what is wrong with the pool that a class names, where that is for this interpreter to say."""
        if self.is_own(root):
            if pool in (None, self.pool):
                return None
            return (
                f"agent class {name} names the pool {pool!r}, but {root} belongs to the pool {self.pool!r}; "
                "leave the pool out, or move the file"
            )
        if self.pool != DEFAULT or pool is None or pool in self.pools:
            return None
        close = difflib.get_close_matches(pool, self.pools, n=1)
        hint = f", did you mean {close[0]!r}?" if close else f"; the pools are: {', '.join(self.pools)}"
        return f"agent class {name} names the pool {pool!r}, which is not configured{hint}"


def named_pool(kind: type[Agent]) -> str | None:
    """Give the pool that a class names; raises TypeError for what is no name."""
    given: object = kind.pool
    if given is not None and (not isinstance(given, str) or not given):
        raise TypeError(f'{kind.__name__}: pool must be the name of a pool, such as "ml", got {given!r:.100}')
    return given


def agent_classes(sources: pathlib.Path, pools: Collection[str]) -> dict[str, str | None]:
    """Read from a file, or from all of a folder, which agent classes are there, with the pool that each names."""
    files = sorted(sources.rglob("*.py")) if sources.is_dir() else [sources]
    found: dict[str, str | None] = {}
    for file in files:
        try:
            tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        found.update(_classes(tree, pools))
    return found


def _classes(tree: ast.Module, pools: Collection[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {"Agent": None}
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = [name for name in map(_name, node.bases) if name in found]
        named = next(_pools(node), None)
        # Another file's base may be an agent: who names a pool that there is says so.
        if bases or (node.bases and named in pools):
            found[node.name] = named or found[bases[0]]
    del found["Agent"]
    return found


def _pools(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.Assign):
            targets = line.targets
        elif isinstance(line, ast.AnnAssign):
            targets = [line.target]
        else:
            continue
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if "pool" in names and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str):
            yield line.value.value


def _name(base: ast.expr) -> str:
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
