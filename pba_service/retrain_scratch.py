"""Folders of retrainings that go with them, whatever ends them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "retrain"
_PREFIX = "run-"
_LOCK = "lock"


@contextmanager
def scratch(data_dir: Path) -> Iterator[Path]:
    """A folder of its own below `data_dir`; it is gone afterwards. Raises `OSError`.

    Each run holds a lock on its folder for as long as its process lives: what nobody holds was left behind by one
    that was killed. Who makes or removes folders holds the lock on all of them meanwhile.
    """
    home = data_dir / FOLDER
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _held(home / _LOCK):
        _sweep(home)
        folder = Path(tempfile.mkdtemp(dir=home, prefix=_PREFIX))
        own = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(own, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(own)


def sweep(data_dir: Path) -> int:
    """Removes the folders of runs that are no more; says how many. Raises `OSError`."""
    home = data_dir / FOLDER
    if not home.is_dir():
        return 0
    with _held(home / _LOCK):
        return _sweep(home)


def _sweep(home: Path) -> int:
    left = [folder for folder in home.glob(f"{_PREFIX}*") if not _in_use(folder)]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return len(left)


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _in_use(folder: Path) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
    return False
