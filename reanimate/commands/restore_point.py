"""`reanimate restore point …`: restore what was taken together as one: plan, run, undo."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.protection.point_journal import Journal
from reanimate.protection.point_plans import PointPlan, plan_point
from reanimate.protection.point_restores import PointRestored, restore_point, undo_point

__all__ = ["app"]

app = typer.Typer(help="Restores of recovery points, all members as one: plan, run, undo.", no_args_is_help=True)

PointArgument = Annotated[str, typer.Argument(metavar="ID", help="As `reanimate backup points` shows it.")]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", help="Restore from this repository; else the first.")
]
EndOption = Annotated[bool, typer.Option("--end-sessions", help="End the sessions of databases that are renamed.")]


@app.command("plan")
def show_plan(point: PointArgument, repository: RepositoryOption = None, json: JsonFlag = False) -> None:
    """Say what would be done to each member, and what would be lost. Touches nothing."""
    plan = run(lambda: _plan(point, repository))
    if json:
        print_json(plan.to_json())
    else:
        _print_plan(plan)
    if plan.problems:
        raise typer.Exit(1)


@app.command("run")
def run_restore(
    point: PointArgument,
    repository: RepositoryOption = None,
    end_sessions: EndOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    json: JsonFlag = False,
) -> None:
    """Restore every member beside, verify all, and only then put all live together. What was live is kept."""
    if dry_run:
        show_plan(point, repository, json)
        return
    with progress_bars() as report:
        restored = run(lambda: _restore(point, repository, end_sessions, report, quiet=json))
    if json:
        print_json(restored.to_json())
        return
    _print_journal(restored.journal)
    out.print(f"[green]live[/]: {restored.checks} of {restored.checks} checks passed before; what was there is kept")
    out.print(f"to go back: reanimate restore point undo {escape(point)}")


@app.command("undo")
def undo(point: PointArgument, end_sessions: EndOption = False, json: JsonFlag = False) -> None:
    """Put back everything that the last restore of a point replaced: files, aliases, databases."""
    journal = run(lambda: _undo(point, end_sessions))
    if json:
        print_json(journal.model_dump(mode="json"))
        return
    names = [
        *(f"aliases of {step.collection}" for step in journal.collections),
        *(f"database {step.name}" for step in journal.databases),
        *([f"{len(journal.files)} files"] if journal.files else []),
    ]
    out.print(f"put back: {escape(', '.join(names)) or 'nothing'}")


async def _plan(point: str, repository: str | None) -> PointPlan:
    async with open_services() as services:
        return await plan_point(services, point, repository=repository)


async def _restore(
    point: str, repository: str | None, end_sessions: bool, report: Report, *, quiet: bool
) -> PointRestored:
    async with open_services() as services:
        return await restore_point(
            services,
            point,
            repository=repository,
            end_sessions=end_sessions,
            on_plan=None if quiet else _print_plan,
            on_progress=report,
        )


async def _undo(point: str, end_sessions: bool) -> Journal:
    async with open_services() as services:
        return await undo_point(services, point, end_sessions=end_sessions)


def _print_plan(plan: PointPlan) -> None:
    point = plan.state.point
    out.print(
        f"recovery point [bold]{point.id}[/] of {point.earliest:%Y-%m-%d %H:%M:%S} UTC, "
        f"members {point.spread_s:.1f} s apart"
    )
    table = Table("what", "backup", "proof", box=None, pad_edge=False)
    for member, worth in plan.state.members.items():
        table.add_row(escape(member.label), member.id, "–" if member.kind == "config" else worth)
    out.print(table)
    for step in _steps(plan):
        out.print(f"• {escape(step)}", soft_wrap=True)
    for warning in (warning for database in plan.databases for warning in database.plan.warnings):
        err.print(f"[yellow]note:[/] {escape(warning)}")
    for note in plan.notes:
        err.print(f"[yellow]note:[/] {escape(note)}")
    for problem in plan.problems:
        err.print(f"[red]cannot:[/] {escape(problem)}")


def _steps(plan: PointPlan) -> Iterator[str]:
    for each in plan.collections:
        now = (
            "there is no such collection now" if each.plan.points_now is None else f"{each.plan.points_now} points now"
        )
        yield f"{each.plan.collection}: {each.plan.points} points as {each.plan.new_name} on {each.plan.target}; {now}"
    for database in plan.databases:
        yield f"database {database.plan.name}: {database.plan.rows} rows as {database.plan.new_name}"
    for files in plan.files:
        for file in files.plan.plans:
            yield "; ".join(file.does)
        if not files.plan.plans:
            yield "every file is as it was then"


def _print_journal(journal: Journal) -> None:
    for step in journal.collections:
        aliases = ", ".join((step.switch or {}).get("after", {})) or "no alias"
        out.print(f"{escape(step.collection)}: {escape(aliases)} → {escape(step.new_name)}")
    for noted in journal.databases:
        kept = f"; the one before is kept as {noted.kept}" if noted.kept else ""
        out.print(f"database {escape(noted.name)}: restored{escape(kept)}")
    if journal.files:
        out.print(f"{len(journal.files)} files put back")
