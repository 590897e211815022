"""The life of models, with real replicas that share nothing but Redis: what changes on one, changes on all."""

import json
import random
import shutil
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pytest

from pba_client import ExperimentStatus, PbaClientError, PinScope, RetrainingOutcome, Sample
from tests.process import ROOT, ServiceProcess
from tests.servers import wait_until

SHIPPED = ROOT / "models"
CONVERGED_S = 90.0


@pytest.fixture
def replicas(tmp_path, redis_server):
    """Two running replicas, each with a model folder of its own."""
    with ExitStack() as stack:
        made = []
        for i in range(2):
            folder = tmp_path / f"models{i}"
            shutil.copytree(SHIPPED / "pba_lstm", folder / "pba_lstm")
            environment = {"PBA_MODEL_PATH": str(folder), "PBA_UPDATE_INTERVAL": "1s", "PBA_STORE_TIMEOUT": "10s"}
            environment |= {"PBA_DATA_DIR": str(tmp_path / f"data{i}"), "PBA_RETRAIN_EFFORT": "0.1"}
            one = ServiceProcess(tmp_path / f"r{i}", redis_url=redis_server.url, environment=environment)
            one.models, one.data_dir = folder, tmp_path / f"data{i}"
            made.append(stack.enter_context(one))
        yield made


