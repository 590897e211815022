"""Between the depot and the service: delivers samples, asks for parameters, waits when the service is away."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from pba_client.agent.measurement import Source
from pba_client.errors import DeadlineExceededError, PbaClientError
from pba_client.options import Backoff
from pba_client.resume import Retry
from pba_client.types import RefusalReason, Sample, ValueSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pba_client.advice import Parameters
    from pba_client.agent.clock import Clock
    from pba_client.agent.config import AgentConfig, LinkConfig
    from pba_client.agent.depot import Depot
    from pba_client.agent.guide import Guide
    from pba_client.agent.ring import Waiting
    from pba_client.client import Client
    from pba_client.types import PushResult

log = logging.getLogger(__name__)

BATCH = 500
"""Samples of one request."""

ANSWER_S = 30.0
BACKOFF = Backoff(initial_s=1.0, maximum_s=60.0)
_CLOCK_SET_MS = 1000
_PAUSE_S = (0.05, 0.3)
"""Between the batches of a backlog: a service that has just come back has others to hear, too."""

_WAYS = {
    Source.ABSENT: ValueSource.UNSPECIFIED,
    Source.TCP: ValueSource.TRANSPORT,
    Source.PROBE: ValueSource.PROBE,
    Source.PROBE_TWO_WAY: ValueSource.PROBE_TWO_WAY,
    Source.TRAIN: ValueSource.PACKET_TRAIN,
}
"""How a value was obtained, as the contract says it."""


class Service(Protocol):
    """What the courier wants of the service."""

    def push(self, samples: Sequence[Sample]) -> PushResult:
        """Stores samples and says what became of each. Raises `PbaClientError`."""
        ...

    def parameters(self, link: LinkConfig, guide: Guide) -> Parameters:
        """How to send over a link. Raises `PbaClientError`."""
        ...


class ClientService:
    """The service through a client."""

    def __init__(self, client: Client) -> None:
        """Uses a client, which stays the caller's."""
        self._client = client

    def push(self, samples: Sequence[Sample]) -> PushResult:
        """Stores samples over the push stream, whose acknowledgements name each sample that was refused."""
        try:
            with self._client.stream() as stream:
                acknowledged = stream.push(samples)
                stream.flush(ANSWER_S)
                return acknowledged.result(0)
        except TimeoutError:
            raise DeadlineExceededError(f"no acknowledgement in {ANSWER_S:g} s", code="DEADLINE_EXCEEDED") from None

    def parameters(self, link: LinkConfig, guide: Guide) -> Parameters:
        """How to send over a link, what is in force and how it was measured being said."""
        present, newest = guide.in_force(link.link), guide.newest(link.link)
        return self._client.parameters(
            link.link,
            current_streams=present.streams if present else None,
            current_buffer_bytes=present.buffer_bytes if present else None,
            current_pacing_mbps=present.pacing_mbps if present else None,
            congestion_control=link.congestion_control,
            max_streams=link.max_streams,
            max_buffer_bytes=link.max_buffer_bytes,
            bandwidth_kind=link.bandwidth_kind,
            loss_probes=newest.loss.trials if newest and newest.loss else None,
            base_latency_ms=newest.base_latency_ms if newest else None,
        )


@dataclass(slots=True)
class CourierCounts:
    """What became of samples since the start, and how often the service failed."""

    delivered: int = 0
    duplicates: int = 0
    failures: int = 0
    restamped: int = 0


