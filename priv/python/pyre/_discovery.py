"""Finds agent classes and resources in directories. Errors are kept and told, never raised.

Runs on the main thread, before the loop does. Each top-level file is a module, as is each folder with an
`__init__.py`. The directory goes to the end of sys.path, so that files may import helpers beside them, and nothing
there can shadow the standard library. A file keeps its plain name where an import of that name would give this very
file; where not (two `watcher.py` in two directories, or a `queue.py`), it gets a name of its own.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pathlib
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from pyre._failure import traceback_text
from pyre._handlers import AgentClass, compile_agent
from pyre._pinned import Pins
from pyre._pools import named_pool
from pyre._resources import opens_type
from pyre.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import ModuleType

    from pyre._pools import Place

__all__ = ["Found", "discover", "find_resources"]

CLASS_PATTERN = re.compile(r"^class\s+(\w+)\s*\([^)]*Agent\b", re.MULTILINE)


@dataclass(slots=True)
class Found:
    """What the directories hold."""

    classes: dict[bytes, AgentClass] = field(default_factory=dict)
    resources: dict[str, Callable[..., Any]] = field(default_factory=dict)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def outline(self) -> dict[str, Any]:
        """Describe it for READY."""
        return {"classes": [kind.outline() for kind in self.classes.values()], "problems": self.problems}

    def add_problem(self, file: pathlib.Path, error: str, traceback: str, classes: list[str]) -> None:
        """Keep what is wrong with a file, and which classes it would have brought."""
        self.problems.append({"file": str(file), "error": error, "traceback": traceback, "classes": classes})


class _Imported(NamedTuple):
    """A file that was imported, the directory that it was found in, and whether what is wrong with it is to be told."""

    file: pathlib.Path
    root: pathlib.Path
    module: ModuleType
    tells: bool


def discover(directories: Iterable[str], pinned: Iterable[Sequence[str]] = (), place: Place | None = None) -> Found:
    """Import all files of the directories, and compile their agent classes; those of one pool, where there is a place.

    `pinned` are pairs of a directory and the copy of its source files that is imported in its place.
    """
    found = Found()
    pins = Pins(pinned)
    pins.install()
    modules = list(_modules(directories, found, pins, place))
    types: dict[Any, str] = {}
    for imported in modules:
        _add_resources(imported, found, types)
    for imported in modules:
        _add_classes(imported, found, types, place)
    return found


def find_resources(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Give the resource functions of a module, also imported ones."""
    for value in vars(module).values():
        name = getattr(value, "__pyre_resource__", None)
        if isinstance(name, str) and inspect.isfunction(value):
            yield name, value


# --- Files ---


def _modules(directories: Iterable[str], found: Found, pins: Pins, place: Place | None) -> Iterator[_Imported]:
    for directory in directories:
        root = pathlib.Path(directory).absolute()
        copy = pins.copy_of(root)
        if not copy.is_dir():
            if place is None or place.tells(root, wanted=None):
                found.add_problem(root, f"no such directory: {root}", "", [])
            continue
        if str(root) not in sys.path:
            sys.path.append(str(root))
        for file in sorted(root / file.relative_to(copy) for file in _files(copy)):
            wanted = True if place is None else place.wants(root, _sources(pins.copy_of(file)))
            if wanted is False:
                continue
            tells = place is None or place.tells(root, wanted=wanted)
            module = _imported(root, file, found if tells else None, pins)
            if module is not None:
                yield _Imported(file, root, module, tells)


def _sources(file: pathlib.Path) -> pathlib.Path:
    return file.parent if file.name == "__init__.py" else file


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
    for entry in root.iterdir():
        if entry.name.startswith((".", "_")):
            continue
        if entry.is_dir():
            entry = entry / "__init__.py"  # noqa: PLW2901
        if entry.suffix == ".py" and entry.is_file():
            yield entry


