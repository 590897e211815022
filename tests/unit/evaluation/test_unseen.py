import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy.unseen import dealt, trained, weights
from pba_service.domain.samples import Series
from pba_service.training import TrainOptions
from pba_service.training.dataset import Trace


def trace(collection, samples, metrics):
    values = np.full((samples, 4), np.nan, np.float32)
    values[:, metrics] = 1
    return Trace(collection, "link", Series(np.arange(samples, dtype=np.int64), values))


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 10), min_size=2), st.integers(2, 4))
def test_every_collection_is_held_out_exactly_once(weight, folds):
    folds = min(folds, len(weight))
    hands = dealt(weight, folds)
    assert len(hands) == folds
    assert sorted(name for hand in hands for name in hand) == sorted(weight)


def test_collections_that_measure_what_few_do_end_in_different_folds():
    traces = [trace("rtt", 10_000, [1]), trace("loss-a", 300, [1, 2]), trace("loss-b", 300, [1, 2])]
    weight = weights(traces)
    assert weight["rtt"] == pytest.approx(10_000 / 10_600)
    assert weight["loss-a"] == pytest.approx(0.5 + 300 / 10_600)
    assert not any({"loss-a", "loss-b"} <= set(hand) for hand in dealt(weight, 3))


def test_a_fold_is_trained_again_only_where_it_must_be(tmp_path):
    options = TrainOptions(output=tmp_path, data=Path("traces.parquet"), hold_out=("a", "b"))
    assert not trained(options, "f")
    kept = {k: v for k, v in asdict(options).items() if k not in {"output", "data", "created_at", "threads"}}
    record = {"training": {"options": kept, "fingerprint_sha256": "f"}}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    assert trained(options, "f")
    assert not trained(options, "of other measurements")
    changed = TrainOptions(output=tmp_path, data=Path("traces.parquet"), hold_out=("a",))
    assert not trained(changed, "f")
    (tmp_path / "manifest.json").write_text('{"training": {')
    assert not trained(options, "f")
