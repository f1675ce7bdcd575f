"""`reanimate llm call ID`: all that was done for one call."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from reanimate.bootstrap import open_services
from reanimate.commands.output import JsonFlag, out, print_json, run
from reanimate.switches.llm_traffic import find_call

__all__ = ["call"]

_ENDINGS = {"answered": "green", "degraded": "yellow", "rejected": "yellow", "failed": "red", "abandoned": "dim"}


def call(
    call_id: Annotated[str, typer.Argument(metavar="ID", help="As the answer says in X-Reanimate-Call.")],
    json: JsonFlag = False,
) -> None:
    """Look a call up: who was asked when, what each did, who answered, what it cost."""

    async def look() -> dict[str, Any]:
        async with open_services() as services:
            return await find_call(services, call_id)

    found = run(look)
    if json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    ending, usage = found["ending"], found["usage"]
    out.print(f"[bold]{escape(found['id'])}[/]  [{_ENDINGS.get(ending, 'red')}]{ending}[/]", highlight=False)
    facts = {
        "at": f"{datetime.fromtimestamp(found['began'], UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC",
        "took": f"{found['took_ms']:.0f} ms",
        "gateway": found["gateway"],
        "asked for": f"{found['asked_for']} (route {found['route']}), {found['shape']}"
        + (", streamed" if found["stream"] else ""),
        "tenant": found["tenant"],
        "answered by": found["answered_by"] or ("the cache" if found["cache"] in ("hit", "stale") else "nobody"),
        "cache": found["cache"],
        "degraded": "; ".join(found["degraded"]) or "no",
        "tokens": f"{usage['input']} in, {usage['output']} out" + (", estimated" if usage.get("estimated") else ""),
        "cost": f"{found['cost']:.6f}",
    }
    if (error := found["error"]) is not None:
        facts["error"] = f"{error['status']} {error['kind']}: {error['message']}"
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(f"[dim]{name}[/]", escape(value))
    out.print(table)
    if found["attempts"]:
        out.print(_attempts(found["attempts"]))


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    table = Table("asked", "why", "key", "began", "first token", "ended", "outcome", "status", "what was found")
    for each in attempts:
        outcome = each["outcome"]
        tone = "green" if outcome == "answered" else "dim" if outcome in ("lost", "unused") else "red"
        table.add_row(
            escape(each["target"]),
            each["purpose"],
            escape(each["key"] or ""),
            *(_ms(each[moment]) for moment in ("began_ms", "first_token_ms", "ended_ms")),
            f"[{tone}]{escape(outcome)}[/]",
            str(each["status"] or ""),
            escape(each["detail"] or ""),
        )
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} ms"
