"""Placing and lifting an incident's holds, and waiting until the gateways obey."""

from typing import Any

from reanimate.errors import Unreachable
from reanimate.runbooks.action import ActionContext, Evidence
from reanimate.switches import holds
from reanimate.switches.document import Claim
from reanimate.switches.publish import Obeyed, wait_until_obeyed

__all__ = ["by", "claim", "lift", "obeyed", "own_holds", "said"]


async def claim(
    context: ActionContext[Any], claims: list[Claim], reason: str, *, instead_of: list[Claim] | None = None
) -> Obeyed:
    """Place the claims, in the same step lift those that they come `instead_of`; return what the gateways said.

    Raises:
        Unreachable: a gateway that was heard of lately does not obey; trying again may help.
    """
    async with context.services.sessions.begin() as session:
        for old in instead_of or ():
            await holds.lift(
                session, old, cause=context.incident.id, reason=reason, actor=context.actor, now=context.now()
            )
        for item in claims:
            await holds.place(
                session,
                item,
                cause=context.incident.id,
                incident_id=context.incident.id,
                reason=reason,
                actor=context.actor,
                now=context.now(),
            )
    return await obeyed(context)


async def obeyed(context: ActionContext[Any]) -> Obeyed:
    """Wait until the gateways obey what the record says.

    Raises:
        Unreachable: as `claim`.
    """
    found = await wait_until_obeyed(context.services)
    if found.acked_ms or all("refused" in why or "ConnectError" in why for why in found.silent.values()):
        return found
    raise Unreachable(
        f"switch document {found.seq} was sent to the gateways, none obeys it: {found.silent}",
        hint="look at the gateway's log; it also asks for its switches every 2 s",
    )


async def lift(context: ActionContext[Any], claims: list[Claim], reason: str) -> dict[str, Any]:
    """Lift the incident's claims, and return what the gateways said as evidence."""
    async with context.services.sessions.begin() as session:
        for item in claims:
            await holds.lift(
                session, item, cause=context.incident.id, reason=reason, actor=context.actor, now=context.now()
            )
    return said(await obeyed(context))


async def own_holds(context: ActionContext[Any], *switches: str) -> list[Claim]:
    """Return what this incident holds of these switches."""
    async with context.services.sessions() as session:
        found = await holds.open_holds(session, cause=context.incident.id)
    return [Claim(hold.switch, hold.scope, hold.value) for hold in found if hold.switch in switches]


def said(found: Obeyed) -> dict[str, Any]:
    """Return what the gateways said, as evidence."""
    return {"seq": found.seq, "obeyed_after_ms": found.acked_ms, "not_reached": found.silent}


def by(evidence: Evidence) -> str:
    """Say which gateways obey, and which were not reached."""
    obeys = [f"{name} obeys after {after:.0f} ms" for name, after in evidence["obeyed_after_ms"].items()]
    return "; " + ", ".join(obeys + [f"{name} was not reached" for name in evidence["not_reached"]])
