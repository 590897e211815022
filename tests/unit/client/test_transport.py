"""The transport over grpc where it calls nobody: what is closed at the wrong moment."""

import pytest
from pba.v1 import prediction_service_pb2 as pb

from pba_client import Client, ClientClosedError, Options, Sample
from pba_client.rpcs import PREDICT, STREAM_PREDICTIONS, STREAM_SAMPLES
from pba_client.transport import GrpcTransport


class ClosedBeforeTheCall(tuple):
    """Metadata that are read when a call has its channel and has not begun: just then the client is closed."""

    __slots__ = ()
    close = None

    def __iter__(self):
        if ClosedBeforeTheCall.close is not None:
            ClosedBeforeTheCall.close()
        return iter(())


@pytest.fixture
def transport():
    found = GrpcTransport("127.0.0.1:1", Options(metadata=ClosedBeforeTheCall()))
    ClosedBeforeTheCall.close = found.close
    yield found
    ClosedBeforeTheCall.close = None


@pytest.mark.parametrize(
    "call",
    [
        lambda transport: transport.unary(PREDICT, pb.PredictRequest(), 1.0),
        lambda transport: transport.download(STREAM_PREDICTIONS, pb.StreamPredictionsRequest(), None),
        lambda transport: transport.exchange(STREAM_SAMPLES, iter(())),
    ],
    ids=["unary", "download", "exchange"],
)
def test_a_client_that_is_closed_just_before_a_call_is_closed(transport, call):
    with pytest.raises(ClientClosedError):
        call(transport)


def test_a_push_stream_whose_client_is_closed_leaves_nobody_waiting(transport):
    future = Client(transport=transport).stream().push(Sample("a", bandwidth_mbps=1.0))
    assert isinstance(future.exception(5), ClientClosedError)
