"""Experiments in a real service: a better challenger serves, a damaged one does not, a mistake is taken back."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pba_client import ExperimentStatus, PbaClientError, Sample
from tests.process import ServiceProcess
from tests.servers import wait_until
from tests.unit.runtime import model_files

LINKS = 3
PATIENCE_S = 120.0
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)


@pytest.fixture
def service(tmp_path):
    """A service whose folder holds four models: what each says is the newest value times a factor, and 30."""
    folder = tmp_path / "models"
    for version, factor in (("poor", 0.7), ("good", 1.0), ("damaged", 0.3), ("paper", 0.8)):
        content = model_files.graph(factor)
        model_files.write(
            folder / ("pba_lstm" if version == "poor" else version), content,
            version=version, goldens=goldens(factor), name=version,
        )  # fmt: skip
    environment = {"PBA_MODEL_PATH": str(folder), "PBA_UPDATE_INTERVAL": "1s", "PBA_MODEL_RELOAD": "register"}
    with ServiceProcess(tmp_path / "service", environment=environment) as running:
        yield running


def goldens(factor):
    windows = [("steady", model_files.window()), ("low", model_files.window(5.0))]
    return [
        {
            "name": name,
            "window": model_files.nested(values),
            "step_s": 60.0,
            "forecast": model_files.nested(model_files.answer(values, 60.0, factor)),
        }
        for name, values in windows
    ]


class Hammer(threading.Thread):
    """Asks for predictions, parameters and links all the time; keeps what fails."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.errors, self.calls = [], 0
        self._service, self._done = service, threading.Event()
        self.start()

    def run(self):
        now = datetime.now(UTC)
        with self._service.client() as client:
            client.push([Sample("live", measured_at=now - timedelta(minutes=i), latency_ms=2000) for i in range(30)])
            while not self._done.is_set():
                try:
                    client.push(Sample("live", measured_at=datetime.now(UTC), latency_ms=2000))
                    client.predict("live")
                    client.parameters("link-0")
                    client.links()
                except PbaClientError as error:
                    self.errors.append(error)
                self.calls += 4
                self._done.wait(0.05)

    def stop(self):
        self._done.set()
        self.join(60)
        return self.errors


class Hours:
    """The past of some links, hour after hour."""

    def __init__(self, client):
        self._client, self._hour, self._random = client, 0, np.random.default_rng(1)

    def push(self):
        """One more hour, and waits until it was predicted."""
        times = [START + timedelta(hours=self._hour, minutes=minute) for minute in range(60)]
        values = 4000 * np.exp(0.1 * self._random.normal(size=(LINKS, 60)))
        self._client.push(
            [
                Sample(f"link-{link}", measured_at=time, bandwidth_mbps=values[link, i], latency_ms=values[link, i] / 2)
                for link in range(LINKS)
                for i, time in enumerate(times)
            ]
        )
        self._hour += 1
        wait_until(self._predicted, PATIENCE_S, "predictions of the hour")

    def _predicted(self):
        newest = START + timedelta(hours=self._hour) - timedelta(minutes=1)
        found = {one.link_id: one.newest_prediction for one in self._client.links()}
        return all((one := found.get(f"link-{i}")) and one.made_at == newest for i in range(LINKS))


def until(hours, condition, what, most=120):
    """Pushes hour after hour until a condition comes true."""
    for _ in range(most):
        hours.push()
        if answer := condition():
            return answer
    # the hours were quicker than counts come to rest
    return wait_until(condition, PATIENCE_S, what)


def test_experiments_decide_by_themselves_and_no_client_notices(service):
    hammer = Hammer(service)
    with service.client() as client:
        assert client.model_state().active_version == "poor"
        hours = Hours(client)
        better = client.start_experiment("good")
        until(hours, lambda: client.model_state().active_version == "good", "the promotion")
        ended = client.experiment(better.name)
        assert ended.status is ExperimentStatus.PROMOTED
        assert ended.evidence.promote_wealth >= ended.evidence.promote_at
        assert ended.evidence.advantage_low > 0

        damaged = client.start_experiment("damaged")
        until(hours, lambda: client.experiment(damaged.name).ended_at, "a verdict on the damaged model")
        assert client.experiment(damaged.name).status is ExperimentStatus.REJECTED
        assert client.model_state().active_version == "good"

        client.activate_model("paper")
        until(hours, lambda: client.model_state().active_version == "good", "the way back")
        assert "dwcp_pba_experiments_total" in service.metrics()

        hammer_errors = hammer.stop()
        before = {one.name: one.status for one in client.experiments()}
    assert hammer_errors == []
    assert hammer.calls > 20
    # nothing of this lives in the process
    service.kill()
    service.start()
    with service.client() as client:
        assert client.model_state().active_version == "good"
        assert {one.name: one.status for one in client.experiments()} == before
    assert "Traceback" not in service.log.read_text()
