"""Files of measurements, good, bad and hostile."""

import gzip
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pba_service.domain.samples import METRICS, LinkInfo, Series
from pba_service.files import JsonlWriter, MeasurementFileError, read_batches, read_links, replacing
from pba_service.files.columns import UNIX_TIME
from pba_service.files.text import MAX_LINE_BYTES

T0_S = 1_750_000_000
T0_MS = T0_S * 1000
NAN = np.nan


def write(folder, name, content):
    file = folder / name
    if isinstance(content, str):
        content = content.encode()
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


def rows_of(file, **options):
    """(link, time, values that were measured by name) of every sample, in the file's order."""
    return [
        (
            batch.links[link].link_id,
            time_ms,
            {name: value for name, value, there in zip(METRICS, values, present, strict=True) if there},
        )
        for batch in read_batches(file, **options)
        for link, time_ms, values, present in zip(
            batch.link_index.tolist(),
            batch.measured_at_ms.tolist(),
            batch.values.tolist(),
            batch.present.tolist(),
            strict=True,
        )
    ]


def collected(file, **options):
    faults = []
    rows = rows_of(file, on_fault=faults.append, **options)
    return rows, [str(fault) for fault in faults]


def test_csv_with_gaps(tmp_path):
    file = write(
        tmp_path,
        "m.csv",
        "timestamp,link_id,bandwidth_mbps,latency_ms,packet_loss,jitter_ms,comment\n"
        f"{T0_S},a,100.5,,0.25,,first\n"
        f"{T0_S + 60},b,NaN,12, ,null,\n"
        "\n"
        f"{T0_S + 120},a,1\n",
    )
    assert rows_of(file) == [
        ("a", T0_MS, {"bandwidth_mbps": 100.5, "packet_loss_ratio": 0.25}),
        ("b", T0_MS + 60_000, {"latency_ms": 12}),
        ("a", T0_MS + 120_000, {"bandwidth_mbps": 1}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiters_and_a_byte_order_mark(tmp_path, delimiter):
    text = delimiter.join(["\ufeffTimestamp", " Link ", "rtt_ms"]) + "\r\n" + delimiter.join([str(T0_S), "a", "5"])
    assert rows_of(write(tmp_path, "m.csv", text)) == [("a", T0_MS, {"latency_ms": 5})]


def test_quoted_csv(tmp_path):
    file = write(tmp_path, "m.csv", f'time,link,latency\n{T0_S},"a, ""b""",1\n{T0_S + 1},c,2\n')
    assert [row[0] for row in rows_of(file)] == ['a, "b"', "c"]


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        (str(T0_S), T0_MS),
        (f"{T0_S}.25", T0_MS + 250),
        (f" {T0_MS} ", T0_MS),
        (str(T0_MS * 1000), T0_MS),
        (str(T0_MS * 1_000_000), T0_MS),
        ("2025-06-15T15:06:40Z", T0_MS),
        ("2025-06-15 17:06:40.5+02:00", T0_MS + 500),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_times_are_understood_in_every_format(tmp_path, text, expected_ms, suffix):
    if suffix == "csv":
        file = write(tmp_path, "m.csv", f"timestamp,link,latency\n{text},a,1\n")
    elif suffix == "jsonl":
        file = write(tmp_path, "m.jsonl", json.dumps({"timestamp": text, "link": "a", "latency": 1}))
    else:
        file = tmp_path / "m.parquet"
        pq.write_table(pa.table({"timestamp": [text], "link": ["a"], "latency": [1.0]}), file)
    assert rows_of(file) == [("a", expected_ms, {"latency_ms": 1})]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is missing"),
        ("yesterday", "'yesterday' is neither a number nor ISO 8601"),
        ("2025-06-15T15:06:40", "has no time zone"),
        ("-5", "'-5' is no Unix time"),
        ("0", "'0' is no Unix time"),
        ("nan", "'nan' is no Unix time"),
        ("inf", "'inf' is no Unix time"),
        ("1e300", "'1e300' is no Unix time"),
        (
            "20250615150640",
            "'20250615150640' is no Unix time (s, ms, us or ns) from 2000 to 2099, nor ISO 8601 such as",
        ),
        ("202506151506", "'202506151506' is no Unix time"),
        ("20250615", "'20250615' is no Unix time"),
        ("45823.5", "'45823.5' is no Unix time"),
        ("0001-01-01T00:00:00+14:00", "is no time after 1970"),
        ("x" * 5000, "…"),
    ],
)
def test_times_that_are_none(tmp_path, text, fault):
    file = write(tmp_path, "m.csv", f"timestamp,link,latency\n{T0_S},a,1\n{text},a,2\n")
    rows, faults = collected(file)
    assert len(rows) == 1
    assert faults[0].startswith("row 3: timestamp: ")
    assert fault in faults[0]
    assert len(faults[0]) < 200
    with pytest.raises(MeasurementFileError, match=r"m\.csv: row 3: timestamp: ") as caught:
        rows_of(file)
    assert caught.value.row == 3


