"""The command line, `pba`."""

from __future__ import annotations


def main() -> None:
    """Runs a command; the entry point of the `pba` script."""
    from pba_service.cli.app import app  # noqa: PLC0415 - importing the package must cost nothing

    app(prog_name="pba")
