"""A real grpc.aio server over a hand-written fake of the service."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import grpc
import numpy as np
import pytest
from pba.v1 import model_service_pb2_grpc, prediction_service_pb2_grpc
from prometheus_client import CollectorRegistry

from pba_service.domain.errors import LinkUnknownError
from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.samples import LinkInfo, Limits, Series, validate
from pba_service.domain.transport import TransportBounds, ParametersSource, answer, defaults
from pba_service.engine.api import PushOutcome
from pba_service.engine.ports import LinkSummary, ModelInfo
from pba_service.engine.subscriptions import Subscriptions
from pba_service.serving.health import MonitorOptions
from pba_service.serving.options import ServerOptions
from pba_service.serving.server import Server

NOW_MS = 1_800_000_000_000
LIMITS = Limits(max_ahead_ms=120_000, max_age_ms=30 * 86_400_000)


def prediction(link_id="a", made_at_ms=NOW_MS, bandwidth=100.0):
    values = np.array([bandwidth, 20.0, np.nan, 1.5], np.float32)
    quantiles = np.full((4, 5), np.nan, np.float32)
    quantiles[0] = bandwidth * np.array([0.5, 0.6, 1.0, 1.4, 1.5])
    return Prediction(
        link_id, made_at_ms, 60_000, made_at_ms + 900_000, values, quantiles, 0.75, "v1", Source.COMBINED
    )


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
            ask=ask,
            valid_until_ms=NOW_MS,
            prediction=self.predictions.get(ask.link_id),
        )

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
        self._fail()

    async def ledger(self, link_id, start_ms, end_ms):
        self._fail()
        if link_id not in self.ledgers:
            raise LinkUnknownError(link_id)
        yield [
            entry
            for entry in self.ledgers[link_id]
            if (start_ms is None or entry.target_ms >= start_ms) and (end_ms is None or entry.target_ms < end_ms)
        ]

    def models(self):
        return self.loaded

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
    drain_grace_s=2.0,
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

    @property
    def stub(self):
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def models(self):
        return model_service_pb2_grpc.ModelServiceStub(self.channel)


@asynccontextmanager
async def serve(service=None, options=FAST, channel_options=()):
    service = service or FakeService()
    registry = CollectorRegistry()
    state = {"failure": None}

    async def check_store():
        if state["failure"] is not None:
            raise state["failure"]

    server = Server(service, options=options, checks={"store": check_store}, registry=registry)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=channel_options) as channel:
            yield Running(service, server, port, registry, channel, state)
    finally:
        await server.stop()


@pytest.fixture
async def running():
    async with serve() as started:
        yield started


@pytest.fixture
def eventually():
    """Waits until a condition holds."""

    async def wait(condition, timeout_s=5.0):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "never became true"
            await asyncio.sleep(0.005)

    return wait
