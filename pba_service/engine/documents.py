"""Small records that all replicas share, each written by compare-and-set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")

_MOST_SAID = 200

_log = structlog.get_logger(__name__)


class Documents(Protocol):
    """Documents by name, and beside each a table of fields that writers overwrite for themselves.

    Every method raises `StoreUnavailableError` when the store is away or too slow.
    """

    async def read(self, name: str) -> tuple[int, bytes]:
        """A document and its version; version 0 and nothing where there is none."""
        ...

    async def write(self, name: str, content: bytes, *, read_version: int) -> bool:
        """Writes the version after `read_version` if that is still the stored one; says whether it was."""
        ...

    async def names(self, prefix: str) -> list[str]:
        """The documents whose name begins so, in order."""
        ...

    async def remove(self, name: str) -> None:
        """Takes a document and its table away."""
        ...

    async def set_fields(self, name: str, fields: Mapping[str, bytes]) -> None:
        """Sets fields of the document's table."""
        ...

    async def fields(self, name: str) -> dict[str, bytes]:
        """The document's table."""
        ...

    async def drop_fields(self, name: str, fields: Sequence[str]) -> None:
        """Takes fields out of the document's table."""
        ...


def readable(name: str, decode: Callable[[bytes], _T], content: bytes) -> _T | None:
    """What a document or a field holds; None, as if it were not there, where that is none of ours. The log says so.

    Args:
        name: Of the document.
        decode: Reads it, and raises `ValueError` for what is none.
        content: What is stored.
    """
    try:
        return decode(content)
    except ValueError as error:
        _log.warning("document_unreadable", document=name, error=str(error)[:_MOST_SAID])
        return None
