"""Every call of a running service, with messages that their type admits and with bytes that are none.

A finding is: a status that says that the service itself failed, a text with insides in it, a call that does not end, a
service that is gone, or one that has grown.
"""

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from pba.v1 import model_service_pb2 as model_pb
from pba.v1 import prediction_service_pb2 as pb

from tests.fuzz.mutate import message, spoilt

GOOD = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNIMPLEMENTED,
}
INSIDES = re.compile(
    r"Traceback|File \"|pba_service|site-packages|object at 0x|numpy|redis\.exc|<class|Unexpected|onnxruntime"
)
PATIENCE_S = 20.0
"""No call may take longer, on a busy machine."""

_WRITTEN_TOO_LATE = "Internal error from Core"
"""What grpc.aio says, on this side, of a message that it wants to send on a stream that the service has ended."""

AT_ONCE = 8

_INFINITE = {"StreamPredictions", "Watch"}
_LEFT_OUT = {"ServerReflectionInfo"}
"""Its handler is not ours; it is behind the gate."""


@dataclass(frozen=True)
class Method:
    """One call."""

    path: str
    request: type
    streams_in: bool
    streams_out: bool

    @property
    def name(self):
        return self.path.rpartition("/")[2]


def methods():
    """Every call that a server has."""
    found = []
    for module in (pb, model_pb, health_pb2, reflection_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            found += [
                Method(
                    f"/{service.full_name}/{method.name}",
                    method.input_type._concrete_class,
                    method.client_streaming,
                    method.server_streaming,
                )
                for method in service.methods
                if method.name not in _LEFT_OUT
            ]
    return found


@dataclass
class Report:
    """What came of it.

    Attributes:
        inputs: Messages sent, by method.
        codes: Statuses, by method and code.
        findings: What must not be.
        seconds: How long it took.
    """

    inputs: Counter = field(default_factory=Counter)
    codes: Counter = field(default_factory=Counter)
    findings: list = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self):
        lines = [f"{sum(self.inputs.values()):,} messages in {self.seconds:.0f} s, {len(self.findings)} findings"]
        lines += [f"  {name}: {count:,}" for name, count in sorted(self.inputs.items())]
        codes = Counter()
        for (_, code), count in self.codes.items():
            codes[code] += count
        lines.append("  " + ", ".join(f"{code} {count:,}" for code, count in codes.most_common()))
        return "\n".join(lines + [f"  FINDING {finding}" for finding in self.findings[:20]])


def inputs(method, chance):
    """Requests for one call: good or spoilt, serialised."""
    now_s = time.time()
    made = []
    for _ in range(chance.choice((1, 1, 3)) if method.streams_in else 1):
        request = message(chance, method.request, now_s)
        if method.name == "StreamPredictions" and chance.random() < 0.8:
            request.min_interval.CopyFrom(Duration(nanos=chance.randrange(10_000_000)))
        data = request.SerializeToString()
        if chance.random() < 0.4:
            data = spoilt(chance, data, message(chance, method.request, now_s).SerializeToString())
        made.append(data)
    return made


async def call(channel, method, requests, metadata=()):
    """The code and text of a call; of a stream that has no end, once it has begun."""
    if method.streams_in:
        started = channel.stream_stream(method.path)(iter(requests), metadata=metadata)
    elif method.streams_out:
        started = channel.unary_stream(method.path)(requests[0], metadata=metadata)
    else:
        started = channel.unary_unary(method.path)(requests[0], metadata=metadata)
    try:
        async with asyncio.timeout(PATIENCE_S):
            if not method.streams_out:
                await started
            elif method.name in _INFINITE:
                await started.read()
                started.cancel()
            else:
                while await started.read() is not grpc.aio.EOF:
                    pass
    except TimeoutError:
        started.cancel()
        return None, f"did not end within {PATIENCE_S:g} s"
    except grpc.aio.AioRpcError as error:
        if method.streams_in and error.details() == _WRITTEN_TOO_LATE:
            return grpc.StatusCode.OK, ""
        return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def fuzz(target, seconds, seed, *, credentials=None, metadata=(), chosen=None):
    """Calls a service for some seconds; each round of calls has one of each method.

    Args:
        target: Where it is.
        seconds: How long.
        seed: The same gives the same messages, but for the time in them.
        credentials: Of the channel; None: plain text.
        metadata: Sent with every call.
        chosen: Methods; None: all.
    """
    report, began = Report(), time.monotonic()
    opened = grpc.aio.secure_channel(target, credentials) if credentials else grpc.aio.insecure_channel(target)
    async with opened as channel:

        async def work(number):
            round_ = 0
            while time.monotonic() - began < seconds:
                round_ += 1
                for method in chosen or methods():
                    chance = random.Random(f"{seed} {number} {round_} {method.path}")
                    requests = inputs(method, chance)
                    code, text = await call(channel, method, requests, metadata)
                    report.inputs[method.name] += len(requests)
                    report.codes[method.name, code and code.name] += 1
                    if code not in GOOD or INSIDES.search(text):
                        report.findings.append(
                            f"{method.name} seed {seed} {number} {round_}: {code and code.name}: {text[:200]}"
                        )

        await asyncio.gather(*(work(number) for number in range(AT_ONCE)))
    report.seconds = time.monotonic() - began
    return report
