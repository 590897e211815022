"""The command line, `pba`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs a command; the entry point of the `pba` script."""
    # what gRPC's core has to say, our errors and logs say better
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    if sys.argv[1:2] == ["agent"]:
        # beside a node's transport it shall be small, so nothing else of the command line is loaded
        from pba_client.agent.__main__ import main as agent  # noqa: PLC0415 - only where it is wanted

        sys.exit(agent(sys.argv[2:]))
    from pba_service.cli.app import run  # noqa: PLC0415 - importing the package must cost nothing

    sys.exit(run())
