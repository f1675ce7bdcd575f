"""`reanimate restore sweep` and `forget`: what killed restores left, and what was live before others."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, out, print_json, run
from reanimate.protection.clearing import clear_leftovers, forget_old, leftovers
from reanimate.restores.leftovers import Leftover, Old

__all__ = ["forget", "sweep"]

TargetOption = Annotated[str | None, typer.Option("--target", help="The vector target; else the primary.")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]


def sweep(
    target: TargetOption = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Also this one, of which the record knows nothing. Can be given several times."),
    ] = None,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove what killed and failed restores have left. What an alias points at, or is kept, is not touched."""
    found, gone = run(lambda: _sweep(target, name or [], dry_run=dry_run))
    removed = {one.name for one in gone}
    if json:
        print_json([{**asdict(one), "removed": one.name in removed and not dry_run} for one in found])
        return
    if not found:
        out.print("restores have left nothing behind")
        return
    table = Table("collection", "", "why", box=None, pad_edge=False)
    for one in found:
        fate = ("would go" if dry_run else "removed") if one.name in removed else "stays"
        hint = "" if one.removable or one.name in removed else f" (--name {one.name} removes it)"
        table.add_row(escape(one.name), fate, escape(one.why + hint))
    out.print(table)


async def _sweep(target: str | None, names: list[str], *, dry_run: bool) -> tuple[list[Leftover], list[Leftover]]:
    async with open_services() as services:
        where = target or services.settings.vector.primary.name
        found = await leftovers(services, where)
        return found, await clear_leftovers(services, where, named=names, dry_run=dry_run)


def forget(
    target: TargetOption = None,
    now: Annotated[bool, typer.Option("--now", help="Remove at once what is due.")] = False,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove collections that were live before a restore, when their time is over and nothing points at them.

    In two steps: the first time it is announced, half a day later it goes.
    """
    found = run(lambda: _forget(target, at_once=now, dry_run=dry_run))
    if json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        out.print("no collection is kept from before a restore")
        return
    table = Table("collection", "", "why", box=None, pad_edge=False)
    for one in found:
        table.add_row(escape(one.name), f"would be {one.fate}" if dry_run else str(one.fate), escape(one.why))
    out.print(table)


async def _forget(target: str | None, *, at_once: bool, dry_run: bool) -> list[Old]:
    async with open_services() as services:
        where = target or services.settings.vector.primary.name
        return await forget_old(services, where, now=utcnow(), dry_run=dry_run, at_once=at_once)
