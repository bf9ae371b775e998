from __future__ import annotations

from pathlib import Path

import pytest

from tapeline.errors import StackError
from tapeline.stack.kafka_jars import find_java, kafka_jars, unavailable

FAKE_MAVEN = """#!/bin/sh
for word; do case $word in -Dlib=*) lib=${word#-Dlib=};; esac; done
mkdir -p "$lib" && touch "$lib/kafka-server-4.1.0.jar"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "kafka-local"
    folder.mkdir()
    (folder / "pom.xml").touch()
    return folder


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of programs there is, and it is empty, but for the shell's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("mkdir", "touch"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_java_home_comes_first(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(programs / "java")
    assert find_java() == str(on_path)
    named = program(tmp_path / "jdk" / "bin" / "java")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert find_java() == str(named)


def test_without_java(programs: Path, home: Path) -> None:
    with pytest.raises(StackError, match="install a Java 17"):
        find_java()
    assert "no Java" in str(unavailable(home))


async def test_without_jars_and_maven(programs: Path, home: Path) -> None:
    program(programs / "java")
    assert "no Maven to fetch them" in str(unavailable(home))
    with pytest.raises(StackError, match="no Maven"):
        await kafka_jars(home)


async def test_jars_are_fetched_once(programs: Path, home: Path) -> None:
    program(programs / "java")
    maven = program(programs / "mvn", FAKE_MAVEN)
    assert unavailable(home) is None
    lib = await kafka_jars(home)
    assert [jar.name for jar in lib.iterdir()] == ["kafka-server-4.1.0.jar"]
    maven.unlink()
    assert await kafka_jars(home) == lib


async def test_a_failed_fetch_leaves_nothing_half_done(programs: Path, home: Path) -> None:
    program(programs / "java")
    program(programs / "mvn", "#!/bin/sh\necho 'no route to the repository'\nexit 1\n")
    with pytest.raises(StackError, match="no route to the repository"):
        await kafka_jars(home)
    assert not (home / "lib").exists()
