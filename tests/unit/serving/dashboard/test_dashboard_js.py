"""The pages' pure modules, by Node's own test runner, where there is a Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))
STATIC = Path(__file__).parents[4] / "serving" / "dashboard" / "static"

pytestmark = pytest.mark.skipif(NODE is None, reason="no node: pure modules are tested by it")


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_of_a_module(path: Path) -> None:
    done = subprocess.run(
        [str(NODE), "--test", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "# pass 0" not in done.stdout


@pytest.mark.slow
def test_every_script_parses() -> None:
    for path in [*STATIC.rglob("*.mjs"), *STATIC.rglob("*.js")]:
        done = subprocess.run(
            [str(NODE), "--check", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
