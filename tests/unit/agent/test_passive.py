"""What snapshots of connections say: rates, loss, round trips, and when they must not be believed."""

import struct
from dataclasses import replace

import pytest

from pba_client.agent.measurement import Source, combine
from pba_client.agent.passive import PassiveMeter
from pba_client.agent.session import ProbeStats
from pba_client.agent.sock_diag import read_tcp_info
from pba_client.agent.tally import share

PEER = b"\x0a\x09\x00\x02"
NOTHING = ProbeStats(0, 0, None, None, None, None, one_way=False, refused=False)
START = replace(read_tcp_info(b"", 1, (40_000, 5000), PEER), mss_bytes=1448, rtt_us=30_000, min_rtt_us=20_000)
"""A connection with a queue in front of it: 30 ms where the shortest was 20 ms."""


def grown(one, **counters):
    return replace(one, **{name: getattr(one, name) + more for name, more in counters.items()})


class Traffic:
    """A connection that carries 1448 segments (16.77 Mbit/s of payload) a second."""

    def __init__(self, start=START, *, mean_lost=0, spurious=0, busy_share=1.0, pace_mbps=None, held_by=None):
        pace = None if pace_mbps is None else int(pace_mbps * 1e6)
        self.one, self.at_s = replace(start, max_pacing_bps=pace), 100.0
        self.lost, self.spurious, self.busy, self.held_by = mean_lost, spurious, busy_share, held_by
        self.meter = PassiveMeter()
        self.meter.snapshot([self.one], self.at_s)

    def seconds(self, count, segments=1448):
        for _ in range(count):
            self.at_s += 1
            one = self.one
            self.one = replace(
                one,
                data_segments=one.data_segments + segments,
                bytes_acked=one.bytes_acked + segments * 1448,
                retransmits=one.retransmits + self.lost + self.spurious,
                spurious=one.spurious + self.spurious,
                busy_us=one.busy_us + round(self.busy * 1e6),
            )
            if self.held_by:
                self.one = grown(self.one, **{self.held_by: 200_000})
            self.meter.snapshot([self.one], self.at_s)
        return self.meter


def test_a_transport_that_fills_the_path_tells_its_bandwidth_headers_counted():
    stats = Traffic().seconds(30).take()
    assert stats.bandwidth_mbps == pytest.approx(1448 * 1500 * 8 / 1e6)
    assert stats.latency_ms == pytest.approx(30)
    assert stats.least_ms == pytest.approx(20)
    assert stats.congested


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(replace(START, app_limited=True)),
        Traffic(busy_share=0.5),
        Traffic(replace(START, rtt_us=20_500)),
        Traffic(pace_mbps=17.5),
        Traffic(held_by="receiver_limited_us"),
        Traffic(held_by="buffer_limited_us"),
    ],
    ids=["lack of data", "idle in between", "held down by loss alone", "own pace", "receiver", "buffer"],
)
def test_a_transport_that_does_not_fill_the_path_says_what_it_carried_and_no_bandwidth(traffic):
    stats = traffic.seconds(30).take()
    assert stats.bandwidth_mbps is None
    assert stats.carried_mbps == pytest.approx(1448 * 1500 * 8 / 1e6)
    assert not stats.congested


def test_a_pace_above_what_the_path_carries_does_not_hold_it_down():
    assert Traffic(pace_mbps=40).seconds(30).take().bandwidth_mbps is not None


@pytest.mark.parametrize("paces", [(17_500_000, None), (None, 17_500_000)])
def test_a_pace_of_some_connections_does_not_hold_down_the_others(paces):
    meter = PassiveMeter()
    all_of_them = [replace(START, cookie=at, max_pacing_bps=pace) for at, pace in enumerate(paces)]
    meter.snapshot(all_of_them, 0.0)
    for second in range(1, 31):
        all_of_them = [
            grown(one, data_segments=1448, bytes_acked=1448 * 1448, busy_us=1_000_000) for one in all_of_them
        ]
        meter.snapshot(all_of_them, float(second))
    assert meter.take().bandwidth_mbps == pytest.approx(2 * 1448 * 1500 * 8 / 1e6)


def test_loss_is_what_was_sent_again_with_need():
    clear = replace(START, rtt_us=20_500)
    stats = Traffic(clear, mean_lost=14, spurious=20).seconds(30).take()
    assert stats.loss.ratio == pytest.approx(14 / 1448)
    assert stats.loss.low < 14 / 1448 < stats.loss.high
    assert stats.loss.trials == 30 * 1448


def test_what_its_own_queue_drops_is_not_the_paths_loss():
    stats = Traffic(mean_lost=14).seconds(30).take()
    assert stats.loss is None
    assert stats.transport_loss.ratio == pytest.approx(14 / 1448)


def test_drops_show_one_snapshot_late():
    traffic = Traffic(mean_lost=14)
    traffic.seconds(10)
    traffic.one = replace(traffic.one, rtt_us=20_500)
    traffic.seconds(1)
    traffic.lost = 0
    assert traffic.seconds(20).take().loss.ratio == 0


def test_an_idle_link_says_nothing():
    stats = Traffic(busy_share=0).seconds(30, segments=0).take()
    assert (stats.latency_ms, stats.loss, stats.bandwidth_mbps, stats.busy) == (None, None, None, False)


