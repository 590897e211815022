# ruff: noqa: N802 - gRPC names the methods
"""A small PredictionService with a memory and a temper, on a real grpc.aio server in a thread of its own."""

import asyncio
import threading
from collections import deque

import grpc
from google.protobuf import any_pb2, duration_pb2, timestamp_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health as health_v1
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from pba.v1 import model_service_pb2 as mpb
from pba.v1 import model_service_pb2_grpc, prediction_service_pb2_grpc, types_pb2
from pba.v1 import prediction_service_pb2 as pb

T0_S = 1_750_000_000


def status(code, message, *details):
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


UNKNOWN_LINK = status(
    grpc.StatusCode.NOT_FOUND,
    "link 'nowhere' is unknown",
    error_details_pb2.ErrorInfo(domain="pba", reason="LINK_UNKNOWN", metadata={"link_id": "nowhere"}),
)
SHORT_HISTORY = status(
    grpc.StatusCode.FAILED_PRECONDITION,
    "link 'young' has 3 of 10",
    error_details_pb2.ErrorInfo(domain="pba", reason="HISTORY_TOO_SHORT", metadata={"have": "3", "need": "10"}),
    error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=420)),
)
UNKNOWN_MODEL = status(
    grpc.StatusCode.NOT_FOUND,
    "there is no model 'x'",
    error_details_pb2.ErrorInfo(domain="pba", reason="MODEL_UNKNOWN", metadata={"what": "model 'x'"}),
)
STORE_AWAY = status(
    grpc.StatusCode.UNAVAILABLE,
    "the store is unavailable",
    error_details_pb2.ErrorInfo(domain="pba", reason="STORE_UNAVAILABLE"),
)


MODEL = mpb.Model(
    name="pba_lstm",
    version="1.2.3",
    serving=True,
    loaded=True,
    location="/models/pba_lstm",
    parent_version="1.2.2",
    created_at=timestamp_pb2.Timestamp(seconds=T0_S),
    horizons=[duration_pb2.Duration(seconds=900)],
    scores=[
        mpb.ModelScore(metric="latency_ms", forecaster="last_value", mae_ratio=1.0),
        mpb.ModelScore(metric="latency_ms", forecaster="pba_lstm", mae_ratio=0.75),
    ],
    training=mpb.TrainingData(
        rows=500, links=5, fingerprint_sha256="ab" * 32, first_measured_at=timestamp_pb2.Timestamp(seconds=T0_S)
    ),
)


def prediction_message(link_id, made_at_s=T0_S, bandwidth_mbps=90.0):
    return types_pb2.Prediction(
        link_id=link_id,
        made_at=timestamp_pb2.Timestamp(seconds=made_at_s),
        horizon=duration_pb2.Duration(seconds=900),
        valid_until=timestamp_pb2.Timestamp(seconds=made_at_s + 900),
        bandwidth_mbps=bandwidth_mbps,
        bandwidth_quantiles=types_pb2.Quantiles(p05=bandwidth_mbps - 10, p50=bandwidth_mbps, p95=bandwidth_mbps + 10),
        confidence=0.75,
        model_version="1.2.3",
        source=types_pb2.PREDICTION_SOURCE_COMBINED,
        cadence=duration_pb2.Duration(seconds=60),
    )


EXPERIMENT = mpb.Experiment(
    name="trial-1",
    kind=mpb.EXPERIMENT_KIND_TRIAL,
    champion="1.2.3",
    challenger="1.3.0",
    started_at=Timestamp(seconds=7),
    status=mpb.EXPERIMENT_STATUS_RUNNING,
    automatic=True,
    evidence=mpb.ExperimentEvidence(
        periods=5, advantage=0.25, promote_at=20, metrics=[mpb.MetricComparison(metric="latency_ms", targets=9)]
    ),
)


RETRAINING = mpb.Retraining(
    run=mpb.RetrainingRun(
        number=2,
        trigger=mpb.RETRAINING_TRIGGER_DRIFT,
        phase=mpb.RETRAINING_PHASE_ENDED,
        outcome=mpb.RETRAINING_OUTCOME_FAILED,
        reason="the disk is full",
        started_at=Timestamp(seconds=7),
        ended_at=Timestamp(seconds=9),
    ),
    due_at=Timestamp(seconds=60),
)


