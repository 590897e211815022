"""A real link's measurements through the running service, checked against the file they came from."""

import os
import queue
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pba_client import Client, Sample
from tests.process import ServiceProcess

TRACE = "jb_speedtestwg", "wg-wifi/down"
ROWS = 240
LARGEST_GAP_S = 180
FIRST_PREDICTION_AFTER_S = 510  # ten slots of a minute are known, the oldest of them to within half a slot
METRICS = ("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms")


@pytest.fixture(scope="module")
def trace():
    """(times_s int64[n], values float32[n, 4]), moved in time so that it ends now."""
    folder = os.environ.get("TRACES_DIR")
    if not folder or not (Path(folder) / "dev.parquet").is_file():
        pytest.skip("TRACES_DIR names no folder with dev.parquet, the traces that this test replays")
    dataset, link = TRACE
    table = pq.read_table(
        Path(folder) / "dev.parquet", filters=(pc.field("dataset") == dataset) & (pc.field("link_id") == link)
    )
    table = table.sort_by("timestamp").slice(0, ROWS)
    assert np.diff(table["timestamp"].to_numpy()).max() <= LARGEST_GAP_S
    times = table["timestamp"].to_numpy().astype(np.int64)
    columns = ("bandwidth_mbps", "latency_ms", "packet_loss", "jitter_ms")
    values = np.stack([table[name].to_numpy(zero_copy_only=False) for name in columns], axis=1).astype(np.float32)
    now_s = int(datetime.now(UTC).timestamp())
    return times + (now_s - times[-1]), values


def sample(time_s, row, link_id="trace"):
    present = {name: float(value) for name, value in zip(METRICS, row, strict=True) if np.isfinite(value)}
    return Sample(link_id, measured_at=datetime.fromtimestamp(int(time_s), UTC), **present)


class Follower(threading.Thread):
    """Collects the predictions of a link as they are streamed."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.made = queue.Queue()
        self._client = Client(target)
        self._watch = self._client.watch("trace")
        self.start()

    def run(self):
        for update in self._watch:
            for prediction in update.predictions:
                self.made.put(prediction)

    def prediction_of(self, time_s):
        """The prediction made from the sample of a time. A sweep may have a link predicted twice from one sample."""
        while True:
            prediction = self.made.get(timeout=10)
            if prediction.made_at.timestamp() == time_s:
                return prediction
            assert prediction.made_at.timestamp() < time_s

    def stop(self):
        self._watch.close()
        self._client.close()
        self.join(10)


@pytest.fixture(scope="module")
def replayed(trace, tmp_path_factory):
    """The trace, pushed sample by sample, with what was streamed meanwhile and what the service then answers."""
    from tests import servers  # noqa: PLC0415 - only where the trace is there

    times, values = trace
    with (
        servers.standalone() as redis,
        ServiceProcess(tmp_path_factory.mktemp("service"), redis_url=redis.url) as service,
        service.client() as client,
    ):
        follower = Follower(service.target)
        streamed = {}
        for time_s, row in zip(times, values, strict=True):
            assert client.push(sample(time_s, row)).stored == 1
            if time_s - times[0] >= FIRST_PREDICTION_AFTER_S:
                streamed[float(time_s)] = follower.prediction_of(time_s)
        follower.stop()
        yield {
            "streamed": streamed,
            "history": list(client.history("trace")),
            "ledger": list(client.ledger("trace")),
            "prediction": client.predict("trace"),
            "parameters": client.parameters("trace"),
            "links": list(client.links()),
        }


def values_of(metrics):
    return np.array([np.nan if (v := getattr(metrics, name)) is None else v for name in METRICS], np.float32)


def test_the_history_is_the_file_row_for_row(trace, replayed):
    times, values = trace
    history = replayed["history"]
    assert [int(row.measured_at.timestamp()) for row in history] == times.tolist()
    np.testing.assert_array_equal(np.stack([values_of(row) for row in history]), values)
    assert replayed["links"][0].sample_count == len(times)


def test_each_sample_was_followed_by_its_prediction(trace, replayed):
    times, _ = trace
    assert sorted(replayed["streamed"]) == times[times - times[0] >= FIRST_PREDICTION_AFTER_S].tolist()
    for prediction in replayed["streamed"].values():
        assert prediction.horizon == timedelta(minutes=15)
        assert prediction.valid_until == prediction.made_at + prediction.horizon
        assert prediction.bandwidth_quantiles.p10 <= prediction.bandwidth_mbps <= prediction.bandwidth_quantiles.p90


def test_the_ledgers_errors_are_those_of_the_file(trace, replayed):
    """Each prediction is compared with the file's row nearest to its target minute, found here by other means."""
    times, values = trace
    expected = {}
    for made_at, prediction in replayed["streamed"].items():
        target = made_at + 15 * 60
        nearest = int(np.argmin(np.abs(times - target)))
        if target <= times[-1] and abs(times[nearest] - target) <= 30:
            expected[target] = made_at, nearest, np.abs(values_of(prediction) - values[nearest])
    entries = {entry.target.timestamp(): entry for entry in replayed["ledger"]}
    assert len(expected) > ROWS / 2
    assert sorted(entries) == sorted(expected)
    for target, (made_at, nearest, error) in expected.items():
        entry = entries[target]
        assert entry.made_at.timestamp() == made_at
        assert entry.measured_at.timestamp() == times[nearest]
        np.testing.assert_array_equal(values_of(entry.actual), values[nearest])
        np.testing.assert_array_equal(values_of(entry.predicted), values_of(replayed["streamed"][made_at]))
        np.testing.assert_array_equal(values_of(entry.absolute_error), error)


def test_confidence_comes_from_the_ledger(replayed):
    """A link of which little came true is not trusted as one of which everything did."""
    hits = [entry.hit for entry in replayed["ledger"]]
    late = [entry.confidence for entry in replayed["ledger"]][-50:]
    assert abs(np.mean(late) - np.mean(hits[-100:])) < 0.25


def test_parameters_follow_the_prediction_or_the_measurements(replayed):
    answer = replayed["parameters"]
    assert answer.prediction.made_at == replayed["prediction"].made_at
    assert 2 <= answer.streams <= 256
    assert 16_384 <= answer.buffer_bytes <= 1_048_576
    trusted = answer.prediction.confidence >= 0.6
    assert answer.source.name == ("PREDICTION" if trusted else "MEASUREMENT")
