"""Who may do what: the API key may do everything, the read-only key may read."""

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


@dataclass(frozen=True, repr=False)
class Keys:
    """The keys of this server. Without any, everybody may do everything, as on a server without keys."""

    full: str | None = None
    read_only: str | None = None
    refuse_writes: bool = False
    """Started with `--read-only`: nobody may write."""

    def __repr__(self) -> str:
        return "Keys(***)"

    def check(self, right: Right, headers: dict[str, str]) -> None:
        """Let the request pass, or raise.

        Raises:
            ApiError: 401 as plain text without a known key, 403 when the key or the server only reads.
        """
        if right is Right.OPEN:
            return
        only_reads = self._only_reads(headers)
        if right is Right.READ:
            return
        if only_reads:
            raise forbidden("Global manage access is required")
        if self.refuse_writes:
            raise forbidden("this standby server was started read-only")

    def _only_reads(self, headers: dict[str, str]) -> bool:
        if not self.full and not self.read_only:
            return False
        given = headers.get("api-key")
        if given is None:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise ApiError(401, "Must provide an API key or an Authorization bearer token", plain=True)
            given = token.strip()
        if _same(given, self.full):
            return False
        if _same(given, self.read_only):
            return True
        raise ApiError(401, "Invalid API key or JWT", plain=True)


def _same(given: str, key: str | None) -> bool:
    return bool(key) and hmac.compare_digest(given.encode(), (key or "").encode())
