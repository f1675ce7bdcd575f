"""`reanimate restore postgres …`: say what a restore would do, do it beside the live database, switch, switch back."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from rich.markup import escape

from reanimate.backups.repositories import Repository
from reanimate.bootstrap import Services, open_services
from reanimate.commands.moments import moment
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.postgres_backup import RepositoryOption
from reanimate.commands.postgres_output import print_checks, print_plan, print_renamed
from reanimate.commands.progress import Report, progress_bars
from reanimate.config import RECORD_NAME, load_settings
from reanimate.dumps.login import Login, maintenance
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.markers import Marked, Stage, databases_of
from reanimate.dumps.plan import DatabasePlan
from reanimate.dumps.rename import Renamed, discard
from reanimate.dumps.restore import Beside
from reanimate.errors import Busy, NotFound, Refused
from reanimate.protection.databases import (
    login_to,
    plan_database,
    restore_database,
    switch_database,
    undo_database,
)
from reanimate.supervisor.record_alone import record_alone

__all__ = ["app"]

app = typer.Typer(help="Restores of Postgres databases: plan, run, switch, undo, discard.", no_args_is_help=True)

T = TypeVar("T")
Chosen: TypeAlias = tuple[DatabasePlan, PostgresManifest, Repository]

DatabaseOption = Annotated[
    str, typer.Option("--database", help="As postgres.databases in the settings says; `record` is our own.")
]
BackupOption = Annotated[str | None, typer.Option("--backup", metavar="ID", help="This backup; else the best.")]
AtOption = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="The newest until then; ISO 8601, UTC unless it says.")
]
ProvenOption = Annotated[bool, typer.Option("--newest-proven", help="The newest whose proof passed.")]
EndOption = Annotated[
    bool, typer.Option("--end-sessions", help="End the sessions of the live database when it is renamed.")
]
RolesOption = Annotated[bool, typer.Option("--create-roles", help="Make roles that the server lacks, without a login.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


@dataclass(frozen=True)
class _Outcome:
    """What `run` came to."""

    plan: DatabasePlan
    beside: Beside
    renamed: Renamed | None
    why_not: str


@app.command("plan")
def show_plan(
    database: DatabaseOption,
    backup: BackupOption = None,
    at: AtOption = None,
    newest_proven: ProvenOption = False,
    repository: RepositoryOption = None,
    json: JsonFlag = False,
) -> None:
    """Say which backup would be restored, why that one, what would be lost, and each step. Touches nothing."""

    async def work(services: Services, login: Login) -> DatabasePlan:
        return (await _plan(services, database, login, backup, at, newest_proven, repository))[0]

    plan = _with_database(database, work)
    if json:
        print_json(plan.to_json())
    else:
        print_plan(plan)


@app.command("run")
def run_restore(
    database: DatabaseOption,
    backup: BackupOption = None,
    at: AtOption = None,
    newest_proven: ProvenOption = False,
    repository: RepositoryOption = None,
    end_sessions: EndOption = False,
    create_roles: RolesOption = False,
    beside: Annotated[bool, typer.Option("--beside", help="Only restore beside; `switch` does the rest.")] = False,
    dry_run: DryOption = False,
    json: JsonFlag = False,
) -> None:
    """Restore beside the live database, verify, and only then rename. The old database is kept."""
    if dry_run:
        show_plan(database, backup, at, newest_proven, repository, json)
        return
    with progress_bars() as report:

        async def work(services: Services, login: Login) -> _Outcome:
            chosen = await _plan(services, database, login, backup, at, newest_proven, repository)
            if not json:
                print_plan(chosen[0])
            return await _restore(services, login, chosen, report, end_sessions, create_roles, switch=not beside)

        outcome = _with_database(database, work)
    if json:
        print_json(
            {
                "plan": outcome.plan.to_json(),
                "name": outcome.beside.name,
                "state": "switched" if outcome.renamed else "beside",
                "verification": outcome.beside.verification.to_json(),
                "notes": outcome.beside.notes,
                "renamed": asdict(outcome.renamed) if outcome.renamed else None,
                "why_not": outcome.why_not,
            }
        )
    else:
        print_checks(outcome.beside.verification)
        for note in outcome.beside.notes:
            err.print(f"[yellow]note:[/] {escape(note)}")
        out.print(f"restored as [bold]{escape(outcome.beside.name)}[/], and every check passed")
        if outcome.renamed:
            print_renamed(database, outcome.renamed)
        else:
            _print_beside(database, outcome)
    if outcome.renamed is None and not beside and database != RECORD_NAME:
        raise typer.Exit(1)


@app.command("switch")
def switch(
    database: DatabaseOption,
    name: Annotated[str | None, typer.Option("--name", help="The restored database; else the newest.")] = None,
    end_sessions: EndOption = False,
    dry_run: DryOption = False,
    json: JsonFlag = False,
) -> None:
    """Let a database that was restored beside take the live one's name. The old one is kept."""

    async def work(services: Services, login: Login) -> Renamed | Marked:
        chosen = await _choose(login, name, Stage.RESTORED)
        if dry_run:
            return chosen
        return await switch_database(services, database, login, chosen.name, end_sessions=end_sessions)

    _print_change(database, _with_database(database, work), json, "would take the live name")


