"""Commands of a transport node."""

import typer


def agent(context: typer.Context) -> None:
    """Measure this node's links and keep transport parameters in force: pba agent run|respond|measure|check.

    As a program of its own it is called pba-agent, which imports nothing of the service.
    """
    from pba_client.agent.__main__ import main

    raise typer.Exit(main(context.args))
