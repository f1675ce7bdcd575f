"""Proofs as schedules and commands run them: what is due, several at once, on record, and marked beside the backups."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from reanimate.backups.catalog import Catalog
from reanimate.backups.checks import Check
from reanimate.backups.manifest import Manifest, VectorManifest, base_name
from reanimate.backups.published import Published
from reanimate.backups.repositories import Repository, named
from reanimate.backups.use import in_use
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.dumps.databases import scratch_login
from reanimate.dumps.manifest import PostgresManifest
from reanimate.dumps.programs import find_programs
from reanimate.dumps.proof import prove_dump
from reanimate.errors import Damaged, NotFound, ReanimateError, ServerFailed, VerificationFailed
from reanimate.proofs import record
from reanimate.proofs.due import Due, due_proofs
from reanimate.proofs.proof import Progress, Proof, new_proof_id, prove_collection, proving
from reanimate.proofs.scratch import Scratch
from reanimate.restores.read_only import BadPart

__all__ = ["ToProve", "newest_of", "one_to_prove", "proofs_due", "prove", "prove_all", "require_passed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ToProve:
    """A backup to prove, where it is kept, and why it is its turn."""

    repository: str
    backup: Published[Manifest]
    why: str


async def proofs_due(services: Services, *, repository: str | None = None) -> list[ToProve]:
    """Return what is due now: in one repository, or in all. Those after the first hold copies.

    Raises:
        NotFound: no repository has that name.
        Unreachable: a repository could not be read.
    """
    places = [named(services.repositories, repository)] if repository else list(services.repositories.values())
    found: list[ToProve] = []
    first = next(iter(services.repositories))
    for place in places:
        published = await asyncio.to_thread(_published, place.catalog)
        due = due_proofs(
            published,
            now=utcnow(),
            valid_for=_valid_for(services),
            draw=random.random(),
            copies=place.name != first,
        )
        found += [_to_prove(place, one) for one in due]
    return found


def _to_prove(place: Repository, due: Due) -> ToProve:
    return ToProve(place.name, due.backup, due.why)


async def one_to_prove(services: Services, backup_id: str, *, repository: str | None = None) -> ToProve:
    """Return one backup by its id.

    Raises:
        NotFound: no backup has that id.
        Damaged: it cannot be used, so there is nothing to prove.
        Unreachable: the repository could not be read.
    """
    place = named(services.repositories, repository)
    return ToProve(place.name, await asyncio.to_thread(_find, place.catalog, backup_id), "asked for by its id")


async def newest_of(services: Services, subjects: Sequence[str], *, repository: str | None = None) -> list[ToProve]:
    """Return the newest backup of each collection, alias or database that is named; of everything, if none is.

    Raises:
        NotFound: there is no backup of one of them.
        Unreachable: the repository could not be read.
    """
    place = named(services.repositories, repository)
    published = await asyncio.to_thread(_published, place.catalog)
    newest: dict[tuple[str, str], Published[Manifest]] = {}
    for one in published:  # newest first
        if not one.deleted:
            newest.setdefault((one.manifest.kind, base_name(one.manifest.subject)), one)
    chosen = list(newest.values())
    for subject in subjects:
        if not any(_answers(one.manifest, subject) for one in chosen):
            raise NotFound(
                f"there is no backup of {subject!r} in {place.name}",
                hint="`reanimate backup list` shows those there are",
            )
    wanted = [one for one in chosen if not subjects or any(_answers(one.manifest, each) for each in subjects)]
    return [ToProve(place.name, one, "the newest") for one in wanted]


def _published(catalog: Catalog) -> list[Published[Manifest]]:
    """Return everything that can be proven, newest first."""
    found: list[Published[Manifest]] = [*catalog.published(VectorManifest), *catalog.published(PostgresManifest)]
    return sorted(found, key=lambda one: (one.manifest.taken_at, one.manifest.id), reverse=True)


def _find(catalog: Catalog, backup_id: str) -> Published[Manifest]:
    try:
        return catalog.find(backup_id, VectorManifest)
    except NotFound:
        return catalog.find(backup_id, PostgresManifest)


def _answers(manifest: Manifest, name: str) -> bool:
    return manifest.answers_to(name) if isinstance(manifest, VectorManifest) else manifest.subject == name


async def prove_all(
    services: Services, chosen: Sequence[ToProve], *, trigger: str, on_progress: Progress | None = None
) -> list[Proof]:
    """Prove several, so many at once as the settings say. One that goes wrong does not keep the others."""
    slots = asyncio.Semaphore(services.settings.backups.parallel)

    async def one(each: ToProve) -> Proof:
        async with slots:
            return await prove(services, each, trigger=trigger, on_progress=on_progress)

    return list(await asyncio.gather(*(one(each) for each in chosen)))


async def prove(services: Services, each: ToProve, *, trigger: str, on_progress: Progress | None = None) -> Proof:
    """Prove one backup, with its row in the record and its mark beside the backup. How it ended is told, never raised.

    A record or a store that cannot be written is told in the log and in the proof's error.
    """
    backup, place = each.backup, services.repositories[each.repository]
    proof_id = new_proof_id(backup.manifest.id, utcnow())
    scratch = _scratch(services)
    target = scratch.name
    await _note(
        services,
        lambda session: record.started(
            session, proof_id, backup, repository=place.name, target=target, trigger=trigger, now=utcnow()
        ),
    )
    async with proving(
        proof_id, backup, repository=place.name, target=target, trigger=trigger, valid_for=_valid_for(services)
    ) as draft:
        draft.checks = await _checks(services, place, backup.manifest, scratch, on_progress)
    proof = draft.proof
    assert proof is not None  # set when the block was left
    try:
        await record.mark_backup(place.catalog, backup, proof)
    except ReanimateError as error:
        log.warning("the proof of %s is not marked beside it: %s", backup.manifest.id, error)
        proof = replace(proof, error=f"not marked beside the backup: {error}")
    final = proof
    await _note(services, lambda session: record.ended(session, final))
    if proof.outcome == "failed":
        log.error("backup %s is not right: %s", backup.manifest.id, proof.failed_checks)
    return proof


def require_passed(proof: Proof) -> str:
    """Say in a line how a proof ended.

    Raises:
        VerificationFailed: the backup is not right.
        ServerFailed: nothing is known; it may be tried again.
    """
    if proof.outcome == "failed":
        raise VerificationFailed(f"backup {proof.backup_id} is not right: {proof.failed_checks}")
    if proof.outcome == "error":
        raise ServerFailed(f"backup {proof.backup_id} could not be proven: {proof.error}")
    return f"{proof.backup_id}: {len(proof.checks)} checks passed in {proof.took_s:.1f} s on {proof.target}"


async def _checks(
    services: Services, place: Repository, manifest: Manifest, scratch: Scratch, on_progress: Progress | None
) -> tuple[Check, ...]:
    if isinstance(manifest, VectorManifest):
        return await prove_collection(place.catalog, manifest, scratch, on_progress)
    assert isinstance(manifest, PostgresManifest)  # there is no third kind among what can be proven
    settings = services.settings
    programs = await find_programs(settings.database.pg_bin)
    async with in_use(place.catalog, manifest, "a proof"):
        try:
            verification = await prove_dump(
                place.catalog,
                manifest,
                programs,
                server=scratch_login(settings),
                pg_bin=settings.database.pg_bin,
                on_progress=on_progress,
            )
        except (Damaged, NotFound) as error:
            raise BadPart("parts", error) from error
    return verification.checks


def _scratch(services: Services) -> Scratch:
    aside = services.settings.vector.scratch
    return Scratch(
        http=services.http,
        notes=services.settings.home / "proofs",
        set_aside=services.vector(aside.name) if aside is not None else None,
    )


def _valid_for(services: Services) -> timedelta:
    return timedelta(days=services.settings.backups.proof_expires_days)


async def _note(services: Services, write: Callable[[AsyncSession], Awaitable[None]]) -> None:
    """Write to the record, which must not be what a proof fails over."""
    try:
        async with services.sessions() as session, session.begin():
            await write(session)
    except (SQLAlchemyError, OSError) as error:
        log.warning("the record of a proof could not be written: %s", error)
