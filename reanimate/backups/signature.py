"""Signed JSON documents: a manifest, a proof or a recovery point that was swapped or edited shows.

The signature is one more member of the document, over the canonical form of all others; a person still reads the file.
"""

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from reanimate.backups.hashing import canonical
from reanimate.backups.keyring import Keyring
from reanimate.errors import Damaged

__all__ = ["open_signed", "sign"]

_MEMBER = "signature"


def sign(content: bytes, keyring: Keyring) -> bytes:
    """Return a JSON object with our ed25519 signature in it. The same content gives the same bytes."""
    document: dict[str, Any] = json.loads(content)
    document.pop(_MEMBER, None)
    document[_MEMBER] = _member(keyring.public_key, keyring.signing.sign(_signed(document)))
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")


def open_signed(content: bytes, keyring: Keyring, *, where: str) -> dict[str, Any]:
    """Return the document without its signature, which must be that of a trusted key.

    Raises:
        Damaged: not JSON, not signed, signed by a key that is not trusted, or changed after it was signed.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise Damaged(f"{where} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise Damaged(f"{where} cannot be read: it is not a JSON object")
    signature = document.pop(_MEMBER, None)
    if signature is None:
        if keyring.accept_unsigned:
            return document
        raise Damaged(
            f"{where} is not signed",
            hint="one made before backups were signed is read when backups.accept_unsigned is true",
        )
    key = signature.get("key") if isinstance(signature, dict) else None
    if key not in keyring.trusted:
        raise Damaged(
            f"{where} is signed by {key}, which is not trusted here",
            hint="if that is another installation of yours, add its key to backups.trusted_keys",
        )
    try:
        value = base64.b64decode(str(signature.get("value")))
        # Exactly as we write it: there is more than one text for the same bytes, and only one of them is ours.
        if signature != _member(key, value):
            raise ValueError(f"the signature of {where} is not in its one form")
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key.partition(":")[2])).verify(value, _signed(document))
    except (InvalidSignature, ValueError):
        raise Damaged(
            f"{where} was changed after it was signed", hint="do not use it; see who can write to the repository"
        ) from None
    return document


def _member(key: str, value: bytes) -> dict[str, str]:
    return {"algorithm": "ed25519", "key": key, "value": base64.b64encode(value).decode()}


def _signed(document: dict[str, Any]) -> bytes:
    return canonical(document).encode("utf-8", "surrogatepass")
