"""What a target is."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """Something that reads bytes or texts from outside.

    Attributes:
        run: Takes any bytes; returns, or raises one of `faults`.
        faults: What it may raise.
        seeds: Good inputs to begin with.
    """

    run: Callable[[bytes], object]
    faults: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def in_file(suffix, read):
    """Gives the bytes to `read` as a file."""

    def run(data):
        with tempfile.TemporaryDirectory(prefix="pba-fuzz-") as folder:
            path = Path(folder) / f"file{suffix}"
            path.write_bytes(data)
            path.chmod(0o600)
            return read(path)

    return run
