"""An alert in our words, and the request that brought it. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

__all__ = ["AlertStatus", "Arrival", "IncomingAlert", "Reading", "RequestHead", "bounded", "digest"]

_LONGEST_FINGERPRINT = 200


class AlertStatus(StrEnum):
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class RequestHead:
    """What a request says before its body. Header names are in lower case."""

    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class IncomingAlert:
    """One alert of a delivery. Its identity is (source, fingerprint, starts_at, status)."""

    source: str
    fingerprint: str
    status: AlertStatus
    starts_at: datetime
    ends_at: datetime | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[Any, ...] = ()
    sender_group: str | None = None
    """How the sender itself grouped it; alerts of one group belong together."""

    @property
    def title(self) -> str:
        """One line for people."""
        named = self.annotations.get("summary") or self.labels.get("alertname") or self.labels.get("fault")
        return " ".join((named or f"alert {self.fingerprint}").split())[:200]


@dataclass(frozen=True)
class Reading:
    """What a sender's body says: the key under which a repetition of it is known, and its alerts."""

    delivery_key: str
    alerts: tuple[IncomingAlert, ...]


@dataclass(frozen=True)
class Arrival:
    """One POST as it arrived, ready to be stored."""

    source: str
    delivery_key: str
    received_at: datetime
    content_type: str
    headers: Mapping[str, str]
    """Those that carry meaning (ce-*); never credentials."""
    body: bytes = field(repr=False)
    state: str = "stored"
    """`unreadable` when the sender was right but the body was not; it is kept for a person to look at."""
    error: str | None = None


def digest(*parts: str) -> str:
    """Return SHA-256 in hex over `parts`, each set apart from the next; a key of fixed length for any input."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def bounded(fingerprint: str) -> str:
    """Return a fingerprint that fits an index: a very long one is replaced by its digest."""
    return fingerprint if len(fingerprint) <= _LONGEST_FINGERPRINT else digest(fingerprint)
