"""What an interval of probes says, on paths whose loss, delay and clocks are known."""

import random

import pytest

from pba_client.agent import stamp
from pba_client.agent.budget import ReplayWindow
from pba_client.agent.session import LEAST_PROBES, Session

MS = 1_000_000
KEY = b"a key that both sides hold"


class Path:
    """A session, and a reflector behind a path; time goes on by 100 ms a probe."""

    def __init__(self, *, there_ms=lambda: 10.0, back_ms=lambda: 10.0, lost_there=None, lost_back=None, offset_ms=0):
        self.session = Session(5, KEY, 2000 * MS)
        self.there_ms, self.back_ms = there_ms, back_ms
        self.lost_there, self.lost_back = lost_there or (lambda n: False), lost_back or (lambda n: False)
        self.offset_ns = offset_ms * MS
        self.now_ns = 50 * 10**9
        self.reflected = self.number = 0

    def probes(self, count):
        for _ in range(count):
            self.now_ns += 100 * MS
            packet = self.session.probe(10**18 + self.now_ns, self.now_ns)
            number, self.number = self.number, self.number + 1
            if self.lost_there(number):
                continue
            received = self.now_ns + round(self.there_ms() * MS)
            sequence, self.reflected = self.reflected, self.reflected + 1
            if self.lost_back(number):
                continue
            clock = 10**18 + received + self.offset_ns
            probe = stamp.parse_probe(packet, KEY)
            reply = stamp.Reply(sequence, clock, clock + MS, probe.sequence, probe.session)
            answer = stamp.pack_reply(reply, packet, 64, KEY)
            self.session.answered(answer, received + MS + round(self.back_ms() * MS))
        return self

    def take(self, after_ms=5000):
        return self.session.take(self.now_ns + after_ms * MS)


def test_a_clean_path():
    stats = Path().probes(100).take()
    assert (stats.sent, stats.answered) == (100, 100)
    assert stats.latency_ms == pytest.approx(20)
    assert stats.jitter_ms == pytest.approx(0, abs=1e-3)
    assert stats.loss.ratio == 0
    assert stats.loss.high == pytest.approx(0.037, abs=0.003)


def test_jitter_is_of_the_way_there_whatever_the_clocks():
    random.seed(1)
    path = Path(there_ms=lambda: random.gauss(20, 2), back_ms=lambda: random.gauss(20, 9) % 40, offset_ms=-86_400_000)
    stats = path.probes(2000).take()
    assert stats.jitter_ms == pytest.approx(2 * 2 / 3.14159**0.5, rel=0.06)


def test_loss_there_and_back_are_told_apart():
    path = Path(lost_back=lambda n: n % 4 == 1, lost_there=lambda n: n % 10 == 5)
    path.probes(20).take()
    stats = path.probes(400).take()
    assert stats.one_way
    assert stats.loss.ratio == pytest.approx(0.1, abs=0.01)
    assert stats.loss.low < 0.1 < stats.loss.high


def test_the_first_interval_knows_loss_of_both_ways_only():
    stats = Path(lost_back=lambda n: n % 4 == 1).probes(400).take()
    assert not stats.one_way
    assert stats.loss.ratio == pytest.approx(0.25, abs=0.01)


def test_bursts_of_loss_widen_the_bounds():
    alone = Path(lost_there=lambda n: n % 20 == 3).probes(600).take().loss
    bursts = Path(lost_there=lambda n: n % 200 < 10).probes(600).take().loss
    assert alone.ratio == pytest.approx(bursts.ratio, abs=0.01)
    assert bursts.high - bursts.low > 1.5 * (alone.high - alone.low)


def test_what_is_under_way_is_not_lost():
    path = Path(lost_there=lambda n: n >= 90).probes(100)
    assert path.take(after_ms=0).sent == 90
    assert path.take(after_ms=5000).sent == 10


def test_an_outage_is_loss_and_no_latency():
    path = Path()
    path.probes(100).take()
    path.lost_there = lambda n: True
    stats = path.probes(100).take()
    assert stats.loss.ratio == 1
    assert stats.latency_ms is None
    assert stats.jitter_ms is None


def test_a_peer_that_never_answered_says_nothing_of_loss():
    assert Path(lost_there=lambda n: True).probes(100).take().loss is None


def test_a_reflector_that_is_not_running_is_no_loss():
    path = Path()
    path.probes(100).take()
    path.lost_there = lambda n: True
    path.probes(100)
    path.session.refused()
    stats = path.take()
    assert stats.refused
    assert stats.loss is None


def test_a_reflector_that_began_anew_is_no_loss():
    path = Path()
    path.probes(100).take()
    path.probes(50)
    path.reflected = 0
    assert path.probes(50).take().loss.ratio == 0
    assert path.probes(50).take().loss.ratio == 0


def test_a_clock_that_is_set_at_the_reflector_spoils_nothing():
    path = Path()
    path.probes(50)
    path.offset_ns += 3600 * 10**9
    stats = path.probes(50).take()
    assert stats.jitter_ms == pytest.approx(0, abs=1e-3)
    assert stats.latency_ms == pytest.approx(20)


def test_a_probe_that_was_held_up_here_says_nothing_of_the_path_but_that_it_came():
    path = Path()
    send = path.session.probe

    def held_up(real_ns, monotonic_ns):
        packet = send(real_ns, monotonic_ns)
        path.session.sent(monotonic_ns + (5 * MS if path.number % 3 == 0 else 20_000))
        return packet

    path.there_ms = lambda: 15.0 if path.number % 3 == 1 else 10.0
    path.session.probe = held_up
    stats = path.probes(99).take()
    assert (stats.sent, stats.loss.ratio) == (99, 0)
    assert stats.jitter_ms == pytest.approx(0, abs=1e-3)


def test_few_probes_say_nothing():
    stats = Path().probes(LEAST_PROBES - 1).take()
    assert (stats.latency_ms, stats.jitter_ms, stats.loss) == (None, pytest.approx(0, abs=1e-3), None)


def test_answers_of_others_and_second_answers_do_not_count():
    session = Session(5, KEY, 2000 * MS)
    packet = session.probe(10**18, 0)
    answer = stamp.pack_reply(stamp.Reply(0, 10**18, 10**18, 0, 5), packet, 64, KEY)
    foreign = stamp.pack_reply(stamp.Reply(0, 10**18, 10**18, 0, 5), packet, 64, b"another key, as long")
    assert not session.answered(foreign, 10 * MS)
    assert session.answered(answer, 10 * MS)
    assert not session.answered(answer, 11 * MS)
    assert session.take(5000 * MS).sent == 1


def test_a_replay_window_takes_each_number_once():
    window = ReplayWindow()
    chance = random.Random(3)  # noqa: S311 - no secret
    numbers = [n + chance.randrange(0, 200) for n in range(0, 5000, 3)]
    taken = [n for n in numbers if window.accept(n)]
    assert len(taken) == len(set(taken))
    assert set(taken) == set(numbers)
    assert not window.accept(0)
    assert window.accept(1_000_000)
    assert not window.accept(1_000_000 - ReplayWindow.SIZE)
    assert window.accept(1_000_001 - ReplayWindow.SIZE)


def test_a_peer_whose_agent_is_restarted_is_no_loss():
    path = Path()
    path.probes(600).take(after_ms=0)
    path.probes(200)
    path.lost_there = lambda _: True  # 20 s in which the kernel says that nobody listens
    for _ in range(200):
        path.probes(1)
        path.session.refused()
    path.lost_there, path.reflected = (lambda _: False), 0
    stats = path.probes(200).take()
    assert stats.refused
    assert stats.loss is None or stats.loss.ratio == 0
