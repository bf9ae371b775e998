"""The shell: one socket, then another, and what the assembler is told of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from streams.backoff import Timing
from streams.events import Event, FeedStatus
from streams.rest import Reply, RestClient
from streams.sockets import SocketSource
from streams.sources import RefusedFrame
from streams.symbols import Listing
from streams.venues.base import HttpRequest
from tapeline.clock import SystemClock
from tests.support.bridge import VENUE, FakeAssembler, until

BTC = "BTCUSDT"
LISTINGS = (Listing(VENUE, "BTC-USDT", BTC),)
FAST = Timing(
    ping_every=0.05, live_for=0.3, dead_after=0.5, backoff=0.02, backoff_max=0.05, open_within=1.0
)


class Venue:
    """A websocket server that says what a test wants.

    Attributes:
        clients: Everyone who came, in order; ``open`` those still here.
        heard: Frames received.
        refusals: HTTP statuses to answer the next handshakes with.
        greeting: Sent to each client at once.
    """

    def __init__(self) -> None:
        self.clients: list[ServerConnection] = []
        self.open: set[ServerConnection] = set()
        self.heard: list[str] = []
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.greeting: list[str] = ['{"say":"delta"}']
        self.attempts: list[float] = []
        self.changed = asyncio.Event()
        self.server: Server

    @property
    def root(self) -> str:
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def admit(self, _: ServerConnection, __: Request) -> Response | None:
        self.attempts.append(asyncio.get_running_loop().time())
        if not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        return Response(status, "refused", Headers(headers), b"")

    async def serve(self, client: ServerConnection) -> None:
        self.clients.append(client)
        self.open.add(client)
        self.changed.set()
        for frame in self.greeting:
            await client.send(frame)
        try:
            async for frame in client:
                self.heard.append(str(frame))
                self.changed.set()
        finally:
            self.open.discard(client)
            self.changed.set()


class Sink:
    """Keeps what it is brought."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ticks: list[bool] = []
        self.refused: list[str] = []
        self.letters: list[RefusedFrame] = []
        self.changed = asyncio.Event()

    def accept(self, venue: str, events: Iterable[Event]) -> None:
        assert venue == VENUE
        self.events += events
        self.changed.set()

    def tick(self, venue: str, now_ms: int, *, live: bool) -> None:
        self.ticks.append(live)
        self.changed.set()

    def unlisted(self, venue: str, symbol: str) -> None:
        self.refused.append(symbol)
        self.changed.set()

    def frame_refused(self, venue: str, refused: RefusedFrame) -> None:
        assert venue == VENUE
        self.letters.append(refused)

    async def ready(self, venue: str) -> None: ...

    async def room(self) -> None: ...

    @property
    def said(self) -> list[str]:
        return [
            f"{e.status}:{e.reason}" if isinstance(e, FeedStatus) and e.reason else
            e.status if isinstance(e, FeedStatus) else "event"
            for e in self.events
        ]  # fmt: skip


