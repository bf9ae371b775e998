"""systemd's units read as files: what they start, and with which variables."""

from __future__ import annotations

from pathlib import Path

from tests.support.imports import ROOT

SYSTEMD = ROOT / "deploy" / "systemd"
HOST = "host-1"


def env_file(path: Path) -> dict[str, str]:
    """Variables of a file of NAME=value lines."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def unit_lines(path: Path) -> list[tuple[str, str]]:
    """Lines of a unit, in order: a name may come again."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [
        (key, value)
        for key, _, value in (line.partition("=") for line in lines)
        if value and not key.startswith(("#", "["))
    ]


def services() -> list[Path]:
    """Units of Tapeline that start something."""
    return sorted((SYSTEMD / "units").glob("*.service"))


def value_of(path: Path, name: str) -> str:
    """The one value of a name.

    Raises:
        ValueError: There is none, or there are several.
    """
    [value] = [value for key, value in unit_lines(path) if key == name]
    return value


def environment(path: Path, instance: str = "") -> dict[str, str]:
    """What a process of a unit is given, as systemd does it: files win over the unit's own."""
    common = SYSTEMD / "units" / "tapeline-.service.d" / "10-common.conf"
    own = dict(
        word.split("=", 1)
        for key, value in [*unit_lines(path), *unit_lines(common)]
        if key == "Environment"
        for word in value.replace("%H", HOST).replace("%i", instance).split()
    )
    return {**own, **env_file(SYSTEMD / "tapeline.env"), **env_file(SYSTEMD / "secrets.env")}
