"""The fenced blocks of the documents, and the reasons why some are not run.

A block of `sh` or `python` is run. One that cannot be is excused on the line before it:

    <!-- not run: needs a cluster -->

Whatever is excused is still read by the language's own parser.
"""

import re
from dataclasses import dataclass

from tests.process import ROOT

FOLDERS = ("docs", "docs/adr", "models", "benchmarks", "benchmarks/*")
PAGES = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")),
]
RUN = ("sh", "python")

_FENCE = re.compile(r"^(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXCUSE = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    excuse: str

    @property
    def name(self):
        return f"{self.page}:{self.line}"


def blocks(page):
    text = "\n" + (ROOT / page).read_text()
    found = []
    for match in _FENCE.finditer(text):
        excuse = _EXCUSE.fullmatch(match["before"])
        line = text[: match.start("text")].count("\n")
        found.append(Block(page, line, match["language"], match["text"], excuse["reason"] if excuse else ""))
    return found


def all_blocks():
    return [block for page in PAGES for block in blocks(page)]
