"""`reanimate restore points`: the points of a backup that a live collection lacks, chosen by id or filter."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.commands.moments import moment
from reanimate.commands.output import JsonFlag, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.commands.restore_tables import rows
from reanimate.errors import InputInvalid
from reanimate.protection.restore_plans import plan_for
from reanimate.protection.single_points import Recovered, recover_points, undo_recovery
from reanimate.restores.candidates import Wish
from reanimate.restores.points import Comparison, Undo, selection
from reanimate.vector.server import Json

__all__ = ["points"]

_SHOWN = 20


def points(
    collection: Annotated[str, typer.Option("--collection", help="A live collection, or an alias of one.")] = "",
    ids: Annotated[str | None, typer.Option("--ids", metavar="ID,ID,…", help="These points.")] = None,
    filter_json: Annotated[
        str | None, typer.Option("--filter", metavar="JSON", help="Points that match a filter of the vector server.")
    ] = None,
    backup: Annotated[str | None, typer.Option("--backup", metavar="ID", help="From this backup.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="From the newest until then.")] = None,
    newest_proven: Annotated[bool, typer.Option("--newest-proven", help="From the newest proven one.")] = False,
    repository: Annotated[str | None, typer.Option("--repository", metavar="NAME", help="Only from there.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="The vector target; else the primary.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write over points that differ; they are kept in a file first.")
    ] = False,
    undo: Annotated[
        Path | None, typer.Option("--undo", metavar="FILE", help="Take back what was written, by the file it kept.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
    json: JsonFlag = False,
) -> None:
    """Put single points of a backup back into a live collection. Without --ids or --filter: all that are missing."""
    if undo is not None:
        _show_undo(*run(lambda: _undo(undo, target, dry_run=dry_run)), dry_run=dry_run, json=json)
        return
    with progress_bars() as report:
        found = run(
            lambda: _recover(
                Wish(collection, backup, moment(at), newest_proven),
                selection(ids, filter_json),
                repository,
                target,
                report,
                overwrite=overwrite,
                dry_run=dry_run,
            )
        )
    if json:
        print_json(_as_json(found))
        return
    _show(found, overwrite=overwrite)


async def _recover(
    wish: Wish,
    only: Json | None,
    repository: str | None,
    target: str | None,
    report: Report,
    *,
    overwrite: bool,
    dry_run: bool,
) -> Recovered:
    if not wish.collection:
        raise InputInvalid("--collection is missing", hint="name the live collection, or an alias of it")
    async with open_services() as services:
        planned = await plan_for(services, wish, target=target, repository=repository, by_engine=True)
        return await recover_points(
            services, planned, wish.collection, only, overwrite=overwrite, dry_run=dry_run, on_progress=report
        )


async def _undo(file: Path, target: str | None, *, dry_run: bool) -> tuple[str, Undo]:
    async with open_services() as services:
        name = target or services.settings.vector.primary.name
        return await undo_recovery(services, file, name, dry_run=dry_run)


def _as_json(found: Recovered) -> Json:
    written = found.written
    return {
        "backup_id": found.planned.plan.backup_id,
        "repository": found.planned.plan.repository,
        "selected": found.compared.selected,
        "missing": found.compared.missing,
        "differing": found.compared.differing,
        "same": found.compared.same,
        "written": written
        and {
            "missing": written.missing,
            "overwritten": written.overwritten,
            "undo_file": written.undo_file and str(written.undo_file),
        },
    }


def _show(found: Recovered, *, overwrite: bool) -> None:
    plan, compared, written = found.planned.plan, found.compared, found.written
    rows(
        {
            "from": f"{plan.backup_id} in {plan.repository}, {plan.proof}, taken {plan.taken_at:%Y-%m-%d %H:%M} UTC",
            "selected": f"{compared.selected} points of the backup",
            "missing": f"{len(compared.missing)} are not in the live collection",
            "differing": f"{len(compared.differing)} differ" + ("" if overwrite else ", and stay (--overwrite)"),
            "same": compared.same,
        }
    )
    _show_some(compared)
    if written is None:
        out.print("nothing was written (--dry-run)")
    elif written.undo_file is None:
        out.print("nothing had to be written")
    else:
        out.print(
            f"wrote {written.missing} missing and {written.overwritten} differing points, each read back and equal"
        )
        out.print(f"to take it back: reanimate restore points --undo {escape(str(written.undo_file))}", soft_wrap=True)


def _show_some(compared: Comparison) -> None:
    if not compared.titles:
        return
    missing = set(compared.missing)
    table = Table("id", "", "payload in the backup", box=None, pad_edge=False)
    for point_id, title in list(compared.titles.items())[:_SHOWN]:
        table.add_row(str(point_id), "missing" if point_id in missing else "differs", escape(title))
    out.print(table)
    if (more := len(compared.missing) + len(compared.differing) - len(compared.titles)) > 0:
        out.print(f"… and {more} more")


def _show_undo(name: str, undo: Undo, *, dry_run: bool, json: bool) -> None:
    if json:
        print_json(
            {
                "collection": name,
                "removed": undo.removed,
                "put_back": undo.put_back,
                "changed_since": undo.changed_since,
                "dry_run": dry_run,
            }
        )
        return
    would = "would remove" if dry_run else "removed"
    out.print(
        f"{escape(name)}: {would} {undo.removed} points that were missing before, put back {undo.put_back} as they were"
    )
    if undo.changed_since:
        some = ", ".join(map(str, undo.changed_since[:10]))
        out.print(f"[yellow]{len(undo.changed_since)} were changed since and stay as they are:[/] {escape(some)}")
