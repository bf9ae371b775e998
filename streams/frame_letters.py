"""Frames that can't be parsed, on their way to the dead-letter topic. Never in the way of the market.

Taking one costs a copy of its first bytes, and only as often as a venue's allowance lets it: a
venue that sends nothing but rubbish is heard of, not archived. They wait in a queue of their own
and go by a producer of their own, so whatever becomes of them, records are not behind them. What
is not kept is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from streams.allowance import Allowance
from streams.backoff import Backoff, Timing
from streams.sources import RefusedFrame
from streams.topics import dead_letters_of
from tapeline.errors import TopicError
from tapeline.kafka_access import KafkaAccess
from tapeline.logging import get_logger

RAW_BYTES_MAX: Final = 65_536
"""Of a frame; of a longer one, its beginning is kept."""

MESSAGE_MAX: Final = 500
QUEUE_LETTERS_MAX: Final = 512
QUEUE_BYTES_MAX: Final = 8 * 1024 * 1024
PER_SECOND: Final = 5.0
BURST: Final = 50
"""A venue's allowance: so many at once, and so many a second in the long run."""

AT_ONCE: Final = 64
"""Letters that wait for the broker's answer together."""

START_TIMEOUT_S: Final = 15.0
SEND_TIMEOUT_S: Final = 15.0
REQUEST_TIMEOUT_MS: Final = 10_000
IDLE_S: Final = 30.0
"""A producer that has had nothing to do for this long is closed."""

_PATIENCE: Final = Timing(backoff=0.5, backoff_max=10.0)

log = get_logger("frame_letters")


class FrameLetter(NamedTuple):
    """One letter as it is written.

    Attributes:
        venue: Whose frame it is.
        value: The frame's bytes, at most `RAW_BYTES_MAX` of them.
        headers: Error and position.
    """

    venue: str
    value: bytes
    headers: list[tuple[str, bytes]]


def letter_of(venue: str, topic: str, refused: RefusedFrame) -> FrameLetter:
    """The letter about a frame.

    Args:
        venue: Whose frame it is.
        topic: The one that its events would have gone to.
        refused: The frame, the error, the position.
    """
    raw, length = refused.raw, len(refused.raw)
    if isinstance(raw, str):
        if not raw.isascii():
            length = len(raw.encode("utf-8", "surrogatepass"))
        raw = raw[:RAW_BYTES_MAX].encode("utf-8", "surrogatepass")
    fields: dict[str, object] = {
        "error": type(refused.error).__name__,
        "message": str(refused.error)[:MESSAGE_MAX],
        "topic": topic,
        "venue": venue,
        "ts_recv_ms": refused.ts_recv_ms,
    }
    if refused.path:
        fields["path"] = refused.path[:MESSAGE_MAX]
    else:
        fields["conn"], fields["frame"] = refused.conn, refused.frame
    if length > RAW_BYTES_MAX:
        fields["truncated"] = length
    headers = [(name, str(text).encode("utf-8", "replace")) for name, text in fields.items()]
    return FrameLetter(venue, raw[:RAW_BYTES_MAX], headers)


class LetterQueue:
    """Letters that the broker has not acknowledged: bounded, honest about what it left out. Pure.

    Attributes:
        bytes: Of the frames held.
        kept: Letters the broker has, by venue.
        dropped: Letters left out, by (venue, reason): ``rate``, ``full``, ``refused``
            (too large for the broker) or ``shutdown``.
    """

    def __init__(
        self,
        topic: str,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        letters_max: int = QUEUE_LETTERS_MAX,
        bytes_max: int = QUEUE_BYTES_MAX,
    ) -> None:
        """Letters about frames whose events would have gone to ``topic``."""
        self.bytes = 0
        self.kept: Counter[str] = Counter()
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._topic = topic
        self._rate = (per_second, burst)
        self._letters_max, self._bytes_max = letters_max, bytes_max
        self._allowances: dict[str, Allowance] = {}
        self._letters: deque[FrameLetter] = deque()

    def __len__(self) -> int:
        return len(self._letters)

    def put(self, venue: str, refused: RefusedFrame, now_ms: int) -> bool:
        """Take a frame, if there is room and the venue has not had its share; False if not."""
        allowance = self._allowances.get(venue)
        if allowance is None:
            allowance = self._allowances[venue] = Allowance(*self._rate)
        # Room first: what is not taken costs the venue nothing of its share.
        size = min(len(refused.raw), RAW_BYTES_MAX)
        if len(self) >= self._letters_max or self.bytes + size > self._bytes_max:
            self.dropped[venue, "full"] += 1
            return False
        if not allowance.spend(now_ms):
            self.dropped[venue, "rate"] += 1
            return False
        letter = letter_of(venue, self._topic, refused)
        self._letters.append(letter)
        self.bytes += len(letter.value)
        return True

    def first(self, count: int) -> list[FrameLetter]:
        """The oldest letters, left where they are."""
        return [self._letters[n] for n in range(min(count, len(self)))]

    def written(self, outcomes: Iterable[bool]) -> None:
        """The broker has the oldest letters, each true, or will never take them."""
        for kept in outcomes:
            letter = self._letters.popleft()
            self.bytes -= len(letter.value)
            if kept:
                self.kept[letter.venue] += 1
            else:
                self.dropped[letter.venue, "refused"] += 1

    def give_up(self) -> int:
        """Nobody will write what is left; returns how many these are."""
        left = len(self)
        for letter in self._letters:
            self.dropped[letter.venue, "shutdown"] += 1
        self._letters.clear()
        self.bytes = 0
        return left


