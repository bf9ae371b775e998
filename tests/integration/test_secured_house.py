"""The whole system on servers that let nobody in without TLS, a user and rights of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import TopicAuthorizationFailedError
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.topics import admin_of, partition_counts
from tapeline.config import Settings, load_settings, variable_name
from tapeline.kafka_access import KafkaAccess
from tapeline.stack import kafka_jars
from tapeline.stack.ports import free_port
from tests.support.background import BackgroundLoop
from tests.support.certificates import Authority
from tests.support.leaks import everything_in, everything_in_kafka, everything_in_redis, leaks
from tests.support.redis_process import RedisProcess, running_server
from tests.support.secured import SecuredKafka, TlsDoor
from tests.support.secured_house import Locks, SecuredHouse, secret, secured_house
from tests.support.servers import running
from tests.support.worker import WorkerProcess, eventually, report_of

pytestmark = [pytest.mark.kafka, pytest.mark.redis, pytest.mark.e2e]

SYMBOLS = ("BTCUSDT", "ETHUSDT")
START_S = 90.0
"""Of a house of processes, each with TLS to set up, on a machine with other things to do."""


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Locks:
    return Locks(Authority(tmp_path_factory.mktemp("authority")))


@pytest.fixture(scope="module")
def kafka(
    background: BackgroundLoop, tmp_path_factory: pytest.TempPathFactory, locks: Locks
) -> Iterator[SecuredKafka]:
    """A broker of its own: the one that all tests share has neither TLS nor users."""
    reason = kafka_jars.unavailable()
    if reason:
        pytest.skip(f"no Apache Kafka to be set up with TLS: {reason}")
    folder = tmp_path_factory.mktemp("secured-kafka")
    with running(background, SecuredKafka(folder, locks.authority, locks.kafka)) as started:
        assert isinstance(started, SecuredKafka)
        yield started
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisProcess]:
    with running_server(tmp_path) as process:
        yield process


@pytest.fixture
async def house(
    kafka: SecuredKafka, redis_server: RedisProcess, locks: Locks, tmp_path: Path
) -> AsyncIterator[SecuredHouse]:
    async with secured_house(kafka, redis_server, locks, tmp_path, SYMBOLS) as made:
        yield made


async def api_key(house: SecuredHouse) -> str:
    """As the page says: by the admin's user."""
    scopes = "reports:read,ticks:read,status:read,admin"
    status, out, err = await house.command(
        *("keys", "create", "--name", "a", "--scope", scopes, "--json"), **house.of_redis("admin")
    )
    assert status == 0, err
    return str(json.loads(out.splitlines()[-1])["key"])


async def started(house: SecuredHouse) -> list[WorkerProcess]:
    """Bridge, reader and two workers at work."""
    status, _, err = await house.command("topics", "apply", "--json")
    assert status == 0, err
    await house.child("bridge", **house.env("bridge"))
    workers = [
        await house.one.worker(NT_NODE_ID=f"{house.one.name}-{name}", **house.env("worker"))
        for name in ("a", "b")
    ]
    await house.serve(START_S, **house.env("reader"), NT_HUB_EVENTS="kafka")
    for worker in workers:
        await worker.ready(START_S)
    return workers


async def writer_of(house: SecuredHouse, symbol: str) -> str:
    async with house.one.redis() as redis:
        return ((await redis.get(f"report:writer:{symbol}")) or b"").decode().split("|")[0]


async def rises(house: SecuredHouse, symbol: str, beyond: tuple[int, int]) -> tuple[int, int]:
    """(token, seq) of the first report behind ``beyond`` that has data of now."""

    async def newer() -> tuple[int, int] | None:
        async with house.one.redis() as redis:
            report = await report_of(redis, symbol)
        if report is None or report["data_age_ms"] is None:
            return None
        order = report["writer"]["writerToken"], report["seq"]
        return order if order > beyond else None

    return await eventually(newer, 60, what=f"a report of {symbol} behind {beyond}")


