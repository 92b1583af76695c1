"""Following a log file, on real files."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from _follow import CHUNK_BYTES, FIRST_LOOK_BYTES, MAX_BYTES, Place, begin, follow, is_trouble, read_lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    path.write_bytes(b"one\ntwo error\n")
    return path


def at_end(path: Path) -> Place:
    found = path.stat()
    return Place(inode=found.st_ino, offset=found.st_size)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_what_was_added_is_read(log: Path) -> None:
    place = at_end(log)
    append(log, b"an error here\nfine\n")
    gain = follow(log, place)
    assert (gain.lines, gain.troubles, gain.sample) == (2, 1, "an error here")
    assert follow(log, gain.place).lines == 0


def test_a_partial_line_is_counted_once_when_it_is_whole(log: Path) -> None:
    place = at_end(log)
    append(log, b"half an err")
    gain = follow(log, place)
    assert (gain.lines, gain.place) == (0, place)
    append(log, b"or\n")
    whole = follow(log, gain.place)
    assert (whole.lines, whole.troubles, whole.sample) == (1, 1, "half an error")


def test_rotation_loses_neither_the_old_files_end_nor_the_new_ones_start(log: Path) -> None:
    place = at_end(log)
    append(log, b"last error of the old\n")
    log.rename(log.with_name("app.log.1"))
    log.write_bytes(b"first error of the new\n")
    gain = follow(log, place)
    assert (gain.lines, gain.troubles, gain.sample) == (2, 2, "first error of the new")
    assert gain.place == at_end(log)


def test_rotation_to_a_file_that_is_gone_goes_on_with_the_new_one(log: Path) -> None:
    place = at_end(log)
    log.rename(log.with_name("elsewhere"))
    log.write_bytes(b"new\n")
    assert follow(log, place).lines == 1


def test_truncation_starts_anew(log: Path) -> None:
    place = at_end(log)
    os.truncate(log, 0)
    append(log, b"error\n")
    gain = follow(log, place)
    assert (gain.lines, gain.troubles) == (1, 1)


def test_a_missing_file_is_an_os_error_and_no_other(log: Path) -> None:
    place = at_end(log)
    log.unlink()
    with pytest.raises(FileNotFoundError):
        follow(log, place)


def test_a_folder_or_a_pipe_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="director"):
        follow(tmp_path, Place(inode=1, offset=0))


def test_a_line_longer_than_a_chunk_is_passed_over_and_the_next_one_counts(log: Path) -> None:
    place = at_end(log)
    append(log, b"error " * CHUNK_BYTES + b"\nnext error\n")
    gain = follow(log, place)
    assert (gain.lines, gain.troubles, gain.sample) == (1, 1, "next error")
    assert gain.place == at_end(log)


def test_an_endless_line_is_skipped_across_looks(log: Path) -> None:
    place = at_end(log)
    append(log, b"x" * CHUNK_BYTES)
    gain = follow(log, place)
    assert gain.place.skipping
    append(log, b"error\nerror\n")
    assert follow(log, gain.place).troubles == 1


def test_more_than_one_look_may_read_is_skipped_and_said(log: Path) -> None:
    place = at_end(log)
    append(log, b"0123456789abcde\n" * (2 * MAX_BYTES // 16))
    gain = follow(log, place)
    assert gain.skipped_bytes == MAX_BYTES
    assert gain.read_bytes == MAX_BYTES
    assert gain.place == at_end(log)


def test_binary_garbage_is_read_without_a_crash(log: Path) -> None:
    place = at_end(log)
    append(log, bytes(range(256)) * 100 + b"\n\xff\xfe error \x00\n")
    gain = follow(log, place)
    assert gain.troubles == 1
    assert gain.place == at_end(log)
    gain.sample.encode()


def test_colours_hide_no_error(log: Path) -> None:
    place = at_end(log)
    append(log, b"\x1b[1;31mERROR\x1b[0m no such table\n")
    gain = follow(log, place)
    assert (gain.troubles, gain.sample) == (1, "ERROR no such table")


def test_an_old_file_begins_at_its_end_and_a_fresh_one_a_little_before(log: Path) -> None:
    append(log, b"y" * (2 * FIRST_LOOK_BYTES))
    size = log.stat().st_size
    fresh = begin(log, time.time())
    assert (fresh.offset, fresh.skipping) == (size - FIRST_LOOK_BYTES, True)
    old = begin(log, time.time() + 3600)
    assert (old.offset, old.skipping) == (size, False)


def test_a_short_fresh_file_begins_at_its_start(log: Path) -> None:
    assert begin(log, time.time()) == Place(inode=log.stat().st_ino, offset=0)


@pytest.mark.parametrize(
    "line",
    [
        b"Jan 1 host app[1]: error: no such table",
        b"ERROR connection lost",
        b"panic: runtime",
        b"Out of memory: Killed process 12",
        b"Traceback (most recent call last):",
        b"app failed to read info, fatal",
    ],
)
def test_these_lines_look_like_errors(line: bytes) -> None:
    assert is_trouble(line)


@pytest.mark.parametrize(
    "line",
    [
        b"status installed libgpg-error0:amd64 1.46-1",
        b"status unpacked libcompress-error-perl",
        b"finished with 0 errors",
        b"done without error",
        b"errors=0 warnings=3",
        b"2026-01-01 INFO error page rendered",
        b'level=info msg="error rate is low"',
        b"[notice] error log reopened",
        b"GET /errors/404",
        b"terror",
    ],
)
def test_these_lines_do_not(line: bytes) -> None:
    assert not is_trouble(line)


# --- Lines ---


def test_lines_are_read_on_from_their_place_and_half_a_line_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\nthr")
    place, lines = read_lines(log, Place(log.stat().st_ino, 4))
    assert lines == ["two"]
    with log.open("a") as file:
        file.write("ee\n")
    assert read_lines(log, place)[1] == ["three"]


def test_lines_of_a_new_or_truncated_file_are_read_from_its_start(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("new\n")
    inode = log.stat().st_ino
    assert read_lines(log, Place(inode + 1, 2))[1] == ["new"]
    assert read_lines(log, Place(inode, 100))[1] == ["new"]


def test_an_endless_line_comes_in_pieces(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (CHUNK_BYTES + 1))
    place, lines = read_lines(log, Place(log.stat().st_ino, 0))
    assert [len(line) for line in lines] == [CHUNK_BYTES]
    assert place.offset == CHUNK_BYTES
