"""The command `reanimate`: puts the commands together, and turns every error of the library into one line."""

import sys
from typing import Annotated

import typer

from reanimate import __version__
from reanimate.commands import setup, system
from reanimate.commands.output import fail
from reanimate.errors import ReanimateError

__all__ = ["app", "main"]

app = typer.Typer(
    name="reanimate",
    help="Disaster recovery for AI agents: detect, contain, recover, write the postmortem.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"reanimate {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Disaster recovery for AI agents: detect, contain, recover, write the postmortem."""


app.command()(system.up)
app.command()(system.down)
app.command()(system.status)
app.command()(setup.init)
app.command()(setup.doctor)


def main() -> None:
    """Run the command line. An error of the library is one line on standard error and exit code 1."""
    try:
        app(standalone_mode=True)
    except ReanimateError as error:
        sys.exit(fail(error).exit_code)


if __name__ == "__main__":
    main()
