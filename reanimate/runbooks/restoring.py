"""One collection that an incident restores: which backup, why, and the next one when that turns out wrong."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Incident
from reanimate.errors import Damaged, NotFound, ReanimateError, Refused, VerificationFailed
from reanimate.protection.backups import restoring
from reanimate.protection.restore_plans import Planned, plan_in_a_hurry
from reanimate.protection.restoring import write_down
from reanimate.restores import record
from reanimate.restores.aliases import AliasSwitch
from reanimate.restores.candidates import Wish
from reanimate.restores.restore import discard, restore
from reanimate.restores.verification import verify

__all__ = [
    "fault_began",
    "note_failed",
    "note_live",
    "note_switching",
    "note_undone",
    "plan_item",
    "restore_item",
]

Item = dict[str, Any]
"""What an action keeps of one restore: backup_id, repository, name, why, proof, passed_over, row, restored."""

_BELIEVED = timedelta(hours=1)
"""A fault is not believed to have begun longer before its incident: some senders tell when a rule was first loaded."""


def fault_began(incident: Incident) -> datetime:
    """Return since when something is wrong: what was backed up later may hold it."""
    earliest = incident.opened_at - _BELIEVED
    return max(incident.fault_at or incident.opened_at, earliest)


async def plan_item(services: Services, name: str, target: str, incident: Incident) -> Item:
    """Choose the backup to restore a collection or alias from.

    Raises:
        NotFound, Refused, Unreachable, ServerFailed: as `plan_in_a_hurry`.
    """
    wish = Wish(name, fault_at=fault_began(incident))
    return _item(name, await plan_in_a_hurry(services, wish, target=target), [])


async def restore_item(
    services: Services,
    item: Item,
    target: str,
    incident: Incident,
    save: Callable[..., Awaitable[None]],
    items: list[Item],
) -> None:
    """Restore and verify one; where the backup turns out damaged or wrong, the next that is good, and so on.

    Raises:
        ReanimateError: of the first backup, when no other one can be used.
    """
    first: ReanimateError | None = None
    while True:
        try:
            await _restore(services, item, target, incident)
        except (Damaged, NotFound, VerificationFailed) as error:
            first = first or error
            passed_over = [*item.get("passed_over", []), _passed_over(item, error)]
            item.update(await _next(services, item, target, incident, passed_over, first))
            await save(restores=items)
            continue
        item["restored"] = True
        await save(restores=items)
        return


async def _next(
    services: Services, item: Item, target: str, incident: Incident, passed_over: list[Item], first: ReanimateError
) -> Item:
    tried = {(one["repository"], one["backup_id"]): one["why"] for one in passed_over}
    wish = Wish(item["entry_name"], fault_at=fault_began(incident), passed_over=tried)
    try:
        return _item(item["entry_name"], await plan_in_a_hurry(services, wish, target=target), passed_over)
    except (NotFound, Refused):
        raise first from None


async def _restore(services: Services, item: Item, target: str, incident: Incident) -> None:
    server = services.vector(target)
    repository = services.repositories[item["repository"]]
    manifest = repository.catalog.get(item["backup_id"])
    async with (
        restoring(services, target, manifest.collection),
        in_use(repository.catalog, manifest, f"incident {incident.id}"),
    ):
        item["row"] = await write_down(
            services,
            lambda session: record.started(
                session,
                manifest,
                repository=repository.name,
                target=target,
                new_name=item["name"],
                trigger=f"incident:{incident.id}",
                now=utcnow(),
            ),
        )
        began = utcnow()
        try:
            await restore(server, repository.catalog, manifest, item["name"])
            found = await verify(server, item["name"], manifest, deep_up_to=services.settings.restores.deep_up_to)
            if not found.passed:
                await discard(server, item["name"])
            found.require(target)
        except BaseException as error:
            await note_failed(services, item, str(error) or type(error).__name__)
            raise
        item["took_s"] = round((utcnow() - began).total_seconds(), 2)


def _item(entry_name: str, planned: Planned, passed_over: list[Item]) -> Item:
    plan = planned.plan
    return {
        "entry_name": entry_name,
        "backup_id": plan.backup_id,
        "repository": plan.repository,
        "name": plan.new_name,
        "why": plan.why,
        "proof": plan.proof,
        "passed_over": passed_over,
        "restored": False,
    }


def _passed_over(item: Item, error: ReanimateError) -> Item:
    return {"backup_id": item["backup_id"], "repository": item["repository"], "why": str(error.args[0])}


async def note_failed(services: Services, item: Item, why: str) -> None:
    """Record that a restore came to nothing, or was taken back before it was live."""
    if (row := item.get("row")) is not None:
        await write_down(services, lambda session: record.failed(session, row, RuntimeError(why), now=utcnow()))


async def note_switching(services: Services, item: Item, switch: AliasSwitch) -> None:
    """Record where the aliases point before they are moved."""
    if (row := item.get("row")) is not None:
        await write_down(services, lambda session: record.switching(session, row, switch))


async def note_live(services: Services, item: Item) -> None:
    """Record that a restore is live, and how long what was live before is kept."""
    if (row := item.get("row")) is None:
        return
    keep_until = utcnow() + timedelta(hours=services.settings.restores.keep_old_h)
    took_s = item.get("took_s") or 0.0
    await write_down(
        services,
        lambda session: record.finished(session, row, took_s=took_s, keep_until=keep_until, now=utcnow()),
    )


async def note_undone(services: Services, target: str, name: str) -> None:
    """Record that the switch to a restored collection was put back."""
    await write_down(services, lambda session: record.undone(session, target, name, now=utcnow()))
