"""Measures all links on one thread: probes, trains, snapshots of connections, and a turn in each interval."""

from __future__ import annotations

import contextlib
import errno
import logging
import random
import secrets
import time
from typing import TYPE_CHECKING

from pba_client.agent import sockets
from pba_client.agent.bandwidth import TrainMeter
from pba_client.agent.budget import HOUR_S, HourBudget
from pba_client.agent.loop import Loop
from pba_client.agent.measurement import combine
from pba_client.agent.passive import PassiveMeter
from pba_client.agent.schedule import Schedule
from pba_client.agent.session import Session
from pba_client.agent.sock_diag import SockDiag

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from pba_client.agent.config import AgentConfig, LinkConfig
    from pba_client.agent.measurement import Measurement

log = logging.getLogger(__name__)

_QUIET_S = 0.2
"""How long probes are held back before a train: what is under way shall arrive undisturbed."""

_LEAST_ROUNDS_HZ = 2.0
"""Replies lie in their sockets for 0.75 s at most: `sockets.receive` tells when they came, up to a second later."""

_AT_ONCE = 256
_NO_LISTENER = {errno.ECONNREFUSED}


class _Link:
    """One link: its socket, its session with the reflector, its meters."""

    def __init__(self, config: LinkConfig, budget: HourBudget, per_hour: float, idle_rate_hz: float) -> None:
        self.config = config
        self._idle_rate_hz = idle_rate_hz
        self.passive = PassiveMeter()
        number = secrets.randbelow(1 << 16)
        self.session = Session(number, config.key, round(config.probe.timeout_s * 1e9))
        self.udp = sockets.open_udp(config.family)
        try:
            self.udp.connect((config.address, config.probe.port))
        except OSError:
            # no route yet; it is tried again with each probe
            log.info("no route to the peer yet", extra={"link": config.link, "address": config.address})
        self.trains = TrainMeter(config, number, self.udp, budget, per_hour)
        self.quiet = False
        self.probes_sent = 0

    @property
    def probe_rate_hz(self) -> float:
        """Probes a second now: few where the transport's own connections tell the most."""
        return self.config.probe.busy_rate_hz if self.passive.busy else self._idle_rate_hz

    def send_probe(self) -> None:
        """Sends the next probe; what cannot be sent counts as refused, for it says nothing of the path."""
        try:
            if not self._connected():
                return
            self.udp.send(self.session.probe(time.time_ns(), time.monotonic_ns()))
            self.session.sent(time.monotonic_ns())
            self.probes_sent += 1
        except BlockingIOError:
            pass  # the interface's queue is full: the probe is lost, as the transport's packets are
        except OSError as error:
            if error.errno in _NO_LISTENER:
                self.session.refused()

    def _connected(self) -> bool:
        with contextlib.suppress(OSError):
            self.udp.getpeername()
            return True
        self.udp.connect((self.config.address, self.config.probe.port))
        return True

    def read(self) -> None:
        """Takes what has come."""
        for _ in range(_AT_ONCE):
            try:
                packet = sockets.receive(self.udp)
            except OSError as error:
                if error.errno in _NO_LISTENER:
                    self.session.refused()
                return
            if packet is None:
                return
            if not self.session.answered(packet.data, packet.monotonic_ns):
                self.trains.reported(packet.data)


