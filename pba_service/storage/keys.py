"""Names of the keys in Redis; `docs/adr/0002-history-layout.md` says what they hold.

    pba:links                  sorted set, all scores 0: the links, in lexicographic order
    pba:region:<region>        sorted set: links that have said to be in a region, not all of them still are
    pba:events                 stream: predictions as they are committed, and links whose outcomes changed
    pba:check                  string: written and read by the health check
    pba:{<link>}:m             hash: counters ("k"), what is to be known of samples appended since ("b"), node ("n"),
                               peer ("p"), region ("r")
    pba:{<link>}:h:<bucket>    string: the samples of one bucket of time, 20 bytes each, ordered
    pba:{<link>}:s             hash: version ("v"), last commit ("t") and blob ("b") of the learned state, newest
                               prediction ("p"), model version of the newest ledger row with its number ("m")
    pba:{<link>}:l:<day>       string: the ledger rows of one day of targets, 52 bytes each, ordered
    pba:{<link>}:o             sorted set: outcomes of transport parameters, 65 bytes each, by when they ended
    pba:{<link>}:v             hash: model version -> the number that stands for it in the ledger rows
    pba:{models}:desired       hash: revision ("v"), state ("d") and token ("t") of what is desired of the models
    pba:{models}:catalogue     hash: version -> what a published model says of itself; "<version>:c" -> its checksum
    pba:{models}:part:<version>:<n>
                               string: the n-th part of a published model's files
    pba:{models}:replicas      hash: replica -> until when its report holds, and the report

All keys of a link have its id as hash tag, so that a Cluster keeps them together and a script may write them at once;
so have those of the models. The keys of a link called "models" are others: theirs have one letter after the tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LINKS = b"pba:links"
EVENTS = b"pba:events"
CHECK = b"pba:check"
MODELS_DESIRED = b"pba:{models}:desired"
MODELS_CATALOGUE = b"pba:{models}:catalogue"
MODELS_REPLICAS = b"pba:{models}:replicas"
MARK = b"pba:mark"


def link_key(link_id: str) -> bytes:
    """What all keys of a link begin with.

    A `}` inside the id would end the hash tag early: a link called `}` would have its keys scattered over the Cluster,
    and `a}:m` could be mistaken for a part of the link `a`. So it is written as %7D, and % as %25.
    """
    if "%" in link_id or "}" in link_id:
        link_id = link_id.replace("%", "%25").replace("}", "%7D")
    return f"pba:{{{link_id}}}".encode()


def link_keys(link_ids: Sequence[str]) -> list[bytes]:
    """What all keys of each of some links begin with."""
    together = "".join(link_ids)
    if "%" in together or "}" in together:
        return [link_key(link_id) for link_id in link_ids]
    return [f"pba:{{{link_id}}}".encode() for link_id in link_ids]


def region_key(region: str) -> bytes:
    """The index of the links of a region."""
    return f"pba:region:{region}".encode()


def model_part_key(version: str, part: int) -> bytes:
    """A part of a published model's files."""
    return f"pba:{{models}}:part:{version}:{part}".encode()
