"""The server on loopback: REST, subscriptions, faults, and clients that do not keep up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams.simulator import SimulatedExchange, cli
from tapeline.errors import ConfigError
from tests.support.venue_client import WAIT_S, get, until

ROOT = Path(__file__).parents[4]
Get = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedExchange]:
    async with SimulatedExchange(["BTCUSDT", "ETHUSDT"], seed=7, rate=300) as running:
        yield running


async def frames(
    ws: aiohttp.ClientWebSocketResponse, enough: Callable[[list[Any]], object]
) -> list[Any]:
    """JSON frames until there are enough."""
    found: list[Any] = []
    async with asyncio.timeout(WAIT_S):
        while not enough(found):
            found.append(json.loads(await ws.receive_str()))
    return found


async def ask(ws: aiohttp.ClientWebSocketResponse, text: str) -> Any:
    """Send a control frame and return its answer, data frames aside."""
    await ws.send_str(text)
    found = await frames(ws, lambda got: got and ("result" in got[-1] or "code" in got[-1]))
    return found[-1]


# --- REST ---


async def test_rest_answers_ping_time_and_listings(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    api = f"{sim.rest_url}/api/v3"
    assert await get(client, f"{api}/ping") == (200, {})
    _, body = await get(client, f"{api}/time")
    assert body["serverTime"] >= sim.exchange.start_ms
    _, body = await get(client, f"{api}/exchangeInfo")
    assert [s["symbol"] for s in body["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    _, body = await get(client, f"{api}/exchangeInfo", symbols='["ETHUSDT"]')
    assert [s["symbol"] for s in body["symbols"]] == ["ETHUSDT"]
    assert body["symbols"][0]["synthetic"] is True
    _, body = await get(client, f"{api}/exchangeInfo", symbol="BTCUSDT")
    assert [s["symbol"] for s in body["symbols"]] == ["BTCUSDT"]
    assert sim.state()["requests"]["/api/v3/exchangeInfo"] == 3


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("exchangeInfo", {"symbol": "NOPEUSDT"}, -1121),
        ("exchangeInfo", {"symbols": '["BTCUSDT","NOPEUSDT"]'}, -1121),
        ("exchangeInfo", {"symbols": "BTCUSDT"}, -1100),
        ("exchangeInfo", {"symbol": "btcusdt"}, -1100),
        ("depth", {"symbol": "NOPEUSDT"}, -1121),
        ("depth", {}, -1102),
        ("depth", {"symbol": "BTCUSDT", "limit": "many"}, -1100),
    ],
)
async def test_rest_names_what_is_wrong(
    sim: SimulatedExchange,
    client: aiohttp.ClientSession,
    path: str,
    params: dict[str, str],
    code: int,
) -> None:
    status, body = await get(client, f"{sim.rest_url}/api/v3/{path}", **params)
    assert (status, body["code"]) == (400, code)
    assert body["msg"]


async def test_depth_weighs_as_at_the_venue_and_is_refused_beyond_the_budget(
    client: aiohttp.ClientSession,
) -> None:
    async with SimulatedExchange(["BTCUSDT"], seed=1, weight_per_minute=80) as sim:
        url = f"{sim.rest_url}/api/v3/depth"
        async with client.get(url, params={"symbol": "BTCUSDT", "limit": "1000"}) as response:
            assert response.headers["X-MBX-USED-WEIGHT-1M"] == "50"
            assert len((await response.json())["bids"]) > 500
        async with client.get(url, params={"symbol": "BTCUSDT"}) as response:
            assert response.headers["X-MBX-USED-WEIGHT-1M"] == "55"
        async with client.get(url, params={"symbol": "BTCUSDT", "limit": "1000"}) as response:
            assert response.status == 429
            assert (await response.json())["code"] == -1003
            assert 50 <= int(response.headers["Retry-After"]) <= 61
        assert sim.requests["refused"] == 1


async def test_a_refuse_episode_answers_429_for_a_while(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.post(
        f"{sim.control_url}/episodes", json={"name": "refuse", "seconds": 0.3, "retry_after": 2}
    ) as response:
        assert response.status == 201
    async with client.get(f"{sim.rest_url}/api/v3/ping") as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "2"
    await until(lambda: sim.exchange.now_ms >= sim.exchange.refuse_until_ms)
    assert await get(client, f"{sim.rest_url}/api/v3/ping") == (200, {})


# --- streams ---


async def test_a_combined_stream_brings_what_its_address_names(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    names = {"btcusdt@depth@100ms", "btcusdt@trade", "ethusdt@bookTicker", "ethusdt@ticker"}
    async with client.ws_connect(f"{sim.stream_url}/stream?streams={'/'.join(names)}") as ws:
        found = await frames(ws, lambda got: {f["stream"] for f in got} == names)
    assert all(set(frame) == {"stream", "data"} for frame in found)


async def test_a_snapshot_over_http_bridges_into_the_stream(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/ws/btcusdt@depth@100ms") as ws:
        early = await frames(ws, lambda got: len(got) == 2)
        _, snapshot = await get(client, f"{sim.rest_url}/api/v3/depth", symbol="BTCUSDT")
        last = snapshot["lastUpdateId"]
        # Frames that were on their way already may be older.
        late = await frames(ws, lambda got: got and got[-2:][0]["u"] > last)
    assert early[0]["U"] <= last
    kept = [event for event in early + late if event["u"] > last]
    assert kept[0]["U"] <= last + 1 <= kept[0]["u"]
    assert all(b["U"] == a["u"] + 1 for a, b in pairwise(early + late))


async def test_subscriptions_come_and_go_and_are_listed(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/ws") as ws:
        reply = await ask(
            ws, '{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","x@trade"],"id":1}'
        )
        assert reply == {"result": None, "id": 1}
        found = await frames(ws, lambda got: len(got) == 2)
        assert {event["e"] for event in found} == {"depthUpdate"}
        assert await ask(ws, '{"method":"LIST_SUBSCRIPTIONS","id":"a"}') == {
            "result": ["btcusdt@depth@100ms", "x@trade"],
            "id": "a",
        }
        reply = await ask(ws, '{"method":"UNSUBSCRIBE","params":["btcusdt@depth@100ms"],"id":null}')
        assert reply == {"result": None, "id": None}
        (session,) = sim.sessions
        assert list(session.streams) == ["x@trade"]


async def test_a_socket_can_become_combined(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/ws/btcusdt@depth@100ms") as ws:
        assert (await ask(ws, '{"method":"GET_PROPERTY","params":["combined"],"id":1}'))[
            "result"
        ] is False
        await ask(ws, '{"method":"SET_PROPERTY","params":["combined",true],"id":2}')
        (frame,) = await frames(ws, lambda got: got)
        assert frame["stream"] == "btcusdt@depth@100ms"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{", 3, "Invalid JSON"),
        ("[]", 3, "Invalid JSON"),
        ('{"method":"SUBSCRIBE","params":["a@b"]}', 2, "missing field `id`"),
        ('{"method":"SUBSCRIBE","params":["a@b"],"id":1.5}', 2, "must be an integer"),
        ('{"method":"DANCE","id":1}', 2, "unknown variant `DANCE`"),
        ('{"method":"SUBSCRIBE","id":1}', 2, "not empty"),
        ('{"method":"SUBSCRIBE","params":["btcusdt"],"id":1}', 2, "btcusdt@depth"),
        ('{"method":"SET_PROPERTY","params":["combined"],"id":1}', 2, "true or false"),
    ],
)
async def test_a_bad_control_frame_is_answered_with_its_error(
    sim: SimulatedExchange, client: aiohttp.ClientSession, text: str, code: int, said: str
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/stream") as ws:
        reply = await ask(ws, text)
    assert reply["code"] == code
    assert said in reply["msg"]


async def test_a_connection_takes_1024_streams_and_no_more(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    many = json.dumps([f"s{i}@trade" for i in range(1025)])
    async with client.ws_connect(f"{sim.stream_url}/stream") as ws:
        reply = await ask(ws, f'{{"method":"SUBSCRIBE","params":{many},"id":1}}')
    assert reply["code"] == 2
    assert "1024" in reply["msg"]


async def test_the_state_counts_what_was_sent(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    path = "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker"
    async with client.ws_connect(sim.stream_url + path) as ws:
        found = await frames(ws, lambda got: len(got) >= 60)
        _, open_state = await get(client, f"{sim.control_url}/state")
        await ws.close()
        await until(lambda: not sim.sessions)
        # What was on its way when we closed is sent, too.
        async for message in ws:
            found.append(json.loads(message.data))
    _, state = await get(client, f"{sim.control_url}/state")
    assert open_state["connections"]["open"] == 1
    assert state["connections"] == {"open": 0, "accepted": 1, "left": 1}
    sent = state["symbols"]["BTCUSDT"]["sent"]
    assert sum(sent.values()) == state["frames"] >= len(found)
    made = state["symbols"]["BTCUSDT"]["made"]
    assert all(sent[name] <= made[name] for name in sent)
    assert state["symbols"]["ETHUSDT"]["sent"] == {}
    assert state["bytes"] > 1000


# --- faults ---


async def test_a_gap_is_seen_by_the_client_once(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    def holes(got: list[Any]) -> list[Any]:
        return [b for a, b in pairwise(got) if b["U"] != a["u"] + 1]

    async with client.ws_connect(f"{sim.stream_url}/ws/btcusdt@depth@100ms") as ws:
        before = await frames(ws, lambda got: len(got) == 2)
        async with client.post(
            f"{sim.control_url}/episodes", json={"name": "gap", "symbol": "BTCUSDT"}
        ) as response:
            assert (await response.json())["name"] == "gap"
        # Frames that were on their way already come first.
        upto = await frames(ws, lambda got: holes(before[-1:] + got))
        after = await frames(ws, lambda got: len(got) == 3)
    assert len(holes(before + upto + after)) == 1


async def test_a_disconnect_closes_all_sockets(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with (
        client.ws_connect(f"{sim.stream_url}/ws/btcusdt@trade") as one,
        client.ws_connect(f"{sim.stream_url}/stream") as two,
    ):
        sim.start_episode("disconnect")
        async with asyncio.timeout(WAIT_S):
            for ws in (one, two):
                async for _ in ws:
                    pass
                assert ws.close_code == aiohttp.WSCloseCode.GOING_AWAY
    await until(lambda: sim.counts["disconnect"] == 2)


async def test_a_shutdown_is_announced_before_it_comes(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with (
        client.ws_connect(f"{sim.stream_url}/stream") as combined,
        client.ws_connect(f"{sim.stream_url}/ws") as raw,
    ):
        sim.start_episode("shutdown", seconds=0.2)
        (event,) = await frames(combined, lambda got: got)
        assert event["stream"] == "!serverShutdown"
        assert event["data"]["e"] == "serverShutdown"
        (event,) = await frames(raw, lambda got: got)
        assert set(event) == {"e", "E"}
        assert (await combined.receive()).type is aiohttp.WSMsgType.CLOSE
    await until(lambda: sim.counts["shutdown"] == 2)


async def test_garbage_is_no_json(sim: SimulatedExchange, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(f"{sim.stream_url}/stream") as ws:
        sim.start_episode("garbage", "BTCUSDT")
        async with asyncio.timeout(WAIT_S):
            text = await ws.receive_str()
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(text)
        assert not ws.closed


@pytest.mark.parametrize(
    "body",
    [
        "nonsense",
        "[]",
        '{"symbol":"BTCUSDT"}',
        '{"name":"wall","symbol":"NOPE"}',
        '{"name":"wall","symbol":"BTCUSDT","in_s":-1}',
        '{"name":"wall","symbol":"BTCUSDT","params":{"height":1}}',
    ],
)
async def test_the_control_api_says_what_it_expected(
    sim: SimulatedExchange, client: aiohttp.ClientSession, body: str
) -> None:
    async with client.post(f"{sim.control_url}/episodes", data=body) as response:
        assert response.status == 400
        assert "expected" in (await response.json())["error"]


async def test_an_episode_can_wait(sim: SimulatedExchange, client: aiohttp.ClientSession) -> None:
    async with client.post(
        f"{sim.control_url}/episodes",
        json={"name": "wall", "symbol": "BTCUSDT", "in_s": 5, "params": {"side": "ask"}},
    ) as response:
        planned = await response.json()
    assert planned["starts_ms"] >= sim.exchange.start_ms + 5000
    assert planned["params"]["side"] == "ask"
    _, state = await get(client, f"{sim.control_url}/state")
    assert state["episodes"] == [planned]


# --- clients ---


async def test_a_client_that_talks_too_much_is_closed(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/stream") as ws:
        for number in range(7):
            await ws.send_str(f'{{"method":"LIST_SUBSCRIPTIONS","id":{number}}}')
        async with asyncio.timeout(WAIT_S):
            async for _ in ws:
                pass
        assert ws.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
    await until(lambda: sim.counts["inbound"] == 1)


async def test_pings_are_sent_and_a_client_that_never_pongs_is_cut_off(
    client: aiohttp.ClientSession,
) -> None:
    async with (
        SimulatedExchange(["BTCUSDT"], seed=1, ping_every_s=0.05, pong_within_s=0.2) as sim,
        client.ws_connect(f"{sim.stream_url}/stream", autoping=False) as deaf,
    ):
        async with asyncio.timeout(WAIT_S):
            message = await deaf.receive()
        assert message.type is aiohttp.WSMsgType.PING
        assert message.data.isdigit()
        await deaf.pong(message.data)
        await until(lambda: sim.counts["no_pong"] == 1)


async def test_a_clients_ping_is_answered(
    sim: SimulatedExchange, client: aiohttp.ClientSession
) -> None:
    async with client.ws_connect(f"{sim.stream_url}/stream", autoping=False) as ws:
        await ws.ping(b"hello")
        async with asyncio.timeout(WAIT_S):
            message = await ws.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"hello")


async def test_a_clock_set_back_does_not_turn_the_venues_time() -> None:
    now = [1_700_000_000_000]
    sim = SimulatedExchange(["BTCUSDT"], seed=1, clock_ms=lambda: now[0])
    now[0] += 500
    sim.advance()
    now[0] -= 10_000
    sim.advance()
    assert sim.exchange.now_ms == 1_700_000_000_500


# --- the command ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.10", "example.com", ""])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        SimulatedExchange(["BTCUSDT"], seed=1, host=host)


async def command(*options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.simulator",
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_prints_its_urls_and_ends_on_sigterm(
    client: aiohttp.ClientSession,
) -> None:
    process = await command("--symbols", "BTCUSDT", "--episode", "wall@1.5:BTCUSDT")
    assert process.stdout is not None
    urls = json.loads(await process.stdout.readline())
    assert urls["stream_url"].startswith("ws://127.0.0.1:")
    _, state = await get(client, f"{urls['control_url']}/state")
    assert [(e["name"], e["symbol"]) for e in state["episodes"]] == [("wall", "BTCUSDT")]
    process.terminate()
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_a_taken_port_ends_with_status_1(sim: SimulatedExchange) -> None:
    port = sim.rest_url.rpartition(":")[2]
    process = await command("--port", port)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert f"127.0.0.1:{port}".encode() in err


async def test_it_serves_until_the_signal(capsys: pytest.CaptureFixture[str]) -> None:
    args = cli.parser().parse_args(["--symbols", "BTCUSDT", "--episode", "disconnect"])
    running = asyncio.create_task(cli.serve(args))
    out = ""

    def printed() -> str:
        nonlocal out
        out += capsys.readouterr().out
        return out

    await until(printed)
    assert json.loads(out)["seed"] == 7
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(WAIT_S):
        await running


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--host", "0.0.0.0"], "loopback"),
        (["--symbols", ""], "at least one symbol"),
        (["--episode", "wall at noon"], "NAME@SECONDS:SYMBOL"),
        (["--episode", "storm@1:BTCUSDT"], "one of wall"),
        (["--rate", "0"], "1 to 20000"),
    ],
)
def test_a_bad_option_ends_with_status_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert said in capsys.readouterr().err
