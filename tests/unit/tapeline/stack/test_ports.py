from __future__ import annotations

import asyncio
import socket

import pytest

from tapeline.errors import StackError
from tapeline.stack import ports
from tapeline.stack.ports import LOOPBACK, answers, free_port, is_free


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
    assert port < 32_768, "from the range of outgoing connections: could be lost over a restart"


def test_ports_named_as_taken_are_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_LAST", ports._FIRST + 200)
    everything = frozenset(range(ports._FIRST, ports._LAST))
    with pytest.raises(StackError, match="no free port"):
        free_port(everything)


async def test_answers() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, LOOPBACK, free_port())
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await answers(port)
    assert not await answers(port)
