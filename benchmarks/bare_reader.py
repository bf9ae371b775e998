"""The least that answers a report over HTTP, as a measure: ``python -m benchmarks.bare_reader``.

FastAPI and redis on uvicorn, one route, one GET; no checks, no ages, no log, no metrics. What
``tapeline serve`` takes beyond it is what those cost.
"""

from __future__ import annotations

import json
import os
import socket
import sys

import uvicorn
from fastapi import FastAPI, Response
from redis.asyncio import Redis


def app_of(redis_url: str) -> FastAPI:
    """One route on a client of its own."""
    redis, app = Redis.from_url(redis_url), FastAPI()

    @app.get("/get_report")
    async def get_report(symbol: str) -> Response:
        body = await redis.get(f"report:{symbol}")
        return Response(body or b"null", media_type="application/json")

    @app.get("/ticks/realtime")
    async def get_tick(symbol: str) -> Response:
        body = await redis.get(f"tick:{symbol}")
        return Response(body or b"null", media_type="application/json")

    return app


if __name__ == "__main__":
    options = json.loads(sys.stdin.readline())
    with socket.create_server(("127.0.0.1", 0)) as sock:
        print(json.dumps({"port": sock.getsockname()[1], "pid": os.getpid()}), flush=True)
        config = uvicorn.Config(
            app_of(options["redis_url"]), log_config=None, access_log=False, http="h11"
        )
        uvicorn.Server(config).run(sockets=[sock])
