"""`reanimate restore …`: say what a restore would do, do it beside the live collection, switch back."""

from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.backups.comparison import count_points
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.commands.moments import moment
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.postgres_restore import app as postgres
from reanimate.commands.progress import Report, progress_bars
from reanimate.errors import NotFound
from reanimate.restores.aliases import AliasSwitch, undo_switch
from reanimate.restores.plan import RestorePlan, plan_restore
from reanimate.restores.restore import Restored, restore_and_switch
from reanimate.restores.switched import SwitchNote, keep_switch, last_switch

__all__ = ["app"]

app = typer.Typer(help="Restores of vector collections: plan, run, undo.", no_args_is_help=True)
app.add_typer(postgres, name="postgres")

CollectionOption = Annotated[str, typer.Option("--collection", help="A collection, or an alias of one.")]
BackupOption = Annotated[str | None, typer.Option("--backup", metavar="ID", help="This backup; else the best.")]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest until then; ISO 8601, UTC unless it says.")
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="The vector target to restore to; else the primary.")
]


@app.command("plan")
def show_plan(
    collection: CollectionOption,
    backup: BackupOption = None,
    at: AtOption = None,
    target: TargetOption = None,
    json: JsonFlag = False,
) -> None:
    """Say which backup would be restored, why that one, and what would be lost. Touches nothing."""
    plan = run(lambda: _plan(collection, backup, at, target))
    if json:
        print_json(plan.to_json())
    else:
        _print_plan(plan)


@app.command("run")
def run_restore(
    collection: CollectionOption,
    backup: BackupOption = None,
    at: AtOption = None,
    target: TargetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    json: JsonFlag = False,
) -> None:
    """Restore beside the live collection, verify, and only then switch the aliases. The old collection is kept."""
    if dry_run:
        show_plan(collection, backup, at, target, json)
        return
    with progress_bars() as report:
        plan, restored = run(lambda: _restore(collection, backup, at, target, report, quiet=json))
    if json:
        print_json(
            {
                "plan": plan.to_json(),
                "name": restored.name,
                "verification": restored.verification.to_json(),
                "switch": restored.switch.to_json(),
            }
        )
        return
    checks = len(restored.verification.checks)
    aliases = ", ".join(restored.switch.after) or "no alias"
    out.print(f"restored as [bold]{escape(restored.name)}[/]: {checks} of {checks} checks passed, {plan.points} points")
    out.print(f"{escape(aliases)} now point to it; the old collection is kept")
    out.print(f"to go back: reanimate restore undo --collection {escape(collection)} --target {escape(plan.target)}")


@app.command("undo")
def undo(
    collection: CollectionOption,
    target: TargetOption = None,
    json: JsonFlag = False,
) -> None:
    """Point the aliases back to where they pointed before the last restore run from this machine."""
    note = run(lambda: _undo(collection, target))
    if json:
        print_json({"name": note.name, "target": note.target, "put_back": note.switch["before"]})
        return
    before = note.switch["before"]
    back = ", ".join(f"{alias} → {owner}" for alias, owner in before.items()) or "no alias stood before"
    out.print(f"put back on {escape(note.target)}: {escape(back)}; {escape(note.name)} is kept")


async def _plan(collection: str, backup: str | None, at: str | None, target: str | None) -> RestorePlan:
    async with open_services() as services:
        return await _planned(services, collection, backup, at, target)


async def _planned(
    services: Services, collection: str, backup: str | None, at: str | None, target: str | None
) -> RestorePlan:
    server = services.vector(target or services.settings.vector.primary.name)
    listing = services.catalog.listing(collection)
    try:
        live, _ = await count_points(server, collection)
    except NotFound:
        live = None
    return plan_restore(
        listing.manifests,
        collection=collection,
        target=server.name,
        server=await server.version(),
        now=utcnow(),
        backup_id=backup,
        at=moment(at),
        damaged=listing.damaged,
        live_count=live,
        existing=await server.collections(),
    )


async def _restore(
    collection: str, backup: str | None, at: str | None, target: str | None, report: Report, *, quiet: bool
) -> tuple[RestorePlan, Restored]:
    async with open_services() as services:
        plan = await _planned(services, collection, backup, at, target)
        if not quiet:
            _print_plan(plan)
        server = services.vector(plan.target)

        def keep(switch: AliasSwitch) -> None:
            moment = utcnow().isoformat()
            keep_switch(
                services.settings.home,
                SwitchNote(plan.collection, plan.target, plan.new_name, plan.backup_id, moment, switch.to_json()),
            )

        manifest = services.catalog.get(plan.backup_id)
        restored = await restore_and_switch(server, services.catalog, manifest, plan.new_name, report, keep=keep)
        return plan, restored


async def _undo(collection: str, target: str | None) -> SwitchNote:
    async with open_services() as services:
        name = target or services.settings.vector.primary.name
        note = last_switch(services.settings.home, collection, name)
        await undo_switch(services.vector(name), note.alias_switch())
        keep_switch(services.settings.home, replace(note, undone_at=utcnow().isoformat()))
        return note


def _print_plan(plan: RestorePlan) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _lines(plan).items():
        table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    for warning in plan.warnings:
        err.print(f"[yellow]note:[/] {escape(warning)}")
    if plan.others:
        others = Table("not chosen", "taken (UTC)", "points", "why not", box=None, pad_edge=False)
        for other in plan.others:
            points = "–" if other.points is None else str(other.points)
            others.add_row(other.id, other.taken_at or "–", points, escape(other.reason))
        out.print(others)


def _lines(plan: RestorePlan) -> dict[str, Any]:
    writes = f"; the gateways acknowledged {plan.writes_since} writes since" if plan.writes_since is not None else ""
    return {
        "backup": f"{plan.backup_id}, {plan.why}",
        "holds": f"{plan.points} points in {plan.shards} shard(s), {plan.size_bytes / 1e6:.1f} MB, by {plan.made_by}",
        "lost": plan.lost + writes,
        "goes to": f"{plan.new_name} on {plan.target} ({plan.server})",
        "switches": ", ".join(plan.aliases) or "the collection's own name, if nothing has it",
    }
