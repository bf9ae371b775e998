"""Asks the process of this container whether it is ready: ``python -m tapeline.healthcheck``.

For Docker's health checks, which come every few seconds in each container: so it imports nothing
that takes time, the settings included, and reads the two of them that it needs itself. Status 0
where ``/ready`` answers 200, else 1 and the reason.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROLES: Final = {
    "bridge": ("NT_BRIDGE_PORT", 9102),
    "serve": ("NT_SERVE_PORT", 8080),
    "worker": ("NT_METRICS_PORT", 9101),
}
"""By a word of the command: the setting of its port, and that setting's default."""

EVERYWHERE: Final = {"", "0.0.0.0", "::"}
TIMEOUT_S: Final = 2.0


def role_of(command: Sequence[str]) -> str:
    """Which of `ROLES` a command line starts; '' for none."""
    return next((word for word in command if word in ROLES), "")


def address_of(role: str, environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port to ask.

    Raises:
        ValueError: The port is no number.
    """
    variable, default = ROLES[role]
    host = environ.get("NT_BIND_HOST", "")
    return "127.0.0.1" if host in EVERYWHERE else host, int(environ.get(variable) or default)


def unready(host: str, port: int) -> str:
    """Why it is not ready; '' where it is."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer from {host}:{port}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    if answer.status == http.client.OK:
        return ""
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status} from {host}:{port}"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit status.

    Args:
        arguments: A role, or nothing: the one that process 1 was started as.
        environ: For the port and the address.
    """
    started = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").split("\0")
    role = role_of(arguments or started)
    if not role:
        sys.stderr.write(f"which one? one of {', '.join(ROLES)}\n")
        return 2
    reason = unready(*address_of(role, environ))
    sys.stdout.write(f"{reason or 'ready'}\n")
    return 1 if reason else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], os.environ))
