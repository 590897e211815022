"""A real grpc.aio server over a hand-written fake of the service, and a client's view of it."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status
from pba.v1 import model_service_pb2_grpc, prediction_service_pb2_grpc
from pba.v1 import types_pb2 as types
from prometheus_client import CollectorRegistry

from pba_service.domain.amst.optimizer import defaults
from pba_service.domain.errors import LinkUnknownError, ModelConflictError, ModelUnknownError
from pba_service.domain.experiments import Kind, Record, Rule, Status
from pba_service.domain.explain import Explanation, Player
from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.lifecycle import Desired, Pin, Scope
from pba_service.domain.online import EXPERTS, LinkRecord
from pba_service.domain.parameters import ParametersSource, TransportBounds, answer
from pba_service.domain.retraining import Outcome, Trigger
from pba_service.domain.retraining import Record as Retrainings
from pba_service.domain.samples import METRICS, Limits, LinkInfo, Series, validate
from pba_service.engine.api import PushOutcome
from pba_service.engine.insight import PathPoint, PredictionExplained
from pba_service.engine.model_ports import ReplicaReport
from pba_service.engine.ports import LinkSummary, ModelInfo, TrainingData
from pba_service.engine.stock import Known
from pba_service.engine.subscriptions import Subscriptions
from pba_service.engine.transfers import Learned, TransferAnswer
from pba_service.serving.health import MonitorOptions
from pba_service.serving.options import ServerOptions
from pba_service.serving.server import Server

NOW_MS = 1_800_000_000_000
LIMITS = Limits(max_ahead_ms=120_000, max_age_ms=30 * 86_400_000)


def prediction(link_id="a", made_at_ms=NOW_MS, bandwidth=100.0):
    values = np.array([bandwidth, 20.0, np.nan, 1.5], np.float32)
    quantiles = np.ones((4, 5), np.float32)
    quantiles[1] = np.nan
    quantiles[0] = bandwidth * np.array([0.5, 0.6, 1.0, 1.4, 1.5])
    return Prediction(link_id, made_at_ms, 60_000, made_at_ms + 900_000, values, quantiles, 0.75, "v1", Source.COMBINED)


def row(seconds=NOW_MS // 1000, link_id="a", **fields):
    """A sample on the wire; of bandwidth when nothing else is said."""
    if not set(METRICS) & fields.keys():
        fields["bandwidth_mbps"] = 5
    return types.Sample(link_id=link_id, measured_at=Timestamp(seconds=seconds), **fields)


MODEL = ModelInfo(
    name="pba_lstm",
    version="v1",
    checksum_sha256="ab" * 32,
    created_at_ms=NOW_MS,
    features=("bandwidth_mbps", "latency_ms"),
    window_slots=60,
    horizons_ms=(900_000,),
    quantile_levels=(0.05, 0.5, 0.95),
    parameter_count=120_804,
    scores=(("bandwidth_mbps", "last_value", 1.0),),
)


class FakeService:
    """Keeps samples in a dict; `failure` makes every call fail, `gate` holds pushes up."""

    def __init__(self):
        self.failure = None
        self.fail_after_chunks = None
        self.gate = None
        self.now_ms = NOW_MS
        self.pushes = []
        self.pushed = asyncio.Event()
        self.asks = []
        self.windows = []
        self.predictions = {}
        self.infos = {}
        self.histories = {}
        self.ledgers = {}
        self.loaded = [MODEL]
        self.subscriptions = Subscriptions(self, max_subscribers=3)
        self.insight = self
        self.transfers = self

    def _fail(self):
        if self.failure is not None:
            raise self.failure

    async def push(self, batch):
        self.pushes.append(batch)
        self.pushed.set()
        failure = self.failure
        if self.gate is not None:
            await self.gate(batch)
        if failure is not None:
            raise failure
        good, refusals = validate(batch, self.now_ms, LIMITS)
        return PushOutcome(int(good.sum()), 0, 0, refusals)

    def outcomes_heard(self, link_id):
        return 0

    def current(self, link_id):
        return None

    async def predict(self, link_id):
        self._fail()
        if link_id not in self.predictions:
            raise LinkUnknownError(link_id)
        return self.predictions[link_id]

    async def predict_window(self, link_id, series):
        self._fail()
        self.windows.append(series)
        return replace(prediction(link_id), source=Source.CALLER_WINDOW)

    async def batch_predict(self, link_ids):
        self._fail()
        return [self.predictions.get(link_id) or LinkUnknownError(link_id) for link_id in link_ids]

    async def parameters(self, ask):
        self._fail()
        self.asks.append(ask)
        bounds = TransportBounds()
        return answer(
            defaults(ask, bounds),
            (),
            source=ParametersSource.DEFAULTS,
            should_adjust=True,
            apply_at_ms=NOW_MS,
            valid_until_ms=NOW_MS,
            prediction=self.predictions.get(ask.link_id),
        )

    async def estimate(self, ask):
        self._fail()
        return TransferAnswer([], [(link_id, LinkUnknownError(link_id)) for link_id in ask.link_ids], None)

    async def report(self, outcome):
        self._fail()
        return Learned(outcome.effectiveness, 1.0)

    async def outcomes(self, link_id):
        self._fail()
        return []

    async def newest(self, link_ids):
        self._fail()
        return [self.predictions.get(link_id) for link_id in link_ids]

    async def link_infos(self, link_ids):
        self._fail()
        return [self.infos.get(link_id) for link_id in link_ids]

    async def links(self, *, prefix, region, after, limit):
        self._fail()
        chosen = [
            LinkSummary(info, 1, Series.empty(), self.predictions.get(link_id))
            for link_id, info in sorted(self.infos.items())
            if link_id > after and link_id.startswith(prefix) and region in {"", info.region}
        ]
        return chosen[:limit]

    async def history(self, link_id, start_ms, end_ms):
        self._fail()
        if link_id not in self.histories:
            raise LinkUnknownError(link_id)
        for series in self.histories[link_id]:
            keep = np.ones(len(series), bool)
            if start_ms is not None:
                keep &= series.times_ms >= start_ms
            if end_ms is not None:
                keep &= series.times_ms < end_ms
            yield Series(series.times_ms[keep], series.values[keep])
        if self.fail_after_chunks is not None:
            raise self.fail_after_chunks

    async def ledger(self, link_id, start_ms, end_ms):
        self._fail()
        if link_id not in self.ledgers:
            raise LinkUnknownError(link_id)
        yield [
            entry
            for entry in self.ledgers[link_id]
            if (start_ms is None or entry.target_ms >= start_ms) and (end_ms is None or entry.target_ms < end_ms)
        ]

    async def record(self, link_id):
        self._fail()
        return LinkRecord(
            np.array([5, 5, 0, 5], np.uint32),
            np.array([1.5, 2.5, np.nan, 3.5], np.float32),
            np.full((4, len(EXPERTS)), 1 / len(EXPERTS), np.float32),
            0.75,
            15,
        )

    async def path(self, link_id):
        self._fail()
        return [PathPoint(minutes * 60_000, prediction(link_id).quantiles * minutes) for minutes in (5, 15)]

    async def path_of(self, series):
        return await self.path(f"{len(series)} samples")

    async def explain(self, link_id):
        self._fail()
        forecasts = np.full((4, len(EXPERTS)), np.nan, np.float32)
        forecasts[:, 0] = 90
        return PredictionExplained(
            Explanation(
                (Player("bandwidth_mbps", 0), Player("clock", 0)),
                np.array([100, 20, np.nan, 1.5], np.float32),
                np.array([80, 20, np.nan, 1.5], np.float32),
                np.array([[15.0, 5.0], [0.0, 0.0], [np.nan, np.nan], [1.0, -1.0]]),
            ),
            np.full((4, len(EXPERTS)), 0.25, np.float32),
            forecasts,
        )

    def models(self):
        return self.loaded

    @staticmethod
    def history_of(start_ms, count):
        return Series(start_ms + np.arange(count), np.ones((count, 4), np.float32))

    def add(self, link_id, region=""):
        self.infos[link_id] = LinkInfo(link_id, region=region)
        self.predictions[link_id] = prediction(link_id)


def ledger_entry(target_ms, predicted, actual):
    return LedgerEntry(
        target_ms - 900_000,
        target_ms,
        target_ms + 1_000,
        np.array(predicted, np.float32),
        np.array(actual, np.float32),
        0.5,
        "v1",
    )


FAST = ServerOptions(
    host="127.0.0.1",
    port=0,
    drain_wait_s=0.0,
    drain_grace_s=10.0,
    monitor=MonitorOptions(interval_s=0.01, timeout_s=0.2, down_after=2, up_after=2),
)


@dataclass
class Running:
    """A started server and a client's channel to it."""

    service: FakeService
    server: Server
    port: int
    registry: CollectorRegistry
    channel: grpc.aio.Channel
    store: dict = field(default_factory=dict)
    clock: object = None
    lifecycle: object = None
    trials: object = None
    retraining: object = None

    @property
    def stub(self):
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self):
        return model_service_pb2_grpc.ModelServiceStub(self.channel)


