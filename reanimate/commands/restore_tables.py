"""How restores are shown to people."""

import shlex
from typing import Any

from rich.markup import escape
from rich.table import Table

from reanimate.commands.output import err, id_column, out
from reanimate.protection.restoring import Done
from reanimate.restores.carrying import Carried
from reanimate.restores.plan import Candidate, RestorePlan
from reanimate.restores.wording import plan_lines

__all__ = ["print_done", "print_plan", "rows"]


def print_plan(plan: RestorePlan) -> None:
    """Print what would be done, on standard output; what to think of first, on standard error."""
    rows(plan_lines(plan))
    for warning in plan.warnings:
        err.print(f"[yellow]note:[/] {escape(warning)}")
    if plan.others:
        titles = (id_column("not chosen"), "in", "taken (UTC)", "points", "proof", "why not")
        others = Table(*titles, box=None, pad_edge=False)
        for other in plan.others:
            others.add_row(*_cells(other))
        out.print(others)


def rows(lines: dict[str, Any]) -> None:
    """Print names and values, a line each."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in lines.items():
        table.add_row(f"[dim]{name}[/]", escape(str(value)))
    out.print(table)


def _cells(other: Candidate) -> tuple[str, ...]:
    taken = other.taken_at[:19].replace("T", " ") if other.taken_at else "–"
    points = "–" if other.points is None else str(other.points)
    return other.id, other.repository, taken, points, other.proof or "–", escape(other.reason)


def print_done(done: Done, *, asked: str) -> None:
    """Print what came of a restore."""
    plan, verification = done.planned.plan, done.restored.verification
    checks = len(verification.checks)
    how = "every id compared" if verification.depth == "deep" else "count, known points and known answers compared"
    out.print(
        f"restored as [bold]{escape(done.restored.name)}[/] in {done.took_s:g} s: {checks} of {checks} checks passed, "
        f"{plan.points} points, {how}"
    )
    out.print(f"{escape(', '.join(done.restored.switch.after) or 'no alias')} now point to it")
    for label, found in (("before the switch", "carried"), ("right after it", "carried_late")):
        if done.report[found] is not None and (found == "carried" or done.report[found]["added"]):
            out.print(escape(_carried(Carried(**done.report[found]), label)))
    if during := done.report["writes_during"]:
        named = ", ".join(f"{count} to {name}" for name, count in during.items())
        err.print(f"[yellow]note:[/] while it went on the gateways acknowledged writes: {escape(named)}")
    if done.old:
        out.print(
            f"{escape(', '.join(done.old))} is kept at least until {done.keep_until:%Y-%m-%d %H:%M} UTC "
            "(reanimate restore forget removes it after that)"
        )
    if done.restored.switch.after:
        named = f"--collection {shlex.quote(asked)} --target {shlex.quote(plan.target)}"
        out.print(f"to go back: reanimate restore undo {escape(named)}", soft_wrap=True)


def _carried(found: Carried, when: str) -> str:
    text = (
        f"compared with the live collection {when}: {found.added} points the backup does not have, "
        f"{found.changed} differ, {found.deleted} had been deleted; {found.carried} carried over"
    )
    left = [*found.changed_ids[:5]] if found.carried < found.added + found.changed else []
    return text + (f" (not carried over, for one: {', '.join(map(str, left))})" if left else "")
