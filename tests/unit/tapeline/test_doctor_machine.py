"""The doctor's checks of this machine, each made to fail by the thing itself."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import re
import resource
import shutil
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from tapeline.config import Settings, load_settings
from tapeline.doctor import machine
from tapeline.doctor.machine import PORTS, look_at_port
from tapeline.doctor.model import Finding, Status
from tests.support.imports import ROOT

MIB = 1024 * 1024


def settings(**variables: str) -> Settings:
    return load_settings(variables)


def mended(finding: Finding, status: Status) -> Finding:
    """A finding of that status, whole: what is wrong has a fix."""
    assert finding.status is status, finding
    assert finding.found
    assert finding.expected
    assert bool(finding.fix) is (status in (Status.WARN, Status.FAIL)), finding
    return finding


# --- the installation ------------------------------------------------------------------------------


def test_the_pythons_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    low, high = (".".join(map(str, v)) for v in (machine.PYTHON_FROM, machine.PYTHON_BELOW))
    assert project["requires-python"] == f">={low},<{high}"
    mended(machine.look_at_python(), Status.OK)


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0), (2, 7, 18)])
def test_another_python_fails(version: tuple[int, int, int]) -> None:
    found = mended(machine.look_at_python(version), Status.FAIL)
    assert ".".join(map(str, version)) in found.found


def test_packages_are_there_and_as_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing, one of another version, and all of an extra's own."""
    needed = [
        "faust-streaming==0.0.1",
        "no-such-package>=1",
        'absent; extra == "dev"',
        "redis>=7.0",
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: needed)
    found = mended(machine.look_at_packages(), Status.FAIL).found
    there = importlib.metadata.version("faust-streaming")
    assert found == f"faust-streaming {there} instead of 0.0.1; no-such-package is missing"
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["redis>=7.0", "aiokafka"])
    assert mended(machine.look_at_packages(), Status.OK).found == "2 packages"


def test_what_this_project_needs_is_here() -> None:
    finding = machine.look_at_packages()
    assert finding.status in (Status.OK, Status.WARN), finding  # a checkout may not be installed


def test_a_foreign_package_under_one_of_our_names_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location("tables", tmp_path / "tables" / "__init__.py")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: spec if name == "tables" else real(name)
    )
    found = mended(machine.look_at_packages(), Status.FAIL)
    assert str(tmp_path) in found.found


def test_without_compiled_lanes_somebody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_COMPILED", ("tables._nothing",))
    assert "tables._nothing" in mended(machine.look_at_compiled(), Status.WARN).found
    monkeypatch.setattr(machine, "_COMPILED", ("tables.lane",))
    mended(machine.look_at_compiled(), Status.OK)


def test_settings_that_are_none_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NT_")]:
        monkeypatch.delenv(name)
    mended(machine.look_at_settings(settings(SYMBOLS="binance:BTCUSDT")), Status.OK)
    mended(machine.look_at_settings(settings()), Status.WARN)
    wrong = mended(machine.look_at_settings(settings(SYMBOLS="nasdaq:AAPL")), Status.FAIL)
    assert "nasdaq:AAPL" in wrong.found
    monkeypatch.setenv("NT_REPORT_PERIOD", "250")
    unknown = mended(machine.look_at_settings(settings(SYMBOLS="binance:BTCUSDT")), Status.WARN)
    assert "NT_REPORT_PERIOD (did you mean NT_REPORT_PERIOD_MS?)" in unknown.found
    assert unknown.fix == "unset NT_REPORT_PERIOD"


