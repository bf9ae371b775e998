"""How Kafka is reached: the arguments that every client of the project is made with."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from tapeline.config import Settings
from tapeline.config_security import TlsFiles, tls_context
from tapeline.masking import mask

DEFAULT_PORT: Final = 9092
ASK_S: Final = 3.0
"""Longest look for a reason why no broker answers."""


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Brokers, and who we are to them. Can be sent to another process.

    Attributes:
        servers: ``host:port`` of those to begin with.
        protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; of use with SASL.
        username, password: Empty without SASL.
        files: Of TLS.
    """

    servers: tuple[str, ...]
    protocol: str = "PLAINTEXT"
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))
    files: TlsFiles = field(default_factory=TlsFiles)

    @classmethod
    def of(cls, where: Where) -> Self:
        """As settings say; a URL alone means plain text and no user."""
        if isinstance(where, cls):
            return where
        if isinstance(where, str):
            return cls(servers_of(where))
        assert isinstance(where, Settings)
        return cls(
            servers=servers_of(where.kafka_url),
            protocol=where.kafka_security_protocol,
            mechanism=where.kafka_sasl_mechanism,
            username=where.kafka_username,
            password=where.kafka_password,
            files=TlsFiles(where.kafka_ca_file, where.kafka_cert_file, where.kafka_key_file),
        )

    @property
    def sasl(self) -> bool:
        """Whether a user is named."""
        return self.protocol.startswith("SASL")

    def tls(self) -> ssl.SSLContext | None:
        """For the next client: files that have changed since the last are read anew.

        Raises:
            OSError: A file has gone, or is none of these any more.
        """
        if not self.protocol.endswith("SSL"):
            return None
        stamps = tuple(Path(name).stat().st_mtime_ns for name in self.files if name)
        return _context(self.files, stamps)

    def arguments(self) -> dict[str, Any]:
        """For any client of aiokafka: ``AIOKafkaConsumer(**access.arguments(), ...)``."""
        return {"bootstrap_servers": [*self.servers], **self.credentials()}

    def credentials(self) -> dict[str, Any]:
        """`arguments` without the servers."""
        found: dict[str, Any] = {"security_protocol": self.protocol}
        context = self.tls()
        if context is not None:
            found["ssl_context"] = context
        if self.sasl:
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.username
            found["sasl_plain_password"] = self.password.get_secret_value()
        return found

    async def reason(self) -> str:
        """Why the first broker lets nobody in; empty if it does, or nothing is known.

        aiokafka tells its log, and raises "Unable to bootstrap" whatever it was.
        """
        from aiokafka.conn import create_conn  # noqa: PLC0415 - errors only
        from aiokafka.errors import KafkaError  # noqa: PLC0415

        first = urlsplit(f"//{self.servers[0]}")
        try:
            async with asyncio.timeout(ASK_S):
                connection = await create_conn(
                    first.hostname or "",
                    first.port or DEFAULT_PORT,
                    request_timeout_ms=int(ASK_S * 1000),
                    **self.credentials(),
                )
        except TimeoutError:
            return self._guess("no answer in time")
        except (KafkaError, OSError) as error:
            return self._guess(mask(str(error) or type(error).__name__))
        connection.close()
        return ""

    def _guess(self, said: str) -> str:
        """What was said, with what it usually means."""
        if "CERTIFICATE_VERIFY_FAILED" in said:
            return f"{said}; see NT_KAFKA_CA_FILE"
        if "Authentication" in said:
            return f"{said}; see NT_KAFKA_USERNAME, NT_KAFKA_PASSWORD and NT_KAFKA_SASL_MECHANISM"
        if any(word in said for word in _NOT_OUR_LANGUAGE):
            return f"{said}; NT_KAFKA_SECURITY_PROTOCOL is {self.protocol}: is the listener?"
        return said


_NOT_OUR_LANGUAGE: Final = ("closed", "no answer", "ConnectionReset", "reset by", "SSL", "EOF")
"""What a listener of another protocol makes of us, or we of it."""

Where = KafkaAccess | Settings | str
"""What says where Kafka is; a string is a ``KAFKA_URL``."""


def servers_of(kafka_url: str) -> tuple[str, ...]:
    """``kafka://a:1,b:2`` as ``host:port`` each."""
    return tuple(part for part in kafka_url.removeprefix("kafka://").split(",") if part)


@lru_cache(maxsize=4)
def _context(files: TlsFiles, _stamps: tuple[int, ...]) -> ssl.SSLContext:
    return tls_context(files)
