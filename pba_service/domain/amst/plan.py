"""When to change over: the parameters for a link as it is and as it is expected, against what a node has now.

Streams are opened ahead of what is coming: the set must do for the present and for every point of the path within the
product's horizon. A pace is the largest that any of them calls for, so none is in force that the upper quantile has
outgrown; it falls only once even that is below, and it lapses when the next samples do not come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pba_service.domain.amst import tcp
from pba_service.domain.amst.optimizer import Advice, optimize, pace_of, sized
from pba_service.domain.parameters import Limits, ParameterReason, TransportParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_service.domain.amst.conditions import Conditions
    from pba_service.domain.parameters import ParametersAsk, TransportBounds

WORTH_RATIO = 0.03
"""Expected goodput to be gained before streams are opened or closed for it."""

WORTH_LOSS_RATIO = 0.015
"""Self-caused loss to be spared before streams are closed for it."""

MOST_STREAMS_OVER = 2.0
"""Present streams over the best number beyond which they are closed though nothing else speaks against them."""

PACE_RISE_RATIO = 0.02
PACE_FALL_RATIO = 0.05
"""A pace is raised sooner than lowered: a stale low one costs goodput one for one, a high one costs a queue."""

AHEAD_MS = 60_000
"""How long before a foreseen change to change over."""

PACE_STEPS = 2
"""Steps of a link's cadence for which a pace outlives the sample it rests on."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a link is expected to be at a time."""

    at_ms: int
    link: Conditions


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a link over time.

    Attributes:
        now_ms: The time of the answer.
        made_at_ms: When the newest sample was measured.
        step_ms: The link's cadence.
        until_ms: How far the plan is to last.
        present: The link as measured.
        path: As expected, ascending in time; points beyond `until_ms` are not looked at.
    """

    now_ms: int
    made_at_ms: int
    step_ms: int
    until_ms: int
    present: Conditions
    path: Sequence[Point] = ()

    @property
    def points(self) -> list[Point]:
        """The present, then what is ahead within the plan's time."""
        ahead = [point for point in self.path if self.now_ms < point.at_ms <= self.until_ms]
        return [Point(self.now_ms, self.present), *ahead]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change to, when, and what it is worth.

    Attributes:
        parameters: The recommended set.
        reasons: Why it is so, most important first.
        apply_at_ms: When to change over.
        valid_until_ms: Until when to use it.
        should_adjust: Whether changing over is worth it.
        current: The caller's present set, where it said so.
        expected_mbps: Goodput with the recommended set, on average over the plan's time.
        current_expected_mbps: Goodput with the present one.
    """

    parameters: TransportParameters
    reasons: tuple[ParameterReason, ...]
    apply_at_ms: int
    valid_until_ms: int
    should_adjust: bool
    current: TransportParameters | None
    expected_mbps: float
    current_expected_mbps: float | None


def plan(outlook: Outlook, ask: ParametersAsk, bounds: TransportBounds, *, correction: float = 1.0) -> Plan:
    """Plans for a link.

    Args:
        outlook: What is known of it over time.
        ask: What the caller says of itself, its present streams, buffer and pace among it.
        bounds: What the service recommends at least and at most.
        correction: Streams over what the model says, as outcomes taught it.
    """
    points = outlook.points
    advices = [optimize(point.link, ask, bounds, correction=correction) for point in points]
    best = max(advices, key=lambda advice: advice.parameters.streams)
    reasons = list(best.reasons)
    if best.parameters.streams > advices[0].parameters.streams:
        reasons.insert(0, ParameterReason.AHEAD)
    wanted = _covering(points, advices, best, ask, bounds)
    current = current_set(ask, wanted)
    kept = current is not None and _may_stay(points, current, wanted, ask, bounds)
    if kept and current is not None:
        reasons = [ParameterReason.HYSTERESIS, *(r for r in reasons if r is not ParameterReason.AHEAD)]
        wanted = _with_streams(points, current.streams, wanted, ask, bounds)
    if outlook.made_at_ms + PACE_STEPS * outlook.step_ms <= outlook.now_ms:
        wanted = replace(wanted, pacing_mbps=None)
    valid_until = outlook.until_ms
    if wanted.pacing_mbps is not None:
        valid_until = min(valid_until, outlook.made_at_ms + PACE_STEPS * outlook.step_ms)
    else:
        reasons = [reason for reason in reasons if reason is not ParameterReason.PACED]
    repace = pace_matters(ask.current_pacing_mbps, wanted.pacing_mbps)
    return Plan(
        parameters=wanted,
        reasons=tuple(reasons),
        apply_at_ms=outlook.now_ms if kept or repace or current is None else _when(outlook, current, wanted, ask),
        valid_until_ms=max(valid_until, outlook.now_ms),
        should_adjust=not kept or repace,
        current=current,
        expected_mbps=expected_mbps(points, wanted, ask),
        current_expected_mbps=None if current is None else expected_mbps(points, current, ask),
    )


def expected_mbps(points: Sequence[Point], parameters: TransportParameters, ask: ParametersAsk) -> float:
    """Goodput of a set on average over some points, by the model of `tcp`."""
    return sum(_goodput(point.link, parameters, ask) for point in points) / len(points)


def _goodput(link: Conditions, parameters: TransportParameters, ask: ParametersAsk) -> float:
    return tcp.goodput_mbps(
        ask.congestion_control,
        bandwidth_mbps=link.bandwidth_mbps,
        rtt_s=link.latency_ms / 1e3,
        loss_ratio=link.loss_ratio,
        streams=parameters.streams,
        buffer_bytes=parameters.buffer_bytes,
        pacing_mbps=parameters.pacing_mbps,
    )


def _own_loss(link: Conditions, parameters: TransportParameters, ask: ParametersAsk) -> float:
    if parameters.pacing_mbps is not None and parameters.pacing_mbps <= tcp.PAYLOAD_SHARE * link.bandwidth_mbps:
        return 0.0
    return tcp.own_loss_ratio(
        ask.congestion_control,
        bandwidth_mbps=link.bandwidth_mbps,
        rtt_s=link.full_rtt_s,
        loss_ratio=link.loss_ratio,
        streams=parameters.streams,
    )


def _covering(
    points: Sequence[Point], advices: Sequence[Advice], best: Advice, ask: ParametersAsk, bounds: TransportBounds
) -> TransportParameters:
    """The most streams, with the window and the pace that every point is content with."""
    streams, limits = best.parameters.streams, Limits.of(ask, bounds)
    window = max(advice.parameters.window_bytes for advice in advices)
    buffer_bytes = limits.buffer_bytes(max(window / streams, best.parameters.buffer_bytes), streams)
    return sized(streams, buffer_bytes, _common_pace(points, ask, streams))


def _common_pace(points: Sequence[Point], ask: ParametersAsk, streams: int) -> float | None:
    """The largest pace of all points; None where one of them wants none."""
    paces = [pace_of(point.link, ask, streams) for point in points]
    known = [pace for pace in paces if pace is not None]
    return max(known) if len(known) == len(paces) else None


def _with_streams(
    points: Sequence[Point], streams: int, wanted: TransportParameters, ask: ParametersAsk, bounds: TransportBounds
) -> TransportParameters:
    """The wanted set with another number of streams that share its window."""
    limits = Limits.of(ask, bounds)
    buffer_bytes = limits.buffer_bytes(max(wanted.window_bytes / streams, wanted.buffer_bytes), streams)
    return sized(streams, buffer_bytes, _common_pace(points, ask, streams))


def current_set(ask: ParametersAsk, wanted: TransportParameters) -> TransportParameters | None:
    """What the caller has now; None where it said nothing of its streams."""
    if not ask.current_streams:
        return None
    # a buffer that was not said is one that the kernel tunes: large enough
    buffer_bytes = ask.current_buffer_bytes or max(wanted.buffer_bytes, wanted.window_bytes // ask.current_streams)
    return sized(ask.current_streams, buffer_bytes, ask.current_pacing_mbps)


def _may_stay(
    points: Sequence[Point],
    current: TransportParameters,
    wanted: TransportParameters,
    ask: ParametersAsk,
    bounds: TransportBounds,
) -> bool:
    """Whether the present streams and buffers do as well as the wanted ones, at every point."""
    limits = Limits.of(ask, bounds)
    if ask.over_budget or not limits.min_streams <= current.streams <= limits.max_streams:
        return False
    if current.streams > MOST_STREAMS_OVER * wanted.streams:
        return False
    for point in points:
        mine, best = (_goodput(_at_worst(point.link), replace(one, pacing_mbps=None), ask) for one in (current, wanted))
        spared = _own_loss(point.link, current, ask) - _own_loss(point.link, wanted, ask)
        if mine < (1 - WORTH_RATIO) * best or (current.streams > wanted.streams and spared > WORTH_LOSS_RATIO):
            return False
    return True


def _at_worst(link: Conditions) -> Conditions:
    """The link with the loss, delay and bandwidth that must be reckoned with: what streams are opened for."""
    return replace(
        link,
        bandwidth_mbps=link.bandwidth_upper_mbps,
        latency_ms=link.latency_upper_ms,
        loss_ratio=link.loss_upper_ratio,
    )


def pace_matters(current: float | None, wanted: float | None) -> bool:
    """Whether a pace in force must go or change; who said of none has none."""
    if current is None:
        return False
    if wanted is None:
        return True
    return wanted > (1 + PACE_RISE_RATIO) * current or wanted < (1 - PACE_FALL_RATIO) * current


def _when(outlook: Outlook, current: TransportParameters, wanted: TransportParameters, ask: ParametersAsk) -> int:
    """Shortly before the first point at which the present set falls short; more streams than needed can go at once."""
    for point in outlook.points:
        mine, best = (_goodput(_at_worst(point.link), replace(one, pacing_mbps=None), ask) for one in (current, wanted))
        if mine < (1 - WORTH_RATIO) * best:
            return max(outlook.now_ms, point.at_ms - AHEAD_MS)
    return outlook.now_ms
