"""`reanimate config …`: versions of configuration files and server settings: keep, history, diff, restore."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.progress import Report, progress_bars
from reanimate.config import load_settings
from reanimate.config_history.differences import Line
from reanimate.config_history.keeping import ConfigHistory, Kept
from reanimate.config_history.restoring import Plan, Restored, plan_version, restore_version
from reanimate.config_history.states import difference
from reanimate.config_history.subjects import Setting, is_setting, subject_of
from reanimate.config_history.versions import Version, choose
from reanimate.errors import NotFound
from reanimate.protection.configuration import open_history

__all__ = ["app"]

app = typer.Typer(help="Versions of configuration: keep, history, diff, restore.", no_args_is_help=True)

PathArgument = Annotated[
    str,
    typer.Argument(metavar="PATH", help="A file, or a setting: qdrant:primary/collections/kb, qdrant:primary/aliases."),
]
_VERSION_HELP = "An id (or its beginning), latest, previous, or a time (ISO 8601, UTC unless it says)."
_STYLES = {"head": "bold", "same": "", "less": "red", "more": "green", "note": "yellow"}


@app.command()
def keep(json: JsonFlag = False) -> None:
    """Keep a version of everything that has changed, now. It also happens by itself, every few minutes."""
    with progress_bars() as report:
        kept = run(lambda: _keep(report))
    if json:
        print_json(
            {
                "manifest": kept.manifest.id if kept.manifest else None,
                "watched": kept.watched,
                "changes": [version.model_dump(mode="json") for version in kept.changes],
                "problems": kept.problems,
            }
        )
        return
    if kept.changes:
        out.print(_table(kept.changes))
    out.print(f"{len(kept.changes)} new versions of {kept.watched} files and settings")
    for problem in kept.problems:
        err.print(f"[yellow]note:[/] {escape(problem)}")
    if not kept.watched:
        err.print("nothing is named: see \\[configuration] files in the settings")


@app.command("history")
def show_history(
    path: Annotated[str | None, typer.Argument(metavar="PATH", help="Only of this file or setting.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most; the newest.")] = 50,
    json: JsonFlag = False,
) -> None:
    """List versions, newest first: when, what, and by whom."""
    versions = run(lambda: _versions(path))
    if json:
        print_json([version.model_dump(mode="json") for version in versions[:limit]])
        return
    if not versions:
        err.print("No version has been kept." if path is None else f"No version of {escape(path)} has been kept.")
        return
    out.print(_table(versions[:limit]))
    if len(versions) > limit:
        err.print(f"and {len(versions) - limit} older ones; --limit shows more")


@app.command()
def diff(
    path: PathArgument,
    before: Annotated[str | None, typer.Option("--from", metavar="V", help=_VERSION_HELP)] = None,
    after: Annotated[str | None, typer.Option("--to", metavar="V|live", help="Likewise, or live.")] = None,
    json: JsonFlag = False,
) -> None:
    """Show what differs between two versions, or one and what is there now. Secrets are hidden.

    Without versions: the newest one against what is there now; if that is the same, the one before it against it.
    """
    lines = run(lambda: _diff(path, before, after))
    if json:
        print_json([{"kind": line.kind, "text": line.text} for line in lines])
    elif lines:
        _print_lines(lines)
    else:
        err.print("no difference")


@app.command()
def restore(
    path: PathArgument,
    version: Annotated[str, typer.Option("--version", metavar="V", help=_VERSION_HELP)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and the difference.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Put a version back. What is there now is kept as a version first; putting that one back undoes it."""
    if dry_run:
        plan = run(lambda: _plan(path, version))
        print_json(plan.to_json()) if json else _print_plan(plan)
        return
    restored = run(lambda: _restore(path, version))
    if json:
        ids = {"before": restored.before and restored.before.id, "after": restored.after and restored.after.id}
        print_json({**restored.plan.to_json(), **ids})
        return
    _print_plan(restored.plan)
    if restored.plan.does:
        out.print(f"[green]done[/]: {escape(restored.plan.version.subject)} is as in {restored.plan.version.id}")
        if restored.before:
            shown = escape(restored.before.subject)
            out.print(f"to go back: reanimate config restore {shown} --version {restored.before.id}", soft_wrap=True)


# -- what the commands do ----------------------------------------------------------------------------------------------


async def _keep(report: Report) -> Kept:
    async with open_history(load_settings()) as history:
        return await history.keep(on_progress=report)


async def _versions(path: str | None) -> list[Version]:
    async with open_history(load_settings()) as history:
        return await history.versions(None if path is None else await _subject(history, path))


async def _diff(path: str, before: str | None, after: str | None) -> list[Line]:
    async with open_history(load_settings()) as history:
        return await difference(history, await _subject(history, path), before, after)


async def _plan(path: str, asked: str) -> Plan:
    async with open_history(load_settings()) as history:
        return await plan_version(history, await _chosen(history, path, asked))


async def _restore(path: str, asked: str) -> Restored:
    async with open_history(load_settings()) as history:
        return await restore_version(history, await _chosen(history, path, asked))


async def _chosen(history: ConfigHistory, path: str, asked: str) -> Version:
    return choose(await history.versions(await _subject(history, path)), asked)


async def _subject(history: ConfigHistory, given: str) -> str:
    """Return the subject that a person means: a setting, a path from here, or a subject as we print it.

    Raises:
        NotFound: nothing of that name was ever kept.
    """
    subject = Setting.parse(given).subject if is_setting(given) else subject_of(_from_here(given))
    known = {version.subject for version in await history.versions()}
    for name in (subject, given):
        if name in known:
            return name
    raise NotFound(f"no version of {subject} has been kept", hint="`reanimate config history` lists what has")


def _from_here(given: str) -> str:
    return os.path.normpath(Path(given).expanduser().absolute())


# -- what they print ---------------------------------------------------------------------------------------------------


def _table(versions: Sequence[Version]) -> Table:
    table = Table(
        "found (UTC)",
        "version",
        Column("what", overflow="fold"),
        "content",
        Column("by", overflow="fold"),
        box=None,
        pad_edge=False,
    )
    for version in versions:
        found, what = f"{version.found_at:%Y-%m-%d %H:%M:%S}", escape(version.subject)
        table.add_row(found, f"[bold]{version.id}[/]", what, _content(version), escape(str(version.author)))
    return table


def _content(version: Version) -> str:
    if version.kind in ("deleted", "unreadable", "too_large"):
        return f"[yellow]{version.kind.replace('_', ' ')}[/]"
    size = "" if version.size is None else f"{version.size} B"
    mode = f", {version.mode}" if version.mode else ""
    link = f" → {escape(version.link)}" if version.link else ""
    return f"{size}{mode}{link}"


def _print_plan(plan: Plan) -> None:
    if not plan.does:
        out.print(f"{escape(plan.version.subject)} is as in {plan.version.id} already")
    for step in plan.does:
        out.print(f"• {escape(step)}")
    for what in plan.cannot:
        out.print(f"[red]cannot:[/] {escape(what)}")
    for note in plan.notes:
        out.print(f"[yellow]note:[/] {escape(note)}")
    _print_lines(plan.difference)


def _print_lines(lines: Iterable[Line]) -> None:
    for line in lines:
        sign = {"less": "-", "more": "+"}.get(line.kind, "") if not line.text.startswith(("-", "+")) else ""
        out.print(Text(f"{sign}{line.text}", style=_STYLES[line.kind]), soft_wrap=True)
