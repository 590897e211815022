"""The other end of the probes: answers those who hold the key, and nobody else.

Everyone else hears nothing, not even an error. A reply is never longer than what it answers; each source has its own
rate; a packet that was seen before is not answered again.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pba_client.agent import sockets, stamp, train
from pba_client.agent.budget import ReplayWindow, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from pba_client.agent.config import ReflectorConfig

MOST_SESSIONS = 4096
MOST_TRAINS = 64
_IP_UDP_BYTES = {socket.AF_INET: 28, socket.AF_INET6: 48}
_WAIT_S = 1.0
_AT_ONCE = 64


@dataclass(slots=True)
class _Session:
    """What is known of a sender's session."""

    window: ReplayWindow = field(default_factory=ReplayWindow)
    sequence: int = 0


@dataclass(slots=True)
class _Train:
    """A train as far as it has arrived."""

    packet_bytes: int
    arrived_ns: list[int] = field(default_factory=list)
    seen: int = 0


@dataclass(slots=True)
class ReflectorCounts:
    """What became of packets: answered, cars of trains taken, and why others were not."""

    answered: int = 0
    cars: int = 0
    strangers: int = 0
    limited: int = 0
    replayed: int = 0


class Reflector:
    """Answers probes on one UDP socket."""

    def __init__(self, config: ReflectorConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Opens the socket.

        Args:
            config: Where to listen, whom to answer, and how much.
            monotonic: Seconds.

        Raises:
            OSError: The address cannot be used.
        """
        address = ipaddress.ip_address(config.host)
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IP's versions
        self._config = config
        self._monotonic = monotonic
        self._overhead = _IP_UDP_BYTES[family]
        self._allowed = [ipaddress.ip_network(one, strict=False) for one in config.allow]
        self._sessions: OrderedDict[tuple[str, int, int], _Session] = OrderedDict()
        self._trains: OrderedDict[tuple[str, int, int, int], _Train] = OrderedDict()
        self._rates: OrderedDict[str, TokenBucket] = OrderedDict()
        self.counts = ReflectorCounts()
        self._udp = sockets.open_udp(family)
        try:
            self._udp.bind((config.host, config.port))
        except OSError:
            self._udp.close()
            raise

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._udp.getsockname()[1])

    def close(self) -> None:
        """Closes the socket."""
        self._udp.close()

    def run(self, stopped: Callable[[], bool]) -> None:
        """Answers until told to stop, which it looks at every second."""
        junk_before, second = 0, self._monotonic()
        while not stopped():
            if not sockets.wait_readable(self._udp, _WAIT_S):
                continue
            for _ in range(_AT_ONCE):
                if not self.answer_one():
                    break
            if self._monotonic() - second >= 1:
                junk_before, second = self._unwanted, self._monotonic()
            elif self._unwanted - junk_before > self._config.most_unwanted_per_s:
                # a flood: the kernel drops the rest of this second's packets cheaper than we could
                time.sleep(max(0.0, second + 1 - self._monotonic()))

    @property
    def _unwanted(self) -> int:
        return self.counts.strangers + self.counts.limited + self.counts.replayed

    def answer_one(self) -> bool:
        """Deals with the next packet; False when none waits."""
        try:
            packet = sockets.receive(self._udp)
        except OSError:
            return True  # an ICMP error about a reply of ours; the next packet is as good as any
        if packet is None:
            return False
        if not self._is_allowed(packet.source[0]):
            self.counts.strangers += 1
        elif packet.data.startswith(train.MAGIC):
            self._take_car(packet)
        else:
            self._reflect(packet)
        return True

    def _is_allowed(self, host: str) -> bool:
        if not self._allowed:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # on :: an IPv4 source is told so
        return any(address in network for network in self._allowed)

    def _reflect(self, packet: sockets.Packet) -> None:
        key = self._config.key
        probe = stamp.parse_probe(packet.data, key)
        if probe is None:
            self.counts.strangers += 1
            return
        if not self._within_rate(packet.source[0]):
            self.counts.limited += 1
            return
        session = self._session((packet.source[0], packet.source[1], probe.session))
        if not session.window.accept(probe.sequence):
            self.counts.replayed += 1
            return
        reply = stamp.Reply(session.sequence, packet.real_ns, time.time_ns(), probe.sequence, probe.session)
        session.sequence += 1
        self._send(stamp.pack_reply(reply, packet.data, packet.ttl, key), packet)
        self.counts.answered += 1

    def _send(self, answer: bytes, packet: sockets.Packet) -> None:
        try:
            self._udp.sendto(answer, packet.source)
        except OSError:
            self.counts.limited += 1  # as if the network had lost it

    def _within_rate(self, host: str) -> bool:
        now_s = self._monotonic()
        bucket = self._rates.get(host)
        if bucket is None:
            bucket = TokenBucket(self._config.packets_per_s, self._config.packets_per_s, now_s)
            self._rates[host] = bucket
            if len(self._rates) > MOST_SESSIONS:
                self._rates.popitem(last=False)
        return bucket.take(now_s)

    def _session(self, name: tuple[str, int, int]) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session()
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(name)
        return session

    def _take_car(self, packet: sockets.Packet) -> None:
        """A packet of a train is noted; a question about one is answered, shorter than any packet of the train."""
        car = train.parse(packet.data, self._config.key)
        if car is None:
            self.counts.strangers += 1
            return
        name = (packet.source[0], packet.source[1], car.session, car.train)
        found = self._trains.get(name)
        if car.kind is train.Kind.ASK:
            if not self._within_rate(packet.source[0]):
                self.counts.limited += 1
                return
            self._send(train.pack_report(_report(car, found), self._config.key), packet)
            self.counts.answered += 1
            return
        self.counts.cars += 1
        if found is None:
            found = self._trains[name] = _Train(len(packet.data) + self._overhead)
            if len(self._trains) > MOST_TRAINS:
                self._trains.popitem(last=False)
        if found.seen >> car.index & 1 or len(packet.data) + self._overhead != found.packet_bytes:
            self.counts.replayed += 1
            return
        found.seen |= 1 << car.index
        found.arrived_ns.append(packet.real_ns)


def _report(car: train.Car, found: _Train | None) -> train.Report:
    if found is None:
        return train.Report(car.session, car.train, 0, 0, 0)
    return train.report(car.session, car.train, found.arrived_ns, found.packet_bytes)
