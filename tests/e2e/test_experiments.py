"""Experiments in a real service: a better challenger serves, a damaged one does not, a mistake is taken back."""

import threading
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec

import numpy as np
import pytest

from pba_client import ExperimentStatus, LinkConditionKind, PbaClientError, RetrainingOutcome, RetrainingTrigger, Sample
from tests.accelerated import FileClock
from tests.process import ServiceProcess
from tests.servers import wait_until
from tests.unit.runtime import model_files

LINKS = 3
PATIENCE_S = 120.0
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=20)
HOUR = timedelta(hours=1)
BEFORE_MS, AFTER_MS = 30.0, 900.0
"""The links' usual latency in their first regime, for which the first model is just right, and in the second."""

TRAINS = find_spec("tensorflow") is not None


@pytest.fixture
def service(tmp_path):
    """A service in a time of its own, with three models: each says the newest value times a factor, and 30."""
    folder = tmp_path / "models"
    for version, factor in (("stale", 0.0), ("damaged", 0.3), ("paper", 0.8)):
        content = model_files.graph(factor)
        model_files.write(
            folder / ("pba_lstm" if version == "stale" else version), content,
            version=version, goldens=goldens(factor), name=version,
        )  # fmt: skip
    clock = FileClock.create(tmp_path / "clock", round(START.timestamp() * 1000))
    environment = {
        "PBA_MODEL_PATH": str(folder),
        "PBA_MODEL_RELOAD": "register",
        "PBA_UPDATE_INTERVAL": "1s",
        "PBA_RETRAIN_EFFORT": "0.03",
        "PBA_MAX_CLOCK_SKEW": "1h",
        "PBA_RETRAIN_INTERVAL": "0s",
        "PBA_RETRAIN_DRIFT": "1",
        "TEST_CLOCK": str(tmp_path / "clock"),
    }
    with ServiceProcess(
        tmp_path / "service", environment=environment, module="tests.accelerated", arguments=()
    ) as running:
        running.clock = clock
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

    def __init__(self, service, between):
        """Takes what is held while calls are under way."""
        super().__init__(daemon=True)
        self.errors, self.calls, self._between = [], 0, between
        self._service, self._done = service, threading.Event()
        self.start()

    def run(self):
        with self._service.client() as client:
            while not self._done.is_set():
                with self._between:
                    try:
                        client.predict("link-0")
                        client.parameters("link-1")
                        client.links()
                        client.retraining()
                    except PbaClientError as error:
                        self.errors.append(error)
                    self.calls += 4
                self._done.wait(0.05)

    def stop(self):
        self._done.set()
        self.join(60)
        return self.errors


class Hours:
    """What some links measure, hour after hour, in the service's own time."""

    def __init__(self, service, client):
        self._service, self._client, self._random = service, client, np.random.default_rng(1)
        self.between = threading.Lock()
        """Held while the clock leaps and while others' calls are under way: in no call does an hour go by."""
        self.hours, self.level_ms = 0, BEFORE_MS

    def push(self, count=1):
        """So many more hours, and waits until they were predicted."""
        times = [START + self.hours * HOUR + timedelta(minutes=minute) for minute in range(60 * count)]
        # the last hour's samples come before the clock goes on: at no time is a link's newest sample old
        self._service.clock.set(round((times[-1] - HOUR).timestamp() * 1000) + 1_000)
        values = self.level_ms * np.exp(0.1 * self._random.normal(size=(LINKS, len(times))))
        outcome = self._client.push(
            [
                Sample(f"link-{link}", measured_at=time, latency_ms=values[link, i])
                for link in range(LINKS)
                for i, time in enumerate(times)
            ]
        )
        assert not outcome.refusals
        with self.between:
            self._service.clock.set(round(times[-1].timestamp() * 1000) + 1_000)
        self.hours += count
        wait_until(lambda: self._predicted(times[-1]), PATIENCE_S, "predictions of the hour")

    def _predicted(self, newest):
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


def shifted(client):
    """Links whose predictions say that their level has shifted."""
    conditions = [one.newest_prediction.condition for one in client.links()]
    return sum(one is not None and one.kind is LinkConditionKind.LEVEL_SHIFT for one in conditions)


@pytest.mark.skipif(not TRAINS, reason="retraining needs the extra named train")
def test_models_are_retrained_tried_promoted_and_taken_back_and_no_client_notices(service):
    with service.client() as client:
        hours = Hours(service, client)
        hours.push(26)
        hammer = Hammer(service, hours.between)
        assert client.model_state().active_version == "stale"
        assert (shifted(client), client.retraining().run) == (0, None)

        hours.level_ms = AFTER_MS
        until(hours, lambda: shifted(client) == LINKS, "the shift")
        run = wait_until(
            lambda: (run := client.retraining().run) and run.ended_at and run.experiment and run,
            PATIENCE_S, "the retrained model on trial",
        )  # fmt: skip
        assert (run.trigger, run.outcome) == (RetrainingTrigger.DRIFT, RetrainingOutcome.TRAINED)
        assert (run.from_scratch, run.links) == (True, LINKS)
        assert client.model_state().active_version == "stale"  # never straight to serving
        assert 'dwcp_pba_links_condition{kind="level_shift"} 3.0' in service.metrics()
        assert "dwcp_pba_retrain_total 1.0" in service.metrics()

        retrained = run.version
        until(hours, lambda: client.model_state().active_version == retrained, "the promotion")
        ended = client.experiment(run.experiment)
        assert ended.status is ExperimentStatus.PROMOTED
        assert ended.share == 0
        assert ended.evidence.promote_wealth >= ended.evidence.promote_at
        assert ended.evidence.advantage_low > 0

        damaged = client.start_experiment("damaged")
        until(hours, lambda: client.experiment(damaged.name).ended_at, "a verdict on the damaged model")
        assert client.experiment(damaged.name).status is ExperimentStatus.REJECTED
        assert client.model_state().active_version == retrained

        client.activate_model("paper")
        until(hours, lambda: client.model_state().active_version == retrained, "the way back")
        assert "dwcp_pba_experiments_total" in service.metrics()

        hammer_errors = hammer.stop()
        before = {one.name: one.status for one in client.experiments()}
    assert hammer_errors == []
    assert hammer.calls > 20
    # nothing of this lives in the process
    service.kill()
    service.start()
    with service.client() as client:
        assert client.model_state().active_version == retrained
        assert client.retraining().run.version == retrained
        assert {one.name: one.status for one in client.experiments()} == before
    assert "Traceback" not in service.log.read_text()
