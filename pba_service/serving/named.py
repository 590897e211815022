"""The links that a request names, before anything else is read of it. A test fails for a method without an entry."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from pba_service.domain.samples import MAX_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST = 10_001
"""A request that names more is refused for that, whatever they are."""

_PREDICTION = "/pba.v1.PredictionService/"
_PUSHES = frozenset({_PREDICTION + "PushSamples", _PREDICTION + "StreamSamples"})


def _one(request: Any) -> Iterable[str]:
    return (request.link_id,)


def _many(request: Any) -> Iterable[str]:
    return islice(request.link_ids, MOST)


def _pushed(request: Any) -> Iterable[str]:
    yield from {row.link_id for row in islice(request.samples, MOST)}
    for link in islice(request.columns.links, MOST):
        yield link.link_id


NAMED: dict[str, Callable[[Any], Iterable[str]]] = {
    **dict.fromkeys(_PUSHES, _pushed),
    **dict.fromkeys(
        (
            _PREDICTION + name
            for name in (
                "Predict",
                "GetOptimalParameters",
                "GetOutcomes",
                "GetHistory",
                "GetLedger",
                "GetLink",
                "ExplainPrediction",
            )
        ),
        _one,
    ),
    _PREDICTION + "BatchPredict": _many,
    _PREDICTION + "EstimateTransfer": _many,
    _PREDICTION + "ReportOutcome": lambda request: (request.outcome.link_id,),
    _PREDICTION + "StreamPredictions": lambda request: islice(request.selector.link_ids, MOST),
    _PREDICTION + "ListLinks": lambda _: (),
}
"""By method; each gives the ids as they came, which may be no ids at all."""


def named_links(method: str, request: Any) -> list[str]:
    """The links that a request names."""
    return list(NAMED[method](request))


def is_push(method: str) -> bool:
    """Whether a method's requests hold samples."""
    return method in _PUSHES


def pushed_nodes(request: Any) -> set[str]:
    """What a batch says of the nodes of its links."""
    nodes = {row.node for row in islice(request.samples, MOST)}
    return nodes.union(link.node for link in islice(request.columns.links, MOST))


def pushed_regions(request: Any) -> set[str]:
    """What a batch says of the regions of its links; texts that are too long will be refused for that."""
    regions = {row.region for row in islice(request.samples, MOST)}
    regions |= {link.region for link in islice(request.columns.links, MOST)}
    return {region for region in regions if len(region) <= MAX_TEXT_BYTES}


def pushed_samples(request: Any) -> int:
    """How many samples a batch has."""
    return len(request.samples) + len(request.columns.measured_at_ms)
