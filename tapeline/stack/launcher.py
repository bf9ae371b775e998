"""Becomes a child that can't outlive its parent: ``launcher.py PARENT_PID DATA_LIMIT ARGV...``.

Started as a script with ``python -I -S``, so it imports nothing of Tapeline and costs some 20 ms.
It stands between fork and exec in place of a ``preexec_fn``, which may deadlock in a process
with threads. The process id stays the same through the exec.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies, however that dies.

    Only Linux can; elsewhere a parent that is killed outright leaves its children running.
    """
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - not needed elsewhere, and the slowest import of all

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have died before the request, which then never fires.
    if os.getppid() != parent_pid:
        sys.exit("the parent is gone")


def limit_data(limit_bytes: int) -> None:
    """Cap private writable memory; 0 leaves it free.

    RLIMIT_DATA and not RLIMIT_AS: reserved address space costs nothing, and allocators and
    thread stacks reserve many times what they use.
    """
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def main(argv: list[str]) -> None:
    """Does not return: the process becomes ``argv[3:]``."""
    die_with(int(argv[1]))
    limit_data(int(argv[2]))
    command = argv[3:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv)