class FakeRest(RestClient):
    """Answers from a list; no network."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__("", weight_per_minute=1)
        self.replies = [*replies]
        self.asked: list[str] = []
        self.wait = asyncio.Event()
        self.wait.set()

    async def get(self, path: str, weight: float) -> Reply:
        self.asked.append(path)
        await self.wait.wait()
        return self.replies.pop(0) if self.replies else Reply(200, b"", 0)


class Bench:
    """A source on a venue, running."""

    def __init__(self, venue: Venue, timing: Timing, rest: FakeRest, assembler: FakeAssembler):
        self.venue, self.assembler, self.sink, self.rest = venue, assembler, Sink(), rest
        self.source = SocketSource(
            assembler,
            LISTINGS,
            stream_root=venue.root,
            rest=rest,
            clock=SystemClock(),
            timing=timing,
        )
        self.task = asyncio.create_task(self.source.run(self.sink))

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(3):
            while not true():
                assert not self.task.done(), self.task
                self.sink.changed.clear()
                self.venue.changed.clear()
                waits = [
                    asyncio.ensure_future(self.sink.changed.wait()),
                    asyncio.ensure_future(self.venue.changed.wait()),
                ]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def bench(
    timing: Timing = FAST,
    *replies: Reply,
    setup: Callable[[Venue, FakeAssembler], None] | None = None,
) -> AsyncIterator[Bench]:
    venue, assembler = Venue(), FakeAssembler(LISTINGS)
    if setup:
        setup(venue, assembler)
    async with serve(
        venue.serve, "127.0.0.1", 0, process_request=venue.admit, ping_interval=None
    ) as server:
        venue.server = server
        running = Bench(venue, timing, FakeRest(*replies), assembler)
        try:
            yield running
        finally:
            await running.stop()
            for client in venue.clients:
                client.transport.abort()


async def test_frames_become_events_and_time_passes() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said and len(b.sink.ticks) > 1)
        assert b.sink.said[0] == "connected"
        assert b.sink.ticks[-1]
        assert b.source.counts.frames == 1
        assert b.source.counts.connects == 1
        assert b.source.counts.last_frame_ms > 0


async def test_a_stop_says_disconnected_and_closes_politely() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        await b.stop()
        assert b.sink.said[-1] == "disconnected:shutdown"
        await b.venue.clients[0].wait_closed()
        assert b.venue.clients[0].close_code == 1000
        assert b.source.counts.reconnects == {}


@pytest.mark.parametrize(("how", "reason"), [("close", "closed"), ("abort", "lost")])
async def test_a_lost_socket_is_told_and_replaced(how: str, reason: str) -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        if how == "close":
            await b.venue.clients[0].close()
        else:
            b.venue.clients[0].transport.abort()
        await b.until(lambda: len(b.venue.clients) == 2 and b.sink.said[-1] == "event")
        assert b.sink.said == ["connected", "event", f"disconnected:{reason}", "connected", "event"]
        assert b.source.counts.reconnects == {reason: 1}


async def test_a_venue_that_refuses_is_asked_again_no_sooner_than_it_said() -> None:
    def refuse(venue: Venue, _: FakeAssembler) -> None:
        venue.refusals = [(429, {"Retry-After": "0.3"}), (503, {})]

    async with bench(FAST, setup=refuse) as b:
        await b.until(lambda: "event" in b.sink.said)
        first, second, _ = b.venue.attempts
        assert second - first >= 0.29
        assert b.source.counts.reconnects == {"refused": 2}


async def test_nobody_there_is_retried() -> None:
    venue, assembler = Venue(), FakeAssembler(LISTINGS)
    async with serve(venue.serve, "127.0.0.1", 0) as server:
        venue.server = server
        root = venue.root
    source = SocketSource(
        assembler, LISTINGS, stream_root=root, rest=FakeRest(), clock=SystemClock(), timing=FAST
    )
    task = asyncio.create_task(source.run(Sink()))
    await until(lambda: source.counts.reconnects["refused"] >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert assembler.calls == []


async def test_silence_without_a_pong_ends_the_socket() -> None:
    """A half-open connection: the peer is gone and nothing says so."""
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        b.venue.clients[0].transport.pause_reading()
        await b.until(lambda: False in b.sink.ticks)
        await b.until(lambda: len(b.venue.clients) == 2)
        assert b.source.counts.reconnects == {"silent": 1}
        assert "disconnected:silent" in b.sink.said


async def test_a_quiet_venue_that_answers_pings_is_alive() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        b.sink.ticks.clear()
        await asyncio.sleep(2 * FAST.dead_after)
        assert all(b.sink.ticks)
        assert len(b.venue.clients) == 1


async def test_an_old_socket_is_replaced_without_a_hole() -> None:
    async with bench(replace(FAST, life=0.3)) as b:
        await b.until(lambda: len(b.venue.clients) == 2 and len(b.venue.open) == 1)
        assert b.venue.clients[1] in b.venue.open
        assert b.source.counts.reconnects == {"age": 1}
        assert "disconnected" not in " ".join(b.sink.said)
        assert [call[0] for call in b.assembler.calls] == ["connected", "connected"]


async def test_the_old_socket_stays_until_the_new_one_delivers() -> None:
    async with bench(replace(FAST, life=0.3)) as b:
        await b.until(lambda: "event" in b.sink.said)
        b.venue.greeting = []
        await b.until(lambda: len(b.venue.clients) == 2)
        await asyncio.sleep(0.2)
        assert len(b.venue.open) == 2
        await b.venue.clients[0].send('{"say":"delta"}')
        await b.venue.clients[1].send('{"say":"delta"}')
        await b.until(lambda: len(b.venue.open) == 1)
        assert b.sink.said.count("event") == 3


async def test_the_old_socket_stays_while_something_rests_on_it() -> None:
    """Of a venue that numbers each socket's frames, a book moves by a new snapshot only."""

    def lean(_: Venue, assembler: FakeAssembler) -> None:
        assembler.needed = {1}

    async with bench(replace(FAST, life=0.3), setup=lean) as b:
        await b.until(lambda: ("frame", 2) in b.assembler.told_of)
        await asyncio.sleep(0.2)
        assert len(b.venue.open) == 2
        b.assembler.needed.clear()
        await b.until(lambda: ("closed", 1) in b.assembler.told_of)
        assert "gap:restart" in b.sink.said
        assert b.assembler.told_of[:4] == [
            ("connected", 1), ("frame", 1), ("connected", 2), ("frame", 2),
        ]  # fmt: skip


