"""Every method of the contract over a real connection."""

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

from pba_service.domain.parameters import CongestionControl
from pba_service.domain.samples import Series
from pba_service.serving.servicers import HISTORY_MESSAGE_SAMPLES
from tests.integration.serving.harness import NOW_MS, everything, ledger_entry, row

NOW_S = NOW_MS // 1000


def history(*times_ms):
    return Series(np.array(times_ms, np.int64), np.ones((len(times_ms), 4), np.float32))


async def test_push_keeps_the_good_and_names_the_bad(running):
    request = pb.PushSamplesRequest(
        sequence=7, samples=[row(), row(latency_ms=-1), types.Sample(link_id="a", latency_ms=1), row()]
    )
    answer = await running.stub.PushSamples(request)
    assert (answer.sequence, answer.stored, answer.refused) == (7, 2, 2)
    assert [(r.index, r.field, r.reason) for r in answer.refusals] == [
        (1, "latency_ms", pb.REFUSAL_REASON_OUT_OF_RANGE),
        (2, "measured_at", pb.REFUSAL_REASON_MISSING),
    ]


async def test_push_of_columns(running):
    columns = types.SampleColumns(
        links=[types.LinkRef(link_id="a"), types.LinkRef(link_id="b")],
        link_index=[0, 1, 1],
        measured_at_ms=[NOW_MS, NOW_MS, 0],
        latency_ms=[1, 2, 3],
    )
    answer = await running.stub.PushSamples(pb.PushSamplesRequest(columns=columns))
    assert (answer.stored, answer.refused) == (2, 1)
    assert answer.refusals[0].reason == pb.REFUSAL_REASON_TOO_OLD
    assert [link.link_id for link in running.service.pushes[0].links] == ["a", "b"]


async def test_predict(running):
    running.service.add("a")
    answer = await running.stub.Predict(pb.PredictRequest(link_id="a"))
    assert answer.prediction.bandwidth_mbps == 100
    assert not answer.prediction.HasField("packet_loss_ratio")
    assert not answer.path


async def test_predict_all_horizons(running):
    running.service.add("a")
    answer = await running.stub.Predict(pb.PredictRequest(link_id="a", include_path=True))
    assert [point.horizon.seconds for point in answer.path] == [300, 900]
    assert answer.path[1].bandwidth_quantiles.p50 == 1500
    assert not answer.path[1].HasField("latency_quantiles")


async def test_predict_from_the_callers_own_samples(running):
    window = [row(NOW_S - minute * 60, link_id="") for minute in range(10)]
    answer = await running.stub.Predict(pb.PredictRequest(link_id="x", window=window, include_path=True))
    assert answer.prediction.source == types.PREDICTION_SOURCE_CALLER_WINDOW
    assert len(answer.path) == 2
    assert len(running.service.windows[0]) == 10
    assert running.service.pushes == []


async def test_batch_predict_gives_each_link_its_own(running):
    running.service.add("a")
    answer = await running.stub.BatchPredict(pb.BatchPredictRequest(link_ids=["a", "nobody", "a"]))
    assert [result.link_id for result in answer.results] == ["a", "nobody", "a"]
    assert [result.WhichOneof("result") for result in answer.results] == ["prediction", "status", "prediction"]
    assert answer.results[1].status.code == 5
    assert "nobody" in answer.results[1].status.message


async def test_parameters(running):
    running.service.add("a")
    request = pb.GetOptimalParametersRequest(
        link_id="a", current_streams=4, congestion_control=types.CONGESTION_CONTROL_BBR, max_streams=6
    )
    answer = await running.stub.GetOptimalParameters(request)
    assert answer.source == pb.PARAMETERS_SOURCE_DEFAULTS
    assert answer.parameters.streams == 6
    assert answer.prediction.link_id == "a"
    ask = running.service.asks[0]
    assert (ask.current_streams, ask.congestion_control, ask.max_buffer_bytes) == (4, CongestionControl.BBR, None)


