"""Runs a command that ends when its parent does, even if the parent is killed. Run as a script, not imported.

    guard.py signal PARENT COMMAND...      Linux: becomes the command, which the kernel kills when the parent ends
    guard.py pipe FD COMMAND...            elsewhere: kills the command when the other end of the pipe FD is closed

With the first, the thread of the parent that started this must live as long as the command shall.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.1


def under_signal(parent: int, command: list[str]) -> None:
    """Becomes the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the signal was asked for
        sys.exit("the parent has gone")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


def under_pipe(fd: int, command: list[str]) -> None:
    """Runs the command and watches the pipe; ends as the command ends."""
    # Whoever asks this process to stop means the command.
    process = subprocess.Popen(command, close_fds=False)  # noqa: S603 - the command comes from our own supervisor
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while process.poll() is None:
        readable, _, _ = select.select([fd], [], [], _POLL_S)
        if readable:
            process.kill()
    sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


def main(mode: str, number: str, command: list[str]) -> None:
    """Runs the command under a guard."""
    os.umask(0o077)  # the command's files hold what nodes told us
    {"signal": under_signal, "pipe": under_pipe}[mode](int(number), command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
