"""The compose files and the image, by structure: there is not always a Docker to ask."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.imports import ROOT

FILES = ("docker-compose.yml", "docker-compose.test.yml")


def services(name: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text())["services"]
    return loaded


def compose_plugin() -> bool:
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.skipif(not compose_plugin(), reason="no compose plugin on this machine")
@pytest.mark.parametrize("name", FILES)
def test_compose_accepts_it(name: str) -> None:
    subprocess.run(["docker", "compose", "-f", name, "config", "--quiet"], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", FILES)
def test_images_are_pinned(name: str) -> None:
    for service in services(name).values():
        image = service.get("image", "tapeline:0")
        assert re.search(r":v?\d", image), image
        assert not image.endswith(":latest")


@pytest.mark.parametrize("name", FILES)
def test_dependencies_are_services_with_a_health_check(name: str) -> None:
    everything = services(name)
    for service in everything.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in everything[needed], needed
            else:
                assert how["condition"] == "service_completed_successfully"
                assert everything[needed]["restart"] == "no", needed


def test_ports_are_published_on_loopback_only() -> None:
    for name in FILES:
        for service in services(name).values():
            for port in service.get("ports", ()):
                assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize(
    ("service", "command", "port"),
    [
        ("bridge", "tapeline bridge", 9102),
        ("worker", "faust -A agents worker -l info", 9101),
        ("serve", "tapeline serve", 8080),
    ],
)
def test_each_process_and_its_health(service: str, command: str, port: int) -> None:
    defined = services()[service]
    assert " ".join(defined["command"]) == command
    assert f"http://127.0.0.1:{port}/health" in " ".join(defined["healthcheck"]["test"])
    assert port in defined["environment"].values()
    assert {"KAFKA_URL", "REDIS_URL", "SYMBOLS"} <= defined["environment"].keys()


def test_the_reader_runs_without_kafka() -> None:
    assert set(services()["serve"]["depends_on"]) == {"redis"}


def test_secrets_stay_out_of_repository_and_image() -> None:
    assert ".env*" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/.env*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_is_made_from_hashed_locks_and_is_not_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for line in text.splitlines():
        if "pip install" in line:
            assert "--require-hashes" in line or "--no-index" in line, line
    runtime = text.partition("AS runtime")[2]
    assert re.search(r"^USER (?!0\b|root\b)", runtime, re.MULTILINE)


@pytest.mark.parametrize("name", ["core", "dev", "build"])
def test_locks_pin_and_hash_everything_and_name_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 1
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_core_lock_is_part_of_the_whole() -> None:
    """The same versions, whatever extras are installed."""

    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return set(re.findall(r"^(\S+==[^\\\n]*)", text, re.MULTILINE))

    assert pins("core") <= pins("dev")
    assert pins("build") <= pins("dev")
