"""`reanimate runbook list | show | check`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reanimate.commands.output import JsonFlag, err, fail, out, print_json
from reanimate.errors import ReanimateError
from reanimate.incidents.faults import FAULT_CLASS, Fault
from reanimate.runbooks.model import Runbook, joined_steps, parse_runbook, runbook_for, runbooks
from reanimate.runbooks.registry import ACTIONS

__all__ = ["app"]

app = typer.Typer(help="What is done about each fault, as data.", no_args_is_help=True)


@app.command("list")
def list_runbooks(json: JsonFlag = False) -> None:
    """List the faults and the runbook that meets each."""
    own = runbooks()
    rows = [
        {
            "fault": fault,
            "class": FAULT_CLASS[fault],
            "runbook": (own.get(fault) or own[Fault.UNKNOWN]).fault,
            "title": (own.get(fault) or own[Fault.UNKNOWN]).title,
        }
        for fault in Fault
    ]
    if json:
        print_json(rows)
        return
    table = Table("fault", "class", "runbook", "what it says")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()), style="" if row["fault"] == row["runbook"] else "dim")
    out.print(table)


@app.command()
def show(fault: Fault, json: JsonFlag = False) -> None:
    """Show what is done about a fault, step by step."""
    book, text = runbook_for(fault)
    if json:
        print_json(book.model_dump(mode="json", by_alias=True))
        return
    out.print(f"[bold]{book.title}[/]  ({book.fault})\n")
    out.print(_table(book))
    out.print("\n[dim]as it is written:[/]\n" + text, highlight=False, markup=False)


def _table(book: Runbook) -> Table:
    table = Table("phase", "step", "action", "what it does", "undo")
    for phase, steps in joined_steps([book]).items():
        for step, calls in steps.items():
            for call in calls:
                action = ACTIONS[call.action]
                params = ", ".join(f"{key}={value}" for key, value in call.params.items())
                what = (type(action).__doc__ or "").split("\n", 1)[0]
                table.add_row(phase, step, call.action + (f"\n[dim]{params}[/]" if params else ""), what, action.undoes)
            if not calls:
                table.add_row(phase, step, "-", "nothing, on purpose", "")
    return table


@app.command()
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="YAML files; without any, those shipped.")] = None,
) -> None:
    """Validate runbooks; the exit code is 1 if one is not usable."""
    try:
        for path in files or []:
            book = parse_runbook(path.read_text(), str(path))
            err.print(f"[green]ok[/] {path}: {book.title}")
        if not files:
            for book in runbooks().values():
                err.print(f"[green]ok[/] {book.fault}: {book.title}")
    except (ReanimateError, OSError) as error:
        raise fail(error) from None
