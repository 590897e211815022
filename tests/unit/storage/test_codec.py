import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pba_service.domain.drift import Condition, ConditionKind
from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.storage import codec
from pba_service.storage.codec import BUCKET_MS, DAY_MS, StoredDataError

texts = st.text(st.characters(codec="utf-8"), max_size=40)
times = st.integers(0, 2**42)
floats = st.floats(width=32, allow_infinity=False)
four = arrays(np.float32, 4, elements=floats)

predictions = st.builds(
    Prediction,
    link_id=texts,
    made_at_ms=times,
    step_ms=st.integers(1, 2**40),
    target_ms=times,
    values=four,
    quantiles=arrays(np.float32, (4, 5), elements=floats),
    confidence=st.floats(0, 1, width=32),
    model_version=texts,
    source=st.sampled_from(Source),
)


@given(predictions)
def test_a_prediction_comes_back_as_it_was(prediction):
    decoded = codec.decode_prediction(codec.encode_prediction(prediction))

    assert decoded.same_as(prediction)
    assert (decoded.values.dtype, decoded.quantiles.dtype) == (np.float32, np.float32)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_prediction_or_a_clear_error(blob):
    try:
        prediction = codec.decode_prediction(blob)
    except StoredDataError:
        return
    assert codec.decode_prediction(codec.encode_prediction(prediction)).same_as(prediction)


@given(predictions, st.data())
def test_a_damaged_prediction_is_a_prediction_or_a_clear_error(prediction, data):
    blob = bytearray(codec.encode_prediction(prediction))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))

    for damaged in (bytes(blob), bytes(blob[:cut]), bytes(blob) + b"x"):
        try:
            codec.decode_prediction(damaged)
        except StoredDataError:
            continue


def test_a_prediction_of_another_version_is_refused():
    prediction = Prediction("a", 1, 1, 2, np.zeros(4, np.float32), np.zeros((4, 5), np.float32), 0, "v", Source.MODEL)
    blob = codec.encode_prediction(prediction)

    with pytest.raises(StoredDataError, match="version"):
        codec.decode_prediction(b"\x03" + blob[1:])
    with pytest.raises(StoredDataError):
        codec.decode_prediction(b"\x02" + blob[1:])


def test_what_is_wrong_with_a_link_travels_with_its_prediction():
    told = Condition(ConditionKind.OUTAGE, 1_800_000_000_000, 2.0, ("bandwidth_mbps", "packet_loss_ratio"))
    values, quantiles = np.zeros(4, np.float32), np.zeros((4, 5), np.float32)
    prediction = Prediction("a", 1, 1, 2, values, quantiles, 0, "v", Source.MODEL, condition=told)
    blob = codec.encode_prediction(prediction)
    assert codec.decode_prediction(blob).condition == told
    for cut in range(len(blob)):
        with pytest.raises(StoredDataError):
            codec.decode_prediction(blob[:cut])


@given(st.lists(st.tuples(times, four), unique_by=lambda pair: pair[0], min_size=1, max_size=30))
def test_samples_come_back_as_they_were(pairs):
    pairs.sort(key=lambda pair: pair[0])
    rows = codec.encode_samples(np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]))
    # what the script does: each bucket keeps its rows without the bucket's number
    buckets = {
        bucket: b"".join(row.tobytes()[4:] for row in rows if row["bucket"] == bucket)
        for bucket in dict.fromkeys(rows["bucket"].tolist())
    }

    series = codec.decode_samples(list(buckets.items()))

    assert series.times_ms.tolist() == [pair[0] for pair in pairs]
    assert np.array_equal(series.values, [pair[1] for pair in pairs], equal_nan=True)


def test_no_buckets_are_an_empty_series():
    assert len(codec.decode_samples([])) == 0


def row(offset_ms):
    return np.array([(offset_ms, (1, 2, 3, 4))], codec.SAMPLE_ROW).tobytes()


@pytest.mark.parametrize(
    "buckets",
    [
        [(0, b"x" * 19)],
        [(0, row(5) + row(5))],
        [(0, row(6) + row(5))],
        [(1, row(0)), (0, row(5))],
        [(0, row(BUCKET_MS + 1)), (1, row(0))],
    ],
)
def test_rows_that_are_damaged_or_out_of_order_are_refused(buckets):
    with pytest.raises(StoredDataError):
        codec.decode_samples(buckets)


def test_the_scripts_know_the_widths_of_the_rows():
    assert codec.SAMPLE_ROW.itemsize == 20
    assert codec.SAMPLE_WIRE.itemsize == 24
    assert codec.LEDGER_ROW.itemsize == 52


ledger_entries = st.builds(
    lambda target, ahead, late, predicted, actual, confidence: LedgerEntry(
        target - ahead, target, target + late, predicted, actual, confidence, "v1"
    ),
    times,
    st.integers(0, 2**32 - 1),
    st.integers(-(2**31), 2**31 - 1),
    four,
    four,
    st.floats(0, 1, width=32),
)


@given(ledger_entries)
def test_a_ledger_entry_comes_back_as_it_was(entry):
    day, blob = codec.encode_ledger_entry(entry)

    [decoded] = codec.decode_ledger(day, blob, {0: "v1"})

    assert (decoded.made_at_ms, decoded.target_ms, decoded.measured_at_ms) == (
        entry.made_at_ms, entry.target_ms, entry.measured_at_ms,
    )  # fmt: skip
    assert np.array_equal(decoded.predicted, entry.predicted, equal_nan=True)
    assert np.array_equal(decoded.actual, entry.actual, equal_nan=True)
    assert (decoded.confidence, decoded.model_version) == (entry.confidence, "v1")


def test_a_ledger_entry_that_looks_too_far_ahead_is_refused():
    nothing = np.zeros(4, np.float32)

    with pytest.raises(ValueError, match="cannot be stored"):
        codec.encode_ledger_entry(LedgerEntry(0, 60 * DAY_MS, 60 * DAY_MS, nothing, nothing, 0.5, "v"))


def test_a_model_version_that_is_not_known_any_more_is_empty():
    nothing = np.zeros(4, np.float32)
    day, blob = codec.encode_ledger_entry(LedgerEntry(0, 1, 2, nothing, nothing, 0.5, "v"))

    assert codec.decode_ledger(day, blob, {7: "other"})[0].model_version == ""


@pytest.mark.parametrize("blob", [b"x" * 51, bytes(52) + bytes(52)])
def test_a_damaged_ledger_is_refused(blob):
    with pytest.raises(StoredDataError):
        codec.decode_ledger(0, blob, {})
