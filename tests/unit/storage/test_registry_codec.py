"""What replicas share of models: whole, or refused."""

import pytest

from pba_service.domain.lifecycle import Desired, Experiment, Pin, Scope
from pba_service.engine.model_ports import ReplicaReport
from pba_service.storage.codec import StoredDataError
from pba_service.storage.registry_codec import (
    decode_desired,
    decode_info,
    decode_report,
    encode_desired,
    encode_report,
)


def test_what_is_shared_comes_back_as_it_was():
    desired = Desired(
        revision=3,
        active="v1",
        previous=("v0",),
        held=True,
        pins=(Pin(Scope("prefix"), "a/", ("v1",)),),
        experiments=(Experiment("e", "v1", "v2", 0.5, 7),),
    )
    assert decode_desired(encode_desired(desired)) == desired
    report = ReplicaReport("r", "v1", ("v1",), {"v2": "no"}, 3, 7)
    assert decode_report(encode_report(report)) == report


@pytest.mark.parametrize("decode", [decode_desired, decode_info, decode_report])
@pytest.mark.parametrize(
    "blob", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"revision": 1e999}', b'{"name": 1, "version": {}}']
)
def test_what_none_of_us_wrote_is_refused(decode, blob):
    with pytest.raises(StoredDataError):
        decode(blob)


def test_a_number_without_end_is_refused():
    good = encode_desired(Desired(revision=3, active="v1"))
    with pytest.raises(StoredDataError):
        decode_desired(good.replace(b'"revision":3', b'"revision":1e999'))
