"""The methods of the contract: read the request, ask the service, write the answer."""
# ruff: noqa: ARG002, N802 - the signatures are those of the generated base classes

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import prediction_service_pb2_grpc

from pba_service.domain.errors import InvalidRequestError, LinkUnknownError, PbaError
from pba_service.serving import convert, requests, transfers, visible
from pba_service.serving.batches import read_batch
from pba_service.serving.ready import ReadyAnswers
from pba_service.serving.status import call_status
from pba_service.serving.streams import SampleStream, store

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from pba_service.domain.forecast import Prediction
    from pba_service.engine.api import Service

HISTORY_MESSAGE_SAMPLES = 2_000
LEDGER_MESSAGE_ENTRIES = 500
"""Messages of about 80 KB: cheap to handle, and small enough for other calls to come in between."""


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`pba.v1.PredictionService`."""

    def __init__(self, service: Service, closing: asyncio.Event) -> None:
        """Serves `service`; streams of samples end once `closing` is set."""
        self._service = service
        self._closing = closing
        self._ready = ReadyAnswers()

    async def PushSamples(self, request: pb.PushSamplesRequest, context: Any) -> pb.PushSamplesResponse:
        """Stores a batch."""
        incoming = read_batch(request)
        response = await store(self._service, request.sequence, incoming)
        if response.refused == len(incoming):
            raise InvalidRequestError(*(incoming.violation(refusal, request) for refusal in response.refusals))
        return response

    async def StreamSamples(
        self, request_iterator: AsyncIterator[pb.PushSamplesRequest], context: Any
    ) -> AsyncIterator[pb.PushSamplesResponse]:
        """Stores batch after batch."""
        stream = SampleStream(self._service, request_iterator, self._closing)
        async with aclosing(stream.acknowledgements()) as acknowledgements:
            async for acknowledgement in acknowledgements:
                yield acknowledgement

    async def Predict(self, request: pb.PredictRequest, context: Any) -> pb.PredictResponse | bytes:  # type: ignore[override]  # ready bytes are sent as they are
        """Predicts a link, or the caller's own samples."""
        link_id = request.link_id
        if request.window or request.include_path:
            return await self._predict_more(requests.read_link_id(link_id), request)
        known = self._service.current(link_id)  # a link that is known needs no look at how its name is written
        if known is None:
            known = await self._service.predict(requests.read_link_id(link_id))
        return self._ready.answer(known)

    async def _predict_more(self, link_id: str, request: pb.PredictRequest) -> pb.PredictResponse:
        insight = self._service.insight
        if request.window:
            series = requests.read_window(request)
            prediction = await self._service.predict_window(link_id, series)
            path = await insight.path_of(series) if request.include_path else []
        else:
            prediction = await self._service.predict(link_id)
            path = await insight.path(link_id)
        return pb.PredictResponse(prediction=convert.prediction(prediction), path=convert.path(path))

    async def BatchPredict(self, request: pb.BatchPredictRequest, context: Any) -> pb.BatchPredictResponse:
        """Predicts many links."""
        link_ids = requests.read_link_ids(request.link_ids)
        results = await self._service.batch_predict(link_ids)
        return pb.BatchPredictResponse(results=map(_result, link_ids, results))

    async def GetOptimalParameters(  # type: ignore[override]  # ready bytes are sent as they are
        self, request: pb.GetOptimalParametersRequest, context: Any
    ) -> bytes:
        """Gives transport parameters."""
        link_id, key, service = request.link_id, request.SerializeToString(), self._service
        heard = service.outcomes_heard(link_id)
        planned = self._ready.plan(key, service.current(link_id), heard)
        if planned is not None:
            return planned
        answer = await service.parameters(requests.read_ask(request))
        return self._ready.keep_plan(key, answer, heard)

    async def EstimateTransfer(self, request: pb.EstimateTransferRequest, context: Any) -> pb.EstimateTransferResponse:
        """Says how long a transfer would take."""
        return transfers.estimate_response(await self._service.transfers.estimate(transfers.read_ask(request)))

    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, context: Any) -> pb.ReportOutcomeResponse:
        """Remembers what came of transport parameters."""
        outcome = transfers.read_outcome(request.outcome)
        learned = await self._service.transfers.report(outcome)
        return pb.ReportOutcomeResponse(
            effectiveness_ratio=learned.effectiveness, streams_correction=learned.correction
        )

    async def GetOutcomes(self, request: pb.GetOutcomesRequest, context: Any) -> pb.GetOutcomesResponse:
        """Gives what came of a link's transport parameters."""
        found = await self._service.transfers.outcomes(requests.read_link_id(request.link_id))
        return pb.GetOutcomesResponse(outcomes=map(transfers.outcome, found))

    async def StreamPredictions(self, request: pb.StreamPredictionsRequest, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]  # ready bytes are sent as they are
        """Gives predictions as they are made."""
        selector, min_interval_s = requests.read_selector(request), requests.read_interval_s(request)
        with self._service.subscriptions.subscribe(selector, min_interval_s=min_interval_s) as subscription:
            async with aclosing(subscription.updates()) as updates:
                async for update in visible.updates(updates):
                    yield self._ready.update(update)

    async def GetHistory(self, request: pb.GetHistoryRequest, context: Any) -> AsyncIterator[pb.GetHistoryResponse]:
        """Gives the samples of a link."""
        span = requests.read_span(request)
        async for series in self._service.history(span.link_id, span.start_ms, span.end_ms):
            for piece in convert.pieces(series, HISTORY_MESSAGE_SAMPLES):
                yield pb.GetHistoryResponse(samples=convert.samples(piece))

    async def GetLedger(self, request: pb.GetLedgerRequest, context: Any) -> AsyncIterator[pb.GetLedgerResponse]:
        """Gives the accuracy ledger of a link."""
        span = requests.read_span(request)
        async for entries in self._service.ledger(span.link_id, span.start_ms, span.end_ms):
            for start in range(0, len(entries), LEDGER_MESSAGE_ENTRIES):
                piece = entries[start : start + LEDGER_MESSAGE_ENTRIES]
                yield pb.GetLedgerResponse(entries=map(convert.ledger_entry, piece))

    async def GetLink(self, request: pb.GetLinkRequest, context: Any) -> pb.GetLinkResponse:
        """Gives what is known and what was learned of a link."""
        link_id = requests.read_link_id(request.link_id)
        # of all ids that begin with an id the id itself comes first
        links = await self._service.links(prefix=link_id, region="", after="", limit=1)
        if not links or links[0].info.link_id != link_id:
            raise LinkUnknownError(link_id)
        return convert.link(links[0], await self._service.insight.record(link_id))

    async def ExplainPrediction(
        self, request: pb.ExplainPredictionRequest, context: Any
    ) -> pb.ExplainPredictionResponse:
        """Gives what a prediction rests on."""
        link_id = requests.read_link_id(request.link_id)
        prediction = await self._service.predict(link_id)
        return convert.explanation(prediction, await self._service.insight.explain(link_id))

    async def ListLinks(self, request: pb.ListLinksRequest, context: Any) -> pb.ListLinksResponse:
        """Gives a page of links."""
        page = requests.read_page(request)
        links = await visible.links(self._service, page)
        token = requests.page_token(links[page.limit - 1].info.link_id) if len(links) > page.limit else ""
        return pb.ListLinksResponse(links=map(convert.link_summary, links[: page.limit]), next_page_token=token)


def _result(link_id: str, result: Prediction | PbaError) -> pb.BatchPredictResult:
    if isinstance(result, PbaError):
        return pb.BatchPredictResult(link_id=link_id, status=call_status(result))
    return pb.BatchPredictResult(link_id=link_id, prediction=convert.prediction(result))
