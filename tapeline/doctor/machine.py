"""What this machine and this installation have: Python, packages, ports, limits, memory, disks."""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from streams.symbols import parse_symbols
from tapeline.config import Settings, unknown_variables
from tapeline.doctor.model import Check, Finding, fail, ok, skip, warn
from tapeline.errors import ConfigError
from tapeline.own_packages import ForeignPackage, check_packages

PYTHON_FROM: Final = (3, 11)
PYTHON_BELOW: Final = (3, 14)

FILES_LEAST: Final = 256
"""Connections and files of a process without clients, with room to spare."""

GIB: Final = 1024**3
MIB: Final = 1024**2
MEMORY_LEAST: Final = 256 * MIB
MEMORY_WARN: Final = GIB
DISK_LEAST: Final = GIB
DISK_WARN: Final = 5 * GIB

HEALTH_S: Final = 1.0

_COMPILED: Final = ("tables._lane", "streams.venues.binance._wire")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*\])?\s*(?:==\s*([^;,\s]+))?")
_MEMINFO: Final = re.compile(r"MemAvailable:\s+(\d+) kB")


def checks(settings: Settings, disks: Sequence[Path] = ()) -> list[Check]:
    """All checks of this machine.

    Args:
        settings: Of this environment.
        disks: Folders to look at beside those that the settings name.
    """
    return [
        Check("python", _sync(look_at_python), "see that this machine answers at all"),
        Check("packages", _sync(look_at_packages), "install Tapeline anew"),
        Check("packages.compiled", _sync(look_at_compiled), "install Tapeline anew"),
        Check("settings", _sync(lambda: look_at_settings(settings)), "tapeline config"),
        *(
            Check(f"ports.{kind}", lambda kind=kind: look_at_port(settings, kind), "ss -ltnp")  # type: ignore[misc]
            for kind in PORTS
        ),
        Check("files", _sync(lambda: look_at_files(settings)), "ulimit -n"),
        Check("memory", _sync(look_at_memory), "free -m"),
        Check("disk", _sync(lambda: look_at_disks(settings, disks)), "df -h"),
    ]


def _sync(look: Callable[[], Finding]) -> Callable[[], Any]:
    async def in_a_thread() -> Finding:
        return await asyncio.to_thread(look)

    return in_a_thread


# --- the installation ----------------------------------------------------------------------------


def look_at_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The interpreter's version and kind."""
    span = f"CPython {'.'.join(map(str, PYTHON_FROM))} or later, below {'.'.join(map(str, PYTHON_BELOW))}"
    found = f"{platform.python_implementation()} {'.'.join(map(str, version))}"
    if not PYTHON_FROM <= version[:2] < PYTHON_BELOW:
        return fail(found, span, "make setup PYTHON=python3.12")
    if platform.python_implementation() != "CPython":
        return warn(found, span, "make setup PYTHON=python3.12")
    return ok(found, span)


def look_at_packages() -> Finding:
    """Ours under our names, and all that they need, as pinned."""
    expected = "Tapeline's own packages, and what they need, pinned ones as pinned"
    try:
        check_packages()
    except ForeignPackage as error:
        return fail(str(error), expected, "install Tapeline into an environment of its own")
    try:
        needed = importlib.metadata.requires("tapeline") or []
    except importlib.metadata.PackageNotFoundError:
        return warn("running from a checkout: nothing says what is needed", expected, "make setup")
    wrong = []
    for requirement in needed:
        name, pinned = _needed(requirement)
        if not name:
            continue
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if pinned and there != pinned:
            wrong.append(f"{name} {there} instead of {pinned}")
    if wrong:
        return fail("; ".join(wrong), expected, "make setup")
    return ok(f"{sum(bool(_needed(each)[0]) for each in needed)} packages", expected)


def _needed(requirement: str) -> tuple[str, str]:
    """Name and pinned version; ('', '') of an extra's."""
    text, _, marker = requirement.partition(";")
    match = _REQUIREMENT.match(text.strip())
    if "extra" in marker or match is None:
        return "", ""
    return match[1], match[2] or ""


def look_at_compiled() -> Finding:
    """What a C compiler makes faster."""
    expected = "the compiled lanes of worker and bridge"
    missing = [name for name in _COMPILED if importlib.util.find_spec(name) is None]
    if missing:
        fix = "install a C compiler and Python's headers, then: make clean setup"
        return warn(f"not built: {', '.join(missing)}; all works, slower", expected, fix)
    return ok("built", expected)


def look_at_settings(settings: Settings) -> Finding:
    """Variables that no setting reads, and symbols that can't be followed."""
    expected = "variables that are settings, and SYMBOLS that can be followed"
    try:
        mixed = settings.quote_mixed
        listings = parse_symbols(settings.symbols, quote_mixed=mixed) if settings.symbols else ()
    except ConfigError as error:
        return fail(
            str(error), expected, "set SYMBOLS, such as binance:BTCUSDT,kraken:BTC/USD>BTCUSD"
        )
    unknown = unknown_variables()
    if unknown:
        named = (
            f"{name} (did you mean {near}?)" if near else name for name, near in unknown.items()
        )
        return warn(f"not settings: {', '.join(named)}", expected, f"unset {' '.join(unknown)}")
    if not listings:
        return warn("SYMBOLS is empty", expected, "set SYMBOLS, such as binance:BTCUSDT")
    return ok(f"{len(listings)} listings in SYMBOLS", expected)


# --- ports ---------------------------------------------------------------------------------------

PORTS: Final = {
    "worker": ("metrics_port", "NT_METRICS_PORT", "owned_symbols"),
    "bridge": ("bridge_port", "NT_BRIDGE_PORT", "symbols_in_sync"),
    "reader": ("serve_port", "NT_SERVE_PORT", "redis"),
}
"""By process: the setting, its variable, and a field of ``/health`` that only this process has."""


