"""What a request needs, made once and handed to every route."""

from __future__ import annotations

from dataclasses import dataclass, field

from redis.asyncio import Redis

from lua import Keys
from serving.access.history import History
from serving.access.ring import KeyRing
from serving.answer_traces import AnswerTraces
from serving.directory import Directory
from serving.feeds import FeedControl
from serving.fetching import Fetcher
from serving.hub import Hub
from serving.hub.events import MakeEvents, RedisEvents
from serving.metrics import ReaderMetrics
from serving.reader import READ_TIMEOUT_S, ReportReader, reader_client
from serving.status.board import StatusBoard
from serving.status.feed import ChainFeed
from serving.status.reader_facts import ReaderCounts
from serving.status.survey import StatusSurvey
from serving.ticks import TickReader
from tapeline.clock import Clock, SystemClock
from tapeline.config import Settings
from tapeline.tracing import Tracing
from tapeline.tracing_metrics import register


@dataclass(kw_only=True)
class Parts:
    """All of a reader but its routes.

    Attributes:
        settings: Of this process.
        redis: For reports and ticks; only ever read from.
        keys: Names of the keys of Redis.
        reader, ticks, directory: What reads them, behind one fence.
        board: The chain, looked up for all who ask.
        control: Has bridges follow more, or less; None without Kafka.
        hub: The websockets.
        ring, history: API keys in force, and what they have asked.
        metrics, clock: As their names say.
        started_ms: When this process began, since the epoch.
        answers: Told of answers with a report; None where nothing is traced.
        own: Clients to close in the end.
    """

    settings: Settings
    redis: Redis
    keys: Keys
    reader: ReportReader
    ticks: TickReader
    directory: Directory
    board: StatusBoard
    control: FeedControl | None
    hub: Hub
    ring: KeyRing
    history: History
    metrics: ReaderMetrics
    clock: Clock
    started_ms: int
    answers: AnswerTraces | None = None
    own: list[Redis] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        settings: Settings,
        redis: Redis | None = None,
        clock: Clock | None = None,
        control: FeedControl | None = None,
        events: MakeEvents | None = None,
        tracing: Tracing | None = None,
    ) -> Parts:
        """Everything by settings.

        Args:
            settings: ``REDIS_URL`` and ``REDIS_READER_URL`` name the stores unless ``redis`` is
                given.
            redis: A client for everything; closed by whoever made it.
            clock: What ages are told by.
            control: Has bridges follow more, or less.
            events: Where the hub has events from, in place of the Redis Streams.
            tracing: Makes spans; stopped by whoever made it.
        """
        own: list[Redis] = []
        client = redis
        if client is None:
            client = reader_client(settings.redis_reader_url or settings.redis_url)
            own.append(client)
        keyring = client
        if redis is None and settings.redis_reader_url:
            keyring = reader_client(settings.redis_url)
            own.append(keyring)
        clock, keys = clock or SystemClock(), Keys.of(settings)
        fetcher, metrics = Fetcher(client, READ_TIMEOUT_S), ReaderMetrics(clock)
        reader = ReportReader(fetcher, keys, clock)
        counts = ReaderCounts(settings, metrics, clock)
        board = StatusBoard(StatusSurvey(client, keys, counts.facts, clock=clock), clock=clock)
        source = events(RedisEvents(client, keys)) if events is not None else None
        hub = Hub(settings, client, keys, metrics.registry, clock, source)
        hub.states.words = ChainFeed(board).words
        register(metrics.registry, tracing)
        hub.answers = AnswerTraces(tracing, fetcher, keys) if tracing is not None else None
        return cls(
            settings=settings,
            redis=client,
            keys=keys,
            reader=reader,
            ticks=TickReader(fetcher, keys, reader, clock),
            directory=Directory(client, keys, reader, clock),
            board=board,
            control=control,
            hub=hub,
            ring=KeyRing(keyring, keys, clock),
            history=History(keyring, keys, settings.query_history, metrics.history_dropped.inc),
            metrics=metrics,
            clock=clock,
            started_ms=clock.now_ms(),
            answers=hub.answers,
            own=own,
        )

    async def close(self) -> None:
        """Close what `of` has opened."""
        await self.board.close()
        if self.answers is not None:
            await self.answers.close()
        for client in self.own:
            await client.aclose()