@pytest.mark.slow(limit_s=240)
async def test_reports_come_and_a_killed_worker_is_replaced(house: SecuredHouse) -> None:
    """Venue to reader; no process is refused anything that it asks for."""
    async with house.one.redis() as redis:
        await redis.execute_command("ACL", "LOG", "RESET")
    workers = await started(house)
    key = await api_key(house)
    newest = {symbol: await rises(house, symbol, (0, 0)) for symbol in SYMBOLS}

    async def answered() -> bool:
        status, _ = await house.ask("/get_report?symbol=BTCUSDT", key=key)
        return status == 200

    await eventually(answered, what="a report over HTTP")
    await _hears_trades(house, key)
    status, body = await house.ask(
        "/api/v1/streams", "POST", key, {"venue": "binance", "symbol": "BTCUSDT"}
    )
    assert status in (200, 201, 202), (status, body)

    node = await writer_of(house, "BTCUSDT")
    (victim,) = [w for w, name in zip(workers, "ab", strict=True) if node.endswith(name)]
    (heir,) = [w for w in workers if w is not victim]
    await victim.killed()
    for symbol in SYMBOLS:
        await rises(house, symbol, newest[symbol])
    await _by_another(house, "BTCUSDT", node)
    beyond = await rises(house, "BTCUSDT", newest["BTCUSDT"])
    assert (await rises(house, "BTCUSDT", beyond))[0] > newest["BTCUSDT"][0]
    await heir.says("member.evicted")

    await _what_operators_run(house)
    async with house.one.redis() as redis:
        refused = [
            (e[b"username"], e[b"object"]) for e in await redis.execute_command("ACL", "LOG")
        ]
    assert refused == []
    everything = [*heir.lines, *victim.lines, *(x for said in house.lines.values() for x in said)]
    assert [line for line in everything if "AuthorizationFailed" in line] == []
    assert house.door.admitted > 0


async def _hears_trades(house: SecuredHouse, key: str) -> None:
    """By the reader's own consumers of Kafka."""
    headers = {"X-API-Key": key}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.ws_connect(f"{house.url}/ws") as socket,
    ):
        wish = {"op": "subscribe", "id": "1", "channels": ["trades"], "symbols": ["BTCUSDT"]}
        await socket.send_json(wish)
        frame: dict[str, Any] = {}
        while frame.get("type") != "events":
            frame = await socket.receive_json(timeout=25)


async def _by_another(house: SecuredHouse, symbol: str, before: str) -> None:
    async def another() -> bool:
        return await writer_of(house, symbol) not in ("", before)

    await eventually(another, what=f"another writer of {symbol} than {before}")


async def _what_operators_run(house: SecuredHouse) -> None:
    """Topics, symbols, replay, audit, dead letters: as the operator, and by TLS."""
    await house.one.write([(b"BTCUSDT", b"no record")])
    status, out, err = await house.command("topics", "plan", "--json")
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["planned"]["create"] == {}
    status, out, err = await house.command("symbols", "list", "--json")
    assert status == 0, err
    status, out, err = await house.command("replay", "--symbols", "binance:BTCUSDT", "--json")
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["records"] > 0

    async def kept() -> bool:
        return bool(await house.one.dead_letters())

    await eventually(kept, 60, "a dead letter")
    status, out, err = await house.command("dlq", "list", "--json")
    assert status == 0, err
    assert json.loads(out.splitlines()[-1])["total"] == 1
    status, out, err = await house.command("audit", "BTCUSDT", "--json")
    assert status == 0, (out, err)


