"""The dashboards, from the metrics that the service exposes.

A replica shows of a link what it last saw of it, so of several replicas the one with the newest sample is believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.generate.panels import Query, board, choice, graph, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafana_foundation_sdk.builders import dashboard

_METRICS = (
    ("bandwidth_mbps", "Bandwidth", "Mbits"),
    ("latency_ms", "Round-trip time", "ms"),
    ("packet_loss_ratio", "Packet loss", "percentunit"),
    ("jitter_ms", "Jitter", "ms"),
)
_HORIZON = "15m"
_QUICK = 'grpc_service=~"pba.v1.*",grpc_type="unary"'


def _newest(name: str, selector: str) -> str:
    """A link's series from the replica that has its newest sample."""
    newest = f"topk by (link) (1, dwcp_pba_newest_sample_timestamp_seconds{{{selector}}})"
    return f"{name} and on (link, instance) {newest}"


def fleet() -> dashboard.Dashboard:
    """All links together."""
    per_link = _newest("dwcp_pba_confidence", "")
    return _with(
        board("pba-fleet", "PBA: fleet", "All links: what they report, and how well they are predicted."),
        number(
            "Links",
            "Links that have series of their own.",
            "short",
            Query("count(count by (link) (dwcp_pba_sample_count))"),
        ),
        number(
            "Stale links",
            "Links without a sample for 15 minutes.",
            "short",
            Query("count(time() - max by (link) (dwcp_pba_newest_sample_timestamp_seconds) > 900) or vector(0)"),
        ),
        number(
            "Samples per second",
            "New samples, all replicas.",
            "short",
            Query('sum(rate(dwcp_pba_samples_total{outcome="stored"}[5m]))'),
        ),
        number("Confidence", "Median over links.", "percentunit", Query(f"quantile(0.5, {per_link})")),
        graph(
            "Samples by outcome",
            "Pushed samples, by what became of them.",
            "short",
            Query("sum by (outcome) (rate(dwcp_pba_samples_total[5m]))", "{{outcome}}"),
        ),
        graph(
            "Refused samples",
            "By reason; all zero is as it should be.",
            "short",
            Query("sum by (reason) (rate(dwcp_pba_samples_refused_total[5m]))", "{{reason}}"),
        ),
        graph(
            "Predictions",
            "Predictions made a second, by what produced them.",
            "short",
            Query("sum by (source) (rate(dwcp_pba_predictions_total[5m]))", "{{source}}"),
        ),
        graph(
            "Came true",
            "Share of predictions whose bandwidth and latency came within 20 %, beside the confidence they were given.",
            "percentunit",
            Query(
                'sum(rate(dwcp_pba_ledger_entries_total{hit="true"}[15m])) / '
                "(sum(rate(dwcp_pba_ledger_entries_total[15m])) > 0)",
                "came true",
            ),
            Query(f"avg({per_link})", "confidence, mean"),
        ),
        graph(
            "Accuracy",
            "Mean over links of 1 - |predicted - actual| / max(predicted, actual), the last 50 predictions or so.",
            "percentunit",
            Query("avg by (metric) (dwcp_pba_prediction_accuracy)", "{{metric}}"),
        ),
        graph(
            "Skill",
            "1 - error of the forecasts / error of repeating the last value; above 0 they are worth asking for.",
            "percentunit",
            Query(
                '1 - sum by (metric) (rate(dwcp_pba_forecast_error_total{forecaster="served"}[1h])) '
                '/ (sum by (metric) (rate(dwcp_pba_forecast_error_total{forecaster="last"}[1h])) > 0)',
                "{{metric}}",
            ),
        ),
        graph(
            "Coverage",
            "Share of samples that lay in the 90 % interval predicted for them.",
            "percentunit",
            Query(
                'sum by (metric) (rate(dwcp_pba_intervals_total{inside="true"}[6h])) '
                "/ (sum by (metric) (rate(dwcp_pba_intervals_total[6h])) > 0)",
                "{{metric}}",
            ),
        ),
        graph(
            "Least confident links",
            "The ten links whose newest prediction is the least sure.",
            "percentunit",
            Query(f"bottomk(10, {per_link})", "{{link}}"),
        ),
    )


