"""Which model serves a link, and that each runs once for all links it has."""

import numpy as np
import pytest

from pba_service.domain.errors import ModelUnavailableError
from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.domain.samples import LinkInfo, Series
from pba_service.engine.advance import Options, advance
from pba_service.engine.models import ModelSet, Route, Router
from pba_service.engine.ports import LinkState, Snapshot
from tests.fakes import LastValueModel

MINUTE = 60_000
START = 1_800_000_000_000
OPTIONS = Options(base_ms=MINUTE, catch_up=480)


class Doubled(LastValueModel):
    """Twice the newest value."""

    def predict(self, windows, step_ms):
        return 2 * super().predict(windows, step_ms)


def loaded(*versions):
    return {version: LastValueModel(version) for version in versions}


def served(models, link_id="a", **info):
    return models.route(LinkInfo(link_id, **info)).serving.info.version


def test_the_most_particular_pin_decides_and_the_active_version_serves_the_rest():
    pins = (
        Pin(Scope.REGION, "eu", ("region",)),
        Pin(Scope.NODE, "n1", ("node",)),
        Pin(Scope.PREFIX, "fra", ("short",)),
        Pin(Scope.PREFIX, "fra-1", ("long",)),
        Pin(Scope.LINK, "fra-1/x", ("link",)),
    )
    models = ModelSet(loaded("active", "region", "node", "short", "long", "link"), Desired(active="active", pins=pins))
    assert served(models) == "active"
    assert served(models, region="eu") == "region"
    assert served(models, region="eu", node="n1") == "node"
    assert served(models, "fra-2", region="eu", node="n1") == "short"
    assert served(models, "fra-1/y", region="eu") == "long"
    assert served(models, "fra-1/x") == "link"
    assert models.by_info


def test_what_is_not_loaded_falls_back_along_the_chain():
    pins = (Pin(Scope.LINK, "a", ("gone", "second")), Pin(Scope.REGION, "eu", ("gone",)))
    models = ModelSet(loaded("old", "second"), Desired(active="gone", previous=("older", "old"), pins=pins))
    assert served(models) == "second"
    assert served(models, "b", region="eu") == "old"
    assert served(ModelSet(loaded("any"), Desired(active="gone"))) == "any"
    with pytest.raises(ModelUnavailableError):
        served(ModelSet({}, Desired(active="gone")))


def test_an_experiment_is_tried_where_its_champion_would_serve():
    desired = Desired(active="a", pins=(Pin(Scope.LINK, "x", ("c",)),), experiments=(Experiment("e", "a", "b", 0.5),))
    models = ModelSet(loaded("a", "b", "c"), desired)
    routes = [models.route(LinkInfo(f"link-{i}")) for i in range(200)]
    assert all(len(route.trials) == 1 and len(route.models) == 2 for route in routes)
    assert 70 < sum(route.serving.info.version == "b" for route in routes) < 130
    assert models.route(LinkInfo("x")) == Route(models.loaded["c"])
    without = ModelSet(loaded("a"), desired)
    assert without.route(LinkInfo("link-1")) == Route(without.loaded["a"])


def test_models_are_listed_with_the_default_first():
    models = ModelSet(loaded("a", "b"), Desired(active="b"))
    assert [info.version for info in models.infos] == ["b", "a"]


def walk(count, seed):
    steps = np.random.default_rng(seed).normal(0, 1, (count, 4))
    values = np.clip(np.abs(np.cumsum(steps, axis=0)) + np.array([100, 20, 0, 1]), 0, [1e5, 1e5, 1, 1e5]).astype(
        np.float32
    )
    return Series(START + np.arange(count, dtype=np.int64) * MINUTE, values)


def test_models_that_read_windows_of_other_lengths_serve_one_batch():
    short, long = LastValueModel("short", 10), LastValueModel("long", 100)
    links = [walk(150, seed) for seed in range(6)]
    routes = [Route(short if i % 2 else long) for i in range(6)]
    together = advance([Snapshot(str(i), link, LinkState(), None) for i, link in enumerate(links)], routes, OPTIONS)
    assert (len(short.batches), len(long.batches)) == (1, 1)
    for i, one in enumerate(together):
        [alone] = advance([Snapshot(str(i), links[i], LinkState(), None)], [Route(routes[i].serving)], OPTIONS)
        assert one.prediction.same_as(alone.prediction)
        assert one.prediction.model_version == routes[i].serving.info.version


def in_trial(share=0.0, started_at_ms=START):
    models = {"a": LastValueModel("a"), "b": Doubled("b", 20)}
    experiment = Experiment("e", "a", "b", share, started_at_ms)
    return ModelSet(models, Desired(active="a", experiments=(experiment,)))


