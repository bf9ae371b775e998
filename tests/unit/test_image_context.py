"""What travels to the Docker daemon: no secret, whatever lies about in a checkout."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

from tests.support.imports import ROOT

SECRETS = (
    ".env", ".env.local", "deploy/.env.production", "server.pem", "deploy/tls/kafka.key",
    "deploy/kafka.keystore.jks", "truststore.p12", "client.pfx", "secrets/redis-password",
    "deploy/secrets/kafka", "deploy/redis/users.local.acl", "worker.password", "id_rsa",
    "id_ed25519", "admin.properties", ".netrc", ".pypirc", "pip.conf", ".docker/config.json",
    "kubeconfig", "deploy/kubeconfig",
)  # fmt: skip
NEEDED = ("pyproject.toml", "tapeline/cli.py", "requirements/core.txt", "lua/acquire.lua")


def context(root: Path) -> set[str]:
    """Paths that are sent, as Docker reads its ignore file."""
    patterns = (root / ".dockerignore").read_text().splitlines()
    kept = [line for line in patterns if line.strip() and not line.startswith("#")]
    return {path.replace("\\", "/") for path in exclude_paths(str(root), kept)}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*SECRETS, *NEEDED):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("planted-secret")
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    return tmp_path


def test_files_that_hold_secrets_stay_where_they_are(checkout: Path) -> None:
    sent = context(checkout)
    assert [name for name in SECRETS if name in sent] == []
    assert [name for name in NEEDED if name not in sent] == []


def test_version_control_does_not_take_them_either(checkout: Path) -> None:
    import subprocess

    if shutil.which("git") is None:
        pytest.skip("no git")
    shutil.copy(ROOT / ".gitignore", checkout)
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert [name for name in SECRETS if name in listed] == []
    assert [name for name in NEEDED if name not in listed] == []
