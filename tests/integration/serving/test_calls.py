import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import types_pb2 as types

NOW_S = 1_800_000_000


def row(seconds=NOW_S, link_id="a", **values):
    return types.Sample(link_id=link_id, measured_at=Timestamp(seconds=seconds), **(values or {"bandwidth_mbps": 5}))


async def test_push(running):
    answer = await running.stub.PushSamples(pb.PushSamplesRequest(sequence=7, samples=[row(), row(latency_ms=-1)]))
    assert (answer.sequence, answer.stored, answer.refused) == (7, 1, 1)


async def test_stream(running):
    call = running.stub.StreamSamples()
    for sequence in range(40):
        await call.write(pb.PushSamplesRequest(sequence=sequence, samples=[row(NOW_S - sequence)]))
    await call.done_writing()
    assert [answer.sequence async for answer in call] == list(range(40))


async def test_predict(running):
    running.service.add("a")
    answer = await running.stub.Predict(pb.PredictRequest(link_id="a"))
    assert answer.prediction.bandwidth_mbps == 100


async def test_subscribe(running):
    running.service.add("a")
    call = running.stub.StreamPredictions(pb.StreamPredictionsRequest(selector=pb.LinkSelector(all=True)))
    first = await call.read()
    assert first.snapshot_complete
    assert [p.link_id for p in first.predictions] == ["a"]