async def test_history_in_range_and_order(running):
    running.service.histories["a"] = [history(1000, 2000), history(3000, 4000)]
    request = pb.GetHistoryRequest(link_id="a", start=Timestamp(seconds=2), end=Timestamp(seconds=4))
    messages = await everything(running.stub.GetHistory(request))
    assert [s.measured_at.seconds for m in messages for s in m.samples] == [2, 3]
    assert {s.link_id for m in messages for s in m.samples} == {""}


async def test_long_history_comes_in_messages_of_bounded_size(running):
    count = 3 * HISTORY_MESSAGE_SAMPLES + 1
    running.service.histories["a"] = [history(*range(count))]
    messages = await everything(running.stub.GetHistory(pb.GetHistoryRequest(link_id="a")))
    assert [len(m.samples) for m in messages] == [HISTORY_MESSAGE_SAMPLES] * 3 + [1]
    assert [s.measured_at.ToMilliseconds() for m in messages for s in m.samples] == list(range(count))


async def test_ledger(running):
    running.service.ledgers["a"] = [
        ledger_entry(minute * 60_000, [100, 20, 0, 1], [90, np.nan, 0, 2]) for minute in range(1500)
    ]
    request = pb.GetLedgerRequest(link_id="a", start=Timestamp(seconds=60))
    messages = await everything(running.stub.GetLedger(request))
    entries = [entry for message in messages for entry in message.entries]
    assert [entry.target.seconds for entry in entries] == [60 * minute for minute in range(1, 1500)]
    assert len(messages) == 3
    assert entries[0].absolute_error.bandwidth_mbps == 10
    assert not entries[0].absolute_error.HasField("latency_ms")


async def test_a_link_and_what_was_learned_of_it(running):
    for link_id in ("a", "a-longer-one"):
        running.service.add(link_id, "west")
    answer = await running.stub.GetLink(pb.GetLinkRequest(link_id="a"))
    assert (answer.summary.link_id, answer.summary.region) == ("a", "west")
    assert [record.metric for record in answer.metrics] == [
        "bandwidth_mbps",
        "latency_ms",
        "packet_loss_ratio",
        "jitter_ms",
    ]
    assert [record.HasField("mean_absolute_error") for record in answer.metrics] == [True, True, False, True]
    assert sum(w.weight for w in answer.metrics[0].weights) == pytest.approx(1, abs=1e-5)
    assert (answer.hit_ratio, answer.pending) == (0.75, 15)


async def test_an_explanation_adds_up(running):
    running.service.add("a")
    answer = await running.stub.ExplainPrediction(pb.ExplainPredictionRequest(link_id="a"))
    assert answer.prediction.link_id == "a"
    assert [e.metric for e in answer.explanations] == ["bandwidth_mbps", "latency_ms", "jitter_ms"]
    first = answer.explanations[0]
    assert sum(a.value for a in first.attributions) == first.model_forecast - first.baseline_forecast
    assert [(a.input, a.lag) for a in first.attributions] == [("bandwidth_mbps", 0), ("clock", 0)]
    assert [(c.weight, c.forecast) for c in first.contributions] == [(0.25, 90)]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 1000])
async def test_pages_make_the_whole(running, page_size):
    links = [f"link-{index}" for index in range(6)]
    for link_id in [*links, "other"]:
        running.service.add(link_id, "west")
    listed, token, pages = [], "", 0
    while token or not pages:
        page = await running.stub.ListLinks(
            pb.ListLinksRequest(page_size=page_size, page_token=token, prefix="link-", region="west")
        )
        listed += [link.link_id for link in page.links]
        token, pages = page.next_page_token, pages + 1
    assert listed == links
    assert pages == -(-6 // page_size)


async def test_no_links_are_one_empty_page(running):
    page = await running.stub.ListLinks(pb.ListLinksRequest())
    assert (len(page.links), page.next_page_token) == (0, "")
