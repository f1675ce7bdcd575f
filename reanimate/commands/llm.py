"""`reanimate llm …`: the scripts of the handbook: switch provider, cache mode, switch model, offline, and back."""

from typing import Annotated, Any

import typer

from reanimate.bootstrap import open_services
from reanimate.commands.hold import by_hand
from reanimate.commands.llm_calls import call
from reanimate.commands.llm_output import show_change, show_recovery, show_status
from reanimate.commands.output import JsonFlag, print_json, run
from reanimate.config import load_settings
from reanimate.errors import InputInvalid, NotFound
from reanimate.switches.changing import Change, change
from reanimate.switches.document import Claim
from reanimate.switches.levels import LEVELS, claims_of_level
from reanimate.switches.llm_status import llm_status
from reanimate.switches.recovering import Round, recover_gradually

__all__ = ["app"]

app = typer.Typer(help="LLM traffic by hand: provider, cache, model, offline, kill; and back.", no_args_is_help=True)

app.command()(call)

Reason = Annotated[str, typer.Option(help="Why; people will read it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change on each gateway.")]
Route = Annotated[str, typer.Option(help="Only this route; without it, all.")]
Tenant = Annotated[str | None, typer.Option(help="Only the calls of this tenant.")]
Subject = Annotated[str, typer.Argument(help="tenant:NAME, route:NAME, tool:NAME, or * for all.")]

_MANUAL = "asked for by hand"


def _change(place: list[Claim], lift: list[tuple[str, str]], reason: str, dry_run: bool, json: bool, back: str) -> None:
    async def work() -> Change:
        async with open_services() as services:
            cause = by_hand()
            return await change(
                services, place=place, lift=lift, cause=cause, reason=reason, actor=cause, dry_run=dry_run
            )

    found = run(work)
    if json:
        print_json({**found.to_json(), "back": back})
    else:
        show_change(found, back)


def _scope(route: str, tenant: str | None) -> str:
    if tenant is not None and route != "*":
        raise InputInvalid("give --route or --tenant, not both")
    if route != "*" and route not in (known := [item.name for item in load_settings().llm.routes]):
        raise NotFound(f"no route is called {route!r}", hint=f"routes are: {', '.join(known) or 'none'}")
    return _known_subject(f"tenant:{tenant}") if tenant is not None else route


def _known_subject(subject: str) -> str:
    """Return `subject` if there can be calls of it: a kill of a misspelt tenant stops nobody.

    Raises:
        NotFound: no tenant or route of the settings is called so. Tools, and tenants where none are set, only callers
            know.
    """
    kind, _, name = subject.partition(":")
    llm = load_settings().llm
    known = {"tenant": [item.name for item in llm.tenants], "route": [item.name for item in llm.routes]}.get(kind)
    if name and known and name not in known:
        raise NotFound(f"no {kind} is called {name!r}", hint=f"{kind}s are: {', '.join(known)}")
    return subject


def _options(scope: str) -> str:
    if scope == "*":
        return ""
    return f" --tenant {scope.removeprefix('tenant:')}" if scope.startswith("tenant:") else f" --route {scope}"


