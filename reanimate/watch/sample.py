"""One probe's outcome, and what kind of failure an exception is; nothing here decides who is down."""

import errno
import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from socket import gaierror
from typing import Any

import aiohttp

from reanimate.clock import utcnow

__all__ = ["FailureKind", "OwnTroubleError", "Sample", "kind_of"]


class FailureKind(StrEnum):
    """How a probe failed."""

    REFUSED = "refused"
    """A host answered that nobody listens."""
    RESET = "reset"
    """Somebody answered and hung up."""
    HTTP = "http"
    """An answer that is not the one of a healthy server."""
    TIMEOUT = "timeout"
    """Nothing came back in time."""
    UNREACHABLE = "unreachable"
    """This machine found no way there: no route, no name, no permission."""


SILENT = frozenset({FailureKind.TIMEOUT, FailureKind.UNREACHABLE})
QUICK = frozenset({FailureKind.REFUSED, FailureKind.RESET})


@dataclass(frozen=True)
class Sample:
    """One probe: `asked` and `answered` are seconds of the monotonic clock, `at` is when it was asked, in UTC."""

    asked: float
    answered: float
    at: datetime
    kind: FailureKind | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.kind is None

    @property
    def silent(self) -> bool:
        """Nothing came back at all: it may as well be the watch's own network."""
        return self.kind in SILENT

    @property
    def quick(self) -> bool:
        """A failure that needs no waiting to be believed."""
        return self.kind in QUICK

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(),
            "ok": self.ok,
            "kind": self.kind,
            "detail": self.detail,
            "took_ms": round((self.answered - self.asked) * 1000, 2),
        }

    def as_evidence(self, check: str) -> dict[str, Any]:
        """Return this sample as an entry of an alert's evidence."""
        found = "answered" if self.ok else str(self.kind)
        return {
            "at": self.at.isoformat(),
            "check": check,
            "found": found,
            "expected": "answered",
            "detail": self.detail,
        }

    @classmethod
    def of(cls, asked: float, answered: float, kind: FailureKind | None = None, detail: str = "") -> "Sample":
        """Build a sample whose wall-clock time is told from the monotonic one, at the moment of calling."""
        return cls(asked, answered, wall_time(asked, answered), kind, detail)


def wall_time(asked: float, now: float) -> datetime:
    """Return what the wall clock showed at `asked`, if the monotonic clock shows `now` now."""
    return utcnow() - timedelta(seconds=now - asked)


class OwnTroubleError(Exception):
    """The probe failed for want of something on our side (file descriptors, memory): it says nothing about others."""


BY_ERRNO = {
    errno.ECONNREFUSED: FailureKind.REFUSED,
    errno.ECONNRESET: FailureKind.RESET,
    errno.EPIPE: FailureKind.RESET,
    errno.ECONNABORTED: FailureKind.RESET,
    errno.ETIMEDOUT: FailureKind.TIMEOUT,
    errno.ENETUNREACH: FailureKind.UNREACHABLE,
    errno.EHOSTUNREACH: FailureKind.UNREACHABLE,
    errno.ENETDOWN: FailureKind.UNREACHABLE,
    errno.EHOSTDOWN: FailureKind.UNREACHABLE,
    errno.EADDRNOTAVAIL: FailureKind.UNREACHABLE,
    errno.EACCES: FailureKind.UNREACHABLE,
    errno.EPERM: FailureKind.UNREACHABLE,
}
OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


def kind_of(error: BaseException) -> FailureKind:
    """Name the kind of failure `error` is.

    Raises:
        OwnTroubleError: it says something about this process, not about what was probed.
    """
    if isinstance(error, TimeoutError):  # aiohttp's timeouts are both TimeoutError and OSError
        return FailureKind.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError | aiohttp.ClientSSLError):
        return FailureKind.HTTP
    cause = getattr(error, "os_error", error)
    if isinstance(cause, gaierror):
        return FailureKind.UNREACHABLE
    numbers = errnos(cause)
    if numbers & OWN_TROUBLE:
        raise OwnTroubleError(str(error)) from error
    kinds = {BY_ERRNO[number] for number in numbers if number in BY_ERRNO}
    for kind in (FailureKind.REFUSED, FailureKind.RESET, FailureKind.TIMEOUT, FailureKind.UNREACHABLE):
        if kind in kinds:  # of several addresses, one that answered says more than one that did not
            return kind
    if isinstance(error, aiohttp.ServerDisconnectedError | EOFError):
        return FailureKind.RESET
    return FailureKind.HTTP


def errnos(error: BaseException) -> set[int]:
    """Return every error number in `error`; a name with several addresses yields one error that only quotes them."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return {number}
    return {int(found) for found in re.findall(r"\[Errno (\d+)\]", str(error))}
