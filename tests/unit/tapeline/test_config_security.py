"""Settings of TLS, users and passwords: what goes together, and what is said where it does not."""

from __future__ import annotations

import pickle
import ssl
from pathlib import Path

import pytest
from redis.asyncio.connection import parse_url

from agents.kafka_app import credentials_of
from tapeline.config import load_settings, shown, unknown_variables
from tapeline.config_security import SECRET_FIELDS, refuse_for_own_servers
from tapeline.errors import ConfigError
from tapeline.kafka_access import KafkaAccess
from tapeline.stack.programs import program
from tests.support.certificates import Authority, Issued

USER = {"NT_KAFKA_USERNAME": "ann", "NT_KAFKA_PASSWORD": "hush-of-ann"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue("client")


def refused(**environ: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_settings(environ)
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- Kafka ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_needs_a_user_and_a_password(protocol: str) -> None:
    for missing in USER:
        rest = {name: value for name, value in USER.items() if name != missing}
        said = refused(NT_KAFKA_SECURITY_PROTOCOL=protocol, **rest)
        assert said.startswith(f"{missing} is not set; expected a value")
        assert protocol in said


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
@pytest.mark.parametrize("name", USER)
def test_a_user_without_sasl_would_not_be_used_and_is_refused(protocol: str, name: str) -> None:
    said = refused(NT_KAFKA_SECURITY_PROTOCOL=protocol, **{name: USER[name]})
    assert said.startswith(name)
    assert "SASL_SSL" in said


@pytest.mark.parametrize("part", ["CA", "CERT"])
def test_a_file_without_tls_would_not_be_used_and_is_refused(
    part: str, authority: Authority
) -> None:
    name = f"NT_KAFKA_{part}_FILE"
    said = refused(**{name: str(authority.ca)}, NT_KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT", **USER)
    assert said.startswith(name)
    assert "SSL or SASL_SSL" in said


def test_a_key_goes_with_a_certificate(own: Issued) -> None:
    said = refused(NT_KAFKA_SECURITY_PROTOCOL="SSL", NT_KAFKA_KEY_FILE=str(own.key))
    assert said.startswith("NT_KAFKA_KEY_FILE")
    assert "NT_KAFKA_CERT_FILE" in said
    tls = {"NT_KAFKA_SECURITY_PROTOCOL": "SSL"}
    load_settings({**tls, "NT_KAFKA_CERT_FILE": str(own.both)})
    load_settings({**tls, "NT_KAFKA_CERT_FILE": str(own.cert), "NT_KAFKA_KEY_FILE": str(own.key)})


@pytest.mark.parametrize("service", ["KAFKA", "REDIS"])
def test_a_file_that_is_none_is_named_with_why(service: str, tmp_path: Path, own: Issued) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    base = {"NT_KAFKA_SECURITY_PROTOCOL": "SSL", "REDIS_URL": "rediss://h:1/0"}
    gone = str(tmp_path / "gone.pem")
    said = refused(**base, **{f"NT_{service}_CA_FILE": gone})
    assert said.startswith(f"NT_{service}_CA_FILE is {gone!r}; expected a file of certificates")
    assert "No such file" in said
    said = refused(**base, **{f"NT_{service}_CA_FILE": str(tmp_path / "text.pem")})
    assert f"NT_{service}_CA_FILE" in said
    said = refused(**base, **{f"NT_{service}_CERT_FILE": str(own.cert)})
    assert "a certificate and its key" in said


def test_a_key_with_a_passphrase_is_refused_and_not_asked_about(
    tmp_path: Path, own: Issued
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(own.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    said = refused(
        NT_KAFKA_SECURITY_PROTOCOL="SSL",
        NT_KAFKA_CERT_FILE=str(own.cert),
        NT_KAFKA_KEY_FILE=str(locked),
    )
    assert "unencrypted" in said


def test_a_client_is_given_what_the_settings_say(authority: Authority, own: Issued) -> None:
    assert KafkaAccess.of("kafka://a:1,b:2").arguments() == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }
    settings = load_settings(
        {
            "KAFKA_URL": "kafka://a:1",
            "NT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "NT_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
            "NT_KAFKA_CA_FILE": str(authority.ca),
            "NT_KAFKA_CERT_FILE": str(own.both),
            **USER,
        }
    )
    access = KafkaAccess.of(settings)
    arguments = access.arguments()
    context = arguments.pop("ssl_context")
    assert arguments == {
        "bootstrap_servers": ["a:1"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "ann",
        "sasl_plain_password": "hush-of-ann",
    }
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [found["subject"] for found in context.get_ca_certs()] == [
        ((("commonName", "test authority"),),)
    ]
    credentials = credentials_of(access)
    assert credentials.protocol.value == "SASL_SSL"
    assert credentials.mechanism.value == "SCRAM-SHA-256"
    assert (credentials.username, credentials.password) == ("ann", "hush-of-ann")
    assert "hush" not in repr(access) + repr(settings) + str(access)
    assert pickle.loads(pickle.dumps(access)) == access


def test_faust_is_given_credentials_of_each_kind(authority: Authority) -> None:
    assert credentials_of(KafkaAccess.of("kafka://a:1")) is None
    tls = load_settings(
        {"NT_KAFKA_SECURITY_PROTOCOL": "SSL", "NT_KAFKA_CA_FILE": str(authority.ca)}
    )
    assert credentials_of(KafkaAccess.of(tls)).protocol.value == "SSL"
    plain = load_settings({"NT_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", **USER})
    assert credentials_of(KafkaAccess.of(plain)).protocol.value == "SASL_PLAINTEXT"


def test_a_renewed_file_is_read_for_the_next_client(tmp_path: Path) -> None:
    """The same context as long as the file is the same: making one blocks the loop."""
    first, second = Authority(tmp_path / "1", "first"), Authority(tmp_path / "2", "second")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(first.ca.read_bytes())
    settings = load_settings({"NT_KAFKA_SECURITY_PROTOCOL": "SSL", "NT_KAFKA_CA_FILE": str(ca)})
    access = KafkaAccess.of(settings)
    before = access.tls()
    assert access.tls() is before
    ca.write_bytes(second.ca.read_bytes())
    after = access.tls()
    assert after is not None
    assert after is not before
    assert "second" in str(after.get_ca_certs())


# --- Redis ----------------------------------------------------------------------------------------


def test_a_password_and_files_of_redis_end_in_its_url(authority: Authority, own: Issued) -> None:
    """Whoever is given the URL has all there is; redis-py takes it apart again."""
    settings = load_settings(
        {
            "REDIS_URL": "rediss://ann@h:1/2?socket_timeout=3",
            "REDIS_READER_URL": "redis://h:1/0",
            "NT_REDIS_PASSWORD": "hush/of:ann@1 %",
            "NT_REDIS_CA_FILE": str(authority.ca),
            "NT_REDIS_CERT_FILE": str(own.both),
        }
    )
    taken = dict(parse_url(settings.redis_url))
    assert taken.pop("connection_class").__name__ == "SSLConnection"  # type: ignore[attr-defined]
    assert taken == {
        "host": "h", "port": 1, "db": 2, "username": "ann", "password": "hush/of:ann@1 %",
        "socket_timeout": 3.0, "ssl_ca_certs": str(authority.ca), "ssl_certfile": str(own.both),
        "ssl_keyfile": str(own.both),
    }  # fmt: skip
    assert settings.redis_reader_url == "redis://h:1/0"
    assert "hush" not in str(shown(settings))
    again = load_settings({"REDIS_URL": settings.redis_url, "NT_REDIS_PASSWORD": "hush/of:ann@1 %"})
    assert again.redis_url == settings.redis_url


def test_files_of_redis_are_for_tls_alone(authority: Authority) -> None:
    said = refused(REDIS_URL="redis://h:1", NT_REDIS_CA_FILE=str(authority.ca))
    assert said.startswith("NT_REDIS_CA_FILE")
    assert "rediss://" in said


@pytest.mark.parametrize("which", ["REDIS", "REDIS_READER"])
def test_a_second_password_of_redis_is_refused(which: str) -> None:
    said = refused(
        **{f"{which}_URL": "redis://u:hush-1@h:1", f"NT_{which}_PASSWORD": "hush-2"},
    )
    assert said.startswith(f"NT_{which}_PASSWORD is '***'")


# --- files ----------------------------------------------------------------------------------------


NAMES = ["REDIS_URL", "REDIS_READER_URL", "NT_REDIS_PASSWORD", "NT_KAFKA_PASSWORD"]


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_may_be_in_a_file(name: str, tmp_path: Path) -> None:
    """One newline at its end is not its own."""
    file = tmp_path / "secret"
    file.write_text("redis://u:hush@h:1/0\n")
    environ = {
        "REDIS_URL": "redis://h:1", "NT_KAFKA_USERNAME": "ann",
        "NT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "NT_KAFKA_PASSWORD": "x",
    }  # fmt: skip
    environ.pop(name, "")
    settings = load_settings({**environ, f"{name}_FILE": str(file)})
    if "PASSWORD" not in name:
        assert getattr(settings, name.lower()) == "redis://u:hush@h:1/0"
    else:
        field = name.removeprefix("NT_").lower()
        assert getattr(settings, field).get_secret_value() == "redis://u:hush@h:1/0"
    assert "hush" not in str(shown(settings))
    assert f"{name}_FILE" not in unknown_variables({f"{name}_FILE": ""})


def test_a_secret_s_file_must_be_there_and_the_only_source(tmp_path: Path) -> None:
    gone, empty = str(tmp_path / "gone"), tmp_path / "empty"
    empty.write_text("\n")
    said = refused(REDIS_URL_FILE=gone)
    assert said.startswith(f"REDIS_URL_FILE is {gone!r}; expected a file that holds REDIS_URL")
    assert "it is empty" in refused(REDIS_URL_FILE=str(empty))
    assert "one of them, not both" in refused(REDIS_URL_FILE=str(empty), REDIS_URL="redis://h:1")


def test_a_child_that_is_told_a_secret_does_not_look_for_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", "somewhere")
    monkeypatch.setenv("NT_KAFKA_PASSWORD_FILE", "elsewhere")
    child = program("serve", env={"REDIS_URL": "redis://h:1"})
    assert child._env is not None
    assert "REDIS_URL_FILE" not in child._env
    assert child._env["NT_KAFKA_PASSWORD_FILE"] == "elsewhere"


def test_servers_of_our_own_ask_for_no_user() -> None:
    """They have none, and whoever has said otherwise would believe so."""
    sasl = {"NT_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", **USER}
    for environ in (sasl, {"NT_REDIS_PASSWORD": "hush"}):
        with pytest.raises(ConfigError, match=r"not set: a .* started here"):
            refuse_for_own_servers(load_settings(environ))
    given = {"KAFKA_URL": "kafka://h:1", "REDIS_URL": "redis://h:1", "NT_REDIS_PASSWORD": "x"}
    refuse_for_own_servers(load_settings({**given, **sasl}))


def test_every_setting_that_can_hold_a_secret_is_known_as_one() -> None:
    from pydantic import SecretStr

    from tapeline.config import Settings

    kept = {n for n, info in Settings.model_fields.items() if info.annotation is SecretStr}
    assert kept <= set(SECRET_FIELDS)
