"""The Lua scripts that run inside Redis: each does for one link, or for many, what must happen at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from pba_service.storage.codec import BUCKET_MS, DAY_MS

EVENTS_KEPT = 10_000
"""Entries of one prediction each in the stream of events; where entries hold many, ten times as many predictions."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the digest under which a server remembers it."""

    name: str
    body: bytes
    sha: bytes


def _load(name: str) -> Script:
    here = files(__package__)
    constants = f"local BUCKET_MS, DAY_MS, EVENTS_KEPT = {BUCKET_MS}, {DAY_MS}, {EVENTS_KEPT}\n".encode()
    body = b"".join((constants, (here / "common.lua").read_bytes(), (here / f"{name}.lua").read_bytes()))
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()
    return Script(name, body, digest.encode())


PUT = _load("put")
READ = _load("read")
COMMIT = _load("commit")
SUMMARISE = _load("summarise")
ADMIT = _load("admit")
NEWEST = _load("newest")
RANGE = _load("range")
LEDGER = _load("ledger")
ADD_OUTCOME = _load("add_outcome")
OUTCOMES = _load("outcomes")
ANNOUNCE = _load("announce")
WRITE_DOCUMENT = _load("write_document")
MODELS_PROPOSE = _load("models_propose")
MODELS_PUBLISH = _load("models_publish")
MODELS_REPORT = _load("models_report")
