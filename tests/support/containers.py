"""Redpanda and Redis in containers, by testcontainers."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# What production is shown with is what the tests run on.
_COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"
_START_S = 120


@cache
def unavailable() -> str | None:
    """Why containers can't be used here, in words; None where they can."""
    # Asked by the command line, which knows contexts as testcontainers does; the client library
    # leaves its socket open where nobody answers.
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        return "docker is not installed"
    except subprocess.TimeoutExpired:
        return "the Docker daemon does not answer"
    if asked.returncode == 0:
        return None
    return f"no Docker daemon: {(asked.stderr.strip() or 'no reason given').splitlines()[-1]}"


def image(service: str) -> str:
    """The pinned image of a service of docker-compose.yml."""
    import yaml

    return str(yaml.safe_load(_COMPOSE.read_text())["services"][service]["image"])


@contextmanager
def redpanda() -> Generator[str, None, None]:
    """A Redpanda; its URL."""
    from testcontainers.community.kafka import RedpandaContainer

    container = RedpandaContainer(image("redpanda"))
    container.start(timeout=_START_S)
    try:
        yield f"kafka://{container.get_bootstrap_server()}"
    finally:
        container.stop()


@contextmanager
def redis() -> Generator[str, None, None]:
    """A Redis; its URL."""
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(image("redis")) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
        yield f"redis://{host}:{port}/0"
