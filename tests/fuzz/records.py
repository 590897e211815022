"""What replicas share in Redis besides samples and predictions, as targets."""

import json
import zlib

import numpy as np

from pba_service.domain import drift, online, parts, retraining, trials
from pba_service.domain.amst.feedback import TransferOutcome
from pba_service.domain.columns import Columns
from pba_service.domain.experiments import Kind, Record, Rule, Tally, decode_tally, encode_tally
from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.domain.samples import Series
from pba_service.engine.model_ports import ReplicaReport
from pba_service.storage import outcomes, registry_codec
from pba_service.storage.codec import StoredDataError
from tests.fuzz.target import Target

NOW_MS = 1_800_000_000_000


def _sealed(data):
    """With the checksum that a writer would have given it: what comes behind one must bear any bytes, too."""
    return zlib.crc32(data).to_bytes(4, "little") + data


def _conditions(data):
    times = NOW_MS + 60_000 * np.arange(3)
    series = Series(times, np.ones((3, 4), np.float32))
    for blob in (data, _sealed(data[4:])):
        record = drift.decode(blob)
        assert drift.decode(drift.encode(record)) is not None
        drift.follow([blob], Columns.of([series]), [60_000])


def _pairs(data):
    for blob in (data, _sealed(data[4:])):
        pairs = trials.decode(blob)
        left, met = trials.settle(
            pairs, Series(NOW_MS + 60_000 * np.arange(3), np.ones((3, 4), np.float32)), NOW_MS + 180_000
        )
        assert len(left) + len(met.pairs) <= len(pairs)


def _sections(data):
    state, sections = parts.split(data)
    online.decode([state])
    again = parts.split(parts.join(b"state", sections))
    assert again == (b"state", {name: content for name, content in sections.items() if content})


def _experiment(data):
    record = Record.decode(data)
    record.evidence(Rule())
    assert Record.decode(record.encode()) == record


def _run(data):
    record = retraining.Record.decode(data)
    assert retraining.Record.decode(record.encode()) == record


def _tally(data):
    total = Tally()
    total.add(decode_tally(data))
    assert np.isfinite(total.value)


_OUTCOME = TransferOutcome("a", NOW_MS - 60_000, NOW_MS, 4, 1 << 20, None, 90.0, 80.0, 0.01, 0.001)
_DESIRED = Desired(
    revision=3,
    active="v1",
    previous=("v0",),
    pins=(Pin(Scope("prefix"), "a/", ("v1",)),),
    experiments=(Experiment("e", "v1", "v2", 0.5, NOW_MS),),
)
_RECORD = Record("e", next(iter(Kind)), "v1", "v2", 0.5, NOW_MS, NOW_MS, observations=((1, 0.1, 5), (2, -0.2, 7)))
_RETRAINING = retraining.Record(
    NOW_MS,
    retraining.Run(5, "r1", retraining.Trigger.DRIFT, True, NOW_MS, NOW_MS + 30_000, links=4, version="v2"),
    ended=(("trained", 3),),
)
_REPORT = ReplicaReport("r", "v1", ("v1",), {"v2": "no"}, 3, NOW_MS)

TARGETS = {
    "sections of states": Target(_sections, (), (parts.join(b"state", {parts.DRIFT: b"d", parts.TRIALS: b"t"}),)),
    "conditions": Target(_conditions, (), (drift.encode(drift.Record(NOW_MS, 1, ((1.0,), (2.0,)), (0.1, 0.2))),)),
    "pairs of forecasts": Target(_pairs, (), (_sealed(bytes(trials.PAIR.itemsize)),)),
    "stored outcomes": Target(
        lambda data: outcomes.decode("a", data), (StoredDataError,), (outcomes.encode(_OUTCOME),)
    ),
    "desired models": Target(
        registry_codec.decode_desired, (StoredDataError,), (registry_codec.encode_desired(_DESIRED),)
    ),
    "replicas' reports": Target(
        registry_codec.decode_report, (StoredDataError,), (registry_codec.encode_report(_REPORT),)
    ),
    "experiments": Target(_experiment, (ValueError,), (_RECORD.encode(),)),
    "retrainings": Target(_run, (ValueError,), (_RETRAINING.encode(),)),
    "tallies": Target(_tally, (ValueError,), (encode_tally(Tally()), json.dumps([1, 2, 3, [[1, 2, 3]] * 4]).encode())),
}
