"""`pba export --from-prometheus`: the measurements that Prometheus scraped, as CSV or parquet.

Stretch after stretch of time is asked for and written to a file beside the wanted one, with a note of how far that is.
Whoever runs the command again after an interruption goes on there; the wanted file appears only when it is whole.
"""

from __future__ import annotations

import base64
import csv
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pba_service.cli.told import CommandError, ExitCode, tell
from pba_service.domain.samples import METRICS
from pba_service.files.scraped import TIME, VALUES, new_samples, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pba_service.domain.samples import Series
    from pba_service.files.scraped import Answer

MAX_POINTS = 10_000
"""Of one series in one answer; Prometheus refuses more than 11,000."""

FIRST_POINTS = 240
"""As long as it is not known how many links there are."""

VALUES_PER_ANSWER = 500_000
"""What an answer should hold at most: some 20 MB of JSON."""

COLUMNS = ("measured_at_ms", "link_id", *METRICS)
SUFFIXES = (".csv", ".parquet")

MAX_ANSWER_BYTES = 256 << 20
"""Of one answer; for a larger one less is asked for at a time."""

_TIMEOUT_S = 60.0
_WAITS_S = (1.0, 2.0, 4.0)
_BUSY = frozenset({429, 500, 502, 503, 504})
_TOO_MUCH = 422
_MAX_REASON_BYTES = 65_536


class TooMuchError(Exception):
    """Prometheus will not load so many samples for one answer."""


class Source(Protocol):
    """Answers range queries."""

    def range(self, expr: str, start_s: float, end_s: float, step_s: float) -> Answer:
        """The series of an expression, both ends included. Raises `TooMuchError` and `CommandError`."""
        ...


class Prometheus:
    """A Prometheus server, over its HTTP API."""

    def __init__(
        self, url: str, sleep: Callable[[float], None] = time.sleep, max_answer_bytes: int = MAX_ANSWER_BYTES
    ) -> None:
        """Takes its address; a name and a password in it are sent as such, and never told.

        Raises:
            CommandError: The address is none.
        """
        try:
            parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # half an address in brackets, or a port that is none
            usable = False
        if not usable:
            raise CommandError("PROMETHEUS_URL is no address such as http://127.0.0.1:9090", ExitCode.USAGE)
        self.shown = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
        )
        self._headers = {"Accept": "application/json"}
        if parts.username is not None:
            given = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(given.encode()).decode()}"
        self._sleep = sleep
        self._max_answer_bytes = max_answer_bytes

    def range(self, expr: str, start_s: float, end_s: float, step_s: float) -> Answer:
        """The series of an expression, both ends included. Raises `TooMuchError` and `CommandError`."""
        asked = {"query": expr, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            f"{self.shown}/api/v1/query_range", urllib.parse.urlencode(asked).encode(), self._headers
        )
        for wait_s in (*_WAITS_S, None):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                    data = answer.read(self._max_answer_bytes + 1)
                    if len(data) > self._max_answer_bytes:
                        raise TooMuchError(f"an answer of more than {self._max_answer_bytes} bytes")
                    return read_answer(data)
            except urllib.error.HTTPError as refused:
                why = _reason(refused)
                if refused.code == _TOO_MUCH:
                    raise TooMuchError(why) from None
                if refused.code not in _BUSY:
                    raise CommandError(f"{self.shown} refused: {why}") from None
            except (OSError, ValueError, http.client.HTTPException) as error:
                why = str(getattr(error, "reason", error)) or type(error).__name__
            if wait_s is not None:
                self._sleep(wait_s)
        raise CommandError(f"{self.shown} does not answer: {why}; run this again to go on", ExitCode.UNAVAILABLE)