def test_milliseconds_by_name(tmp_path):
    file = write(tmp_path, "m.csv", "measured_at_ms,link,latency\n5000,a,1\n")
    assert rows_of(file) == [("a", 5000, {"latency_ms": 1})]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("fast", "'fast' is no number"),
        ("inf", "is not finite"),
        ("-1", "is outside 0 to 1"),
        ("35", "is outside 0 to 1"),
        ("1e400", "is not finite"),
        ("1e39", "is outside 0 to 1"),
    ],
)
def test_values_that_are_none(tmp_path, value, fault):
    text = f"timestamp,link,packet_loss\n{T0_S},a,{value}\n{T0_S},a,0.5\n"
    rows, faults = collected(write(tmp_path, "m.csv", text))
    assert len(rows) == 1
    assert faults[0].startswith("row 2: packet_loss")
    assert fault in faults[0]


def test_rows_without_a_link_or_a_value(tmp_path):
    file = write(
        tmp_path, "m.csv", f"timestamp,link,latency\n{T0_S},,1\n{T0_S},a,\n{T0_S},{'x' * 129},1\n{T0_S},a\x07,1\n"
    )
    rows, faults = collected(file)
    assert rows == []
    assert faults == [
        "row 2: link_id: is required",
        "row 4: link_id: is longer than 128 bytes",
        "row 5: link_id: has characters that cannot be printed",
        f"row 3: has none of {', '.join(METRICS)}",
    ]


def test_rows_with_too_many_fields(tmp_path):
    rows, faults = collected(write(tmp_path, "m.csv", f"timestamp,link,latency\n{T0_S},a,1,2,3\n{T0_S},a,1\n"))
    assert len(rows) == 1
    assert faults == ["row 2: has 5 fields, the header 3"]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("a,b,c", "there is no column timestamp (columns: 'a', 'b', 'c')"),
        ("timestamp,b,latency", "there is no column link_id"),
        ("timestamp,link,b", "there is no column bandwidth_mbps"),
        ("timestamp,time,link,latency", "columns 'timestamp' and 'time' both mean timestamp"),
        ("timestamp,measured_at_ms,link,latency", "both mean timestamp"),
        ("timestamp,link,latency,rtt_ms", "both mean latency_ms"),
        ("", "is empty"),
        ("timestamp,link,\rlatency", "new-line character"),  # found by fuzzing
    ],
)
def test_headers_that_make_no_table(tmp_path, header, fault):
    with pytest.raises(MeasurementFileError) as caught:
        rows_of(write(tmp_path, "m.csv", header + "\n"))
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_one_link_needs_no_link_column(tmp_path):
    file = write(tmp_path, "m.csv", f"timestamp,latency\n{T0_S},1\n")
    assert rows_of(file, link_id="mine") == [("mine", T0_MS, {"latency_ms": 1})]


