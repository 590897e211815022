"""Commands about the models that a service serves with."""

from enum import Enum
from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, Json, Target
from pba_service.cli.told import told

app = typer.Typer(
    help="Which models there are, which serve, and changing that for all replicas.", no_args_is_help=False
)

Version = Annotated[str, typer.Argument(help="As `pba models list` gives it.")]


class Scope(Enum):
    """What a pin goes by."""

    LINK = "link"
    PREFIX = "prefix"
    NODE = "node"
    PEER = "peer"
    REGION = "region"


By = Annotated[
    Scope | None, typer.Option("--by", help="What --value is. Without it the active version itself is pinned.")
]
Value = Annotated[
    str, typer.Option("--value", help="The link's id, what its id begins with, or its node, peer or region.")
]


@app.callback(invoke_without_command=True)
@told
def models(context: typer.Context, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Which models there are, which serve, and changing that for all replicas. Alone it lists them."""
    if context.invoked_subcommand is None:
        from pba_service.cli.models import list_models

        list_models(target, as_json=json)


@app.command("list")
@told
def list_(target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """List the known models, what is desired of them, and on how many replicas each serves."""
    from pba_service.cli.models import list_models

    list_models(target, as_json=json)


@app.command()
@told
def show(version: Version, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Show all about a model: what it reads, what it was trained on, its test scores."""
    from pba_service.cli.models import show_model

    show_model(target, version, as_json=json)


@app.command()
@told
def activate(version: Version, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Let a version serve all links without a pin. It is loaded and proved before anything changes."""
    from pba_service.cli.models import change

    change(target, lambda client: client.activate_model(version), as_json=json)


@app.command()
@told
def rollback(
    target: Target = DEFAULT_TARGET,
    from_version: Annotated[str, typer.Option("--from", help="Only if this version is active.")] = "",
    *,
    json: Json = False,
) -> None:
    """Go back to the version that was active before."""
    from pba_service.cli.models import change

    change(target, lambda client: client.rollback_model(from_version), as_json=json)


@app.command()
@told
def pin(
    versions: Annotated[list[str] | None, typer.Argument(help="The first of these that is loaded serves.")] = None,
    by: By = None,
    value: Value = "",
    target: Target = DEFAULT_TARGET,
    *,
    json: Json = False,
) -> None:
    """Let some links be served by versions of their own; or keep the active version, whatever arrives."""
    from pba_client import PinScope
    from pba_service.cli.models import change

    scope = PinScope[by.name] if by else None
    change(target, lambda client: client.pin_model(*(versions or ()), scope=scope, value=value), as_json=json)


@app.command()
@told
def unpin(by: By = None, value: Value = "", target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Take a pin away; without --by let the active version be replaced again."""
    from pba_client import PinScope
    from pba_service.cli.models import change

    change(target, lambda client: client.unpin_model(PinScope[by.name] if by else None, value), as_json=json)


@app.command()
@told
def replicas(target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """List the living replicas and what each serves."""
    from pba_service.cli.models import print_replicas

    print_replicas(target, as_json=json)
