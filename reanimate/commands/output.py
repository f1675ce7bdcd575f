"""How commands speak: JSON for machines and tables for people on standard output, the rest on standard error."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column

from reanimate.errors import ReanimateError

__all__ = ["JsonFlag", "err", "fail", "id_column", "is_narrow", "out", "print_json", "run"]

T = TypeVar("T")

_PIPED_WIDTH = 140
"""Columns when nobody's terminal says how wide it is: a table in a log should not be folded at 80."""

_NARROW = 110

out = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPED_WIDTH)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def print_json(value: Any) -> None:
    """Print `value` as one indented JSON document; datetimes become ISO 8601 in UTC."""
    sys.stdout.write(
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str).decode() + "\n"
    )
    sys.stdout.flush()


def id_column(title: str) -> Column:
    """Return a table's column of ids: they are there to be copied, so the others give way in a narrow terminal."""
    return Column(title, no_wrap=True)


def is_narrow() -> bool:
    """Say whether a table of text has no room for what can be looked up elsewhere."""
    return out.width < _NARROW


def fail(error: BaseException) -> typer.Exit:
    """Print one line on standard error and return the exit to raise."""
    err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an async command; an error of the library becomes one line and exit code 1, never a traceback."""
    try:
        return asyncio.run(work())
    except ReanimateError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
