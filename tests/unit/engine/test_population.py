from dataclasses import replace

import numpy as np
from prometheus_client import CollectorRegistry

from pba_service.domain.drift import Condition, ConditionKind
from pba_service.domain.forecast import Prediction, Source
from pba_service.engine.population import Population
from pba_service.observability.metrics import Metrics
from tests.fakes import Clock

MINUTE_MS = 60_000


def prediction(made_at_ms, kind=None):
    told = Condition(kind, made_at_ms, 2.0, ("latency_ms",)) if kind else None
    values, quantiles = np.zeros(4, np.float32), np.zeros((4, 5), np.float32)
    made = Prediction("a", made_at_ms, MINUTE_MS, made_at_ms, values, quantiles, 0.5, "v", Source.COMBINED)
    return replace(made, condition=told)


def test_each_round_counts_links_by_what_is_wrong_with_them():
    clock, registry = Clock(), CollectorRegistry()
    population = Population(clock, Metrics(registry, 10))
    for kind in (None, ConditionKind.LEVEL_SHIFT, ConditionKind.LEVEL_SHIFT, ConditionKind.OUTAGE):
        population.look(prediction(clock(), kind))
    population.look(prediction(clock() - 6 * MINUTE_MS, ConditionKind.LEVEL_SHIFT))
    assert (population.links, population.shifted_ratio) == (0, 0.0)
    population.end_round()
    assert (population.links, population.shifted_ratio) == (5, 0.4)

    def shown(kind):
        return registry.get_sample_value("dwcp_pba_links_condition", {"kind": kind})

    assert [shown(kind) for kind in ("level_shift", "outage", "silent", "sensor_jump")] == [2, 1, 1, 0]
    population.end_round()
    assert (population.links, shown("level_shift")) == (0, 0)