def test_jsonl(tmp_path):
    file = write(
        tmp_path,
        "m.jsonl",
        f'{{"link_id": "a", "measured_at": "2025-06-15T15:06:40Z", "bandwidth_mbps": 5, "jitter_ms": null}}\n\n'
        f'{{"link": "b", "ts": {T0_S}, "latency": "7.5", "dataset": "d"}}\n',
    )
    assert rows_of(file) == [("a", T0_MS, {"bandwidth_mbps": 5}), ("d/b", T0_MS, {"latency_ms": 7.5})]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", "[1, 2] is no JSON object"),
        ('"text"', "is no JSON object"),
        ("{}", "there is no column timestamp"),
        ('{"ts": true, "link": "a", "latency": 1}', "True is no time"),
        (f'{{"ts": {T0_S}, "link": "a", "latency": true}}', "True is no number"),
        (f'{{"ts": {T0_S}, "link": "a", "latency": [1]}}', "is no number"),
        (f'{{"ts": {T0_S}, "link": "a", "latency": {"9" * 5000}}}', "digits"),
        (f'{{"ts": {T0_S}, "link": "a", "latency": {"9" * 400}}}', "is not finite"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_lines_that_are_no_measurements(tmp_path, line, fault):
    good = f'{{"ts": {T0_S}, "link": "a", "latency": 1}}'
    rows, faults = collected(write(tmp_path, "m.jsonl", f"{good}\n{line}\n{good}\n"))
    assert len(rows) == 2
    assert len(faults) == 1
    assert faults[0].startswith("row 2: ")
    assert fault in faults[0]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_text_that_is_none(tmp_path, name):
    head = "timestamp,link,latency\n" if name.endswith("csv") else f'{{"ts": {T0_S}, "link": "a", "latency": 1}}\n'
    file = write(tmp_path, name, head.encode() + b"\xff\xfe\x00")
    with pytest.raises(MeasurementFileError, match=r"row 2: is not UTF-8 text"):
        rows_of(file)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.csv.gz"])
def test_a_line_without_end_is_not_read_to_its_end(tmp_path, name):
    file = write(tmp_path, name, b" " * (MAX_LINE_BYTES + 10))
    with pytest.raises(MeasurementFileError, match="is longer than"):
        rows_of(file)


def test_a_quote_that_never_ends_is_a_fault_of_its_row(tmp_path):
    file = write(tmp_path, "m.csv", "timestamp,link,latency\n" + f'{T0_S},"a,1\n' + f"{T0_S},a,1\n" * 20_000)
    with pytest.raises(MeasurementFileError, match="field larger than field limit"):
        rows_of(file)


def test_what_follows_a_quote_that_never_ends_is_not_left_out_silently(tmp_path):
    text = "timestamp,link,latency,comment\n" + f'{T0_S},a,1,\n{T0_S + 1},a,2,"open\n' + f"{T0_S + 2},a,3,\n" * 5
    rows, faults = collected(write(tmp_path, "m.csv", text))
    assert [time_ms for _, time_ms, _ in rows] == [T0_MS]
    assert faults == ["row 3: has a quotation mark that is never closed: nothing after it is read"]


@pytest.mark.parametrize("ending", ["\n", ""])
def test_a_quoted_last_row_is_read(tmp_path, ending):
    text = f'timestamp,link,latency,comment\n{T0_S},a,1,"two\nlines"{ending}'
    assert collected(write(tmp_path, "m.csv", text)) == ([("a", T0_MS, {"latency_ms": 1})], [])


def test_gzip_by_a_name_in_capitals(tmp_path):
    rows = [f"{T0_S},a,1"]
    file = tmp_path / "M.CSV.GZ"
    file.write_bytes(gzip.compress("\n".join(["timestamp,link,latency", *rows]).encode()))
    assert rows_of(file) == [("a", T0_MS, {"latency_ms": 1})]
    with replacing(tmp_path / "M.JSONL.GZ") as stream:
        stream.write(f'{{"ts": {T0_S}, "link": "a", "latency": 1}}\n')
    assert rows_of(tmp_path / "M.JSONL.GZ") == [("a", T0_MS, {"latency_ms": 1})]


def test_parquet_says_what_is_wrong_with_a_time_as_csv_does(tmp_path):
    texts = ["2025-06-15T15:06:40", None, "noon", "2025-06-15T15:06:40Z"]
    for times, expected in (
        (pa.array(texts), ["'2025-06-15T15:06:40' has no time zone: end it with Z or such as +02:00", "is missing"]),
        (pa.array([10**17, None, -1, T0_MS], pa.timestamp("ms", "UTC")), ["is no time after 1970"] * 2),
    ):
        file = tmp_path / "m.parquet"
        pq.write_table(pa.table({"timestamp": times, "link": ["a"] * 4, "latency": [1.0] * 4}), file)
        rows, faults = collected(file)
        assert rows == [("a", T0_MS, {"latency_ms": 1})]
        assert faults[:2] == [f"row {row}: timestamp: {why}" for row, why in enumerate(expected, 1)]
        assert len(faults) == 3


def test_a_pipe_is_written_to_and_a_link_leads_on(tmp_path):
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as stream:
        stream.write("x")
    assert os.read(reader, 10) == b"x"
    os.close(reader)
    assert pipe.is_fifo()
    file.write_text("before")
    link.symlink_to(file)
    with replacing(link) as stream:
        stream.write("after")
    assert link.is_symlink()
    assert file.read_text() == "after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.jsonl", "link", "pipe"]


