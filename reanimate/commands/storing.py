"""`reanimate backup copy | verify | forget`: copies elsewhere, and whether stored backups are still what they were."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.backups.manifest import Manifest
from reanimate.backups.repositories import Repository, named, open_repositories
from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.config import load_settings
from reanimate.errors import InputInvalid, NotFound
from reanimate.incidents.wording import size
from reanimate.protection.copies import Copies, copy_backups
from reanimate.protection.rereading import Rereading, Scope, reread

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add these commands to `reanimate backup`."""
    for command in (copy, verify, forget):
        app.command(command.__name__)(command)


def copy(
    to: Annotated[str, typer.Option("--to", help="The repository that gets the copies.")],
    backup_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="As `reanimate backup list` shows them.")
    ] = None,
    source: Annotated[str | None, typer.Option("--from", help="The one that has them; else the first.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every backup that the other one lacks.")] = False,
    json: JsonFlag = False,
) -> None:
    """Copy backups into another repository as they are stored, each byte held against the manifest on the way.

    What a backup builds on comes along. Cut short, the same command goes on; what is there and right is not sent again.
    """
    with progress_bars() as report:
        copies = run(lambda: _copy(backup_ids or [], everything, to, source, report))
    if json:
        rows = [
            {"id": one.id, "sent_bytes": one.sent, "there_bytes": one.there, "new": one.new} for one in copies.copied
        ]
        print_json({"to": to, "copied": rows, "failed": copies.failed})
    else:
        _show_copies(copies, to)
    if copies.failed:
        raise typer.Exit(1)


async def _copy(backup_ids: list[str], everything: bool, to: str, source: str | None, report: Report) -> Copies:
    if everything == bool(backup_ids):
        raise InputInvalid("copying backups: name some, or all of them with --all")
    settings = load_settings()
    return await copy_backups(
        open_repositories(settings),
        None if everything else backup_ids,
        to=to,
        source=source,
        parallel=settings.backups.parallel,
        on_progress=report,
    )


def _show_copies(copies: Copies, to: str) -> None:
    for one in copies.copied:
        rest = f", {size(one.there)} were there already" if one.there else ""
        out.print(f"[bold]{escape(one.id)}[/] is in {escape(to)}: {size(one.sent)} sent{rest}")
    for backup_id, problem in copies.failed.items():
        err.print(f"[bold red]not copied:[/] {escape(backup_id)}: {escape(problem)}", soft_wrap=True)
    if not copies.copied and not copies.failed:
        out.print(f"{escape(to)} has them all already")


def verify(
    backup_id: Annotated[str | None, typer.Argument(metavar="ID", help="One backup, with what it builds on.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every backup.")] = False,
    share: Annotated[
        bool, typer.Option("--share", help="What is due tonight, so that all are read in a month.")
    ] = False,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read and hash every byte; else only see whether all is there.")
    ] = False,
    repository: Annotated[str | None, typer.Option("--repository", help="Where; else the first repository.")] = None,
    json: JsonFlag = False,
) -> None:
    """See whether stored backups are still what their manifests say. A damaged one is marked and used for nothing."""
    with progress_bars() as report:
        found = run(lambda: _verify(backup_id, everything, share, read_data, repository, report))
    if json:
        print_json(_rereading(found))
    else:
        _show_rereading(found, read_data)
    if not found.ok:
        raise typer.Exit(1)


async def _verify(
    backup_id: str | None, everything: bool, share: bool, read_data: bool, repository: str | None, report: Report
) -> Rereading:
    if (backup_id is not None) + everything + share > 1:
        raise InputInvalid("verifying backups: one by its ID, --all or --share, not several of these")
    scope: Scope = [backup_id] if backup_id is not None else "share" if share else "all"
    if share and not read_data:
        raise InputInvalid("verifying a share of the backups means reading it: add --read-data")
    settings = load_settings()
    async with _opened() as (repositories, sessions):
        return await reread(
            named(repositories, repository),
            sessions,
            scope,
            read_data=read_data,
            parallel=settings.backups.parallel,
            on_progress=report,
        )


@asynccontextmanager
async def _opened() -> AsyncIterator[tuple[dict[str, Repository], async_sessionmaker[AsyncSession] | None]]:
    """Open the repositories, and the record if there is a system that has one: backups can be read without."""
    try:
        async with open_services() as services:
            yield services.repositories, services.sessions
            return
    except NotFound:
        pass
    yield open_repositories(load_settings()), None


def _rereading(found: Rereading) -> dict[str, Any]:
    return {
        "repository": found.repository,
        "ok": found.ok,
        "parts": found.of,
        "read": [
            {"key": read.part.key, "bytes": read.part.size, "ok": read.ok, "problem": read.problem or None}
            for read in found.reads
        ],
        "damaged": found.damaged,
        "mended": found.mended,
        "unusable": {one.id: one.reason for one in found.unusable},
        "unread": found.unread,
        "strangers": found.strangers,
    }


def _show_rereading(found: Rereading, read_data: bool) -> None:
    for read in found.reads:
        if not read.ok:
            err.print(f"[bold red]damaged:[/] {escape(read.part.key)}: {escape(read.problem)}", soft_wrap=True)
    for key, problem in found.unread.items():
        err.print(f"[yellow]not read:[/] {escape(key)}: {escape(problem)}", soft_wrap=True)
    for one in found.unusable:
        err.print(f"[bold red]unusable:[/] {escape(one.id)}: {escape(one.reason)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    read_bytes = sum(read.part.size for read in found.reads)
    verb = "read and hashed" if read_data else "looked at, not read"
    table.add_row("[dim]parts[/]", f"{len(found.reads)} of {found.of}, {size(read_bytes)}, {verb}")
    table.add_row("[dim]damaged[/]", escape(", ".join(found.damaged)) or "none")
    if found.strangers:
        table.add_row("[dim]known to no manifest[/]", escape(", ".join(found.strangers)))
    if found.mended:
        table.add_row("[dim]right again[/]", escape(", ".join(found.mended)))
    out.print(table)


def forget(
    backup_id: Annotated[str, typer.Argument(metavar="ID", help="A backup that is gone and was the newest.")],
    repository: Annotated[str | None, typer.Option("--repository", help="Where it was; else the first.")] = None,
) -> None:
    """Say that a backup was removed on purpose, so that its absence is no sign of a repository that was put back."""
    run(lambda: _forget(backup_id, repository))
    out.print(f"{escape(backup_id)} is no longer missed")


async def _forget(backup_id: str, repository: str | None) -> None:
    where = named(open_repositories(load_settings()), repository)
    if any(one.manifest.id == backup_id for one in where.catalog.published(Manifest)):
        raise InputInvalid(f"{backup_id} is there", hint="`reanimate backup delete` removes it")
    if not where.catalog.memory.forget(backup_id):
        raise NotFound(f"no backup {backup_id!r} is missed in {where.name}")