class Hammer(threading.Thread):
    """Pushes a sample and asks for the prediction, again and again; remembers errors and who predicted."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.errors, self.versions, self.calls = [], [], 0
        self._service, self._done = service, threading.Event()
        self.start()

    def run(self):
        link = f"link-{self._service.grpc_port}"
        with self._service.client() as client:
            now = datetime.now(UTC)
            client.push([Sample(link, measured_at=now - timedelta(minutes=i), latency_ms=20) for i in range(110)])
            while not self._done.is_set():
                try:
                    client.push(Sample(link, measured_at=datetime.now(UTC), latency_ms=20))
                    version = client.predict(link).model_version
                    client.parameters(link)
                except PbaClientError as error:
                    self.errors.append(error)
                    return
                self.calls += 3
                self.versions = [*self.versions[-200:], version]

    def stop(self):
        self._done.set()
        self.join(60)
        assert not self.is_alive()
        return self.errors


def serving(service):
    """What a replica says that it serves."""
    with service.client() as client:
        return next(one.serving_version for one in client.replicas() if one.answering)


def converged(replicas, version):
    wait_until(
        lambda: all(serving(one) == version for one in replicas), CONVERGED_S, f"{version} on {len(replicas)} replicas"
    )


def copy_slowly(source, target, parts=8, pause_s=0.1):
    """As a slow network does, and in place."""
    content = Path(source).read_bytes()
    size = -(-len(content) // parts)
    with Path(target).open("wb") as file:
        for start in range(0, len(content), size):
            file.write(content[start : start + size])
            file.flush()
            time.sleep(pause_s)


def test_a_model_that_is_copied_in_serves_everywhere_and_no_call_fails(replicas):
    first, second = replicas
    shipped = serving(first)
    assert serving(second) == shipped
    hammers = [Hammer(one) for one in replicas]
    wait_until(lambda: all(hammer.calls > 5 or hammer.errors for hammer in hammers), CONVERGED_S, "calls")
    assert [hammer.errors for hammer in hammers] == [[], []]

    copy_slowly(SHIPPED / "bandwidth_lstm" / "model.onnx", first.models / "bandwidth_lstm_v2.onnx")
    wait_until(lambda: serving(first) != shipped, CONVERGED_S, "the copied model")
    copied = serving(first)
    assert copied.startswith("bandwidth_lstm_v2-")
    converged(replicas, copied)
    for hammer in hammers:
        wait_until(lambda hammer=hammer: hammer.versions[-1] == copied, CONVERGED_S, "predictions of it")

    (second.models / "broken.onnx").write_bytes((SHIPPED / "pba_lstm" / "model.onnx").read_bytes()[:50_000])
    with second.client() as client:
        client.rollback_model(copied)
    converged(replicas, shipped)
    wait_until(lambda: "broken.onnx" in second.log.read_text(), CONVERGED_S, "the refusal")
    assert serving(second) == shipped

    assert [hammer.stop() for hammer in hammers] == [[], []]
    assert "Traceback" not in first.log.read_text() + second.log.read_text()


def test_a_model_that_is_copied_in_serves_within_one_update_interval(tmp_path):
    update_interval_s = 60  # the default
    models = tmp_path / "models"
    shutil.copytree(SHIPPED / "pba_lstm", models / "pba_lstm")
    with ServiceProcess(tmp_path / "service", environment={"PBA_MODEL_PATH": str(models)}) as service:
        shipped = serving(service)
        copy_slowly(SHIPPED / "bandwidth_lstm" / "model.onnx", models / "bandwidth_lstm_v2.onnx")
        wait_until(lambda: serving(service) != shipped, update_interval_s, "the copied model")


def test_regions_are_served_by_models_of_their_own(replicas):
    first, second = replicas
    shutil.copytree(SHIPPED / "bandwidth_lstm", first.models / "regional")
    regional = json.loads((SHIPPED / "bandwidth_lstm" / "manifest.json").read_text())["version"]
    with first.client() as client, second.client() as other:
        converged(replicas, regional)  # both: who has not heard of it says what it says after the rollback
        state = client.rollback_model(regional)
        client.pin_model(regional, scope=PinScope.REGION, value="eu")
        # until it has heard of the rollback, a replica answers with the model it serves
        converged(replicas, state.active_version)
        now = datetime.now(UTC)
        for link, region in (("a", "eu"), ("b", "us")):
            times = [now - timedelta(minutes=i) for i in range(60)]
            other.push([Sample(link, measured_at=time, latency_ms=20, region=region) for time in times])
        for caller in (client, other):
            wait_until(lambda caller=caller: caller.predict("a").model_version == regional, CONVERGED_S, "the region's")
            assert caller.predict("b").model_version == state.active_version


def test_replicas_that_are_killed_while_models_change_agree_again(replicas):
    """Killed with a model half written, and at some moment of an activation: afterwards all serve what is desired."""
    chance = random.Random(6)  # noqa: S311 - the same moments each time
    first, second = replicas
    shipped = serving(first)
    content = (SHIPPED / "bandwidth_lstm" / "model.onnx").read_bytes()
    half = first.models / "bandwidth_lstm_v2.onnx"
    half.write_bytes(content[: len(content) // 2])
    first.kill()
    assert serving(second) == shipped
    first.start()
    assert serving(first) == shipped
    half.write_bytes(content)

    wait_until(lambda: serving(first) != shipped, CONVERGED_S, "the whole file")
    copied = serving(first)
    converged(replicas, copied)

    for target in (shipped, copied):
        victim, witness = chance.sample(replicas, 2)
        activating = threading.Thread(target=_activate, args=(victim, target), daemon=True)
        activating.start()
        time.sleep(chance.uniform(0, 0.15))
        victim.kill()
        activating.join(60)
        victim.start()
        with witness.client() as client:
            desired = client.model_state()
        assert desired.active_version in {shipped, copied}
        converged(replicas, desired.active_version)
        # the watch over a version that came newly is noted meanwhile: one and the same state in the end
        with victim.client() as client, witness.client() as other:
            wait_until(lambda: client.model_state() == other.model_state(), CONVERGED_S, "one state")
            assert client.model_state().active_version == desired.active_version


def _activate(service, version):
    with service.client() as client:
        try:
            client.activate_model(version)
        except PbaClientError:
            return  # it was killed meanwhile: whether the change was made is what the test is about


def test_replicas_that_are_killed_while_a_trial_promotes_agree_again(replicas, redis_server):
    """Killed when the verdict is written, and while it is acted on: what was decided is done by whoever lives."""
    chance = random.Random(7)  # noqa: S311 - the same moments each time
    shipped = serving(replicas[0])
    shutil.copytree(SHIPPED / "bandwidth_lstm", replicas[0].models / "bandwidth_lstm")
    wait_until(lambda: serving(replicas[0]) != shipped, CONVERGED_S, "the new folder")
    challenger, champion = shipped, serving(replicas[0])
    converged(replicas, champion)
    for later_s in (0.0, chance.uniform(0, 0.01)):
        victim, witness = chance.sample(replicas, 2)
        with witness.client() as client:
            # the version that came last is watched, beside the same one
            watch = wait_until(lambda client=client: _running(client), CONVERGED_S, "the watch")
            client.stop_experiment(watch)
            name = client.start_experiment(challenger).name
            promoting = threading.Thread(target=_promote, args=(victim, name), daemon=True)
            promoting.start()
            wait_until(lambda name=name: _status(redis_server.client, name) == "promoted", CONVERGED_S, "the verdict")
            time.sleep(later_s)
            victim.kill()
            promoting.join(60)
            converged([witness], challenger)
            assert client.experiment(name).status is ExperimentStatus.PROMOTED
        victim.start()
        converged(replicas, challenger)
        with victim.client() as client, witness.client() as other:
            wait_until(lambda: client.model_state() == other.model_state(), CONVERGED_S, "one state")
            assert client.model_state().active_version == challenger
        challenger, champion = champion, challenger


def _running(client):
    return next((one.name for one in client.experiments() if not one.ended_at), "")


def _promote(service, name):
    with service.client() as client:
        try:
            client.stop_experiment(name, promote=True)
        except PbaClientError:
            return  # it was killed meanwhile


def _status(redis, name):
    content = redis.hget(f"pba:{{doc:experiment:{name}}}:d", "c")
    return json.loads(content)["status"] if content else None


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="retraining needs the extra named train")
def test_a_replica_that_is_killed_while_it_retrains_leaves_nothing_and_changes_nothing(replicas):
    first, second = replicas
    shipped = serving(first)
    with second.client() as client:
        now = datetime.now(UTC)
        client.push([Sample("a", measured_at=now - timedelta(minutes=i), latency_ms=20 + i % 7) for i in range(900)])
        client.start_retraining()
        run = wait_until(lambda: client.retraining().run, CONVERGED_S, "a retraining")
        runner, witness = (first, second) if run.holder == _name(first) else (second, first)
        wait_until(lambda: list(_scratch(runner)), CONVERGED_S, "its scratch folder")
    runner.kill()
    with witness.client() as client:
        # the process that trained died with its service: its lease ends, and with it the run
        ended = wait_until(lambda: (run := client.retraining().run).ended_at and run, CONVERGED_S, "the run's end")
        assert (ended.outcome, ended.version) == (RetrainingOutcome.FAILED, "")
    runner.start()
    converged(replicas, shipped)
    wait_until(lambda: not list(_scratch(runner)), CONVERGED_S, "an empty scratch folder")
    with runner.client() as client:
        assert [one.version for one in client.models() if one.published] == [shipped]
        assert client.experiments() == []


def _name(service):
    with service.client() as client:
        return next(one.name for one in client.replicas() if one.answering)


def _scratch(service):
    return service.data_dir.glob("retrain/run-*")
