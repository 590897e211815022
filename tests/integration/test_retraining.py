"""A retraining with a real Redis and a trainer of the test: what it reads and gives, and every way in which it ends."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import numpy as np
import pytest

from pba_service.domain.errors import ModelConflictError
from pba_service.domain.retraining import LeaseLostError, Outcome, Trigger
from pba_service.domain.samples import LinkInfo, one_link_batch
from pba_service.engine.retraining_record import Lease, RetrainingRecords
from pba_service.retrain_run import LEAST_LINK_SAMPLES, Retrainer, TooLittleDataError
from pba_service.retrain_scratch import FOLDER, scratch, sweep
from pba_service.settings import Settings
from pba_service.storage.connect import open_server
from pba_service.storage.documents import RedisDocuments
from pba_service.storage.redis_store import RedisStore
from pba_service.storage.registry import RedisRegistry
from pba_service.surroundings import now_ms
from tests.process import ROOT
from tests.servers import standalone
from tests.unit.runtime import model_files

MINUTE_MS, DAY_MS = 60_000, 86_400_000


class Place:
    """A store with some links, and a run on it."""

    def __init__(self, redis, folder):
        self.redis, self.data_dir = redis, folder / "data"
        environment = {
            "PBA_REDIS_URL": redis.url,
            "PBA_DATA_DIR": str(self.data_dir),
            "PBA_MODEL_PATH": str(folder),
            "PBA_STORE_TIMEOUT": "500ms",
        }
        self.settings = Settings.from_env(environment)
        self.server = open_server(redis.url, 0.5)
        self.store = RedisStore(self.server, max_samples=10_000, retention_ms=30 * DAY_MS, clock=now_ms)
        self.records = RetrainingRecords(RedisDocuments(self.server), now_ms)
        self.shared = RedisRegistry(self.server)

    async def fill(self, link_id, samples):
        times = [now_ms() - (samples - i) * MINUTE_MS for i in range(samples)]
        values = np.full((samples, 4), 20.0, np.float32)
        values[:, 2] = 0.1
        await self.store.put(one_link_batch(LinkInfo(link_id), times, values))

    async def run(self, train, **begin):
        lease = await Lease.begin(self.records, "test", Trigger.HAND, now_ms, **{"from_scratch": False} | begin)
        return await Retrainer(self.settings, self.store, lease, shared=self.shared, train=train).run(None)

    def left(self):
        return sorted(path.name for path in (self.data_dir / FOLDER).glob("run-*"))


@asynccontextmanager
async def opened(folder):
    with standalone() as redis:
        place = Place(redis, folder)
        try:
            yield place
        finally:
            await place.store.close()


@pytest.fixture
async def place(tmp_path):
    async with opened(tmp_path) as one:
        yield one


def give(job, parent=""):
    """A trainer that knows its model already."""
    model_files.write(job.output, model_files.graph(), version="retrained", parent=parent)
    job.on_epoch(1, 2)


async def test_the_history_becomes_a_published_model_that_nobody_serves_yet(place):
    await place.fill("long", LEAST_LINK_SAMPLES)
    await place.fill("short", LEAST_LINK_SAMPLES - 1)
    jobs = []
    assert await place.run(lambda job: (jobs.append(job), give(job))) == (Outcome.TRAINED, "retrained")
    [job] = jobs
    [(link_id, series)] = job.history
    assert (link_id, len(series), job.parent) == ("long", LEAST_LINK_SAMPLES, None)
    run = (await place.records.read()).run
    assert (run.version, run.links, run.samples) == ("retrained", 1, LEAST_LINK_SAMPLES)
    assert [info.version for info in await place.shared.catalogue()] == ["retrained"]
    assert "retrained" not in (await place.shared.desired()).versions
    assert place.left() == []


def refuse(error):
    def train(job):
        job.output.mkdir(parents=True)
        (job.output / "half").write_bytes(b"half a model")
        raise error

    return train


@pytest.mark.parametrize(
    ("train", "outcome", "reason"),
    [
        (refuse(TooLittleDataError("no target")), Outcome.TOO_LITTLE_DATA, "no target"),
        (refuse(OSError(errno.ENOSPC, "No space left on device", "model.onnx")), Outcome.FAILED, "No space left"),
        (refuse(ValueError("a fault")), Outcome.FAILED, "ValueError: a fault"),
        (lambda _: None, Outcome.FAILED, "model"),
    ],
)
async def test_a_run_that_gives_nothing_says_why_and_leaves_nothing(place, train, outcome, reason):
    await place.fill("a", LEAST_LINK_SAMPLES)
    found, why = await place.run(train)
    run = (await place.records.read()).run
    assert (found, run.outcome, run.reason) == (outcome, outcome, why)
    assert reason in why
    assert await place.shared.catalogue() == []
    assert place.left() == []


async def test_links_with_little_history_are_no_failure(place):
    await place.fill("a", LEAST_LINK_SAMPLES - 1)
    outcome, why = await place.run(give)
    assert outcome is Outcome.TOO_LITTLE_DATA
    assert str(LEAST_LINK_SAMPLES) in why


async def test_a_run_that_lost_its_lease_while_it_trained_registers_nothing(place):
    await place.fill("a", LEAST_LINK_SAMPLES)

    def train(job):
        job.on_epoch(1, 2)
        # what another replica does that takes it for dead
        record = asyncio.run_coroutine_threadsafe(_taken(place), loop).result(30)
        assert record.run.holder == "another"
        give(job)

    loop = asyncio.get_running_loop()
    with pytest.raises(LeaseLostError):
        await place.run(train)
    assert await place.shared.catalogue() == []
    assert (await place.records.read()).run.holder == "another"
    assert place.left() == []


async def _taken(place):
    late_ms = now_ms() + 10 * MINUTE_MS
    return await place.records.change(lambda record: record.begun("another", Trigger.HAND, late_ms, from_scratch=False))


async def test_a_run_that_is_told_to_stop_says_so_and_another_may_begin(place):
    await place.fill("a", LEAST_LINK_SAMPLES)
    training = asyncio.Event()
    loop = asyncio.get_running_loop()

    def train(job):
        loop.call_soon_threadsafe(training.set)
        while True:
            job.on_epoch(0, 1)  # raises once nobody waits any more

    task = asyncio.ensure_future(place.run(train))
    await training.wait()
    with pytest.raises(ModelConflictError):
        await place.run(give)
    task.cancel()
    assert (await task)[0] is Outcome.STOPPED
    assert place.left() == []
    assert (await place.run(give))[0] is Outcome.TRAINED


async def test_redis_that_is_gone_ends_the_run(place):
    await place.fill("a", LEAST_LINK_SAMPLES)

    def train(job):
        place.redis.kill()
        give(job)

    with pytest.raises(Exception, match=r"store|Redis"):
        await place.run(train)
    assert place.left() == []


def test_what_a_killed_run_left_behind_goes_and_what_a_living_one_has_stays(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom pba_service.retrain_scratch import scratch\n"
        "with scratch(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('x')\n    print(folder, flush=True)\n    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "protos")])}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        folder = process.stdout.readline().strip()
        assert sweep(tmp_path) == 0
        with scratch(tmp_path) as own:
            assert sweep(tmp_path) == 0
            assert own.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert os.path.isdir(folder)  # noqa: PTH112 - a path as the other process printed it
    assert sweep(tmp_path) == 1
    assert list((tmp_path / FOLDER).glob("run-*")) == []


async def test_it_goes_on_from_the_serving_model(place, tmp_path):
    await place.fill("a", LEAST_LINK_SAMPLES)
    model_files.write(tmp_path / "pba_lstm", version="served")
    desired = (await place.shared.desired()).activated("served")
    assert await place.shared.propose(desired, read_revision=0)
    seen = []

    def train(job):
        seen.append(json.loads((job.parent / "manifest.json").read_text())["version"])
        give(job, parent="served")

    await place.run(train)
    assert seen == ["served"]
    assert (await place.records.read()).run.parent == "served"
    await place.run(give)
    assert (await place.records.read()).run.parent == "", "it could not be gone on from"
    await place.run(lambda job: (seen.append(job.parent), give(job)), from_scratch=True)
    assert seen[1:] == [None]
