"""What the domain says arrives on the wire whole, and what is not known is absent there."""

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.parameters import ParameterReason, ParametersAnswer, ParametersSource, TransportParameters
from pba_service.domain.samples import METRICS, LinkInfo, Reason, Refusal, Series
from pba_service.engine.api import PushOutcome
from pba_service.engine.ports import LinkSummary, ModelInfo
from pba_service.engine.stock import Known
from pba_service.serving import convert, models

T_MS = 1_800_000_000_123
NAN = float("nan")


def forecast(values=(100, 20, NAN, 1.5), quantiles=None, source=Source.COMBINED):
    if quantiles is None:
        quantiles = np.full((4, 5), np.nan)
    return Prediction("a", T_MS, 240_000, T_MS + 960_000, np.float32(values), np.float32(quantiles), 0.75, "v1", source)


def measured(message):
    return {metric: getattr(message, metric) for metric in METRICS if message.HasField(metric)}


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_survive_the_way_there_and_back(time_ms):
    message = convert.timestamp(time_ms)
    assert convert.read_timestamp(message) == time_ms
    assert 0 <= message.nanos < 1_000_000_000


@given(st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)))
def test_no_time_overflows(message):
    time_ms = convert.read_timestamp(message)
    assert time_ms is None or -(2**53) < time_ms < 2**53


def test_a_prediction():
    quantiles = np.full((4, 5), np.nan)
    quantiles[0] = [50, 60, 100, 140, 150]
    quantiles[1, 2] = 20
    message = convert.prediction(forecast(quantiles=quantiles))
    assert message.link_id == "a"
    assert message.made_at.ToMilliseconds() == T_MS
    assert message.horizon.ToMilliseconds() == 960_000
    assert message.valid_until.ToMilliseconds() == T_MS + 960_000
    assert message.cadence.ToMilliseconds() == 240_000
    assert (message.confidence, message.model_version) == (0.75, "v1")
    assert message.source == types.PREDICTION_SOURCE_COMBINED
    assert measured(message) == {"bandwidth_mbps": 100, "latency_ms": 20, "jitter_ms": 1.5}
    assert message.bandwidth_quantiles == types.Quantiles(p05=50, p10=60, p50=100, p90=140, p95=150)
    assert message.latency_quantiles == types.Quantiles(p50=20)
    assert not message.HasField("packet_loss_quantiles")
    assert not message.HasField("jitter_quantiles")


def test_zero_is_a_value():
    message = convert.prediction(forecast(values=(0, 0, 0, 0), quantiles=np.zeros((4, 5))))
    assert measured(message) == dict.fromkeys(METRICS, 0)
    assert message.jitter_quantiles.HasField("p05")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_absent(bad):
    message = convert.prediction(forecast(values=[bad] * 4, quantiles=np.full((4, 5), bad)))
    assert measured(message) == {}
    assert not message.HasField("bandwidth_quantiles")


@pytest.mark.parametrize(
    ("members", "enum", "prefix"),
    [
        (Source, types.PredictionSource, "PREDICTION_SOURCE_"),
        (Reason, pb.RefusalReason, "REFUSAL_REASON_"),
        (ParametersSource, pb.ParametersSource, "PARAMETERS_SOURCE_"),
        (ParameterReason, pb.ParameterReason, "PARAMETER_REASON_"),
    ],
)
def test_the_contract_and_the_domain_have_the_same_values(members, enum, prefix):
    assert {f"{prefix}{member.name}" for member in members} == set(enum.keys()) - {f"{prefix}UNSPECIFIED"}


@pytest.mark.parametrize("source", Source)
def test_every_source_of_a_prediction(source):
    assert convert.prediction(forecast(source=source)).source == types.PredictionSource.Value(
        f"PREDICTION_SOURCE_{source.name}"
    )


def test_samples_keep_their_order_and_gaps():
    series = Series(np.array([T_MS, T_MS + 1]), np.float32([[1, NAN, 0, NAN], [NAN, 2, NAN, NAN]]))
    first, second = convert.samples(series)
    assert (first.measured_at.ToMilliseconds(), second.measured_at.ToMilliseconds()) == (T_MS, T_MS + 1)
    assert measured(first) == {"bandwidth_mbps": 1, "packet_loss_ratio": 0}
    assert measured(second) == {"latency_ms": 2}
    assert first.link_id == ""


@given(st.integers(0, 25), st.integers(1, 10))
def test_pieces_are_the_whole(count, size):
    series = Series(np.arange(count), np.zeros((count, 4), np.float32))
    pieces = list(convert.pieces(series, size))
    assert all(1 <= len(piece) <= size for piece in pieces)
    assert [t for piece in pieces for t in piece.times_ms.tolist()] == list(range(count))
    assert sum(len(piece.values) for piece in pieces) == count