def _imported(root: pathlib.Path, file: pathlib.Path, found: Found | None, pins: Pins) -> ModuleType | None:
    try:
        return _import(root, file, pins)
    except BaseException as exc:  # noqa: BLE001  # SystemExit at import hurts no other file
        if found is None:
            structlog.get_logger("pyre").info("a shared file is not for this pool", file=str(file), error=_worded(exc))
            return None
        found.add_problem(file, _worded(exc), traceback_text(exc), _guessed_classes(pins.copy_of(file)))
        return None


def _import(root: pathlib.Path, file: pathlib.Path, pins: Pins) -> ModuleType:
    is_package = file.name == "__init__.py"
    plain = file.parent.name if is_package else file.stem
    if _is_importable_as(plain, file):
        return importlib.import_module(plain)
    name = f"{re.sub(r'[^0-9A-Za-z_]', '_', plain)}_{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name,
        file,
        loader=pins.loader(name, file),
        submodule_search_locations=[str(file.parent)] if is_package else None,
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"can't import {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_importable_as(name: str, file: pathlib.Path) -> bool:
    if not name.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and pathlib.Path(spec.origin) == file


def _worded(exc: BaseException) -> str:
    last = traceback_text(exc).strip().rpartition("\n")[2]
    return last or type(exc).__name__


def _guessed_classes(file: pathlib.Path) -> list[str]:
    try:
        source = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return CLASS_PATTERN.findall(source)
    agents = {"Agent"}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(_base_name(base) in agents for base in node.bases):
            agents.add(node.name)
    return sorted(agents - {"Agent"})


def _base_name(base: ast.expr) -> str:
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


# --- What they bring ---


def _add_resources(imported: _Imported, found: Found, types: dict[Any, str]) -> None:
    file = imported.file
    for name, function in find_resources(imported.module):
        known = found.resources.get(name)
        if known is function:
            continue
        if known is not None:
            if imported.tells:
                found.add_problem(file, f"resource {name!r} is also defined in {_file_of(known)}", "", [])
            continue
        try:
            opened = opens_type(function)
        except Exception as exc:  # noqa: BLE001  # a hint may be any expression
            found.add_problem(file, f"resource {name!r}: {_worded(exc)}", traceback_text(exc), [])
            continue
        found.resources[name] = function
        if opened is not None:
            types.setdefault(opened, name)


def _file_of(function: Callable[..., Any]) -> str:
    return function.__code__.co_filename


def _add_classes(imported: _Imported, found: Found, types: dict[Any, str], place: Place | None) -> None:
    file = imported.file
    for kind in _agent_classes(imported.module):
        if not _is_for(place, kind, imported, found):
            continue
        known = found.classes.get(kind.__name__.encode())
        if known is not None:
            found.add_problem(file, f"agent class {kind.__name__} is also defined in {known.file}", "", [])
            continue
        try:
            found.classes[kind.__name__.encode()] = compile_agent(kind, str(file), types)
        except Exception as exc:  # noqa: BLE001  # a hint may be any expression
            found.add_problem(file, _worded(exc), traceback_text(exc), [kind.__name__])


def _is_for(place: Place | None, kind: type[Agent], imported: _Imported, found: Found) -> bool:
    try:
        pool = named_pool(kind)
    except TypeError as exc:
        if imported.tells:
            found.add_problem(imported.file, str(exc), "", [kind.__name__])
        return False
    if place is None:
        return True
    wrong = place.misplaced(imported.root, kind.__name__, pool)
    if wrong is not None:
        found.add_problem(imported.file, wrong, "", [kind.__name__])
        return False
    return place.takes(imported.root, pool)


def _agent_classes(module: ModuleType) -> list[type[Agent]]:
    prefix = f"{module.__name__}."
    return [
        value
        for value in dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
        if issubclass(value, Agent)
        and value is not Agent
        and (value.__module__ == module.__name__ or value.__module__.startswith(prefix))
    ]
