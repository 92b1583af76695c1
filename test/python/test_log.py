"""The way of records to the BEAM."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from pyre import _body, _log, _wire
from pyre._log import Log


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def records(reader: socket.socket) -> list[dict[str, Any]]:
    """Read all that has arrived."""
    reader.settimeout(0)
    data = b""
    try:
        while chunk := reader.recv(1 << 20):
            data += chunk
    except BlockingIOError:
        pass
    found = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        assert size <= _wire.MAX_RECORD_BYTES
        found.append(_body.unpack(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def test_a_reader_that_is_slow_loses_records_and_is_told_how_many(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_log, "BUFFER_BYTES", 100_000)
    writer, reader = ends
    log = Log(writer)
    sent = 200
    for number in range(sent):
        log.send({"type": "log", "event": "x" * 5_000, "number": number})
    arrived: list[dict[str, Any]] = []
    while not any(record["type"] == "dropped" for record in arrived):
        arrived += records(reader)
        log.flush()
    (dropped,) = [record["count"] for record in arrived if record["type"] == "dropped"]
    assert [record["number"] for record in arrived if record["type"] == "log"] == list(range(sent - dropped))
    writer.close()
    reader.close()


def test_a_record_with_too_many_fields_still_fits(ends: tuple[socket.socket, socket.socket]) -> None:
    writer, reader = ends
    Log(writer).send({"type": "log", "event": "big", "fields": {str(n): "x" * 4_000 for n in range(100)}})
    (record,) = records(reader)
    assert record["event"] == "big"
    assert "100 fields" in record["fields"]["left_out"]
    writer.close()
    reader.close()


def test_a_reader_that_is_gone_breaks_no_handler(ends: tuple[socket.socket, socket.socket]) -> None:
    writer, reader = ends
    reader.close()
    log = Log(writer)
    log.send({"type": "log", "event": "to nobody"})
    log.send({"type": "log", "event": "to nobody"})
    writer.close()


def test_without_a_socket_records_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Log(None).send({"type": "log", "level": "info", "event": "hello", "fields": {"n": 1}, "exception": None})
    assert capsys.readouterr().err == "[info] hello n=1\n"
