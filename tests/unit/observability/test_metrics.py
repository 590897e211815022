"""What Prometheus reads, by the names that dashboards know."""

import sys
import threading

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pba_service.domain import samples
from pba_service.domain.forecast import Prediction, Source, relative_error
from pba_service.domain.retraining import Outcome
from pba_service.domain.samples import Reason
from pba_service.observability import links, retraining
from pba_service.observability.metrics import REASONS, SOURCES, WAYS, Metrics, service_registry

NAN = float("nan")
DOCUMENTED = {
    "dwcp_pba_current_bandwidth_mbps",
    "dwcp_pba_current_latency_ms",
    "dwcp_pba_current_packet_loss_ratio",
    "dwcp_pba_current_jitter_ms",
    "dwcp_pba_prediction_accuracy",
    "dwcp_pba_prediction_latency_ms",
    "dwcp_pba_model_version",
    "dwcp_pba_confidence",
    "dwcp_pba_sample_count",
    "dwcp_pba_predictions_total",
    "dwcp_pba_retrain_total",
}


@pytest.fixture
def registry():
    return service_registry()


@pytest.fixture
def metrics(registry):
    return Metrics(registry, max_links=3)


def values(*numbers):
    return np.array(numbers, np.float32)


def prediction(link="a", confidence=0.75, source=Source.COMBINED, quantiles=None):
    quantiles = np.full((4, 5), NAN, np.float32) if quantiles is None else quantiles
    return Prediction(link, 0, 60_000, 900_000, values(1, 2, 0, 1), quantiles, confidence, "m-1", source)


def score(metrics, link, predicted, actual, hits):
    metrics.ledger_scored([link], relative_error(values(*predicted), values(*actual))[None], hits)


