"""Object lock: a bucket that keeps every object for a time, whoever asks to delete it.

The bucket's own default retention does the locking; nothing has to be asked for when an object is stored. What it did
is read from the object's headers. Deleting in such a bucket succeeds and only hides: the locked version stays.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, S3Store

from reanimate.errors import NotFound, Unreachable
from reanimate.storage.transport import told

__all__ = ["ObjectLock", "lock_of"]

_SIGNED_FOR = timedelta(minutes=5)
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class ObjectLock:
    """What a bucket promises for one object."""

    mode: str
    """COMPLIANCE: nobody can shorten it. GOVERNANCE: who has a special right can. LEGAL HOLD: until it is lifted."""
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Say whether the object cannot be destroyed now."""
        return self.until is None or now < self.until

    @property
    def told(self) -> str:
        """What this means for whoever deletes the object."""
        end = f"until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else "until the hold is lifted"
        return f"locked by the bucket ({self.mode}) {end}: deleting only hides it, and frees no room before that"


async def lock_of(store: ObjectStore, key: str) -> ObjectLock | None:
    """Return the lock on an object, or None where there is none or the store knows no such thing.

    Raises:
        NotFound: there is no such object.
        Unreachable, Refused: the store could not be asked.
    """
    if not isinstance(store, S3Store):
        return None
    doing = f"looking at the lock of {key}"
    try:
        url = await obstore.sign_async(store, "HEAD", key, _SIGNED_FOR)
    except BaseError as error:
        raise told(error, doing) from error
    insecure = (store.client_options or {}).get("allow_invalid_certificates") in (True, "true")
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE_S, verify=not insecure) as http:
            answer = await http.head(url)
    except httpx.HTTPError as error:
        raise Unreachable(f"{doing}: {error!r}", hint="see whether the store is reachable") from None
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise NotFound(f"{doing}: it is not in the store")
    if answer.is_error:
        raise Unreachable(f"{doing}: the store answered {answer.status_code}")
    return read_lock(answer.headers)


def read_lock(headers: httpx.Headers) -> ObjectLock | None:
    """Read the lock from the headers of an S3 answer."""
    if headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
        return ObjectLock("LEGAL HOLD", None)
    mode, until = headers.get("x-amz-object-lock-mode"), headers.get("x-amz-object-lock-retain-until-date")
    return ObjectLock(mode.upper(), datetime.fromisoformat(until)) if mode and until else None