async def test_a_successor_that_dies_while_something_rests_on_the_old_one_is_replaced() -> None:
    def lean(_: Venue, assembler: FakeAssembler) -> None:
        assembler.needed = {1}

    async with bench(replace(FAST, life=0.3), setup=lean) as b:
        await b.until(lambda: ("frame", 2) in b.assembler.told_of)
        b.venue.clients[1].transport.abort()
        await b.until(lambda: ("frame", 3) in b.assembler.told_of)
        assert b.venue.clients[0] in b.venue.open
        assert ("closed", 2) in b.assembler.told_of


async def test_a_successor_that_dies_before_it_delivers_is_tried_again() -> None:
    async with bench(replace(FAST, life=0.3)) as b:
        await b.until(lambda: "event" in b.sink.said)
        b.venue.greeting = []
        await b.until(lambda: len(b.venue.clients) == 2)
        b.venue.greeting = ['{"say":"delta"}']
        b.venue.clients[1].transport.abort()
        await b.until(lambda: len(b.venue.clients) == 3 and b.venue.clients[0] not in b.venue.open)
        assert "disconnected" not in " ".join(b.sink.said)


async def test_an_announced_shutdown_opens_another_socket_first() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        await b.venue.clients[0].send('{"say":"shutdown"}')
        await b.until(lambda: len(b.venue.clients) == 2 and len(b.venue.open) == 1)
        assert b.source.counts.reconnects == {"announced": 1}


async def test_frames_owed_go_out_in_order_and_not_too_fast() -> None:
    def owe(_: Venue, assembler: FakeAssembler) -> None:
        assembler.on_connect_frames = ["one", "two", "three", "four"]

    async with bench(FAST, setup=owe) as b:
        await b.until(lambda: len(b.venue.heard) == 3)
        start_s = asyncio.get_running_loop().time()
        await b.until(lambda: len(b.venue.heard) == 4)
        assert b.venue.heard == ["one", "two", "three", "four"]
        assert asyncio.get_running_loop().time() - start_s >= 0.9


def joins(names: Iterable[str]) -> list[Listing]:
    return [Listing(VENUE, f"{name}-USDT", f"{name}USDT") for name in names]


async def test_symbols_come_and_go_on_the_sockets_that_are_open() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        (sol,) = joins(["SOL"])
        assert b.source.add(sol) == []
        (gone,) = b.source.remove(BTC)
        assert (gone.status, gone.reason) == ("disconnected", "removed")
        await b.until(lambda: len(b.venue.heard) == 2)
        assert b.venue.heard == ["join SOL-USDT", f"leave {BTC}"]
        assert len(b.venue.clients) == 1


async def test_what_comes_too_fast_waits_with_the_assembler() -> None:
    """There it can be put into one frame."""
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        for listing in joins(["A", "B", "C", "D", "E"]):
            b.source.add(listing)
        await b.until(lambda: len(b.venue.heard) == 3)
        assert b.assembler.owed_frames == ["join D-USDT", "join E-USDT"]
        await b.until(lambda: len(b.venue.heard) == 5)


async def test_frames_owed_go_to_every_socket_and_a_new_one_is_caught_up_first() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        b.venue.greeting = []  # so that the second socket does not take over yet
        b.assembler.first_frames = ["catch up"]
        await b.venue.clients[0].send('{"say":"shutdown"}')
        await b.until(lambda: len(b.venue.clients) == 2)
        await b.until(lambda: b.venue.heard == ["catch up"])
        b.source.add(joins(["SOL"])[0])
        await b.until(lambda: b.venue.heard == ["catch up", "join SOL-USDT", "join SOL-USDT"])