class FakeModels:
    """What is desired of models, and what a replica without any others says; keeps the calls."""

    def __init__(self, service):
        self.service, self.calls = service, []
        self.desired = Desired(4, "v1", ("v0",), held=True, pins=(Pin(Scope.REGION, "eu", ("v2", "v1")),))

    def report(self):
        return ReplicaReport("host-1", "v1", ("v1",), {"v2": "why"}, 4, NOW_MS)

    async def replicas(self):
        self.service._fail()
        return [self.report(), replace(self.report(), replica="host-2", serving="v0", refused={})]

    async def known(self):
        self.service._fail()
        training = TrainingData(5, 2, "ab", NOW_MS - 1000, NOW_MS)
        other = replace(MODEL, version="v2", parent="v1", training=training)
        return [
            Known(other, loaded=False, local="/models/v2", published=True, refused="why"),
            Known(MODEL, loaded=True, local="", published=False, refused=""),
        ]

    def _done(self, *call):
        self.service._fail()
        self.calls.append(call)
        return self.desired

    async def activate(self, version):
        return self._done("activate", version)

    async def rollback(self, from_version=""):
        return self._done("rollback", from_version)

    async def pin(self, pin):
        return self._done("pin", pin)

    async def unpin(self, scope, value):
        return self._done("unpin", scope, value)

    async def hold(self, version=""):
        return self._done("hold", version)

    async def release(self):
        return self._done("release")


