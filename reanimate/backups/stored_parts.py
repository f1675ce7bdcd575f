"""Parts of a backup on their way into a repository and out of it: sealed and opened with the catalog's keys."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pyrage
from pyrage import ssh, x25519

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.manifest import Part
from reanimate.errors import ConfigInvalid
from reanimate.storage.packing import Identity, Kind, Packed, Recipient, fetch_packed, store_packed

__all__ = ["fetch_part", "identities_of", "recipients_of", "store_part"]

Progress = Callable[[int, int], None]


async def store_part(
    catalog: Catalog, key: str, file: Path, kind: Kind, *, name: str | None = None, on_progress: Progress | None = None
) -> Part:
    """Store a file under a key, as small as it pays and encrypted if there are recipients. The part is called `name`,
    else like the end of the key.

    Raises:
        ConfigInvalid: a recipient of the settings is none.
        Unreachable, Refused, Damaged: as `store_packed`.
    """
    packed = await store_packed(catalog.store, key, file, kind, recipients_of(catalog.keyring), on_progress)
    return Part(
        name=name or PurePosixPath(key).name,
        blob=key,
        size=packed.size,
        sha256=packed.sha256,
        stored_size=packed.stored_size,
        stored_sha256=packed.stored_sha256,
        packing=packed.packing,
    )


async def fetch_part(catalog: Catalog, part: Part, into: Path, on_progress: Progress | None = None) -> None:
    """Bring a part back into a file. Where `into` exists afterwards, it is the file that was stored.

    Raises:
        ConfigInvalid: the part is encrypted, and a file with identities cannot be read.
        NotFound, Damaged, Unreachable: as `fetch_packed`.
    """
    packed = Packed(part.size, part.sha256, part.stored_size, part.stored_sha256, part.packing)
    identities = identities_of(catalog.keyring) if "age" in part.packing else []
    await fetch_packed(catalog.store, part.blob, packed, into, identities, on_progress)


def recipients_of(keyring: Keyring) -> list[Recipient]:
    """Return those that parts are encrypted to.

    Raises:
        ConfigInvalid: one is no age recipient.
    """
    found: list[Recipient] = []
    for text in keyring.recipients:
        try:
            kind = ssh.Recipient if text.startswith("ssh-") else x25519.Recipient
            found.append(kind.from_str(text))
        except pyrage.RecipientError as error:
            raise ConfigInvalid(
                f"{text[:20]}… is no age recipient: {error}", hint="mend backups.recipients: age1… or ssh-ed25519 …"
            ) from None
    return found


def identities_of(keyring: Keyring) -> list[Identity]:
    """Return those that can open what is encrypted.

    Raises:
        ConfigInvalid: a file of the settings cannot be read, or what is in it is no identity.
    """
    found: list[Identity] = []
    for text in keyring.identities():
        try:
            found.append(x25519.Identity.from_str(text))
        except pyrage.IdentityError as error:
            raise ConfigInvalid(f"an age identity cannot be read: {error}", hint="see backups.identities") from None
    return found