async def test_a_source_without_symbols_waits_for_one_before_it_connects() -> None:
    def empty(_: Venue, assembler: FakeAssembler) -> None:
        assembler._symbols = ()

    async with bench(FAST, setup=empty) as b:
        await asyncio.sleep(0.1)
        assert b.venue.attempts == []
        b.source.add(LISTINGS[0])
        await b.until(lambda: len(b.venue.clients) == 1)


async def test_a_symbol_that_a_frame_says_is_not_listed_is_reported() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        await b.venue.clients[0].send('{"unknown":"BTC-USDT"}')
        await b.until(lambda: b.sink.refused == [BTC])


async def test_a_frame_that_is_not_the_dialect_is_counted_and_the_socket_kept() -> None:
    def greet(venue: Venue, _: FakeAssembler) -> None:
        venue.greeting = ['{"bad":1}', '{"bad":1}', '{"say":"delta"}']

    async with bench(FAST, setup=greet) as b:
        await b.until(lambda: "event" in b.sink.said)
        assert b.source.counts.errors == 2
        assert len(b.venue.clients) == 1
        told = [(each.raw, each.conn, each.frame) for each in b.sink.letters]
        assert told == [('{"bad":1}', "c1", 1), ('{"bad":1}', "c1", 2)]


async def test_a_fault_of_ours_begins_again_with_a_new_socket() -> None:
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        await b.venue.clients[0].send('{"bug":1}')
        await b.until(lambda: len(b.venue.clients) == 2)
        assert b.source.counts.reconnects == {"error": 1}


def asking(*requests: HttpRequest) -> Callable[[Venue, FakeAssembler], None]:
    def setup(_: Venue, assembler: FakeAssembler) -> None:
        assembler.on_connect_requests = [*requests]

    return setup


async def test_requests_are_made_and_answered() -> None:
    setup = asking(HttpRequest("snapshot", "/depth", "BTC-USDT", 50))
    async with bench(FAST, Reply(429, b"", 3.0), setup=setup) as b:
        await b.until(lambda: ("http", "/depth", "429", "3.0") in b.assembler.calls)


async def test_a_request_is_not_made_before_its_time() -> None:
    later_ms = SystemClock().now_ms() + 300
    setup = asking(HttpRequest("snapshot", "/depth", not_before_ms=later_ms))
    async with bench(FAST, setup=setup) as b:
        await b.until(lambda: ("http", "/depth", "200", "0") in b.assembler.calls)
        assert SystemClock().now_ms() >= later_ms


async def test_a_symbol_the_venue_does_not_list_is_reported_by_its_canonical_name() -> None:
    setup = asking(HttpRequest("instrument", "/info", "BTC-USDT"))
    async with bench(FAST, Reply(400, b"unknown", 0), setup=setup) as b:
        await b.until(lambda: b.sink.refused == [BTC])


async def test_a_reply_that_is_not_the_dialect_is_counted() -> None:
    setup = asking(HttpRequest("instrument", "/info"))
    async with bench(FAST, Reply(200, b"bad", 0), setup=setup) as b:
        await b.until(lambda: b.source.counts.errors == 1)
        assert [(each.raw, each.path) for each in b.sink.letters] == [(b"bad", "/info")]


async def test_requests_of_a_lost_connection_are_dropped() -> None:
    setup = asking(HttpRequest("snapshot", "/depth"))
    async with bench(FAST, setup=setup) as b:
        b.rest.wait.clear()
        await b.until(lambda: b.rest.asked == ["/depth"])
        b.venue.clients[0].transport.abort()
        await b.until(lambda: len(b.rest.asked) == 2)
        b.rest.wait.set()
        await b.until(lambda: any(call[0] == "http" for call in b.assembler.calls))
        await asyncio.sleep(0.05)
        assert sum(call[0] == "http" for call in b.assembler.calls) == 1


async def test_frames_owed_to_nobody_wait_for_no_one() -> None:
    """A frame owed while the only socket is going away must not break anything."""
    async with bench() as b:
        await b.until(lambda: "event" in b.sink.said)
        b.assembler.owed_frames = [json.dumps({"late": 1})]
        b.venue.clients[0].transport.abort()
        await b.until(lambda: len(b.venue.clients) == 2)
