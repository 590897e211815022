"""Kinds of setting: how the text of an environment variable becomes a value, and what it may be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import durationpy

ValueT_co = TypeVar("ValueT_co", covariant=True)


class Kind(Protocol[ValueT_co]):
    """A kind of setting."""

    @property
    def allowed(self) -> str:
        """What it may be, in words, with the unit."""
        ...

    def parse(self, text: str) -> ValueT_co:
        """The value of a text. Raises `ValueError` that says what the text should be."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range, both ends included."""

    low: int
    high: int
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The range."""
        return f"{self.low:,} to {self.high:,} {self.unit}".rstrip()

    def parse(self, text: str) -> int:
        """An int, written in plain decimal digits."""
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not self.low <= int(text) <= self.high:
            raise ValueError(f"must be a whole number from {self.allowed}")
        return int(text)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A number from 0 to 1."""

    @property
    def allowed(self) -> str:
        """The range."""
        return "0 to 1"

    def parse(self, text: str) -> float:
        """A float."""
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= 1.0:  # NaN is not either
            raise ValueError("must be a number from 0 to 1")
        return value


@dataclass(frozen=True, slots=True)
class DurationMs:
    """A length of time in a range, as in 500ms, 60s, 1h30m or 24h; kept in whole milliseconds."""

    low: str
    high: str

    @property
    def allowed(self) -> str:
        """The range."""
        return f"{self.low} to {self.high}"

    def parse(self, text: str) -> int:
        """Milliseconds."""
        try:
            value = _milliseconds(text)
        except ValueError:
            raise ValueError(f"must be a duration with its unit, such as 90s or 24h, from {self.allowed}") from None
        if not _milliseconds(self.low) <= value <= _milliseconds(self.high):
            raise ValueError(f"must be a duration from {self.allowed}")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The words."""
        return ", ".join(self.words)

    def parse(self, text: str) -> str:
        """One of the words, in lower case."""
        if text.lower() not in self.words:
            raise ValueError(f"must be one of {self.allowed}")
        return text.lower()


@dataclass(frozen=True, slots=True)
class Switch:
    """Yes or no."""

    @property
    def allowed(self) -> str:
        """The words."""
        return "true or false"

    def parse(self, text: str) -> bool:
        """A bool."""
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"must be {self.allowed}")
        return text.lower() == "true"


@dataclass(frozen=True, slots=True)
class Text:
    """A text that is taken as it is."""

    @property
    def allowed(self) -> str:
        """In words."""
        return "text"

    def parse(self, text: str) -> str:
        """The text."""
        if not text.isprintable():
            raise ValueError("must be printable")
        return text


@dataclass(frozen=True, slots=True)
class Host:
    """A name or address to listen on."""

    @property
    def allowed(self) -> str:
        """In words."""
        return "name or address"

    def parse(self, text: str) -> str:
        """The name or address."""
        if not text.isprintable() or any(c in text for c in " /"):
            raise ValueError("must be a host name or an address, without a port")
        return text


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; ~ is the home folder."""

    @property
    def allowed(self) -> str:
        """In words."""
        return "path"

    def parse(self, text: str) -> Path:
        """The path."""
        if "\0" in text:
            raise ValueError("must be a path")
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError("names a home folder that cannot be found") from None


@dataclass(frozen=True, slots=True)
class Url:
    """A URL with one of some schemes."""

    schemes: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """The schemes."""
        return ", ".join(f"{scheme}://" for scheme in self.schemes)

    def parse(self, text: str) -> str:
        """The URL, whose parts whoever connects will check. Its text may hold a password: it is never repeated."""
        try:
            parts = urlsplit(text)
        except ValueError:
            raise ValueError("must be a URL; its host cannot be read") from None
        if parts.scheme not in self.schemes or not parts.netloc + parts.path:
            raise ValueError(f"must be a URL that begins with one of {self.allowed}")
        return text


@dataclass(frozen=True, slots=True)
class Variable(Generic[ValueT_co]):
    """One row of the table of settings.

    Attributes:
        name: The environment variable.
        default: Its text when it is not set; empty when that means off, or `default_text` says what else.
        kind: What it may be.
        text: What it does, in Markdown.
        default_text: What the documentation says in place of `default`.
        secret: Whether its value must not be shown.
    """

    name: str
    default: str
    kind: Kind[ValueT_co]
    text: str
    default_text: str = ""
    secret: bool = False


def row(name: str, default: str, kind: Kind[Any], text: str, *, default_text: str = "", secret: bool = False) -> Any:
    """A field of the table of settings; see `Variable`."""
    value = kind.parse(default) if default else None
    return field(default=value, metadata={"variable": Variable(name, default, kind, text, default_text, secret)})


def duration(text: str) -> timedelta:
    """A length of time, such as 500ms, 60s, 1h30m or 30d. Raises `ValueError` for what is none."""
    if not _DURATION.fullmatch(text):  # durationpy passes over what stands between its parts
        raise ValueError("no duration")
    span: timedelta = durationpy.from_str(text)
    return span


_DURATION = re.compile(r"[+-]?(0|([0-9.]+[a-zµμ]+)+)")


def _milliseconds(text: str) -> int:
    """Whole milliseconds; what is shorter than one must not become 0, which may mean off."""
    millis = duration(text) // timedelta(milliseconds=1)
    if not millis and re.search("[1-9]", text):
        raise ValueError("less than 1 ms")
    return millis
