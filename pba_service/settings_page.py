"""The table of settings in words: for documentation, and for whoever wants to see what is in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pba_service.setting_kinds import DurationMs
from pba_service.settings import variables

if TYPE_CHECKING:
    from pba_service.setting_kinds import Variable
    from pba_service.settings import Settings

_HEAD = """\
# Configuration

The service reads these environment variables once, at its start. A variable that is set to nothing counts as not set.
A wrong value or an unknown `PBA_*` name stops the start with one message that lists every fault; `pba check-config`
prints the same without starting. Durations carry their unit, as in `500ms`, `60s`, `1h30m`.

| Variable | Default | May be | What it does |
| --- | --- | --- | --- |
"""

_TAIL = """
Read by the commands that call a running service: `PBA_TARGET` (default `127.0.0.1:50051`), and where it is guarded
`PBA_CA` (whom to trust, PEM), `PBA_CERT` and `PBA_KEY` (the caller's own certificate and key, PEM), `PBA_SERVER_NAME`
(the name in the service's certificate, if it is another than the target's), `PBA_TOKEN_FILE` (a file with the caller's
token). See [security.md](security.md).

Kubernetes sets `PBA_SERVICE_HOST`, `PBA_PORT` and the like in every container beside a Service named `pba`; they are
ignored.

This page is generated: `make docs`.
"""


def configuration_markdown() -> str:
    """The text of `docs/configuration.md`."""
    rows = (
        f"| `{variable.name}` | {variable.default_text or f'`{variable.default}`'} | {variable.kind.allowed} "
        f"| {variable.text} |\n"
        for variable in variables().values()
    )
    return _HEAD + "".join(rows) + _TAIL


def described(settings: Settings) -> list[tuple[str, str]]:
    """(variable, value in words) of each setting, credentials left out."""
    return [(variable.name, _shown(variable, getattr(settings, name))) for name, variable in variables().items()]


def _shown(variable: Variable[Any], value: Any) -> str:
    if value is None:
        return variable.default_text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(variable.kind, DurationMs):
        return _duration(value)
    if variable.secret:
        parts = urlsplit(str(value))
        _, at, hosts = parts.netloc.rpartition("@")
        return f"{parts.scheme}://{'***@' if at else ''}{hosts}{parts.path}"
    return str(value)


def _duration(span_ms: int) -> str:
    """The shortest exact text in one unit: 30s, 15m, 720h."""
    unit, length_ms = next(
        (u, ms) for u, ms in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)) if not span_ms % ms
    )
    return f"{span_ms // length_ms}{unit}"


if __name__ == "__main__":
    print(configuration_markdown(), end="")  # noqa: T201 - `make docs` writes it to the page
