"""The service with a clock that a test sets: `python -m tests.accelerated`, told by TEST_CLOCK where the time lies."""

import asyncio
import mmap
import os
import struct
from pathlib import Path

from pba_service.app import read_settings, run
from pba_service.observability.logs import configure_logs

TIME = struct.Struct("<q")


class FileClock:
    """A time in ms that several processes see."""

    def __init__(self, path):
        with Path(path).open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), TIME.size)

    def __call__(self):
        return TIME.unpack(self._memory[:])[0]

    def set(self, now_ms):
        self._memory[:] = TIME.pack(now_ms)

    @classmethod
    def create(cls, path, now_ms):
        Path(path).write_bytes(TIME.pack(now_ms))
        return cls(path)


if __name__ == "__main__":
    settings = read_settings(os.environ)
    configure_logs(settings.log_level, "json")
    asyncio.run(run(settings, FileClock(os.environ["TEST_CLOCK"])))