def test_a_ledger_entry():
    entry = LedgerEntry(
        T_MS, T_MS + 900_000, T_MS + 900_500, np.float32([100, 20, NAN, 1]), np.float32([90, NAN, 0, 1]), 0.5, "v1"
    )
    message = convert.ledger_entry(entry)
    assert message.made_at.ToMilliseconds() == T_MS
    assert message.target.ToMilliseconds() == T_MS + 900_000
    assert message.measured_at.ToMilliseconds() == T_MS + 900_500
    assert measured(message.predicted) == {"bandwidth_mbps": 100, "latency_ms": 20, "jitter_ms": 1}
    assert measured(message.actual) == {"bandwidth_mbps": 90, "packet_loss_ratio": 0, "jitter_ms": 1}
    assert measured(message.absolute_error) == {"bandwidth_mbps": 10, "jitter_ms": 0}
    assert (message.confidence, message.hit, message.model_version) == (0.5, True, "v1")


def test_a_link_summary():
    newest = Series(np.array([T_MS]), np.float32([[1, 2, NAN, NAN]]))
    message = convert.link_summary(LinkSummary(LinkInfo("a", "n", "p", "r"), 7, newest, forecast()))
    assert (message.link_id, message.node, message.peer, message.region, message.sample_count) == (*"anpr", 7)
    assert message.newest_sample.link_id == "a"
    assert message.newest_sample.measured_at.ToMilliseconds() == T_MS
    assert message.newest_prediction.bandwidth_mbps == 100


def test_a_link_without_sample_or_prediction():
    message = convert.link_summary(LinkSummary(LinkInfo("a"), 0, Series.empty(), None))
    assert not message.HasField("newest_sample")
    assert not message.HasField("newest_prediction")


def test_a_model():
    info = ModelInfo(
        name="pba_lstm",
        version="3",
        checksum_sha256="ab" * 32,
        created_at_ms=T_MS,
        features=("bandwidth_mbps", "hour_of_day"),
        window_slots=60,
        horizons_ms=(300_000, 900_000),
        quantile_levels=(0.05, 0.5),
        parameter_count=120_804,
        scores=(("latency_ms", "median_10", 0.5),),
    )
    message = models.model(Known(info, loaded=True, local="", published=True, refused=""), serving=True)
    assert (message.name, message.version, message.serving, message.checksum_sha256) == (
        "pba_lstm",
        "3",
        True,
        "ab" * 32,
    )
    assert message.created_at.ToMilliseconds() == T_MS
    assert list(message.features) == ["bandwidth_mbps", "hour_of_day"]
    assert (message.window_slots, message.parameter_count) == (60, 120_804)
    assert [horizon.ToMilliseconds() for horizon in message.horizons] == [300_000, 900_000]
    assert list(message.quantile_levels) == pytest.approx([0.05, 0.5])
    score = message.scores[0]
    assert (score.metric, score.forecaster, score.mae_ratio) == ("latency_ms", "median_10", 0.5)


@pytest.mark.parametrize("pacing", [None, 95.0])
def test_parameters(pacing):
    answer = ParametersAnswer(
        TransportParameters(8, 262_144, 65_536, pacing, 32_768),
        ParametersSource.MEASUREMENT,
        (ParameterReason.LOW_CONFIDENCE, ParameterReason.LOSS),
        "because",
        should_adjust=True,
        apply_at_ms=T_MS - 1,
        valid_until_ms=T_MS,
        prediction=forecast(),
        current=TransportParameters(4, 65_536, 16_384, None, 65_536),
        expected_mbps=90.0,
        current_expected_mbps=45.0,
    )
    message = convert.parameters(answer)
    advice = message.parameters
    assert (advice.streams, advice.buffer_bytes, advice.chunk_bytes) == (8, 262_144, 65_536)
    assert advice.HasField("pacing_mbps") == (pacing is not None)
    assert message.source == pb.PARAMETERS_SOURCE_MEASUREMENT
    assert list(message.reasons) == [pb.PARAMETER_REASON_LOW_CONFIDENCE, pb.PARAMETER_REASON_LOSS]
    assert (message.explanation, message.should_adjust) == ("because", True)
    assert message.valid_until.ToMilliseconds() == T_MS
    assert message.apply_at.ToMilliseconds() == T_MS - 1
    assert (advice.not_sent_bytes, advice.window_bytes) == (32_768, 8 * 262_144)
    assert (message.current.streams, message.current.HasField("pacing_mbps")) == (4, False)
    assert (message.expected_goodput_mbps, message.current_expected_goodput_mbps) == (90, 45)
    assert message.prediction.link_id == "a"


def test_parameters_of_which_little_is_known():
    answer = ParametersAnswer(
        TransportParameters(8, 262_144, 65_536, None, 65_536), ParametersSource.DEFAULTS, (), "because",
        should_adjust=True, apply_at_ms=T_MS, valid_until_ms=T_MS, prediction=None, current=None, expected_mbps=None,
        current_expected_mbps=None,
    )  # fmt: skip
    message = convert.parameters(answer)
    for field in ("current", "expected_goodput_mbps", "current_expected_goodput_mbps", "prediction"):
        assert not message.HasField(field)


def test_a_push_response():
    refusal = Refusal(3, "latency_ms", Reason.OUT_OF_RANGE, "why")
    message = convert.push_response(7, PushOutcome(stored=1, replaced=2, duplicates=3), [refusal])
    assert (message.sequence, message.stored, message.replaced, message.duplicates, message.refused) == (7, 1, 2, 3, 1)
    assert message.refusals[0] == pb.RefusedSample(
        index=3, field="latency_ms", reason=pb.REFUSAL_REASON_OUT_OF_RANGE, description="why"
    )