def live(models, series, link_id="a"):
    """Advances a link sample by sample; what was served, and the pairs that met their sample."""
    state, served, pairs, actual = LinkState(), [], [], []
    for count in range(1, len(series) + 1):
        seen = Series(series.times_ms[:count], series.values[:count])
        [one] = advance([Snapshot(link_id, seen, state, None)], [models.route(LinkInfo(link_id))], OPTIONS)
        if one.commit:
            state = LinkState(state.version + 1, one.commit.blob)
            served.append(one.prediction)
        if one.settled:
            pairs.append(one.settled.met.pairs)
            actual.append(one.settled.met.actual)
    return served, np.concatenate(pairs), np.concatenate(actual)


def test_a_shadow_changes_nothing_that_is_served_and_is_paired_with_what_came_true():
    series = walk(60, 1)
    shadowed, pairs, actual = live(in_trial(), series)
    alone, _ = live_alone(series)
    assert all(one.same_as(other) for one, other in zip(shadowed, alone, strict=True))
    made_at = (pairs["made_at_ms"] - START) // MINUTE
    assert made_at.tolist() == list(range(9, 45)), "each forecast whose target has come is settled once"
    np.testing.assert_array_equal(actual, series.values[made_at + 15])
    np.testing.assert_array_equal(pairs["champion"], series.values[made_at])
    np.testing.assert_array_equal(pairs["last"], series.values[made_at])
    doubled = np.minimum(2 * series.values[made_at], [np.inf, np.inf, 1, np.inf])
    np.testing.assert_array_equal(pairs["challenger"], doubled)


def live_alone(series):
    served, state = [], LinkState()
    model = ModelSet.of(LastValueModel("a"))
    for count in range(1, len(series) + 1):
        seen = Series(series.times_ms[:count], series.values[:count])
        [one] = advance([Snapshot("a", seen, state, None)], [model.route(LinkInfo("a"))], OPTIONS)
        if one.commit:
            state = LinkState(state.version + 1, one.commit.blob)
            served.append(one.prediction)
    return served, state


def test_a_backlog_is_tried_as_if_lived_through_but_not_what_is_older_than_the_experiment():
    series = walk(60, 2)
    models = in_trial(started_at_ms=START + 20 * MINUTE)
    _, lived, _ = live(models, series)
    [one] = advance([Snapshot("a", series, LinkState(), None)], [models.route(LinkInfo("a"))], OPTIONS)
    at_once = one.settled.met.pairs
    assert ((at_once["made_at_ms"] - START) // MINUTE).tolist() == list(range(20, 45))
    assert at_once.tobytes() == lived.tobytes()


def test_each_side_reads_each_window_once_whoever_serves():
    models = in_trial(share=0.5)
    links = [f"link-{i}" for i in range(8)]
    routes = [models.route(LinkInfo(link)) for link in links]
    assert len({route.serving.info.version for route in routes}) == 2
    snapshots = [Snapshot(link, walk(30, i), LinkState(), None) for i, link in enumerate(links)]
    made = advance(snapshots, routes, OPTIONS)
    assert [sum(model.batches) for model in models.loaded.values()] == [8 * 21, 8 * 21]
    assert [one.prediction.model_version for one in made] == [route.serving.info.version for route in routes]


def test_what_was_learned_outlives_an_experiment():
    series = walk(60, 3)
    [tried] = advance([Snapshot("a", series, LinkState(), None)], [in_trial().route(LinkInfo("a"))], OPTIONS)
    [plain] = advance([Snapshot("a", series, LinkState(), None)], [Route(LastValueModel("a"))], OPTIONS)
    assert tried.commit.blob != plain.commit.blob
    later = walk(90, 3)
    after, same = (
        advance([Snapshot("a", later, LinkState(1, before.commit.blob), None)], [Route(LastValueModel("a"))], OPTIONS)[
            0
        ]
        for before in (tried, plain)
    )
    assert after.commit.blob == same.commit.blob, "pairs whose target has come are gone, the learned state is the same"


class Links:
    """A store that only knows what links said of themselves; counts how often it is asked."""

    def __init__(self, **regions):
        self.regions, self.asked = regions, []

    async def link_infos(self, link_ids):
        self.asked.append(list(link_ids))
        return [LinkInfo(one, region=self.regions[one]) if one in self.regions else None for one in link_ids]


async def test_links_are_looked_up_only_where_a_pin_needs_it_and_not_each_time():
    store = Links(a="eu")
    router = Router(store)
    router.models = ModelSet(loaded("x", "y"), Desired(active="x"))
    await router.routes(["a", "b"])
    assert store.asked == []
    router.models = ModelSet(loaded("x", "y"), Desired(active="x", pins=(Pin(Scope.REGION, "eu", ("y",)),)))
    for _ in range(2):
        routes = await router.routes(["a", "b"])
        assert [route.serving.info.version for route in routes] == ["y", "x"]
    assert store.asked == [["a", "b"]]
