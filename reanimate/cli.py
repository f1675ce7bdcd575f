"""The command `reanimate`: puts the commands together, and turns every error of the library into one line."""

import importlib
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from reanimate import __version__
from reanimate.commands import setup, system
from reanimate.commands.output import fail
from reanimate.commands.parts import part_command
from reanimate.errors import ReanimateError
from reanimate.logs import log_to_stderr

__all__ = ["app", "main"]

_NOUNS = (
    "backup", "config", "gateway", "hold", "incident", "llm", "offline", "prove", "quota", "respond", "restore",
    "runbook", "top",
)  # fmt: skip
"""Commands whose modules bring the database or the vector client: loaded when they are asked for."""


class LazyGroup(TyperGroup):
    """Finds the commands of `_NOUNS` in `reanimate/commands/<noun>.py`, so that the others start at once."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_NOUNS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # typer keeps click's types to itself
        if cmd_name not in _NOUNS:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"reanimate.commands.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="reanimate",
    cls=LazyGroup,
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
for _part in ("standby", "watch", "web"):
    app.command(
        _part,
        help=f"Run the {_part} alone, in the foreground; `reanimate up` runs all parts.",
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(part_command(_part))


def main() -> None:
    """Run the command line. An error of the library is one line on standard error and exit code 1."""
    log_to_stderr(logging.WARNING)
    try:
        app(standalone_mode=True)
    except ReanimateError as error:
        sys.exit(fail(error).exit_code)


if __name__ == "__main__":
    main()
