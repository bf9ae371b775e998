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
PROFILES = ("default", "scale", "observability", "console", "parallel-test")


def services(name: str = "docker-compose.yml") -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text())["services"]
    return loaded


def compose_command() -> list[str] | None:
    """Docker's plugin, or its program by itself; None where there is neither."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            asked = subprocess.run([*command, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return command
    return None


@pytest.mark.skipif(compose_command() is None, reason="no docker compose on this machine")
@pytest.mark.parametrize(
    ("name", "profile"),
    [*(("docker-compose.yml", profile) for profile in PROFILES), ("docker-compose.test.yml", "")],
)
def test_compose_accepts_it(name: str, profile: str) -> None:
    command = compose_command()
    assert command is not None
    chosen = ["--profile", profile] if profile else []
    subprocess.run([*command, "-f", name, *chosen, "config", "--quiet"], cwd=ROOT, check=True)


def test_profiles_are_those_that_are_documented() -> None:
    used = {p for service in services().values() for p in service.get("profiles", ())}
    assert used | {"default"} == set(PROFILES)


def test_scale_is_three_workers_and_two_bridges() -> None:
    """Each with a name of its own: two processes of one name would end one of them."""
    names: dict[str, list[str]] = {"worker": [], "bridge": []}
    for service in services().values():
        if set(service.get("profiles", ["scale"])) == {"scale"}:
            for role, found in names.items():
                if role in service.get("command", ()):
                    found.append(service["environment"]["NT_NODE_ID"])
    assert sorted(names["worker"]) == ["worker-1", "worker-2", "worker-3"]
    assert sorted(names["bridge"]) == ["bridge-1", "bridge-2"]


def test_ours_run_without_rights_on_a_root_that_they_can_not_write() -> None:
    for name, service in services().items():
        if "tapeline:" in service["image"]:
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_second_analytics_shares_neither_group_nor_reports() -> None:
    everything = services()
    beside = everything["worker-parallel"]["environment"]
    assert beside["NT_APP_ID"] == everything["topics-apply-parallel"]["environment"]["NT_APP_ID"]
    assert beside["NT_APP_ID"] != "tapeline"
    assert beside["NT_REPORT_SUFFIX"]


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
    asked = "serve" if service == "serve" else service
    assert defined["healthcheck"]["test"][-2:] == ["tapeline.healthcheck", asked]
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
    assert "HEALTHCHECK" in runtime
    assert "COPY --from=uv" not in runtime, "what installs does not travel with what runs"


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
