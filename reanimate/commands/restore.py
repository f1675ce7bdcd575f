"""`reanimate restore …`: say what a restore would do, do it beside the live collection, switch back, clear up."""

from typing import Annotated

import typer
from rich.markup import escape

from reanimate.bootstrap import open_services
from reanimate.commands import restore_leftovers, restore_points
from reanimate.commands.moments import moment
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.postgres_restore import app as postgres
from reanimate.commands.progress import Report, progress_bars
from reanimate.commands.restore_point import app as point
from reanimate.commands.restore_tables import print_done, print_plan
from reanimate.errors import InputInvalid
from reanimate.protection.restore_plans import Planned, plan_for
from reanimate.protection.restoring import Done, run_restore
from reanimate.protection.undoing import Undone, undo_restore
from reanimate.restores.candidates import Wish
from reanimate.restores.carrying import Carry

__all__ = ["app"]

app = typer.Typer(
    help="Restores of collections: plan, run, undo, single points, clearing up. And of databases and recovery points.",
    no_args_is_help=True,
)
app.add_typer(postgres, name="postgres")
app.add_typer(point, name="point")
app.command("points")(restore_points.points)
app.command("forget")(restore_leftovers.forget)
app.command("sweep")(restore_leftovers.sweep)

CollectionOption = Annotated[str, typer.Option("--collection", help="A collection, or an alias of one.")]
BackupOption = Annotated[str | None, typer.Option("--backup", metavar="ID", help="This backup; else the best.")]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest until then; ISO 8601, UTC unless it says.")
]
ProvenFlag = Annotated[
    bool, typer.Option("--newest-proven", help="The newest that was restored elsewhere and found right.")
]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", metavar="NAME", help="Only from this repository; else the first good one.")
]
TargetOption = Annotated[
    str | None, typer.Option("--target", help="The vector target to restore to; else the primary.")
]


@app.command("plan")
def show_plan(
    collection: CollectionOption,
    backup: BackupOption = None,
    at: AtOption = None,
    newest_proven: ProvenFlag = False,
    repository: RepositoryOption = None,
    target: TargetOption = None,
    json: JsonFlag = False,
) -> None:
    """Say which backup would be restored, why that one, what would be lost and what it takes. Touches nothing."""
    planned = run(lambda: _plan(_wish(collection, backup, at, newest_proven), repository, target))
    if json:
        print_json(planned.plan.to_json())
    else:
        print_plan(planned.plan)


@app.command("run")
def run_command(
    collection: CollectionOption,
    backup: BackupOption = None,
    at: AtOption = None,
    newest_proven: ProvenFlag = False,
    repository: RepositoryOption = None,
    target: TargetOption = None,
    carry_over: Annotated[
        bool, typer.Option("--carry-over", help="Write points that only the live collection has into the restored one.")
    ] = False,
    carry_changed: Annotated[
        bool, typer.Option("--carry-changed", help="And those that differ. What went wrong may have changed them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    json: JsonFlag = False,
) -> None:
    """Restore beside the live collection, verify, and only then switch the aliases. The old collection is kept."""
    if dry_run:
        show_plan(collection, backup, at, newest_proven, repository, target, json)
        return
    carry = Carry(added=carry_over, changed=carry_changed) if carry_over or carry_changed else None
    with progress_bars() as report:
        done = run(
            lambda: _restore(
                _wish(collection, backup, at, newest_proven), repository, target, carry, report, quiet=json
            )
        )
    if json:
        print_json(done.to_json())
    else:
        print_done(done, asked=collection)


@app.command("undo")
def undo(
    collection: CollectionOption,
    target: TargetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be put back.")] = False,
    json: JsonFlag = False,
) -> None:
    """Point the aliases back to where they pointed before the last restore, whether a person or an incident ran it."""
    undone = run(lambda: _undo(collection, target, dry_run=dry_run))
    before = undone.switch.before
    if json:
        print_json({"name": undone.name, "target": undone.target, "put_back": before, "dry_run": dry_run})
        return
    back = ", ".join(f"{alias} → {owner}" for alias, owner in before.items()) or "no alias stood before"
    out.print(
        f"{'would put' if dry_run else 'put'} back on {escape(undone.target)}: {escape(back)}; {escape(undone.name)} "
        f"is kept (restored {undone.at:%Y-%m-%d %H:%M} UTC by {escape(undone.trigger)})"
    )


def _wish(collection: str, backup: str | None, at: str | None, newest_proven: bool) -> Wish:
    if backup is not None and (at is not None or newest_proven):
        raise InputInvalid("--backup names one; --at and --newest-proven choose one", hint="give one or the other")
    return Wish(collection, backup_id=backup, at=moment(at), newest_proven=newest_proven)


async def _plan(wish: Wish, repository: str | None, target: str | None) -> Planned:
    async with open_services() as services:
        return await plan_for(services, wish, target=target, repository=repository)


async def _restore(
    wish: Wish, repository: str | None, target: str | None, carry: Carry | None, report: Report, *, quiet: bool
) -> Done:
    async with open_services() as services:
        planned = await plan_for(services, wish, target=target, repository=repository)
        if not quiet:
            print_plan(planned.plan)
        if not planned.plan.outlook.fits:
            err.print("[yellow]note:[/] it is tried all the same; what does not fit harms nothing that is live")
        return await run_restore(services, planned, trigger="command", carry=carry, on_progress=report)


async def _undo(collection: str, target: str | None, *, dry_run: bool) -> Undone:
    async with open_services() as services:
        name = target or services.settings.vector.primary.name
        return await undo_restore(services, collection, name, dry_run=dry_run)
