"""Replicas converge on what is desired; what cannot be loaded is refused, and what served goes on."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from pba_service.domain.errors import ModelConflictError, ModelRefusedError, ModelUnknownError
from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.engine import stock
from pba_service.engine.advance import Options
from pba_service.engine.model_ports import FoundModel, ModelBundle
from pba_service.engine.refresh import Refresher
from pba_service.engine.registry import Registry
from pba_service.engine.stock import RegistryOptions
from pba_service.observability.metrics import Metrics
from pba_service.storage.memory import MemoryStore
from tests.fakes import Clock, LastValueModel, SharedModels


class Folder:
    """A model folder: `files` says what lies there as (name, version, written), broken ones as version "!reason".

    The first is the one that is meant, unless none is. Counts what is loaded.
    """

    def __init__(self, *files, meant=True):
        self.files = list(files)
        self.has_meant = meant
        self.loads = []

    def write(self, name, version, written=1):
        self.files = [one for one in self.files if one[0] != name] + [(name, version, written)]

    def scan(self):
        return [
            FoundModel(
                name,
                f"{version}{written}",
                written,
                bare=name.endswith(".onnx"),
                meant=self.has_meant and position == 0,
            )
            for position, (name, version, written) in enumerate(self.files)
        ]

    def read(self, found):
        for name, version, _ in self.files:
            if name == found.where:
                return self._bundle(name, version)
        raise ModelRefusedError(found.where, "it is not there any more", "unreadable")

    def meant(self):
        if not self.files:
            raise ModelRefusedError("folder", "there is no model in it")
        return self._bundle(*self.files[0][:2])

    def describe(self, bundle):
        version = bundle.onnx.decode()
        if version.startswith("!unsound"):
            raise ModelRefusedError(bundle.where, version[1:])
        checksum = hashlib.sha256(bundle.onnx).hexdigest()
        return replace(LastValueModel(version.strip("!*")).info, checksum_sha256=checksum)

    def load(self, bundle):
        info = self.describe(bundle)
        self.loads.append(info.version)
        if bundle.onnx.startswith(b"!"):
            raise ModelRefusedError(bundle.where, "its golden windows disagree", "golden")
        model = LastValueModel(info.version)
        model.info = info
        return model

    @staticmethod
    def _bundle(name, version):
        return ModelBundle(name, b"", version.encode())


class Replica:
    """One replica over what all share."""

    def __init__(self, shared, folder, name, loader, **options):
        self.metrics = CollectorRegistry()
        metrics = Metrics(self.metrics, 10)
        clock = Clock()
        store = MemoryStore(max_samples=100, retention_ms=10**9, clock=clock)
        self.refresher = Refresher(store, Options(base_ms=60_000, catch_up=10), loader, metrics)
        self.folder, self.shared = folder, shared
        self.registry = Registry(
            shared=shared,
            folder=folder,
            refresher=self.refresher,
            loader=loader,
            metrics=metrics,
            options=RegistryOptions(name, 0.01, **options),
            clock=clock,
        )

    @property
    def serving(self):
        return self.refresher.model.info.version

    @property
    def loaded(self):
        return sorted(self.registry.models.loaded)

    def metric(self, metric, **labels):
        return self.metrics.get_sample_value(metric, labels)

    async def turns(self, count=2):
        """Enough of them for a file to be seen twice."""
        for _ in range(count):
            await self.registry.turn()


@asynccontextmanager
async def replicas(*folders, shared=None, started=True, **options):
    shared = shared or SharedModels()
    with ThreadPoolExecutor(1) as loader:
        made = [Replica(shared, folder, f"r{i}", loader, **options) for i, folder in enumerate(folders)]
        if started:
            for one in made:
                await one.registry.start()
        yield made


async def test_a_replica_decides_for_the_model_that_its_path_means_and_the_others_follow():
    async with replicas(Folder(("m", "m-1", 1), ("other", "o-1", 1)), Folder(("other", "o-1", 1))) as (first, second):
        assert (first.serving, second.serving) == ("m-1", "o-1"), "each starts with what its own path means"
        assert first.loaded == ["m-1"], "what is not desired is not loaded"
        await first.turns()
        assert (first.serving, first.shared.state.previous) == ("o-1", ("m-1",)), "the last to start has decided"


async def test_a_restart_changes_nothing_that_was_decided():
    folder = Folder(("m", "m-1", 1), ("other", "o-1", 1))
    shared = SharedModels()
    async with replicas(folder, shared=shared) as (one,):
        await one.registry.activate("o-1")
        assert one.serving == "o-1"
    async with replicas(folder, shared=shared) as (again,):
        assert (again.serving, again.shared.state.previous) == ("o-1", ("m-1",))


async def test_a_restart_changes_nothing_where_the_path_means_none_of_several():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1)), shared=shared) as (one,):
        await one.turns(1)
    several = Folder(("a", "a-1", 1), ("m", "m-1", 1), meant=False)
    async with replicas(several, shared=shared) as (again,):
        await again.turns()
        assert (again.serving, shared.state.active) == ("m-1", "m-1")


async def test_what_was_written_over_meanwhile_is_not_published_as_the_version_before():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder) as (one,):
        one.shared.infos.clear()  # as a store that was emptied
        one.shared.bundles.clear()
        folder.write("m", "m-2", written=2)
        await one.turns(1)
        assert one.shared.bundles == {}
        await one.turns(2)
        assert [bundle.onnx for bundle in one.shared.bundles.values()] == [b"m-2"]


async def test_another_configured_model_is_activated_at_the_next_start():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1)), shared=shared):
        pass
    async with replicas(Folder(("m", "m-2", 1)), shared=shared) as (one,):
        assert (one.serving, shared.state.previous) == ("m-2", ("m-1",))
        await one.registry.hold()
    async with replicas(Folder(("m", "m-3", 1)), shared=shared) as (one,):
        assert one.serving == "m-2", "a pinned version stays"


async def test_a_file_that_is_copied_in_serves_once_it_does_not_grow_any_more():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder, Folder(("m", "m-1", 1))) as (one, other):
        folder.write("new.onnx", "n-1")
        await one.turns(1)
        folder.write("new.onnx", "n-1", written=2)
        await one.turns(1)
        assert one.serving == "m-1"
        await one.turns(1)
        assert one.serving == "n-1"
        await other.turns(1)
        assert other.serving == "n-1", "from the store, since its own folder has no such file"
        assert other.metric("dwcp_pba_model_version", name="last_value", version="n-1") == 1


async def test_one_file_on_a_volume_is_acted_on_once_whoever_sees_it_later():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder, folder) as (one, late):
        folder.write("m", "m-2", written=2)
        await one.turns()
        assert one.serving == "m-2"
        await one.registry.rollback()
        await late.turns(3)
        await one.turns()
        assert (one.serving, late.serving) == ("m-1", "m-1")
        folder.write("m", "m-2", written=3)
        await late.turns()
        assert late.serving == "m-2", "written again, it is meant again"


@pytest.mark.parametrize("broken", ["!unsound", "!m-2"])
async def test_a_broken_file_is_refused_once_and_the_old_model_goes_on(broken):
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder) as (one,):
        folder.write("m", broken, written=2)
        await one.turns(4)
        assert (one.serving, one.shared.state.active) == ("m-1", "m-1")
        reason = "golden" if broken == "!m-2" else "manifest"
        assert one.metric("dwcp_pba_models_refused_total", reason=reason) == 1
        folder.write("m", "m-2", written=3)
        await one.turns()
        assert one.serving == "m-2"


async def test_another_file_under_a_loaded_version_is_refused():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder) as (one,):
        folder.write("m", "m-1*", written=2)
        await one.turns(3)
        assert one.metric("dwcp_pba_models_refused_total", reason="checksum") == 1
        assert one.serving == "m-1"


async def test_where_arrivals_only_register_they_wait_to_be_activated():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder, activate_arrivals=False) as (one,):
        assert one.serving == "m-1", "the first model of all serves"
        folder.write("new.onnx", "n-1")
        await one.turns()
        assert one.serving == "m-1"
        await one.registry.activate("n-1")
        assert one.serving == "n-1"


async def test_what_is_desired_and_cannot_be_loaded_is_told_and_tried_again():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1)), shared=shared) as (one,):
        await shared.publish(ModelBundle("store", b"", b"!x-1"), one.folder.describe(ModelBundle("", b"", b"!x-1")))
        shared.state = shared.state.activated("x-1")
        await one.turns(3)
        assert one.serving == "m-1"
        assert one.folder.loads.count("x-1") == 1, "not again and again"
        [report] = await one.registry.replicas()
        assert report.refused == {"x-1": "its golden windows disagree"}
        assert one.metric("dwcp_pba_models_missing") == 1
        with pytest.raises(ModelConflictError, match="golden windows"):
            await one.registry.activate("x-1")
        shared.bundles["x-1"] = ModelBundle("store", b"", b"x-1")
        await one.registry.activate("x-1")
        assert one.serving == "x-1"
        assert (await one.registry.replicas())[0].refused == {}


async def test_what_is_not_wanted_any_more_is_freed():
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1), ("p", "p-1", 1))) as (one,):
        await one.registry.pin(Pin(Scope.REGION, "eu", ("o-1",)))
        await one.registry.change(lambda desired: desired.started(Experiment("e", "m-1", "p-1")))
        assert one.loaded == ["m-1", "o-1", "p-1"]
        await one.registry.change(lambda desired: desired.ended("e"))
        await one.registry.unpin(Scope.REGION, "eu")
        assert one.loaded == ["m-1"]
        assert one.metric("dwcp_pba_models_loaded") == 1


async def test_a_model_is_loaded_once_for_being_activated():
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1))) as (one,):
        await one.registry.activate("o-1")
        await one.turns()
        assert one.folder.loads == ["m-1", "o-1"]


async def test_unknown_and_held_versions_are_told():
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1))) as (one,):
        with pytest.raises(ModelUnknownError, match="no model 'x'"):
            await one.registry.activate("x")
        with pytest.raises(ModelConflictError, match="no version was active before"):
            await one.registry.rollback()
        await one.registry.hold("o-1")
        with pytest.raises(ModelConflictError, match="unpin it first"):
            await one.registry.activate("m-1")
        await one.registry.release()
        await one.registry.rollback()
        assert one.serving == "m-1"


async def test_changes_from_many_sides_are_all_made():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder, folder, folder) as all_of_them:
        pins = [Pin(Scope.LINK, str(i), ("m-1",)) for i in range(12)]
        changes = (all_of_them[i % 3].registry.pin(pin) for i, pin in enumerate(pins))
        await asyncio.gather(*changes)
        assert {pin.value for pin in all_of_them[0].shared.state.pins} == {str(i) for i in range(12)}


async def test_while_the_store_is_away_the_folders_model_serves_and_later_what_is_desired():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1)), shared=shared) as (one,):
        await one.registry.activate("o-1")
    shared.away = True
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1)), shared=shared) as (one,):
        assert one.serving == "m-1"
        await one.turns()
        await one.registry.stop()
        shared.away = False
        await one.turns()
        assert one.serving == "o-1"


async def test_a_first_start_without_the_store_decides_once_it_is_back():
    shared = SharedModels()
    shared.away = True
    async with replicas(Folder(("m", "m-1", 1)), shared=shared) as (one,):
        assert one.serving == "m-1"
        shared.away = False
        await one.turns()
        assert shared.state.active == "m-1"
        assert set(shared.infos) == {"m-1"}


async def test_a_replica_without_any_model_does_not_start():
    async with replicas(Folder(), started=False) as (one,):
        with pytest.raises(ModelRefusedError, match="no model"):
            await one.registry.start()
    async with replicas(Folder(("m", "!m-1", 1)), started=False) as (one,):
        with pytest.raises(ModelRefusedError, match="golden"):
            await one.registry.start()


async def test_a_broken_folder_does_not_keep_a_replica_from_serving_what_is_published():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1)), Folder(("m", "!m-9", 1)), shared=shared) as (_, other):
        assert other.serving == "m-1"


async def test_several_bare_files_at_a_first_start_do_not_overtake_the_meant_model():
    async with replicas(Folder(("m", "m-1", 1), ("a.onnx", "a-1", 5), ("b.onnx", "b-1", 6))) as (one,):
        assert one.serving == "m-1"
    async with replicas(Folder(("m", "m-1", 1), ("a.onnx", "a-1", 9), ("c.onnx", "c-1", 7)), shared=one.shared) as (
        again,
    ):
        assert again.serving == "c-1", "it was put there while nobody watched; the others were there before"


async def test_replicas_see_each_other():
    folder = Folder(("m", "m-1", 1))
    async with replicas(folder, folder) as (one, other):
        await other.turns(1)
        seen = await one.registry.replicas()
        assert [(report.replica, report.serving, report.revision) for report in seen] == [
            ("r0", "m-1", 1),
            ("r1", "m-1", 1),
        ]
        await other.registry.stop()
        assert [report.replica for report in await one.registry.replicas()] == ["r0"]


async def test_what_is_known_says_where_each_model_is():
    async with replicas(Folder(("m", "m-1", 1), ("o", "o-1", 1), ("x", "!x-1", 1))) as (one,):
        await one.registry.register(ModelBundle("retrained", b"", b"n-1"))
        with pytest.raises(ModelConflictError):
            await one.registry.activate("x-1")
        known = {known.info.version: known for known in await one.registry.known()}
        assert (known["m-1"].loaded, known["m-1"].local, known["m-1"].published) == (True, "m", True)
        assert (known["o-1"].loaded, known["o-1"].published) == (False, False)
        assert (known["n-1"].loaded, known["n-1"].local, known["n-1"].published) == (False, "", True)
        assert known["x-1"].refused == "its golden windows disagree"


async def test_a_model_that_does_not_pass_is_not_registered():
    async with replicas(Folder(("m", "m-1", 1))) as (one,):
        with pytest.raises(ModelRefusedError):
            await one.registry.register(ModelBundle("retrained", b"", b"!n-1"))
        assert set(one.shared.infos) == {"m-1"}


async def test_where_models_are_not_shared_nothing_is_published():
    async with replicas(Folder(("m", "m-1", 1)), share=False) as (one,):
        await one.turns()
        assert one.shared.infos == {}


async def test_a_published_model_that_the_store_lost_is_published_again_and_old_ones_are_forgotten():
    async with replicas(Folder(("m", "m-1", 1))) as (one,):
        one.shared.infos.clear()
        await one.turns()
        assert set(one.shared.infos) == {"m-1"}
        info = one.shared.infos["m-1"]
        for i in range(stock.PUBLISHED_KEPT + 5):
            await one.shared.publish(
                ModelBundle("", b"", b""), replace(info, version=f"old-{i}", created_at_ms=info.created_at_ms - i)
            )
        await one.turns()
        assert "m-1" in one.shared.infos
        assert len(one.shared.infos) == stock.PUBLISHED_KEPT + 1
        assert "old-34" not in one.shared.infos


async def test_the_run_loop_goes_on_while_the_store_is_away():
    shared = SharedModels()
    async with replicas(Folder(("m", "m-1", 1)), shared=shared) as (one,):
        running = asyncio.create_task(one.registry.run())
        shared.away = True
        await asyncio.sleep(0.05)
        shared.away = False
        shared.state = replace(shared.state, revision=7)
        while one.registry.models.desired.revision != 7:  # noqa: ASYNC110 - what is waited for is a value, not an event
            await asyncio.sleep(0.01)
        running.cancel()
        assert shared.reports["r0"].serving == "m-1"


def test_a_desired_state_says_which_versions_it_takes():
    desired = Desired(active="a", pins=(Pin(Scope.LINK, "x", ("b", "a")),))
    assert desired.versions == ("a", "b")
