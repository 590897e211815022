"""The command line, `pba`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs a command; the entry point of the `pba` script."""
    # what gRPC's core has to say, our errors and logs say better
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from pba_service.cli.app import run  # noqa: PLC0415 - importing the package must cost nothing

    sys.exit(run())
