"""What the gateway did, in counts: per second for the last hour, and since it started. Pure: time is passed in."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

__all__ = ["HOUR_S", "Figures", "Outcome"]

HOUR_S = 3600


class Outcome(StrEnum):
    """How a read or a write ended for the client."""

    ANSWERED = "answered"
    """A read: 2xx, or a 4xx of a healthy target."""
    DEGRADED = "degraded"
    """Answered too, but marked: not by the primary."""
    ACKNOWLEDGED = "acknowledged"
    """A write: 2xx."""
    REJECTED = "rejected"
    """A write: a 4xx of the primary."""
    REFUSED = "refused"
    """A write: 503 of ours; nothing was sent."""
    FAILED = "failed"
    """5xx, or cut: for a write its outcome may be unknown."""
    ABANDONED = "abandoned"
    """The client left before it had an answer."""


@dataclass(slots=True)
class _Bucket:
    """One second, or all of them."""

    second: int
    reads: Counter[str] = field(default_factory=Counter)
    writes: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0

    def add(self, other: "_Bucket") -> None:
        self.reads.update(other.reads)
        self.writes.update(other.writes)
        self.requests.update(other.requests)
        self.failures.update(other.failures)
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)


class Figures:
    """Counts by second. A request counts in the second in which it ended, an attempt at a target when it began."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take the time from `clock`, in seconds of the epoch."""
        self._clock = clock
        self.started_at = datetime.fromtimestamp(clock(), UTC)
        self._buckets: deque[_Bucket] = deque()
        self._past = _Bucket(0)
        """Everything that is older than the buckets."""

    def read(self, outcome: Outcome, took_ms: float) -> None:
        """Count a read that ended; `took_ms` is what the client waited, in milliseconds."""
        bucket = self._bucket()
        bucket.reads[outcome] += 1
        if took_ms > bucket.slowest_ms:
            bucket.slowest_ms = took_ms

    def write(self, outcome: Outcome) -> None:
        """Count a write that ended."""
        self._bucket().writes[outcome] += 1

    def asked(self, target: str) -> None:
        """Count a request sent to a target."""
        self._bucket().requests[target] += 1

    def failed(self, target: str) -> None:
        """Count a request that a target failed."""
        self._bucket().failures[target] += 1

    def drain(self) -> dict[str, Any]:
        """Return what was counted since the last time, for another process to `absorb`, and forget it.

        A process that does this shows no figures of its own.
        """
        total = _Bucket(0)
        for bucket in self._buckets:
            total.add(bucket)
        self._buckets.clear()
        self._past = _Bucket(0)
        return {
            "reads": _plain(total.reads),
            "writes": _plain(total.writes),
            "requests": _plain(total.requests),
            "failures": _plain(total.failures),
            "slowest_ms": total.slowest_ms,
        }

    def absorb(self, drained: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        counted = {name: Counter(drained[name]) for name in ("reads", "writes", "requests", "failures")}
        self._bucket().add(_Bucket(0, **counted, slowest_ms=drained["slowest_ms"]))

    def since(self, asked: datetime | None) -> dict[str, Any]:
        """Return the counts from `asked` on, as far as they reach: an hour back, and never before the start.

        Counts are by whole seconds: what happened in the second of `asked` is in.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        start = max(self.started_at, now - timedelta(seconds=HOUR_S), asked or self.started_at)
        total = _Bucket(0)
        self._bucket()
        for bucket in self._buckets:
            if bucket.second >= int(start.timestamp()):
                total.add(bucket)
        return {"since": start.isoformat(), "now": now.isoformat(), **_figures(total)}

    def lifetime(self) -> dict[str, Any]:
        """Return the counts since the start."""
        total = _Bucket(0)
        for bucket in (self._past, *self._buckets):
            total.add(bucket)
        return _figures(total)

    def _bucket(self) -> _Bucket:
        second = int(self._clock())
        if self._buckets and self._buckets[-1].second >= second:
            return self._buckets[-1]
        while self._buckets and self._buckets[0].second < second - HOUR_S:
            self._past.add(self._buckets.popleft())
        bucket = _Bucket(second)
        self._buckets.append(bucket)
        return bucket


def _plain(counts: Counter[str]) -> dict[str, int]:
    """Return the counts with plain names, which is what JSON takes."""
    return {str(name): count for name, count in counts.items()}


def _total(counts: Counter[str], outcomes: Iterable[Outcome]) -> int:
    return sum(counts[outcome] for outcome in outcomes)


def _figures(total: _Bucket) -> dict[str, Any]:
    reads, writes = total.reads, total.writes
    return {
        "reads": {
            "asked": reads.total(),
            "answered": _total(reads, (Outcome.ANSWERED, Outcome.DEGRADED)),
            "degraded": reads[Outcome.DEGRADED],
            "failed": reads[Outcome.FAILED],
            "abandoned": reads[Outcome.ABANDONED],
            "slowest_ms": round(total.slowest_ms, 1),
        },
        "writes": {
            "asked": writes.total(),
            "acknowledged": writes[Outcome.ACKNOWLEDGED],
            "rejected": writes[Outcome.REJECTED],
            "refused": writes[Outcome.REFUSED],
            "failed": writes[Outcome.FAILED],
            "abandoned": writes[Outcome.ABANDONED],
        },
        "targets": {
            name: {"requests": total.requests[name], "failures": total.failures[name]}
            for name in sorted(total.requests.keys() | total.failures.keys())
        },
    }
