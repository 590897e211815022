"""What the benchmarks claim, as far as a machine without root can check: on the sweep, and on the recorded runs."""

import csv

import numpy as np
import pytest

from benchmarks.amst.rules import RULES, Path, Told
from benchmarks.amst.scoring import read, scores
from benchmarks.amst.sweep import DATA, score

RUNS = DATA.parent / "real_runs.csv"


def test_on_the_sweep_ours_fills_paths_with_few_streams_and_few_retransmissions():
    ours = score(RULES["ours"])
    assert len(ours.goodput) >= 75
    assert np.median(ours.goodput) >= 0.98
    assert np.quantile(ours.goodput, 0.05) >= 0.92  # interpolation errs by 4 %; the real runs hold to 0.95
    assert ours.goodput.min() >= 0.85
    assert np.quantile(ours.own_loss, 0.95) <= 0.03
    assert np.quantile(ours.streams_over_fewest, 0.95) <= 2.1


@pytest.mark.parametrize("rule", ["documented", "tenth", "fixed 4", "fixed 16", "mathis", "pftk"])
def test_on_the_sweep_ours_beats_the_others_where_it_is_hard(rule):
    ours, other = score(RULES["ours"]), score(RULES[rule])
    better_goodput = np.quantile(ours.goodput, 0.05) > np.quantile(other.goodput, 0.05)
    fewer_lost = np.quantile(ours.own_loss, 0.95) < np.quantile(other.own_loss, 0.95)
    assert better_goodput or fewer_lost


def test_real_runs_meet_what_was_promised():
    scored = scores(read([RUNS]))
    ours = [one for one in scored if one.rule == "ours" and one.group != "bursty"]
    goodput = [one.goodput for one in ours]
    assert len(ours) >= 35
    assert np.median(goodput) >= 0.98
    assert np.quantile(goodput, 0.05) >= 0.95
    assert min(goodput) >= 0.85
    assert np.quantile([one.own_loss for one in ours], 0.95) <= 0.03
    assert max(one.streams_over_fewest for one in ours) <= 2
    predicted = [one.goodput for one in scored if one.rule == "predicted"]
    assert np.median(predicted) >= 0.95
    assert np.quantile(predicted, 0.05) >= 0.90


def test_the_optimizer_is_still_the_one_that_was_measured():
    with RUNS.open() as file:
        measured = [row for row in csv.DictReader(file) if "ours" in row["rules"].split("+")]
    for row in measured:
        numbers = (float(row[field]) for field in ("rate_mbps", "rtt_ms", "loss_ratio", "queue_share"))
        path = Path(*numbers, row["congestion_control"], row["bursty"] == "True")
        chosen = RULES["ours"](Told.exactly(path))
        pace = float(row["pacing_mbps"]) if row["pacing_mbps"] else None
        assert (chosen.streams, chosen.buffer_bytes) == (int(row["streams"]), int(row["buffer_bytes"])), path
        assert chosen.pacing_mbps == (None if pace is None else pytest.approx(pace)), path
