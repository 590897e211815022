"""The client for threads and scripts; `aio` has the one for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from grpc_health.v1 import health_pb2
from pba.v1 import prediction_service_pb2

from pba_client import requests, rpcs, transfers, wire
from pba_client.advice import BandwidthKind, CongestionControl
from pba_client.errors import LinkUnknownError, UnavailableError
from pba_client.model_calls import ModelCalls
from pba_client.options import Options
from pba_client.records import Health
from pba_client.resume import Retry
from pba_client.stream import PushStream
from pba_client.transport import GrpcTransport
from pba_client.types import PushResult
from pba_client.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta
    from types import TracebackType

    from pba_client.advice import Parameters
    from pba_client.errors import PbaClientError
    from pba_client.records import Explanation, LedgerEntry, LinkRecord, LinkSummary, PredictionPath
    from pba_client.rpcs import RequestT, ResponseT, Rpc
    from pba_client.transfers import Learned, TransferEstimates, TransferOutcome
    from pba_client.transport import Transport
    from pba_client.types import Columns, Prediction, PredictionResult, Sample

DEFAULT_TARGET = "127.0.0.1:50051"

PAGE_SIZE = 500
"""Links asked for at a time."""

SERVICE = "pba.v1.PredictionService"
"""The name under which the service reports its health."""


class Client(ModelCalls):
    """Pushes samples, pulls predictions and transport parameters. Threads may share it.

    Every method raises `PbaClientError` subclasses when the call fails. Calls have deadlines; idempotent ones are
    tried again while the service is unavailable.

    Attributes:
        options: How it connects and how long it waits.

    Example:
        >>> with Client("127.0.0.1:50051") as pba:  # doctest: +SKIP
        ...     pba.push(Sample("fra-ams", bandwidth_mbps=940, latency_ms=8.2, packet_loss_ratio=0))
        ...     pba.parameters("fra-ams").streams
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, options: Options | None = None, *, transport: Transport | None = None
    ) -> None:
        """Opens no connection yet: the first call does.

        Args:
            target: Such as 127.0.0.1:50051, or dns:///pba.example:50051 to balance over all its addresses.
            options: How to connect and how long to wait.
            transport: Carries out the calls instead of the network, for tests.
        """
        self.options = options or Options()
        self._transport = transport or GrpcTransport(target, self.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every call and frees the connections."""
        self._transport.close()

    def push(self, samples: Sample | Iterable[Sample]) -> PushResult:
        """Stores samples; safe to repeat, for the same sample is stored once.

        Args:
            samples: One or any number, of any number of links. More than 10,000 go in several requests; when one of
                these fails, those before it are stored.

        Returns:
            What became of them. Good samples are kept when others are refused.

        Raises:
            InvalidRequestError: All samples of a request were refused.
        """
        return self._push(requests.push_requests(requests.sample_list(samples)))

    def push_columns(self, columns: Columns) -> PushResult:
        """Stores samples given as columns, the fastest way for many; otherwise as `push`."""
        return self._push(requests.column_requests(columns))

    def stream(self) -> PushStream:
        """A long-lived push stream, to be used in a `with` block."""
        return PushStream(
            self._transport,
            Retry(self.options.backoff),
            max_unacknowledged=self.options.max_unacknowledged,
            patience_s=self.options.patience_s,
        )

    def predict(self, link_id: str) -> Prediction:
        """A link's prediction.

        Raises:
            LinkUnknownError: No sample of the link was ever stored.
            HistoryTooShortError: There are too few recent samples; `have`, `need` and `retry_after` say more.
        """
        request = prediction_service_pb2.PredictRequest(link_id=link_id)
        return wire.prediction((self._read(rpcs.PREDICT, request)).prediction)

    def predict_window(self, link_id: str, samples: Iterable[Sample]) -> Prediction:
        """A prediction from the caller's own recent samples alone; nothing is stored.

        Args:
            link_id: Labels the answer.
            samples: At least 10 on the link's cadence, at most 10,000.
        """
        return wire.prediction(self._unary(rpcs.PREDICT, requests.window(link_id, samples)).prediction)

    def predict_path(self, link_id: str) -> PredictionPath:
        """A link's prediction with the model's own forecasts at all of its horizons; otherwise as `predict`."""
        request = prediction_service_pb2.PredictRequest(link_id=link_id, include_path=True)
        return wire.prediction_path(self._unary(rpcs.PREDICT, request))

    def explain(self, link_id: str) -> Explanation:
        """What a link's prediction rests on: inputs, lags and forecasters. Raises as `predict`."""
        request = prediction_service_pb2.ExplainPredictionRequest(link_id=link_id)
        return wire.explanation(self._unary(rpcs.EXPLAIN_PREDICTION, request))

    def batch_predict(self, link_ids: Iterable[str]) -> list[PredictionResult]:
        """A prediction or an error for each of up to 10,000 links, in their order."""
        request = prediction_service_pb2.BatchPredictRequest(link_ids=link_ids)
        return [wire.prediction_result(one) for one in self._read(rpcs.BATCH_PREDICT, request).results]

    def parameters(
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
            return wire.parameters(self._unary(rpcs.GET_OPTIMAL_PARAMETERS, request))
        except UnavailableError:
            # A service whose store is away says that it is not serving, yet it still answers this call.
            return wire.parameters(self._unary(rpcs.GET_OPTIMAL_PARAMETERS, request, health_checked=False))

    def estimate_transfer(
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
        return transfers.read_estimates(self._unary(rpcs.ESTIMATE_TRANSFER, request))

    def report_outcome(self, outcome: TransferOutcome) -> Learned:
        """Tells the service what came of its parameters; it corrects the link's streams by that, for some hours.

        Raises:
            LinkUnknownError: No sample of the link is stored.
        """
        return transfers.read_learned(self._unary(rpcs.REPORT_OUTCOME, transfers.outcome_request(outcome)))

    def outcomes(self, link_id: str) -> list[TransferOutcome]:
        """What came of a link's parameters, as reported, oldest first. Raises `LinkUnknownError`."""
        request = prediction_service_pb2.GetOutcomesRequest(link_id=link_id)
        return [transfers.read_outcome(one) for one in (self._unary(rpcs.GET_OUTCOMES, request)).outcomes]

    def watch(
        self,
        *link_ids: str,
        prefix: str = "",
        region: str = "",
        all_links: bool = False,
        min_interval: timedelta | None = None,
        on_interruption: Callable[[PbaClientError | None, float], None] | None = None,
    ) -> Watch:
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
        return Watch(
            lambda: self._transport.download(rpcs.STREAM_PREDICTIONS, request, None),
            Retry(self.options.backoff),
            on_interruption,
        )

    def history(self, link_id: str, start: datetime | None = None, end: datetime | None = None) -> Iterator[Sample]:
        """The stored samples of a link with start <= measured_at < end, oldest first."""
        request = requests.history(link_id, start, end)
        for message in self._transport.download(rpcs.GET_HISTORY, request, self.options.timeouts.bulk_s):
            for one in message.samples:
                yield wire.sample(one, link_id)

    def ledger(self, link_id: str, start: datetime | None = None, end: datetime | None = None) -> Iterator[LedgerEntry]:
        """The predictions of a link with start <= target < end, beside what came true, ordered by target."""
        request = requests.ledger(link_id, start, end)
        for message in self._transport.download(rpcs.GET_LEDGER, request, self.options.timeouts.bulk_s):
            for one in message.entries:
                yield wire.ledger_entry(one)

    def links(self, *, prefix: str = "", region: str = "") -> Iterator[LinkSummary]:
        """The known links, ordered by id; fetched page by page as they are read."""
        token = ""
        while True:
            page = self._unary(rpcs.LIST_LINKS, requests.links(prefix, region, PAGE_SIZE, token))
            yield from map(wire.link_summary, page.links)
            token = page.next_page_token
            if not token:
                return

    def link(self, link_id: str) -> LinkRecord:
        """All about a link: what is known of it, and what drives its predictions.

        Raises:
            LinkUnknownError: No sample of the link was ever stored.
        """
        request = prediction_service_pb2.GetLinkRequest(link_id=link_id)
        return wire.link_record(self._unary(rpcs.GET_LINK, request))

    def health(self, service: str = SERVICE) -> Health:
        """What the service says of its own health."""
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            return Health(self._unary(rpcs.HEALTH_CHECK, request, health_checked=False).status)
        except LinkUnknownError:  # to a health check NOT_FOUND means the name, not a link
            return Health.SERVICE_UNKNOWN

    def _unary(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, health_checked: bool = True) -> ResponseT:
        timeouts = self.options.timeouts
        timeout_s = timeouts.bulk_s if rpc.bulk else timeouts.call_s
        return self._transport.unary(rpc, request, timeout_s, health_checked=health_checked)

    def _read(self, rpc: Rpc[RequestT, ResponseT], request: RequestT) -> ResponseT:
        """A question that a service answers from memory for a while, although its store is away and it says so."""
        try:
            return self._unary(rpc, request)
        except UnavailableError as error:
            if error.reason or error.retry_after is not None:  # a service has answered: it has said what it could
                raise
            return self._unary(rpc, request, health_checked=False)

    def _push(self, batches: Iterable[prediction_service_pb2.PushSamplesRequest]) -> PushResult:
        total, offset = PushResult(), 0
        for batch in batches:
            total = total.followed_by(wire.push_result(self._unary(rpcs.PUSH_SAMPLES, batch)), offset)
            offset += requests.MAX_BATCH
        return total
