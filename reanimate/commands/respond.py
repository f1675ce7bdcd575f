"""`reanimate respond ID`: drive an incident here and now, without Prefect; `--dry-run` prints what would be done."""

from typing import Annotated, Any

import typer
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.incidents.lifecycle import State
from reanimate.response.plan import PlannedAction, dry_run
from reanimate.response.respond import respond as drive

__all__ = ["app"]

app = typer.Typer()


@app.command()
def respond(
    incident_id: Annotated[str, typer.Argument(metavar="ID")],
    dry: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Drive an incident through its phases in this process, without Prefect; what was done before is not done again."""
    if dry:
        _print_plan(run(lambda: _plan(incident_id)), json)
        return
    state = run(lambda: _drive(incident_id))
    if json:
        print_json({"incident": incident_id, "state": state})
    else:
        err.print(f"{incident_id}: [bold]{state}[/]")
    if state is not State.RECOVERED:
        raise typer.Exit(1)


async def _plan(incident_id: str) -> list[PlannedAction]:
    async with open_services() as services:
        return await dry_run(services, incident_id)


async def _drive(incident_id: str) -> State:
    async with open_services() as services:
        return await drive(services, incident_id, actor="command line")


def _print_plan(planned: list[PlannedAction], json: bool) -> None:
    rows: list[dict[str, Any]] = [item.to_json() for item in planned]
    if json:
        print_json(rows)
        return
    table = Table("phase", "step", "action", "what would be done", "undo", "now")
    for row in rows:
        name = f"[red]{row['action']}[/]" if row["destructive"] else row["action"]
        table.add_row(row["phase"], row["step"], name, row["what"], row["undo"], row["state"])
    out.print(table)
    out.print("Nothing was changed. [red]Red[/] actions change data; each works beside what is live.", highlight=False)
