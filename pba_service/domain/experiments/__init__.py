"""Which of two models forecasts better, decided while one watches.

    scale = scales.measure(...)                    # what an error is measured in
    tallies = tally(..., scale=scale)              # both models' forecasts beside what came, by period
    evidence = judge([one.value for one in ...], rule)  # promote, reject, or keep on

`docs/experiments.md` says what is promised and what was measured.
"""

from pba_service.domain.experiments.betting import Evidence, Rule, Verdict, judge
from pba_service.domain.experiments.pairing import (
    PERIOD_MS,
    Tally,
    advantage,
    counts,
    period_of,
    tally,
)
from pba_service.domain.experiments.record import OUTCOMES, Kind, Record, Status, decode_tally, encode_tally
from pba_service.domain.experiments.scales import Scales

__all__ = [
    "OUTCOMES",
    "PERIOD_MS",
    "Evidence",
    "Kind",
    "Record",
    "Rule",
    "Scales",
    "Status",
    "Tally",
    "Verdict",
    "advantage",
    "counts",
    "decode_tally",
    "encode_tally",
    "judge",
    "period_of",
    "tally",
]
