"""Which backup a collection of an offline standby is a copy of, and how every answer says how old that is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from reanimate.standby.errors import format_error
from reanimate.standby.http import Response

__all__ = ["AGE_HEADER", "TAKEN_AT_HEADER", "Held", "marked", "oldest"]

Json = dict[str, Any]

AGE_HEADER = "x-reanimate-snapshot-age"
"""Seconds since the backup was taken."""
TAKEN_AT_HEADER = "x-reanimate-snapshot-taken-at"
_JSON = ("content-type", "application/json")


@dataclass(frozen=True)
class Held:
    """The backup that a copy was loaded from and found right against."""

    backup_id: str
    collection: str
    """The collection's own name, where the copy has another."""
    taken_at: datetime
    loaded_at: datetime
    points: int
    manifest_sha256: str

    @classmethod
    def of(cls, given: Any) -> "Held":
        """Read what was sent or stored.

        Raises:
            ApiError: 400, it is not that.
        """
        try:
            held = cls(
                backup_id=str(given["backup_id"]),
                collection=str(given["collection"]),
                taken_at=datetime.fromisoformat(given["taken_at"]),
                loaded_at=datetime.fromisoformat(given["loaded_at"]),
                points=int(given["points"]),
                manifest_sha256=str(given["manifest_sha256"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise format_error(f"not the description of a held backup: {error!r}") from None
        if held.taken_at.tzinfo is None or held.loaded_at.tzinfo is None:
            raise format_error("not the description of a held backup: a time without a zone")
        return held

    def as_json(self) -> Json:
        """Return it as it is stored and sent."""
        return {
            "backup_id": self.backup_id,
            "collection": self.collection,
            "taken_at": self.taken_at.isoformat(),
            "loaded_at": self.loaded_at.isoformat(),
            "points": self.points,
            "manifest_sha256": self.manifest_sha256,
        }

    def age_s(self, now: datetime) -> int:
        """Return how old the data is. A clock that runs behind makes nothing younger than new."""
        return max(0, round((now - self.taken_at).total_seconds()))


def oldest(held: Iterable[Held]) -> Held | None:
    """Return the oldest: what an answer about no collection in particular is as old as."""
    return min(held, key=lambda one: one.taken_at, default=None)


def marked(response: Response, held: Held, now: datetime) -> Response:
    """Return the answer with the age of what it was answered from: in two headers, and in a field beside `result`."""
    age_s, taken_at = held.age_s(now), held.taken_at.isoformat()
    headers = [*response.headers, (AGE_HEADER, str(age_s)), (TAKEN_AT_HEADER, taken_at)]
    body = response.body
    if isinstance(body, bytes) and _JSON in response.headers and body.startswith(b"{") and body.endswith(b"}"):
        said = {"backup_id": held.backup_id, "taken_at": taken_at, "age_s": age_s}
        body = body[:-1] + (b"," if len(body) > 2 else b"") + b'"snapshot":' + orjson.dumps(said) + b"}"
    return Response(response.status, body, headers)
