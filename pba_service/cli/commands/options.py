"""Options that several commands share."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Option(
        "--target",
        "-t",
        envvar="PBA_TARGET",
        help="The service: host:port, or dns:///name:port to balance over all its addresses.",
    ),
]
DEFAULT_TARGET = "127.0.0.1:50051"

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def parse_duration(text: str | timedelta) -> timedelta:
    """A duration such as 60s, 15m, 6h or 30d; defaults come through here as well."""
    if isinstance(text, timedelta):
        return text
    from pba_service.setting_kinds import duration

    try:
        span = duration(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration such as 60s, 15m, 6h or 30d") from None
    if span <= timedelta():
        raise typer.BadParameter("must be above 0")
    return span


def parse_time(text: str | datetime) -> datetime:
    """A time in ISO 8601 with a zone, or how long ago, such as 6h."""
    if isinstance(text, datetime):
        return text
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return from_now(-parse_duration(text))
    if time.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: end it with Z or such as +02:00")
    return time


def from_now(span: timedelta) -> datetime:
    """The time so much later; earlier for a span below 0."""
    try:
        return datetime.now(UTC) + span
    except OverflowError:
        raise typer.BadParameter("is outside the years 1 to 9999") from None


Start = Annotated[
    datetime | None,
    typer.Option("--start", parser=parse_time, metavar="TIME", help="From then on: ISO 8601, or how long ago (6h)."),
]
End = Annotated[
    datetime | None,
    typer.Option("--end", parser=parse_time, metavar="TIME", help="Up to then: ISO 8601, or how long ago (1h)."),
]
