"""The client of PBA (Predictive Bandwidth Allocation): push samples, pull predictions and transport parameters.

from pba_client import Client, Sample

with Client("127.0.0.1:50051") as pba:
    pba.push(Sample("fra-ams", bandwidth_mbps=940, latency_ms=8.2, packet_loss_ratio=0))
    print(pba.parameters("fra-ams").streams)
"""

from pba_client.advice import BandwidthKind, CongestionControl, ParameterReason, Parameters, ParametersSource
from pba_client.aio import AsyncClient
from pba_client.aio_stream import AsyncPushStream
from pba_client.aio_watch import AsyncWatch
from pba_client.client import Client
from pba_client.errors import (
    AbortedError,
    CallCancelledError,
    CapacityExceededError,
    ClientClosedError,
    DeadlineExceededError,
    FailedPreconditionError,
    HistoryTooShortError,
    InvalidRequestError,
    LinkUnknownError,
    ModelUnknownError,
    NotPermittedError,
    PbaClientError,
    ServiceFaultError,
    TemporaryError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from pba_client.options import VERSION, Backoff, Keepalive, Options, Timeouts, Tls, TlsFiles
from pba_client.records import (
    Attribution,
    Explanation,
    ForecasterContribution,
    ForecasterWeight,
    Health,
    HorizonForecast,
    LedgerEntry,
    LinkRecord,
    LinkSummary,
    MetricExplanation,
    MetricRecord,
    MetricValues,
    Model,
    ModelPin,
    ModelScore,
    ModelState,
    PinScope,
    PredictionPath,
    Replica,
    TrainingData,
)
from pba_client.stream import PushStream
from pba_client.transfers import Learned, TransferEstimate, TransferEstimates, TransferOutcome
from pba_client.types import (
    Columns,
    Gap,
    Link,
    Prediction,
    PredictionResult,
    PredictionSource,
    PushResult,
    Quantiles,
    Refusal,
    RefusalReason,
    Sample,
    WatchUpdate,
)
from pba_client.watch import Watch

__version__ = VERSION

__all__ = [
    "AbortedError",
    "AsyncClient",
    "AsyncPushStream",
    "AsyncWatch",
    "Attribution",
    "Backoff",
    "BandwidthKind",
    "CallCancelledError",
    "CapacityExceededError",
    "Client",
    "ClientClosedError",
    "Columns",
    "CongestionControl",
    "DeadlineExceededError",
    "Explanation",
    "FailedPreconditionError",
    "ForecasterContribution",
    "ForecasterWeight",
    "Gap",
    "Health",
    "HistoryTooShortError",
    "HorizonForecast",
    "InvalidRequestError",
    "Keepalive",
    "Learned",
    "LedgerEntry",
    "Link",
    "LinkRecord",
    "LinkSummary",
    "LinkUnknownError",
    "MetricExplanation",
    "MetricRecord",
    "MetricValues",
    "Model",
    "ModelPin",
    "ModelScore",
    "ModelState",
    "ModelUnknownError",
    "NotPermittedError",
    "Options",
    "ParameterReason",
    "Parameters",
    "ParametersSource",
    "PbaClientError",
    "PinScope",
    "Prediction",
    "PredictionPath",
    "PredictionResult",
    "PredictionSource",
    "PushResult",
    "PushStream",
    "Quantiles",
    "Refusal",
    "RefusalReason",
    "Replica",
    "Sample",
    "ServiceFaultError",
    "TemporaryError",
    "Timeouts",
    "Tls",
    "TlsFiles",
    "TrainingData",
    "TransferEstimate",
    "TransferEstimates",
    "TransferOutcome",
    "UnavailableError",
    "UnsupportedError",
    "Violation",
    "Watch",
    "WatchUpdate",
]
