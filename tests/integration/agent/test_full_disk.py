"""A disk that fills up, for real: a small file system in memory. Needs root, who may mount."""

import errno
import subprocess

import pytest

from pba_client.agent import Measurement
from pba_client.agent.depot import Depot


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "pba-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system to fill")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def write_for_ever(file):
    while True:
        file.write(bytes(4096))


def fill(folder):
    with (folder / "others").open("wb", buffering=0) as file, pytest.raises(OSError) as full:
        write_for_ever(file)
    assert full.value.errno == errno.ENOSPC


def sample(at_ms):
    return Measurement("fra-ams", at_ms, latency_ms=8.5)


def test_a_ring_that_has_its_place_goes_on_when_the_disk_is_full(small_disk):
    depot = Depot(small_disk / "r", 100)
    fill(small_disk)
    for at in range(1, 151):
        depot.add([sample(at)])
    assert (depot.in_memory, depot.disk_failures) == (0, 0)
    batch = depot.oldest(1000)
    depot.finish(batch, 0)
    depot.close()
    assert [one.measurement.measured_at_ms for one in batch] == list(range(51, 151))
    again = Depot(small_disk / "r", 100)
    assert (again.waiting, again.dropped) == (0, 50)
    again.close()


def test_a_disk_that_is_full_at_the_start_leaves_samples_in_memory_until_there_is_room(small_disk):
    fill(small_disk)
    depot = Depot(small_disk / "r", 1000)
    depot.add([sample(1)])
    assert (depot.in_memory, depot.waiting) == (1, 1)
    (small_disk / "others").unlink()
    depot.add([sample(2)])
    assert (depot.in_memory, depot.waiting) == (0, 2)
    assert [one.measurement.measured_at_ms for one in depot.oldest(9)] == [1, 2]
    depot.close()
