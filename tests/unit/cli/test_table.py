"""The live table and its plain lines."""

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from pba_client import (
    Parameters,
    ParametersSource,
    Prediction,
    PredictionSource,
    Quantiles,
    Sample,
)
from pba_service.cli.board import Board, LinkState, Selection
from pba_service.cli.table import line, table
from pba_service.cli.watch import note_of

NOW = datetime(2025, 6, 15, 12, 0, tzinfo=UTC)


def state(link_id="fra-ams", *, confidence=0.9, source=ParametersSource.PREDICTION, pacing=880.0):
    none = Quantiles()
    prediction = Prediction(
        link_id=link_id,
        made_at=NOW - timedelta(seconds=20),
        horizon=timedelta(minutes=15),
        valid_until=NOW + timedelta(minutes=15),
        bandwidth_mbps=912.0,
        latency_ms=8.4,
        packet_loss_ratio=0.0012,
        jitter_ms=None,
        bandwidth_quantiles=Quantiles(p05=850.0, p10=880.0, p50=912.0, p90=950.0, p95=990.0),
        latency_quantiles=none,
        packet_loss_quantiles=none,
        jitter_quantiles=none,
        confidence=confidence,
        model_version="1",
        source=PredictionSource.COMBINED,
        cadence=timedelta(minutes=1),
    )
    parameters = Parameters(
        streams=4,
        buffer_bytes=1_048_576,
        chunk_bytes=65_536,
        pacing_mbps=pacing,
        source=source,
        reasons=(),
        explanation="",
        should_adjust=True,
        valid_until=NOW,
        prediction=prediction,
    )
    sample = Sample(link_id, NOW - timedelta(seconds=20), bandwidth_mbps=940.0, latency_ms=8.2, packet_loss_ratio=0.0)
    return LinkState(link_id, sample, 123, prediction, parameters)


def drawn(*states, width=120, **options):
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as capture:
        console.print(table(states, now=NOW, **options))
    return capture.get()


def test_a_row_has_what_is_what_will_be_and_what_to_do():
    text = drawn(state(), title="PBA", note="Ctrl-C ends it")
    for part in (
        "fra-ams",
        "123 samples, 20 s ago",
        "940 → 912",
        "850 to 990",
        "8.20 → 8.40",
        "0 → 0.12",
        "- → -",
        "90%",
    ):
        assert part in text
    for part in ("4 x 1 MiB", "880 Mbit/s", "PBA", "Ctrl-C ends it"):
        assert part in text


def test_where_parameters_do_not_come_from_the_prediction_it_says_so():
    assert "by defaults" in drawn(state(source=ParametersSource.DEFAULTS, pacing=None))
    assert "unpaced" in drawn(state(source=ParametersSource.DEFAULTS, pacing=None))
    assert "by prediction" not in drawn(state())


def test_a_link_of_which_nothing_is_known_yet_has_a_row():
    text = drawn(LinkState("new"), state())
    assert "new" in text
    assert "- → -" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_width_breaks_it(width):
    assert max(len(row) for row in drawn(state(), state("x" * 128), width=width).splitlines()) <= width


def test_ids_are_not_markup():
    assert "[bold]" in drawn(state("[bold]evil"))
    assert "[red]" in line(state("[red]evil"))


@pytest.mark.parametrize("address", ["[fd00::1]:50051", "unix:/run/[/x]"])
def test_addresses_are_not_markup(address):
    board = Board(None, Selection(), 1)
    board.trouble = f"no service at {address}"
    shown = drawn(title=f"PBA at {address}", note=note_of(board, ""))
    assert f"PBA at {address}" in shown
    assert board.trouble in shown


def test_a_plain_line_has_the_same():
    assert line(state()) == (
        "11:59:40  fra-ams  bw 940 -> 912 (850 to 990) Mbit/s  lat 8.20 -> 8.40 ms  loss 0 -> 0.12 %  confidence 90%  "
        "use 4 x 1 MiB by prediction"
    )
    assert line(LinkState("new")) == "--:--:--  new"
