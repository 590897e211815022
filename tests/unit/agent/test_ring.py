"""Samples on disk: in order, once, bounded; over crashes, torn records, clocks set back and disks that fail."""

import errno
import os
import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pba_client.agent.clock import Clock
from pba_client.agent.depot import Depot
from pba_client.agent.measurement import Measurement, Source
from pba_client.agent.ring import RECORD_BYTES, Moment, Ring, RingBusyError
from pba_client.agent.tally import share

HERE = Moment(1, 1000)


def sample(at_ms, link="fra-ams"):
    return Measurement(link, at_ms, latency_ms=8.5)


def times(ring, most=10_000):
    return [one.measurement.measured_at_ms for one in ring.read(most)]


def test_a_sample_comes_back_as_it_was(tmp_path):
    sources = (Source.TRAIN, Source.TCP, Source.PROBE, Source.ABSENT)
    one = Measurement("straße/é", 5, 940.0, 8.5, 0.25, None, sources, share(1, 4), None, 8.0, 100.0)
    ring = Ring(tmp_path / "r", 16)
    ring.append([one], HERE)
    ring.close()
    (found,) = Ring(tmp_path / "r", 16).read(9)
    assert found.moment == HERE
    assert found.measurement.link_id == "straße/é"
    assert found.measurement.values == (940.0, 8.5, 0.25, None)
    assert found.measurement.sources == sources
    assert found.measurement.loss.trials == 4
    assert found.measurement.base_latency_ms == 8.0


def test_it_goes_on_after_a_restart(tmp_path):
    ring = Ring(tmp_path / "r", 16)
    ring.append([sample(1), sample(2), sample(3)], HERE)
    ring.finish(1, 1)
    ring.close()
    ring = Ring(tmp_path / "r", 16)
    ring.append([sample(4)], HERE)
    assert times(ring) == [2, 3, 4]


def test_the_oldest_go_first_and_are_counted(tmp_path):
    ring = Ring(tmp_path / "r", 16)
    for at in range(1, 41):
        ring.append([sample(at)], HERE)
    assert times(ring) == list(range(25, 41))
    assert (ring.dropped, ring.waiting) == (24, 16)
    ring.finish(40, 16)
    ring.close()
    ring = Ring(tmp_path / "r", 16)
    assert (ring.dropped, ring.waiting) == (24, 0)


def test_a_sample_given_another_time_when_its_place_was_taken_leaves_the_newer_one(tmp_path):
    ring = Ring(tmp_path / "r", 4)
    ring.append([sample(at) for at in range(1, 5)], HERE)
    [oldest] = ring.read(1)
    ring.append([sample(5)], HERE)
    ring.restamp(replace(oldest, measurement=sample(100)))
    assert times(ring) == [2, 3, 4, 5]


def test_a_torn_record_is_left_out_and_counted(tmp_path):
    ring = Ring(tmp_path / "r", 16)
    ring.append([sample(at) for at in range(1, 6)], HERE)
    ring.close()
    with (tmp_path / "r").open("r+b") as file:
        file.seek(4096 + 3 * RECORD_BYTES + 20)
        file.write(b"torn")
    ring = Ring(tmp_path / "r", 16)
    found = ring.read(16)
    assert [one.measurement.measured_at_ms for one in found] == [1, 2, 4, 5]
    ring.finish(5, len(found))
    assert ring.dropped == 1


def test_a_torn_position_falls_back_to_the_one_before(tmp_path):
    ring = Ring(tmp_path / "r", 16)
    ring.append([sample(at) for at in range(1, 6)], HERE)
    ring.finish(2, 2)
    ring.finish(4, 2)
    ring.close()
    with (tmp_path / "r").open("r+b") as file:
        file.seek(512)
        file.write(b"\xff" * 40)
    # generation 2 lies at 512: what was delivered since generation 1 is delivered again, which does no harm
    assert times(Ring(tmp_path / "r", 16)) == [3, 4, 5]


def test_a_file_of_something_else_is_put_aside(tmp_path):
    (tmp_path / "r").write_text("my diary")
    assert Ring(tmp_path / "r", 16).waiting == 0
    assert (tmp_path / "r.old").read_text() == "my diary"


