"""The client against the service itself, as a process."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import (
    Health,
    HistoryTooShortError,
    InvalidRequestError,
    LinkUnknownError,
    ParameterReason,
    ParametersSource,
    PredictionSource,
    RefusalReason,
    Sample,
)
from tests.process import ServiceProcess

NOW = datetime.now(UTC).replace(microsecond=0)


def past(link_id, count, **labels):
    """The last `count` minutes of a link that swings."""
    return [
        Sample(
            link_id,
            NOW - timedelta(minutes=count - 1 - i),
            bandwidth_mbps=900.0 + 10 * (i % 7),
            latency_ms=12.0 + i % 3,
            packet_loss_ratio=0.001 * (i % 2),
            **labels,
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as service, service.client() as one:
        one.push(past("real/a", 120, node="n1", peer="n2", region="eu"))
        one.push(past("real/young", 4))
        deadline = time.monotonic() + 30
        while one.link("real/a").summary.newest_prediction is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield one


def test_samples_are_there_once_as_they_were_pushed(client):
    again = client.push(past("real/a", 120))
    assert (again.stored, again.duplicates) == (0, 120)
    stored = list(client.history("real/a"))
    assert [(s.measured_at, s.bandwidth_mbps, s.latency_ms, s.jitter_ms) for s in stored] == [
        (s.measured_at, s.bandwidth_mbps, s.latency_ms, None) for s in past("real/a", 120)
    ]
    some = list(client.history("real/a", start=NOW - timedelta(minutes=5), end=NOW))
    assert [s.measured_at for s in some] == [NOW - timedelta(minutes=m) for m in range(5, 0, -1)]


def test_refusals_name_the_sample_and_the_reason(client):
    good = past("real/a", 120)[-1]
    result = client.push(
        [
            Sample("real/a", NOW + timedelta(hours=1), latency_ms=1),
            good,
            Sample("real/a", NOW - timedelta(days=60), latency_ms=1),
            Sample("real/a", NOW, packet_loss_ratio=1.5),
            Sample("real/a", NOW),
        ]
    )
    assert (result.duplicates, result.refused) == (1, 4)
    assert [(r.index, r.field, r.reason) for r in result.refusals] == [
        (0, "measured_at", RefusalReason.IN_THE_FUTURE),
        (2, "measured_at", RefusalReason.TOO_OLD),
        (3, "packet_loss_ratio", RefusalReason.OUT_OF_RANGE),
        (4, "bandwidth_mbps", RefusalReason.EMPTY),
    ]
    with pytest.raises(InvalidRequestError) as caught:
        client.push(Sample("", NOW, latency_ms=float("nan")))
    assert caught.value.violations


def test_predictions(client):
    prediction = client.predict("real/a")
    assert (prediction.made_at, prediction.valid_until) == (NOW, NOW + timedelta(minutes=15))
    assert (prediction.horizon, prediction.cadence) == (timedelta(minutes=15), timedelta(minutes=1))
    assert 850 < prediction.bandwidth_mbps < 1000
    assert prediction.jitter_ms is None
    quantiles = prediction.bandwidth_quantiles
    assert quantiles.p05 <= quantiles.p10 <= quantiles.p50 <= quantiles.p90 <= quantiles.p95
    assert 0 <= prediction.confidence <= 1
    path = client.predict_path("real/a")
    assert timedelta(minutes=15) in [one.horizon for one in path.horizons]
    own = client.predict_window("mine", past("", 30))
    assert (own.link_id, own.source) == ("mine", PredictionSource.CALLER_WINDOW)


def test_a_batch_says_of_each_link_why_not(client):
    good, unknown, young = client.batch_predict(["real/a", "real/nowhere", "real/young"])
    assert good.unwrap() == client.predict("real/a")
    assert isinstance(unknown.error, LinkUnknownError)
    assert unknown.error.link_id == "real/nowhere"
    assert isinstance(young.error, HistoryTooShortError)
    assert (young.error.have, young.error.need) == (4, 10)
    assert young.error.retry_after == timedelta(minutes=6)


def test_parameters_are_always_there(client):
    known = client.parameters("real/a", current_streams=4, max_streams=3)
    assert known.source in {ParametersSource.PREDICTION, ParametersSource.MEASUREMENT}
    assert 1 <= known.streams <= 3
    assert known.prediction is not None
    unknown = client.parameters("real/nowhere")
    assert (unknown.source, unknown.reasons[0]) == (ParametersSource.DEFAULTS, ParameterReason.UNKNOWN_LINK)
    with pytest.raises(InvalidRequestError):
        client.parameters("")


def test_what_was_learned(client):
    entries = list(client.ledger("real/a"))
    assert entries
    for entry in entries:
        error = abs(entry.predicted.bandwidth_mbps - entry.actual.bandwidth_mbps)
        assert entry.absolute_error.bandwidth_mbps == pytest.approx(error, abs=1e-3)
        assert entry.target - entry.made_at == timedelta(minutes=15)
    record = client.link("real/a")
    assert (record.summary.sample_count, record.summary.region) == (120, "eu")
    assert sum(one.weight for one in record.metrics[0].weights) == pytest.approx(1, abs=1e-3)
    explanation = client.explain("real/a")
    for metric in explanation.metrics:
        moved = sum(one.value for one in metric.attributions)
        assert moved == pytest.approx(metric.model_forecast - metric.baseline_forecast, abs=1e-2)


def test_links_models_and_health(client):
    assert [one.link_id for one in client.links(prefix="real/")] == ["real/a", "real/young"]
    assert [one.link_id for one in client.links(region="eu")] == ["real/a"]
    serving = client.models()[0]
    assert serving.serving
    assert serving.version == client.predict("real/a").model_version
    assert client.health() is client.health("") is Health.SERVING


def test_a_watch_sees_what_a_stream_pushes(client, within):
    with client.watch("real/watched") as watch, client.stream() as stream:
        assert within(lambda: next(watch)).predictions == ()
        for sample in past("real/watched", 30):
            stream.push(sample)
        stream.flush(timeout_s=30)
        newest = None
        while newest != NOW:
            newest = max((one.made_at for one in within(lambda: next(watch)).predictions), default=newest)