class Courier:
    """Does what is due, and says when to come again. One thread may use it."""

    def __init__(
        self,
        config: AgentConfig,
        depot: Depot,
        guide: Guide,
        *,
        service: Service,
        clock: Clock,
        retry: Retry | None = None,
    ) -> None:
        """Does nothing yet.

        Args:
            config: The links.
            depot: Where samples wait.
            guide: Keeps the parameters.
            service: The service.
            clock: The clocks.
            retry: When to try again.
        """
        self._config, self._depot, self._guide = config, depot, guide
        self._service, self._clock = service, clock
        self._retry = retry or Retry(BACKOFF)
        self._not_before_s = 0.0
        self._asks_due = False
        self._away = False
        self._holding = False
        self.counts = CourierCounts()

    @property
    def away(self) -> bool:
        """Whether the service was away at the last attempt."""
        return self._away

    def measured(self) -> None:
        """A new interval has been measured: parameters are due."""
        self._asks_due = True

    def work(self) -> float:
        """Does what is due now; returns the seconds after which more may be."""
        now_s = self._clock.monotonic()
        self._guide.pass_time(now_s)
        if now_s >= self._not_before_s:
            try:
                self._deliver()
                if self._asks_due:
                    self._ask()
                    self._asks_due = False
                self._succeeded()
            except PbaClientError as error:
                self._failed(error)
        now_s = self._clock.monotonic()
        wait_s = self._guide.next_s() - now_s
        if self._backlog or self._asks_due:
            wait_s = min(wait_s, self._not_before_s - now_s)
        return max(wait_s, 0.0)

    @property
    def _backlog(self) -> bool:
        return self._depot.waiting > 0

    def _deliver(self) -> None:
        """Delivers one batch of what waits."""
        batch = self._depot.oldest(BATCH)
        if not batch:
            self._depot.skip_unreadable()
            return
        result = self._service.push([self._sample(one) for one in batch])
        self.counts.delivered += result.stored + result.replaced
        self.counts.duplicates += result.duplicates
        refused: list[Waiting] = []
        held: Waiting | None = None
        for refusal in result.refusals:
            one = batch[refusal.index]
            if refusal.reason is RefusalReason.IN_THE_FUTURE and self._may_still_come(one):
                held = held or one
            else:
                refused.append(one)
                log.error(
                    "the service refused a sample for good",
                    extra={"link": one.measurement.link_id, "field": refusal.field, "why": refusal.description},
                )
        handled = batch if held is None else batch[: batch.index(held)]
        self._depot.finish(handled, sum(one in handled for one in refused))
        stuck = held is not None and not self._moved_ms(held)
        if stuck and not self._holding:
            log.error("the service says that samples are of the future: is this node's clock right? they wait")
        self._holding = stuck
        if self._backlog:
            low_s, high_s = (self._config.interval_s / 2, self._config.interval_s) if stuck else _PAUSE_S
            # spreads nodes, no secret
            self._not_before_s = self._clock.monotonic() + random.uniform(low_s, high_s)  # noqa: S311

    def _may_still_come(self, one: Waiting) -> bool:
        """Whether a sample from the future can be put right: now, by the clock that was set since, or when it is.

        It was refused, so it is not stored under the time that it has now: another time makes no second sample of it.
        """
        if one.moment.boot != self._clock.moment().boot:
            return False
        if moved_ms := self._moved_ms(one):
            self._depot.restamp(one, one.measurement.measured_at_ms + moved_ms)
            self.counts.restamped += 1
        return True

    def _moved_ms(self, one: Waiting) -> int:
        """By how much the wall clock was set since a sample was measured."""
        moved_ms = self._clock.moment().offset_ms - one.moment.offset_ms
        return moved_ms if abs(moved_ms) >= _CLOCK_SET_MS else 0

    def _sample(self, waiting: Waiting) -> Sample:
        one = waiting.measurement
        bandwidth, latency, loss, jitter = one.sources
        known = next((link for link in self._config.links if link.link == one.link_id), None)
        return Sample(
            one.link_id,
            datetime.fromtimestamp(one.measured_at_ms // 1000, UTC).replace(
                microsecond=one.measured_at_ms % 1000 * 1000
            ),
            bandwidth_mbps=one.bandwidth_mbps,
            latency_ms=one.latency_ms,
            packet_loss_ratio=one.packet_loss_ratio,
            jitter_ms=one.jitter_ms,
            node=self._config.node,
            peer=known.peer if known else "",
            region=known.region if known else "",
            sources=(_WAYS[bandwidth], _WAYS[latency], _WAYS[loss], _WAYS[jitter]),
        )

    def _ask(self) -> None:
        for link in self._config.links:
            said = self._service.parameters(link, self._guide)
            wall = datetime.fromtimestamp(self._clock.wall(), UTC)
            self._guide.advised(link.link, said, wall, self._clock.monotonic())

    def _succeeded(self) -> None:
        self._retry.succeeded()
        if self._away:
            self._away = False
            log.info("the service is back", extra={"waiting": self._depot.waiting})

    def _failed(self, error: PbaClientError) -> None:
        self.counts.failures += 1
        delay_s = self._retry.delay_s(error)
        self._not_before_s = self._clock.monotonic() + delay_s
        if not self._away:
            self._away = True
            log.warning(
                "the service is away; samples wait", extra={"code": error.code, "error": error.message, "in_s": delay_s}
            )
