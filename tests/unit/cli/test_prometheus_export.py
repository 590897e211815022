"""Exports from Prometheus: every sample once at its own time, in stretches, and on after an interruption."""

import contextlib
import csv
import http.server
import json
import threading

import pytest

from pba_service.cli.prometheus import MAX_POINTS, Prometheus, PrometheusExport, TooMuchError
from pba_service.cli.told import CommandError
from pba_service.files.scraped import TIME, VALUES, new_samples, read_answer

NOW_S = 1_800_000_000.0
STEP_S = 30.0
DAYS = 2
POINTS = DAYS * 86_400 / STEP_S
SILENT_S = (NOW_S - 86_400, NOW_S - 43_200)


class Scraped:
    """A Prometheus that scraped two replicas, which told of links with a sample each minute, and of one silence."""

    def __init__(self, links=3, max_points=MAX_POINTS, fails_at=None):
        self.links = [f"link,{i}" for i in range(links)]
        self.queries, self._max_points, self._fails_at = [], max_points, fails_at

    def measured_s(self, at_s):
        minute_s = at_s // 60 * 60 + 0.25
        return SILENT_S[0] if SILENT_S[0] < at_s < SILENT_S[1] else minute_s

    def range(self, expr, start_s, end_s, step_s):
        points = round((end_s - start_s) / step_s) + 1
        if points > self._max_points:
            raise TooMuchError("too many samples")
        self.queries.append((expr, start_s, end_s))
        if self._fails_at is not None and len(self.queries) >= self._fails_at:
            raise CommandError("away")
        times = [start_s + i * step_s for i in range(points)]
        metric = 0 if expr == TIME else 1 + VALUES.index(expr)
        if metric == 4:
            return []  # nobody measures jitter
        value = self.measured_s if metric == 0 else lambda at_s: self.measured_s(at_s) % 1000 + metric
        return [
            {
                "metric": {"__name__": expr, "link": link, "instance": instance},
                "values": [[at_s, f"{value(at_s):.3f}"] for at_s in times],
            }
            for link in self.links
            for instance in ("a", "b")
        ]


def export(file, source, **wishes):
    wishes = {"days_back": DAYS, "step_s": STEP_S, "now_s": NOW_S} | wishes
    return PrometheusExport(source, "http://p", file, **wishes)


def rows(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def check(file, source):
    found = rows(file)
    asked = {NOW_S - DAYS * 86_400 + i * STEP_S for i in range(int(POINTS) + 1)}
    wanted = {(link, round(source.measured_s(at_s) * 1000)) for link in source.links for at_s in asked}
    told = [(row["link_id"], int(row["measured_at_ms"])) for row in found]
    assert len(told) == len(set(told))
    assert set(told) == wanted
    assert all(float(row["bandwidth_mbps"]) == int(row["measured_at_ms"]) % 1_000_000 / 1000 + 1 for row in found)
    assert {row["jitter_ms"] for row in found} == {""}


def test_every_sample_comes_once_and_a_silence_is_a_gap(tmp_path):
    source = Scraped()
    export(tmp_path / "out.csv", source).run()
    check(tmp_path / "out.csv", source)
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]
    assert all((end - start) / STEP_S < 11_000 for _, start, end in source.queries)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_a_link_stays_and_leads_to_the_export(tmp_path, name):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / name).symlink_to(folder / name)
    export(tmp_path / name, Scraped(), days_back=0.05).run()
    assert (tmp_path / name).is_symlink()
    assert [one.name for one in folder.iterdir()] == [name]


@pytest.mark.parametrize("fails_at", [1, 2, 7, 23])
def test_an_interrupted_export_goes_on(tmp_path, fails_at):
    file, first = tmp_path / "out.csv", Scraped(fails_at=fails_at)
    with pytest.raises(CommandError):
        export(file, first).run()
    assert not file.exists()
    if (tmp_path / ".out.csv.progress").exists():
        with (tmp_path / ".out.csv.partial").open("a") as torn:
            torn.write("17,half a row")
    second = Scraped()
    again = export(file, second, now_s=NOW_S + 1000)
    if fails_at > 5:
        assert again.resumed
        assert second.queries == []
        again.run()
        assert min(start for _, start, _ in second.queries) > NOW_S - DAYS * 86_400
        check(file, second)
    else:
        assert not again.resumed


