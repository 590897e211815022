"""Nodes whose clocks agree push in the same instant: more calls than may wait, and every one is stored."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import grpc
from pba.v1 import prediction_service_pb2 as pb
from pba.v1 import prediction_service_pb2_grpc

import pba_client
from tests.process import ServiceProcess

NODES = 200
CONNECTIONS = 50
MINUTE_MS = 60_000


def shipped_config():
    """The shipped service config. Its throttle is a process's own, and every node is a process; here they are one."""
    config = json.loads((Path(pba_client.__file__).parent / "service_config.json").read_text())
    del config["retryThrottling"]
    return json.dumps(config)


def sample(node, at_ms):
    request = pb.PushSamplesRequest()
    columns = request.columns
    columns.links.add(link_id=f"burst/{node}")
    columns.link_index.append(0)
    columns.measured_at_ms.append(at_ms)
    for values, value in ((columns.bandwidth_mbps, 10.0), (columns.latency_ms, 5.0)):
        values.append(value)
    columns.packet_loss_ratio.append(0.0)
    columns.jitter_ms.append(1.0)
    return request


async def burst(target, at_ms):
    """The statuses of all pushes, and how many links there are then."""
    options = [("grpc.service_config", shipped_config()), ("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(CONNECTIONS)]
    stubs = [prediction_service_pb2_grpc.PredictionServiceStub(channel) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))

    async def push(node):
        try:
            answer = await stubs[node % CONNECTIONS].PushSamples(sample(node, at_ms), timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return f"stored {answer.stored}"

    came = Counter(await asyncio.gather(*map(push, range(NODES))))
    found = await stubs[0].ListLinks(pb.ListLinksRequest(page_size=1_000), timeout=60)
    for channel in channels:
        await channel.close()
    return came, len(found.links)


def test_all_who_push_in_one_instant_are_stored(tmp_path):
    with ServiceProcess(tmp_path, environment={"PBA_MAX_WAITING": "16"}) as service:
        came, links = asyncio.run(burst(service.target, time.time_ns() // 1_000_000 - MINUTE_MS))
    assert (dict(came), links) == ({"stored 1": NODES}, NODES)
