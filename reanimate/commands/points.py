"""`reanimate backup list | calendar`: every recovery point, and how everything protected stands, day by day."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reanimate.backups.repositories import open_repositories
from reanimate.bootstrap import open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, id_column, out, print_json, run
from reanimate.config import load_settings
from reanimate.errors import NotFound
from reanimate.incidents.wording import count, duration, moment, size
from reanimate.orchestrator.coming import next_backups
from reanimate.orchestrator.launcher import Launcher
from reanimate.protection.calendar import Day
from reanimate.protection.overview import Overview, Protected, overview
from reanimate.protection.points import RecoveryPoint, read_points

__all__ = ["add_to"]

Name = Annotated[str | None, typer.Argument(help="Only this collection (or alias), database or set of files.")]

_PROOF = {"proven": "green", "expired": "yellow", "unproven": "default", "failed": "bold red", "damaged": "bold red"}
_TONE = {"good": "green", "warn": "yellow", "bad": "bold red"}
_UNIT = {"vector": "point", "postgres": "row", "config": "version"}
# Glyph and colour of a day: either alone says it.
_DAY = {
    "proven": ("✓", "black on green"),
    "unproven": ("○", "black on yellow"),
    "failed": ("✕", "bold white on red"),
    "none": ("·", "dim"),
    "ahead": (" ", "default"),
}


def add_to(app: typer.Typer) -> None:
    """Add these commands to `reanimate backup`."""
    app.command("list")(list_points)
    app.command("calendar")(show_calendar)


def list_points(collection: Name = None, json: JsonFlag = False) -> None:
    """List every backup of every repository, newest first: full or changes only, proven or not, and its marks."""
    points, unread = run(lambda: _points(collection))
    if json:
        print_json([_row(point) for point in points])
    elif points:
        _show_points(points, utcnow())
    else:
        err.print("No backup" + (f" of {escape(collection)}" if collection else "") + " has been published.")
    _complain(unread)


async def _points(name: str | None) -> tuple[list[RecoveryPoint], dict[str, str]]:
    settings = load_settings()
    points, unread = await read_points(
        open_repositories(settings), proofs_last=timedelta(days=settings.backups.proof_expires_days), now=utcnow()
    )
    return [point for point in points if name is None or point.answers_to(name)], unread


def _row(point: RecoveryPoint) -> dict[str, Any]:
    state = "damaged" if point.proof == "damaged" else "deleted" if point.deleted_until else "published"
    return {**asdict(point), "state": state, "full": point.full}


def _show_points(points: list[RecoveryPoint], now: datetime) -> None:
    table = Table(id_column("id"), box=None, pad_edge=False)
    for name in ("of", "kind", "age", "proof", "holds", "size", "in", "marks"):
        table.add_column(name, justify="right" if name in ("age", "holds", "size") else "left")
    for point in points:
        holds = "[yellow]0, empty[/]" if point.holds == 0 else count(point.holds, _UNIT.get(point.kind, ""))
        table.add_row(
            escape(point.id),
            escape(point.subject),
            "full" if point.base is None else f"changes on {escape(point.base.partition('-')[0])}",
            duration((now - point.taken_at).total_seconds()),
            f"[{_PROOF[point.proof]}]{point.proof}[/]",
            holds,
            size(point.size_bytes),
            escape(", ".join(point.repositories)),
            _marks(point),
        )
    out.print(table)
    for point in points:
        if point.trouble:
            style = "red" if point.proof == "damaged" else "yellow"
            out.print(f"[{style}]{escape(point.id)}:[/] {escape(point.trouble)}")


def _marks(point: RecoveryPoint) -> str:
    deleted = [f"[yellow]deleted, to be had back until {moment(point.deleted_until)}[/]"] if point.deleted_until else []
    return ", ".join([*point.marks, *deleted]) or "–"


def show_calendar(collection: Name = None, json: JsonFlag = False) -> None:
    """Show for each thing protected whether its backups of the last twelve weeks are proven, and how it stands now."""
    seen = run(lambda: _overview(collection))
    if json:
        print_json(seen.to_json())
    else:
        for thing in seen.things:
            _show_thing(thing, seen)
        if not seen.things:
            err.print("Nothing" + (f" called {escape(collection)}" if collection else "") + " has been backed up.")
        if not seen.record:
            err.print(
                "[yellow]note:[/] the record does not answer; failed attempts and backups that are gone are not shown"
            )
    _complain(seen.unread)


async def _overview(name: str | None) -> Overview:
    settings = load_settings()
    try:
        async with open_services(settings) as services:
            now = utcnow()
            coming = await next_backups(Launcher(services.http, services.addresses.prefect_api, budget_s=1.0), now)
            return await overview(
                services.repositories, settings, services.sessions, now=now, next_at=coming, only=name
            )
    except NotFound:  # never started here: repositories alone
        return await overview(open_repositories(settings), settings, None, now=utcnow(), only=name)


def _show_thing(thing: Protected, seen: Overview) -> None:
    out.print(f"\n[bold]{escape(thing.subject)}[/] [dim]({thing.kind})[/]  ", end="")
    out.print(f"[{_TONE[thing.standing.tone]}]{escape(thing.standing.text)}[/]", highlight=False)
    drawn = thing.grid
    out.print(Text(f"     {''.join(f'{month:<3}' for month in drawn.months)}", style="dim"))
    for weekday, days in drawn.rows:
        line = Text(f"{weekday}  ", style="dim")
        for day in days:
            line.append_text(_cell(day)).append(" ")
        out.print(line)
    out.print(Text("     ✓ proven  ○ unproven  ✕ failed  · no backup", style="dim"))
    for text in _figures(thing, seen):
        out.print(f"     {text}", highlight=False)


def _cell(day: Day) -> Text:
    glyph, style = _DAY[day.state]
    return Text(f"{glyph} ", style=style)


def _figures(thing: Protected, seen: Overview) -> list[str]:
    lines = [f"{thing.grid.summary} Days in {seen.zone}."]
    objective = f", the objective is {duration(thing.objective_s)}" if thing.objective_s else ""
    if thing.newest:
        lines.append(f"newest {duration(thing.age_s)} ago{objective}: {escape(thing.newest.id)}")
    if thing.proven:
        proven = thing.proven
        lines.append(
            f"last proof {moment(proven.proof_at)}, expires {moment(proven.proof_expires_at)}: {escape(proven.id)}"
        )
    if thing.size_bytes is not None:
        grown = "" if thing.growth_per_day is None else f", {'+' if thing.growth_per_day >= 0 else '−'}"
        grown += "" if thing.growth_per_day is None else f"{size(round(abs(thing.growth_per_day)))} a day"
        lines.append(f"size {size(thing.size_bytes)}{grown}")
    if thing.next_at:
        lines.append(f"next {moment(thing.next_at)}")
    return lines


def _complain(unread: dict[str, str]) -> None:
    for repository, why in unread.items():
        err.print(f"[bold red]repository {escape(repository)} cannot be read:[/] {escape(why)}", soft_wrap=True)
    if unread:
        raise typer.Exit(1)