def names(registry):
    return {
        sample.name
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_every_documented_name_is_exposed_verbatim(registry, metrics):
    metrics.link_current("a", 1000, values(10, 20, 0.01, 3))
    metrics.link_sample_count("a", 7)
    metrics.predictions_made([prediction()])
    metrics.prediction_latency(0.004)
    score(metrics, "a", (10, 20, 0, 1), (10, 20, 0, 1), hits=1)
    metrics.model_serving("pba_lstm", "pba_lstm-1")
    exposed = names(registry)
    histogram = {name.removesuffix("_count") for name in exposed if name.endswith("_count")}
    assert exposed | histogram >= DOCUMENTED
    assert not {name for name in exposed if name.endswith("_created")}


def test_counters_stand_at_zero_from_the_beginning(registry, metrics):
    read = registry.get_sample_value
    assert read("dwcp_pba_retrain_total") == 0
    assert read("dwcp_pba_store_errors_total") == 0
    assert read("dwcp_pba_predictions_total", {"source": "combined"}) == 0
    assert read("dwcp_pba_samples_total", {"outcome": "stored"}) == 0
    for way in WAYS:
        assert read("dwcp_pba_values_total", {"metric": "jitter_ms", "way": way}) == 0
    for outcome in retraining.OUTCOMES:
        assert read("dwcp_pba_retrain_runs_total", {"outcome": outcome}) == 0
    for reason in Reason:
        assert read("dwcp_pba_samples_refused_total", {"reason": reason.name.lower()}) == 0


def test_labels_are_those_of_the_domain():
    assert tuple(reason.name.lower() for reason in Reason) == REASONS
    assert tuple(source.name.lower() for source in Source) == SOURCES
    assert tuple(way.name.lower() for way in samples.ValueSource) == WAYS
    assert links.METRICS == samples.METRICS
    assert tuple(one.value for one in Outcome if one is not Outcome.NONE) == retraining.OUTCOMES


def test_pushes_are_counted_by_what_became_of_each_sample(registry, metrics):
    metrics.samples_pushed(stored=5, duplicates=2, replaced=1, refused=[Reason.TOO_OLD, Reason.TOO_OLD, Reason.EMPTY])
    metrics.samples_pushed(stored=1, duplicates=0, replaced=0)
    outcomes = {
        outcome: registry.get_sample_value("dwcp_pba_samples_total", {"outcome": outcome})
        for outcome in ("stored", "duplicate", "replaced", "refused")
    }
    assert outcomes == {"stored": 6, "duplicate": 2, "replaced": 1, "refused": 3}
    assert registry.get_sample_value("dwcp_pba_samples_refused_total", {"reason": "too_old"}) == 2


def current(registry, link, metric="latency_ms"):
    return registry.get_sample_value(f"dwcp_pba_current_{metric}", {"link": link})


def test_the_newest_sample_is_current_whatever_comes_late(registry, metrics):
    metrics.link_current("a", 2000, values(10, 20, 0.01, 3))
    metrics.link_current("a", 1000, values(99, 99, 0.99, 99))
    assert current(registry, "a") == 20
    metrics.link_current("a", 2000, values(10, 25, 0.01, 3))  # a correction
    assert current(registry, "a") == 25
    assert registry.get_sample_value("dwcp_pba_newest_sample_timestamp_seconds", {"link": "a"}) == 2


def test_what_was_not_measured_is_not_shown(registry, metrics):
    metrics.link_current("a", 1000, values(NAN, 20, NAN, 3))
    assert current(registry, "a", "bandwidth_mbps") is None
    assert current(registry, "a", "jitter_ms") == 3
    assert registry.get_sample_value("dwcp_pba_confidence", {"link": "a"}) is None


def test_a_link_shows_its_newest_prediction_with_its_interval(registry, metrics):
    quantiles = np.full((4, 5), NAN, np.float32)
    quantiles[1] = [10, 11, 12, 15, 19]
    metrics.predictions_made([prediction(quantiles=quantiles)])
    shown = [
        registry.get_sample_value("dwcp_pba_predicted_latency_ms", {"link": "a", "quantile": quantile})
        for quantile in ("0.05", "0.5", "0.95")
    ]
    assert shown == [10, 12, 19]
    assert registry.get_sample_value("dwcp_pba_predicted_jitter_ms", {"link": "a", "quantile": "0.5"}) is None


def test_the_first_links_get_labels_and_the_others_are_counted_once(registry, metrics):
    for _ in range(2):
        for link in "abcde":
            metrics.link_current(link, 1000, values(1, 2, 0, 1))
            metrics.predictions_made([prediction(link)])
            score(metrics, link, (1, 2, 0, 1), (1, 2, 0, 1), hits=1)
    shown = {link for link in "abcde" if current(registry, link) is not None}
    assert shown == set("abc")
    assert registry.get_sample_value("dwcp_pba_links_unlabelled") == 2
    assert registry.get_sample_value("dwcp_pba_predictions_total", {"source": "combined"}) == 10


def test_of_one_push_the_first_links_get_labels_and_each_its_own_values(registry, metrics):
    metrics.link_current("d", 1000, values(1, 2, 0, 1))  # known before, and no first one of the push

    def push(at_ms):
        rows = np.array([values(1, 10 * place, 0, 1) for place in range(1, 6)], np.float32)
        metrics.links_pushed(list("abcde"), np.full(5, at_ms), rows, np.arange(5))

    for at_ms in (2000, 3000):
        push(at_ms)
        assert {link: current(registry, link) for link in "abcde"} == {"a": 10, "b": 20, "c": None, "d": 40, "e": None}
        assert registry.get_sample_value("dwcp_pba_links_unlabelled") == 2
    assert registry.get_sample_value("dwcp_pba_sample_count", {"link": "d"}) == 6
    assert registry.get_sample_value("dwcp_pba_sample_count", {"link": "a"}) is None  # none of its samples was new


def test_a_forgotten_link_leaves_its_label_to_another(registry, metrics):
    for link in "abcd":
        metrics.link_current(link, 1000, values(1, 2, 0, 1))
    metrics.link_forgotten("b")
    metrics.link_current("d", 2000, values(1, 2, 0, 1))
    assert current(registry, "b") is None
    assert current(registry, "d") == 2
    assert registry.get_sample_value("dwcp_pba_links_unlabelled") == 0


def test_a_link_named_with_quotes_and_newlines_breaks_nothing(registry, metrics):
    metrics.link_current('a"\n\\é', 1000, values(1, 2, 0, 1))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    labels = [s.labels for f in families for s in f.samples if s.name == "dwcp_pba_current_latency_ms"]
    assert labels == [{"link": 'a"\n\\é'}]


@pytest.mark.parametrize(
    ("predicted", "actual", "accuracy"),
    [(10, 10, 1), (8, 10, 0.8), (10, 8, 0.8), (0, 0, 1), (0, 5, 0), (5, 0, 0), (NAN, 5, NAN), (5, NAN, NAN)],
)
def test_accuracy_is_symmetric_and_between_0_and_1(predicted, actual, accuracy):
    assert 1 - relative_error(values(predicted), values(actual)) == pytest.approx(accuracy, nan_ok=True)


def accuracy(registry, metric, link="a"):
    return registry.get_sample_value("dwcp_pba_prediction_accuracy", {"link": link, "metric": metric})


def test_accuracy_starts_as_a_mean_and_then_follows_the_newest(registry, metrics):
    score(metrics, "a", (8, 10, NAN, 1), (10, 10, 0, 1), hits=0)
    assert accuracy(registry, "bandwidth_mbps") == pytest.approx(0.8)
    assert accuracy(registry, "packet_loss_ratio") is None
    score(metrics, "a", (4, 10, 0, 1), (10, 10, 0, 1), hits=0)
    assert accuracy(registry, "bandwidth_mbps") == pytest.approx(0.6)
    assert accuracy(registry, "packet_loss_ratio") == 1
    for _ in range(300):
        score(metrics, "a", (9, 10, 0, 1), (10, 10, 0, 1), hits=1)
    assert accuracy(registry, "bandwidth_mbps") == pytest.approx(0.9, abs=0.005)
    assert registry.get_sample_value("dwcp_pba_ledger_entries_total", {"hit": "true"}) == 300
    assert registry.get_sample_value("dwcp_pba_ledger_entries_total", {"hit": "false"}) == 2


def test_only_the_serving_model_is_shown(registry, metrics):
    metrics.model_serving("pba_lstm", "1")
    metrics.model_serving("pba_lstm", "2")
    read = registry.get_sample_value
    assert read("dwcp_pba_model_version", {"name": "pba_lstm", "version": "1"}) is None
    assert read("dwcp_pba_model_version", {"name": "pba_lstm", "version": "2"}) == 1


def test_latency_is_observed_in_milliseconds_for_each_prediction(registry, metrics):
    metrics.prediction_latency(0.004, predictions=3)
    assert registry.get_sample_value("dwcp_pba_prediction_latency_ms_sum") == pytest.approx(12)
    assert registry.get_sample_value("dwcp_pba_prediction_latency_ms_bucket", {"le": "5.0"}) == 3
    assert registry.get_sample_value("dwcp_pba_prediction_latency_ms_bucket", {"le": "2.0"}) == 0


def test_the_rest_is_told_as_it_happens(registry, metrics):
    metrics.ingest_batch(100)
    metrics.refreshed(32)
    metrics.refresh_lag(0.03)
    metrics.commit_conflicts(2)
    metrics.store_failed()
    metrics.subscribers(4)
    metrics.updates_skipped(5)
    read = registry.get_sample_value
    assert read("dwcp_pba_ingest_batch_samples_sum") == 100
    assert read("dwcp_pba_refresh_batch_links_sum") == 32
    assert read("dwcp_pba_refresh_lag_seconds_bucket", {"le": "0.05"}) == 1
    assert read("dwcp_pba_commit_conflicts_total") == 2
    assert read("dwcp_pba_store_errors_total") == 1
    assert read("dwcp_pba_subscribers") == 4
    assert read("dwcp_pba_skipped_updates_total") == 5


def test_scrapes_while_links_come_and_go_do_not_fail(registry):
    metrics = Metrics(registry, max_links=3000)
    stop, failures = threading.Event(), []

    def scrape():
        try:
            while not stop.is_set():
                generate_latest(registry)
        except Exception as error:  # noqa: BLE001 - the test is about any
            failures.append(error)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=scrape)
    try:
        sys.setswitchinterval(1e-5)  # as many interruptions as can be had
        thread.start()
        for number in range(3000):
            metrics.link_current(f"link-{number}", 1000, values(1, 2, 0, 1))
        for number in range(3000):
            metrics.link_forgotten(f"link-{number}")
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
    assert not failures


