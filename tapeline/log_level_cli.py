"""``tapeline loglevel``: the level of running processes' logs, for a while."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Annotated, Any, Final

import orjson
import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from lua import Keys
from tapeline.config import load_settings
from tapeline.errors import ConfigError, StackError
from tapeline.log_level import LEVELS

RESET: Final = "RESET"
TIMEOUT_S: Final = 5.0
LONGEST_S: Final = 7 * 86_400
EVERY_NODE: Final = "*"
_NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}|\*")
_TIME: Final = re.compile(r"(\d{1,7})(s|m|h|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}

app = typer.Typer()


def seconds_of(text: str) -> int:
    """A time such as ``90``, ``90s``, ``10m`` or ``2h``, in seconds.

    Raises:
        ConfigError: It is none, or none from 1 s to 7 days.
    """
    found = _TIME.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 1 <= seconds <= LONGEST_S:
        raise ConfigError("--for", text, "a time from 1s to 168h, such as 90s, 10m or 2h")
    return seconds


@app.command()
def loglevel(
    level: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join(LEVELS)}, or reset; what is set now if not given."),
    ] = None,
    node: Annotated[str, typer.Option(help="NT_NODE_ID of the processes; all if not given.")] = "*",
    lasting: Annotated[str, typer.Option("--for", help="After that it is what it was.")] = "10m",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line.")
    ] = False,
) -> None:
    """Change the level of logs while processes run: bridges, workers, readers, MCP servers.

    By a key of REDIS_URL that expires. Each process looks every 2 seconds. Without Redis, send a
    process SIGUSR1: it says everything for ten minutes, or no more if it does already.
    """
    settings = load_settings(require=("redis_url",))
    wanted = level.upper() if level is not None else None
    if wanted is not None and wanted not in (*LEVELS, RESET):
        raise ConfigError("LEVEL", level, f"one of {', '.join(LEVELS)}, or reset")
    if not _NODE.fullmatch(node):
        raise ConfigError("--node", node, "a node's id: letters, digits, dots, dashes")
    key = Keys.of(settings).log_level(node)
    said = asyncio.run(_set(settings.redis_url, key, wanted, seconds_of(lasting)))
    said = {"node": node, **said}
    if as_json:
        sys.stdout.write(orjson.dumps(said).decode() + "\n")
        return
    who = "all nodes" if node == EVERY_NODE else node
    if said["level"] is None:
        sys.stdout.write(f"{who}: as configured\n")
    else:
        sys.stdout.write(f"{who}: {said['level']}, for {said['for_s']} s\n")


async def _set(redis_url: str, key: str, wanted: str | None, lasting_s: int) -> dict[str, Any]:
    """Change it, or not; what it is then.

    Raises:
        StackError: Redis did not answer.
    """
    try:
        async with Redis.from_url(redis_url) as redis, asyncio.timeout(TIMEOUT_S):
            if wanted == RESET:
                await redis.delete(key)
            elif wanted is not None:
                await redis.set(key, wanted, ex=lasting_s)
            found, left_ms = await redis.get(key), await redis.pttl(key)
    except (RedisError, OSError, TimeoutError) as error:
        raise StackError(f"Redis did not answer: {error!r}") from None
    level = found.decode(errors="replace") if isinstance(found, bytes) else None
    return {"level": level, "for_s": round(left_ms / 1000) if level is not None else 0}
