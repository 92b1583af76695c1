"""Imports the source files of one generation, whatever happens to the directories meanwhile.

The BEAM copies the `.py` files of the agents' directories when a generation begins (`Pyre.Generations.Sources`), so
that each of its interpreters, also one that replaces another hours later, runs the same code. What is imported keeps
its own path: `__file__` and tracebacks are those of the original, and data files beside it are found. Everything that
is no `.py` file (data, extension modules) is taken from the directory itself.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pathlib
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.machinery import ModuleSpec

__all__ = ["Pins"]

SUFFIX = ".py"
# As in Pyre.Generations.Sources, with what begins with a dot.
NOT_COPIED = frozenset({"__pycache__", "node_modules", "site-packages"})


class Pins:
    """Which directories are pinned, and to which copies."""

    def __init__(self, pairs: Iterable[Sequence[str]]) -> None:
        """Take pairs of a directory and its copy."""
        self._copies = {os.path.abspath(original): copy for original, copy in pairs}  # noqa: PTH100  # as sys.path has it

    def install(self) -> None:
        """Import from the copies from now on."""
        if self._copies:
            sys.path_hooks.insert(0, self._finder)
            sys.path_importer_cache.clear()

    def copy_of(self, path: pathlib.Path) -> pathlib.Path:
        """Give the copy of a file or directory, or itself where it is not pinned."""
        for original, copy in self._copies.items():
            if path.is_relative_to(original):
                return pathlib.Path(copy) / path.relative_to(original)
        return path

    def loader(self, name: str, file: pathlib.Path) -> importlib.machinery.SourceFileLoader:
        """Give what imports a file under a name."""
        return _Loader(name, str(file), str(self.copy_of(file)))

    def _finder(self, path: str) -> _Finder:
        directory = pathlib.Path(path)
        if not any(directory.is_relative_to(original) and _is_copied(directory, original) for original in self._copies):
            raise ImportError(f"{path} is not pinned")
        return _Finder(path, self)


def _is_copied(directory: pathlib.Path, original: str) -> bool:
    """Tell whether the BEAM copies such a directory: a virtual environment may lie among the agents."""
    return not any(part.startswith(".") or part in NOT_COPIED for part in directory.relative_to(original).parts)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module that says it comes from `path`, from a copy of it."""

    def __init__(self, name: str, path: str, copy: str) -> None:
        super().__init__(name, path)
        self._copy = copy

    def get_data(self, path: str) -> bytes:
        return super().get_data(self._copy if path == self.path else path)

    # Its bytecode is kept beside the copy. Beside the original, two versions of a file that were written within a
    # second and are equally long would be taken for each other.
    def get_code(self, fullname: str) -> CodeType | None:
        try:
            code = importlib.machinery.SourceFileLoader(fullname, self._copy).get_code(fullname)
        except SyntaxError as exc:
            exc.filename = self.path
            raise
        return code and _renamed(code, self.path)


def _renamed(code: CodeType, path: str) -> CodeType:
    consts = tuple(_renamed(const, path) if isinstance(const, CodeType) else const for const in code.co_consts)
    return code.replace(co_filename=path, co_consts=consts)


class _Finder(importlib.machinery.FileFinder):
    """Finds `.py` files in the copy of a directory, and everything else in the directory."""

    def __init__(self, path: str, pins: Pins) -> None:
        others = (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
        super().__init__(path, others)
        self._directory = pathlib.Path(path)
        self._pins = pins

    def find_spec(self, fullname: str, target: Any = None) -> ModuleSpec | None:  # noqa: ANN401
        name = fullname.rpartition(".")[2]
        package = self._directory / name / f"__init__{SUFFIX}"
        if self._pins.copy_of(package).is_file():
            return self._spec(fullname, package, [str(package.parent)])
        module = self._directory / f"{name}{SUFFIX}"
        if self._pins.copy_of(module).is_file():
            return self._spec(fullname, module, None)
        return super().find_spec(fullname, target)

    def _spec(self, fullname: str, file: pathlib.Path, search: list[str] | None) -> ModuleSpec | None:
        loader = self._pins.loader(fullname, file)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=search)
