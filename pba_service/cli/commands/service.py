"""Commands that run the service."""

from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, Target


def serve(
    *,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Feed simulated links as well, and show them live in this terminal."),
    ] = False,
    links: Annotated[int, typer.Option(min=1, max=200, help="Simulated links of the demonstration.")] = 8,
) -> None:
    """Serve until interrupted. Settings come from PBA_* variables; see check-config.

    Without PBA_REDIS_URL an embedded server keeps the data under PBA_DATA_DIR.
    """
    if demo:
        from pba_service.cli.demo import run_demo

        run_demo(links)
    else:
        from pba_service.cli.serve import run_service

        run_service()


def check_config() -> None:
    """Print the settings in effect, or every fault of them."""
    from pba_service.cli.serve import print_settings

    print_settings()


def health(
    target: Target = DEFAULT_TARGET,
    service: Annotated[str, typer.Option(help="Its part: empty for the whole.")] = "pba.v1.PredictionService",
) -> None:
    """Say whether the service is serving; exit code 3 when it is not."""
    from pba_service.cli.show import print_health

    print_health(target, service)


def token() -> None:
    """Make a secret token: the token for the caller's PBA_TOKEN_FILE, its hash for the service's PBA_CALLERS."""
    import hashlib
    import secrets

    made = secrets.token_urlsafe(32)
    typer.echo(made)
    typer.echo(f'token_sha256 = "{hashlib.sha256(made.encode()).hexdigest()}"', err=True)