def test_gzip(tmp_path):
    text = f"timestamp,link,latency\n{T0_S},a,1\n"
    assert len(rows_of(write(tmp_path, "m.csv.gz", text))) == 1
    whole = gzip.compress((text * 2000).encode())
    for broken in (b"no gzip at all", whole[: len(whole) // 2], whole[:-8] + b"\0" * 8):
        file = tmp_path / "broken.csv.gz"
        file.write_bytes(broken)
        with pytest.raises(MeasurementFileError, match="gzip data is damaged"):
            collected(file)


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    with pytest.raises(MeasurementFileError, match="No such file"):
        rows_of(tmp_path / "missing.csv")
    with pytest.raises(MeasurementFileError, match="No such file"):
        rows_of(tmp_path / "missing.parquet")
    with pytest.raises(MeasurementFileError, match="its name ends in none of"):
        rows_of(tmp_path / "m.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(MeasurementFileError, match="directory"):
        rows_of(tmp_path / "folder.csv")


def parquet(folder, **columns):
    file = folder / "m.parquet"
    pq.write_table(pa.table(columns), file)
    return file


def test_parquet(tmp_path):
    file = parquet(
        tmp_path,
        dataset=["d", "d", None, "d"],
        link_id=["a", "b", "c", "a"],
        timestamp=pa.array([T0_S, T0_S, T0_S, T0_S + 60], pa.int64()),
        bandwidth_mbps=pa.array([1.5, None, 2, NAN], pa.float32()),
        packet_loss=pa.array([None, 0.5, 0, 1], pa.float64()),
        region=["", "eu", None, "us"],
        other=[1, 2, 3, 4],
    )
    assert rows_of(file) == [
        ("d/a", T0_MS, {"bandwidth_mbps": 1.5}),
        ("d/b", T0_MS, {"packet_loss_ratio": 0.5}),
        ("c", T0_MS, {"bandwidth_mbps": 2, "packet_loss_ratio": 0}),
        ("d/a", T0_MS + 60_000, {"packet_loss_ratio": 1}),
    ]
    assert [one.info for one in read_links(file)] == [
        LinkInfo("c"),
        LinkInfo("d/a", region="us"),
        LinkInfo("d/b", region="eu"),
    ]


@pytest.mark.parametrize("spoilt", [b"latency", b"frankfurt"])
def test_parquet_whose_texts_are_no_utf_8(tmp_path, spoilt):  # found by fuzzing
    file = parquet(tmp_path, timestamp=[T0_MS], link=["frankfurt"], latency=[1.0])
    file.write_bytes(file.read_bytes().replace(spoilt, b"\xff" * len(spoilt)))
    with pytest.raises(MeasurementFileError, match=r"UTF-?8"):
        rows_of(file)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([T0_MS], pa.timestamp("ms", "UTC")),
        pa.array([T0_MS * 1_000_000], pa.timestamp("ns", "Europe/Berlin")),
        pa.array([float(T0_S)], pa.float64()),
        pa.array(["2025-06-15T15:06:40Z"]),
        pa.array([T0_MS], pa.int64()),
    ],
)
def test_parquet_times(tmp_path, times):
    assert rows_of(parquet(tmp_path, timestamp=times, link=["a"], latency=[1.0]))[0][1] == T0_MS


@pytest.mark.parametrize("number", [20_250_615_150_640, 202_506_151_506, 20_250_615, 45_823])
def test_numbers_that_are_dates_or_days_are_no_times(tmp_path, number):
    file = parquet(tmp_path, timestamp=pa.array([number, T0_S]), link=["a", "a"], latency=[1.0, 2.0])
    assert collected(file) == ([("a", T0_MS, {"latency_ms": 2})], [f"row 1: timestamp: {UNIX_TIME}"])
    text = f'{{"ts": {number}, "link": "a", "latency": 1}}'
    assert collected(write(tmp_path, "m.jsonl", text)) == ([], [f"row 1: ts: {number} {UNIX_TIME}"])


def test_parquet_rows_that_are_none(tmp_path):
    file = parquet(
        tmp_path,
        timestamp=pa.array([T0_S, None, -1, T0_S, T0_S, T0_S, T0_S], pa.float64()),
        link=["a", "a", "a", "", None, "a", "a"],
        latency=[1.0, 1, 1, 1, 1, np.inf, None],
    )
    rows, faults = collected(file)
    assert len(rows) == 1
    assert sorted(faults) == [
        f"row 2: timestamp: {UNIX_TIME}",
        f"row 3: timestamp: {UNIX_TIME}",
        "row 4: link_id: is required",
        "row 5: link_id: is required",
        "row 6: latency_ms: is not finite",
        f"row 7: has none of {', '.join(METRICS)}",
    ]


@pytest.mark.parametrize(
    ("columns", "fault"),
    [
        ({"timestamp": pa.array([T0_MS], pa.timestamp("ms")), "link": ["a"], "latency": [1]}, "without a time zone"),
        ({"timestamp": [T0_S], "link": ["a"], "latency": ["1"]}, "is of type string, not a number"),
        ({"timestamp": [[T0_S]], "link": ["a"], "latency": [1]}, "not a number"),
        ({"timestamp": [T0_S], "latency": [1]}, "there is no column link_id"),
    ],
)
def test_parquet_columns_that_make_no_table(tmp_path, columns, fault):
    with pytest.raises(MeasurementFileError, match=fault):
        rows_of(parquet(tmp_path, **columns))


def test_parquet_that_is_none(tmp_path):
    with pytest.raises(MeasurementFileError, match="is no readable parquet file"):
        rows_of(write(tmp_path, "m.parquet", b"PAR1 this is not PAR1"))
    whole = parquet(tmp_path, timestamp=[T0_S] * 5000, link=["a"] * 5000, latency=np.arange(5000.0)).read_bytes()
    damaged = write(tmp_path, "d.parquet", whole[:200] + os.urandom(2000) + whole[2200:])
    with pytest.raises(MeasurementFileError, match="is no readable parquet file") as caught:
        rows_of(damaged)
    assert "\n" not in str(caught.value)


def test_chunks_hold_no_more_than_asked_and_miss_nothing(tmp_path):
    lines = [f"{T0_S + i},link{i % 3},{i}" for i in range(2500)]
    file = write(tmp_path, "m.csv", "timestamp,link,latency\n" + "\n".join(lines))
    sizes = [len(batch) for batch in read_batches(file, chunk_rows=1000)]
    assert sizes == [1000, 1000, 500]
    assert [values["latency_ms"] for _, _, values in rows_of(file, chunk_rows=7)] == list(range(2500))


def test_a_row_in_which_nothing_was_measured_is_no_sample_and_no_end_of_reading_links(tmp_path):
    text = f"timestamp,link,latency,bandwidth_mbps\n{T0_S},a,5,\n{T0_S + 60},a,,\n{T0_S + 120},a,,90\n"
    [link] = read_links(write(tmp_path, "m.csv", text))
    assert link.series.times_ms.tolist() == [T0_MS, T0_MS + 120_000]
    with pytest.raises(MeasurementFileError, match="row 3: latency_ms: is outside"):
        read_links(write(tmp_path, "wrong.csv", text.replace("a,,\n", "a,-1,\n")))


def test_links_come_in_order_with_the_last_of_double_times_and_their_newest_labels(tmp_path):
    file = write(
        tmp_path,
        "m.csv",
        "timestamp,link,latency,node,region\n"
        f"{T0_S + 60},b,2,,eu\n{T0_S},a,9,n1,\n{T0_S},b,1,,\n{T0_S + 60},b,3,n2,\n{T0_S + 60},a,,,\n",
    )
    faults = []
    one, other = read_links(file, on_fault=faults.append)
    assert (one.info, other.info) == (LinkInfo("a", node="n1"), LinkInfo("b", node="n2", region="eu"))
    assert other.series.times_ms.tolist() == [T0_MS, T0_MS + 60_000]
    assert other.series.values[:, 1].tolist() == [1, 3]
    assert len(faults) == 1


values = st.none() | st.floats(0, 1, width=32)


@given(
    st.lists(st.tuples(st.integers(1, 2_000_000_000_000), values, values, values, values), max_size=30),
    st.text(
        st.characters(codec="utf-8", categories=["L", "N", "P", "S"], include_characters=" "), min_size=1, max_size=20
    ),
    st.sampled_from(["m.jsonl", "m.jsonl.gz"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_reads_back_exactly(tmp_path, rows, link_id, name):
    rows = [row for row in rows if any(value is not None for value in row[1:])]
    series = Series.of(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1:] for row in rows], np.float32).reshape(-1, 4),
    )
    info = LinkInfo(link_id, node=" n ", region="ü")
    with replacing(tmp_path / name) as stream:
        JsonlWriter(stream).write(info, series)
    back = read_links(tmp_path / name)
    assert [one.info for one in back] == ([info] if rows else [])
    for one in back:
        np.testing.assert_array_equal(one.series.times_ms, series.times_ms)
        np.testing.assert_array_equal(one.series.values, series.values)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, True])
