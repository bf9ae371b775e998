"""``tapeline keys``: API keys made, listed and revoked."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import orjson
import typer
from redis.exceptions import RedisError

from lua import Keys
from serving.access import SCOPES
from serving.access.keys import ApiKey, KeyStore, mint
from serving.reader import StoreUnavailable, reader_client
from tapeline.clock import SystemClock
from tapeline.config import load_settings

_T = TypeVar("_T")

TIMEOUT_S = 5.0

app = typer.Typer(
    help="API keys of readers: create, list, revoke. They are in REDIS_URL, as hashes.",
    no_args_is_help=True,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")]


def _run(work: Callable[[KeyStore], Awaitable[_T]]) -> _T:
    """Work on the keys of ``REDIS_URL``.

    Raises:
        ConfigError: It is not set.
        StoreUnavailable: Redis did not answer, or does not allow it.
    """
    settings = load_settings(require=("redis_url",))

    async def run() -> _T:
        async with reader_client(settings.redis_url) as redis:
            store = KeyStore(redis, Keys.of(settings))
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await work(store)
            except (RedisError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__  # repr() of redis-py's tells neither
                raise StoreUnavailable(f"Redis did not answer: {reason}") from None

    return asyncio.run(run())


def _print(body: Any) -> None:
    sys.stdout.write(orjson.dumps(body).decode() + "\n")


def _day(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What people know it by.")],
    scope: Annotated[
        list[str],
        typer.Option(help=f"Of {', '.join(SCOPES)}; comma-separated, or given several times."),
    ],
    rate: Annotated[
        int | None, typer.Option(help="Requests a second; NT_KEY_RATE_PER_S if not given.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it: this once, for only its hash is kept."""
    scopes = [one.strip() for text in scope for one in text.split(",") if one.strip()]
    key, text = mint(name, scopes, rate, SystemClock().now_ms())
    _run(lambda store: store.put(key))
    if as_json:
        _print({**key.shown(), "key": text})
        return
    sys.stderr.write(f"{key.name}: {', '.join(key.scopes)}; it is not shown again\n")
    sys.stdout.write(text + "\n")


@app.command("list")
def list_keys(as_json: JsonFlag = False) -> None:
    """All keys, the revoked ones included; never their secrets."""
    keys = _run(lambda store: store.list())
    if as_json:
        _print({"keys": [key.shown() for key in keys]})
        return
    for key in keys:
        sys.stdout.write(_line(key) + "\n")
    if not keys:
        sys.stderr.write("no keys\n")


def _line(key: ApiKey) -> str:
    rate = "default rate" if key.rate_per_s is None else f"{key.rate_per_s}/s"
    state = "in force" if key.revoked_ms is None else f"revoked {_day(key.revoked_ms)}"
    scopes = ",".join(key.scopes)
    return f"{key.id}  {key.name}  {scopes}  {rate}  created {_day(key.created_ms)}  {state}"


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `tapeline keys list` has it.")],
    as_json: JsonFlag = False,
) -> None:
    """Take a key out of force: every reader refuses it within a second."""
    key = _run(lambda store: store.revoke(key_id, SystemClock().now_ms()))
    if as_json:
        _print(key.shown())
        return
    sys.stdout.write(_line(key) + "\n")
