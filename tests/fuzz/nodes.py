"""What the node's agent and the command line are given by others, as targets."""

import json

from pba_client.agent import agent, stamp, train
from pba_client.agent.config import ConfigError
from pba_client.agent.config_file import load_config
from pba_service.cli.prometheus import read_answer
from pba_service.files.scraped import new_samples
from tests.fuzz.target import Target, in_file

_KEY = b"k" * 32
_SIGNED = stamp.SIGNED_BYTES - stamp.TAG_BYTES
_PROBE = stamp.Probe(7, 1_800_000_000_000_000_000, 9)
_REPLY = stamp.Reply(1, 2, 3, 7, 9)
_CAR = train.Car(train.Kind.CAR, 1, 2, 3, 4)


def _packet(data):
    """As a reflector and a sender would: signed by the key or not, and never both a probe and a reply."""
    for key in (None, _KEY):
        probe = stamp.parse_probe(data, key)
        if probe is not None:
            answer = stamp.pack_reply(_REPLY, data, 64, key)
            assert len(answer) == len(data)
            assert stamp.parse_probe(answer, key) is None
        stamp.parse_reply(data, key)
        train.parse(data, key)
        train.parse_report(data, key)


def _signed(data):
    """With a right signature: what a peer may say that has the key."""
    body = data[:_SIGNED].ljust(_SIGNED, b"\0")
    _packet(body + stamp.tag(_KEY, body))


def _scraped(data):
    answer = read_answer(data)
    new_samples(answer, [answer] * 4, {})


_YAML = b"""
node: a
service: 127.0.0.1:50051
interval: 60s
links:
  - link_id: a/b
    peer: 127.0.0.1
    probe: {interval: 1s, port: 8620}
"""
_ANSWER = json.dumps(
    {"status": "success", "data": {"result": [{"metric": {"link": "a"}, "values": [[1_800_000_000, "1.5"]]}]}}
).encode()

TARGETS = {
    "probes": Target(
        lambda data: (_packet(data), _signed(data)),
        (),
        (
            stamp.pack_probe(_PROBE, None),
            stamp.pack_probe(_PROBE, _KEY),
            train.pack(_CAR, 200, _KEY),
            train.pack_report(train.Report(1, 2, 3, 4, 5), _KEY),
        ),
    ),
    "agents' configurations": Target(in_file(".yaml", load_config), (ConfigError,), (_YAML,)),
    "what trains have used": Target(in_file(".json", agent.read_spent), (), (b'{"a": [[1800000000.5, 1000]]}',)),
    "Prometheus' answers": Target(_scraped, (ValueError,), (_ANSWER,)),
}
