"""Which excuses hold, by the word of the recorder."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pyre import _recorder
from pyre._excuses import Excused, Excuses
from pyre._recorder import WORDS


def test_the_oldest_counts_and_the_end_of_one_doesnt_end_another() -> None:
    words = _recorder.blank()
    excuses = Excuses(words)
    assert words[WORDS.EXCUSED] == 0
    excuses.begin("import")
    first = words[WORDS.EXCUSED]
    excuses.begin("collection")
    excuses.begin("import")
    assert words[WORDS.EXCUSED] == first > 0
    excuses.end("import")
    assert words[WORDS.EXCUSED] >= first
    excuses.end("import")
    assert words[WORDS.EXCUSED] > 0
    excuses.end("collection")
    assert words[WORDS.EXCUSED] == 0


def test_an_import_is_struck_out_once_nobody_imports() -> None:
    words = _recorder.blank()
    excuses = Excuses(words)
    excuses.begin("import")
    excuses.look()
    assert words[WORDS.EXCUSED] == 0


def test_only_the_steps_of_a_coroutine_are_excused() -> None:
    words = _recorder.blank()
    excuses = Excuses(words)
    seen = []

    async def opening(gate: asyncio.Event) -> str:
        seen.append(words[WORDS.EXCUSED])
        await gate.wait()
        seen.append(words[WORDS.EXCUSED])
        return "open"

    async def test() -> None:
        gate = asyncio.Event()
        steps: Any = Excused(excuses, opening(gate))
        task = asyncio.create_task(steps)
        await asyncio.sleep(0)
        seen.append(words[WORDS.EXCUSED])
        gate.set()
        assert await task == "open"
        assert await Excused(excuses, opening(gate)) == "open"
        assert words[WORDS.EXCUSED] == 0

    asyncio.run(test())
    assert [bool(word) for word in seen] == [True, False, True, True, True]


def test_a_cancelled_step_ends_its_excuse() -> None:
    words = _recorder.blank()

    async def test() -> None:
        steps: Any = Excused(Excuses(words), asyncio.sleep(60))
        task = asyncio.create_task(steps)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert words[WORDS.EXCUSED] == 0
