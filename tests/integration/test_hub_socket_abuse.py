"""What no client should do: refused clearly, and the hub unharmed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator

import pytest
from websockets.exceptions import ConnectionClosed

from serving.access import Access
from serving.hub import endpoint
from serving.hub.protocol import MESSAGE_BYTES_MAX
from tests.support.hub_socket import ADMIN, WAIT_S, Served, hub_server, until

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
async def served(redis_url: str) -> AsyncIterator[Served]:
    async with hub_server(redis_url) as found:
        yield found
        async with found.client() as client:
            assert await client.pong(), "the hub has been harmed"
        assert not found.registry.get_sample_value(
            "tapeline_hub_broadcast_errors_total", {"reason": "own_fault"}
        )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "bad_request"),
        ("nonsense", "bad_request"),
        ('{"op":"subscribe"}', "bad_request"),
        ('{"op":"auth","key":"tl_1"}', "bad_request"),
        ('{"op":"unsubscribe","subscription_id":"s99"}', "bad_request"),
        ('{"op":"subscribe","channels":["x"],"symbols":["A"]}', "unknown_channel"),
        (
            '{"op":"subscribe","channels":["ticks"],"symbols":["../../etc"]}',
            "unknown_symbol_name",
        ),
        (
            '{"op":"subscribe","channels":["ticks"],"symbols":["A\\r\\nB"]}',
            "unknown_symbol_name",
        ),
        ("[" * 60_000, "bad_request"),
    ],
)
async def test_a_malformed_request_is_answered_and_the_connection_goes_on(
    served: Served, text: str, code: str
) -> None:
    async with served.client() as client:
        await client.ws.send(text)
        assert (await client.next("error")).code == code
        assert await client.pong()


async def test_a_binary_message_ends_the_connection_with_1003(served: Served) -> None:
    async with served.client() as client:
        await client.ws.send(b"{}")
        assert (await client.closed())[0] == 1003


async def test_a_message_that_is_too_big_ends_the_connection_with_1009(served: Served) -> None:
    async with served.client() as client:
        await client.ws.send("x" * (MESSAGE_BYTES_MAX + 1))
        assert (await client.closed())[0] == 1009


async def test_text_that_is_no_text_ends_the_connection_with_1007(served: Served) -> None:
    async with served.client() as client:
        # By hand, for the library would not send it.
        mask = os.urandom(4)
        payload = bytes(b ^ mask[n % 4] for n, b in enumerate(b'{"\xff'))
        client.ws.transport.write(b"\x81" + bytes([0x80 | len(payload)]) + mask + payload)
        assert (await client.closed())[0] == 1007


async def test_frames_that_are_none_end_the_connection(served: Served) -> None:
    async with served.client() as client:
        client.ws.transport.write(b"\xff\xff\xff\xff")
        assert (await client.closed())[0] in {1002, 1006}


async def test_a_flood_is_told_once_a_second_and_ended(served: Served) -> None:
    async with served.client() as client:

        async def flood() -> None:
            while True:
                await client.say(op="ping")
                await asyncio.sleep(0)  # sending alone would leave no time for reading

        flooding = asyncio.create_task(flood())
        code, reason = await client.closed()
        with pytest.raises(ConnectionClosed):
            await flooding
        assert code == 1008
        assert "too often" in reason
        told = client.of("error", code="rate_limited")
        assert told
        assert told[0].retry_after_ms == 1000
        assert len(told) < 30
    assert served.sample("closed_total", reason="flood") == 1


async def test_a_client_that_asks_and_never_reads_is_not_read_either(redis_url: str) -> None:
    """Its answers wait, a bounded number of them; then its own sends wait."""
    async with hub_server(redis_url) as served, served.client(max_queue=1) as client:
        (held,) = served.hub.clients.values()
        held.sink.on_writable = lambda: None

        class Full:
            """A socket that takes nothing."""

            writable = False
            closed = False

            def close(self, *_: object) -> None:
                self.closed = True

        real, held.sink = held.sink, Full()  # type: ignore[assignment]
        for n in range(150):
            await client.say(op="ping", id=f"f{n}")
        await until(lambda: held.session.crowded)
        waiting = len(held.session._control)
        held.sink = real
        served.hub.touch(held.session)
        assert waiting <= 70
        await client.next("pong", id="f149")


async def test_a_client_that_is_not_read_and_goes_is_gone(redis_url: str) -> None:
    async with (
        hub_server(redis_url, NT_HUB_SEND_TIMEOUT_S="1") as served,
        served.client() as client,
    ):
        (held,) = served.hub.clients.values()
        # Its socket takes nothing, which is what a client that does not read comes to.
        held.sink._protocol.writable.clear()  # type: ignore[attr-defined]
        for _ in range(100):
            await client.say(op="ping")
        await until(lambda: held.session.crowded)
        client.ws.transport.abort()
        await until(lambda: not served.hub.clients)


async def test_what_concerns_thousands_of_pairs_counts_for_many_requests(served: Served) -> None:
    names = [f"S{n}" for n in range(1000)]
    channels = ["reports.fast", "reports.slow", "ticks", "book", "status", "trades", "klines"]
    async with served.client() as client:
        for turn in range(5):
            await client.say(
                op="subscribe", channels=channels, symbols=names, max_hz=turn + 1, id=f"s{turn}"
            )
        assert (await client.seen("error")).code == "rate_limited"
        assert 2 <= len(client.of("subscribed")) <= 4


async def test_more_clients_than_there_is_room_for_are_turned_away(redis_url: str) -> None:
    async with hub_server(redis_url, NT_HUB_CLIENTS_MAX="1") as served:
        async with served.client(), served.client(greeted=False) as second:
            assert await second.closed() == (1013, "no room; come back later")
        await until(lambda: not served.hub.clients)
        async with served.client() as third:
            assert await third.pong()


async def test_a_connection_cut_off_in_the_middle_leaves_nothing(served: Served) -> None:
    async with served.client() as client:
        await client.subscribe("reports.fast ticks trades", "*")
        client.ws.transport.abort()
        await until(lambda: not served.hub.clients)
    assert not served.hub.board.sessions
    assert not served.hub.board.of_all
    assert served.sample("connections") == 0
    assert served.registry.get_sample_value("tapeline_hub_session_seconds_count") == 1


async def test_a_handshake_that_never_ends_holds_up_nobody(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
        async with served.client() as client:
            assert await client.pong()


async def test_a_fault_of_ours_ends_that_client_with_1011(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> None:
        raise ZeroDivisionError(text)

    async with hub_server(redis_url) as served, served.client() as other:
        async with served.client() as client:
            monkeypatch.setattr(endpoint, "decode_request", broken)
            await client.say(op="ping")
            assert (await client.closed())[0] == 1011
            monkeypatch.undo()
        assert await other.pong()
        assert served.sample("broadcast_errors_total", reason="own_fault") == 1


# --- keys ----------------------------------------------------------------------------------------


async def authenticate(key: str) -> Access | None:
    return ADMIN if key == "tl_right" else None


async def test_where_a_key_is_needed_it_is_the_first_message(redis_url: str) -> None:
    async with hub_server(redis_url, access=None) as served:
        served.hub.authenticate = authenticate
        async with served.client() as client:
            assert client.frames[0].auth_required
            await client.say(op="auth", key="tl_right")
            await client.subscribe("executions")
            served.hub.end_key("another")
            assert await client.pong()
            served.hub.end_key(ADMIN.key_id)
            assert await client.closed() == (1008, "the key was revoked")


@pytest.mark.parametrize(
    "first",
    [
        '{"op":"auth","key":"tl_wrong"}',
        '{"op":"subscribe","channels":["ticks"],"symbols":["A"]}',
        "nonsense",
    ],
)
@pytest.mark.parametrize("asks", [True, False])
async def test_without_the_right_key_the_first_message_is_the_last(
    redis_url: str, first: str, asks: bool
) -> None:
    async with hub_server(redis_url, access=None) as served:
        if asks:
            served.hub.authenticate = authenticate
        async with served.client() as client:
            await client.ws.send(first)
            code, reason = await client.closed()
            assert (code, reason) == (1008, "no valid key")
            assert "wrong" not in json.dumps(client.texts)


async def test_a_client_that_says_no_key_is_not_waited_for(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "AUTH_S", 0.1)
    async with hub_server(redis_url, access=None) as served:
        async with served.client() as client:
            assert (await client.closed())[0] == 1008
        async with served.client() as client:
            await client.ws.send(b"binary")
            assert (await client.closed())[0] in {1003, 1008}
        async with served.client() as client:
            await client.ws.close()
            async with asyncio.timeout(WAIT_S):
                await until(lambda: not served.hub.clients)
