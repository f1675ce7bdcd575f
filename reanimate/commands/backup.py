"""`reanimate backup …`: take, list and show backups."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.repositories import named, open_repositories
from reanimate.bootstrap import open_services
from reanimate.commands import keeping, points, storing
from reanimate.commands.output import JsonFlag, err, fail, out, print_json, run
from reanimate.commands.postgres_backup import app as postgres
from reanimate.commands.progress import Report, progress_bars
from reanimate.commands.recovery_points import list_recovery_points, take_recovery_point
from reanimate.config import load_settings
from reanimate.errors import ReanimateError
from reanimate.incidents.wording import size
from reanimate.protection.backups import back_up, names_to_back_up, seed_replicas

__all__ = ["app"]

app = typer.Typer(help="Backups: run, list, show, copy, verify, keep and delete them.", no_args_is_help=True)
keeping.add_to(app)
storing.add_to(app)
points.add_to(app)
app.add_typer(postgres, name="postgres")
app.command("point")(take_recovery_point)
app.command("points")(list_recovery_points)


@app.command("run")
def run_backup(
    collections: Annotated[
        list[str] | None,
        typer.Argument(help="Collections or aliases, exact or as globs ('notes-*'); else those of the settings."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="The vector target to back up from; else the primary.")] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Only what has changed since the last full backup, if that is little."),
    ] = False,
    copy: Annotated[bool, typer.Option("--seed/--no-seed", help="Also load the backup into every replica.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take backups now, read each back, and publish it. One that fails does not keep the others."""
    with progress_bars() as report:
        taken = run(lambda: _run(collections or [], target, partial, copy, report))
    if json:
        rows = [{**_row(one.manifest), "seeded": one.seeded} if one.manifest else _failed_row(one) for one in taken]
        print_json(rows[0] if len(rows) == 1 else rows)
    else:
        for one in taken:
            _print_taken(one)
    if any(one.error for one in taken):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Taken:
    """What came of one collection."""

    name: str
    manifest: VectorManifest | None = None
    seeded: dict[str, str] = field(default_factory=dict)
    error: ReanimateError | None = None


def _print_taken(taken: _Taken) -> None:
    if manifest := taken.manifest:
        kind = f", changes on top of {manifest.base}" if manifest.base else ""
        out.print(
            f"backup [bold]{escape(manifest.id)}[/] of {escape(manifest.collection)}: {manifest.exact_count} points, "
            f"{size(manifest.size_bytes)}{escape(kind)}, read back and published"
        )
        for warning in manifest.warnings:
            err.print(f"[yellow]note:[/] {escape(warning)}")
        for name, loaded in taken.seeded.items():
            out.print(f"loaded into {escape(name)} as {escape(loaded)} and verified")
    if taken.error:
        fail(taken.error)


async def _run(names: list[str], target: str | None, partial: bool, copy: bool, report: Report) -> list[_Taken]:
    async with open_services() as services:
        source = target or services.settings.vector.primary.name
        taken = []
        for name in await names_to_back_up(services, source, named=names):
            manifest = None
            try:
                manifest = await back_up(
                    services, name, target=source, trigger="command", partial=partial, on_progress=report
                )
                seeded = await seed_replicas(services, manifest, on_progress=report) if copy else {}
                taken.append(_Taken(name, manifest, seeded))
            except ReanimateError as error:
                taken.append(_Taken(name, manifest, error=error))
        return taken


@app.command("show")
def show_backup(
    backup_id: Annotated[str, typer.Argument(metavar="ID", help="As `reanimate backup list` shows it.")],
    json: JsonFlag = False,
) -> None:
    """Show what a backup says of itself."""
    try:
        manifest = _catalog().get(backup_id)
    except ReanimateError as error:
        raise fail(error) from None
    if json:
        print_json(manifest.model_dump(mode="json"))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _details(manifest).items():
        table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)


def _details(manifest: VectorManifest) -> dict[str, str]:
    live = manifest.live
    return {
        "id": manifest.id,
        "collection": manifest.collection,
        "kind": f"changes on top of {manifest.base}" if manifest.base else "full",
        "aliases": ", ".join(manifest.aliases) or "none",
        "taken": f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC from {manifest.target}",
        "server": f"{manifest.server.title} {manifest.server.version}",
        "points": f"{manifest.exact_count} (live: {live.before} before, {live.after} after the snapshot)",
        "model": f"{manifest.embedding.model}, {manifest.embedding.dimension} dimensions"
        if manifest.embedding
        else "–",
        "indexes": ", ".join(manifest.payload_schema) or "none",
        "known points": f"{len(manifest.sentinels)}, and {len(manifest.golden)} queries with known answers",
        "warnings": "; ".join(manifest.warnings) or "none",
        **{
            f"part, shard {part.shard_id}": f"{size(part.size)}, stored as {size(part.stored_size)} "
            f"({'+'.join(part.packing) or 'as it is'}), SHA-256 {part.sha256}, {part.blob}"
            for part in manifest.parts
        },
    }


def _catalog() -> Catalog:
    return named(open_repositories(load_settings()), None).catalog


def _failed_row(taken: _Taken) -> dict[str, Any]:
    return {"collection": taken.name, "state": "failed", "error": str(taken.error)}


def _row(manifest: VectorManifest) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "collection": manifest.collection,
        "aliases": manifest.aliases,
        "target": manifest.target,
        "taken_at": manifest.taken_at.isoformat(),
        "points": manifest.exact_count,
        "size_bytes": manifest.size_bytes,
        "server": manifest.server.model_dump(),
        "state": "published",
        "warnings": manifest.warnings,
    }
