"""How long transfers take, printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from pba_service.cli import connect
from pba_service.cli.commands.options import from_now
from pba_service.cli.show import print_json
from pba_service.cli.words import clock

if TYPE_CHECKING:
    from datetime import timedelta

    from pba_client import TransferEstimate

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_LARGEST_BYTES = 2**63


def parse_size(text: str) -> int:
    """A size such as 40G, 1.5T or 123456, in bytes; units are powers of 1,000, or of 1,024 with an i (40Gi)."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([KMGTP]?)(i?)B?", text.strip(), re.IGNORECASE)
    unit = match[2].upper() if match else ""
    factor = 1024 ** list(_UNITS).index(unit) if match and match[3] else _UNITS[unit]
    size = round(float(match[1]) * factor) if match else 0
    if not 1 <= size < _LARGEST_BYTES:
        raise typer.BadParameter(f"{text!r} is no size such as 40G, 500M or 123456")
    return size


def print_transfer(
    target: str,
    size_bytes: int,
    link_ids: list[str],
    deadline: timedelta | None,
    within: timedelta | None,
    *,
    as_json: bool,
) -> None:
    """Prints how long a transfer takes."""
    with connect.client(target) as client:
        found = client.estimate_transfer(
            size_bytes,
            *link_ids,
            deadline=None if deadline is None else from_now(deadline),
            latest_start=None if within is None else from_now(within),
        )
    if as_json:
        errors = {link_id: str(error) for link_id, error in found.errors.items()}
        print_json({"estimates": found.estimates, "best": found.best, "errors": errors})
        return
    if found.estimates:
        typer.echo(f"  {'link':<24}{'start':<14}{'10 %':>10}{'50 %':>10}{'90 %':>10}{'in time':>10}")
    for one in found.estimates:
        typer.echo(f"{'*' if one is found.best else ' '} {_row(one)}")
    for link_id, error in found.errors.items():
        typer.echo(f"  {link_id:<24}{error}")
    if found.best is not None:
        typer.echo(f"best: {found.best.link_id} at {clock(found.best.start)}")


def _row(one: TransferEstimate) -> str:
    spans = "".join(f"{_span(span):>10}" for span in (one.completion_p10, one.completion_p50, one.completion_p90))
    chance = "" if one.deadline_probability is None else f"{one.deadline_probability:>10.0%}"
    return f"{one.link_id:<24}{clock(one.start):<14}{spans}{chance}"


def _span(span: timedelta | None) -> str:
    if span is None:
        return "> 30 d"
    seconds = span.total_seconds()
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.1f} min"
    return f"{seconds / _HOUR_S:.1f} h" if seconds < _DAY_S else f"{seconds / _DAY_S:.1f} d"
