"""`reanimate backup postgres …`: take, list and show backups of Postgres databases."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.backups.catalog import DamagedBackup, Published
from reanimate.backups.repositories import named, open_repositories
from reanimate.bootstrap import open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, fail, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.config import load_settings
from reanimate.dumps.manifest import PostgresManifest
from reanimate.errors import InputInvalid, ReanimateError
from reanimate.incidents.wording import size
from reanimate.protection.databases import back_up_database, databases_to_back_up

__all__ = ["app"]

app = typer.Typer(help="Backups of Postgres databases: run, list, show.", no_args_is_help=True)

RepositoryOption = Annotated[
    str | None, typer.Option("--repository", help="The repository; else the one that backups are taken into.")
]


@app.command("run")
def run_backup(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME…", help="As postgres.databases in the settings says.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, our own record among them.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take a backup of each database in one snapshot, check it, and publish it."""
    if bool(names) == everything:
        raise fail(InputInvalid("name the databases to back up, or give --all"))
    with progress_bars() as report:
        taken, failed = run(lambda: _run(names or [], report))
    if json:
        print_json([*map(_row, taken), *({"name": name, "state": "failed", "error": why} for name, why in failed)])
    else:
        for published in taken:
            manifest = published.manifest
            out.print(
                f"backup [bold]{escape(manifest.id)}[/] of {escape(manifest.subject)}: {manifest.facts.rows} rows in "
                f"{len(manifest.facts.tables)} tables, {size(manifest.size_bytes)} "
                f"({size(manifest.stored_bytes)} stored), checked and published"
            )
            for warning in manifest.warnings:
                err.print(f"[yellow]note:[/] {escape(warning)}")
    for name, why in failed:
        err.print(f"[bold red]error:[/] {escape(name)}: {escape(why)}", highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


async def _run(names: list[str], report: Report) -> tuple[list[Published[PostgresManifest]], list[tuple[str, str]]]:
    """Back up one after the other; one that fails does not keep the others."""
    taken, failed = [], []
    async with open_services() as services:
        chosen = databases_to_back_up(services, names)
        for name in chosen:
            prefix = f"{name}: " if len(chosen) > 1 else ""

            def told(stage: str, done: int, total: int, prefix: str = prefix) -> None:
                report(prefix + stage, done, total)

            try:
                taken.append(await back_up_database(services, name, trigger="command", on_progress=told))
            except ReanimateError as error:
                failed.append((name, str(error)))
    return taken, failed


@app.command("list")
def list_backups(
    name: Annotated[str | None, typer.Argument(help="Only those of this database.")] = None,
    repository: RepositoryOption = None,
    json: JsonFlag = False,
) -> None:
    """List published backups of databases, newest first."""
    published, damaged = _published(repository)
    shown = [one for one in published if name in (None, one.manifest.subject)]
    if json:
        print_json([*map(_row, shown), *map(_damaged_row, damaged)])
        return
    if not shown and not damaged:
        err.print("No backup" + (f" of {escape(name)}" if name else " of a database") + " has been published.")
        return
    now = utcnow()
    table = Table("id", "database", "taken (UTC)", "age", "proven", "tables", "rows", "size", box=None, pad_edge=False)
    for one in shown:
        manifest = one.manifest
        hours = (now - manifest.taken_at).total_seconds() / 3600
        table.add_row(
            manifest.id,
            escape(manifest.subject),
            f"{manifest.taken_at:%Y-%m-%d %H:%M:%S}",
            f"{hours / 24:.1f} d" if hours >= 48 else f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min",
            _proven(one),
            str(len(manifest.facts.tables)),
            str(manifest.facts.rows),
            size(manifest.size_bytes),
        )
    for broken in damaged:
        table.add_row(broken.id, f"[red]damaged:[/] {escape(broken.reason)}")
    out.print(table)


def _proven(one: Published[PostgresManifest]) -> str:
    if one.proven_at is not None:
        return f"[green]{one.proven_at:%Y-%m-%d}[/]"
    return "[red]failed[/]" if one.last_proof else "–"


@app.command("show")
def show_backup(
    backup_id: Annotated[str, typer.Argument(metavar="ID", help="As `reanimate backup postgres list` shows it.")],
    repository: RepositoryOption = None,
    json: JsonFlag = False,
) -> None:
    """Show what a backup of a database says of itself."""
    try:
        one = _catalog(repository).find(backup_id, PostgresManifest)
    except ReanimateError as error:
        raise fail(error) from None
    if json:
        print_json(one.manifest.model_dump(mode="json"))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _details(one.manifest).items():
        table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    rows = Table("table", "rows", "hash of its rows", box=None, pad_edge=False)
    for each in one.manifest.facts.tables:
        sample = f" (one row in {each.one_in})" if each.one_in > 1 else ""
        rows.add_row(escape(each.label), str(each.rows), f"{each.content}{sample}")
    out.print(rows)


def _details(manifest: PostgresManifest) -> dict[str, str]:
    facts, part = manifest.facts, manifest.dump
    return {
        "id": manifest.id,
        "database": f"{manifest.subject}, {facts.database} on {manifest.target}",
        "taken": f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC by pg_dump {manifest.made_by}",
        "server": f"{manifest.server.title} {manifest.server.version}",
        "locale": f"{facts.properties.encoding}, {facts.properties.locale or facts.properties.collate}",
        "holds": f"{facts.rows} rows in {len(facts.tables)} tables, {facts.large_objects.count} large objects, "
        f"{len(facts.sequences)} sequences, {len(facts.schema_objects)} objects in all",
        "extensions": ", ".join(f"{one.name} {one.version}" for one in facts.extensions) or "none",
        "roles": ", ".join(role.name for role in facts.roles) or "none",
        "on disk there": size(facts.size_bytes),
        "part": f"{size(part.size)}, SHA-256 {part.sha256}, {part.blob}",
        "stored": f"{size(part.stored_size)} as {'+'.join(part.packing) or 'it is'}",
        "warnings": "; ".join(manifest.warnings) or "none",
    }


def _catalog(repository: str | None) -> Any:
    return named(open_repositories(load_settings()), repository).catalog


def _published(repository: str | None) -> tuple[list[Published[PostgresManifest]], list[DamagedBackup]]:
    try:
        catalog = _catalog(repository)
        return [*catalog.published(PostgresManifest)], [*catalog.damaged(PostgresManifest)]
    except ReanimateError as error:
        raise fail(error) from None


def _row(one: Published[PostgresManifest]) -> dict[str, Any]:
    manifest = one.manifest
    return {
        "id": manifest.id,
        "name": manifest.subject,
        "database": manifest.facts.database,
        "target": manifest.target,
        "taken_at": manifest.taken_at.isoformat(),
        "tables": len(manifest.facts.tables),
        "rows": manifest.facts.rows,
        "size_bytes": manifest.size_bytes,
        "stored_bytes": manifest.stored_bytes,
        "server": manifest.server.model_dump(),
        "proven_at": one.proven_at.isoformat() if one.proven_at else None,
        "state": "published",
        "warnings": manifest.warnings,
    }


def _damaged_row(damaged: DamagedBackup) -> dict[str, Any]:
    return {"id": damaged.id, "state": "damaged", "reason": damaged.reason, "key": damaged.key}