@app.command()
def provider(
    name: Annotated[str, typer.Argument(help="Who is asked first from now on; `none` takes the preference back.")],
    route: Route = "*",
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Switch to a provider: it is asked first, the others stay as its fall-back."""
    scope = _scope(route, None)
    known = [item.name for item in load_settings().llm.providers]
    if name != "none" and name not in known:
        raise NotFound(f"no provider is called {name!r}", hint=f"providers are: {', '.join(known) or 'none'}")
    back = f"reanimate llm provider none{_options(scope)}"
    if name == "none":
        _change([], [("llm_prefer", scope)], reason, dry_run, json, "reanimate llm provider NAME" + _options(scope))
    else:
        _change([Claim("llm_prefer", scope, name)], [], reason, dry_run, json, back)


@app.command()
def cache(
    mode: Annotated[str, typer.Argument(help="on: a kept answer, of any age, comes first; off: as the settings say.")],
    route: Route = "*",
    tenant: Tenant = None,
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Cache mode: kept answers first, providers for the rest."""
    scope = _scope(route, tenant)
    on = _on_or_off(mode, "on", "off")
    back = f"reanimate llm cache {'off' if on else 'on'}{_options(scope)}"
    _switch(on, Claim("llm_cache", scope, "first"), reason, dry_run, json, back)


@app.command()
def tier(
    model: Annotated[str, typer.Argument(help="cheaper: the routes' cheaper models first; normal: as always.")],
    route: Route = "*",
    tenant: Tenant = None,
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Switch model: to the routes' cheaper ones, or back."""
    scope = _scope(route, tenant)
    cheaper = _on_or_off(model, "cheaper", "normal")
    back = f"reanimate llm tier {'normal' if cheaper else 'cheaper'}{_options(scope)}"
    _switch(cheaper, Claim("llm_tier", scope, "cheaper"), reason, dry_run, json, back)


@app.command()
def offline(
    off: Annotated[bool, typer.Option("--off", help="Ask providers again.")] = False,
    route: Route = "*",
    tenant: Tenant = None,
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Ask no provider: kept answers, of any age, else the route's static answer."""
    scope = _scope(route, tenant)
    back = f"reanimate llm offline{'' if off else ' --off'}{_options(scope)}"
    _switch(not off, Claim("llm_cache", scope, "only"), reason, dry_run, json, back)


def _on_or_off(given: str, on: str, off: str) -> bool:
    if given not in (on, off):
        raise InputInvalid(f"{given!r} is neither {on} nor {off}")
    return given == on


def _switch(on: bool, claim: Claim, reason: str, dry_run: bool, json: bool, back: str) -> None:
    place, lift = ([claim], []) if on else ([], [(claim.switch, claim.scope)])
    _change(place, lift, reason, dry_run, json, back)


@app.command()
def degrade(
    level: Annotated[str, typer.Argument(help="normal, degraded (cheaper model, cache first) or minimal (no model).")],
    route: Route = "*",
    tenant: Tenant = None,
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Set the level by hand: normal, degraded or minimal. What other causes hold stays."""
    if level not in LEVELS:
        raise InputInvalid(f"{level!r} is no level", hint=f"levels are: {', '.join(LEVELS)}")
    scope = _scope(route, tenant)
    place = claims_of_level(level, scope)
    lift = [(switch, scope) for switch in LEVELS["minimal"] if switch not in LEVELS[level]]
    back = "reanimate llm recover" if place else f"reanimate llm degrade degraded{_options(scope)}"
    _change(place, lift, reason, dry_run, json, back)


@app.command()
def kill(subject: Subject, reason: Reason = _MANUAL, dry_run: DryRun = False, json: JsonFlag = False) -> None:
    """Stop all calls of a tenant, a route or with a tool, also those that are underway."""
    claim = Claim("llm_kill", _known_subject(subject), "kill")
    _change([claim], [], reason, dry_run, json, f"reanimate llm allow {subject}")


@app.command()
def rate(
    subject: Subject,
    per_minute: Annotated[int, typer.Argument(min=0, help="Calls a minute; the others are refused with 429.")],
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Cut the calls of a tenant, a route or with a tool to so many a minute."""
    claim = Claim("llm_rate", _known_subject(subject), per_minute)
    _change([claim], [], reason, dry_run, json, f"reanimate llm allow {subject}")


@app.command()
def allow(
    subject: Subject,
    cause: Annotated[
        str | None, typer.Option(help="An incident whose kill or cut is reviewed; else those of you.")
    ] = None,
    reason: Reason = _MANUAL,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """After a review: lift a kill or a rate cut."""

    async def work() -> Change:
        async with open_services() as services:
            found = await change(
                services,
                lift=[("llm_kill", subject), ("llm_rate", subject)],
                cause=cause or by_hand(),
                reason=reason,
                actor=by_hand(),
                dry_run=dry_run,
            )
            if not found.lifted:
                raise NotFound(
                    f"{cause or by_hand()!r} neither kills nor cuts {subject}",
                    hint="`reanimate llm status` shows what is held, and by whom; name another cause with --cause",
                )
            return found

    found = run(work)
    if json:
        print_json(found.to_json())
    else:
        show_change(found, f"reanimate llm kill {subject}")


@app.command()
def recover(
    cause: Annotated[str | None, typer.Option(help="Whose holds: an incident's id; without it, yours by hand.")] = None,
    step_s: Annotated[float, typer.Option(min=0, help="How long each step is watched.")] = 5.0,
    reason: Reason = "back to normal by hand",
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """End the holds of one cause, step by step, looking at the failures at each. Kills and rate cuts stay."""

    async def work() -> list[Round]:
        async with open_services() as services:
            return await recover_gradually(
                services, cause=cause or by_hand(), step_s=step_s, reason=reason, actor=by_hand(), dry_run=dry_run
            )

    rounds = run(work)
    if json:
        print_json({"dry_run": dry_run, "rounds": [item.to_json() for item in rounds]})
    else:
        show_recovery(rounds, dry_run)


@app.command()
def status(json: JsonFlag = False) -> None:
    """Show how LLM calls are answered now: level, holds and their causes, rules, targets, queues."""

    async def work() -> dict[str, Any]:
        async with open_services() as services:
            return await llm_status(services)

    found = run(work)
    if json:
        print_json(found)
    else:
        show_status(found)