def test_other_wishes_begin_anew(tmp_path):
    with pytest.raises(CommandError):
        export(tmp_path / "out.csv", Scraped(fails_at=7)).run()
    assert not export(tmp_path / "out.csv", Scraped(), days_back=1).resumed


def test_less_is_asked_for_when_it_was_too_much(tmp_path):
    source = Scraped(links=1, max_points=17)
    export(tmp_path / "out.csv", source, days_back=0.05).run()
    assert max(round((end - start) / STEP_S) + 1 for _, start, end in source.queries) <= 17
    assert len(rows(tmp_path / "out.csv")) == 73
    with pytest.raises(CommandError, match="too many"):
        export(tmp_path / "b.csv", Scraped(max_points=0)).run()


def test_a_replica_that_lags_takes_nothing_back():
    def told(name, ahead, behind):
        return [
            {"metric": {"__name__": name, "link": "a", "instance": "1"}, "values": [[10, ahead]]},
            {"metric": {"__name__": name, "link": "a", "instance": "2"}, "values": [[10, behind]]},
        ]

    known = {"a": 1000}
    found = new_samples(
        told(TIME, "3", "2"), [told(VALUES[0], "30", "20"), told(VALUES[1], "NaN", "+Inf"), [], []], known
    )
    assert found["a"].times_ms.tolist() == [2000, 3000]
    assert found["a"].values[:, 0].tolist() == [20, 30]
    assert known == {"a": 3000}
    assert new_samples(told(TIME, "3", "2"), [told(VALUES[0], "30", "20"), [], [], []], known) == {}


@pytest.mark.parametrize("name", ["out.json", "out"])
def test_a_format_that_is_not_written_is_refused(tmp_path, name):
    with pytest.raises(CommandError, match="must end in"):
        export(tmp_path / name, Scraped())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"data": {"result": [7]}}',
        b'{"data": {"result": [{"metric": {"link": {}}, "values": []}]}}',
        b'{"data": {"result": [{"metric": {}, "values": [[1]]}]}}',
        b'{"data": {"result": [{"metric": {}, "values": [[1, "x"]]}]}}',
    ],
)
def test_an_answer_that_is_none_is_refused(body):
    with pytest.raises(ValueError, match=r"."):
        read_answer(body)


def test_times_and_values_that_nobody_can_have_measured_are_left_out():
    def answer(*values):
        points = [[at, value] for at, value in enumerate(values)]
        body = {"data": {"result": [{"metric": {"link": "a"}, "values": points}]}}
        return read_answer(json.dumps(body).encode())

    times = answer("1e300", "-5", "10", "NaN", "20")
    found = new_samples(times, [answer("1", "1", "1e300", "1", "7"), [], [], []], {})
    assert found["a"].times_ms.tolist() == [20_000]
    assert found["a"].values[0, 0] == 7


class Hostile(http.server.BaseHTTPRequestHandler):
    """Answers every query with the same bytes."""

    body, status = b"", 200

    def do_POST(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(self.body)

    def log_message(self, *_):
        """Says nothing."""


@contextlib.contextmanager
def answering(body, status=200, **bounds):
    handler = type("Here", (Hostile,), {"body": body, "status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Prometheus(f"http://127.0.0.1:{server.server_port}", sleep=lambda _: None, **bounds)
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("body", "status"), [(b"[]", 200), (b"\xff", 200), (b"[" * 99_999, 400), (b"[]", 400), (b"", 503)]
)
def test_a_server_that_is_no_prometheus_is_said(body, status):
    with answering(body, status) as source, pytest.raises(CommandError):
        source.range("up", 0, 60, 30)


def test_less_is_asked_for_when_an_answer_is_too_large():
    with answering(b" " * 2_000, max_answer_bytes=1_000) as source, pytest.raises(TooMuchError):
        source.range("up", 0, 60, 30)


def test_passwords_of_an_address_are_not_shown():
    assert Prometheus("https://me:secret@host:9090/prom/").shown == "https://host:9090/prom"


@pytest.mark.parametrize("address", ["ftp://host", "http://[::1", "http://host:port", "http://host:99999", ""])
def test_an_address_that_is_none_is_told(address):
    with pytest.raises(CommandError, match="PROMETHEUS_URL is no address"):
        Prometheus(address)
