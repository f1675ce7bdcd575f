"""Whether what is encrypted can be opened with the identities here: told from the first bytes of a part."""

from collections.abc import Sequence

import obstore
from obstore.exceptions import BaseError

from reanimate.backups.catalog import Catalog
from reanimate.backups.manifest import Manifest, Part
from reanimate.storage.encryption import HEADER_BYTES, Identity, Sealed, can_open
from reanimate.storage.transport import told

__all__ = ["closed_problem", "sealed_part"]

_FIRST_BYTES = 4096
"""Enough for the header of a part that is sealed to a few."""


def sealed_part(manifest: Manifest) -> Part | None:
    """Return an encrypted part of a backup, for all of its parts are sealed to the same; None when none is."""
    return next((part for part in manifest.parts if "age" in part.packing), None)


def closed_problem(catalog: Catalog, part: Part, identities: Sequence[Identity]) -> str:
    """Say why an encrypted part cannot be opened, or nothing. Blocks."""
    for size in (_FIRST_BYTES, HEADER_BYTES):
        end = min(size, part.stored_size)
        try:
            head = bytes(obstore.get_range(catalog.store, part.blob, start=0, end=end))
            return "" if can_open(head, identities) else f"none of the {len(identities)} identities opens it"
        except Sealed as error:
            if end == part.stored_size or size == HEADER_BYTES:
                return str(error)
        except (BaseError, OSError) as error:
            return str(told(error, f"reading {part.blob}"))
    raise AssertionError("unreachable: the last size returns")
