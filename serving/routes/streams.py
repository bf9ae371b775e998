"""Feeds as resources: list, status, the last hour, a socket; following and leaving them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Request, Response

from serving.access import Access
from serving.feeds import ControlUnavailable, Outcome, UnknownFeed
from serving.parts import Parts
from serving.problems import problem
from serving.reader import SYMBOL_PATTERN, StoreUnavailable
from serving.routes.documented import json_bytes, problems
from serving.status.minutes import read_minutes
from serving.status.models import (
    FeedSight,
    Stream,
    StreamAnswer,
    StreamLinks,
    StreamMetrics,
    Streams,
    StreamWish,
    examples,
)

ROOT: Final = "/api/v1/streams"
STREAM_ID: Final = f"[a-z0-9_-]{{1,32}}:{SYMBOL_PATTERN}"
_STREAM_ID: Final = re.compile(STREAM_ID, re.ASCII)

StreamId = Annotated[
    str,
    Path(
        description="Venue and canonical symbol, such as binance:BTCUSDT.",
        json_schema_extra={"pattern": f"^{STREAM_ID}$"},
        examples=["binance:BTCUSDT"],
    ),
]
_CHANGES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": StreamAnswer, "description": "As asked; `changed` says whether it was so before"},
    202: {
        "model": StreamAnswer,
        "description": "No bridge has answered in time; the command is kept until one can",
    },
    **problems(
        "malformed-request", "foreign-origin", "body-too-large", "invalid-parameter",
        "stream-refused", "broker-unavailable", "not-configured", "keys-unknown",
    ),
}  # fmt: skip


def router(parts: Parts) -> APIRouter:
    """Routes on these parts."""
    routes = APIRouter(tags=["streams"])

    @routes.get(
        ROOT, responses={200: {"model": Streams}, **problems("store-unavailable", "keys-unknown")}
    )
    async def get_streams() -> Response:
        """All feeds that bridges follow, with how they are."""
        at_ms, feeds = await _feeds(parts)
        body = Streams(at_ms=at_ms, streams=[_stream(feed) for feed in feeds.values()])
        return json_bytes(body.model_dump_json().encode())

    @routes.get(
        f"{ROOT}/{{stream_id}}",
        responses={
            200: {"model": Stream},
            **problems("no-such-stream", "store-unavailable", "keys-unknown"),
        },
    )
    async def get_stream(stream_id: StreamId) -> Response:
        """One feed."""
        _, feeds = await _feeds(parts)
        if stream_id not in feeds:
            return _missing(stream_id)
        return json_bytes(_stream(feeds[stream_id]).model_dump_json().encode())

    @routes.get(
        f"{ROOT}/{{stream_id}}/metrics",
        responses={
            200: {"model": StreamMetrics},
            **problems("no-such-stream", "store-unavailable", "keys-unknown"),
        },
    )
    async def get_stream_metrics(stream_id: StreamId) -> Response:
        """A feed's last hour, a point a minute; kept for it also after its bridge has gone."""
        if _STREAM_ID.fullmatch(stream_id) is None:
            return _missing(stream_id)
        venue, _, symbol = stream_id.partition(":")
        points = await read_minutes(parts.redis, parts.keys, venue, symbol, parts.clock.now_ms())
        if not points and stream_id not in (await _feeds(parts))[1]:
            return _missing(stream_id)
        body = StreamMetrics(stream_id=stream_id, points=points)
        return json_bytes(body.model_dump_json().encode())

    @routes.get(
        f"{ROOT}/{{stream_id}}/ws",
        responses={**problems("upgrade-required", "no-such-stream", "keys-unknown")},
    )
    async def get_stream_socket(stream_id: StreamId) -> Response:
        """A WebSocket is here: `/ws` with this stream subscribed to already."""
        if _STREAM_ID.fullmatch(stream_id) is None:
            return _missing(stream_id)
        return problem(
            "upgrade-required",
            f"open {ROOT}/{stream_id}/ws as a WebSocket, or /ws and subscribe there",
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )

    @routes.post(
        ROOT,
        responses={
            201: {"model": StreamAnswer, "description": "Followed from now on"},
            **_CHANGES,
        },
    )
    async def follow_stream(
        request: Request,
        wish: Annotated[
            StreamWish, Body(openapi_examples={"follow": {"value": examples()["follow"]}})
        ],
    ) -> Response:
        """Have bridges follow one more feed, also after a restart. Asks for the scope `admin`."""
        if (no := _refused(parts, request)) is not None:
            return no
        assert parts.control is not None
        stream_id = f"{wish.venue}:{wish.symbol}"
        try:
            outcome = await parts.control.follow(wish.venue, wish.symbol, wish.venue_symbol)
        except UnknownFeed as error:
            return problem("invalid-parameter", str(error))
        except ControlUnavailable as error:
            return problem("broker-unavailable", str(error), {"Retry-After": "1"})
        return _answer(stream_id, outcome, created=True)

    @routes.delete(f"{ROOT}/{{stream_id}}", responses=_CHANGES)
    async def leave_stream(request: Request, stream_id: StreamId) -> Response:
        """Have bridges follow a feed no longer, whatever SYMBOLS says. Asks for the scope `admin`."""
        if (no := _refused(parts, request)) is not None:
            return no
        assert parts.control is not None
        venue, _, symbol = stream_id.partition(":")
        try:
            outcome = await parts.control.unfollow(venue, symbol)
        except UnknownFeed as error:
            return problem("invalid-parameter", str(error))
        except ControlUnavailable as error:
            return problem("broker-unavailable", str(error), {"Retry-After": "1"})
        return _answer(stream_id, outcome, created=False)

    return routes


async def _feeds(parts: Parts) -> tuple[int, dict[str, FeedSight]]:
    status = await parts.board.status()
    redis = next(stage for stage in status.chain if stage.stage == "redis")
    if redis.state == "down":
        raise StoreUnavailable(redis.sentence)
    return status.at_ms, {feed.stream_id: feed for feed in status.feeds}


def _stream(feed: FeedSight) -> Stream:
    root = f"{ROOT}/{feed.stream_id}"
    links = StreamLinks.model_validate(
        {"self": root, "metrics": f"{root}/metrics", "ws": f"{root}/ws"}
    )
    return Stream(**dict(feed), links=links)


def _missing(stream_id: str) -> Response:
    return problem("no-such-stream", f"no bridge follows {stream_id[:80]!r}; {ROOT} lists all")


def _refused(parts: Parts, request: Request) -> Response | None:
    """Why feeds may not be changed by this request; the front door has asked for a key before."""
    access: Access | None = request.scope.get("state", {}).get("access")
    if access is None or "admin" not in access.scopes:
        return problem("forbidden", "feeds are changed with the scope admin alone")
    if parts.control is None:
        return problem("not-configured", "feeds are changed over Kafka, and KAFKA_URL is not set")
    return None


def _answer(stream_id: str, outcome: Outcome, *, created: bool) -> Response:
    if outcome.status == "error":
        return problem("stream-refused", outcome.error or "refused", command_id=outcome.command_id)
    body = StreamAnswer(
        stream_id=stream_id,
        command_id=outcome.command_id,
        status=outcome.status,
        changed=outcome.changed,
        routing_version=outcome.routing_version,
        node_id=outcome.node_id,
    )
    status = 202 if outcome.status == "unanswered" else 201 if created and outcome.changed else 200
    headers = {"Location": f"{ROOT}/{stream_id}"} if status == 201 else {}
    return json_bytes(body.model_dump_json().encode(), headers, status)
