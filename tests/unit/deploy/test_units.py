"""What systemd itself says of the units."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.units import SYSTEMD

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze on this machine"
)


def verify(folder: Path, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(where / "verify.sh"), str(folder)], capture_output=True, text=True, check=False
    )


@needs_systemd
def test_systemd_knows_every_line(tmp_path: Path) -> None:
    done = verify(tmp_path, SYSTEMD)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("units/tapeline-worker@.service", "TimeoutStopSecs=20"),
        # Read for each unit of the prefix, or what it promises would be of none.
        ("units/tapeline-.service.d/10-common.conf", "ProtectSystems=strict"),
    ],
)
def test_a_line_that_it_does_not_know_is_found(tmp_path: Path, file: str, wrong: str) -> None:
    copy = tmp_path / "systemd"
    shutil.copytree(SYSTEMD, copy)
    with (copy / file).open("a") as out:
        out.write(f"\n[Service]\n{wrong}\n")
    done = verify(tmp_path / "root", copy)
    assert done.returncode != 0
    assert wrong.split("=", maxsplit=1)[0] in done.stderr


@pytest.mark.parametrize("script", ["install.sh", "rolling-restart.sh", "verify.sh"])
def test_scripts_are_shell(script: str) -> None:
    subprocess.run(["sh", "-n", str(SYSTEMD / script)], check=True)


@needs_systemd
def test_the_user_and_the_folders_are_as_systemd_wants_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for folder, name in (("sysusers.d", "sysusers.conf"), ("tmpfiles.d", "tmpfiles.conf")):
        (tmp_path / "etc" / folder).mkdir()
        shutil.copy(SYSTEMD / name, tmp_path / "etc" / folder / "tapeline.conf")
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", "tapeline.conf"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    user = next(
        line
        for line in (tmp_path / "etc" / "passwd").read_text().splitlines()
        if line.startswith("tapeline:")
    )
    assert user.endswith(":/var/lib/tapeline:/usr/sbin/nologin")