async def look_at_port(settings: Settings, kind: str) -> Finding:
    """Free to listen on, or held by the process that it is for."""
    field, variable, _ = PORTS[kind]
    port, host = getattr(settings, field), settings.bind_host
    expected = f"port {port} free, or held by a Tapeline {kind}"
    if port == 0:
        return ok("0: a free one is picked", expected)
    shared = [
        v for other, v, _ in PORTS.values() if v != variable and getattr(settings, other) == port
    ]
    if shared:
        return fail(
            f"{variable} and {shared[0]} are both {port}", expected, f"set {variable} to another"
        )
    code = await asyncio.to_thread(_bind, host, port)
    if code == 0:
        return ok("free", expected)
    if code == errno.EACCES:
        return fail("not allowed to listen there", expected, f"set {variable} to 1024 or above")
    if code != errno.EADDRINUSE:
        why = os.strerror(code) if code > 0 else "no such address"
        return fail(
            f"can't listen on {host}: {why}",
            expected,
            "set NT_BIND_HOST to an address of this machine",
        )
    holder = await _health(host, port)
    if holder is not None and _kind_of(holder) == kind:
        named = f" {holder['node_id']}" if "node_id" in holder else ""
        return ok(f"held by a Tapeline {kind}{named}, {holder.get('status')}", expected)
    whose = (
        "another program"
        if holder is None or not _kind_of(holder)
        else f"a Tapeline {_kind_of(holder)}"
    )
    return fail(
        f"held by {whose}", expected, f"ss -ltnp 'sport = :{port}', or set {variable} to another"
    )


def _bind(host: str, port: int) -> int:
    """0, or why the port can't be listened on: an errno, -1 for an address that is none."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        return -1
    with socket.socket(family, kind, proto) as sock:
        # As servers do it. Nothing is listened on: nobody could connect to this.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            return error.errno or -1
    return 0


async def _health(host: str, port: int) -> dict[str, Any] | None:
    """What whoever holds a port says of itself; None where that is nothing we know."""
    import aiohttp  # noqa: PLC0415 - slow to import, and needed for a held port only

    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    timeout = aiohttp.ClientTimeout(total=HEALTH_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{shown}:{port}/health") as answer,
        ):
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def _kind_of(health: dict[str, Any]) -> str:
    """Which of our processes says that; '' if none does."""
    found = [kind for kind, (_, _, name) in PORTS.items() if name in health and "status" in health]
    # A bridge tells of its Redis, too.
    return found[0] if found else ""


# --- limits --------------------------------------------------------------------------------------


def look_at_files(settings: Settings) -> Finding:
    """Open files that a process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.hub_clients_max + FILES_LEAST
    expected = f"{FILES_LEAST} open files, and for NT_HUB_CLIENTS_MAX clients of a reader {wanted}"
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ok("unlimited" if soft == resource.RLIM_INFINITY else f"{soft}", expected)
    highest = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard}"
    fix = f"ulimit -n {wanted} (at most {highest} here), or LimitNOFILE={wanted} in the unit"
    if soft < FILES_LEAST:
        return fail(f"{soft}", expected, fix)
    room = soft - FILES_LEAST
    return warn(f"{soft}: room for some {room} WebSocket clients", expected, fix)


def look_at_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> Finding:
    """What this machine, or this container, has left."""
    expected = f"{MEMORY_WARN // MIB} MiB available"
    try:
        match = _MEMINFO.search(meminfo.read_text())
    except OSError:
        match = None
    if match is None:
        return skip("this system does not say what is available", expected)
    left, where = int(match[1]) * 1024, "machine"
    limit = _cgroup_left(cgroup)
    if limit is not None and limit < left:
        left, where = limit, "container"
    found = f"{left // MIB} MiB available in this {where}"
    fix = "give it more memory, or end what needs it"
    if left < MEMORY_LEAST:
        return fail(found, expected, fix)
    return warn(found, expected, fix) if left < MEMORY_WARN else ok(found, expected)


def _cgroup_left(folder: Path) -> int | None:
    """What a container may still take; None where there is no limit."""
    try:
        most = (folder / "memory.max").read_text().strip()
        used = (folder / "memory.current").read_text().strip()
        return None if most == "max" else int(most) - int(used)
    except (OSError, ValueError):
        return None


def look_at_disks(
    settings: Settings,
    more: Sequence[Path] = (),
    *,
    least: int = DISK_LEAST,
    enough: int = DISK_WARN,
) -> Finding:
    """Folders that are written to, and the room in them."""
    expected = f"folders that can be written to, with {enough / GIB:g} GiB free"
    record = [Path(settings.record_dir)] if settings.record_dir else []
    found, low, wrong = [], [], []
    for path in (*record, *more, Path(tempfile.gettempdir())):
        if not path.is_dir():
            wrong.append(f"{path} is no folder")
            continue
        free = shutil.disk_usage(path).free
        found.append(f"{path} {free / GIB:.1f} GiB")
        if path in record and not os.access(path, os.W_OK | os.X_OK):
            wrong.append(f"{path} can't be written to")
        if free < least:
            wrong.append(f"{path} has {free / GIB:.2f} GiB left")
        elif free < enough:
            low.append(f"{path} has {free / GIB:.2f} GiB left")
    if wrong:
        named = " ".join(str(path) for path in record) or "the folder"
        fix = f"mkdir -p {named}, or NT_RECORD_DIR on a disk with more room"
        return fail("; ".join(wrong), expected, fix)
    if low:
        fix = "remove old recordings, or lower NT_RETENTION_MS: `tapeline topics apply`"
        return warn("; ".join(low), expected, fix)
    return ok(", ".join(found), expected)
