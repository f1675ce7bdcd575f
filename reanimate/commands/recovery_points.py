"""`reanimate backup point | points`: take a recovery point, list those there are."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.backups.recovery_points import DamagedPoint, PointState, RecoveryPoint
from reanimate.backups.repositories import named, open_repositories
from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, err, id_column, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.config import load_settings
from reanimate.protection.recovery_points import point_states, take_point, wanted_of

__all__ = ["list_recovery_points", "take_recovery_point"]


def take_recovery_point(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Collections or globs, postgres:NAME, config; else all that the settings name."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every collection, not only those of the settings.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="The vector target to back up from; else the primary.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Of collections only what changed since the last full backup.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Take a recovery point: vectors, rows and configuration at nearly one moment, to be restored as one."""
    with progress_bars() as report:
        point = run(lambda: _take(names or [], everything, target, partial, report))
    if json:
        print_json(_point_row(point))
    else:
        spread = f"{point.spread_s:.1f} s apart"
        out.print(f"recovery point [bold]{point.id}[/]: {len(point.members)} members, {spread}")
        for member in point.members:
            out.print(f"  {escape(member.label)}: {escape(member.id)}, {member.taken_at:%Y-%m-%d %H:%M:%S} UTC")
        for missing in point.missing:
            err.print(f"[red]without {escape(missing.label)}:[/] {escape(missing.reason)}")
    if not point.complete:
        raise typer.Exit(1)


def list_recovery_points(
    repository: Annotated[str | None, typer.Option("--repository", help="This one; else the first.")] = None,
    json: JsonFlag = False,
) -> None:
    """List recovery points, newest first: what is in each, how far apart, and whether it was proven."""
    states, damaged = run(lambda: _states(repository))
    if json:
        print_json([*map(_state_row, states), *map(_damaged_row, damaged)])
        return
    if not states and not damaged:
        err.print("No recovery point has been taken; `reanimate backup point` takes one.")
        return
    table = Table(id_column("id"), "taken (UTC)", "members", "spread", "proven", box=None, pad_edge=False)
    for state in states:
        point = state.point
        table.add_row(
            point.id,
            f"{point.began_at:%Y-%m-%d %H:%M:%S}",
            escape(", ".join(member.label for member in point.members)),
            f"{point.spread_s:.1f} s",
            _worth(state),
        )
    for one in damaged:
        table.add_row(one.id, f"[red]damaged:[/] {escape(one.reason)}")
    out.print(table)


async def _take(names: list[str], everything: bool, target: str | None, partial: bool, report: Report) -> RecoveryPoint:
    async with open_services() as services:
        source = target or services.settings.vector.primary.name
        wanted = await wanted_of(services, names, everything=everything, target=source)
        return await take_point(services, wanted, target=source, trigger="command", partial=partial, on_progress=report)


async def _states(repository: str | None) -> tuple[list[PointState], list[DamagedPoint]]:
    return await point_states(named(open_repositories(load_settings()), repository).catalog)


def _worth(state: PointState) -> str:
    """Say in a few words what a point is worth."""
    if not state.usable:
        lost = [f"{member.label}: {worth}" for member, worth in state.members.items() if worth in _LOST]
        return f"[red]not restorable[/] ({escape('; '.join(lost))})"
    words = []
    if not state.point.complete:
        words.append(f"[yellow]incomplete[/] (without {escape(', '.join(each.label for each in state.point.missing))})")
    unproven = [
        member.label for member, worth in state.members.items() if member.kind != "config" and worth != "proven"
    ]
    if state.proven:
        words.append("[green]yes[/]")
    elif unproven:
        words.append(f"not yet: {escape(', '.join(unproven))}")
    return ", ".join(words) or "–"


_LOST = ("deleted", "gone", "another")


def _point_row(point: RecoveryPoint) -> dict[str, Any]:
    return {**point.model_dump(mode="json"), "complete": point.complete, "spread_s": point.spread_s}


def _state_row(state: PointState) -> dict[str, Any]:
    worth = {member.id: value for member, value in state.members.items()}
    return {**_point_row(state.point), "usable": state.usable, "proven": state.proven, "worth": worth}


def _damaged_row(one: DamagedPoint) -> dict[str, Any]:
    return {"id": one.id, "state": "damaged", "reason": one.reason}
