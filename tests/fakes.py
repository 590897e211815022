"""Hand-written stand-ins for the engine's ports."""

import numpy as np

from pba_service.domain.errors import ModelConflictError, StoreUnavailableError
from pba_service.domain.lifecycle import Desired
from pba_service.engine.ports import ModelInfo

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
SPREAD = np.array([0.8, 0.85, 0.95, 1.0, 1.05, 1.15, 1.2], np.float32)


class LastValueModel:
    """Predicts the newest value of each metric, give or take 20 %; counts its runs."""

    def __init__(self, version="test-1", window_slots=10):
        self.info = ModelInfo(
            name="last_value",
            version=version,
            checksum_sha256="0" * 64,
            created_at_ms=1_700_000_000_000,
            features=("bandwidth_mbps", "latency_ms", "packet_loss_ratio", "jitter_ms", "hour_of_day", "day_of_week"),
            window_slots=window_slots,
            horizons_ms=(300_000, 900_000),
            quantile_levels=LEVELS,
            parameter_count=0,
        )
        self.batches = []

    def predict(self, windows, step_ms):
        assert windows.shape[1:] == (self.info.window_slots, 6)
        assert len(step_ms) == len(windows)
        self.batches.append(len(windows))
        newest = windows[:, -1, :4]
        return np.repeat((newest[:, :, None] * SPREAD)[:, None], 2, axis=1)


class Clock:
    """Time that goes on only when told to."""

    def __init__(self, now_ms=1_800_000_000_000):
        self.now_ms = now_ms

    def __call__(self):
        return self.now_ms


class MemoryDocuments:
    """Documents that replicas share, in memory (`engine.documents.Documents`); `away` makes every call fail."""

    def __init__(self):
        self.documents, self.tables, self.away = {}, {}, False

    def _check(self):
        if self.away:
            raise StoreUnavailableError

    async def read(self, name):
        self._check()
        return self.documents.get(name, (0, b""))

    async def write(self, name, content, *, read_version):
        self._check()
        if self.documents.get(name, (0, b""))[0] != read_version:
            return False
        self.documents[name] = (read_version + 1, content)
        return True

    async def names(self, prefix):
        self._check()
        return sorted(name for name in self.documents if name.startswith(prefix))

    async def remove(self, name):
        self._check()
        self.documents.pop(name, None)
        self.tables.pop(name, None)

    async def set_fields(self, name, fields):
        self._check()
        self.tables.setdefault(name, {}).update(fields)

    async def fields(self, name):
        self._check()
        return dict(self.tables.get(name, {}))

    async def drop_fields(self, name, fields):
        self._check()
        for field in fields:
            self.tables.get(name, {}).pop(field, None)


class SharedModels:
    """What replicas share of models, in memory (`engine.model_ports.ModelRegistry`); `away` makes every call fail."""

    def __init__(self):
        self.away = False
        self.state = Desired()
        self.bundles = {}
        self.infos = {}
        self.reports = {}

    def _reach(self):
        if self.away:
            raise StoreUnavailableError

    async def desired(self):
        self._reach()
        return self.state

    async def propose(self, desired, *, read_revision):
        self._reach()
        if self.state.revision != read_revision:
            return False
        self.state = desired
        return True

    async def catalogue(self):
        self._reach()
        return sorted(self.infos.values(), key=lambda info: info.created_at_ms, reverse=True)

    async def publish(self, bundle, info):
        self._reach()
        known = self.infos.setdefault(info.version, info)
        if known.checksum_sha256 != info.checksum_sha256:
            raise ModelConflictError(f"another model is published as {info.version} already")
        self.bundles[info.version] = bundle

    async def fetch(self, version):
        self._reach()
        return self.bundles.get(version)

    async def forget(self, versions):
        self._reach()
        for version in versions:
            self.infos.pop(version, None)
            self.bundles.pop(version, None)

    async def report(self, report, ttl_s):
        self._reach()
        self.reports[report.replica] = report

    async def leave(self, replica):
        self._reach()
        self.reports.pop(replica, None)

    async def replicas(self):
        self._reach()
        return [self.reports[name] for name in sorted(self.reports)]