def _reason(refused: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(refused.read(_MAX_REASON_BYTES))["error"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, http.client.HTTPException):
        return f"{refused.code} {refused.reason}"


@dataclass(slots=True)
class Progress:
    """How far an export is.

    Attributes:
        source: Where it comes from.
        days_back: What was wanted.
        step_s: Between points in time.
        end_s: The last of them.
        next_s: The next to be asked for.
        written_bytes: What of the file beside the wanted one is whole.
        rows: The samples in it.
        newest_ms: When the newest sample of each link was measured.
    """

    source: str
    days_back: float
    step_s: float
    end_s: float
    next_s: float
    written_bytes: int = 0
    rows: int = 0
    newest_ms: dict[str, int] = field(default_factory=dict)


class PrometheusExport:
    """One export into one file, perhaps over several runs."""

    def __init__(
        self, source: Source, shown: str, file: Path, *, days_back: float, step_s: float, now_s: float
    ) -> None:
        """Takes up what an interrupted run with the same wishes has left.

        Raises:
            CommandError: The file's name says no format that is written.
        """
        if file.suffix not in SUFFIXES:
            raise CommandError(f"{file}: the name must end in {' or '.join(SUFFIXES)}", ExitCode.USAGE)
        self._source = source
        file = file.resolve()  # a link stays, and what it leads to is replaced
        self._file = file
        self._partial = file.with_name(f".{file.name}.partial")
        self._note = file.with_name(f".{file.name}.progress")
        self._points = FIRST_POINTS
        self.resumed = False
        self.progress = Progress(shown, days_back, step_s, now_s, now_s - days_back * 86_400)
        left = self._left_behind()
        if left is not None and (left.source, left.days_back, left.step_s) == (shown, days_back, step_s):
            self.progress, self.resumed = left, True

    def run(self) -> None:
        """Writes what is missing. Raises `CommandError`, after which another run goes on, and `OSError`."""
        if not self.resumed:
            self._partial.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
            self.progress.written_bytes = self._partial.stat().st_size
        with self._partial.open("r+b") as begun:
            begun.truncate(self.progress.written_bytes)
        while self.progress.next_s <= self.progress.end_s:
            self._stretch()
        self._finish()

    def _stretch(self) -> None:
        progress = self.progress
        last_s = min(progress.end_s, progress.next_s + (self._points - 1) * progress.step_s)
        try:
            times, *values = (
                self._source.range(name, progress.next_s, last_s, progress.step_s) for name in (TIME, *VALUES)
            )
        except TooMuchError as error:
            if self._points == 1:
                raise CommandError(f"{progress.source} refused: {error}") from None
            self._points = max(1, self._points // 2)
            return
        self._append(new_samples(times, values, progress.newest_ms))
        progress.next_s = last_s + progress.step_s
        self._remember()
        self._points = max(1, min(MAX_POINTS, 2 * self._points, VALUES_PER_ANSWER // max(len(times), 1)))

    def _append(self, found: dict[str, Series]) -> None:
        with self._partial.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            for link_id, series in found.items():
                for time_ms, values in zip(series.times_ms.tolist(), series.values, strict=True):
                    # str() of a float32 is the shortest text that reads back as the same float32
                    writer.writerow([time_ms, link_id, *("" if value != value else str(value) for value in values)])  # noqa: PLR0124 - NaN
                self.progress.rows += len(series)
            stream.flush()
            os.fsync(stream.fileno())
        self.progress.written_bytes = self._partial.stat().st_size

    def _remember(self) -> None:
        note = self._note.with_name(f"{self._note.name}.new")
        note.write_text(json.dumps(asdict(self.progress)), encoding="utf-8")
        note.replace(self._note)

    def _left_behind(self) -> Progress | None:
        try:
            left = Progress(**json.loads(self._note.read_text(encoding="utf-8")))
            whole = self._partial.stat().st_size >= left.written_bytes
        except (OSError, ValueError, TypeError):
            return None
        return left if whole else None

    def _finish(self) -> None:
        if self._file.suffix == ".parquet":
            _to_parquet(self._partial)
        self._partial.replace(self._file)
        self._note.unlink(missing_ok=True)


def _to_parquet(file: Path) -> None:
    """Turns a CSV file into the same as parquet."""
    import pyarrow as pa  # noqa: PLC0415 - takes long, and only here
    from pyarrow import csv as table_csv  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    kinds: dict[str, Any] = {"measured_at_ms": pa.int64(), "link_id": pa.string()} | dict.fromkeys(
        METRICS, pa.float32()
    )
    table = table_csv.read_csv(file, convert_options=table_csv.ConvertOptions(column_types=kinds))
    made = file.with_name(f"{file.name}.parquet")
    parquet.write_table(table, made)
    made.replace(file)


def export_prometheus(file: Path, url: str, *, days_back: float, step_s: float) -> None:
    """Writes what Prometheus scraped in the last days.

    Raises:
        CommandError: Prometheus is away or refuses, or the file cannot be written.
    """
    source = Prometheus(url)
    try:
        export = PrometheusExport(source, source.shown, file, days_back=days_back, step_s=step_s, now_s=time.time())
        if export.resumed:
            tell(f"goes on after {export.progress.rows} samples")
        export.run()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from None
    progress = export.progress
    tell(f"wrote {progress.rows} samples of {len(progress.newest_ms)} links to {file}")
