"""The switch document: what a gateway obeys, signed, in sequence, expiring. Pure; shared by both planes.

The switches themselves are in `kinds.py`.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from reanimate.errors import InputInvalid, Refused
from reanimate.switches.kinds import COMBINE, checked_value

__all__ = ["COMBINE", "LIFETIME", "Claim", "SwitchDocument", "effective", "read_document", "sign"]

LIFETIME = timedelta(seconds=30)
"""How long a document may be underway; an older one is a replay."""


@dataclass(frozen=True)
class Claim:
    """One hold, as far as its effect goes."""

    switch: str
    scope: str
    value: Any


def effective(claims: Iterable[Claim]) -> list[Claim]:
    """Return one claim per (switch, scope), the most careful of all that were given.

    Raises:
        InputInvalid: a claim names a switch that does not exist, or a scope or value that it does not take.
    """
    grouped: dict[tuple[str, str], list[Any]] = {}
    for claim in claims:
        value = checked_value(claim.switch, claim.scope, claim.value)
        grouped.setdefault((claim.switch, claim.scope), []).append(value)
    return [Claim(switch, scope, COMBINE[switch](values)) for (switch, scope), values in sorted(grouped.items())]


@dataclass(frozen=True)
class SwitchDocument:
    """All effective values at one number of one ledger. A ledger is one life of the record's database."""

    ledger: str
    ledger_started_at: datetime
    seq: int
    issued_at: datetime
    expires_at: datetime
    switches: tuple[Claim, ...]

    def encode(self) -> bytes:
        return orjson.dumps(
            {
                "ledger": self.ledger,
                "ledger_started_at": self.ledger_started_at,
                "seq": self.seq,
                "issued_at": self.issued_at,
                "expires_at": self.expires_at,
                "switches": [{"switch": c.switch, "scope": c.scope, "value": c.value} for c in self.switches],
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> "SwitchDocument":
        """Read a document.

        Raises:
            InputInvalid: it is not one.
        """
        try:
            raw = orjson.loads(body)
            return cls(
                ledger=str(raw["ledger"]),
                ledger_started_at=datetime.fromisoformat(raw["ledger_started_at"]),
                seq=int(raw["seq"]),
                issued_at=datetime.fromisoformat(raw["issued_at"]),
                expires_at=datetime.fromisoformat(raw["expires_at"]),
                switches=tuple(effective(Claim(c["switch"], c["scope"], c["value"]) for c in raw["switches"])),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputInvalid(f"not a switch document: {error}") from error

    def is_newer_than(self, other: "SwitchDocument | None") -> bool:
        """Say whether this document replaces `other`: a later number, or a later ledger."""
        if other is None:
            return True
        if self.ledger == other.ledger:
            return self.seq > other.seq
        return self.ledger_started_at > other.ledger_started_at


def sign(body: bytes, key: str) -> str:
    """Return the value of the `X-Reanimate-Signature` header: `v1=` and HMAC-SHA256 in lower hex."""
    return "v1=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def read_document(body: bytes, headers: Mapping[str, str], key: str, now: datetime) -> SwitchDocument:
    """Return the document in `body`.

    Raises:
        Refused: the signature is missing or wrong, or the document has expired.
        InputInvalid: it is signed, but not a document.
    """
    given = headers.get("x-reanimate-signature", "")
    if not hmac.compare_digest(given.encode(), sign(body, key).encode()):
        raise Refused("a switch document came without a valid signature")
    document = SwitchDocument.decode(body)
    if document.expires_at < now:
        raise Refused(f"switch document {document.seq} expired at {document.expires_at.isoformat()}")
    return document
