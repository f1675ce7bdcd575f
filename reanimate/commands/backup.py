"""`reanimate backup …`: take, list and show backups."""

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
from reanimate.protection.backups import back_up, seed_replicas

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
    collection: Annotated[str, typer.Argument(help="A collection, or an alias of one.")],
    target: Annotated[str | None, typer.Option(help="The vector target to back up from; else the primary.")] = None,
    copy: Annotated[bool, typer.Option("--seed/--no-seed", help="Also load the backup into every replica.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take a backup now, read it back, and publish it."""
    with progress_bars() as report:
        manifest, copies = run(lambda: _run(collection, target, copy, report))
    if json:
        print_json({**_row(manifest), "seeded": copies})
        return
    out.print(
        f"backup [bold]{escape(manifest.id)}[/] of {escape(manifest.collection)}: {manifest.exact_count} points, "
        f"{_megabytes(manifest.size_bytes)}, read back and published"
    )
    for warning in manifest.warnings:
        err.print(f"[yellow]note:[/] {escape(warning)}")
    for name, loaded in copies.items():
        out.print(f"loaded into {escape(name)} as {escape(loaded)} and verified")


async def _run(
    collection: str, target: str | None, copy: bool, report: Report
) -> tuple[VectorManifest, dict[str, str]]:
    async with open_services() as services:
        name = target or services.settings.vector.primary.name
        manifest = await back_up(services, collection, target=name, trigger="command", on_progress=report)
        return manifest, await seed_replicas(services, manifest, on_progress=report) if copy else {}


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
        "aliases": ", ".join(manifest.aliases) or "none",
        "taken": f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC from {manifest.target}",
        "server": f"{manifest.server.title} {manifest.server.version}",
        "points": f"{manifest.exact_count} (live: {live.before} before, {live.after} after the snapshot)",
        "indexes": ", ".join(manifest.payload_schema) or "none",
        "known points": f"{len(manifest.sentinels)}, and {len(manifest.golden)} queries with known answers",
        "warnings": "; ".join(manifest.warnings) or "none",
        **{
            f"part, shard {part.shard_id}": f"{_megabytes(part.size)}, SHA-256 {part.sha256}, {part.blob}"
            for part in manifest.parts
        },
    }


def _catalog() -> Catalog:
    return named(open_repositories(load_settings()), None).catalog


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


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
