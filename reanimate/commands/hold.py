"""`reanimate hold list | place | lift`: the switches that the gateways obey, by hand."""

import getpass
from typing import Annotated, Any

import typer

from reanimate.bootstrap import open_services
from reanimate.clock import utcnow
from reanimate.commands.llm_output import holds_table
from reanimate.commands.output import JsonFlag, err, is_narrow, out, print_json, run
from reanimate.errors import NotFound
from reanimate.switches import holds
from reanimate.switches.document import COMBINE, Claim, effective
from reanimate.switches.publish import Obeyed, wait_until_obeyed

__all__ = ["app", "by_hand"]

app = typer.Typer(help="Holds on the gateways' switches: list, place, lift.", no_args_is_help=True)

Scope = Annotated[
    str,
    typer.Argument(
        help="What it is about: primary, primary/kb; for the LLM switches a route, provider or tenant:NAME."
    ),
]
Switch = Annotated[str, typer.Argument(help=f"One of {', '.join(COMBINE)}.")]


def by_hand() -> str:
    """Return the cause of what this person holds."""
    return f"by hand: {getpass.getuser()}"


@app.command("list")
def list_holds(json: JsonFlag = False) -> None:
    """Show the holds in force, and the value that comes of them."""
    rows, values = run(_list)
    if json:
        print_json({"holds": rows, "effective": values})
        return
    if not rows:
        out.print("nothing is held: every switch is at its default")
        return
    out.print(holds_table(rows, narrow=is_narrow()))
    out.print(
        "in force: " + ", ".join(f"{v['switch']} of {v['scope']} = {v['value']}" for v in values), highlight=False
    )


async def _list() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    async with open_services() as services, services.sessions() as session:
        found = await holds.open_holds(session)
    fields = ("switch", "scope", "value", "cause", "incident_id", "reason", "placed_at")
    claims = effective(Claim(hold.switch, hold.scope, hold.value) for hold in found)
    return (
        [{name: getattr(hold, name) for name in fields} for hold in found],
        [{"switch": claim.switch, "scope": claim.scope, "value": claim.value} for claim in claims],
    )


@app.command()
def place(
    switch: Switch,
    scope: Scope,
    value: Annotated[
        str, typer.Argument(help="As the switch takes it: 0-100 for read_share, hold for writes, first for llm_cache …")
    ],
    reason: Annotated[str, typer.Option(help="Why; people will read it.")],
    json: JsonFlag = False,
) -> None:
    """Hold a switch by hand, and wait until the gateways obey. It stays until it is lifted."""
    claim = effective([Claim(switch, scope, int(value) if value.isdigit() else value)])[0]
    _say(run(lambda: _place(claim, reason)), json)


async def _place(claim: Claim, reason: str) -> Obeyed:
    async with open_services() as services:
        async with services.sessions.begin() as session:
            by = by_hand()
            await holds.place(session, claim, cause=by, reason=reason, actor=by, now=utcnow())
        return await wait_until_obeyed(services)


@app.command()
def lift(
    cause: Annotated[
        str | None, typer.Option(help="Whose holds: an incident's id; without it, those placed by hand by you.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be lifted.")] = False,
    json: JsonFlag = False,
) -> None:
    """Lift every hold of one cause, and wait until the gateways obey. Holds of other causes stay."""
    lifted = run(lambda: _lift(cause or by_hand(), dry_run))
    if isinstance(lifted, Obeyed):
        _say(lifted, json)
    elif json:
        print_json({"would_lift": lifted})
    else:
        out.print("would lift: " + ", ".join(lifted), highlight=False)


async def _lift(cause: str, dry_run: bool) -> Obeyed | list[str]:
    async with open_services() as services:
        async with services.sessions.begin() as session:
            found = await holds.open_holds(session, cause=cause)
            if not found:
                raise NotFound(f"{cause!r} holds nothing", hint="`reanimate hold list` shows what is held, and by whom")
            if dry_run:
                return [f"{hold.switch} of {hold.scope} = {hold.value}" for hold in found]
            await holds.lift_all(session, cause=cause, reason="lifted by hand", actor=by_hand(), now=utcnow())
        return await wait_until_obeyed(services)


def _say(obeyed: Obeyed, json: bool) -> None:
    if json:
        print_json({"seq": obeyed.seq, "obeyed_after_ms": obeyed.acked_ms, "not_reached": obeyed.silent})
        return
    for name, after in obeyed.acked_ms.items():
        out.print(f"gateway {name} obeys after {after:.0f} ms (change {obeyed.seq})", highlight=False)
    for name, why in obeyed.silent.items():
        err.print(f"[yellow]gateway {name} was not reached:[/] {why}; it asks by itself when it is back")
