"""Which column is what, and one column's values as numbers."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pba_service.domain.samples import METRICS
from pba_service.files.faults import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIME, TIME_MS, LINK, DATASET = "timestamp", "measured_at_ms", "link_id", "dataset"
LABELS = ("node", "peer", "region")

ALIASES: dict[str, tuple[str, ...]] = {
    TIME: ("timestamp", "time", "ts", "measured_at"),
    TIME_MS: ("measured_at_ms", "timestamp_ms"),
    LINK: ("link_id", "link"),
    DATASET: ("dataset", "collection"),
    METRICS[0]: ("bandwidth_mbps", "bandwidth"),
    METRICS[1]: ("latency_ms", "latency", "rtt_ms"),
    METRICS[2]: ("packet_loss_ratio", "packet_loss", "loss_ratio"),
    METRICS[3]: ("jitter_ms", "jitter"),
    **{label: (label,) for label in LABELS},
}
"""The names under which each role is known."""

_ROLE_OF = {alias: role for role, aliases in ALIASES.items() for alias in aliases}

ABSENT = frozenset({"", "nan", "null", "none", "na", "n/a"})
"""What a value that was not measured looks like in text, in lower case."""

MAX_TIME_MS = 253_402_300_800_000  # year 10000
TIME_UNITS = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (math.inf, 1e-6))
"""Upper bounds of a time that is in s, ms, us, ns, with the factor that makes it ms."""
FIRST_MS, LAST_MS = 946_684_800_000, 4_102_444_800_000  # 2000 and 2100
"""Where a number whose unit was told by its size must lie: dates such as 20250615150640, or days, do not."""
UNIX_TIME = "is no Unix time (s, ms, us or ns) from 2000 to 2099, nor ISO 8601 such as 2025-06-15T15:06:40Z"


class ColumnsError(ValueError):
    """The columns do not make measurements."""


def roles(names: Sequence[str], *, link_given: bool) -> dict[str, str]:
    """The column of each role that is there.

    Args:
        names: The columns' names as the file has them.
        link_given: Whether the link is known without a column.

    Raises:
        ColumnsError: The time or the link is missing, there is no metric, or a role has two columns.
    """
    found: dict[str, str] = {}
    for name in names:
        role = _ROLE_OF.get(name.strip().lower())
        if role is None:
            continue
        if role in found:
            raise ColumnsError(f"columns {shown(found[role])} and {shown(name)} both mean {role}")
        found[role] = name
    missing = None
    if TIME in found and TIME_MS in found:
        raise ColumnsError(f"columns {shown(found[TIME])} and {shown(found[TIME_MS])} both mean {TIME}")
    if TIME not in found and TIME_MS not in found:
        missing = "timestamp"
    elif LINK not in found and not link_given:
        missing = "link_id"
    elif not any(metric in found for metric in METRICS):
        missing = ", ".join(METRICS[:-1]) + f" or {METRICS[-1]}"
    if missing:
        shown_names = ", ".join(shown(name) for name in names[:10]) or "none"
        raise ColumnsError(f"there is no column {missing} (columns: {shown_names})")
    return found


def number(value: object) -> float:
    """A metric's value; NaN when it was not measured.

    Raises:
        ValueError: It is no finite number.
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in ABSENT:
            return math.nan
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is no number") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no number")  # noqa: TRY004 - wrong content, as in the other cases
    parsed = _float(value)
    if math.isinf(parsed):
        raise ValueError("is not finite")
    return parsed


def _float(value: float) -> float:
    """A number as a float; infinite when it is an integer that no float can hold."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def time_ms(value: object, *, in_ms: bool) -> int:
    """A time as milliseconds since the Unix epoch.

    Args:
        value: A number, or text of a number or in ISO 8601.
        in_ms: Whether a number is known to be in milliseconds.

    Raises:
        ValueError: It is no such time.
    """
    text = value.strip() if isinstance(value, str) else ""
    if isinstance(value, str):
        try:
            value = float(text)
        except ValueError:
            return _iso_ms(text)
    if value is None:
        raise ValueError("is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no time")  # noqa: TRY004 - wrong content, as in the other cases
    parsed = _float(value)
    factor = 1.0 if in_ms else next((factor for bound, factor in TIME_UNITS if parsed < bound), 0.0)
    millis = parsed * factor
    if not in_ms and not FIRST_MS <= millis < LAST_MS:  # NaN and infinity fail too
        raise ValueError(f"{shown(text or value)} {UNIX_TIME}")
    if not 0 < millis < MAX_TIME_MS:
        raise ValueError(f"{shown(value)} is no time after 1970")
    return round(millis)


def _iso_ms(text: str) -> int:
    if not text:
        raise ValueError("is missing")
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is neither a number nor ISO 8601") from None
    if parsed.tzinfo is None:
        raise ValueError(f"{shown(text)} has no time zone: end it with Z or such as +02:00")
    try:
        millis = round(parsed.astimezone(UTC).timestamp() * 1000)
    except OverflowError:
        millis = -1
    if millis <= 0:
        raise ValueError(f"{shown(text)} is no time after 1970")
    return millis


def text(value: object) -> str:
    """A name, which may be a number; empty when there is none.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{shown(value)} is no text")  # noqa: TRY004 - wrong content, as in the other cases
    return str(value)


def link_of(row: Mapping[str, object], columns: Mapping[str, str], given: str) -> str:
    """The link of a row; empty when it names none. Raises `ValueError` as `text`."""
    if LINK not in columns:
        return given
    link = text(row.get(columns[LINK]))
    dataset = text(row.get(columns[DATASET])) if DATASET in columns else ""
    return f"{dataset}/{link}" if dataset and link else link
