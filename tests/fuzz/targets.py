"""Everything that reads bytes or texts from outside, as functions of bytes, with what each may raise."""

import json
import random
import tempfile
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from pba.v1 import prediction_service_pb2 as pb

from pba_service.access.directory import read_directory
from pba_service.access.tokens import TokenRefusedError, read_verifier
from pba_service.access.watched import FileRefusedError
from pba_service.domain import online
from pba_service.domain.errors import InvalidRequestError, ModelRefusedError
from pba_service.domain.forecast import LedgerEntry, Prediction, Source
from pba_service.domain.online.codes import unpack
from pba_service.files import MeasurementFileError, read_links
from pba_service.runtime import manifest
from pba_service.runtime.graph_scan import GraphFaultError, scan_graph
from pba_service.serving import requests, transfers
from pba_service.serving.batches import read_batch
from pba_service.serving.scan import CHECKS
from pba_service.settings import SHIPPED_MODELS, Settings, SettingsError
from pba_service.storage import address, codec
from pba_service.storage.codec import StoredDataError
from tests.fuzz import nodes, records
from tests.fuzz.mutate import message
from tests.fuzz.target import Target, in_file

MAX_FAULT_CHARS = 20_000
NOW_MS = 1_800_000_000_000


def _stored_samples(data):
    series = codec.decode_samples([(125_000, data[:200]), (125_001, data[200:])])
    assert (np.diff(series.times_ms) > 0).all()


def _ledger(data):
    codec.decode_ledger(20_833, data, {1: "v1"})


def _state(data):
    states = online.decode([data, data[::-1]])
    online.records(states)
    assert online.decode(online.encode(states)).shape == states.shape


def _codes(data):
    unpack(np.frombuffer(data, np.int8))


def _measurements(path):
    found = read_links(path, on_fault=lambda _: None)
    for link in found:
        assert (np.diff(link.series.times_ms) > 0).all()


def _environment(data):
    names, texts = [], []
    for line in data.decode(errors="replace").split("\n")[:50]:
        name, _, text = line.partition("=")
        names.append(name)
        texts.append(text.replace("\0", ""))
    Settings.from_env({"HOME": "/home/x", **dict(zip(names, texts, strict=True))})


def _url(data):
    address.parse(data.decode(errors="replace"))


def _wire(kind, read, method=""):
    check = CHECKS.get(f"/pba.v1.PredictionService/{method}")

    def run(data):
        if check:
            check(data)
        read(kind.FromString(data))

    return run


def _token(data):
    with tempfile.TemporaryDirectory(prefix="pba-fuzz-") as folder:
        path = Path(folder) / "jwks.json"
        path.write_bytes(_JWKS)
        read_verifier(path, "i", "a").caller(data.decode(errors="replace"))


