"""A real Apache Kafka on this machine: one KRaft node, stock settings, loopback only."""

from __future__ import annotations

import base64
import uuid
from pathlib import Path
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from tapeline.errors import StackError
from tapeline.stack.kafka_jars import HOME, find_java, kafka_jars
from tapeline.stack.ports import LOOPBACK, answers, check_free, free_port
from tapeline.stack.processes import ChildProcess, OnLine, run_to_end
from tapeline.stack.service import Service

AT_ONCE: Final = {"group.initial.rebalance.delay.ms": "0"}
"""Settings for a machine of one's own: a group's first member is not kept waiting 3 s for others."""

_FORMAT_S = 60.0
_READY_S = 60.0
# A single node is its own controller and can't hand itself over, so a controlled shutdown may
# wait for nothing.
_STOP_S = 15.0


class LocalKafka(Service):
    """One broker that survives restarts: same ports, same data.

    Settings are the stock ones, apart from ports and folders, copies of internal topics (one
    node holds one) and topic creation, which is never automatic here.

    Attributes:
        data_dir: Where it keeps everything; made when missing, never removed.
        port: Where it listens for clients.
        format_options: More for the tool that makes its folder: users, for one.
    """

    name = "kafka"
    format_options: tuple[str, ...] = ()

    def __init__(
        self,
        data_dir: Path,
        heap_mb: int = 512,
        *,
        port: int = 0,
        settings: dict[str, str] | None = None,
        jars_home: Path = HOME,
        on_line: OnLine | None = None,
    ) -> None:
        """Choose ports, start nothing.

        Args:
            data_dir: Where it keeps everything.
            heap_mb: The JVM's heap.
            port: Loopback port for clients; 0 picks a free one.
            settings: Broker settings that differ from stock, by Kafka's names.
            jars_home: The folder of ``pom.xml`` and ``lib/``.
            on_line: Told of each line it writes.
        """
        self.data_dir = data_dir
        self.port = port or free_port()
        self._controller_port = free_port(frozenset({self.port}))
        self._heap_mb, self._settings = heap_mb, settings or {}
        self._jars_home, self._on_line = jars_home, on_line
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"kafka://{LOOPBACK}:{self.port}"

    @property
    def child(self) -> ChildProcess:
        if self._child is None:
            raise StackError(f"{self.name} was not started")
        return self._child

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    async def start(self) -> None:
        if self._child is None:
            self._child = await self._prepare()
        check_free(self.name, self.port, self._controller_port)
        await self._child.start()
        await self._child.wait_ready(self._serves, _READY_S)

    async def stop(self, grace_s: float = _STOP_S) -> None:
        if self._child is not None:
            await self._child.stop(grace_s)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    async def _prepare(self) -> ChildProcess:
        java = [find_java(), "-cp", f"{await kafka_jars(self._jars_home)}/*"]
        self.data_dir.mkdir(parents=True, exist_ok=True)
        properties = self.data_dir / "server.properties"
        properties.write_text("".join(f"{k}={v}\n" for k, v in self._properties().items()))
        if not (self.data_dir / "log" / "meta.properties").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c"]
            argv = [*java, *tool, str(properties), *self.format_options]
            await run_to_end("kafka format", argv, timeout_s=_FORMAT_S)
        return ChildProcess(
            self.name,
            [
                *java,
                f"-Xmx{self._heap_mb}m",
                # Starts in half the time, and a test's broker never lives long enough for more.
                "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "kafka.Kafka",
                str(properties),
            ],
            on_line=self._on_line,
        )

    def _properties(self) -> dict[str, str]:
        clients, controller = (f"{LOOPBACK}:{p}" for p in (self.port, self._controller_port))
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{clients}",
            "log.dirs": str(self.data_dir / "log"),
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "auto.create.topics.enable": "false",
            **self._settings,
        }

    async def _serves(self) -> bool:
        """Whether it names itself in its metadata: listening alone comes a little earlier."""
        if not await answers(self.port):
            return False
        client = AIOKafkaClient(
            bootstrap_servers=f"{LOOPBACK}:{self.port}", request_timeout_ms=2000
        )
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()


def _cluster_id() -> str:
    """A random cluster id in Kafka's spelling."""
    # A leading dash would be read as an option.
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
