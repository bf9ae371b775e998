"""What Docker's health check asks, and what it makes of the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tapeline import healthcheck
from tapeline.config import Settings, variable_name
from tapeline.http_probe import ProbeServer

LOOPBACK = "127.0.0.1"


def test_ports_are_those_of_the_settings() -> None:
    """It does not read them through `Settings`: what holds the two together is this."""
    defaults = {
        variable_name(field): Settings.model_fields[field].default
        for field in ("bridge_port", "serve_port", "metrics_port")
    }
    assert dict(healthcheck.ROLES.values()) == defaults


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["/sbin/docker-init", "--", "tapeline", "serve"], "serve"),
        (["/opt/tapeline/bin/python", "/opt/tapeline/bin/tapeline", "bridge"], "bridge"),
        (["faust", "-A", "agents", "worker", "-l", "info"], "worker"),
        (["tapeline", "--help"], ""),
    ],
)
def test_the_role_is_a_word_of_the_command(command: list[str], role: str) -> None:
    assert healthcheck.role_of(command) == role


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, (LOOPBACK, 9101)),
        ({"NT_BIND_HOST": "0.0.0.0", "NT_METRICS_PORT": "9103"}, (LOOPBACK, 9103)),
        ({"NT_BIND_HOST": "10.1.2.3"}, ("10.1.2.3", 9101)),
    ],
)
def test_it_asks_where_the_process_listens(
    environ: dict[str, str], address: tuple[str, int]
) -> None:
    assert healthcheck.address_of("worker", environ) == address


async def asked(port: int) -> int:
    environ = {"NT_METRICS_PORT": str(port)}
    return await asyncio.to_thread(healthcheck.main, ["worker"], environ)


async def test_it_says_whether_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = ["", "not warm yet: BTCUSDT"]

    def health() -> tuple[bool, dict[str, Any]]:
        return True, {}

    server = ProbeServer(LOOPBACK, 0, CollectorRegistry(), health, lambda *_: reasons[0])
    await server.start()
    try:
        assert await asked(server.port) == 0
        reasons.pop(0)
        assert await asked(server.port) == 1
    finally:
        await server.stop()
    assert await asked(server.port) == 1
    ready, warming, gone = capsys.readouterr().out.splitlines()
    assert (ready, warming) == ("ready", "not warm yet: BTCUSDT")
    assert gone.startswith(f"no answer from {LOOPBACK}:{server.port}")


def test_a_command_that_is_none_of_them_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck.main(["mcp"], {}) == 2
    assert "bridge, serve, worker" in capsys.readouterr().err
