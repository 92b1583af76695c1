"""What is found in directories, and what is said of the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pyre._discovery import discover

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

AGENT = "from pyre import Agent, Context, handler, resource\nclass {name}(Agent):\n    pass\n"


@pytest.fixture(autouse=True)
def _restored_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_hooks", list(sys.path_hooks))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(folders: list[pathlib.Path]) -> tuple[list[str], list[str]]:
    """Give the classes that were found, and the errors."""
    found = discover([str(folder) for folder in folders])
    return sorted(name.decode() for name in found.classes), [problem["error"] for problem in found.problems]


def test_files_and_packages_are_found_and_hidden_ones_are_not(tmp_path: pathlib.Path) -> None:
    for place, name in [("one.py", "One"), ("two/__init__.py", "Two"), ("_no.py", "No"), (".no.py", "No")]:
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text(AGENT.format(name=name))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "three.py").write_text(AGENT.format(name="Three"))
    assert names([tmp_path]) == (["One", "Two"], [])


def test_a_file_may_import_a_helper_beside_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "_helping.py").write_text("VALUE = 1\n")
    (tmp_path / "helped.py").write_text("from _helping import VALUE\n" + AGENT.format(name="Helped"))
    assert names([tmp_path]) == (["Helped"], [])


def test_files_of_one_name_in_two_directories_are_two_modules(tmp_path: pathlib.Path) -> None:
    folders = []
    for name in ("One", "Two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "same.py").write_text(AGENT.format(name=name))
        folders.append(folder)
    assert names(folders) == (["One", "Two"], [])


def test_a_file_named_like_a_standard_module_replaces_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "queue.py").write_text(AGENT.format(name="Queue"))
    (tmp_path / "user.py").write_text("import queue\nqueue.SimpleQueue()\n" + AGENT.format(name="User"))
    assert names([tmp_path]) == (["Queue", "User"], [])


def test_what_a_handler_returns_and_its_context_may_be_imported_for_type_checkers_alone(tmp_path: pathlib.Path) -> None:
    source = (
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nfrom pyre import Agent, handler\n"
        "if TYPE_CHECKING:\n    from collections.abc import AsyncIterator\n    from pyre import Context\n"
        "class Typed(Agent):\n    @handler\n    async def count(self, ctx: Context, n: {hint}) -> AsyncIterator[int]:\n"
        "        yield n\n"
    )
    (tmp_path / "typed.py").write_text(source.format(hint="int"))
    assert names([tmp_path]) == (["Typed"], [])
    # An argument's type is needed: it is what arguments are checked against.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "untyped.py").write_text(source.format(hint="AsyncIterator"))
    [error] = names([tmp_path / "other"])[1]
    assert "Typed.count: name 'AsyncIterator' is not defined" in error


def test_a_class_counts_where_it_is_defined_only(tmp_path: pathlib.Path) -> None:
    (tmp_path / "base_file.py").write_text(AGENT.format(name="Base"))
    (tmp_path / "derived_file.py").write_text("from base_file import Base\nclass Derived(Base):\n    pass\n")
    assert names([tmp_path]) == (["Base", "Derived"], [])


def test_a_name_that_is_taken_names_both_files(tmp_path: pathlib.Path) -> None:
    (tmp_path / "first.py").write_text(AGENT.format(name="Same"))
    (tmp_path / "second.py").write_text(AGENT.format(name="Same"))
    found = discover([str(tmp_path)])
    (problem,) = found.problems
    assert problem["file"] == str(tmp_path / "second.py")
    assert str(tmp_path / "first.py") in problem["error"]


def test_a_directory_that_isnt_there_is_told(tmp_path: pathlib.Path) -> None:
    assert names([tmp_path / "gone"]) == ([], [f"no such directory: {tmp_path / 'gone'}"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("    @handler\n    async def go(self, n: Missing): pass\n", "Bad.go: name 'Missing' is not defined"),
        ("    @handler\n    async def go(self, n: type): pass\n", "Bad.go: parameter 'n'"),
        ("    @handler\n    async def go(self, *args): pass\n", "Bad.go: parameter 'args'"),
        ("    async def on_start(self, ctx):\n        yield 1\n", "Bad.on_start: nobody would read what a hook yields"),
        (
            "    @handler(idempotent=True)\n    async def go(self):\n        yield 1\n",
            "Bad.go: a stream is never run again",
        ),
        ("    class State:\n        n: Missing\n", "Bad.State: name 'Missing' is not defined"),
        ("    autostart = 3\n", "Bad.autostart must be"),
    ],
)
def test_a_class_that_cant_be_offered_is_told_with_the_place(tmp_path: pathlib.Path, body: str, words: str) -> None:
    source = "from __future__ import annotations\n" + AGENT.format(name="Bad") + body
    (tmp_path / "bad.py").write_text(source)
    (tmp_path / "good.py").write_text(AGENT.format(name="Good"))
    found = discover([str(tmp_path)])
    (problem,) = found.problems
    assert words in problem["error"]
    assert problem["classes"] == ["Bad"]
    assert list(found.classes) == [b"Good"]


def test_a_mutable_default_is_each_agents_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "keeper.py").write_text(
        AGENT.format(name="Keeper") + "    class State:\n        seen: list[str] = []\n"
    )
    state = discover([str(tmp_path)]).classes[b"Keeper"].state
    first = state.start(b"")
    first.seen.append("a")
    assert state.start(b"").seen == []
    with pytest.raises(AttributeError):
        first.sene = []


@pytest.mark.parametrize(
    "source",
    [
        "from dataclasses import dataclass\n@dataclass\nclass Form:\n    n: int\n    m: float = 0.5\n",
        "import msgspec\nclass Form(msgspec.Struct):\n    n: int\n    m: float = 0.5\n",
        "import pydantic\nclass Form(pydantic.BaseModel):\n    n: int\n    m: float = 0.5\n",
        "class Base(Agent):\n    class State:\n        n: int\nclass Form(Base.State):\n    m: float = 0.5\n",
    ],
)
def test_every_form_of_state_is_made_written_and_read(tmp_path: pathlib.Path, source: str) -> None:
    kept = "class Kept(Agent):\n    State = Form\n"
    (tmp_path / "kept.py").write_text(f"from pyre import Agent\n{source}{kept}")
    found = discover([str(tmp_path)])
    assert found.problems == []
    state = found.classes[b"Kept"].state
    first = state.start(b"\x81\xa1n\x07")
    assert (first.n, first.m) == (7, 0.5)
    again = state.load(state.write(first))
    assert (again.n, again.m) == (7, 0.5)
    assert {name: required for name, (_, required) in state.fields.items()} == {"n": True, "m": False}


def test_pinned_directories_are_imported_from_their_copies(tmp_path: pathlib.Path) -> None:
    original, copy = tmp_path / "agents", tmp_path / "copy"
    source = (
        "import pathlib, _helping_pinned, pkg_pinned.inner\n"
        "from pyre import Agent\n"
        "DATA = (pathlib.Path(__file__).parent / 'data.txt').read_text()\n"
        "SEEN = f'{{DATA}} {{_helping_pinned.VALUE}} {{pkg_pinned.inner.VALUE}} {{__file__}}'\n"
        "class {name}(Agent):\n    __doc__ = SEEN\n    def file(self): return self.file.__code__.co_filename\n"
    )
    for folder, value in [(original, "new"), (copy, "pinned")]:
        (folder / "pkg_pinned").mkdir(parents=True)
        (folder / "pkg_pinned" / "__init__.py").write_text("")
        (folder / "pkg_pinned" / "inner.py").write_text(f"VALUE = {value!r}\n")
        (folder / "_helping_pinned.py").write_text(f"VALUE = {value!r}\n")
    (original / "data.txt").write_text("data")
    (copy / "kept_pinned.py").write_text(source.format(name="Kept"))
    (original / "added_pinned.py").write_text(source.format(name="Added"))
    # A name that is taken gets one of its own; it comes from the copy all the same.
    (copy / "queue.py").write_text(source.format(name="Shadow"))
    found = discover([str(original)], [[str(original), str(copy)]])
    assert found.problems == []
    assert sorted(found.classes) == [b"Kept", b"Shadow"]
    assert found.classes[b"Kept"].kind.__doc__ == f"data pinned pinned {original / 'kept_pinned.py'}"
    assert found.classes[b"Shadow"].kind.__doc__ == f"data pinned pinned {original / 'queue.py'}"
    assert found.classes[b"Kept"].file == str(original / "kept_pinned.py")
    assert found.classes[b"Kept"].kind.file.__code__.co_filename == str(original / "kept_pinned.py")  # type: ignore[attr-defined]


def test_packages_of_a_virtual_environment_among_the_agents_are_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Symptom: nothing that was installed in agents/.venv could be imported.
    original, copy = tmp_path / "agents", tmp_path / "copy"
    for site in (original / ".venv" / "lib", original / "env" / "site-packages"):
        site.mkdir(parents=True)
        (site / f"packaged_{site.name.replace('-', '_')}.py").write_text("")
        monkeypatch.syspath_prepend(str(site))
    copy.mkdir()
    (copy / "user_pinned.py").write_text("import packaged_lib, packaged_site_packages\n" + AGENT.format(name="User"))
    found = discover([str(original)], [[str(original), str(copy)]])
    assert (sorted(found.classes), found.problems) == ([b"User"], [])


def test_a_file_that_was_broken_after_it_was_pinned_hurts_nobody(tmp_path: pathlib.Path) -> None:
    original, copy = tmp_path / "agents", tmp_path / "copy"
    for folder in (original, copy):
        folder.mkdir()
    (copy / "sound_pinned.py").write_text(AGENT.format(name="Sound"))
    (original / "sound_pinned.py").write_text("class Sound(:\n")
    found = discover([str(original)], [[str(original), str(copy)]])
    assert (sorted(found.classes), found.problems) == ([b"Sound"], [])