class FrameLetters:
    """A `LetterQueue`, and what empties it into the dead-letter topic.

    Attributes:
        queue: What waits; its counts.
    """

    def __init__(
        self,
        *,
        access: KafkaAccess,
        topic: str,
        client_id: str,
        monotonic_ms: Callable[[], int],
    ) -> None:
        """Nothing is opened before there is a letter.

        Args:
            access: The brokers.
            topic: The events topic.
            client_id: As seen by the broker.
            monotonic_ms: A clock that never steps back.
        """
        self.queue = LetterQueue(topic)
        self._access, self._topic, self._client_id = access, dead_letters_of(topic), client_id
        self._monotonic_ms = monotonic_ms
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()

    def keep(self, venue: str, refused: RefusedFrame) -> None:
        """Take a frame; returns at once, whatever the broker does."""
        if self.queue.put(venue, refused, self._monotonic_ms()):
            self._wake.set()

    async def drained(self) -> None:
        """Wait until the broker has all of them."""
        while self.queue:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Write until cancelled; an outage is waited out, however long."""
        backoff = Backoff(_PATIENCE)
        while True:
            await self._wake.wait()
            try:
                await self._write()
            except Exception as exc:
                # Whatever it is: a bridge does not end because of letters.
                log.warning(
                    "letters.not_written",
                    topic=self._topic,
                    error=str(exc) or type(exc).__name__,
                    waiting=len(self.queue),
                )
                await asyncio.sleep(backoff.next_s())
            else:
                backoff = Backoff(_PATIENCE)

    async def _write(self) -> None:
        """One producer's life: until there has been nothing to write for a while."""
        producer = _producer(self._access, self._client_id)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await producer.start()
                # Of all topics: asked about one by name, some brokers create it.
                cluster = await producer.client.fetch_all_metadata()
                if not cluster.partitions_for_topic(self._topic):
                    raise TopicError(f"no topic {self._topic}: run `tapeline topics apply`")
            with contextlib.suppress(TimeoutError):
                while True:
                    await self._empty(producer)
                    self._wake.clear()
                    async with asyncio.timeout(IDLE_S):
                        await self._wake.wait()
        finally:
            await _closed(producer)

    async def _empty(self, producer: Any) -> None:
        while self.queue:
            letters = self.queue.first(AT_ONCE)
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    answers = await asyncio.gather(
                        *(self._send(producer, letter) for letter in letters)
                    )
            except TimeoutError:
                raise TopicError(f"no answer within {SEND_TIMEOUT_S:g} s") from None
            self.queue.written(answers)
            self._moved.set()

    async def _send(self, producer: Any, letter: FrameLetter) -> bool:
        try:
            await (await producer.send(self._topic, letter.value, headers=letter.headers))
        except MessageSizeTooLargeError:
            return False
        return True


def _producer(access: KafkaAccess, client_id: str) -> Any:
    return AIOKafkaProducer(
        **access.arguments(),
        client_id=client_id,
        acks="all",
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )


async def _closed(producer: Any) -> None:
    """Close a producer; one that can't bring its last batch home is left after a second."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait([stopping], timeout=1.0)
    if not stopping.done():
        stopping.cancel()
        await producer.client.close()
    await asyncio.gather(stopping, return_exceptions=True)
