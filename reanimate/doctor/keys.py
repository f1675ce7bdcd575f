"""Findings about keys: a lost one is told now, and not on the day when a backup must be opened."""

import asyncio
import io
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyrage

from reanimate.backups.keyring import Keyring, signing_key_file
from reanimate.backups.manifest import Manifest, Part
from reanimate.backups.repositories import Repository
from reanimate.backups.sealed import closed_problem, sealed_part
from reanimate.backups.stored_parts import identities_of, recipients_of
from reanimate.config import BackupSettings, Settings
from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.errors import ConfigInvalid
from reanimate.storage.encryption import Identity, Recipient, can_open

__all__ = ["encryption_findings", "sealed_finding", "signing_findings"]

_AT_ONCE = 16


def signing_findings(settings: Settings) -> Iterator[Finding]:
    """Yield findings about the key that signs backups. Call it before anything makes one."""
    path = signing_key_file(settings.home)
    if not path.exists():
        yield warn(
            "signing key",
            f"{path} is not there; the first backup makes a new one",
            "after a loss put it back from your copy, or add the old public key to backups.trusted_keys: "
            "else the backups that it signed are not trusted",
        )
        return
    yield from _private(path, "signing key")
    try:
        keyring = Keyring.load_or_create(settings.home, settings.backups)
    except ConfigInvalid as error:
        yield fail("signing key", error.args[0], error.hint)
        return
    beside = path.with_suffix(".pub")
    try:
        public = beside.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        yield warn("signing key", f"its public half {beside} cannot be read: {error}", "remove it; it is made anew")
        return
    if public != keyring.public_key:
        yield warn("signing key", f"{beside} is of another key", "remove it; it is made anew")
        return
    others = len(keyring.trusted) - 1
    yield ok("signing key", f"{keyring.public_key}" + (f", and {others} others are trusted" if others else ""))


def encryption_findings(settings: BackupSettings) -> Iterator[Finding]:
    """Yield findings about recipients and identities, tried on each other."""
    for path in settings.identities:
        if path.expanduser().exists():
            yield from _private(path.expanduser(), f"age identity {path}")
    keyring = _without_signing(settings)
    try:
        recipients = recipients_of(keyring)
        identities = identities_of(keyring)
    except ConfigInvalid as error:
        yield fail("encryption", error.args[0], error.hint or "see backups.recipients and backups.identities")
        return
    if not recipients:
        yield ok("encryption", "backups are not encrypted; backups.recipients would")
        return
    if not identities:
        yield fail(
            "encryption",
            "backups are encrypted, and no identity here can open them: no restore, no proof",
            "set backups.identities to a file with the identity of a recipient",
        )
        return
    opened = sum(_opens(recipient, identities) for recipient in recipients)
    if not opened:
        yield fail(
            "encryption",
            f"none of the {len(identities)} identities here opens what {len(recipients)} recipients get",
            "set backups.identities to the identity of a recipient, or add its recipient to backups.recipients",
        )
        return
    yield ok("encryption", f"to {len(recipients)} recipients, {opened} of which have their identity here")


@dataclass(frozen=True)
class _SealedBackup:
    id: str
    part: Part
    """One of its encrypted parts: all are sealed to the same."""


async def sealed_finding(repository: Repository) -> Finding | None:
    """Try the header of every encrypted backup of a repository with the identities here; None when none is encrypted.

    Raises:
        Unreachable, Refused: the repository could not be read.
    """
    sealed = await asyncio.to_thread(_sealed_backups, repository)
    if not sealed:
        return None
    what = f"keys of {repository.name}"
    try:
        identities = identities_of(repository.catalog.keyring)
    except ConfigInvalid as error:
        return fail(what, error.args[0], error.hint or "see backups.identities")
    slots = asyncio.Semaphore(_AT_ONCE)

    async def problem(one: _SealedBackup) -> str:
        async with slots:
            return await asyncio.to_thread(closed_problem, repository.catalog, one.part, identities)

    problems = await asyncio.gather(*(problem(one) for one in sealed))
    closed = [(one, why) for one, why in zip(sealed, problems, strict=True) if why]
    if not closed:
        return ok(what, f"open all {len(sealed)} encrypted backups")
    newest, why = closed[0]
    return fail(
        what,
        f"{len(closed)} of {len(sealed)} encrypted backups cannot be opened here, the newest {newest.id}: {why}",
        "find the identity that they were encrypted to, and add its file to backups.identities",
    )


def _sealed_backups(repository: Repository) -> list[_SealedBackup]:
    """Return the backups with encrypted parts, newest first."""
    found = []
    for one in repository.catalog.published(Manifest):
        if (part := sealed_part(one.manifest)) is not None:
            found.append(_SealedBackup(one.manifest.id, part))
    return found


def _opens(recipient: Recipient, identities: Sequence[Identity]) -> bool:
    sealed = io.BytesIO()
    pyrage.encrypt_io(io.BytesIO(b"doctor"), sealed, [recipient])
    return can_open(sealed.getvalue(), identities)


def _private(path: Path, what: str) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        yield fail(what, f"{path} cannot be looked at: {error}", "see who owns it")
        return
    if mode & 0o077:
        yield warn(what, f"{path} can be read by others (mode {mode:04o})", f"chmod 600 {path}")


def _without_signing(settings: BackupSettings) -> Keyring:
    """Return a keyring for what is encrypted; it signs nothing."""
    return Keyring(Keyring.ephemeral().signing, recipients=settings.recipients, identity_files=settings.identities)
