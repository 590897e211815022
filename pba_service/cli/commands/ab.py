"""Commands about experiments on models."""

from typing import Annotated

import typer

from pba_service.cli.commands.options import DEFAULT_TARGET, Json, Target
from pba_service.cli.told import told

app = typer.Typer(help="Which of two models forecasts better: challengers beside champions.", no_args_is_help=False)

Name = Annotated[str, typer.Argument(help="As `pba ab status` gives it.")]


@app.callback(invoke_without_command=True)
@told
def ab(context: typer.Context, target: Target = DEFAULT_TARGET, *, json: Json = False) -> None:
    """Which of two models forecasts better: challengers beside champions. Alone it lists the experiments."""
    if context.invoked_subcommand is None:
        from pba_service.cli.ab import print_experiments

        print_experiments(target, "", as_json=json)


@app.command()
@told
def status(
    name: Annotated[str, typer.Argument(help="One experiment, with its evidence by metric.")] = "",
    target: Target = DEFAULT_TARGET,
    *,
    json: Json = False,
) -> None:
    """Show the experiments that run or have ended lately, and what they have shown."""
    from pba_service.cli.ab import print_experiments

    print_experiments(target, name, as_json=json)


@app.command()
@told
def start(
    challenger: Annotated[str, typer.Argument(help="A version, as `pba models list` gives it.")],
    champion: Annotated[str, typer.Option(help="The version it is tried beside. [the active one]")] = "",
    share: Annotated[
        float, typer.Option(min=0, max=1, help="The share of the links that it serves meanwhile; 0: a shadow.")
    ] = 0.0,
    target: Target = DEFAULT_TARGET,
    *,
    json: Json = False,
) -> None:
    """Try a version beside one that serves. It is loaded and proved first."""
    from pba_service.cli.ab import change

    change(target, lambda client: client.start_experiment(challenger, champion=champion, share=share), as_json=json)


@app.command()
@told
def stop(
    name: Name,
    target: Target = DEFAULT_TARGET,
    *,
    promote: Annotated[bool, typer.Option("--promote", help="The challenger serves from now on.")] = False,
    json: Json = False,
) -> None:
    """End an experiment by hand."""
    from pba_service.cli.ab import change

    change(target, lambda client: client.stop_experiment(name, promote=promote), as_json=json)