def test_what_is_neither_text_nor_a_number_names_nothing(tmp_path, value):
    good = {"ts": T0_S, "link": 7, "node": 0, "latency": 1}
    lines = [json.dumps(good | part) for part in ({}, {"link": value}, {"node": value})]
    file = write(tmp_path, "m.jsonl", "\n".join(lines))
    assert collected(file)[1] == [f"row 2: link: {value!r} is no text", f"row 3: node: {value!r} is no text"]
    faults = []
    [batch] = read_batches(file, on_fault=faults.append)
    assert batch.links == (LinkInfo("7", node="0"),)


def test_spaces_around_an_id_belong_to_it_but_around_a_cell_of_csv_do_not(tmp_path):
    file = parquet(tmp_path, timestamp=[T0_S] * 2, link=[" a", "a "], latency=[1.0, 2.0])
    assert [row[0] for row in rows_of(file)] == [" a", "a "]
    text = "\n".join(json.dumps({"ts": T0_S, "link": link, "latency": 1}) for link in (" a", "a "))
    assert [row[0] for row in rows_of(write(tmp_path, "m.jsonl", text))] == [" a", "a "]
    assert [row[0] for row in rows_of(write(tmp_path, "m.csv", f"ts, link, latency\n{T0_S}, a , 1\n"))] == ["a"]


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path):
    file = write(tmp_path, "m.jsonl", "before")
    with pytest.raises(KeyError), replacing(file) as stream:
        raise KeyError(stream.write("half"))
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


