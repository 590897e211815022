"""The model of TCP: against numbers worked out by hand, against measured ones, and by which way it must go."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pba_service.domain.amst import tcp
from pba_service.domain.parameters import CongestionControl

CUBIC, BBR, RENO = CongestionControl.CUBIC, CongestionControl.BBR, CongestionControl.RENO
rtts = st.floats(0, 3600)
losses = st.floats(0, 1)
controls = st.sampled_from(CongestionControl)


def test_padhyes_equation_by_hand():
    # R 100 ms, p 1 %: T0 is 0.3 s; 0.1 * 0.08165 + 0.3 * 0.18371 * 0.01 * 1.0032 = 0.0087179 s a segment of 1448 bytes
    assert tcp.pftk_mbps(0.1, 0.01) == pytest.approx(11584 / 0.0087179 / 1e6, rel=1e-4)


@pytest.mark.parametrize(
    ("rtt_ms", "loss", "measured_mbps"),
    [(2, 0.03, 17.8), (2, 0.01, 37.5), (20, 0.03, 3.0), (20, 0.01, 5.8), (80, 0.03, 0.82), (80, 0.01, 1.68),
     (200, 0.03, 0.39), (200, 0.01, 0.9)],
)  # fmt: skip
def test_a_cubic_stream_goes_as_fast_as_was_measured(rtt_ms, loss, measured_mbps):
    assert tcp.cubic_mbps(rtt_ms / 1e3, loss) == pytest.approx(measured_mbps, rel=0.35)


@given(controls, rtts, rtts, losses)
def test_a_longer_way_is_never_faster(control, one, other, loss):
    near, far = sorted((one, other))
    assert tcp.stream_mbps(control, near, loss) >= tcp.stream_mbps(control, far, loss) > 0


@given(controls, rtts, losses, losses)
def test_more_loss_is_never_faster(control, rtt, one, other):
    low, high = sorted((one, other))
    assert tcp.stream_mbps(control, rtt, low) >= tcp.stream_mbps(control, rtt, high) * (1 - 1e-9)


@given(rtts, losses)
def test_cubic_is_no_slower_than_reno_and_bbr_knows_no_loss(rtt, loss):
    assert tcp.stream_mbps(CUBIC, rtt, loss) >= tcp.stream_mbps(RENO, rtt, loss)
    assert tcp.stream_mbps(BBR, rtt, loss) == math.inf


def goodput(**changed):
    given_ = {"bandwidth_mbps": 100.0, "rtt_s": 0.08, "loss_ratio": 0.01, "streams": 8, "buffer_bytes": 1e6}
    return tcp.goodput_mbps(CUBIC, **(given_ | {"pacing_mbps": None} | changed))


@pytest.mark.parametrize(("streams", "share"), [(16, 0.28), (32, 0.54), (128, 1.0)])
def test_streams_add_up_until_the_path_is_full(streams, share):
    # measured: 100 Mbit/s, 80 ms, 1 % loss, deep queue
    assert goodput(streams=streams) / (100 * tcp.PAYLOAD_SHARE * 0.99) == pytest.approx(share, abs=0.05)


def test_a_window_limits_and_so_does_a_pace():
    assert goodput(loss_ratio=0, streams=1, buffer_bytes=65_536) == pytest.approx(1.2 * 8 * 0.065536 / 0.08, rel=1e-3)
    assert goodput(loss_ratio=0, pacing_mbps=30.0) == 30.0
    assert goodput(bandwidth_mbps=0.0) == 0


paths = st.fixed_dictionaries(
    {
        "bandwidth_mbps": st.floats(0, 1e8),
        "rtt_s": rtts,
        "loss_ratio": losses,
        "streams": st.integers(1, 1024),
        "buffer_bytes": st.floats(1, 1e9),
        "pacing_mbps": st.none() | st.floats(0.1, 1e8),
    }
)


@given(controls, paths)
def test_goodput_is_a_number_within_the_path(control, path):
    reached = tcp.goodput_mbps(control, **path)
    assert 0 <= reached <= path["bandwidth_mbps"]
    assert path["pacing_mbps"] is None or reached <= path["pacing_mbps"]


@pytest.mark.parametrize(("streams", "measured"), [(2, 0.016), (4, 0.042), (8, 0.10)])
def test_streams_that_share_a_small_path_cause_the_loss_that_was_measured(streams, measured):
    # 10 Mbit/s, 2 ms, a queue of 24 KB: 21 ms when full
    own = tcp.own_loss_ratio(CUBIC, bandwidth_mbps=10, rtt_s=0.021, loss_ratio=0, streams=streams)
    assert own == pytest.approx(measured, rel=0.45)


@given(controls, st.floats(0, 1e8), rtts, losses, st.integers(1, 1024))
def test_own_loss_is_a_share_and_grows_with_the_streams(control, bandwidth, rtt, loss, streams):
    few, more = (
        tcp.own_loss_ratio(control, bandwidth_mbps=bandwidth, rtt_s=rtt, loss_ratio=loss, streams=n)
        for n in (streams, streams + 1)
    )
    assert 0 <= few <= more * (1 + 1e-6) + 1e-12 <= 1
