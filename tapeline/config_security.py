"""Settings of who we are to Kafka and Redis, and of how both prove who they are."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from tapeline.errors import ConfigError
from tapeline.masking import HIDDEN, remember, remember_url

if TYPE_CHECKING:
    from tapeline.config import Settings

SECRET_FIELDS: Final = (
    "redis_url",
    "redis_reader_url",
    "redis_password",
    "redis_reader_password",
    "kafka_password",
)
"""Settings that may hold a secret; each may also be read from the file that ``NAME_FILE`` names."""

FILE_SUFFIX: Final = "_FILE"

_SASL: Final = "NT_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT or SASL_SSL"
_TLS: Final = "NT_KAFKA_SECURITY_PROTOCOL is SSL or SASL_SSL"


class SecuritySettings(BaseSettings):
    """What every client of Kafka and Redis is told, see `tapeline.kafka_access`."""

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to: SSL encrypts, SASL names a user."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is shown to Kafka; PLAIN sends it as it is."
    )
    kafka_username: str = Field("", description="User of Kafka, for SASL.")
    kafka_password: SecretStr = Field(SecretStr(""), description="Password of `NT_KAFKA_USERNAME`.")
    kafka_ca_file: str = Field(
        "",
        description="Certificates (PEM) that vouch for the brokers; the system's when empty.",
    )
    kafka_cert_file: str = Field(
        "", description="Our own certificate (PEM) and its chain, where brokers ask for one."
    )
    kafka_key_file: str = Field(
        "",
        description="Key of `NT_KAFKA_CERT_FILE` (PEM, without a passphrase), if it is not in that "
        "file itself.",
    )
    redis_password: SecretStr = Field(
        SecretStr(""), description="Password of `REDIS_URL`, where it is not in the URL."
    )
    redis_reader_password: SecretStr = Field(
        SecretStr(""), description="Password of `REDIS_READER_URL`, where it is not in the URL."
    )
    redis_ca_file: str = Field(
        "",
        description="Certificates (PEM) that vouch for a `rediss://` server; the system's when "
        "empty.",
    )
    redis_cert_file: str = Field(
        "", description="Our own certificate (PEM) and its chain, where Redis asks for one."
    )
    redis_key_file: str = Field(
        "",
        description="Key of `NT_REDIS_CERT_FILE` (PEM, without a passphrase), if it is not in that "
        "file itself.",
    )


class TlsFiles(NamedTuple):
    """Names of the files of a TLS client; empty for none."""

    ca: str = ""
    cert: str = ""
    key: str = ""


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A client's context: the server's certificate and its name are always checked.

    Raises:
        OSError: A file can't be read, or holds something else (`ssl.SSLError` is one).
    """
    context = ssl.create_default_context(cafile=files.ca or None)
    if files.cert:
        # Without a password given, OpenSSL would ask for one on the terminal and wait.
        context.load_cert_chain(files.cert, files.key or None, password=lambda: b"")
    return context


# --- secrets from files ---------------------------------------------------------------------------


