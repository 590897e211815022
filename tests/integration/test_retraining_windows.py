"""What a retraining learns from is what the service reads."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pba_service.domain.samples import LinkInfo, Series, one_link_batch
from pba_service.domain.window import windows_at
from pba_service.retrain_run import LEAST_LINK_SAMPLES, Job
from pba_service.surroundings import now_ms
from tests.integration.test_retraining import give, opened

INTERVAL_MS = 10_000


async def test_its_windows_are_those_of_the_services_collection_interval(tmp_path):
    dataset = pytest.importorskip("pba_service.training.trainer").dataset
    steps = []

    def train(job):
        [(link_id, series)] = job.history
        made = dataset.examples_of(
            [dataset.Trace("history", link_id, series)],
            slots=100,
            horizons_s=(900,),
            split=(0.9, 0.95),
            base_ms=job.base_ms,
        )
        built = windows_at(series, np.arange(len(series)), 100, INTERVAL_MS)
        steps.append((set(1000 * made.step_s), set(built.step_ms[built.usable])))
        give(job)

    async with opened(tmp_path) as place:
        place.settings = replace(place.settings, collect_interval_ms=INTERVAL_MS)
        times = [now_ms() - (LEAST_LINK_SAMPLES - i) * INTERVAL_MS for i in range(LEAST_LINK_SAMPLES)]
        values = np.tile(np.float32([100, 20, 0.001, 1]), (LEAST_LINK_SAMPLES, 1))
        await place.store.put(one_link_batch(LinkInfo("a"), times, values))
        await place.run(train)
    [(trained, served)] = steps
    assert trained == served


def test_the_command_hands_the_interval_on(tmp_path):
    pytest.importorskip("keras")
    from pba_service.cli.retrain import trainer  # noqa: PLC0415 - loads what training needs

    random = np.random.default_rng(1)
    values = (np.float32([100, 20, 0.001, 1]) * random.uniform(0.9, 1.1, (LEAST_LINK_SAMPLES, 4))).astype(np.float32)
    series = Series(1_800_000_000_000 + np.arange(LEAST_LINK_SAMPLES, dtype=np.int64) * INTERVAL_MS, values)
    job = Job(tmp_path / "model", None, [("a", series)], None, lambda _done, _of: None, INTERVAL_MS)
    trainer(0.001, lambda _: None)(job)
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["training"]["options"]["base_ms"] == 10_000
