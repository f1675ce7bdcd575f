"""`reanimate quota show | grant | revoke | break-glass | pass | history`."""

import getpass
import re
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from reanimate.bootstrap import open_services
from reanimate.clock import utcnow
from reanimate.commands.output import JsonFlag, err, out, print_json, run
from reanimate.commands.quota_output import print_history, print_standings
from reanimate.errors import InputInvalid
from reanimate.incidents.wording import moment
from reanimate.quota import glass, grants
from reanimate.quota.amounts import find_quota, said, split, whole
from reanimate.quota.demand import Meter
from reanimate.quota.overview import grant_view, history, standings
from reanimate.quota.passes import PASS_HEADER

__all__ = ["app"]

app = typer.Typer(help="Quotas of LLM calls: show, grant more, break the glass, look back.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="QUOTA", help="As it is called in the settings.")]
MaybeName = Annotated[str | None, typer.Argument(metavar="[QUOTA]", help="Only this one.")]
Tenant = Annotated[str, typer.Option(help="Whose, where each tenant has its own.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; people will read it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def _by_hand() -> str:
    return f"by hand: {getpass.getuser()}"


@app.command()
def show(name: MaybeName = None, json: JsonFlag = False) -> None:
    """Show how much of each quota is used, in the windows that are open."""
    view = run(lambda: _standings(name))
    if json:
        print_json(view)
        return
    if not view["quotas"]:
        err.print("No quota is configured: give the settings an \\[\\[llm.quotas]].")
        return
    print_standings(view)


async def _standings(name: str | None) -> dict[str, Any]:
    async with open_services() as services, services.sessions() as session:
        if name is not None:
            find_quota(services.settings.llm, name)
        return await standings(session, services.settings.llm, utcnow(), name)


@app.command()
def grant(
    name: Name,
    reason: Reason,
    tokens: Annotated[int | None, typer.Option(help="So many tokens more.")] = None,
    requests: Annotated[int | None, typer.Option(help="So many requests more.")] = None,
    money: Annotated[float | None, typer.Option(help="So much money more, in the currency of the settings.")] = None,
    tenant: Tenant = "",
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Add to a limit for the window that is open; the next one has its usual limit again.

    Gateways have it with their next word: within a second when calls are being refused.
    """
    asked = {Meter.TOKENS: tokens, Meter.REQUESTS: requests, Meter.MONEY: money}
    given = [(meter, amount) for meter, amount in asked.items() if amount is not None]
    view = run(lambda: _grant(name, given, tenant, reason, dry_run))
    if json:
        print_json(view)
        return
    for made in view["grants"]:
        verb = "would grant" if dry_run else "granted"
        more, total = (
            said(made["meter"], made["amount"], view["currency"]),
            said(made["meter"], made["limit"], view["currency"]),
        )
        out.print(f"{verb} {more} more: {total} until {moment(made['until'])}", highlight=False)
        if not dry_run:
            out.print(f"take it back with: reanimate quota revoke {made['id']} --reason …", highlight=False)


async def _grant(
    name: str, given: list[tuple[Meter, int | float]], tenant: str, why: str, dry_run: bool
) -> dict[str, Any]:
    if not given:
        raise InputInvalid("nothing is granted", hint="--tokens, --requests or --money")
    now = utcnow()
    async with open_services() as services:
        llm = services.settings.llm
        quota = find_quota(llm, name)
        plans = [grants.plan_grant(quota, tenant, meter, whole(meter, amount), now) for meter, amount in given]
        made = []
        async with services.sessions.begin() as session:
            before = {row["meter"]: row for row in (await standings(session, llm, now, name))["quotas"]
                      if (row["tenant"] or "") == tenant}  # fmt: skip
            for plan in plans:
                row = before.get(plan.key.meter)
                limit = (row["limit"] if row is not None else plan.limit) + plan.amount
                about = {
                    "quota": name,
                    "tenant": tenant,
                    "meter": plan.key.meter,
                    "amount": plan.amount,
                    "limit": limit,
                }
                until = datetime.fromtimestamp(plan.window.ends, now.tzinfo)
                if dry_run:
                    made.append({**about, "until": until})
                    continue
                done = await grants.grant(session, plan, currency=llm.currency, who=_by_hand(), why=why, now=now)
                made.append({**about, "until": until, "id": done.id})
    return {"grants": made, "dry_run": dry_run, "currency": llm.currency}


@app.command("break-glass")
def break_glass(
    name: Name,
    reason: Reason,
    lasts: Annotated[str, typer.Option("--for", help="How long: 30m, 2h; a day at most.")] = "1h",
    tenant: Tenant = "",
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Open the reserve of a quota to all its calls for a time. It is written down, also on open P0 incidents."""
    view = run(lambda: _break_glass(name, tenant, _length(lasts), reason, dry_run))
    if json:
        print_json(view)
        return
    amounts = " and ".join(said(meter, amount, view["currency"]) for meter, amount in view["reserve"].items())
    verb = "would open" if dry_run else "opened"
    out.print(f"{verb} the reserve of {name}, {amounts}, until {moment(view['until'])}", highlight=False)
    if not dry_run:
        for incident in view["told"]:
            out.print(f"written on the timeline of {incident}", highlight=False)
        out.print(f"close it again with: reanimate quota revoke {view['id']} --reason …", highlight=False)


def _length(text: str) -> timedelta:
    """Read how long something lasts.

    Raises:
        InputInvalid: it is no such length.
    """
    found = _LENGTH.fullmatch(text.strip())
    if found is None:
        raise InputInvalid(f"--for {text!r} is no length of time", hint="for example 30m or 2h")
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


async def _break_glass(name: str, tenant: str, lasts: timedelta, why: str, dry_run: bool) -> dict[str, Any]:
    now = utcnow()
    async with open_services() as services:
        llm = services.settings.llm
        quota = find_quota(llm, name)
        limits = {meter.value: split(quota, meter) for meter in Meter}
        reserve = {meter: both[1] for meter, both in limits.items() if both is not None and both[1]}
        if not reserve:
            raise InputInvalid(
                f"the quota {name!r} has no reserve", hint="reserve = 0.1 in its settings sets one aside"
            )
        view: dict[str, Any] = {
            "quota": name, "tenant": tenant, "reserve": reserve, "until": now + lasts, "dry_run": dry_run,
            "currency": llm.currency,
        }  # fmt: skip
        async with services.sessions.begin() as session:
            made, told = await glass.break_glass(session, name, tenant, lasts=lasts, who=_by_hand(), why=why, now=now)
            if dry_run:
                await session.rollback()
                return {**view, "told": told}
        return {**view, "id": made.id, "told": told}


@app.command()
def revoke(
    grant_id: Annotated[str, typer.Argument(metavar="ID", help="As `reanimate quota show` has it.")],
    reason: Reason,
    dry_run: DryRun = False,
    json: JsonFlag = False,
) -> None:
    """Take a grant back, or close a reserve again. What was used meanwhile stays used."""
    view = run(lambda: _revoke(grant_id, reason, dry_run))
    if json:
        print_json(view)
        return
    verb = "would end" if dry_run else "ended"
    out.print(f"{verb} {grant_id} of quota {view['quota']}", highlight=False)


async def _revoke(grant_id: str, why: str, dry_run: bool) -> dict[str, Any]:
    async with open_services() as services, services.sessions.begin() as session:
        found = await grants.find_grant(session, grant_id)
        view = {**grant_view(found), "dry_run": dry_run}
        await grants.revoke(session, found, who=_by_hand(), why=why, now=utcnow())
        if dry_run:
            await session.rollback()
        return view


@app.command("pass")
def issue(
    incident_id: Annotated[str, typer.Argument(metavar="INCIDENT", help="An open P0 incident.")],
    json: JsonFlag = False,
    dry_run: DryRun = False,
) -> None:
    """Print the header with which calls of an open P0 incident's recovery may use the reserves, for an hour."""
    value = run(lambda: _issue(incident_id, dry_run))
    if json:
        print_json({"incident": incident_id, "header": PASS_HEADER, "value": value, "dry_run": dry_run})
    elif dry_run:
        out.print(f"{incident_id} is an open P0 incident: a pass would be issued", highlight=False)
    else:
        out.print(f"{PASS_HEADER}: {value}", highlight=False, soft_wrap=True)


async def _issue(incident_id: str, dry_run: bool) -> str | None:
    async with open_services() as services, services.sessions.begin() as session:
        value = await glass.issue_pass(
            session, incident_id, control_key=services.secrets.control_key, actor=_by_hand(), now=utcnow()
        )
        if dry_run:
            await session.rollback()
            return None
        return value


@app.command("history")
def look_back(
    name: MaybeName = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many windows, and so many deeds.")] = 30,
    json: JsonFlag = False,
) -> None:
    """Show how much was used in the windows that were, and what people did about quotas."""
    view = run(lambda: _history(name, limit))
    if json:
        print_json(view)
        return
    print_history(view)


async def _history(name: str | None, limit: int) -> dict[str, Any]:
    async with open_services() as services, services.sessions() as session:
        return {**await history(session, name, limit), "currency": services.settings.llm.currency}
