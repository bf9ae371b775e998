"""Java, and Apache Kafka as a folder of jars."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tapeline.errors import StackError
from tapeline.stack.processes import run_to_end

HOME = Path(__file__).parents[2] / "deploy" / "kafka-local"
"""Of a checkout; an installed wheel has no such folder."""

_FETCH_S = 300.0


def find_java() -> str:
    """The ``java`` of ``JAVA_HOME``, else of the PATH.

    Raises:
        StackError: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise StackError("no Java found; install a Java 17 or later, or set KAFKA_URL")
    return java


def unavailable(home: Path = HOME) -> str | None:
    """Why a local Kafka can't be run here, in words; None where it can."""
    try:
        find_java()
    except StackError as error:
        return str(error)
    if _jars_in(home) or (shutil.which("mvn") and (home / "pom.xml").is_file()):
        return None
    return f"no Kafka jars in {home / 'lib'}, and no Maven to fetch them"


async def kafka_jars(home: Path = HOME) -> Path:
    """The folder of Kafka's jars, fetched by Maven where it is missing.

    Raises:
        StackError: They are not there and can't be fetched.
    """
    lib = home / "lib"
    if _jars_in(home):
        return lib
    reason = unavailable(home)
    if reason is not None:
        raise StackError(reason)
    # Beside its place, then renamed: half a download is never taken for the whole, and two
    # processes may fetch at a time.
    fetched = home / "target" / f"lib-{os.getpid()}"
    argv = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-Dlib={fetched}"]
    try:
        await run_to_end("mvn", argv, timeout_s=_FETCH_S, cwd=home)
        try:
            fetched.rename(lib)
        except OSError:
            if not _jars_in(home):
                raise
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
    return lib


def _jars_in(home: Path) -> bool:
    return any((home / "lib").glob("kafka-server-*.jar"))
