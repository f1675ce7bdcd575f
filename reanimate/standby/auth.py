"""Who may do what: the API key may do everything, the read-only key may read.

An offline standby knows a control key as well: whoever refreshes it has that one, and nobody else may write.
"""

import hmac
from dataclasses import dataclass
from enum import Enum

from reanimate.standby.errors import ApiError, forbidden

__all__ = ["Keys", "Right"]


class Right(Enum):
    """What a route asks of the caller."""

    OPEN = "open"
    READ = "read"
    WRITE = "write"
    CONTROL = "control"
    """Only whoever refreshes an offline standby."""


@dataclass(frozen=True, repr=False)
class Keys:
    """The keys of this server. Without any, everybody may do everything, as on a server without keys."""

    full: str | None = None
    read_only: str | None = None
    refuse_writes: bool = False
    """Started with `--read-only`: nobody may write but with the control key."""
    control: str | None = None

    def __repr__(self) -> str:
        return "Keys(***)"

    def check(self, right: Right, headers: dict[str, str]) -> None:
        """Let the request pass, or raise.

        Raises:
            ApiError: 401 as plain text without a known key, 403 when the key or the server only reads.
        """
        if right is Right.OPEN or self.is_control(headers):
            return
        if right is Right.CONTROL:
            raise forbidden("the control key is required")
        only_reads = self._only_reads(headers)
        if right is Right.READ:
            return
        if only_reads:
            raise forbidden("Global manage access is required")
        if self.refuse_writes:
            raise forbidden("this standby server was started read-only")

    def is_control(self, headers: dict[str, str]) -> bool:
        """Say whether the request came with the control key."""
        return _same(_given(headers) or "", self.control)

    def _only_reads(self, headers: dict[str, str]) -> bool:
        if not self.full and not self.read_only:
            return False
        given = _given(headers)
        if given is None:
            raise ApiError(401, "Must provide an API key or an Authorization bearer token", plain=True)
        if _same(given, self.full):
            return False
        if _same(given, self.read_only):
            return True
        raise ApiError(401, "Invalid API key or JWT", plain=True)


def _given(headers: dict[str, str]) -> str | None:
    """Return the key that came with a request, in either form."""
    if (key := headers.get("api-key")) is not None:
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None


def _same(given: str, key: str | None) -> bool:
    return bool(key) and hmac.compare_digest(given.encode(), (key or "").encode())