# --- ports -----------------------------------------------------------------------------------------


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[int]:
    """A program that accepts connections and says nothing."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, 0))
        sock.listen()
        yield sock.getsockname()[1]


def on(kind: str, port: int, **more: str) -> Settings:
    ports = {variable: "0" for _, variable, _ in PORTS.values()}
    return settings(**{**ports, PORTS[kind][1]: str(port), **more})


@pytest.mark.parametrize("kind", PORTS)
async def test_a_port_is_free_or_another_program_s(kind: str) -> None:
    with listening() as port:
        found = mended(await look_at_port(on(kind, port), kind), Status.FAIL)
        assert found.found == "held by another program"
        assert PORTS[kind][1] in found.fix
        assert str(port) in found.fix
    mended(await look_at_port(on(kind, port), kind), Status.OK)
    assert mended(await look_at_port(on(kind, 0), kind), Status.OK).found.startswith("0: ")


HEALTHS: dict[str, dict[str, Any]] = {
    "worker": {"status": "ok", "node_id": "w1", "owned_symbols": []},
    "bridge": {"status": "ok", "node_id": "b1", "symbols_in_sync": 1, "redis": {"reachable": True}},
    "reader": {"status": "unhealthy", "redis": "away", "uptime_s": 1.0},
}


@pytest.mark.parametrize("kind", PORTS)
@pytest.mark.parametrize("holder", [*HEALTHS, "stranger", "text"])
async def test_who_holds_a_port_is_told_by_its_health(kind: str, holder: str) -> None:
    """The process it is for is as good as nobody; another one of ours is named."""

    async def health(_: web.Request) -> web.Response:
        body = {"stranger": b'{"up": true}', "text": b"fine"}.get(holder)
        return web.Response(body=body or orjson.dumps(HEALTHS[holder]), status=503)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found = await look_at_port(on(kind, runner.addresses[0][1]), kind)
    finally:
        await runner.cleanup()
    if holder == kind:
        assert f"held by a Tapeline {kind}" in mended(found, Status.OK).found
        return
    whose = f"a Tapeline {holder}" if holder in HEALTHS else "another program"
    assert mended(found, Status.FAIL).found == f"held by {whose}"


async def test_one_port_for_two_fails() -> None:
    both = settings(NT_METRICS_PORT="9105", NT_BRIDGE_PORT="9105", NT_SERVE_PORT="0")
    found = mended(await look_at_port(both, "worker"), Status.FAIL)
    assert found.found == "NT_METRICS_PORT and NT_BRIDGE_PORT are both 9105"


def lowest_port() -> int:
    """That anybody may listen on; 0 where the system does not tell."""
    told = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return int(told.read_text()) if told.exists() else 0


@pytest.mark.skipif(os.geteuid() == 0 or lowest_port() < 80, reason="we may listen anywhere")
async def test_a_port_that_is_not_ours_to_take_fails() -> None:
    assert mended(await look_at_port(on("worker", 79), "worker"), Status.FAIL)


# --- limits ----------------------------------------------------------------------------------------


@contextmanager
def files_limited(soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_open_files_are_enough_or_not() -> None:
    """A real limit, lowered; the clients that fit are told."""
    with files_limited(255):
        found = mended(machine.look_at_files(settings()), Status.FAIL)
        assert found.found == "255"
        assert "ulimit -n 10256" in found.fix
    with files_limited(300):
        found = mended(machine.look_at_files(settings()), Status.WARN)
        assert found.found == "300: room for some 44 WebSocket clients"
        mended(machine.look_at_files(settings(NT_HUB_CLIENTS_MAX="44")), Status.OK)


def test_memory_of_machine_and_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"

    def look(kib: int, most: str = "max", used: str = "0") -> Finding:
        meminfo.write_text(f"MemTotal: 9 kB\nMemAvailable:   {kib} kB\n")
        (tmp_path / "memory.max").write_text(most)
        (tmp_path / "memory.current").write_text(used)
        return machine.look_at_memory(meminfo, tmp_path)

    assert mended(look(4 << 20), Status.OK).found == "4096 MiB available in this machine"
    mended(look(900 << 10), Status.WARN)
    mended(look(100 << 10), Status.FAIL)
    found = mended(look(4 << 20, str(1000 * MIB), str(900 * MIB)), Status.FAIL)
    assert found.found == "100 MiB available in this container"
    mended(machine.look_at_memory(tmp_path / "none"), Status.SKIP)
    assert machine.look_at_memory().status is not Status.SKIP or not Path("/proc/meminfo").exists()


def test_disks_have_room_and_may_be_written_to(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    here = settings(NT_RECORD_DIR=str(tmp_path))
    assert str(tmp_path) in mended(machine.look_at_disks(here, least=0, enough=0), Status.OK).found
    mended(machine.look_at_disks(here, least=0, enough=2 * free), Status.WARN)
    mended(machine.look_at_disks(here, least=2 * free), Status.FAIL)
    missing = settings(NT_RECORD_DIR=str(tmp_path / "none"))
    found = mended(machine.look_at_disks(missing, least=0, enough=0), Status.FAIL)
    assert "none is no folder" in found.found
    assert "mkdir -p" in found.fix
    found = mended(machine.look_at_disks(settings(), [tmp_path / "x"], least=0), Status.FAIL)
    assert "x is no folder" in found.found


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_can_t_be_written_to_fails(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    found = machine.look_at_disks(settings(NT_RECORD_DIR=str(locked)), least=0, enough=0)
    assert "can't be written to" in mended(found, Status.FAIL).found


def test_names_are_words_with_dots() -> None:
    names = [check.name for check in machine.checks(settings())]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)?", name) for name in names)
    assert all(check.fix for check in machine.checks(settings()))


async def test_every_check_of_this_machine_ends() -> None:
    for finding in await asyncio.gather(*(check.look() for check in machine.checks(settings()))):
        assert finding.status in Status
