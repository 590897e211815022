"""The calls of the contract, as values that a transport can carry out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from pba.v1 import model_service_pb2, prediction_service_pb2

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[RequestT, ResponseT]):
    """One call.

    Attributes:
        path: As it goes over the wire.
        request: Type of its requests.
        response: Type of its responses.
        bulk: Whether it moves so much that the longer deadline applies.
    """

    path: str
    request: type[RequestT]
    response: type[ResponseT]
    bulk: bool = False


_PREDICTION = "/pba.v1.PredictionService/"
_MODEL = "/pba.v1.ModelService/"

PUSH_SAMPLES = Rpc(
    _PREDICTION + "PushSamples",
    prediction_service_pb2.PushSamplesRequest,
    prediction_service_pb2.PushSamplesResponse,
    bulk=True,
)
STREAM_SAMPLES = Rpc(
    _PREDICTION + "StreamSamples",
    prediction_service_pb2.PushSamplesRequest,
    prediction_service_pb2.PushSamplesResponse,
)
PREDICT = Rpc(_PREDICTION + "Predict", prediction_service_pb2.PredictRequest, prediction_service_pb2.PredictResponse)
BATCH_PREDICT = Rpc(
    _PREDICTION + "BatchPredict",
    prediction_service_pb2.BatchPredictRequest,
    prediction_service_pb2.BatchPredictResponse,
    bulk=True,
)
GET_OPTIMAL_PARAMETERS = Rpc(
    _PREDICTION + "GetOptimalParameters",
    prediction_service_pb2.GetOptimalParametersRequest,
    prediction_service_pb2.GetOptimalParametersResponse,
)
ESTIMATE_TRANSFER = Rpc(
    _PREDICTION + "EstimateTransfer",
    prediction_service_pb2.EstimateTransferRequest,
    prediction_service_pb2.EstimateTransferResponse,
    bulk=True,
)
REPORT_OUTCOME = Rpc(
    _PREDICTION + "ReportOutcome",
    prediction_service_pb2.ReportOutcomeRequest,
    prediction_service_pb2.ReportOutcomeResponse,
)
GET_OUTCOMES = Rpc(
    _PREDICTION + "GetOutcomes", prediction_service_pb2.GetOutcomesRequest, prediction_service_pb2.GetOutcomesResponse
)
STREAM_PREDICTIONS = Rpc(
    _PREDICTION + "StreamPredictions",
    prediction_service_pb2.StreamPredictionsRequest,
    prediction_service_pb2.StreamPredictionsResponse,
)
GET_HISTORY = Rpc(
    _PREDICTION + "GetHistory",
    prediction_service_pb2.GetHistoryRequest,
    prediction_service_pb2.GetHistoryResponse,
    bulk=True,
)
GET_LEDGER = Rpc(
    _PREDICTION + "GetLedger",
    prediction_service_pb2.GetLedgerRequest,
    prediction_service_pb2.GetLedgerResponse,
    bulk=True,
)
GET_LINK = Rpc(_PREDICTION + "GetLink", prediction_service_pb2.GetLinkRequest, prediction_service_pb2.GetLinkResponse)
EXPLAIN_PREDICTION = Rpc(
    _PREDICTION + "ExplainPrediction",
    prediction_service_pb2.ExplainPredictionRequest,
    prediction_service_pb2.ExplainPredictionResponse,
    bulk=True,
)
LIST_LINKS = Rpc(
    _PREDICTION + "ListLinks", prediction_service_pb2.ListLinksRequest, prediction_service_pb2.ListLinksResponse
)
LIST_MODELS = Rpc(
    _MODEL + "ListModels", model_service_pb2.ListModelsRequest, model_service_pb2.ListModelsResponse, bulk=True
)
GET_MODEL = Rpc(_MODEL + "GetModel", model_service_pb2.GetModelRequest, model_service_pb2.GetModelResponse, bulk=True)
GET_MODEL_STATE = Rpc(
    _MODEL + "GetModelState", model_service_pb2.GetModelStateRequest, model_service_pb2.GetModelStateResponse
)
ACTIVATE_MODEL = Rpc(
    _MODEL + "ActivateModel",
    model_service_pb2.ActivateModelRequest,
    model_service_pb2.ActivateModelResponse,
    bulk=True,
)
ROLLBACK_MODEL = Rpc(
    _MODEL + "RollbackModel",
    model_service_pb2.RollbackModelRequest,
    model_service_pb2.RollbackModelResponse,
    bulk=True,
)
PIN_MODEL = Rpc(_MODEL + "PinModel", model_service_pb2.PinModelRequest, model_service_pb2.PinModelResponse, bulk=True)
UNPIN_MODEL = Rpc(
    _MODEL + "UnpinModel", model_service_pb2.UnpinModelRequest, model_service_pb2.UnpinModelResponse, bulk=True
)
LIST_REPLICAS = Rpc(
    _MODEL + "ListReplicas", model_service_pb2.ListReplicasRequest, model_service_pb2.ListReplicasResponse
)
LIST_EXPERIMENTS = Rpc(
    _MODEL + "ListExperiments", model_service_pb2.ListExperimentsRequest, model_service_pb2.ListExperimentsResponse
)
GET_EXPERIMENT = Rpc(
    _MODEL + "GetExperiment", model_service_pb2.GetExperimentRequest, model_service_pb2.GetExperimentResponse
)
START_EXPERIMENT = Rpc(
    _MODEL + "StartExperiment",
    model_service_pb2.StartExperimentRequest,
    model_service_pb2.StartExperimentResponse,
    bulk=True,
)
STOP_EXPERIMENT = Rpc(
    _MODEL + "StopExperiment",
    model_service_pb2.StopExperimentRequest,
    model_service_pb2.StopExperimentResponse,
    bulk=True,
)
GET_RETRAINING = Rpc(
    _MODEL + "GetRetraining", model_service_pb2.GetRetrainingRequest, model_service_pb2.GetRetrainingResponse
)
START_RETRAINING = Rpc(
    _MODEL + "StartRetraining", model_service_pb2.StartRetrainingRequest, model_service_pb2.StartRetrainingResponse
)
HEALTH_CHECK = Rpc("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)

CONTRACT = (
    PUSH_SAMPLES,
    STREAM_SAMPLES,
    PREDICT,
    BATCH_PREDICT,
    GET_OPTIMAL_PARAMETERS,
    ESTIMATE_TRANSFER,
    REPORT_OUTCOME,
    GET_OUTCOMES,
    STREAM_PREDICTIONS,
    GET_HISTORY,
    GET_LEDGER,
    GET_LINK,
    EXPLAIN_PREDICTION,
    LIST_LINKS,
    LIST_MODELS,
    GET_MODEL,
    GET_MODEL_STATE,
    ACTIVATE_MODEL,
    ROLLBACK_MODEL,
    PIN_MODEL,
    UNPIN_MODEL,
    LIST_REPLICAS,
    LIST_EXPERIMENTS,
    GET_EXPERIMENT,
    START_EXPERIMENT,
    STOP_EXPERIMENT,
    GET_RETRAINING,
    START_RETRAINING,
)
"""Every call of pba.v1."""