def link() -> dashboard.Dashboard:
    """One link: current, predicted with its interval, and what came true."""
    selector = 'link="$link"'
    panels = []
    for name, title, unit in _METRICS:
        predicted = f"dwcp_pba_predicted_{name}"
        panels.append(
            graph(
                title,
                "Measured, and what had been predicted for the time shown 15 minutes before, with its 90 % interval.",
                unit,
                Query(_newest(f"dwcp_pba_current_{name}{{{selector}}}", selector), "measured"),
                Query(
                    f'max without (instance) ({predicted}{{{selector},quantile="0.5"}} offset {_HORIZON})', "predicted"
                ),
                Query(f'max without (instance) ({predicted}{{{selector},quantile="0.05"}} offset {_HORIZON})', "5 %"),
                Query(f'max without (instance) ({predicted}{{{selector},quantile="0.95"}} offset {_HORIZON})', "95 %"),
                wide=True,
            )
        )
    return _with(
        board("pba-link", "PBA: one link", "A link's measurements beside what was predicted.").with_variable(
            choice("link", "Link", "label_values(dwcp_pba_sample_count, link)")
        ),
        number(
            "Confidence",
            "Probability that bandwidth and latency come within 20 % of the prediction.",
            "percentunit",
            Query(_newest(f"dwcp_pba_confidence{{{selector}}}", selector)),
        ),
        number("Samples", "Stored samples.", "short", Query(f"max(dwcp_pba_sample_count{{{selector}}})")),
        number(
            "Newest sample",
            "Its age.",
            "s",
            Query(f"time() - max(dwcp_pba_newest_sample_timestamp_seconds{{{selector}}})"),
        ),
        number(
            "Bandwidth in 15 min",
            "The newest prediction.",
            "Mbits",
            Query(_newest(f'dwcp_pba_predicted_bandwidth_mbps{{{selector},quantile="0.5"}}', selector)),
        ),
        *panels,
        graph(
            "Accuracy",
            "1 - |predicted - actual| / max(predicted, actual), mean of about the last 50 predictions.",
            "percentunit",
            Query(f"avg by (metric) (dwcp_pba_prediction_accuracy{{{selector}}})", "{{metric}}"),
            wide=True,
        ),
    )


def health() -> dashboard.Dashboard:
    """The service itself."""
    handling = f"grpc_server_handling_seconds_bucket{{{_QUICK}}}"
    return _with(
        board("pba-health", "PBA: service", "Calls, latency, Redis and the replicas."),
        number("Replicas", "That answer Prometheus.", "short", Query("count(dwcp_pba_build_info)")),
        number(
            "Calls per second",
            "All RPCs.",
            "short",
            Query('sum(rate(grpc_server_handled_total{grpc_service=~"pba.*"}[5m]))'),
        ),
        number("Subscribers", "Open prediction streams.", "short", Query("sum(dwcp_pba_subscribers)")),
        number("Store errors", "In 5 minutes.", "short", Query("sum(increase(dwcp_pba_store_errors_total[5m]))")),
        graph(
            "Calls",
            "By method.",
            "reqps",
            Query(
                'sum by (grpc_method) (rate(grpc_server_handled_total{grpc_service=~"pba.*"}[5m]))', "{{grpc_method}}"
            ),
        ),
        graph(
            "Errors",
            "Calls that did not end with OK, by status.",
            "reqps",
            Query(
                'sum by (grpc_code) (rate(grpc_server_handled_total{grpc_service=~"pba.*",grpc_code!="OK"}[5m]))',
                "{{grpc_code}}",
            ),
        ),
        graph(
            "Latency of calls",
            "99th percentile by method, unary calls.",
            "s",
            Query(f"histogram_quantile(0.99, sum by (le, grpc_method) (rate({handling}[5m])))", "{{grpc_method}}"),
        ),
        graph(
            "From sample to prediction",
            "Time from a link's change to its stored prediction.",
            "s",
            Query("histogram_quantile(0.5, sum by (le) (rate(dwcp_pba_refresh_lag_seconds_bucket[5m])))", "median"),
            Query("histogram_quantile(0.99, sum by (le) (rate(dwcp_pba_refresh_lag_seconds_bucket[5m])))", "99th"),
        ),
        graph(
            "Event loop",
            "How late the event loop is: a busy or blocked process.",
            "s",
            Query("max by (instance) (dwcp_pba_event_loop_lag_seconds)", "{{instance}}"),
        ),
        graph(
            "Batches",
            "Links brought up to date at once, and samples written at once, medians.",
            "short",
            Query("histogram_quantile(0.5, sum by (le) (rate(dwcp_pba_refresh_batch_links_bucket[5m])))", "links"),
            Query("histogram_quantile(0.5, sum by (le) (rate(dwcp_pba_ingest_batch_samples_bucket[5m])))", "samples"),
        ),
        graph(
            "Redis",
            "99th percentile of round trips, by what was asked.",
            "s",
            Query(
                "histogram_quantile(0.99, sum by (le, operation) (rate(dwcp_pba_redis_round_trip_seconds_bucket[5m])))",
                "{{operation}}",
            ),
        ),
        graph(
            "Redis round trips",
            "Under way, at the moment of the scrape; more than 32 in a process wait for a connection.",
            "short",
            Query("sum by (instance) (dwcp_pba_redis_round_trips)", "{{instance}}"),
        ),
        graph(
            "Queues",
            "The longest in 15 seconds: samples to be stored, links to be advanced, updates of the slowest subscriber.",
            "short",
            Query("max by (queue) (dwcp_pba_queue_length)", "{{queue}}"),
        ),
        graph(
            "Read from the store",
            "Predictions asked for a second that were not in memory.",
            "short",
            Query("sum(rate(dwcp_pba_memory_misses_total[5m]))", "misses"),
        ),
        graph(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            Query("process_resident_memory_bytes", "{{instance}}"),
        ),
        graph("CPU", "Cores used.", "short", Query("rate(process_cpu_seconds_total[5m])", "{{instance}}")),
        graph(
            "Skipped updates",
            "Updates that newer ones overtook before a subscriber read them.",
            "short",
            Query("sum(rate(dwcp_pba_skipped_updates_total[5m]))", "skipped"),
        ),
        graph(
            "Conflicts",
            "Commits that another replica was faster with.",
            "short",
            Query("sum(rate(dwcp_pba_commit_conflicts_total[5m]))", "conflicts"),
        ),
    )


