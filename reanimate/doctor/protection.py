"""Findings about what would be needed on a bad day: the blob store, backups, a replica, somebody to tell."""

import asyncio
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from reanimate.backups.published import Listing
from reanimate.backups.repositories import Repository, open_repositories
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.doctor.keys import encryption_findings, sealed_finding, signing_findings
from reanimate.errors import ReanimateError
from reanimate.storage.blobs import create_object, read_object, remove_objects
from reanimate.storage.object_lock import lock_of

__all__ = ["arrangement_findings", "backup_finding", "store_findings"]

_OLD_AFTER = timedelta(hours=26)
"""The schedule is daily; two hours are for a slow one."""


def arrangement_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what the settings alone tell: a replica, somebody to tell, senders of alerts."""
    if settings.vector.replicas:
        yield ok("replica", f"{len(settings.vector.replicas)} configured")
    else:
        to_do = "add a [[vector.targets]] with role = 'replica': without one nothing answers while the primary is out"
        yield warn("replica", "none is configured", to_do)
    if settings.notify.urls:
        yield ok("notices", f"{len(settings.notify.urls)} places are told")
    else:
        yield warn("notices", "nobody is told of an incident", "set notify.urls (mailto://, slack://, json://, …)")
    alerts = settings.alerts
    senders = sum(map(len, (alerts.alertmanager_bearer, alerts.alertmanager_basic, alerts.cloudevents_bearer)))
    if senders + len(alerts.cloudevents_hmac):
        yield ok("alert senders", "have credentials of their own")
    else:
        to_do = "set alerts.alertmanager_bearer or another; until then only our own watch and the intake token can post"
        yield warn("alert senders", "none has credentials", to_do)


async def store_findings(settings: Settings) -> list[Finding]:
    """Return findings about every repository, tried by writing and reading a small object, and about its backups."""
    if not settings.home.exists():
        return []  # looking makes nothing: folder and keys come with the home directory
    keys = [*signing_findings(settings), *encryption_findings(settings.backups)]
    try:
        repositories = await asyncio.to_thread(open_repositories, settings)
    except ReanimateError as error:
        return [*keys, fail("repositories", str(error), error.hint or "check [backups]")]
    found = await asyncio.gather(*(_repository_findings(repository) for repository in repositories.values()))
    return [*keys, *(finding for findings in found for finding in findings)]


async def _repository_findings(repository: Repository) -> list[Finding]:
    """Return findings about one repository."""
    what, where, store = f"repository {repository.name}", repository.url, repository.catalog.store
    key, content = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
    try:
        await create_object(store, key, content)
        same = await read_object(store, key) == content
        await remove_objects(store, [key])
        if not same:
            return [fail(what, f"{where} gives back other bytes than it was given", "use another store")]
        listing = await asyncio.to_thread(repository.catalog.listing)
        more = [await sealed_finding(repository), await _lock_finding(repository, listing)]
    except ReanimateError as error:
        return [fail(what, str(error), error.hint or "check its URL and credentials")]
    damaged = [
        fail(f"backup {backup.id}", f"damaged: {backup.reason}", "take a new backup; restores pass this one over")
        for backup in listing.damaged
    ]
    newest: dict[str, datetime] = {}
    for manifest in listing.manifests:  # newest first
        newest.setdefault(manifest.collection, manifest.taken_at)
    return [ok(what, f"{where} can be written and read"), *filter(None, more), *damaged, *_backups(newest)]


async def _lock_finding(repository: Repository, listing: Listing) -> Finding | None:
    """Tell what the bucket's object lock does for the newest backup, where it has one."""
    newest = next(iter(listing.published), None)
    lock = await lock_of(repository.catalog.store, newest.key) if newest else None
    return ok(f"object lock of {repository.name}", lock.told) if lock and lock.holds(utcnow()) else None


def _backups(newest: dict[str, datetime]) -> Iterator[Finding]:
    if not newest:
        yield warn("backups", "there are none", "run `reanimate backup run`, or start the flow `backup`")
    for collection, taken_at in newest.items():
        yield backup_finding(collection, taken_at, utcnow())


def backup_finding(collection: str, taken_at: datetime, now: datetime) -> Finding:
    """Judge the age of a collection's newest backup."""
    hours = (now - taken_at).total_seconds() / 3600
    found = f"the newest is {hours:.1f} h old"
    if now - taken_at > _OLD_AFTER:
        return warn(
            f"backups of {collection}", found, "see why the nightly backup did not run (Prefect: flow `backup`)"
        )
    return ok(f"backups of {collection}", found)
