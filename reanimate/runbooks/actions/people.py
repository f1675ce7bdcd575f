"""Actions on people: telling them, and calling one when the machine must not go on alone."""

from typing import Any

from sqlalchemy.dialects.postgresql import insert

from reanimate.db.tables import Outbox
from reanimate.errors import Permanent
from reanimate.runbooks.action import Action, ActionContext, NoParams, Params
from reanimate.runbooks.actions.detection import claims_of

__all__ = ["CallPerson", "NotifyPeople", "PersonNeeded", "order_notice"]


class PersonNeeded(Permanent):
    """The runbook ends here on purpose: a person must decide."""


async def order_notice(context: ActionContext[Any], key: str, title: str, body: str) -> None:
    """Put a notice into the outbox, once per `key`; it is sent, and sent again until it arrives, by the relay."""
    async with context.services.sessions.begin() as session:
        now = context.now()
        await session.execute(
            insert(Outbox)
            .values(
                kind="notify",
                key=f"{context.incident.id}:{key}",
                incident_id=context.incident.id,
                payload={"title": title, "body": body},
                created_at=now,
                due_at=now,
            )
            .on_conflict_do_nothing(index_elements=["kind", "key"])
        )


class NotifyPeople(Action[NoParams]):
    """Tell the people concerned what happened and what is being done."""

    name = "notify_people"
    time_limit_s = 15.0
    undoes = "nothing: what was said stays said"

    async def act(self, context: ActionContext[NoParams]) -> dict[str, Any]:
        incident = context.incident
        title = f"[{incident.severity or '?'}] {incident.title}"
        deadline = f"{incident.rto_deadline:%H:%M:%S} UTC" if incident.rto_deadline else "not set"
        body = (
            f"Incident {incident.id} at {incident.component}, opened {incident.opened_at:%Y-%m-%d %H:%M:%S} UTC.\n"
            f"Runbook: {incident.runbook}. Recovery objective: {deadline}.\n"
            f"{context.services.addresses.web}/incidents/{incident.id}"
        )
        await order_notice(context, "contained", title, body)
        return {"ordered": title, "receivers": len(context.services.settings.notify.urls)}


class Why(Params):
    """Why a person is needed."""

    reason: str


class CallPerson(Action[Why]):
    """Stop here and call a person: nothing that a machine may do blindly is left."""

    name = "call_person"
    params = Why
    time_limit_s = 15.0
    undoes = "nothing"

    async def act(self, context: ActionContext[Why]) -> dict[str, Any]:
        claims = await claims_of(context.services, context.incident.id)
        todo = dict.fromkeys(claim.annotations["todo"] for claim in claims if "todo" in claim.annotations)
        raise PersonNeeded(
            "; ".join([context.params.reason, *todo]),
            hint=f"`reanimate incident show {context.incident.id}` has the evidence",
        )