class FakeTrials:
    """One experiment that runs; keeps the calls."""

    rule = Rule()

    def __init__(self, service):
        self.service, self.calls = service, []
        seen = tuple((500_000 + i, 0.05, 45) for i in range(3))
        self.record = Record(
            "trial-v2-ab", Kind.TRIAL, "v1", "v2", 0.1, NOW_MS, NOW_MS, observations=seen,
            by_metric=((135.0, 135.0, 108.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        )  # fmt: skip

    async def known(self):
        self.service._fail()
        return [await self.get("trial-v2-ab")]

    async def get(self, name):
        self.service._fail()
        if name != self.record.name:
            raise ModelUnknownError(f"experiment {name!r}")
        return self.record, self.record.evidence(self.rule)

    async def start(self, challenger, *, champion="", share=0.0):
        self.service._fail()
        self.calls.append(("start", challenger, champion, share))
        return self.record

    async def stop(self, name, *, promote=False):
        self.calls.append(("stop", name, promote))
        return replace((await self.get(name))[0], status=Status.STOPPED, ended_at_ms=NOW_MS)


class FakeRetraining:
    """A run that has ended, and whose model is tried; keeps the calls."""

    absent = ""

    def __init__(self, service):
        self.service, self.calls = service, []
        begun = Retrainings(since_ms=NOW_MS).begun("r1", Trigger.DRIFT, NOW_MS, from_scratch=True)
        begun = begun.heard(1, NOW_MS, links=3, samples=900, parent="v1")
        self.record = begun.finished(1, Outcome.TRAINED, NOW_MS + 1_000, version="v2").tried(1, "trial-v2-ab")

    def due_at_ms(self, record):
        return record.due_at_ms(60_000)

    async def status(self):
        self.service._fail()
        return self.record

    async def ask(self, *, from_scratch=False):
        self.service._fail()
        if self.record.asked:
            raise ModelConflictError("a retraining is going on")
        self.calls.append(("ask", from_scratch))
        self.record = self.record.requested(from_scratch=from_scratch)
        return self.record


@asynccontextmanager
async def serve(service=None, options=FAST, channel_options=()):
    service = service or FakeService()
    registry = CollectorRegistry()
    state = {"failure": None}

    async def check_store():
        if state["failure"] is not None:
            raise state["failure"]

    lifecycle = FakeModels(service)
    trials = FakeTrials(service)
    retraining = FakeRetraining(service)
    server = Server(
        service,
        models=lifecycle,
        trials=trials,
        retraining=retraining,
        options=options,
        checks={"store": check_store},
        registry=registry,
    )
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_options) as channel:
            yield Running(service, server, port, registry, channel, state, None, lifecycle, trials, retraining)
    finally:
        await server.stop()


async def error_of(awaitable):
    """The status of a call that fails, as a client reads it: code, text and details by kind."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    error = caught.value
    return Failure(error.code(), error.details(), _details(rpc_status.from_call(error)))


def _details(status):
    details = {}
    for packed in status.details if status else ():
        for kind in (rpc.BadRequest, rpc.ErrorInfo, rpc.RetryInfo):
            message = kind()
            if packed.Unpack(message):
                details[kind] = message
    return details


@dataclass
class Failure:
    """What a client learns of a call that failed."""

    code: grpc.StatusCode
    text: str
    details: dict

    @property
    def fields(self):
        return [violation.field for violation in self.details[rpc.BadRequest].field_violations]

    @property
    def info(self):
        return self.details[rpc.ErrorInfo]

    @property
    def retry_ms(self):
        return self.details[rpc.RetryInfo].retry_delay.ToMilliseconds()


async def everything(call):
    """All messages of a stream."""
    return [message async for message in call]


async def rest(call):
    """What is left of a stream of which something was read."""
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def stall(hub, links):
    """Publishes until the one subscriber, whose client reads nothing, stands still in a write.

    That it does shows in slots that are overtaken many times in a row. Returns how many were published and when the
    newest were made.
    """
    [subscriber] = hub._subscribers
    published, newest_ms = 0, NOW_MS
    while subscriber._skipped < 20 * len(links):
        newest_ms += 1
        hub.publish([prediction(link_id, newest_ms) for link_id in links])
        published += len(links)
        await asyncio.sleep(0.001)
    return published, newest_ms


async def eventually(condition, timeout_s=5.0):
    """Waits until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is seen from outside only
            await asyncio.sleep(0.005)