@app.command("undo")
def undo(
    database: DatabaseOption, end_sessions: EndOption = False, dry_run: DryOption = False, json: JsonFlag = False
) -> None:
    """Give the name back to the database that had it before the last switch. The restored one is kept."""

    async def work(services: Services, login: Login) -> Renamed | Marked:
        if dry_run:
            return await _choose(login, None, Stage.KEPT)
        return await undo_database(services, database, login, end_sessions=end_sessions)

    _print_change(database, _with_database(database, work), json, "would be live again")


@app.command("discard")
def discard_database(
    database: DatabaseOption,
    name: Annotated[str, typer.Option("--name", help="A database that a restore made or set aside.")],
    dry_run: DryOption = False,
    json: JsonFlag = False,
) -> None:
    """Drop, for good, a database that a restore made or set aside. The live one is never among them."""

    async def work(services: Services, login: Login) -> Marked:
        chosen = await _choose(login, name, Stage.RESTORED, Stage.KEPT, Stage.UNDONE)
        if not dry_run:
            await discard(login, name)
        return chosen

    marked = _with_database(database, work)
    if json:
        print_json({"name": marked.name, "stage": marked.stage, "dropped": not dry_run})
    else:
        out.print(f"{escape(marked.name)} ({marked.stage}) {'would be' if dry_run else 'is'} dropped")


def _with_database(database: str, work: Callable[[Services, Login], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the services and the database's login; our own server is started for it while it is down."""

    async def whole() -> T:
        async with _services(database) as services:
            return await work(services, login_to(services, database))

    return run(whole)


@asynccontextmanager
async def _services(database: str) -> AsyncIterator[Services]:
    settings = load_settings()
    if database != RECORD_NAME:
        async with open_services(settings) as services:
            yield services
        return
    async with record_alone(settings), open_services(settings) as services:
        yield services


async def _plan(
    services: Services,
    database: str,
    login: Login,
    backup: str | None,
    at: str | None,
    newest_proven: bool,
    repository: str | None,
) -> Chosen:
    return await plan_database(
        services,
        database,
        login,
        backup_id=backup,
        at=moment(at),
        newest_proven=newest_proven,
        repository=repository,
    )


async def _restore(
    services: Services,
    login: Login,
    chosen: Chosen,
    report: Report,
    end_sessions: bool,
    create_roles: bool,
    *,
    switch: bool,
) -> _Outcome:
    plan, manifest, place = chosen
    beside = await restore_database(services, plan, manifest, place, login, make_roles=create_roles, on_progress=report)
    if not switch:
        return _Outcome(plan, beside, None, "only restored beside, as asked")
    if plan.name == RECORD_NAME and end_sessions:
        return _Outcome(plan, beside, None, "the running system would reconnect at once: stop it first")
    try:
        renamed = await switch_database(
            services, plan.name, login, beside.name, now=plan.made_at, end_sessions=end_sessions
        )
    except (Refused, Busy) as error:
        return _Outcome(plan, beside, None, str(error.args[0]))
    return _Outcome(plan, beside, renamed, "")


async def _choose(login: Login, name: str | None, *stages: Stage) -> Marked:
    async with maintenance(login) as connection:
        known = await databases_of(connection, login.database)
    for marked in known:
        if marked.stage in stages and name in (None, marked.name):
            return marked
    names = ", ".join(f"{marked.name} ({marked.stage})" for marked in known) or "none"
    raise NotFound(
        f"no database of {login.database!r} on {login.where} is {' or '.join(stages)}"
        + (f" and called {name!r}" if name else ""),
        hint=f"there are: {names}",
    )


def _print_beside(database: str, outcome: _Outcome) -> None:
    out.print(f"not switched: {escape(outcome.why_not)}; the live database is untouched")
    if database == RECORD_NAME:
        out.print("to switch: reanimate down, then reanimate restore postgres switch --database record")
        out.print(f"or name the database {escape(outcome.beside.name)} in DATABASE_URL and start again")
    else:
        out.print(f"to switch: reanimate restore postgres switch --database {escape(database)}")


def _print_change(database: str, done: Renamed | Marked, json: bool, would: str) -> None:
    if isinstance(done, Marked):
        if json:
            print_json({"name": done.name, "stage": done.stage, "backup_id": done.backup_id, "dry_run": True})
        else:
            out.print(f"{escape(done.name)} ({done.stage}, of backup {escape(done.backup_id)}) {would}")
    elif json:
        print_json(asdict(done))
    else:
        print_renamed(database, done)
