"""The client for asyncio; `client` has the one for threads and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from grpc_health.v1 import health_pb2
from pba.v1 import prediction_service_pb2

from pba_client import requests, rpcs, transfers, wire
from pba_client.advice import BandwidthKind, CongestionControl
from pba_client.aio_stream import AsyncPushStream
from pba_client.aio_transport import AioTransport
from pba_client.aio_watch import AsyncWatch
from pba_client.client import DEFAULT_TARGET, PAGE_SIZE, SERVICE
from pba_client.errors import LinkUnknownError, UnavailableError
from pba_client.model_calls import AsyncModelCalls
from pba_client.options import Options
from pba_client.records import Health
from pba_client.resume import Retry
from pba_client.types import PushResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType

    from pba_client.advice import Parameters
    from pba_client.aio_transport import AsyncTransport
    from pba_client.errors import PbaClientError
    from pba_client.records import Explanation, LedgerEntry, LinkRecord, LinkSummary, PredictionPath
    from pba_client.rpcs import RequestT, ResponseT, Rpc
    from pba_client.transfers import Learned, TransferEstimates, TransferOutcome
    from pba_client.types import Columns, Prediction, PredictionResult, Sample


class AsyncClient(AsyncModelCalls):
    """Pushes samples, pulls predictions and transport parameters, from one event loop.

    Every method raises `PbaClientError` subclasses when the call fails. Calls have deadlines; idempotent ones are
    tried again while the service is unavailable.

    Attributes:
        options: How it connects and how long it waits.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051") as pba:  # doctest: +SKIP
        ...     await pba.push(Sample("fra-ams", bandwidth_mbps=940, latency_ms=8.2, packet_loss_ratio=0))
        ...     (await pba.parameters("fra-ams")).streams
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, options: Options | None = None, *, transport: AsyncTransport | None = None
    ) -> None:
        """Opens no connection yet: the first call does.

        Args:
            target: Such as 127.0.0.1:50051, or dns:///pba.example:50051 to balance over all its addresses.
            options: How to connect and how long to wait.
            transport: Carries out the calls instead of the network, for tests.
        """
        self.options = options or Options()
        self._transport = transport or AioTransport(target, self.options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every call and frees the connections."""
        await self._transport.close()

    async def push(self, samples: Sample | Iterable[Sample]) -> PushResult:
        """Stores samples; safe to repeat, for the same sample is stored once.

        Args:
            samples: One or any number, of any number of links. More than 10,000 go in several requests; when one of
                these fails, those before it are stored.

        Returns:
            What became of them. Good samples are kept when others are refused.

        Raises:
            InvalidRequestError: All samples of a request were refused.
        """
        return await self._push(requests.push_requests(requests.sample_list(samples)))

    async def push_columns(self, columns: Columns) -> PushResult:
        """Stores samples given as columns, the fastest way for many; otherwise as `push`."""
        return await self._push(requests.column_requests(columns))

    def stream(self) -> AsyncPushStream:
        """A long-lived push stream, to be used in an `async with` block."""
        return AsyncPushStream(
            self._transport,
            Retry(self.options.backoff),
            max_unacknowledged=self.options.max_unacknowledged,
            patience_s=self.options.patience_s,
        )

    async def predict(self, link_id: str) -> Prediction:
        """A link's prediction.

        Raises:
            LinkUnknownError: No sample of the link was ever stored.
            HistoryTooShortError: There are too few recent samples; `have`, `need` and `retry_after` say more.
        """
        request = prediction_service_pb2.PredictRequest(link_id=link_id)
        return wire.prediction((await self._read(rpcs.PREDICT, request)).prediction)

    async def predict_window(self, link_id: str, samples: Iterable[Sample]) -> Prediction:
        """A prediction from the caller's own recent samples alone; nothing is stored.

        Args:
            link_id: Labels the answer.
            samples: At least 10 on the link's cadence, at most 10,000.
        """
        return wire.prediction((await self._unary(rpcs.PREDICT, requests.window(link_id, samples))).prediction)

    async def predict_path(self, link_id: str) -> PredictionPath:
        """A link's prediction with the model's own forecasts at all of its horizons; otherwise as `predict`."""
        request = prediction_service_pb2.PredictRequest(link_id=link_id, include_path=True)
        return wire.prediction_path(await self._unary(rpcs.PREDICT, request))

    async def explain(self, link_id: str) -> Explanation:
        """What a link's prediction rests on: inputs, lags and forecasters. Raises as `predict`."""
        request = prediction_service_pb2.ExplainPredictionRequest(link_id=link_id)
        return wire.explanation(await self._unary(rpcs.EXPLAIN_PREDICTION, request))

    async def batch_predict(self, link_ids: Iterable[str]) -> list[PredictionResult]:
        """A prediction or an error for each of up to 10,000 links, in their order."""
        request = prediction_service_pb2.BatchPredictRequest(link_ids=link_ids)
        return [wire.prediction_result(one) for one in (await self._read(rpcs.BATCH_PREDICT, request)).results]

    async def parameters(
        self,
        link_id: str,
        *,
        current_streams: int | None = None,
        congestion_control: CongestionControl = CongestionControl.UNSPECIFIED,
        max_streams: int | None = None,
        max_buffer_bytes: int | None = None,
        memory_budget_bytes: int | None = None,
        current_buffer_bytes: int | None = None,
        current_pacing_mbps: float | None = None,
        receive_buffer_bytes: int | None = None,
        bandwidth_kind: BandwidthKind = BandwidthKind.UNSPECIFIED,
        loss_probes: int | None = None,
        base_latency_ms: float | None = None,
    ) -> Parameters:
        """How to send over a link now. The service always has an answer; `source` says what it rests on.

        Args:
            link_id: The link.
            current_streams: Streams that are open now.
            congestion_control: Of the caller's sockets.
            max_streams: The most streams that the caller can open.
            max_buffer_bytes: The largest socket buffer that the caller can set.
            memory_budget_bytes: Memory for all buffers together.
            current_buffer_bytes: Socket buffer of each present stream.
            current_pacing_mbps: Pace of all present streams together; None: unpaced.
            receive_buffer_bytes: The largest buffer that the receiver gives a stream.
            bandwidth_kind: What the link's bandwidth measurements are.
            loss_probes: Probes that each of its loss measurements comes from.
            base_latency_ms: Its round trip with empty queues, where it measures a busy one.
        """
        request = requests.parameters(
            link_id,
            current_streams=current_streams,
            congestion_control=congestion_control,
            max_streams=max_streams,
            max_buffer_bytes=max_buffer_bytes,
            memory_budget_bytes=memory_budget_bytes,
            current_buffer_bytes=current_buffer_bytes,
            current_pacing_mbps=current_pacing_mbps,
            receive_buffer_bytes=receive_buffer_bytes,
            bandwidth_kind=bandwidth_kind,
            loss_probes=loss_probes,
            base_latency_ms=base_latency_ms,
        )
        try:
            return wire.parameters(await self._unary(rpcs.GET_OPTIMAL_PARAMETERS, request))
        except UnavailableError:
            # A service whose store is away says that it is not serving, yet it still answers this call.
            return wire.parameters(await self._unary(rpcs.GET_OPTIMAL_PARAMETERS, request, health_checked=False))

    async def estimate_transfer(
        self,
        transfer_bytes: int,
        *link_ids: str,
        deadline: datetime | None = None,
        earliest_start: datetime | None = None,
        latest_start: datetime | None = None,
    ) -> TransferEstimates:
        """How long a transfer would take on each of some links, and which link and start is best.

        Args:
            transfer_bytes: How much.
            link_ids: The links that could carry it.
            deadline: By when it should be complete.
            earliest_start: The earliest start; now unless given.
            latest_start: The latest, at most 24 hours ahead; unless given only the earliest is looked at.
        """
        request = transfers.estimate_request(
            transfer_bytes, link_ids, deadline=deadline, earliest_start=earliest_start, latest_start=latest_start
        )
        return transfers.read_estimates(await self._unary(rpcs.ESTIMATE_TRANSFER, request))

    async def report_outcome(self, outcome: TransferOutcome) -> Learned:
        """Tells the service what came of its parameters; it corrects the link's streams by that, for some hours.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        return transfers.read_learned(await self._unary(rpcs.REPORT_OUTCOME, transfers.outcome_request(outcome)))

    async def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """What came of a link's parameters, as reported, oldest first. Raises `LinkUnknownError`."""
        request = prediction_service_pb2.GetOutcomesRequest(link_id=link_id)
        return [transfers.read_outcome(one) for one in (await self._unary(rpcs.GET_OUTCOMES, request)).outcomes]

    def watch(
        self,
        *link_ids: str,
        prefix: str = "",
        region: str = "",
        all_links: bool = False,
        min_interval: timedelta | None = None,
        on_interruption: Callable[[PbaClientError | None, float], None] | None = None,
    ) -> AsyncWatch:
        """Follows predictions: the newest of each chosen link, then each update, over lost connections too.

        A link is chosen when any of the given ways names it.

        Args:
            link_ids: By id.
            prefix: By the beginning of the id.
            region: By region.
            all_links: Every link.
            min_interval: At most one update in this time.
            on_interruption: Told of each loss, its cause and the seconds until the next attempt.
        """
        request = requests.watch(link_ids, prefix=prefix, region=region, all_links=all_links, min_interval=min_interval)
        return AsyncWatch(
            lambda: self._transport.download(rpcs.STREAM_PREDICTIONS, request, None),
            Retry(self.options.backoff),
            on_interruption,
        )

    async def history(
        self, link_id: str, start: datetime | None = None, end: datetime | None = None
    ) -> AsyncIterator[Sample]:
        """The stored samples of a link with start <= measured_at < end, oldest first."""
        request = requests.history(link_id, start, end)
        async for message in self._transport.download(rpcs.GET_HISTORY, request, self.options.timeouts.bulk_s):
            for one in message.samples:
                yield wire.sample(one, link_id)

    async def ledger(
        self, link_id: str, start: datetime | None = None, end: datetime | None = None
    ) -> AsyncIterator[LedgerEntry]:
        """The predictions of a link with start <= target < end, beside what came true, ordered by target."""
        request = requests.ledger(link_id, start, end)
        async for message in self._transport.download(rpcs.GET_LEDGER, request, self.options.timeouts.bulk_s):
            for one in message.entries:
                yield wire.ledger_entry(one)

    async def links(self, *, prefix: str = "", region: str = "") -> AsyncIterator[LinkSummary]:
        """The known links, ordered by id; fetched page by page as they are read."""
        token = ""
        while True:
            page = await self._unary(rpcs.LIST_LINKS, requests.links(prefix, region, PAGE_SIZE, token))
            for one in page.links:
                yield wire.link_summary(one)
            token = page.next_page_token
            if not token:
                return

    async def link(self, link_id: str) -> LinkRecord:
        """All about a link: what is known of it, and what drives its predictions.

        Raises:
            LinkUnknownError: No sample of the link was ever stored.
        """
        request = prediction_service_pb2.GetLinkRequest(link_id=link_id)
        return wire.link_record(await self._unary(rpcs.GET_LINK, request))

    async def health(self, service: str = SERVICE) -> Health:
        """What the service says of its own health."""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return Health((await self._unary(rpcs.HEALTH_CHECK, request, health_checked=False)).status)
        except LinkUnknownError:  # to a health check NOT_FOUND means the name, not a link
            return Health.SERVICE_UNKNOWN

    async def _unary(
        self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True
    ) -> ResponseT:
        timeouts = self.options.timeouts
        timeout_s = timeouts.bulk_s if rpc.bulk else timeouts.call_s
        return await self._transport.unary(rpc, request, timeout_s, health_checked=health_checked)

    async def _read(self, rpc: Rpc[RequestT, ResponseT], request: RequestT) -> ResponseT:
        """A question that a service answers from memory for a while, although its store is away and it says so."""
        try:
            return await self._unary(rpc, request)
        except UnavailableError as error:
            if error.reason or error.retry_after is not None:  # a service has answered: it has said what it could
                raise
            return await self._unary(rpc, request, health_checked=False)

    async def _push(self, batches: Iterable[prediction_service_pb2.PushSamplesRequest]) -> PushResult:
        total, offset = PushResult(), 0
        for batch in batches:
            total = total.followed_by(wire.push_result(await self._unary(rpcs.PUSH_SAMPLES, batch)), offset)
            offset += requests.MAX_BATCH
        return total
