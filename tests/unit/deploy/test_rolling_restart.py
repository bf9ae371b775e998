"""The order of a rolling restart, and that it stops where something does not become ready.

The real script; systemctl and curl are stand-ins that remember what they were asked.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.units import SYSTEMD

SYSTEMCTL = """\
#!/bin/sh
case $1 in
    list-units)
        case $5 in
            tapeline-serve.service) echo "tapeline-serve.service loaded active running reader" ;;
            tapeline-bridge.service) echo "tapeline-bridge.service loaded active running bridge" ;;
            'tapeline-worker@*.service')
                echo "tapeline-worker@9101.service loaded active running worker"
                echo "tapeline-worker@9103.service loaded active running worker" ;;
        esac ;;
    show) echo $$ ;;
    restart) echo "$2" >>"$RECORD" ;;
esac
"""
CURL = """\
#!/bin/sh
for url; do :; done
echo "asked $url" >>"$RECORD.asked"
case $url in
    *":${NEVER:-none}/"*) [ -s "$RECORD" ] && { echo '{"ready":false,"reason":"away: redis"}'; exit; } ;;
esac
echo '{"ready":true,"reason":""}'
"""


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    for name, text in (("systemctl", SYSTEMCTL), ("curl", CURL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "record").touch()
    return subprocess.run(
        ["sh", str(SYSTEMD / "rolling-restart.sh"), *arguments],
        env={
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "RECORD": str(folder / "record"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_readers_then_workers_then_the_bridge(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "record").read_text().split() == [
        "tapeline-serve.service",
        "tapeline-worker@9101.service",
        "tapeline-worker@9103.service",
        "tapeline-bridge.service",
    ]


def test_no_worker_is_restarted_while_another_is_not_settled(tmp_path: Path) -> None:
    """The second worker is not ready once something has been restarted: nothing more is."""
    done = run(tmp_path, NEVER="9103", READY_S="0")
    assert done.returncode == 1
    assert (tmp_path / "record").read_text().split() == ["tapeline-serve.service"]
    assert "tapeline-worker@9103.service is not ready after 0 s" in done.stderr
    assert "away: redis" in done.stderr


@pytest.mark.parametrize(
    ("unit", "port"), [("tapeline-worker@9103", 9103), ("tapeline-worker@9103.service", 9103)]
)
def test_a_worker_is_asked_at_the_port_that_it_is_called_by(
    tmp_path: Path, unit: str, port: int
) -> None:
    assert run(tmp_path, unit).returncode == 0
    assert (tmp_path / "record").read_text().split() == [unit]
    last = (tmp_path / "record.asked").read_text().splitlines()[-1]
    assert last == f"asked http://127.0.0.1:{port}/ready"
