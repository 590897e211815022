"""Available bandwidth from packet trains.

Three short bursts arrive as fast as the narrowest link lets them: its capacity C. A longer train, sent at a rate of r
above C, then shares the link with whatever else is on it: it arrives at `r C / (r + x)` where the rest of the
traffic takes x, so `x = r (C / arrived - 1)`, and what is available is C - x (fluid model of a first-in-first-out link;
Melander, Björkman, Gunningberg: "A new end-to-end probing and analysis method for estimating bandwidth bottlenecks",
GLOBECOM 2000). The transport's own traffic is not the rest's, and is given back.
"""

from __future__ import annotations

import math
import socket
import time
from typing import TYPE_CHECKING

from pba_client.agent import sockets, train
from pba_client.agent.tally import median

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pba_client.agent.budget import HourBudget
    from pba_client.agent.config import LinkConfig

BURSTS = 3
BURST_PACKETS = 40
"""Packets of a burst: 57 KiB, which fits most queues; what does not is dropped, and the rest still tells the rate."""

LEAST_PACKETS = 16
LEAST_ARRIVED = 8
_OVER_CAPACITY = 1.25
_GROUP_S = 0.0005
"""Packets that would leave within this time leave together."""

_WAKE_S = 0.00012
"""How late a sleep usually wakes; the rest of a wait is spent awake. Who leaves late does not make the next late."""

_ASKS = 3
_LEAST_WAIT_S = 0.05
_MOST_WAIT_S = 1.0
_IP_UDP_BYTES = {socket.AF_INET: 28, socket.AF_INET6: 48}


def available_mbps(capacity_mbps: float, sent_mbps: float, arrived_mbps: float, own_mbps: float = 0.0) -> float:
    """What is available to the transport.

    Args:
        capacity_mbps: Of the link, from bursts.
        sent_mbps: The rate at which a train was sent.
        arrived_mbps: The rate at which it arrived.
        own_mbps: What the transport carries; it may have made way for the train, so the capacity bounds the sum.
    """
    capacity_mbps = max(capacity_mbps, arrived_mbps)
    others_mbps = max(sent_mbps * (capacity_mbps / arrived_mbps - 1), 0.0)
    return min(max(capacity_mbps - others_mbps, 0.0) + own_mbps, capacity_mbps)


class TrainMeter:
    """Sends one link's trains, within its bytes per hour."""

    def __init__(self, link: LinkConfig, session: int, udp: socket.socket, budget: HourBudget, per_hour: float) -> None:
        """Sends nothing yet.

        Args:
            link: The link.
            session: Its session with the reflector.
            udp: Connected to the reflector.
            budget: Of this link.
            per_hour: How often an hour `measure` will be run.
        """
        self._link = link
        self._session = session
        self._udp = udp
        self._budget = budget
        self._packet_bytes = link.train.packet_bytes + _IP_UDP_BYTES[link.family]
        self._share_bytes = link.train.bytes_per_hour / per_hour
        self._number = 0
        self._report: train.Report | None = None
        self._answer_mbps: float | None = None

    def take(self) -> float | None:
        """The newest answer, once; None where there is none since."""
        answer, self._answer_mbps = self._answer_mbps, None
        return answer

    def reported(self, packet: bytes) -> bool:
        """Takes a report; False for what is none, or not about the newest train."""
        report = train.parse_report(packet, self._link.key)
        if report is None or (report.session, report.train) != (self._session, self._number):
            return False
        self._report = report
        return True

    def measure(self, round_trip_s: float, own_mbps: float, read: Callable[[], None]) -> Generator[float, None, None]:
        """Measures once; yields waits. The answer, if there is one, is `take`n afterwards.

        Args:
            round_trip_s: Of the link, to know when to ask.
            own_mbps: What the transport carries meanwhile.
            read: Takes what has come for this link; reports among it are to be given to `reported`.

        Raises:
            OSError: The network is down, or nobody listens.
        """
        wait_s = min(max(1.5 * round_trip_s, _LEAST_WAIT_S), _MOST_WAIT_S)
        rates: list[float] = []
        for _ in range(BURSTS):
            count = min(BURST_PACKETS, int(self._share_bytes / (2 * BURSTS) / self._packet_bytes))
            if count < LEAST_PACKETS or not self._pay(count):
                return
            sockets.send_together(self._udp, self._cars(count))
            yield from self._ask(wait_s, read)
            if self._report is None:
                return
            if self._report.received >= LEAST_ARRIVED and (rate := self._report.rate_mbps):
                rates.append(rate)
        capacity = median(rates)
        if capacity is None:
            return
        count = self._packets_for(capacity)
        if not self._pay(count):
            return
        sent_mbps = self._send_paced(count, _OVER_CAPACITY * capacity)
        yield from self._ask(wait_s, read)
        arrived = self._report.rate_mbps if self._report and self._report.received >= LEAST_ARRIVED else None
        if arrived is not None:
            self._answer_mbps = available_mbps(capacity, sent_mbps, arrived, own_mbps)

    def _packets_for(self, mbps: float) -> int:
        """Packets that take the configured time at a rate, within half of the share of one measurement."""
        wanted = math.ceil(mbps * 1e6 / 8 * self._link.train.seconds / self._packet_bytes)
        most = min(self._link.train.most_packets, int(self._share_bytes / 2 / self._packet_bytes))
        return max(min(wanted, most), LEAST_PACKETS)

    def _pay(self, count: int) -> bool:
        return self._budget.spend(count * self._packet_bytes, time.monotonic())

    def _cars(self, count: int) -> list[bytes]:
        self._number += 1
        self._report = None
        length = self._link.train.packet_bytes
        make = train.Car
        return [
            train.pack(make(train.Kind.CAR, self._session, self._number, i, count), length, self._link.key)
            for i in range(count)
        ]

    def _send_paced(self, count: int, mbps: float) -> float:
        """Sends a train at a rate, and returns the rate that came of it."""
        cars = self._cars(count)
        bits = self._packet_bytes * 8
        group = max(1, math.ceil(_GROUP_S * mbps * 1e6 / bits))
        step_s = group * bits / (mbps * 1e6)
        begin_s = last_s = time.monotonic()
        for number, start in enumerate(range(0, count, group)):
            due_s = begin_s + number * step_s
            while (left_s := due_s - time.monotonic()) > 0:
                if left_s > 2 * _WAKE_S:
                    time.sleep(left_s - _WAKE_S)
            last_s = time.monotonic()
            sockets.send_together(self._udp, cars[start : start + group])
        before_last = (math.ceil(count / group) - 1) * group
        span_s = last_s - begin_s
        return before_last * bits / span_s / 1e6 if span_s > 0 else mbps

    def _ask(self, wait_s: float, read: Callable[[], None]) -> Generator[float, None, None]:
        """Asks how the newest train arrived until a report comes, or three times."""
        question = train.Car(train.Kind.ASK, self._session, self._number, 0, 0)
        yield wait_s / 3
        for _ in range(_ASKS):
            self._udp.send(train.pack(question, train.ASK_BYTES, self._link.key))
            yield wait_s
            read()
            if self._report is not None:
                return
            wait_s = min(2 * wait_s, _MOST_WAIT_S)