def test_two_agents_cannot_share_it(tmp_path):
    first = Ring(tmp_path / "r", 16)
    with pytest.raises(RingBusyError):
        Depot(tmp_path / "r", 16)
    first.close()
    Depot(tmp_path / "r", 16).close()


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000))
def test_whatever_happens_each_sample_is_waiting_delivered_or_counted(tmp_path_factory, seed):
    chance = random.Random(seed)  # noqa: S311 - no secret
    path = tmp_path_factory.mktemp("ring") / "r"
    ring, appended, delivered = Ring(path, 20), [], []
    for at in range(1, 120):
        what = chance.random()
        if what < 0.6:
            ring.append([sample(at)], HERE)
            appended.append(at)
        elif what < 0.85:
            found = ring.read(chance.randrange(1, 8))
            if found:
                delivered += [one.measurement.measured_at_ms for one in found]
                ring.finish(found[-1].number, len(found))
        else:  # a crash: nothing is closed in good order
            os.close(ring._descriptor)
            ring._descriptor = -1
            ring = Ring(path, 20)
    rest = times(ring)
    assert delivered + rest == sorted(set(delivered + rest))
    assert len(delivered) + len(rest) + ring.dropped == len(appended)
    assert set(delivered + rest) <= set(appended)


def test_a_clock_set_back_gives_no_time_twice(tmp_path):
    depot = Depot(tmp_path / "r", 64)
    depot.add([sample(1000), sample(1000, "other")])
    depot.add([sample(2000)])
    depot.add([sample(1000)])
    depot.add([sample(1000)])
    depot.close()
    again = Depot(tmp_path / "r", 64)
    again.add([sample(2000)])
    mine = [w.measurement.measured_at_ms for w in again.oldest(99) if w.measurement.link_id == "fra-ams"]
    assert mine == [1000, 2000, 1001, 1002, 2001]


class FullDisk:
    """Makes a folder unusable and usable again, as root and as anybody."""

    def __init__(self, folder):
        self.folder = folder
        folder.write_text("a file where a folder is wanted")

    def mend(self):
        self.folder.unlink()


def test_without_a_disk_samples_wait_in_memory_bounded_and_counted(tmp_path):
    disk = FullDisk(tmp_path / "state")
    depot = Depot(tmp_path / "state" / "r", 64, most_in_memory=5)
    for at in range(1, 9):
        depot.add([sample(at)])
    assert (depot.in_memory, depot.dropped, depot.waiting) == (5, 3, 5)
    assert depot.disk_failures > 0
    first = depot.oldest(2)
    assert [one.measurement.measured_at_ms for one in first] == [4, 5]
    depot.finish(first, 0)
    disk.mend()
    depot.add([sample(9)])
    assert depot.in_memory == 0
    assert [one.measurement.measured_at_ms for one in depot.oldest(9)] == [6, 7, 8, 9]


def test_a_clock_set_back_does_not_hold_up_measuring(tmp_path):
    names = [f"link-{i}" for i in range(30)]
    depot = Depot(tmp_path / "r", 65_536)
    for minute in range(100):
        depot.add([sample(1_000_000 + 60_000 * minute, name) for name in names])
    begin_s = time.process_time()
    for minute in range(10):
        depot.add([sample(1_000_000 + 60_000 * minute, name) for name in names])
    assert time.process_time() - begin_s < 5
    assert len({(one.measurement.link_id, one.measurement.measured_at_ms) for one in depot.oldest(9999)}) == 110 * 30
    depot.close()


def test_samples_of_a_clock_that_was_set_and_set_back_wait_and_are_saved_once_each(tmp_path):
    disk, wall_s = FullDisk(tmp_path / "state"), [1000.0]
    clock = Clock(wall=lambda: wall_s[0], monotonic=lambda: 5.0, since_boot=lambda: 50.0)
    depot = Depot(tmp_path / "state" / "r", 64, clock)
    for at, now_s in enumerate((1000.0, 1001.0, 1000.0), start=1):  # so the first and the last have the same moment
        wall_s[0] = now_s
        depot.add([sample(at)])
    assert depot.in_memory == 3
    disk.mend()
    depot.add([])
    assert (depot.in_memory, depot.dropped) == (0, 0)
    assert [one.measurement.measured_at_ms for one in depot.oldest(9)] == [1, 2, 3]


def test_its_place_is_taken_at_the_start_so_that_a_disk_that_fills_up_does_not_stop_it(tmp_path):
    ring = Ring(tmp_path / "r", 16)
    taken = (tmp_path / "r").stat().st_blocks * 512
    assert taken >= 4096 + 16 * RECORD_BYTES
    for at in range(1, 100):
        ring.append([sample(at)], HERE)
    assert (tmp_path / "r").stat().st_blocks * 512 == taken


def test_a_moment_tells_a_clock_that_was_set():
    wall = [1000.0]
    clock = Clock(wall=lambda: wall[0], monotonic=lambda: 5.0, since_boot=lambda: 50.0)
    before = clock.moment()
    wall[0] += 3600
    assert clock.moment().offset_ms - before.offset_ms == 3_600_000
    assert clock.moment().boot == before.boot


def test_errors_are_those_of_the_system(tmp_path):
    with pytest.raises(OSError) as caught:
        Ring(tmp_path, 16)
    assert caught.value.errno == errno.EISDIR
