"""Pairs of forecasts that are tried against each other, on links of any cadence."""

import pytest

from pba_service.domain.lifecycle import Experiment
from pba_service.domain.samples import Series
from pba_service.engine import advance as engine
from pba_service.engine.advance import Options
from pba_service.engine.models import Route, Trial
from pba_service.engine.ports import LinkState, Snapshot
from tests.fakes import LastValueModel
from tests.unit.engine.test_advance import walk

HOURS, HOUR_MS = 2, 3_600_000


@pytest.mark.parametrize(("step_s", "experiments"), [(60, 2), (20, 2), (15, 2), (10, 1), (10, 2), (5, 1), (1, 2)])
def test_pairs_are_settled_and_stand_for_the_time_of_their_link(step_s, experiments):
    champion, *challengers = [LastValueModel(f"v{i}") for i in range(1 + experiments)]
    trials = [Trial(Experiment(f"trial-{m.info.version}", "v0", m.info.version), champion, m) for m in challengers]
    route = Route(champion, tuple(trials))
    series, state = walk(HOURS * 3600 // step_s, step_ms=1000 * step_s), LinkState()
    stands_for_ms = {trial.experiment.key: 0 for trial in trials}
    options = Options(base_ms=1000 * step_s, catch_up=480)
    for count in range(20, len(series) + 1, max(1, 60 // step_s)):  # a minute's samples at a time
        seen = Series(series.times_ms[:count], series.values[:count])
        [one] = engine.advance([Snapshot("a", seen, state, None)], [route], options)
        if one.commit:
            state = LinkState(state.version + 1, one.commit.blob)
        if one.settled:
            for pair in one.settled.met.pairs:
                stands_for_ms[int(pair["experiment"])] += 2 * int(pair["tolerance_ms"])
    for known_ms in stands_for_ms.values():
        assert known_ms == pytest.approx(HOURS * HOUR_MS - HOUR_MS / 4, rel=0.25)