@given(st.binary(max_size=300), st.sampled_from(["m.csv", "m.jsonl", "m.parquet", "m.csv.gz"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_whatever_cause_anything_but_a_clear_error(tmp_path, junk, name):
    file = tmp_path / name
    file.write_bytes(junk)
    with suppress(MeasurementFileError):
        collected(file)


text_cells = st.text(st.characters(blacklist_characters="\r\n", codec="utf-8"), max_size=12)


@given(st.lists(st.tuples(text_cells, text_cells, text_cells), max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_a_sample_or_a_fault(tmp_path, cells):
    file = write(
        tmp_path,
        "m.jsonl",
        "\n".join(json.dumps(dict(zip(("ts", "link", "latency"), row, strict=True))) for row in cells),
    )
    rows, faults = collected(file)
    assert len(rows) + len(faults) == len(cells)


@pytest.mark.skipif("TRACES_DIR" not in os.environ, reason="TRACES_DIR names no folder of real traces")
def test_the_development_traces_read_whole():
    links = read_links(Path(os.environ["TRACES_DIR"]) / "dev.parquet")
    assert len(links) == 65
    assert sum(len(one.series) for one in links) == 508_663
    for one in links:
        assert (np.diff(one.series.times_ms) > 0).all()
        assert np.isfinite(one.series.values).any(axis=1).all()


def test_a_column_without_a_name_is_no_node_peer_or_region(tmp_path):
    text = (
        f",timestamp,link_id,bandwidth_mbps\n0,{T0_S},fra-ams,940\n1,{T0_S + 60},fra-ams,941\n"  # as pandas writes it
    )
    [batch] = read_batches(write(tmp_path, "pandas.csv", text))
    assert batch.links == (LinkInfo("fra-ams"),)


def test_half_a_surrogate_is_a_fault_of_its_row(tmp_path):
    rows = "".join(f'{{"link_id":"{name}","measured_at":{T0_S},"bandwidth_mbps":1}}\n' for name in ("\\ud800", "a"))
    faults = []
    [batch] = read_batches(write(tmp_path, "rows.jsonl", rows), on_fault=faults.append)
    assert [fault.row for fault in faults] == [1]
    assert batch.links == (LinkInfo("a"),)
