"""`reanimate offline …`: what the offline standbys hold, and how old it is; make them hold the newest proven backup."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.protection.offline import Attempt, Standby, look_at_standbys, refresh_standbys

__all__ = ["app"]

app = typer.Typer(help="The offline standby: status, refresh.", no_args_is_help=True)


@app.command("status")
def status(json: JsonFlag = False) -> None:
    """Show every copy: of which backup, how old, reached by which names. Exit code 1 when a standby is silent."""
    standbys = run(_look)
    if json:
        print_json([_row(standby) for standby in standbys])
    else:
        _show(standbys)
    if any(standby.problem for standby in standbys):
        raise typer.Exit(1)


async def _look() -> list[Standby]:
    async with open_services() as services:
        return await look_at_standbys(services)


def _show(standbys: list[Standby]) -> None:
    if not standbys:
        err.print("No offline standby is configured: vector.offline is false, and no target has the role.")
        return
    table = Table(
        "standby", "collection", "backup", "taken (UTC)", "age", "points", "reached by", box=None, pad_edge=False
    )
    for standby in standbys:
        if standby.problem:
            table.add_row(escape(standby.name), f"[red]{escape(standby.problem)}[/]")
        elif not standby.copies:
            table.add_row(escape(standby.name), "[yellow]holds nothing yet[/]")
        for copy in standby.copies:
            if copy.taken_at is None or copy.age_s is None:
                table.add_row(escape(standby.name), escape(copy.name), "[yellow]being loaded[/]")
                continue
            names = ", ".join(copy.aliases) or "[dim]kept, the one before[/]"
            taken = f"{copy.taken_at:%Y-%m-%d %H:%M:%S}"
            backup = escape(copy.backup_id or "")
            cells = (escape(copy.collection or ""), backup, taken, _age(copy.age_s), str(copy.points), names)
            table.add_row(escape(standby.name), *cells)
    out.print(table)


@app.command("refresh")
def refresh(
    collections: Annotated[list[str] | None, typer.Argument(help="Only these collections or aliases.")] = None,
    backup: Annotated[str | None, typer.Option("--backup", metavar="ID", help="This backup, proven or not.")] = None,
    repository: Annotated[str | None, typer.Option(help="From this repository; else the first.")] = None,
    json: JsonFlag = False,
) -> None:
    """Load the newest proven backups beside what is served, verify them, and only then serve them."""
    with progress_bars() as report:
        attempts = run(lambda: _refresh(collections or [], backup, repository, report))
    if json:
        print_json([_outcome(attempt) for attempt in attempts])
    for attempt in attempts if not json else ():
        where = f"{escape(attempt.standby)}: {escape(attempt.collection)}"
        if attempt.refreshed is None:
            out.print(f"{where}: [red]refused[/], what was served is served: {escape(attempt.problem or '')}")
            continue
        how = "loaded and verified" if attempt.refreshed.loaded else "was there already, verified again"
        out.print(f"{where}: backup [bold]{escape(attempt.backup_id)}[/] {how}, {attempt.refreshed.points} points")
    if not attempts and not json:
        err.print("There was nothing to refresh: no backup, or no offline standby.")
    if any(attempt.problem for attempt in attempts):
        raise typer.Exit(1)


async def _refresh(collections: list[str], backup: str | None, repository: str | None, report: Report) -> list[Attempt]:
    async with open_services() as services:
        return await refresh_standbys(
            services, collections=collections, backup_id=backup, repository=repository, on_progress=report
        )


def _row(standby: Standby) -> dict[str, Any]:
    return {
        "standby": standby.name,
        "url": standby.url,
        "problem": standby.problem,
        "copies": [copy.to_json() for copy in standby.copies],
    }


def _outcome(attempt: Attempt) -> dict[str, Any]:
    return {
        "standby": attempt.standby,
        "collection": attempt.collection,
        "backup_id": attempt.backup_id,
        "problem": attempt.problem,
        "refreshed": attempt.refreshed.to_json() if attempt.refreshed else None,
    }


def _age(seconds: int) -> str:
    hours = seconds / 3600
    return f"{hours / 24:.1f} d" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.0f} min"
