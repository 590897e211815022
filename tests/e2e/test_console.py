"""The console of a running service: over HTTP, and in a real browser where there is one."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from pba_client import Sample
from tests.process import ServiceProcess

LINK = "fra-ams/1"
SILENT = "ping-only"


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "several processes"])
def service(request, tmp_path_factory):
    environment = {"PBA_WORKERS": str(request.param)}
    with ServiceProcess(tmp_path_factory.mktemp("console"), environment=environment) as running:
        with running.client() as client:
            client.push(list(samples()))
            running.wait_until(lambda: client.predict(LINK), "predict")
        yield running


def samples():
    now = datetime.now(UTC)
    for minute in range(90, -1, -1):
        at = now - timedelta(minutes=minute)
        yield Sample(
            LINK,
            at,
            bandwidth_mbps=900 + minute % 7,
            latency_ms=8 + minute % 3,
            packet_loss_ratio=0.001,
            jitter_ms=0.5,
            node="fra",
            peer="ams",
            region="eu",
        )
        yield Sample(SILENT, at, latency_ms=20 + minute % 5)


def get(service, path, **query):
    """Status, headers and content of an answer."""
    url = f"http://127.0.0.1:{service.metrics_port}{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def ask(service, path, **query):
    status, _, body = get(service, f"/api/{path}", **query)
    assert status == 200, body
    return json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(service):
    status, headers, body = get(service, "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    named = [name for name in ("console.css", "console.js", "charts.js") if get(service, f"/{name}")[0] == 200]
    assert len(named) == 3
    assert b"//" not in body.replace(b"<!doctype html>", b"")


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/nothing", "/../settings.py", "/static/index.html", "/%2e%2e/app.py"]
)
def test_there_is_nothing_else(service, path):
    assert get(service, path)[0] == 404


def test_it_is_for_reading_only(service):
    request = urllib.request.Request(f"http://127.0.0.1:{service.metrics_port}/api/links", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 - a loopback address
    with refused.value as answer:
        assert answer.code == 405


def test_prometheus_is_answered_beside_it(service):
    assert "dwcp_pba_samples_total" in service.metrics()


def test_links_come_with_what_was_measured_and_what_is_next(service):
    found = {link["link_id"]: link for link in ask(service, "links")["links"]}
    assert found.keys() == {LINK, SILENT}
    link = found[LINK]
    assert (link["node"], link["peer"], link["region"], link["samples"]) == ("fra", "ams", "eu", 91)
    assert link["values"] == pytest.approx([900, 8, 0.001, 0.5])
    assert link["prediction"]["target_ms"] - link["prediction"]["made_at_ms"] == 15 * 60_000
    assert link["line"]["metric"] == "bandwidth_mbps"
    assert len(link["line"]["values"]) == 60
    assert found[SILENT]["values"][0] is None
    assert found[SILENT]["line"]["metric"] == "latency_ms"


def test_a_prefix_and_a_page_choose_links(service):
    assert [link["link_id"] for link in ask(service, "links", prefix="fra")["links"]] == [LINK]
    assert [link["link_id"] for link in ask(service, "links", after=LINK)["links"]] == [SILENT]


def test_a_link_shows_its_past_its_forecast_and_how_to_send(service):
    link = ask(service, "link", id=LINK, hours=1)
    history, ledger = link["history"], link["ledger"]
    assert history["times_ms"][-1] - history["times_ms"][0] <= 3_600_000
    assert history["times_ms"] == sorted(history["times_ms"])
    assert len(ledger["target_ms"]) == len(ledger["predicted"][0]) == len(ledger["actual"][0]) > 0
    low, _, median, _, high = link["prediction"]["quantiles"][0]
    assert low <= median <= high
    assert [point["horizon_ms"] for point in link["path"]] == [300_000, 900_000, 1_800_000, 3_600_000, 14_400_000]
    assert link["parameters"]["streams"] >= 2
    assert link["advised"]["at_ms"]
    assert all(streams >= 2 for streams in link["advised"]["streams"])
    assert sum(weights[0] or 0 for weights in zip(*link["learned"]["weights"], strict=True)) <= 1.0001


def test_what_is_not_known_or_asked_wrongly_is_said(service):
    assert get(service, "/api/link", id="nobody")[0] == 404
    assert get(service, "/api/link")[0] in {400, 404}
    for hours in ("-1; drop", "000001" + "0" * 5000, "000006999999", "169"):
        assert len(ask(service, "link", id=LINK, hours=hours)["history"]["times_ms"]) > 80, "those of six hours"


def test_models_come_with_their_scores(service):
    model = ask(service, "models")["models"][0]
    assert model["name"] == "pba_lstm"
    assert {score["forecaster"] for score in model["scores"]} >= {"model"} or model["scores"]


@pytest.fixture(scope="module")
def experiment(service):
    """The other model that comes with PBA, beside the one that serves."""
    with service.client() as client:
        serving = client.model_state().active_version
        [other] = [model.version for model in client.models() if model.version != serving]
        return client.start_experiment(other, share=0.25)


def test_experiments_come_with_what_they_have_shown(service, experiment):
    [shown] = ask(service, "models")["experiments"]
    assert (shown["name"], shown["challenger"]) == (experiment.name, experiment.challenger)
    assert (shown["status"], shown["kind"], shown["share"], shown["ended_at_ms"]) == ("running", "trial", 0.25, None)
    assert (shown["towards_promotion"], shown["towards_rejection"]) == (0, 0)


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("", [LINK, SILENT, "Mb/s"]),
        (f"#/link/{urllib.parse.quote(LINK, safe='')}", ["Round-trip time", "streams", "Confidence", "median10"]),
        ("#/models", ["pba_lstm", "serving", "bandwidth_lstm", "25 %", "evidence that it is better"]),
    ],
)
def test_a_browser_shows_it(service, experiment, tmp_path, page, wanted):
    browser = shutil.which("chromium") or pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=390,900",
            "--virtual-time-budget=4000",
            "--dump-dom",
            f"http://127.0.0.1:{service.metrics_port}/{page}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    for text in wanted:
        assert text in done.stdout
    assert 'class="bad"' not in done.stdout
    assert "NaN" not in done.stdout
    assert "undefined" not in done.stdout
