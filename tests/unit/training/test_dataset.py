"""Files to examples."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from pba_service.domain.anchors import BASELINES, baseline
from pba_service.domain.samples import LinkInfo, Series
from pba_service.files import JsonlWriter, MeasurementFileError, replacing
from pba_service.training import TrainOptions, augment, dataset, scores
from pba_service.training.dataset import TEST, TRAIN, TUNE, TooFewExamplesError, Trace
from pba_service.training.recipes import BandwidthLstm, Table
from pba_service.training.trainer import recipe_of, training_examples


def columns(n=40, link="a", step_s=60):
    return {
        "link_id": [link] * n,
        "timestamp": [1_767_225_600 + step_s * i for i in range(n)],
        "bandwidth_mbps": [float(i) for i in range(n)],
        "packet_loss": [None if i % 2 else 0.5 for i in range(n)],
    }


def test_parquet_csv_and_jsonl_say_the_same(tmp_path):
    table = pa.table(columns())
    pyarrow.parquet.write_table(table, tmp_path / "one.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "one.csv")
    lines = [str({k: v for k, v in row.items() if v is not None}).replace("'", '"') for row in table.to_pylist()]
    (tmp_path / "one.jsonl").write_text("\n".join(lines))
    read = [dataset.read_traces(tmp_path / f"one.{ending}") for ending in ("parquet", "csv", "jsonl")]
    assert len({dataset.fingerprint(traces) for traces in read}) == 1
    (trace,) = read[0]
    assert (trace.collection, trace.link_id, len(trace.series)) == ("one", "a", 40)
    np.testing.assert_array_equal(trace.series.values[:2, 2], [0.5, np.nan])
    assert np.isnan(trace.series.values[:, [1, 3]]).all()


def test_a_folder_is_read_file_by_file_and_a_dataset_column_names_the_collection(tmp_path):
    pyarrow.parquet.write_table(pa.table(columns() | {"dataset": ["lab"] * 40}), tmp_path / "x.parquet")
    pyarrow.csv.write_csv(pa.table(columns(link="b")), tmp_path / "y.csv")
    found = [(t.collection, t.link_id) for t in dataset.read_traces(tmp_path)]
    assert found == [("lab", "a"), ("y", "b")]


def test_what_the_service_exports_is_read(tmp_path):
    file = tmp_path / "history.jsonl.gz"
    values = np.array([[90.0, 8.5, np.nan, 0.25], [91.0, np.nan, 0.0, np.nan]], np.float32)
    written = Series(np.array([1_767_225_600_123, 1_767_225_660_000], np.int64), values)
    with replacing(file) as stream:
        for link in ("fra-ams", "lab/x"):
            JsonlWriter(stream).write(LinkInfo(link, region="eu"), written)
    read = dataset.read_traces(tmp_path)
    assert [(t.collection, t.link_id) for t in read] == [("history", "fra-ams"), ("lab", "x")]
    for trace in read:
        np.testing.assert_array_equal(trace.series.times_ms, written.times_ms)
        np.testing.assert_array_equal(trace.series.values, written.values)


def test_a_file_without_the_columns_is_refused_by_name(tmp_path):
    pyarrow.csv.write_csv(pa.table({"bandwidth_mbps": [1.0]}), tmp_path / "bad.csv")
    with pytest.raises(MeasurementFileError, match=r"bad\.csv: there is no column timestamp"):
        dataset.read_traces(tmp_path / "bad.csv")
    with pytest.raises(MeasurementFileError, match="holds no file"):
        dataset.read_traces((tmp_path / "empty").mkdir() or tmp_path / "empty")


def test_the_target_is_the_measured_sample_at_the_multiple_of_the_step(series):
    ramp = np.arange(300.0)[:, None] * np.ones(4)
    examples = dataset.examples_of(
        [Trace("c", "l", series(300, step_s=240, values=ramp))], slots=10, horizons_s=(900, 3600)
    )
    # 15 minutes are 4 steps of 240 s, an hour is 15
    newest = examples.windows[:, -1, 0]
    known = np.isfinite(examples.targets[:, 0, 0])
    np.testing.assert_array_equal(examples.targets[known, 0, 0], newest[known] + 4)
    known = np.isfinite(examples.targets[:, 1, 0])
    np.testing.assert_array_equal(examples.targets[known, 1, 0], newest[known] + 15)
    assert known.sum() > 200


def test_a_missing_target_is_masked_and_never_filled(series):
    whole = series(200)
    keep = np.ones(200, bool)
    keep[100] = False
    (values, _) = dataset.targets_of(
        Series(whole.times_ms[keep], whole.values[keep]), whole.times_ms[:150], np.full(150, 60_000), 900_000
    )
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [85]


def test_no_part_sees_targets_of_a_later_part(series):
    ramp = np.arange(1000.0)[:, None] * np.ones(4)
    examples = dataset.examples_of([Trace("c", "l", series(1000, values=ramp))], slots=10, horizons_s=(900, 14400))
    for part, border in ((TRAIN, 700), (TUNE, 800)):
        assert np.nanmax(examples.targets[examples.part == part]) == border - 1
        assert examples.windows[examples.part == part][..., 0].max() == border - 1 - 15
    assert (examples.windows[examples.part == TEST][:, -1, 0] >= 800).all()


def test_collections_count_alike_whatever_their_size():
    n = np.array([10, 1000, 1000])
    collection = np.repeat([0, 1, 1], n).astype(np.int32)
    group = np.repeat([0, 1, 2], n).astype(np.int32)
    y = np.ones((n.sum(), 4, 2), np.float32)
    simulated = np.zeros(n.sum(), bool)
    table = Table((), y, np.zeros(n.sum(), np.int8), group, collection, simulated)
    weight = table.sampling_weights(table.part == TRAIN)
    share = [weight[group == g].sum() for g in range(3)]
    assert sum(share) == pytest.approx(1)
    assert share[1] == pytest.approx(share[2])
    assert 0.15 < share[0] < 0.5
    y[:10, :, 1] = 0
    assert table.sampling_weights(table.part == TRAIN)[:10].sum() == 0


def test_augmented_copies_stay_within_the_training_part(series):
    trace = Trace("c", "l", series(2000))
    (copy,) = augment.augmented([trace], seed=3, train_share=0.7)
    assert copy.collection == "c"
    assert copy.link_id != "l"
    assert copy.series.times_ms[-1] < trace.series.times_ms[1400]
    assert (np.diff(copy.series.times_ms) > 0).all()
    assert (copy.series.values[:, 2] <= 1).all()
    again = augment.augmented([trace], seed=3, train_share=0.7)[0]
    np.testing.assert_array_equal(copy.series.values, again.series.values)


def test_augmented_copies_follow_the_split_of_the_run(series, tmp_path):
    """What tunes and tests is never trained on, and all that trains is copied."""
    trace = Trace("c", "l", series(2000))
    for split, border in (((0.4, 0.5), 800), ((0.9, 0.95), 1800)):
        options = TrainOptions(output=tmp_path, simulated_links=1, split=split)
        examples = training_examples(recipe_of("bandwidth_lstm"), [trace], [], options)
        newest = examples.made_at_ms[(examples.part == TRAIN) & (examples.link == 1)].max()
        assert trace.series.times_ms[border - 200] < newest < trace.series.times_ms[border]


def test_links_without_a_single_window_are_told(series):
    with pytest.raises(TooFewExamplesError, match="no link has enough"):
        dataset.examples_of([Trace("c", "l", series(9))], slots=10, horizons_s=(900,))


def test_copies_without_a_window_do_not_matter(series, tmp_path):
    """Bursts of samples are too short once they are thinned."""
    bursts = series(2600, values=np.ones((2600, 4)))
    times = bursts.times_ms + np.arange(2600) // 26 * 7_200_000
    trace = Trace("c", "l", Series(times, bursts.values))
    options = TrainOptions(output=tmp_path, simulated_links=1)
    examples = training_examples(recipe_of("bandwidth_lstm"), [trace], [], options)
    assert set(examples.link.tolist()) == {0}


def test_scores_are_geometric_over_links_and_plain_over_collections(series):
    traces = [Trace("a", "1", series(400, seed=1)), Trace("a", "2", series(400, seed=2)), Trace("b", "3", series(400))]
    examples = dataset.examples_of(traces, slots=100, horizons_s=(900,))
    halfway = (examples.windows[:, -1, :4] + examples.targets[:, 0]) / 2
    result = scores.score(examples, {"halfway": halfway, "perfect": examples.targets[:, 0]})
    assert result["last"] == pytest.approx(dict.fromkeys(result["last"], 1.0))
    assert result["halfway"]["mean"] == pytest.approx(0.5, abs=1e-3)
    assert result["perfect"]["mean"] < 0.01
    assert set(result) == {"halfway", "perfect", *BASELINES}
    assert scores.table(result).splitlines()[1].startswith("perfect")


def test_baselines_leave_unknown_slots_out():
    values = np.full((1, 100, 4), np.nan, np.float32)
    values[0, -12:] = np.arange(12)[:, None]
    expected = {"last": 11, "mean10": 6.5, "mean30": 5.5, "mean100": 5.5, "median10": 6.5, "median30": 5.5}
    for name, value in expected.items():
        assert baseline(name, values)[0].tolist() == [value] * 4
    values[0, :, 1] = np.nan
    assert all(np.isnan(baseline(name, values)[0, 1]) for name in BASELINES)


def test_standardisation_leaves_absent_values_at_the_mean(series):
    values = np.full((300, 4), np.nan)
    values[:, 0] = 5
    traces = [Trace("a", "1", series(300)), Trace("b", "2", series(300, values=values))]
    examples = dataset.examples_of(traces, slots=100, horizons_s=(900,))
    recipe = BandwidthLstm()
    recipe.fit(examples)
    table = recipe.table(examples)
    rows = examples.link == 1
    assert (table.inputs[0][rows][:, :, 1:4] == 0).all()
    assert (table.y[rows][:, 1:, 1] == 0).all()
    assert recipe.mean[0] == pytest.approx(
        (examples.windows[~rows & (examples.part == TRAIN), -1, 0].mean() + 5) / 2, rel=1e-5
    )