def test_two_services_in_one_process_do_not_mix():
    one, other = service_registry(), service_registry()
    Metrics(one, 10).store_failed()
    Metrics(other, 10)
    assert one.get_sample_value("dwcp_pba_store_errors_total") == 1
    assert other.get_sample_value("dwcp_pba_store_errors_total") == 0


def test_skill_and_coverage_are_counted_by_model_from_what_was_compared(registry, metrics):
    served = np.array([[0.1, NAN, 0, 0], [0.3, NAN, 0, 0], [0.5, 0, 0, 0]], np.float32)
    last = np.array([[0.2, 0.5, 0, 0], [0.6, NAN, 0, 0], [0.5, 0, 0, 0]], np.float32)
    inside = np.array([[True, True, True, True], [False, False, True, True], [True] * 4])

    def errors(version, forecaster, metric="bandwidth_mbps"):
        labels = {"version": version, "metric": metric, "forecaster": forecaster}
        return registry.get_sample_value("dwcp_pba_forecast_error_total", labels)

    def intervals(inside, metric="bandwidth_mbps"):
        labels = {"version": "a", "metric": metric, "inside": inside}
        return registry.get_sample_value("dwcp_pba_intervals_total", labels)

    metrics.skill.judged(["a", "a", "b"], served, last, inside)
    assert errors("a", "served") == pytest.approx(0.4)
    assert errors("a", "last") == pytest.approx(0.8)
    assert errors("a", "last", "latency_ms") == 0
    assert errors("b", "served") == pytest.approx(0.5)
    assert (intervals("true"), intervals("false")) == (1, 1)
    assert (intervals("true", "latency_ms"), intervals("false", "latency_ms")) == (0, 0)

    metrics.models_loaded(["a"])
    assert registry.get_sample_value("dwcp_pba_models_loaded") == 1
    assert errors("b", "served") is None
    metrics.skill.judged(["a"], served[:1], last[:1], inside[:1])
    assert errors("a", "served") == pytest.approx(0.5)
