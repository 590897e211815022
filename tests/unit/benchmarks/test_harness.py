"""What benchmarks say is what they measured."""

import asyncio
import json

import grpc
import pytest

from benchmarks.graph import suite as graph
from benchmarks.guard.__main__ import fallen
from benchmarks.harness.http2 import Call, CallFailedError, Connection
from benchmarks.harness.report import line
from benchmarks.harness.statistics import Section, compared, plain, turns
from benchmarks.streams.load import predictions_in
from pba_service.settings import SHIPPED_MODELS


def test_a_ratio_is_the_median_of_the_rounds_and_not_of_the_medians():
    figure = compared("x", "per s", [1.0, 20.0, 30.0], [1.0, 10.0, 40.0], "control", goal=">= 1.5")
    assert (figure.ratio, figure.low, figure.high) == (1.0, 0.75, 2.0)
    assert figure.met is False
    assert "MISSED" in line(figure)


@pytest.mark.parametrize(
    ("goal", "met"), [("", None), (">= 2", True), (">= 2.1", False), ("<= 2", True), ("<= 1.9", False)]
)
def test_a_goal_of_a_figure_without_control_is_about_the_figure(goal, met):
    assert plain("x", "ms", [1.0, 2.0, 3.0], goal=goal).met is met


def test_works_take_turns_in_alternating_order_and_the_first_round_is_not_counted():
    order = []

    def work(name):
        return lambda turn: order.append((turn, name)) or float(turn)

    found = turns({"a": work("a"), "b": work("b")}, 2)
    assert found == {"a": [0.0, 1.0], "b": [0.0, 1.0]}
    assert order == [(-1, "a"), (-1, "b"), (0, "b"), (0, "a"), (1, "a"), (1, "b")]


def test_the_guard_tells_what_fell_below_a_third():
    def section(*ratios):
        return Section("guard", [compared(str(i), "", [ratio], [1.0], "control") for i, ratio in enumerate(ratios)])

    before = section(0.9, 0.9, 3.0)
    assert fallen(before, section(0.31, 1.5, 1.1)) == []
    assert [text.split(":")[0] for text in fallen(before, section(0.29, 0.9, 0.9))] == ["0", "2"]


def test_the_arithmetic_counted_is_that_of_the_documented_topology():
    shipped = SHIPPED_MODELS / graph.DOCUMENTED
    lstms = sum(4 * units * (inputs + units + 1) for inputs, units in graph.LSTMS)
    denses = sum((inputs + 1) * units for inputs, units in graph.DENSES)
    norm = 2 * graph.DENSES[-1][0]
    assert lstms + denses + norm == json.loads((shipped / "manifest.json").read_text())["parameters"]
    assert graph.flops_per_window() == 2_359_552
    zeros = sum(2 * 4 * units * units for _, units in graph.LSTMS)
    # the graph leaves out the zeros and the gate they would pass; biases are rows of its weights, a hundredth
    assert graph.flops_computed(shipped) == pytest.approx(graph.flops_per_window() - zeros, rel=0.01)


def test_entries_of_a_message_are_counted_without_reading_them():
    from pba.v1 import prediction_service_pb2 as pb  # noqa: PLC0415 - here only

    update = pb.StreamPredictionsResponse(skipped_updates=3, snapshot_complete=True)
    for i in range(7):
        update.predictions.add(link_id="x" * 50 * i)
    assert predictions_in(update.SerializeToString()) == 7
    assert predictions_in(b"") == 0


class Echo(grpc.GenericRpcHandler):
    """Answers what it is sent; fails on request; streams on request."""

    def service(self, handler_call_details):
        return {
            "/e/Call": grpc.unary_unary_rpc_method_handler(self.call),
            "/e/Many": grpc.unary_stream_rpc_method_handler(self.many),
        }.get(handler_call_details.method)

    async def call(self, request, context):
        if request == b"fail":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
        return request

    async def many(self, request, context):
        for i in range(int(request)):
            await context.write(bytes([i % 256]) * i * 100)


@pytest.fixture
async def connection():
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    opened = await Connection.open("127.0.0.1", port)
    yield opened
    opened.close()
    await server.stop(None)


async def test_the_load_generators_client_calls_a_real_server(connection):
    answers = await asyncio.gather(*(connection.unary("/e/Call", bytes([i]) * i) for i in range(200)))
    assert answers == [bytes([i]) * i for i in range(200)]
    large = bytes(range(256)) * 8_000  # several times the window of flow control
    assert await connection.unary("/e/Call", large) == large
    for path, data, code in (("/e/Call", b"fail", "9"), ("/e/None", b"", "12")):
        with pytest.raises(CallFailedError, match=code):
            await connection.unary(path, data)


async def test_the_load_generators_client_reads_streams(connection):
    got, ended = [], asyncio.get_running_loop().create_future()
    connection.start("/e/Many", b"300", Call(got.append, ended.set_result))
    assert await asyncio.wait_for(ended, 20) is None
    assert [len(message) for message in got] == [100 * i for i in range(300)]