class ScriptedService(
    prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer
):
    """Stores by (link, ms) and answers with fixed predictions; `faults` are what the next calls end in."""

    def __init__(self):
        self.stored = {}
        self.calls = []
        self.faults = {}
        self.metadata = {}
        self.pushback_ms = None
        self.updates = None
        self.streams_of_predictions = 0
        self.outcomes = []
        self.asked = []
        self.state = mpb.ModelState(revision=7, active_version="1.2.3", previous_versions=["1.2.2"])

    def fault(self, method, *statuses):
        self.faults.setdefault(method, deque()).extend(statuses)

    async def _enter(self, method, context):
        self.calls.append(method)
        self.metadata[method] = dict(context.invocation_metadata())
        waiting = self.faults.get(method)
        if waiting:
            end = rpc_status.to_status(waiting.popleft())
            if self.pushback_ms is not None:
                pushback = ("grpc-retry-pushback-ms", str(self.pushback_ms))
                end = end._replace(trailing_metadata=(*end.trailing_metadata, pushback))
            await context.abort_with_status(end)

    def _store(self, request):
        rows = [
            (s.link_id, s.measured_at.ToMilliseconds(), s.bandwidth_mbps if s.HasField("bandwidth_mbps") else None)
            for s in request.samples
        ]
        columns = request.columns
        rows += [
            (
                columns.links[link].link_id,
                time_ms,
                columns.bandwidth_mbps[i]
                if columns.bandwidth_mbps and (not columns.present or columns.present[i] & 1)
                else None,
            )
            for i, (link, time_ms) in enumerate(zip(columns.link_index, columns.measured_at_ms, strict=True))
        ]
        answer = pb.PushSamplesResponse(sequence=request.sequence)
        for index, (link_id, time_ms, bandwidth) in enumerate(rows):
            if bandwidth is not None and bandwidth < 0:
                answer.refused += 1
                answer.refusals.add(
                    index=index,
                    field="bandwidth_mbps",
                    reason=pb.REFUSAL_REASON_OUT_OF_RANGE,
                    description="is below 0",
                )
                continue
            before = self.stored.get((link_id, time_ms))
            if before is None:
                answer.stored += 1
            elif before == (bandwidth,):
                answer.duplicates += 1
            else:
                answer.replaced += 1
            self.stored[link_id, time_ms] = (bandwidth,)
        return answer

    async def PushSamples(self, request, context):
        await self._enter("PushSamples", context)
        return self._store(request)

    async def StreamSamples(self, requests, context):
        await self._enter("StreamSamples", context)
        async for request in requests:
            answer = self._store(request)
            # the hardest loss: stored, yet not acknowledged
            await self._enter("StreamSamples/ack", context)
            yield answer

    async def Predict(self, request, context):
        await self._enter("Predict", context)
        path = [
            types_pb2.HorizonForecast(
                horizon=duration_pb2.Duration(seconds=60 * minutes),
                bandwidth_quantiles=types_pb2.Quantiles(p50=minutes),
            )
            for minutes in (5, 15, 30)
        ]
        return pb.PredictResponse(
            prediction=prediction_message(request.link_id, bandwidth_mbps=90 + len(request.window)),
            path=path if request.include_path else [],
        )

    async def BatchPredict(self, request, context):
        await self._enter("BatchPredict", context)
        answer = pb.BatchPredictResponse()
        for link_id in request.link_ids:
            if link_id == "nowhere":
                failed = pb.CallStatus(
                    code=UNKNOWN_LINK.code, message=UNKNOWN_LINK.message, details=UNKNOWN_LINK.details
                )
                answer.results.add(link_id=link_id, status=failed)
            else:
                answer.results.add(link_id=link_id, prediction=prediction_message(link_id))
        return answer

    async def GetOptimalParameters(self, request, context):
        await self._enter("GetOptimalParameters", context)
        self.asked.append(request)
        return pb.GetOptimalParametersResponse(
            parameters=types_pb2.TransportParameters(
                streams=request.current_streams + 2, buffer_bytes=131072, chunk_bytes=65536
            ),
            source=pb.PARAMETERS_SOURCE_DEFAULTS,
            reasons=[pb.PARAMETER_REASON_UNKNOWN_LINK],
            explanation="the link is unknown",
            should_adjust=True,
            valid_until=timestamp_pb2.Timestamp(seconds=T0_S + 60),
        )

    async def EstimateTransfer(self, request, context):
        await self._enter("EstimateTransfer", context)
        answer = pb.EstimateTransferResponse()
        for link_id in request.link_ids:
            if link_id == "nowhere":
                failed = pb.CallStatus(
                    code=UNKNOWN_LINK.code, message=UNKNOWN_LINK.message, details=UNKNOWN_LINK.details
                )
                answer.refusals.add(link_id=link_id, status=failed)
                continue
            answer.best = len(answer.estimates)
            answer.estimates.add(
                link_id=link_id,
                start=timestamp_pb2.Timestamp(seconds=T0_S),
                completion_p10=duration_pb2.Duration(seconds=request.transfer_bytes // 10**9),
                completion_p50=duration_pb2.Duration(seconds=90),
                deadline_probability=0.75 if request.HasField("deadline") else None,
            )
        return answer

    async def ReportOutcome(self, request, context):
        await self._enter("ReportOutcome", context)
        self.outcomes.append(request.outcome)
        return pb.ReportOutcomeResponse(effectiveness_ratio=0.5, streams_correction=1.25)

    async def GetOutcomes(self, request, context):
        await self._enter("GetOutcomes", context)
        return pb.GetOutcomesResponse(outcomes=self.outcomes)

    async def StreamPredictions(self, request, context):
        self.streams_of_predictions += 1
        self.updates = asyncio.Queue()
        await self._enter("StreamPredictions", context)
        yield pb.StreamPredictionsResponse(
            predictions=[prediction_message(link_id) for link_id in request.selector.link_ids], snapshot_complete=True
        )
        while (update := await self.updates.get()) is not None:
            if isinstance(update, status_pb2.Status):
                await context.abort_with_status(rpc_status.to_status(update))
            yield update

    async def GetHistory(self, request, context):
        await self._enter("GetHistory", context)
        for start in (0, 2):
            yield pb.GetHistoryResponse(
                samples=[
                    types_pb2.Sample(
                        measured_at=timestamp_pb2.Timestamp(seconds=T0_S + 60 * minute), bandwidth_mbps=minute
                    )
                    for minute in (start, start + 1)
                ]
            )

    async def GetLedger(self, request, context):
        await self._enter("GetLedger", context)
        yield pb.GetLedgerResponse(
            entries=[
                pb.LedgerEntry(
                    made_at=timestamp_pb2.Timestamp(seconds=T0_S),
                    target=timestamp_pb2.Timestamp(seconds=T0_S + 900),
                    measured_at=timestamp_pb2.Timestamp(seconds=T0_S + 901),
                    predicted=pb.MetricValues(bandwidth_mbps=100),
                    actual=pb.MetricValues(bandwidth_mbps=90, jitter_ms=1),
                    absolute_error=pb.MetricValues(bandwidth_mbps=10),
                    confidence=0.5,
                    hit=True,
                    model_version="1.2.3",
                )
            ]
        )

    async def GetLink(self, request, context):
        await self._enter("GetLink", context)
        weights = [pb.ForecasterWeight(forecaster="model", weight=1.0)]
        return pb.GetLinkResponse(
            summary=pb.LinkSummary(link_id=request.link_id, sample_count=3),
            metrics=[
                pb.MetricRecord(metric="bandwidth_mbps", settled=2, mean_absolute_error=1.5, weights=weights),
                pb.MetricRecord(metric="jitter_ms"),
            ],
            hit_ratio=0.5,
            pending=4,
        )

    async def ExplainPrediction(self, request, context):
        await self._enter("ExplainPrediction", context)
        return pb.ExplainPredictionResponse(
            prediction=prediction_message(request.link_id),
            explanations=[
                pb.MetricExplanation(
                    metric="bandwidth_mbps",
                    model_forecast=90,
                    baseline_forecast=80,
                    attributions=[pb.Attribution(input="latency_ms", lag=3, value=10)],
                    contributions=[pb.ForecasterContribution(forecaster="median_10", weight=0.25, forecast=88)],
                )
            ],
        )

    async def ListLinks(self, request, context):
        await self._enter("ListLinks", context)
        start = int(request.page_token or 0)
        links = [pb.LinkSummary(link_id=f"l{i}", sample_count=i) for i in range(start, min(start + 2, 5))]
        return pb.ListLinksResponse(links=links, next_page_token=str(start + 2) if start + 2 < 5 else "")

    async def ListModels(self, request, context):
        await self._enter("ListModels", context)
        return mpb.ListModelsResponse(models=[MODEL, mpb.Model(name="other", version="1.3.0", published=True)])

    async def GetModelState(self, request, context):
        await self._enter("GetModelState", context)
        return mpb.GetModelStateResponse(state=self.state)

    async def GetModel(self, request, context):
        await self._enter("GetModel", context)
        if request.version != MODEL.version:
            await context.abort_with_status(rpc_status.to_status(UNKNOWN_MODEL))
        return mpb.GetModelResponse(model=MODEL)

    async def ActivateModel(self, request, context):
        await self._enter("ActivateModel", context)
        self.state.previous_versions.insert(0, self.state.active_version)
        self.state.active_version = request.version
        return mpb.ActivateModelResponse(state=self.state)

    async def RollbackModel(self, request, context):
        await self._enter("RollbackModel", context)
        self.state.active_version = self.state.previous_versions.pop(0)
        return mpb.RollbackModelResponse(state=self.state)

    async def PinModel(self, request, context):
        await self._enter("PinModel", context)
        if request.pin.scope:
            self.state.pins.append(request.pin)
        else:
            self.state.held = True
        return mpb.PinModelResponse(state=self.state)

    async def UnpinModel(self, request, context):
        await self._enter("UnpinModel", context)
        if request.scope:
            kept = [pin for pin in self.state.pins if (pin.scope, pin.value) != (request.scope, request.value)]
            del self.state.pins[:]
            self.state.pins.extend(kept)
        else:
            self.state.held = False
        return mpb.UnpinModelResponse(state=self.state)

    async def ListExperiments(self, request, context):
        await self._enter("ListExperiments", context)
        return mpb.ListExperimentsResponse(experiments=[EXPERIMENT])

    async def GetExperiment(self, request, context):
        await self._enter("GetExperiment", context)
        if request.name != EXPERIMENT.name:
            await context.abort_with_status(rpc_status.to_status(UNKNOWN_MODEL))
        return mpb.GetExperimentResponse(experiment=EXPERIMENT)

    async def StartExperiment(self, request, context):
        await self._enter("StartExperiment", context)
        begun = mpb.Experiment(champion=request.champion, challenger=request.challenger, share=request.share)
        return mpb.StartExperimentResponse(experiment=begun)

    async def StopExperiment(self, request, context):
        await self._enter("StopExperiment", context)
        status = mpb.EXPERIMENT_STATUS_PROMOTED if request.promote else mpb.EXPERIMENT_STATUS_STOPPED
        ended = mpb.Experiment(name=request.name, status=status, ended_at=Timestamp(seconds=8))
        return mpb.StopExperimentResponse(experiment=ended)

    async def GetRetraining(self, request, context):
        await self._enter("GetRetraining", context)
        return mpb.GetRetrainingResponse(retraining=RETRAINING)

    async def StartRetraining(self, request, context):
        await self._enter("StartRetraining", context)
        run = mpb.RetrainingRun(number=3, from_scratch=request.from_scratch)
        return mpb.StartRetrainingResponse(retraining=mpb.Retraining(run=run, asked=True))

    async def ListReplicas(self, request, context):
        await self._enter("ListReplicas", context)
        return mpb.ListReplicasResponse(
            replicas=[
                mpb.Replica(name="host-1", serving_version="1.2.3", revision=7, answering=True),
                mpb.Replica(
                    name="host-2",
                    serving_version="1.2.3",
                    refused=[mpb.RefusedModel(version="1.3.0", reason="its golden windows disagree")],
                ),
            ]
        )


class Health(health_v1.aio.HealthServicer):
    """Turns checks away first, as gRPC's core does where too many calls wait: as often as `turned_away` says."""

    turned_away = 0

    async def Check(self, request, context):
        if self.turned_away:
            self.turned_away -= 1
            await context.abort(grpc.StatusCode.CANCELLED)
        return await super().Check(request, context)


class AioServer:
    """Serves the service on the running event loop; can be stopped and started on the same port."""

    def __init__(self):
        self.service = ScriptedService()
        self.port = 0
        self.health = None
        self._server = None

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    async def start(self):
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self.service, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self.service, self._server)
        self.health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        await self.set_health(serving=True)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self):
        await self._server.stop(0)

    def send_update(self, update):
        """Puts an update (or a status, or None for an end in good order) on the newest prediction stream."""
        self.service.updates.put_nowait(update)

    async def set_health(self, *, serving):
        value = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set("pba.v1.PredictionService", value)


class ServerThread:
    """The same in a thread of its own, for the blocking client."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = AioServer()
        self.service = self._server.service
        self.start()
        self.health = self._server.health

    @property
    def target(self):
        return self._server.target

    def start(self):
        self._run(self._server.start())

    def stop(self):
        self._run(self._server.stop())

    def set_health(self, *, serving):
        self._run(self._server.set_health(serving=serving))

    def send_update(self, update):
        self._loop.call_soon_threadsafe(self._server.send_update, update)

    def close(self):
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)
