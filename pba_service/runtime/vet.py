"""What is looked at before a model's bytes are given to anything that interprets them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pba_service.domain.errors import ModelRefusedError
from pba_service.runtime.graph_scan import GraphFaultError, scan_graph

if TYPE_CHECKING:
    from pathlib import Path

MAX_ONNX_BYTES = 256 * 1024 * 1024
"""The shipped models have 0.1 and 0.6 MB; what is larger than this is not one for this service."""

MAX_MANIFEST_BYTES = 32 * 1024 * 1024
"""Golden windows are written out as text."""


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """Reads a regular file, or what a symbolic link to one leads to.

    Raises:
        ModelRefusedError: It cannot be read, is no regular file (a pipe would never end), or is too large.
    """
    try:
        # without waiting: opening a named pipe would take until somebody writes to it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ModelRefusedError(str(path), "it is no regular file", "unreadable")
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise ModelRefusedError(str(path), f"it cannot be read: {error.strerror}", "unreadable") from error
    if len(content) > limit_bytes:
        raise ModelRefusedError(str(path), f"it has more than {limit_bytes:,} bytes", "limits")
    return content


def vet(onnx: bytes, where: str) -> None:
    """Refuses a graph that should not even be opened: the one place for limits on what a model may be.

    Raises:
        ModelRefusedError: With the reason.
    """
    if not onnx:
        raise ModelRefusedError(where, "it is empty", "limits")
    if len(onnx) > MAX_ONNX_BYTES:
        raise ModelRefusedError(where, f"it has more than {MAX_ONNX_BYTES:,} bytes", "limits")
    try:
        scan_graph(onnx)
    except GraphFaultError as fault:
        raise ModelRefusedError(where, str(fault), "limits") from None
