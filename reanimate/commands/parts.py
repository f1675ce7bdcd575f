"""`reanimate standby | watch | web`: one part alone, as a service manager would start it."""

import os
import sys
from collections.abc import Callable

import typer

__all__ = ["part_command"]


def part_command(name: str) -> Callable[[typer.Context], None]:
    """Return the command that becomes the process of part `name`; its arguments are the part's own."""

    def become(context: typer.Context) -> None:
        os.execv(sys.executable, [sys.executable, "-m", f"reanimate.{name}", *context.args])

    return become
