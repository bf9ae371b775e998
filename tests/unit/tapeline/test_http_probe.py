"""The small server for operators."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from tapeline.http_probe import ProbeServer

LOOPBACK = "127.0.0.1"


class Patient:
    """Its health is what a test says."""

    def __init__(self) -> None:
        self.well = True

    def health(self) -> tuple[bool, dict[str, Any]]:
        return self.well, {"node_id": "n1", "well": self.well}


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
async def probe(patient: Patient) -> AsyncIterator[ProbeServer]:
    registry = CollectorRegistry()
    Counter("tape_total", "Counted", registry=registry).inc(3)
    server = ProbeServer(LOOPBACK, 0, registry, patient.health)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_port_0_becomes_the_port_that_was_chosen(probe: ProbeServer) -> None:
    """And the URL says it."""
    assert probe.port > 0
    assert probe.url == f"http://{LOOPBACK}:{probe.port}"


async def test_metrics_are_in_the_format_of_prometheus(
    probe: ProbeServer, http: aiohttp.ClientSession
) -> None:
    """With its content type, version included."""
    async with http.get(f"{probe.url}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        assert "tape_total 3.0" in await response.text()


async def test_health_says_the_same_by_status_and_body(
    probe: ProbeServer, http: aiohttp.ClientSession, patient: Patient
) -> None:
    """200 while well, 503 when not."""
    for well, status in ((True, 200), (False, 503)):
        patient.well = well
        async with http.get(f"{probe.url}/health") as response:
            assert response.status == status
            assert response.content_type == "application/json"
            assert await response.json() == {"node_id": "n1", "well": well}


async def test_it_is_live_while_its_loop_comes_round_however_unwell(
    probe: ProbeServer, http: aiohttp.ClientSession, patient: Patient
) -> None:
    """A restart would bring back neither a broker nor Redis."""
    patient.well = False
    async with http.get(f"{probe.url}/live") as response:
        assert (response.status, await response.json()) == (200, {"live": True})


async def test_ready_is_well_unless_somebody_says_more(
    probe: ProbeServer, http: aiohttp.ClientSession, patient: Patient
) -> None:
    for well, status, reason in ((True, 200, ""), (False, 503, "unhealthy")):
        patient.well = well
        async with http.get(f"{probe.url}/ready") as response:
            assert response.status == status
            assert await response.json() == {"ready": well, "reason": reason}


async def test_a_process_may_be_well_and_not_ready(
    patient: Patient, http: aiohttp.ClientSession
) -> None:
    """By what its health says."""
    server = ProbeServer(
        LOOPBACK, 0, CollectorRegistry(), patient.health, lambda _well, body: f"{body['node_id']}!"
    )
    await server.start()
    try:
        async with http.get(f"{server.url}/health") as response:
            assert response.status == 200
        async with http.get(f"{server.url}/ready") as response:
            assert response.status == 503
            assert await response.json() == {"ready": False, "reason": "n1!"}
    finally:
        await server.stop()


async def test_anything_else_is_not_found(probe: ProbeServer, http: aiohttp.ClientSession) -> None:
    """And nothing can be written."""
    async with http.get(f"{probe.url}/") as response:
        assert response.status == 404
    async with http.post(f"{probe.url}/health") as response:
        assert response.status == 405


async def test_it_listens_on_its_host_only(probe: ProbeServer) -> None:
    """Loopback is not every interface."""
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", probe.port))


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind(
    probe: ProbeServer, patient: Patient
) -> None:
    """Stopping what never started is allowed."""
    second = ProbeServer(LOOPBACK, probe.port, CollectorRegistry(), patient.health)
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.stop()


async def test_a_stopped_server_has_given_its_port_back(patient: Patient) -> None:
    """At once, although a client holds its connection open."""
    server = ProbeServer(LOOPBACK, 0, CollectorRegistry(), patient.health)
    await server.start()
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/health") as response:
            await response.read()
        await server.stop()
    await server.stop()
    again = ProbeServer(LOOPBACK, server.port, CollectorRegistry(), patient.health)
    await again.start()
    await again.stop()