def models() -> dashboard.Dashboard:
    """Which models serve, and how they do."""
    return _with(
        board("pba-models", "PBA: models", "Which models serve, and what is tried against them."),
        graph(
            "Models served",
            "Replicas that serve each version.",
            "short",
            Query("sum by (name, version) (dwcp_pba_model_version)", "{{name}} {{version}}"),
            wide=True,
        ),
        graph(
            "Models loaded and missing",
            "Models in memory of all replicas, and desired ones that a replica has not.",
            "short",
            Query("sum(dwcp_pba_models_loaded)", "loaded"),
            Query("sum(dwcp_pba_models_missing)", "missing"),
        ),
        graph(
            "Desired state",
            "Its revision as each replica follows it: lines that stay apart are replicas that disagree.",
            "short",
            Query("dwcp_pba_models_revision", "{{instance}}"),
        ),
        graph(
            "Skill of each model",
            "How much less it errs on the links that it serves than repeating the last value, all metrics together.",
            "percentunit",
            Query(
                '1 - sum by (version) (rate(dwcp_pba_forecast_error_total{forecaster="served"}[1h])) '
                '/ (sum by (version) (rate(dwcp_pba_forecast_error_total{forecaster="last"}[1h])) > 0)',
                "{{version}}",
            ),
        ),
        graph(
            "Coverage of each model",
            "Share of samples within the 90 % intervals of the links that it serves.",
            "percentunit",
            Query(
                'sum by (version) (rate(dwcp_pba_intervals_total{inside="true"}[1h])) '
                "/ (sum by (version) (rate(dwcp_pba_intervals_total[1h])) > 0)",
                "{{version}}",
            ),
        ),
        graph(
            "Evidence of experiments",
            "What whoever bet against the other hypothesis would have made of 1: at 1 over the error rate it decides.",
            "short",
            Query('max by (experiment) (dwcp_pba_experiment_wealth{outcome="promote"})', "{{experiment}} is better"),
            Query('max by (experiment) (dwcp_pba_experiment_wealth{outcome="reject"})', "{{experiment}} is worse"),
        ),
        graph(
            "Advantage of challengers",
            "Mean of how much less they erred, in usual errors; above 0 is better.",
            "short",
            Query("max by (experiment) (dwcp_pba_experiment_advantage_ratio)", "{{experiment}}"),
        ),
        graph(
            "Observed periods",
            "Hours of data time that each experiment has seen.",
            "short",
            Query("max by (experiment) (dwcp_pba_experiment_periods)", "{{experiment}}"),
        ),
        graph(
            "Retrainings of the last day",
            "By how they ended; every replica counts each of them.",
            "short",
            Query("max by (outcome) (increase(dwcp_pba_retrain_runs_total[1d]))", "{{outcome}}"),
        ),
        graph(
            "Retraining under way",
            "How much of its present phase is done; 0 while none runs.",
            "percentunit",
            Query("max(dwcp_pba_retrain_progress_ratio)", "done"),
        ),
        graph(
            "Until the next retraining",
            "Below 0 it is overdue, and an alert fires after half an interval more. Empty where nobody retrains.",
            "s",
            Query("max(dwcp_pba_retrain_due_timestamp_seconds > 0) - time()", "until it is due"),
        ),
    )


def every() -> dict[str, dashboard.Dashboard]:
    """By the name of its file."""
    return {"fleet": fleet(), "link": link(), "health": health(), "models": models()}


def _with(empty: dashboard.Dashboard, *panels: object) -> dashboard.Dashboard:
    for panel in _typed(panels):
        empty = empty.with_panel(panel)
    return empty


def _typed(panels: Iterable[object]) -> Iterable[dashboard.Panel]:
    return panels  # type: ignore[return-value]  # the builders' panels share a protocol that they do not declare