class Measurer:
    """Measures the links of a node; what it finds goes to a callback, once an interval."""

    def __init__(
        self,
        config: AgentConfig,
        on_measured: Callable[[Sequence[Measurement]], None],
        *,
        spent: dict[str, list[tuple[float, int]]] | None = None,
    ) -> None:
        """Opens sockets.

        Args:
            config: What to measure.
            on_measured: Called on this thread with a sample of each link of which anything was measured.
            spent: Bytes that trains of each link have used lately, by the monotonic clock.

        Raises:
            OSError: The network cannot be used at all.
        """
        self._config = config
        self._on_measured = on_measured
        self._loop = Loop()
        self._remotes = frozenset(one.packed for one in config.links)
        per_hour = HOUR_S / config.interval_s
        self.budgets = {
            one.link: HourBudget(one.train.bytes_per_hour, (spent or {}).get(one.link)) for one in config.links
        }
        wanted_hz = sum(one.probe.rate_hz for one in config.links)
        part = min(1.0, config.probes_per_s / wanted_hz) if wanted_hz else 0.0
        self._links = [_Link(one, self.budgets[one.link], per_hour, part * one.probe.rate_hz) for one in config.links]
        self.missed_turns = 0
        self.passive_available = True
        try:
            self._diag: SockDiag | None = SockDiag()
        except OSError as error:
            self._without_passive(error)

    def _without_passive(self, error: OSError) -> None:
        self.passive_available, self._diag = False, None
        log.warning("the kernel does not tell of connections; probes alone measure", extra={"error": str(error)})

    @property
    def probes_sent(self) -> int:
        """Probes of all links so far."""
        return sum(one.probes_sent for one in self._links)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Measures until told to stop."""
        try:
            for link in self._links:
                if link.config.key is not None and link.config.train.bytes_per_hour:
                    self._loop.start(self._training(link))
            self._loop.start(self._probing())
            self._loop.start(self._looking())
            self._loop.start(self._turns())
            self._loop.run(stopped)
        finally:
            for link in self._links:
                link.udp.close()
            if self._diag is not None:
                self._diag.close()

    def _probing(self) -> Generator[float, None, None]:
        """Probes all links and takes their replies, at random times, so that nothing periodic is met always or never.

        (RFC 2330, section 11.1.) All at once, since waking costs far more than a probe does; and nobody wakes for a
        reply, since the kernel notes when it came. A link that is due more seldom than others takes part by chance.
        """
        probed = [link for link in self._links if link.config.key is not None]
        while True:
            rates_hz = [0.0 if link.quiet else link.probe_rate_hz for link in probed]
            rounds_hz = max([*rates_hz, _LEAST_ROUNDS_HZ])
            for link, rate_hz in zip(probed, rates_hz, strict=True):
                link.read()
                if random.random() * rounds_hz < rate_hz:  # noqa: S311 - spacing of probes, no secret
                    link.send_probe()
            yield random.uniform(0.5, 1.5) / rounds_hz  # noqa: S311 - likewise

    def _training(self, link: _Link) -> Generator[float, None, None]:
        """A measurement with trains in each interval in which the transport does not tell the bandwidth itself."""
        interval_s = self._config.interval_s
        yield random.uniform(0.1, 0.6) * interval_s  # noqa: S311 - spreads links of a node, no secret
        while True:
            begin_s = time.monotonic()
            if not link.passive.path_limited:
                link.quiet = True
                try:
                    round_trip_s = link.session.recent_round_trip_ns / 1e9
                    yield max(_QUIET_S, min(2 * round_trip_s, 1.0))
                    yield from link.trains.measure(round_trip_s, link.passive.carried_mbps, link.read)
                except OSError as error:
                    log.debug("no train could be sent", extra={"link": link.config.link, "error": str(error)})
                finally:
                    link.quiet = False
            yield max(interval_s - (time.monotonic() - begin_s), 0.0)

    def _looking(self) -> Generator[float, None, None]:
        """Snapshots of the transport's connections."""
        while self._diag is not None:
            begin_s = time.monotonic()
            try:
                found = self._diag.connections(self._remotes)
            except OSError as error:
                self._diag.close()
                self._without_passive(error)
                for link in self._links:
                    link.passive = PassiveMeter()  # what it said last must not hold back probes and trains for ever
                return
            for link in self._links:
                mine, ports = link.config.packed, link.config.ports
                link.passive.snapshot(
                    (
                        one
                        for one in found
                        if one.remote == mine and (not ports or one.remote_port in ports or one.local_port in ports)
                    ),
                    begin_s,
                )
            yield max(self._config.poll_s - (time.monotonic() - begin_s), 0.0)

    def _turns(self) -> Generator[float, None, None]:
        """Closes the interval of all links, again and again."""
        schedule = Schedule(self._config.node, self._config.interval_s, time.time(), time.monotonic())
        while True:
            yield max(schedule.next_s - time.monotonic(), 0.0)
            if time.monotonic() < schedule.next_s:
                continue
            for link in self._links:
                link.read()
            now_ms, now_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
            found = [
                combine(link.config.link, now_ms, link.passive.take(), link.session.take(now_ns), link.trains.take())
                for link in self._links
            ]
            self._on_measured([one for one in found if not one.empty])
            schedule.done(time.monotonic())
            self.missed_turns = schedule.missed
