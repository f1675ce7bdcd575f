"""How commands show Postgres restores: plans, checks, renames."""

from rich.markup import escape
from rich.table import Table

from reanimate.commands.output import err, id_column, out
from reanimate.dumps.plan import DatabasePlan
from reanimate.dumps.rename import Renamed
from reanimate.dumps.verification import Verification

__all__ = ["print_checks", "print_plan", "print_renamed"]


def print_checks(verification: Verification) -> None:
    """Print a table of what was held against the manifest."""
    table = Table("check", "", "expected", "found", box=None, pad_edge=False)
    for check in verification.checks:
        word = "[green]ok[/]" if check.passed else "[bold red]wrong[/]"
        table.add_row(check.name, word, escape(check.expected), escape(check.found))
    out.print(table)


def print_plan(plan: DatabasePlan) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    lines = {
        "backup": f"{plan.backup_id}, {plan.why}",
        "holds": f"{plan.rows} rows in {plan.tables} tables, {plan.dump_bytes / 1e6:.1f} MB, of {plan.made_by}",
        "proven": f"{plan.proven_at:%Y-%m-%d %H:%M:%S} UTC" if plan.proven_at else "not yet",
        "lost": plan.lost,
        "goes to": f"{plan.new_name} on {plan.where} (Postgres {plan.server_major})",
        "space": f"about {plan.database_bytes / 1e6:.1f} MB there, {plan.dump_bytes / 1e6:.1f} MB here on its way",
        "last time": f"{plan.took_last_s:.1f} s" if plan.took_last_s is not None else "not known",
        **{f"step {number}": step for number, step in enumerate(plan.steps, 1)},
    }
    for name, value in lines.items():
        table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    for warning in plan.warnings:
        err.print(f"[yellow]note:[/] {escape(warning)}")
    if plan.others:
        others = Table(id_column("not chosen"), "taken (UTC)", "rows", "why not", box=None, pad_edge=False)
        for other in plan.others:
            rows = "–" if other.rows is None else str(other.rows)
            others.add_row(other.id, other.taken_at or "–", rows, escape(other.reason))
        out.print(others)


def print_renamed(database: str, renamed: Renamed) -> None:
    ended = f"; {renamed.ended} session(s) were ended" if renamed.ended else ""
    kept = f"; the one before is kept as {renamed.kept}" if renamed.kept else ""
    out.print(f"{escape(renamed.database)} is now what was {escape(renamed.is_now)}{escape(kept)}{ended}")
    out.print(f"to go back: reanimate restore postgres undo --database {escape(database)}")
