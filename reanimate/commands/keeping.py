"""`reanimate backup retain | pin | unpin | hold | release | delete | undelete`: what stays, and for how long."""

from itertools import groupby
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.backups.repositories import Repository, open_repositories
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, id_column, out, print_json, run
from reanimate.commands.progress import progress_bars
from reanimate.config import load_settings
from reanimate.incidents.wording import size
from reanimate.protection import keeping
from reanimate.protection.retention import Action, Outcome, retain_everywhere

__all__ = ["add_to"]

BackupId = Annotated[str, typer.Argument(metavar="ID", help="As `reanimate backup list` shows it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the mark.")]

_COLOUR = {
    Action.KEPT: "green",
    Action.DELETED: "yellow",
    Action.WAITING: "yellow",
    Action.REMOVED: "red",
    Action.TAKEN_BACK: "cyan",
    Action.REFUSED: "bold red",
}
_FORETOLD = {
    Action.KEPT: "keep",
    Action.DELETED: "delete",
    Action.WAITING: "wait",
    Action.REMOVED: "remove",
    Action.TAKEN_BACK: "take back",
    Action.REFUSED: "refuse",
}


def add_to(app: typer.Typer) -> None:
    """Add these commands to `reanimate backup`."""
    for command in (retain, pin, unpin, hold, release, delete, undelete):
        app.command(command.__name__)(command)


def retain(
    repository: Annotated[str | None, typer.Option("--repository", help="Only this repository; else all.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Delete what the rule no longer keeps, and say of every backup why it stays or goes.

    A deleted backup is hidden, and can be had back with `undelete` until its grace is over; then its bytes go.
    """
    settings = load_settings()
    with progress_bars() as report:
        outcomes = run(
            lambda: retain_everywhere(
                open_repositories(settings),
                zone=settings.backups.timezone,
                now=utcnow(),
                dry_run=dry_run,
                only=repository,
                on_progress=report,
            )
        )
    if json:
        print_json({name: [_row(one) for one in some] for name, some in outcomes.items()})
        return
    for name, some in outcomes.items():
        _show(name, some, dry_run)


def pin(backup_id: BackupId, reason: Reason, json: JsonFlag = False) -> None:
    """Keep a backup whatever the rule says, until `unpin`."""
    _say(backup_id, "pinned", _marked(backup_id, "pinned", reason), json)


def unpin(backup_id: BackupId, json: JsonFlag = False) -> None:
    """Leave a backup to the rule again."""
    where = run(lambda: keeping.take_mark_back(_repositories(), backup_id, "pinned"))
    _say(backup_id, "unpinned", where, json)


def hold(backup_id: BackupId, reason: Reason, json: JsonFlag = False) -> None:
    """Put a backup under legal hold: neither the rule nor a person deletes it until `release`."""
    _say(backup_id, "held", _marked(backup_id, "held", reason), json)


def release(backup_id: BackupId, json: JsonFlag = False) -> None:
    """End the legal hold of a backup."""
    where = run(lambda: keeping.take_mark_back(_repositories(), backup_id, "held"))
    _say(backup_id, "released", where, json)


def delete(
    backup_id: BackupId,
    reason: Reason,
    force: Annotated[bool, typer.Option("--force", help="Also the last proven one, and one others build on.")] = False,
    json: JsonFlag = False,
) -> None:
    """Delete a backup by hand; `undelete` takes that back until the grace is over and `retain` removes the bytes."""
    by, now = keeping.by_hand(), utcnow()
    until = run(lambda: keeping.delete(_repositories(), backup_id, by=by, reason=reason, now=now, force=force))
    if json:
        print_json({"id": backup_id, "state": "deleted", "until": until})
        return
    for name, end in until.items():
        out.print(
            f"{escape(backup_id)} is deleted in {escape(name)}; until {end:%Y-%m-%d %H:%M} UTC it can be had back"
        )


def undelete(backup_id: BackupId, reason: Reason = "taken back by hand", json: JsonFlag = False) -> None:
    """Have a deleted backup back. It is pinned, or the rule would delete it again."""
    by, now = keeping.by_hand(), utcnow()
    where = run(lambda: keeping.undelete(_repositories(), backup_id, by=by, reason=reason, now=now))
    _say(backup_id, "back, and pinned", where, json)


def _repositories() -> dict[str, Repository]:
    return open_repositories(load_settings())


def _marked(backup_id: str, what: Any, reason: str) -> list[str]:
    by, now = keeping.by_hand(), utcnow()
    return run(lambda: keeping.mark(_repositories(), backup_id, what, by=by, reason=reason, now=now))


def _say(backup_id: str, state: str, where: list[str], json: bool) -> None:
    if json:
        print_json({"id": backup_id, "state": state, "repositories": where})
        return
    out.print(f"{escape(backup_id)} is {state} in {escape(', '.join(where))}")


def _row(outcome: Outcome) -> dict[str, Any]:
    backup = outcome.verdict.backup
    return {
        "id": backup.id,
        "kind": backup.kind,
        "subject": backup.subject,
        "taken_at": backup.taken_at,
        "size_bytes": backup.size,
        "keep": outcome.verdict.keep,
        "reasons": outcome.verdict.reasons,
        "action": outcome.action,
        "until": outcome.until,
        "detail": outcome.detail or None,
    }


def _show(repository: str, outcomes: tuple[Outcome, ...], dry_run: bool) -> None:
    if not outcomes:
        err.print(f"Nothing has been published in {escape(repository)}.")
        return
    title = f"{escape(repository)}{' (dry run: nothing is done)' if dry_run else ''}"
    table = Table(id_column("backup"), "of", "taken (UTC)", "size", "", "why", box=None, pad_edge=False, title=title)
    table.title_justify = "left"
    for _, same in groupby(outcomes, key=_alike):
        rows = list(same)
        shown = rows if len(rows) <= 3 else rows[:1]
        for one in shown:
            table.add_row(*_cells(one, dry_run))
        if hidden := rows[len(shown) :]:
            hidden_size = size(sum(one.verdict.backup.size for one in hidden))
            table.add_row(f"[dim]and {len(hidden)} more like it[/]", "", "", hidden_size)
    out.print(table)
    kept = [one.verdict.backup.size for one in outcomes if one.verdict.keep]
    gone = [one.verdict.backup.size for one in outcomes if not one.verdict.keep]
    out.print(f"{len(kept)} stay, {size(sum(kept))}; {len(gone)} go, {size(sum(gone))}", highlight=False)
    for one in outcomes:
        if one.detail:
            err.print(f"[yellow]note:[/] {escape(one.verdict.backup.id)}: {escape(one.detail)}")


def _alike(outcome: Outcome) -> tuple[object, ...]:
    backup = outcome.verdict.backup
    return backup.kind, backup.subject, outcome.action, outcome.verdict.reasons, bool(backup.base)


def _cells(outcome: Outcome, dry_run: bool) -> tuple[str, ...]:
    backup, action = outcome.verdict.backup, outcome.action
    until = f", to be had back until {outcome.until:%m-%d %H:%M}" if outcome.until else ""
    return (
        escape(backup.id),
        escape(backup.subject if backup.kind == "vector" else f"{backup.kind} {backup.subject}"),
        f"{backup.taken_at:%Y-%m-%d %H:%M}",
        size(backup.size),
        f"[{_COLOUR[action]}]{_FORETOLD[action] if dry_run else action}[/]",
        escape("; ".join(outcome.verdict.reasons) + until),
    )