_JWKS = json.dumps(
    {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
).encode()
_CSV = b"link_id,measured_at,bandwidth_mbps,latency_ms,packet_loss\na,2026-01-01T00:00:00Z,1,2,0.1\nb,1800000000,,5,\n"
_JSONL = b'{"link_id": "a", "measured_at": "2026-01-01T00:00:00Z", "bandwidth_mbps": 1.5, "node": "n"}\n' * 3
_TOML = b'[[caller]]\nname = "a"\nroles = ["node"]\nlinks = ["a/*"]\ntoken_sha256 = "' + b"0" * 64 + b'"\n'
_ENVIRONMENT = (
    b"PBA_RETENTION=1h30m\nPBA_REDIS_URL=redis://u:p@h:1/0\nPBA_MAX_LINKS=5\nPBA_TLS_CERT=a\nPBA_INSECURE=true"
)
_TOKEN = b"eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ.eyJzdWIiOiJhIiwiaXNzIjoiaSIsImF1ZCI6ImEiLCJleHAiOjE5OTk5OTk5OTl9.AAAA"
_QUANTILES = np.ones((4, 5), np.float32)
_PREDICTION = Prediction(
    "a", NOW_MS, 60_000, NOW_MS + 900_000, np.ones(4, np.float32), _QUANTILES, 0.5, "v1", Source.COMBINED
)
_ENTRY = LedgerEntry(NOW_MS - 900_000, NOW_MS, NOW_MS + 5, np.ones(4, np.float32), np.ones(4, np.float32), 0.5, "v1")


def _parquet():
    import pyarrow as pa  # noqa: PLC0415 - takes long to load
    import pyarrow.parquet as pq  # noqa: PLC0415 - likewise

    sink = pa.BufferOutputStream()
    columns = {"link_id": ["a", "a"], "measured_at_ms": [NOW_MS, NOW_MS + 60_000], "bandwidth_mbps": [1.0, 2.0]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def _manifest():
    """The shipped one with a single golden window, which is most of it."""
    fields = json.loads((SHIPPED_MODELS / "bandwidth_lstm" / "manifest.json").read_text())
    fields["goldens"] = fields["goldens"][:1]
    return json.dumps(fields).encode()


def _requests(kind):
    return tuple(message(random.Random(seed), kind).SerializeToString() for seed in range(8))


def _wired(kind, read, method=""):
    return Target(_wire(kind, read, method), (InvalidRequestError, DecodeError), _requests(kind))


TARGETS = {
    "stored samples": Target(
        _stored_samples,
        (StoredDataError,),
        (codec.encode_samples(np.array([NOW_MS]), np.ones((1, 4), np.float32)).tobytes()[4:],),
    ),
    "stored predictions": Target(codec.decode_prediction, (StoredDataError,), (codec.encode_prediction(_PREDICTION),)),
    "stored ledger": Target(_ledger, (StoredDataError,), (codec.encode_ledger_entry(_ENTRY)[1],)),
    "learned states": Target(_state, (), tuple(online.encode(online.decode([b""])))),
    "distance codes": Target(_codes, (), (bytes(range(256)),)),
    "manifests": Target(lambda data: manifest.parse(data, "here"), (ModelRefusedError,), (_manifest(),)),
    "model graphs": Target(
        scan_graph, (GraphFaultError,), ((SHIPPED_MODELS / "bandwidth_lstm" / "model.onnx").read_bytes()[-6_000:],)
    ),
    "CSV": Target(in_file(".csv", _measurements), (MeasurementFileError,), (_CSV,)),
    "JSONL": Target(in_file(".jsonl", _measurements), (MeasurementFileError,), (_JSONL,)),
    "JSONL, compressed": Target(in_file(".jsonl.gz", _measurements), (MeasurementFileError,), ()),
    "parquet": Target(in_file(".parquet", _measurements), (MeasurementFileError,), (_parquet(),)),
    "settings": Target(_environment, (SettingsError,), (_ENVIRONMENT,)),
    "Redis URLs": Target(_url, (ValueError,), (b"rediss+sentinel://u:p@a:1,b:2/primary/0?ssl_cert_reqs=none",)),
    "signed tokens": Target(_token, (TokenRefusedError,), (_TOKEN,)),
    "key sets": Target(in_file(".json", lambda path: read_verifier(path, "i", "a")), (FileRefusedError,), (_JWKS,)),
    "callers' files": Target(in_file(".toml", read_directory), (FileRefusedError,), (_TOML,)),
    "batches": _wired(pb.PushSamplesRequest, read_batch, "PushSamples"),
    "windows": _wired(pb.PredictRequest, requests.read_window, "Predict"),
    "parameters": _wired(pb.GetOptimalParametersRequest, requests.read_ask),
    "selectors": _wired(pb.StreamPredictionsRequest, requests.read_selector),
    "intervals": _wired(pb.StreamPredictionsRequest, requests.read_interval_s),
    "spans": _wired(pb.GetHistoryRequest, requests.read_span),
    "pages": _wired(pb.ListLinksRequest, requests.read_page),
    "transfers": _wired(pb.EstimateTransferRequest, transfers.read_ask),
    "outcomes": _wired(pb.TransferOutcome, transfers.read_outcome),
    **records.TARGETS,
    **nodes.TARGETS,
}


def try_one(target, data):
    """Gives some bytes to a target. Raises whatever the target must not raise."""
    try:
        target.run(data)
    except target.faults as fault:
        if len(str(fault)) > MAX_FAULT_CHARS:
            raise AssertionError("a fault that is too long to be told") from fault