@pytest.mark.slow
async def test_nobody_may_more_on_kafka_than_its_work(house: SecuredHouse) -> None:
    status, _, err = await house.command("topics", "apply")
    assert status == 0, err
    for role, topic in (
        ("worker", house.one.topic), ("reader", house.one.topic),
        ("bridge", f"{house.one.name}.merged"), ("worker", f"{house.one.name}.commands"),
    ):  # fmt: skip
        producer = AIOKafkaProducer(**_access(house, role).arguments())
        await producer.start()
        try:
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"x", b"BTCUSDT")
        finally:
            await producer.stop()
    consumer = AIOKafkaConsumer(**_access(house, "bridge").arguments(), enable_auto_commit=False)
    await consumer.start()
    try:
        tp = TopicPartition(house.one.topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        with pytest.raises(TopicAuthorizationFailedError):
            await consumer.getmany(tp, timeout_ms=3000)
    finally:
        await consumer.stop()


def _access(house: SecuredHouse, role: str) -> KafkaAccess:
    return KafkaAccess.of(load_settings({**house.one.environment(), **house.env(role)}))


@pytest.mark.slow
async def test_who_is_not_let_in_is_told_why(house: SecuredHouse, tmp_path: Path) -> None:
    """One line, status 1, which setting to look at."""
    other = Authority(tmp_path / "other", "another authority")
    for change, said in (
        ({"NT_KAFKA_PASSWORD": "wrong"}, "NT_KAFKA_PASSWORD"),
        ({"NT_KAFKA_SASL_MECHANISM": "PLAIN", "NT_KAFKA_PASSWORD": "x"}, "NT_KAFKA_USERNAME"),
        ({"NT_KAFKA_CA_FILE": str(other.ca)}, "NT_KAFKA_CA_FILE"),
        ({"KAFKA_URL": house.kafka.url}, "NT_KAFKA_SECURITY_PROTOCOL is SASL_SSL"),
    ):
        status, out, err = await house.command("topics", "plan", **change)
        assert status == 1, (change, err)
        assert out == ""
        (error,) = [line for line in err.splitlines() if line.startswith("ERROR: ")]
        assert said in error, error
        assert house.locks.kafka["tapeline-operator"] not in err
    unsecured = {
        "NT_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT", "NT_KAFKA_USERNAME": "",
        "NT_KAFKA_PASSWORD": "", "NT_KAFKA_CA_FILE": "",
    }  # fmt: skip
    status, _, err = await house.command("topics", "plan", **unsecured)
    assert status == 1
    assert "NT_KAFKA_SECURITY_PROTOCOL is PLAINTEXT" in err


@pytest.mark.slow
async def test_a_store_that_is_not_ours_or_a_wrong_password_is_told(
    house: SecuredHouse, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "another authority")
    admin = house.of_redis("admin")
    for change, said in (
        ({"NT_REDIS_CA_FILE": str(other.ca)}, "CERTIFICATE_VERIFY_FAILED"),
        ({"NT_REDIS_PASSWORD": "wrong-of-the-test"}, "WRONGPASS|invalid username-password"),
    ):
        status, out, err = await house.command("keys", "list", "--json", **{**admin, **change})
        assert status == 1, err
        assert any(word in err for word in said.split("|")), err
        assert "wrong-of-the-test" not in out + err


@pytest.mark.slow
async def test_a_worker_waits_for_a_broker_that_does_not_let_it_in(house: SecuredHouse) -> None:
    """As for one that is away; and goes on once it may, which is another test's."""
    env = {**house.env("worker"), "NT_KAFKA_PASSWORD": "wrong-of-the-test"}
    worker = await house.one.worker(**env)
    said = await worker.says("broker.unavailable")
    assert "NT_KAFKA_PASSWORD" in said["error"]
    assert worker.child.running
    assert not [line for line in worker.lines if "wrong-of-the-test" in line]


@pytest.mark.slow
async def test_a_certificate_alone_names_a_client(house: SecuredHouse) -> None:
    """SSL without SASL, where the broker asks for a certificate; the test's superuser has one."""
    own = house.locks.authority.issue("operator")
    env = {
        **house.one.environment(), "KAFKA_URL": house.kafka.mutual_url,
        "NT_KAFKA_SECURITY_PROTOCOL": "SSL", "NT_KAFKA_CA_FILE": str(house.locks.authority.ca),
        "NT_KAFKA_CERT_FILE": str(own.cert), "NT_KAFKA_KEY_FILE": str(own.key),
    }  # fmt: skip
    async with admin_of(load_settings(env)) as admin:
        await partition_counts(admin)
    stranger = Authority(house.folder / "other").issue("stranger")
    env |= {"NT_KAFKA_CERT_FILE": str(stranger.both), "NT_KAFKA_KEY_FILE": ""}
    assert await KafkaAccess.of(load_settings(env)).reason()


async def test_redis_by_tls_with_a_certificate_of_our_own(
    redis_server: RedisProcess, locks: Locks
) -> None:
    own = locks.authority.issue("client")
    door = TlsDoor(locks.authority, redis_server.port, client_certs=True)
    async with door.open():
        url = {"REDIS_URL": f"rediss://127.0.0.1:{door.port}/0"}
        ca = {"NT_REDIS_CA_FILE": str(locks.authority.ca)}
        cert = {"NT_REDIS_CERT_FILE": str(own.cert), "NT_REDIS_KEY_FILE": str(own.key)}
        async with Redis.from_url(load_settings({**url, **ca, **cert}).redis_url) as redis:
            assert await redis.ping()
        async with Redis.from_url(load_settings({**url, **ca}).redis_url) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.ping()


# --- secrets --------------------------------------------------------------------------------------


def test_every_setting_that_can_hold_a_secret_is_planted() -> None:
    """A new one has to be planted, too, before this test lets it be."""
    could = {
        variable_name(name)
        for name, info in Settings.model_fields.items()
        if info.annotation is SecretStr or name.endswith(("_url", "_key_file", "_endpoint"))
    }
    assert could == PLANTED


PLANTED = {
    "KAFKA_URL",  # takes no password: the unit tests have it refused
    "REDIS_URL", "REDIS_READER_URL", "NT_REDIS_PASSWORD", "NT_REDIS_READER_PASSWORD",
    "NT_KAFKA_PASSWORD", "NT_KAFKA_KEY_FILE", "NT_REDIS_KEY_FILE",
    "NT_BINANCE_STREAM_URL", "NT_BINANCE_REST_URL", "NT_COINBASE_STREAM_URL",
    "NT_COINBASE_REST_URL", "NT_KRAKEN_STREAM_URL", "NT_OTLP_ENDPOINT",
}  # fmt: skip


def with_user(url: str, password: str) -> str:
    return url.replace("://", f"://ann:{quote(password, safe='')}@")


@pytest.mark.slow(limit_s=240)
async def test_no_secret_gets_out(house: SecuredHouse, redis_server: RedisProcess) -> None:
    """Not by logs at their loudest, nor by anything that is served, stored or printed."""
    planted = {f"kafka {u}": word for u, word in house.locks.kafka.items()}
    planted |= {f"redis {u}": word for u, word in house.locks.redis.items()}
    planted |= {n: secret(n) for n in ("stream", "rest", "wrong kafka", "wrong redis", "other")}
    own = house.locks.authority.issue("client")
    planted["tls key"] = own.key.read_text().splitlines()[1]
    venue = {
        "NT_BINANCE_STREAM_URL": with_user(house.sim.stream_url, planted["stream"]),
        "NT_BINANCE_REST_URL": with_user(house.sim.rest_url, planted["rest"]),
        "NT_COINBASE_STREAM_URL": with_user("wss://c", planted["other"]),
        "NT_COINBASE_REST_URL": with_user("https://c", planted["other"]),
        "NT_KRAKEN_STREAM_URL": with_user("wss://k", planted["other"]),
        "NT_RECORD_DIR": str(house.folder / "recorded"),
        "NT_OTLP_ENDPOINT": with_user("http://127.0.0.1:1", planted["other"]),
        "NT_TRACE_SAMPLE_RATIO": "0.1",
    }
    files = {
        f"NT_{service}_{part}_FILE": str(path)
        for service in ("KAFKA", "REDIS")
        for part, path in (("CERT", own.cert), ("KEY", own.key))
    }
    house.one.env |= {**venue, **files, "NT_LOG_LEVEL": "DEBUG"}
    house.sim.add_faults("malform%0.02")
    ports = {name: str(free_port()) for name in ("bridge", "stray")}
    status, _, err = await house.command("topics", "apply")
    assert status == 0, err
    await house.child("bridge", **{**house.env("bridge"), "NT_BRIDGE_PORT": ports["bridge"]})
    # Everything in one URL, and the URL in a file.
    url = house.of_redis("worker")["REDIS_URL"].replace("@", f":{quote_word(house)}@")
    in_url = {**house.of_kafka("worker"), "REDIS_URL": url}
    in_url["NT_REDIS_CA_FILE"] = str(house.locks.authority.ca)
    worker = await house.one.worker(**house.in_file(in_url, "REDIS_URL"))
    await house.serve(START_S, **house.env("reader"), NT_HUB_EVENTS="kafka")
    planted["api key"] = key = await api_key(house)
    house.lines["keys"].clear()  # it is printed once, where it is asked for
    planted["api key's secret"] = key.split("_", 2)[2]
    await worker.ready(START_S)
    await rises(house, "BTCUSDT", (0, 0))
    await _trouble(house, redis_server, planted, key, ports["stray"])
    places = await _asked(house, key, ports["bridge"], worker)
    await house.command("config")
    for name in ("operator", "reader", "worker", "bridge"):
        await house.command("config", "--json", role=name)
    await house.command("topics", "plan", "--json")
    await house.command("doctor", "--json")
    await house.command("topics", "plan", NT_KAFKA_PASSWORD=planted["wrong kafka"])
    await house.command("report", "BTCUSDT", **house.of_redis("reader"))
    for word in ("REDIS_URL", "KAFKA_URL", "NT_BINANCE_REST_URL"):
        wrong = with_user("redis://h:99999999", planted["wrong redis"])
        await house.command("config", **{word: wrong})
    places |= await everything_in_redis(house.one.redis_url)
    async with admin_of(house.kafka.url) as admin:
        topics = [t for t in await partition_counts(admin) if t.startswith(house.one.name)]
    places |= await everything_in_kafka(house.one, topics)
    assert places[f"topic {house.one.topic}.dlq"]
    assert places[f"topic {house.one.name}.telemetry"]
    await house.close()
    recorded = everything_in(house.folder / "recorded")
    assert recorded
    places |= recorded
    places |= {f"log of {n}": "\n".join(said).encode() for n, said in house.lines.items()}
    for number, process in enumerate(house.one.workers):
        places[f"log of worker {number}"] = "\n".join(process.lines).encode()
    assert b"***" in places["log of config"]
    assert leaks(planted, places) == []


def quote_word(house: SecuredHouse) -> str:
    return quote(house.locks.redis["tapeline-worker"], safe="")


async def _trouble(
    house: SecuredHouse, redis: RedisProcess, planted: dict[str, str], key: str, port: str
) -> None:
    """What makes processes speak: wrong words, a store that stops, records and frames of no use."""
    await house.one.write([(b"BTCUSDT", b"no record"), (b"BTCUSDT", b'{"v":99}')])
    wrong_kafka = {"NT_KAFKA_PASSWORD": planted["wrong kafka"]}
    wrong_redis = {"NT_REDIS_PASSWORD": planted["wrong redis"]}
    stray = await house.one.worker(
        **{**house.env("worker"), **wrong_kafka, "NT_NODE_ID": f"{house.one.name}-stray"}
    )
    lost = {**house.of_kafka("bridge"), **house.of_redis("bridge"), **wrong_redis}
    away = {**lost, **wrong_kafka, "NT_BRIDGE_PORT": port, "NT_RECORD_DIR": ""}
    name, house.lines["bridge"] = house.lines["bridge"], []
    other = await house.child("bridge", **{**away, "NT_NODE_ID": f"{house.one.name}-other"})
    house.lines["other bridge"], house.lines["bridge"] = house.lines["bridge"], name

    async def complains() -> bool:
        return any("broker.unavailable" in line for line in house.lines["other bridge"])

    await eventually(complains, what=house.tail("other bridge"))
    await stray.says("broker.unavailable")
    redis.pause()
    try:
        await house.ask("/get_report?symbol=ETHUSDT", key=key)
        await asyncio.sleep(1.5)
    finally:
        redis.resume()
    for path in ("/status", f"/get_report?symbol=BTCUSDT&api_key={key}", "/nowhere"):
        await house.ask(path, key=key)
        await house.ask(path, key=f"tl_{'a' * 12}_{'b' * 43}")
    await house.ask("/api/v1/streams", "POST", key, {"venue": "binance", "symbol": "NOSUCH"})
    await other.stop(grace_s=2)
    await stray.child.stop(grace_s=2)


async def _asked(
    house: SecuredHouse, key: str, bridge: str, worker: WorkerProcess
) -> dict[str, bytes]:
    """Everything that is served."""
    urls = [
        f"http://127.0.0.1:{port}{path}"
        for port in (bridge, worker.port)
        for path in ("/metrics", "/health")
    ]
    urls += [
        house.url + path
        for path in (
            "/health", "/ready", "/metrics", "/status", "/reports", "/symbols", "/queries",
            "/get_report?symbol=BTCUSDT", "/api/v1/streams", "/openapi.json", "/asyncapi.json", "/",
        )
    ]  # fmt: skip
    found = {}
    for url in urls:

        async def good(url: str = url) -> bytes | None:
            async with house.http.get(url, headers={"X-API-Key": key}) as answer:
                body = await answer.read()
                return body if answer.status == 200 else None

        found[url] = await eventually(good, what=url)
    return found
