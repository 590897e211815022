"""What callers may say and links may be like, for the property tests of transport parameters."""

import math

import numpy as np
from hypothesis import strategies as st

from pba_service.domain.forecast import QUANTILES
from pba_service.domain.parameters import BandwidthKind, CongestionControl, ParametersAsk, TransportBounds

BOUNDS = TransportBounds()
EXACT = ParametersAsk("a-b", loss_probes=1_000_000)

bandwidths = st.floats(0, 1e8, width=32)
latencies = st.floats(0, 3.6e6, width=32)
losses = st.floats(0, 1, width=32)
maybe_losses = losses | st.just(math.nan)
values = st.tuples(bandwidths, latencies, maybe_losses, st.just(1.0)).map(lambda row: np.array(row, np.float32))


@st.composite
def quantiles(draw):
    """Rows that never cross, or are not there."""
    rows = []
    for metric in (bandwidths, latencies, losses, latencies):
        row = sorted(draw(st.lists(metric, min_size=len(QUANTILES), max_size=len(QUANTILES))))
        rows.append(draw(st.sampled_from([row, [math.nan] * len(QUANTILES)])))
    return np.array(rows, np.float32)


@st.composite
def asks(draw):
    return ParametersAsk(
        "a-b",
        current_streams=draw(st.none() | st.integers(0, 2**32 - 1)),
        congestion_control=draw(st.sampled_from(CongestionControl)),
        max_streams=draw(st.none() | st.integers(1, 2**32 - 1)),
        max_buffer_bytes=draw(st.none() | st.integers(4096, 2**32 - 1)),
        memory_budget_bytes=draw(st.none() | st.integers(4096, 2**40)),
        current_buffer_bytes=draw(st.none() | st.integers(1, 2**32 - 1)),
        current_pacing_mbps=draw(st.none() | st.floats(0.001, 1e8)),
        receive_buffer_bytes=draw(st.none() | st.integers(4096, 2**32 - 1)),
        bandwidth_kind=draw(st.sampled_from(BandwidthKind)),
        loss_probes=draw(st.none() | st.integers(1, 2**32 - 1)),
        base_latency_ms=draw(st.none() | st.floats(0, 3.6e6)),
    )


@st.composite
def all_bounds(draw):
    streams = sorted([draw(st.integers(1, 1024)), draw(st.integers(1, 1024))])
    buffers = sorted([draw(st.integers(4096, 2**26)), draw(st.integers(4096, 2**26))])
    return TransportBounds(*streams, *buffers)


def link(bandwidth_mbps=100.0, latency_ms=20.0, loss_ratio=0.0):
    """float32[4]."""
    return np.array([bandwidth_mbps, latency_ms, loss_ratio, 1.0], np.float32)


def check_within_limits(parameters, ask, bounds):
    """Every bound of the service and limit of the caller, whichever is the narrower."""
    assert 1 <= parameters.streams <= min(bounds.max_streams, ask.max_streams or bounds.max_streams)
    most = min(bounds.max_buffer_bytes, ask.max_buffer_bytes or 2**62, ask.receive_buffer_bytes or 2**62)
    assert 4096 <= parameters.buffer_bytes <= most
    if ask.memory_budget_bytes is not None:
        assert parameters.window_bytes <= ask.memory_budget_bytes
    if ask.max_streams is None and ask.memory_budget_bytes is None:
        assert parameters.streams >= bounds.min_streams
    if ask.max_buffer_bytes is None and ask.memory_budget_bytes is None and ask.receive_buffer_bytes is None:
        assert parameters.buffer_bytes >= bounds.min_buffer_bytes
    assert min(8 * 1024, parameters.buffer_bytes) <= parameters.chunk_bytes <= min(512 * 1024, parameters.buffer_bytes)
    assert 0 < parameters.not_sent_bytes <= parameters.buffer_bytes
    whole = (parameters.streams, parameters.buffer_bytes, parameters.chunk_bytes, parameters.not_sent_bytes)
    assert all(isinstance(value, int) for value in whole)
    assert parameters.pacing_mbps is None or (math.isfinite(parameters.pacing_mbps) and parameters.pacing_mbps > 0)
