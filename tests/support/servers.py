"""Real servers for tests: a Kafka and a Redis, found or started once a session.

Which ones were used is said in the terminal summary; where there is none, tests skip and say why.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis

from tapeline.errors import StackError
from tapeline.stack import kafka_jars
from tapeline.stack.embedded import EmbeddedKeyValueStore, store_program
from tapeline.stack.kafka_local import AT_ONCE, LocalKafka
from tapeline.stack.service import Service
from tests.support import containers
from tests.support.background import BackgroundLoop

_used: dict[str, str] = {}
"""What the fixtures settled on, for the summary."""


# --- reporting and markers -----------------------------------------------------------------------


def pytest_report_header() -> list[str]:
    """What the fixtures will use, if a test asks."""
    return [f"kafka: {kafka_plan()}", f"redis: {redis_plan()}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, what in _used.items():
        terminalreporter.write_line(f"{name}: {what}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes (support/side_by_side.py)
        output["servers"] = dict(_used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _used.update(getattr(node, "workeroutput", {}).get("servers", {}))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First, so that ``-m kafka`` finds the tests that are marked by what they ask for."""
    for item in items:
        for name in ("kafka", "redis"):
            if f"{name}_url" in getattr(item, "fixturenames", ()):
                item.add_marker(name)
        if not item.get_closest_marker("docker"):
            continue
        reason = containers.unavailable()
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def background() -> Iterator[BackgroundLoop]:
    """A loop for what lives as long as the session."""
    with BackgroundLoop() as loop:
        yield loop


# --- Redis ---------------------------------------------------------------------------------------


@cache
def redis_plan() -> str:
    """Where `redis_url` will come from, in words."""
    if os.environ.get("NT_TEST_REDIS_URL"):
        return "NT_TEST_REDIS_URL"
    try:
        return f"the wheel's {store_program().name}"
    except StackError as error:
        return shutil.which("redis-server") or f"none ({error}; no redis-server either)"


@pytest.fixture(scope="session")
def redis_url(background: BackgroundLoop) -> Iterator[str]:
    """A real Redis or Valkey, emptied before each test that asks for it."""
    url = os.environ.get("NT_TEST_REDIS_URL")
    if url:
        with redis.Redis.from_url(url) as client:
            _used["redis"] = f"{_version(client)} (NT_TEST_REDIS_URL)"
        yield url
        return
    other = shutil.which("redis-server")
    try:
        program = store_program()
    except StackError as error:
        if other is None:
            pytest.skip(f"{error}; no redis-server on the PATH either")
        program = Path(other)
    with running(background, EmbeddedKeyValueStore(program=program)) as store:
        with redis.Redis.from_url(store.url) as client:
            _used["redis"] = f"{_version(client)} ({program.name})"
        yield store.url


@pytest.fixture(autouse=True)
def _empty_redis(request: pytest.FixtureRequest) -> None:
    if "redis_url" in request.fixturenames:
        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            client.flushdb()


def _version(client: redis.Redis) -> str:
    info = client.info("server")
    valkey = info.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"


# --- Kafka ---------------------------------------------------------------------------------------


@cache
def kafka_plan() -> str:
    """Where `kafka_url` will come from, in words."""
    if os.environ.get("NT_TEST_KAFKA_URL"):
        return "NT_TEST_KAFKA_URL"
    no_jvm = kafka_jars.unavailable()
    if no_jvm is None:
        return "Apache Kafka on the JVM"
    no_docker = containers.unavailable()
    if no_docker is None:
        return "Redpanda in a container"
    return f"none ({no_jvm}; {no_docker})"


@pytest.fixture(scope="session")
def kafka_url(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real Apache Kafka, or Redpanda: one for the session, so topics need names of their own."""
    plan = kafka_plan()
    if plan.startswith("none"):
        pytest.skip(f"no broker: {plan}")
    _used["kafka"] = plan
    starts: dict[str, Callable[[], AbstractContextManager[str]]] = {
        "NT_TEST_KAFKA_URL": _given_kafka,
        "Redpanda in a container": containers.redpanda,
    }
    start = starts.get(plan, lambda: _local_kafka(background, tmp_path_factory.mktemp("kafka")))
    with start() as url:
        yield url


@contextmanager
def _given_kafka() -> Generator[str, None, None]:
    yield os.environ["NT_TEST_KAFKA_URL"]


@contextmanager
def _local_kafka(background: BackgroundLoop, data_dir: Path) -> Generator[str, None, None]:
    with running(background, LocalKafka(data_dir, settings=AT_ONCE)) as kafka:
        yield kafka.url
    # Its segments are preallocated; pytest would keep them for three more runs.
    shutil.rmtree(data_dir, ignore_errors=True)


@contextmanager
def own_kafka(
    background: BackgroundLoop, data_dir: Path, **settings: str
) -> Generator[LocalKafka, None, None]:
    """A Kafka of a test module's own, to be killed; skips where there can be none.

    Stock but for the wait for more members of a group, and for ``settings``, by Kafka's names.
    """
    reason = kafka_jars.unavailable()
    if reason:
        pytest.skip(reason)
    kafka = LocalKafka(data_dir, settings=AT_ONCE | settings)
    with running(background, kafka):
        yield kafka
    # Its segments are preallocated; pytest would keep them for three more runs.
    shutil.rmtree(data_dir, ignore_errors=True)


def mended_kafka(background: BackgroundLoop, kafka: LocalKafka) -> LocalKafka:
    """It runs, also where a test has failed while it was away."""
    if not kafka.running:
        background.run(kafka.start())
    return kafka


async def kill_kafka(background: BackgroundLoop, kafka: LocalKafka) -> None:
    """SIGKILL, and reaped."""
    kafka.kill()
    await asyncio.to_thread(background.run, kafka.stop(grace_s=0))


async def start_kafka(background: BackgroundLoop, kafka: LocalKafka) -> None:
    """Again, on its old ports and data."""
    await asyncio.to_thread(background.run, kafka.start())


@contextmanager
def running(background: BackgroundLoop, service: Service) -> Generator[Service, None, None]:
    """``service``, started and stopped in the background loop."""
    background.run(service.__aenter__())
    try:
        yield service
    finally:
        background.run(service.stop())
