"""The tests that need servers, on Redpanda and Redis in containers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support import containers
from tests.support.imports import ROOT


@pytest.mark.docker
def test_the_same_suite_passes_on_redpanda_and_redis() -> None:
    with containers.redpanda() as kafka_url, containers.redis() as redis_url:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "(kafka or redis) and not docker"],
            cwd=ROOT,
            env={**os.environ, "NT_TEST_KAFKA_URL": kafka_url, "NT_TEST_REDIS_URL": redis_url},
            check=False,
        )
    assert done.returncode == 0