def test_a_connection_that_was_opened_since_counts_from_its_beginning():
    meter = PassiveMeter()
    meter.snapshot([], 0.0)
    for second in range(1, 11):
        meter.snapshot([replace(START, cookie=second, data_segments=700, bytes_acked=1_000_000)], float(second))
    assert meter.take().carried_mbps == pytest.approx(8 * 1500 / 1448, rel=1e-3)


def test_the_first_snapshot_is_no_difference():
    meter = PassiveMeter()
    meter.snapshot([replace(START, data_segments=10**6, bytes_acked=10**9)], 0.0)
    assert meter.take().carried_mbps == 0


def test_tcp_info_of_an_older_kernel_is_read():
    words = [0] * 24
    words[2], words[15], words[16], words[23] = 1448, 30_000, 2_000, 7
    old = struct.pack("=8B24I4Q6I", *bytes(7), 1, *words, 0, 2**64 - 1, 9_000, 0, 0, 0, 0, 20_000, 0, 50)
    one = read_tcp_info(old, 3, (1, 2), PEER)
    assert (one.mss_bytes, one.rtt_us, one.retransmits, one.app_limited) == (1448, 30_000, 7, True)
    assert (one.bytes_acked, one.data_segments, one.min_rtt_us, one.max_pacing_bps) == (9_000, 50, 20_000, None)
    assert (one.delivery_rate_bps, one.spurious) == (0, 0)
    assert read_tcp_info(b"", 3, (1, 2), PEER).rtt_us == 0


def probed(**values):
    fields = {"latency_ms": 21.0, "least_ms": 19.0, "jitter_ms": 1.0, "loss": share(3, 600), "one_way": True}
    return ProbeStats(600, 597, refused=False, **{**fields, **values})


def test_passive_comes_first():
    one = combine("a", 1, Traffic(replace(START, rtt_us=20_500)).seconds(30).take(), probed(), 50.0)
    assert one.sources == (Source.TRAIN, Source.TCP, Source.TCP, Source.PROBE)
    assert one.base_latency_ms == 19.0


def test_an_idle_link_is_probed():
    one = combine("a", 1, PassiveMeter().take(), probed(), 50.0)
    assert one.sources == (Source.TRAIN, Source.PROBE_TWO_WAY, Source.PROBE, Source.PROBE)
    assert one.values == (50.0, 21.0, 3 / 600, 1.0)


def test_while_the_transport_fills_the_path_probes_say_nothing_of_its_loss():
    one = combine("a", 1, Traffic(mean_lost=14).seconds(30).take(), probed(), None)
    assert one.packet_loss_ratio is None
    assert one.transport_loss.ratio > 0
    assert one.sources[2] is Source.ABSENT


def test_what_was_not_measured_is_absent():
    one = combine("a", 1, PassiveMeter().take(), NOTHING, None)
    assert one.empty
    assert one.sources == (Source.ABSENT,) * 4


def test_a_train_is_no_less_than_what_was_carried():
    one = combine("a", 1, Traffic(replace(START, app_limited=True)).seconds(30).take(), NOTHING, 5.0)
    assert one.bandwidth_mbps == pytest.approx(1448 * 1500 * 8 / 1e6)


CLEAR = replace(START, rtt_us=20_500)


@pytest.mark.parametrize("rest", [1448, 0], ids=["goes on", "pauses"])
def test_what_dsack_says_a_snapshot_later_was_still_needless(rest):
    meter, one = PassiveMeter(), CLEAR
    meter.snapshot([one], 0.0)
    for second in range(1, 31):
        segments, again, needless = (1448, 20, 0) if second % 2 else (rest, 0, 20)
        one = grown(
            one,
            data_segments=segments,
            bytes_acked=1448 * segments,
            retransmits=again,
            spurious=needless,
            busy_us=1_000_000,
        )
        meter.snapshot([one], float(second))
    stats = meter.take()
    assert one.retransmits == one.spurious
    assert (stats.loss.ratio, stats.transport_loss.ratio) == (0, 0)
    assert stats.loss.trials == one.data_segments


def test_what_was_lost_in_an_interval_stays_lost_beside_what_was_needless():
    meter, one = PassiveMeter(), CLEAR
    meter.snapshot([one], 0.0)
    for second in range(1, 31):
        one = grown(
            one,
            data_segments=1448,
            bytes_acked=1448 * 1448,
            retransmits=7 + (20 if second % 2 else 0),
            spurious=0 if second % 2 else 20,
        )
        meter.snapshot([one], float(second))
    assert meter.take().loss.ratio == pytest.approx(7 / 1448)


def test_what_is_acknowledged_after_the_last_segment_was_carried_too():
    meter, one = PassiveMeter(), CLEAR
    meter.snapshot([one], 0.0)
    for second in range(1, 11):  # each burst of 100 segments is acknowledged only after the snapshot that saw it leave
        one = grown(one, data_segments=100) if second % 2 else grown(one, bytes_acked=100 * 1448)
        meter.snapshot([one], float(second))
    assert meter.take().carried_mbps == pytest.approx(5 * 100 * 1500 * 8 / 10 / 1e6)
