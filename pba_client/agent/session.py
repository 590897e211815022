"""One sender's session with a reflector: what was sent, what came back, and what an interval says."""

from __future__ import annotations

from dataclasses import dataclass, field

from pba_client.agent import stamp
from pba_client.agent.tally import Share, mean, median, share

LEAST_PROBES = 10
"""Probes whose fate is known, below which an interval says nothing."""

LEAST_PAIRS = 8
"""Pairs of probes, below which it says nothing of jitter."""

_BLOCKS = 12
_MOST_DOUBT_NS = 200_000
"""A probe whose sending took longer was held up in this machine: when it left is not known well enough to time it."""

_MS = 1e6


@dataclass(frozen=True, slots=True)
class ProbeStats:
    """What the probes of an interval say; None where they say nothing.

    Attributes:
        sent: Probes whose fate became known.
        answered: Those that were answered.
        latency_ms: Median round trip, without the reflector's own time.
        least_ms: The shortest round trip.
        jitter_ms: Mean difference of the transit times of neighbours on the way there (RFC 3550, section 6.4.1).
        loss: Share lost; of the way there alone where the reflector's counters tell.
        one_way: Whether `loss` is of the way there alone.
        refused: Whether the peer said that nobody listens.
    """

    sent: int
    answered: int
    latency_ms: float | None
    least_ms: float | None
    jitter_ms: float | None
    loss: Share | None
    one_way: bool
    refused: bool


@dataclass(slots=True)
class _Interval:
    round_trips_ns: list[int] = field(default_factory=list)
    differences_ns: list[int] = field(default_factory=list)
    fates: list[tuple[int, bool]] = field(default_factory=list)
    refused: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """The newest answered probe: both sides' sequence numbers, and when it was sent and received."""

    probe: int
    reflector: int
    sent_ns: int
    received_ns: int
    round_trip_ns: int


class Session:
    """Probes of one link. Times come from outside, so that nothing here waits."""

    def __init__(self, session: int, key: bytes | None, timeout_ns: int) -> None:
        """Begins with nothing sent.

        Args:
            session: Identifies it to the reflector, 0 to 65,535; a new one after a restart.
            key: Signs the probes.
            timeout_ns: After this a probe without an answer is lost.
        """
        self.session = session
        self.key = key
        self._timeout_ns = timeout_ns
        self._sequence = 0
        self._doubtful: set[int] = set()
        self._sent_ns: dict[int, int] = {}
        self._last: _Answer | None = None
        self._counted: _Answer | None = None
        self._ever_answered = False
        self._nobody = False
        self._interval = _Interval()
        self.recent_round_trip_ns = 0

    def probe(self, real_ns: int, monotonic_ns: int) -> bytes:
        """The next probe, sent now."""
        packet = stamp.pack_probe(stamp.Probe(self._sequence, real_ns, self.session), self.key)
        self._sent_ns[self._sequence] = monotonic_ns
        self._sequence += 1
        return packet

    def sent(self, monotonic_ns: int) -> None:
        """The newest probe is on its way since then at the latest."""
        number = self._sequence - 1
        if monotonic_ns - self._sent_ns.get(number, monotonic_ns) > _MOST_DOUBT_NS:
            self._doubtful.add(number)

    def answered(self, packet: bytes, monotonic_ns: int) -> bool:
        """Takes a reply that arrived then; False for what is none, or none of ours, or a second one."""
        reply = stamp.parse_reply(packet, self.key)
        if reply is None or reply.session != self.session:
            return False
        sent_ns = self._sent_ns.pop(reply.probe_sequence, None)
        if sent_ns is None:
            return False
        held_ns = reply.sent_ns - reply.received_ns
        whole_ns = monotonic_ns - sent_ns
        self._interval.fates.append((reply.probe_sequence, True))
        self._ever_answered = True
        if self._nobody:
            # somebody listens again: what was sent before met nobody, whether or not the kernel said so of each
            self._sent_ns = {number: at for number, at in self._sent_ns.items() if number > reply.probe_sequence}
            self._nobody = False
        if reply.probe_sequence in self._doubtful or not 0 <= held_ns <= whole_ns:
            return True  # held up here, or the reflector's clock was set meanwhile: it came back, and that is all
        answer = _Answer(reply.probe_sequence, reply.sequence, sent_ns, reply.received_ns, whole_ns - held_ns)
        self._interval.round_trips_ns.append(answer.round_trip_ns)
        self.recent_round_trip_ns = answer.round_trip_ns
        if self._last is None or answer.probe > self._last.probe:
            self._compare(answer)
            self._last = answer
        return True

    def _compare(self, answer: _Answer) -> None:
        """The difference in transit to the answered probe before; the offset between both clocks falls out of it."""
        before = self._last
        if before is None:
            return
        if answer.reflector <= before.reflector:
            self._counted = None  # the reflector began anew: its count says nothing of what was before
        difference_ns = abs((answer.received_ns - before.received_ns) - (answer.sent_ns - before.sent_ns))
        # a way takes between nothing and the whole round trip; beyond that a clock was set
        if difference_ns <= max(answer.round_trip_ns, before.round_trip_ns):
            self._interval.differences_ns.append(difference_ns)

    def refused(self) -> None:
        """The peer says that nobody listens: probes without an answer yet say nothing of the path."""
        self._interval.refused = self._nobody = True
        self._sent_ns.clear()
        self._last = self._counted = None  # nor do counts over that time

    def take(self, monotonic_ns: int) -> ProbeStats:
        """Closes the interval; what is still under way belongs to the next one."""
        late = [number for number, sent in self._sent_ns.items() if monotonic_ns - sent > self._timeout_ns]
        for number in late:
            del self._sent_ns[number]
        self._doubtful &= self._sent_ns.keys()
        interval, self._interval = self._interval, _Interval()
        self._nobody = self._nobody and interval.refused
        if not self._nobody:
            interval.fates += [(number, False) for number in late]
        answered = sum(came for _, came in interval.fates)
        loss, one_way = self._loss(interval)
        round_trips = interval.round_trips_ns
        middle = median(round_trips) if len(round_trips) >= LEAST_PROBES else None
        enough = len(interval.differences_ns) >= LEAST_PAIRS
        jitter = mean(interval.differences_ns) if enough else None
        return ProbeStats(
            sent=len(interval.fates),
            answered=answered,
            latency_ms=None if middle is None else middle / _MS,
            least_ms=min(round_trips) / _MS if round_trips else None,
            jitter_ms=None if jitter is None else jitter / _MS,
            loss=loss,
            one_way=one_way,
            refused=interval.refused,
        )

    def _loss(self, interval: _Interval) -> tuple[Share | None, bool]:
        """Loss on the way there from both sides' counters, else of both ways."""
        begin, end = self._counted, self._last
        self._counted = end
        if interval.refused and not interval.round_trips_ns:
            return None, False
        fates = sorted(interval.fates)
        size = max(len(fates) // _BLOCKS, 1)
        parts = [fates[i : i + size] for i in range(0, len(fates), size)]
        blocks = [(len(part), float(sum(not came for _, came in part))) for part in parts]
        if begin is not None and end is not None and end.probe - begin.probe >= LEAST_PROBES:
            sent = end.probe - begin.probe
            lost = max(sent - (end.reflector - begin.reflector), 0)
            return share(min(lost, sent), sent, blocks if lost else ()), True
        # a peer that never answered may not be there at all
        if len(fates) >= LEAST_PROBES and self._ever_answered:
            return share(sum(k for _, k in blocks), len(fates), blocks), False
        return None, False
