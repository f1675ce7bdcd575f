"""How `reanimate llm` shows changes, steps back and the present state."""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from reanimate.commands.output import err, id_column, is_narrow, out
from reanimate.incidents.wording import moment
from reanimate.switches.changing import Change
from reanimate.switches.llm_traffic import STATES
from reanimate.switches.recovering import Round

__all__ = ["holds_table", "show_change", "show_recovery", "show_status"]

_LEVELS = {"normal": "green", "degraded": "yellow", "minimal": "red"}
_COLOURS = {"closed": "green", "ramping": "yellow", "suspect": "yellow", "open": "red"}


def _value(value: Any) -> str:
    return "[dim]as always[/]" if value is None else f"[bold]{escape(str(value))}[/]"


def show_change(change: Change, back: str) -> None:
    """Show, for each gateway, what a switch was and what it is now, and how to go back."""
    if not change.effects:
        _show_claims(change)
    else:
        table = Table("gateway", "switch", "scope", "before", "after", "")
        for effect in change.effects:
            said = "[yellow]dry run[/]" if change.seq is None else escape(effect.obeyed)
            table.add_row(
                effect.gateway, effect.switch, effect.scope, _value(effect.before), _value(effect.after), said
            )
        out.print(table)
    for name, why in change.silent.items():
        err.print(f"[yellow]gateway {name} was not reached:[/] {escape(why)}; it asks by itself when it is back")
    if change.seq is None:
        out.print("nothing was changed", highlight=False)
    elif change.placed or change.lifted:
        out.print(f"change {change.seq}; to go back: [bold]{escape(back)}[/]", highlight=False)


def _show_claims(change: Change) -> None:
    """Show what is wanted where no gateway answers that could say what it came to."""
    if not (change.placed or change.lifted):
        out.print("nothing to change")
    would = "would be " if change.seq is None else ""
    for claim in change.placed:
        out.print(f"{would}held: {claim.switch} of {claim.scope} = {claim.value}", highlight=False)
    for claim in change.lifted:
        out.print(f"{would}lifted: {claim.switch} of {claim.scope} = {claim.value}", highlight=False)


def show_recovery(rounds: Sequence[Round], dry_run: bool) -> None:
    """Show the steps back, and how calls went at each."""
    table = Table("step", "held then", "lifted", "calls", "unanswered")
    for number, item in enumerate(rounds, start=1):
        held = ", ".join(f"{c.switch} of {c.scope} = {c.value}" for c in item.change.placed) or "nothing"
        lifted = ", ".join(f"{c.switch} of {c.scope}" for c in item.change.lifted)
        calls, failed = (item.answered.calls, item.answered.failed) if item.answered else ("", "")
        table.add_row(str(number), escape(held), escape(lifted), str(calls), str(failed))
    out.print(table)
    out.print("nothing was changed" if dry_run else "all of it is back; what other causes hold stays")


def show_status(status: dict[str, Any]) -> None:
    """Show level, targets and rules of each gateway, and the holds."""
    for name, said in status["gateways"].items():
        if said is None or "error" in said:
            why = "it has no LLM plane" if said is None else said["error"]
            out.print(f"[bold]{name}[/]: [yellow]{escape(str(why))}[/]")
            continue
        _show_gateway(name, said)
    if not status["holds"]:
        out.print("no person and no incident holds anything")
        return
    out.print(holds_table(status["holds"], narrow=is_narrow()))


def holds_table(holds: Sequence[dict[str, Any]], *, narrow: bool) -> Table:
    """Return holds as a table; a narrow one leaves out since when, which `--json` has."""
    table = Table(*map(id_column, ("switch", "scope", "value", "cause")), "reason", box=None, pad_edge=False)
    if not narrow:
        table.add_column("since (UTC)")
    for hold in holds:
        told = [
            hold["switch"],
            escape(hold["scope"]),
            str(hold["value"]),
            escape(hold["cause"]),
            escape(hold["reason"]),
        ]
        table.add_row(*told, *([] if narrow else [f"{hold['placed_at']:%Y-%m-%d %H:%M:%S}"]))
    return table


def _show_gateway(name: str, said: dict[str, Any]) -> None:
    policies = said.get("policies") or {}
    level = policies.get("level", "normal")
    waiting = sum((policies.get("waiting") or {}).values())
    asked, failed = said.get("samples", 0), said.get("failed", 0)
    out.print(
        f"[bold]{name}[/]: [{_LEVELS.get(level, 'red')}]{level}[/]; last minute: {asked} calls for providers, "
        f"{failed} unanswered, {waiting} waiting",
        highlight=False,
    )
    health, targets = said.get("health") or {}, said.get("targets") or {}
    if health or targets:
        table = Table("target", "state", "attempts", "failed", "p95 ms", "why")
        for target in dict.fromkeys([*health, *targets]):
            how, counted = health.get(target) or {}, targets.get(target) or {}
            standing = how.get("standing", "closed")
            p95 = counted.get("p95_ms")
            table.add_row(
                target,
                f"[{_COLOURS.get(standing, 'red')}]{STATES.get(standing, standing)}[/]",
                str(counted.get("samples", 0)),
                str(counted.get("failed", 0)),
                "" if p95 is None else f"{p95:.0f}",
                escape(str(how.get("detail") or "")),
            )
        out.print(table)
    for rule in policies.get("rules") or ():
        for held in rule["holds"]:
            out.print(
                f"  rule [bold]{rule['name']}[/] holds {held['scope']} since {moment(held['since'])}: {rule['signal']} "
                f"was {held['worst']:.4g} (above {rule['above']:g}); step {held['step']} of {held['steps']}",
                highlight=False,
            )
