"""``redis-cli`` for machines without: one command to the server of ``REDIS_URL``, its raw reply.

Only what pages use: no options but ``-u URL``, no interactive mode.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import redis


def lines(reply: Any) -> list[str]:
    """A reply as `redis-cli` prints it where nobody watches."""
    match reply:
        case None:
            return [""]
        case bytes():
            return [reply.decode(errors="backslashreplace")]
        case dict():
            return [line for pair in reply.items() for each in pair for line in lines(each)]
        case list() | tuple() | set():
            return [line for each in reply for line in lines(each)]
        case True:
            return ["OK"]
    return [str(reply)]


def main() -> int:
    words = sys.argv[1:]
    url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
    if words[:1] == ["-u"]:
        url, words = words[1], words[2:]
    with redis.Redis.from_url(url) as client:
        try:
            print(*lines(client.execute_command(*words)), sep="\n")
        except redis.RedisError as error:
            print(f"(error) {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
