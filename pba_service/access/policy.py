"""Which call takes which role: the one table. What is not in it is for admins alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pba_service.access.callers import Role


class Links(Enum):
    """How a call's links are judged, for those who may call it at all."""

    NONE = "none"
    """It has none."""
    OWNED = "owned"
    """Every link that the request names must be the caller's own."""
    READABLE = "readable"
    """The caller must be allowed to read every link that the request names."""
    FILTERED = "filtered"
    """As READABLE, and of the links that the request does not name the answer has those that the caller may read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One row.

    Attributes:
        roles: Who may call; empty: anyone, and nobody is asked who they are.
        links: About which links.
    """

    roles: frozenset[Role]
    links: Links = Links.NONE


_ANYONE = Rule(frozenset())
_KNOWN = Rule(frozenset(Role))
_ADMIN = Rule(frozenset({Role.ADMIN}))
_WRITES = Rule(frozenset({Role.NODE, Role.ADMIN}), Links.OWNED)
_READS = Rule(frozenset(Role), Links.READABLE)
_LISTS = Rule(frozenset(Role), Links.FILTERED)

UNLISTED = _ADMIN
"""What a call gets that has no row: a test fails for it, and until then only an admin may call it."""

TABLE: dict[str, Rule] = {
    "/pba.v1.PredictionService/PushSamples": _WRITES,
    "/pba.v1.PredictionService/StreamSamples": _WRITES,
    "/pba.v1.PredictionService/ReportOutcome": _WRITES,
    "/pba.v1.PredictionService/Predict": _READS,
    "/pba.v1.PredictionService/BatchPredict": _READS,
    "/pba.v1.PredictionService/GetOptimalParameters": _READS,
    "/pba.v1.PredictionService/EstimateTransfer": _READS,
    "/pba.v1.PredictionService/GetOutcomes": _READS,
    "/pba.v1.PredictionService/GetHistory": _READS,
    "/pba.v1.PredictionService/GetLedger": _READS,
    "/pba.v1.PredictionService/GetLink": _READS,
    "/pba.v1.PredictionService/ExplainPrediction": _READS,
    "/pba.v1.PredictionService/StreamPredictions": _LISTS,
    "/pba.v1.PredictionService/ListLinks": _LISTS,
    "/pba.v1.ModelService/ListModels": _KNOWN,
    "/pba.v1.ModelService/GetModel": _ADMIN,
    # pins name links, which not everybody may know of
    "/pba.v1.ModelService/GetModelState": _ADMIN,
    "/pba.v1.ModelService/ActivateModel": _ADMIN,
    "/pba.v1.ModelService/RollbackModel": _ADMIN,
    "/pba.v1.ModelService/PinModel": _ADMIN,
    "/pba.v1.ModelService/UnpinModel": _ADMIN,
    "/pba.v1.ModelService/ListReplicas": _ADMIN,
    "/pba.v1.ModelService/ListExperiments": _ADMIN,
    "/pba.v1.ModelService/GetExperiment": _ADMIN,
    "/pba.v1.ModelService/StartExperiment": _ADMIN,
    "/pba.v1.ModelService/StopExperiment": _ADMIN,
    "/pba.v1.ModelService/GetRetraining": _ADMIN,
    "/pba.v1.ModelService/StartRetraining": _ADMIN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _KNOWN,
    # health says of names that are public whether they serve; probes have no identity
    "/grpc.health.v1.Health/Check": _ANYONE,
    "/grpc.health.v1.Health/List": _ANYONE,
    "/grpc.health.v1.Health/Watch": _ANYONE,
}


def rule_of(method: str) -> Rule:
    """The row of a call by its path, such as /pba.v1.PredictionService/Predict."""
    return TABLE.get(method, UNLISTED)
