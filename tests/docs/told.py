"""Names that fragments of Python in the documents take for granted, and what they stand for here."""

import itertools
from types import SimpleNamespace

from pba_client import Client, Sample


class Pba(Client):
    """A client whose endless watch ends after an update."""

    def watch(self, *links, **chosen):
        return itertools.islice(super().watch(*links, **chosen), 1)


class Twice:
    """True twice."""

    def __init__(self):
        self._left = 2

    def __bool__(self):
        self._left -= 1
        return self._left >= 0


def names(target):
    """For the fragments of one page."""
    return {
        "__name__": "__main__",
        "pba": Pba(target),
        "measuring": Twice(),
        "measure_all_links": lambda: Sample("fra-ams", bandwidth_mbps=940, latency_ms=8.2),
        "transport": SimpleNamespace(apply=print),
    }