def from_files(source: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Secrets by field, of the files that ``NAME_FILE`` variables name.

    Args:
        source: The environment.
        names: Variable by field, of those to look for.

    Raises:
        ConfigError: A file can't be read or is empty, or the secret is given a second time.
    """
    found: dict[str, str] = {}
    for field, name in names.items():
        path = source.get(name + FILE_SUFFIX, "")
        if not path:
            continue
        if source.get(name, ""):
            raise ConfigError(
                name + FILE_SUFFIX, path, f"nothing, as {name} is set: one of them, not both"
            )
        try:
            found[field] = Path(path).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise ConfigError(
                name + FILE_SUFFIX, path, f"a file that holds {name} and can be read ({why})"
            ) from None
        if not found[field]:
            raise ConfigError(name + FILE_SUFFIX, path, f"a file that holds {name}; it is empty")
    return found


def refuse_for_own_servers(settings: Settings) -> None:
    """A broker or store that is started here speaks plain text, and has no users.

    Raises:
        ConfigError: The settings ask for more, of one that the settings do not name.
    """
    if not settings.kafka_url and settings.kafka_security_protocol != "PLAINTEXT":
        raise ConfigError(
            "NT_KAFKA_SECURITY_PROTOCOL",
            settings.kafka_security_protocol,
            "PLAINTEXT where KAFKA_URL is not set: a broker started here speaks nothing else",
        )
    if not settings.redis_url and settings.redis_password.get_secret_value():
        raise ConfigError(
            "NT_REDIS_PASSWORD",
            HIDDEN,
            "nothing where REDIS_URL is not set: a store started here has no password",
        )


# --- what belongs together ------------------------------------------------------------------------


def secured(settings: Settings) -> Settings:
    """Settings as clients need them: checked against each other, Redis URLs complete.

    A password and files of Redis go into its URL, so that whoever is given the URL, child processes
    included, has all there is.

    Raises:
        ConfigError: Some do not go together, or a file is not what it should be.
    """
    _check_kafka(settings)
    files = TlsFiles(settings.redis_ca_file, settings.redis_cert_file, settings.redis_key_file)
    _check_files("NT_REDIS", files)
    urls = {"redis_url": settings.redis_url, "redis_reader_url": settings.redis_reader_url}
    given = {name: url for name, url in urls.items() if url}
    if any(files) and given and not any(url.startswith("rediss://") for url in given.values()):
        name, value = _first("NT_REDIS", files)
        raise ConfigError(name, value, "nothing, unless REDIS_URL begins with rediss://")
    made = {}
    for field, url in given.items():
        password = getattr(settings, field.replace("url", "password")).get_secret_value()
        made[field] = _with_files(_with_password(field, url, password), files)
    every = {
        n: str(getattr(settings, n)) for n in type(settings).model_fields if n.endswith("_url")
    }
    for url in {**every, **made}.values():
        remember_url(url)
    remember(settings.kafka_password.get_secret_value())
    return settings.model_copy(update=made)


def _check_kafka(settings: Settings) -> None:
    protocol = settings.kafka_security_protocol
    password = settings.kafka_password.get_secret_value()
    user = {"NT_KAFKA_USERNAME": settings.kafka_username, "NT_KAFKA_PASSWORD": password}
    for name, value in user.items():
        if protocol.startswith("SASL") and not value:
            raise ConfigError(name, None, f"a value, as NT_KAFKA_SECURITY_PROTOCOL is {protocol}")
        if value and not protocol.startswith("SASL"):
            said = HIDDEN if name.endswith("PASSWORD") else value
            raise ConfigError(name, said, f"nothing, unless {_SASL}")
    files = TlsFiles(settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file)
    if any(files) and not protocol.endswith("SSL"):
        name, value = _first("NT_KAFKA", files)
        raise ConfigError(name, value, f"nothing, unless {_TLS}")
    _check_files("NT_KAFKA", files)


def _first(prefix: str, files: TlsFiles) -> tuple[str, str]:
    """Variable and value of the first that is set."""
    return next(
        (f"{prefix}_{part.upper()}_FILE", value) for part, value in files._asdict().items() if value
    )


def _check_files(prefix: str, files: TlsFiles) -> None:
    """Raises ConfigError where a file is not what it should be."""
    if files.key and not files.cert:
        raise ConfigError(
            f"{prefix}_KEY_FILE", files.key, f"nothing, unless {prefix}_CERT_FILE is set"
        )
    for name, part in ((f"{prefix}_CA_FILE", files.ca), (f"{prefix}_CERT_FILE", files.cert)):
        if not part:
            continue
        alone = TlsFiles(ca=part) if part == files.ca else TlsFiles(cert=part, key=files.key)
        try:
            tls_context(alone)
        except OSError as error:
            what = "certificates" if part == files.ca else "a certificate and its key, unencrypted"
            why = re.sub(r"\s*\(_ssl\.c:\d+\)", "", error.strerror or str(error) or "not PEM")
            raise ConfigError(name, part, f"a file of {what}, PEM ({why})") from None


def _with_password(field: str, url: str, password: str) -> str:
    if not password:
        return url
    parts = urlsplit(url)
    if parts.password is not None:
        # A child process is given the URL made here, and inherits the variable as well.
        if unquote(parts.password) == password:
            return url
        name = f"NT_{field.replace('url', 'password').upper()}"
        raise ConfigError(name, HIDDEN, f"nothing, as {field.upper()} has a password of its own")
    host = parts.netloc.rpartition("@")[2]
    authority = f"{parts.username or ''}:{quote(password, safe='')}@{host}"
    return parts._replace(netloc=authority).geturl()


def _with_files(url: str, files: TlsFiles) -> str:
    """``url`` with what redis-py calls them; what it says itself stands."""
    if not url.startswith("rediss://"):
        return url
    there = parse_qs(urlsplit(url).query)
    named: dict[str, Any] = {
        "ssl_ca_certs": files.ca,
        "ssl_certfile": files.cert,
        "ssl_keyfile": files.key or files.cert,
    }
    more = urlencode({k: v for k, v in named.items() if v and k not in there}, safe="/")
    return url if not more else f"{url}{'&' if urlsplit(url).query else '?'}{more}"
