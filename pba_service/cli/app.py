"""All commands in one place. Each loads what it needs only when it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pba_service.cli import connect
from pba_service.cli.commands import ab, ask, capacity, feed, models, node, registry, service
from pba_service.cli.told import ExitCode, tell, told

app = typer.Typer(
    name="pba",
    help=(
        "Predictive Bandwidth Allocation: stores measurements of network links, predicts each link 15 minutes ahead "
        "and derives transport parameters.\n\nStart with [bold]pba serve --demo[/bold], or [bold]pba serve[/bold] and "
        "[bold]pba push FILE[/bold]."
    ),
    epilog=(
        "Exit codes: 0 done, 1 refused or done in part, 2 wrong usage, settings or file, 3 service unavailable, "
        "4 link unknown or too little history."
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _connection(
    ca: Annotated[Path | None, typer.Option(envvar="PBA_CA", help="Use TLS and trust these authorities (PEM).")] = None,
    cert: Annotated[Path | None, typer.Option(envvar="PBA_CERT", help="Show this certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(envvar="PBA_KEY", help="Its key (PEM).")] = None,
    server_name: Annotated[
        str, typer.Option(envvar="PBA_SERVER_NAME", help="The name in the service's certificate. [the target's]")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option(envvar="PBA_TOKEN_FILE", help="Show the token in this file.")
    ] = None,
) -> None:
    files = {"PBA_CA": ca, "PBA_CERT": cert, "PBA_KEY": key, "PBA_TOKEN_FILE": token_file}
    connect.use({**{name: str(path) if path else None for name, path in files.items()}, "PBA_SERVER_NAME": server_name})


_PANELS: dict[str, tuple[tuple[str, Callable[..., None]], ...]] = {
    "Run the service": (
        ("serve", service.serve),
        ("check-config", service.check_config),
        ("health", service.health),
        ("token", service.token),
        ("plan", capacity.plan),
    ),
    "Feed it": (
        ("push", feed.push),
        ("replay", feed.replay),
        ("simulate", feed.simulate),
        ("import", feed.import_),
        ("export", feed.export),
    ),
    "Ask it": (
        ("watch", ask.watch),
        ("predict", ask.predict),
        ("params", ask.params),
        ("transfer", ask.transfer),
        ("explain", ask.explain),
        ("link", ask.link_),
        ("links", ask.links),
        ("history", ask.history),
        ("ledger", ask.ledger),
    ),
    "Models": (
        ("train", models.train),
        ("retrain", models.retrain),
        ("evaluate", models.evaluate),
        ("backtest", models.backtest),
        ("quantize", models.quantize),
    ),
}

for _panel, _commands in _PANELS.items():
    for _name, _command in _commands:
        app.command(_name, rich_help_panel=_panel)(told(_command))

app.add_typer(registry.app, name="models", rich_help_panel="Models")
app.add_typer(ab.app, name="ab", rich_help_panel="Models")

# its words are the agent's own to read
app.command(
    "agent",
    rich_help_panel="On a node",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
)(told(node.agent))

# typer does not export the parent of its usage errors
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def run(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit code.

    Args:
        arguments: The command line; None: the process's own.
    """
    try:
        code = told(app)(arguments, prog_name="pba", standalone_mode=False)
    except _UsageError as error:
        return _wrong_usage(error)
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except typer.Exit as ended:  # help that could not be written
        return ended.exit_code
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # whoever read the help is gone
            return ExitCode.OK
        raise
    return code if isinstance(code, int) else ExitCode.OK


def _wrong_usage(error: Exception) -> int:
    """One line instead of a box; the help where nothing was said at all."""
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    where = context.command_path if context else "pba"
    tell(f"pba: {message[:1].lower()}{message[1:].rstrip('.')}; see {where} --help")
    return ExitCode.USAGE
