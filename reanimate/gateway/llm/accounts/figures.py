"""What the LLM plane did, in counts: for the last hour by the second, and since it started.

Buckets of a second become buckets of ten after ten minutes. Time is passed in by the clock.
"""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from reanimate.gateway.llm.accounts.account import Key, account, is_unanswered
from reanimate.gateway.llm.accounts.buckets import Bucket, Names, Packed
from reanimate.gateway.llm.accounts.window import Window, figures_of, window_of
from reanimate.gateway.llm.call import Call, Ending

__all__ = ["Figures"]

_HOUR_S = 3600
_FINE_S = 600
_COARSE_S = 10
_TENANTS_KEPT = 200
_UNCHANGED = -(10**9)
"""Failures in a row, after they were told elsewhere: a success sets them to zero, failures add to this."""
_OTHERS = "(others)"
"""Whom the calls of all further tenants count for: a caller who makes up names must not fill the memory."""


class Figures:
    """Counts of calls, each in the second in which it ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take the time from `clock`, in seconds of the epoch."""
        self._clock = clock
        self.started_at = datetime.fromtimestamp(clock(), UTC)
        self._names = Names()
        self._newest: Bucket | None = None
        self._fine: deque[Packed] = deque()
        """The seconds before the newest."""
        self._coarse: deque[Packed] = deque()
        self._folding = Bucket(0)
        """The newest of the coarse ones."""
        self._past = Bucket(0)
        """Since the start, but for the newest of the buckets."""
        self._rows: dict[tuple[str, str], int] = {}
        self._tenants: set[str] = set()
        self._windows: dict[float, tuple[int, Window]] = {}

    def ended(self, call: Call, now: float) -> None:
        """Count a call; `now` is of the loop's clock."""
        account(call, self._tenant(call.tenant.name), now, self._bucket().counts)
        self._count_rows(call)

    def drain(self) -> list[Any]:
        """Return what was counted since the last time, for another process to `absorb`, and forget it.

        A process that does this shows no figures of its own.
        """
        total = Bucket(0)
        for bucket in self._fine:
            self._names.unpack(bucket, total)
        if self._newest is not None:
            total.add(self._newest.counts)
        rows = [[*key, count] for key, count in self._rows.items() if count != _UNCHANGED]
        self._fine.clear()
        self._newest = None
        self._past = Bucket(0)
        self._rows = dict.fromkeys(self._rows, _UNCHANGED)
        return [[[[*key], count] for key, count in total.counts.items()], rows]

    def absorb(self, drained: list[Any]) -> None:
        """Add what another process counted."""
        counts, rows = drained
        self._bucket().add({tuple(key): count for key, count in counts})
        for kind, name, count in rows:
            # Below zero: so many failures, and no success before them.
            known = self._rows.get((kind, name), 0)
            self._rows[kind, name] = count if count >= 0 else known + count - _UNCHANGED

    def window(self, seconds: float) -> Window:
        """Return the figures of the last so many seconds, the current one included; worked out once a second."""
        second = self._bucket().second
        known = self._windows.get(seconds)
        if known is not None and known[0] == second:
            return known[1]
        window = window_of(self._since(second - seconds + 1), self._rows, seconds)
        if len(self._windows) > 100:
            self._windows.clear()
        self._windows[seconds] = (second, window)
        return window

    def since(self, asked: datetime | None) -> dict[str, Any]:
        """Return the figures from `asked` on, as far as they reach: an hour back, and never before the start."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        start = max(self.started_at, now - timedelta(seconds=_HOUR_S), asked or self.started_at)
        self._bucket()
        counts = self._since(int(start.timestamp()))
        seconds = max((now - start).total_seconds(), 1.0)
        return {"since": start.isoformat(), "now": now.isoformat(), **figures_of(counts, self._rows, seconds)}

    def lifetime(self) -> dict[str, Any]:
        """Return the figures since the start."""
        seconds = max(self._clock() - self.started_at.timestamp(), 1.0)
        return figures_of(self.counts(), self._rows, seconds)

    def counts(self) -> dict[Key, float]:
        """Return the counts since the start."""
        total = Bucket(0)
        total.add(self._past.counts)
        if self._newest is not None:
            total.add(self._newest.counts)
        return total.counts

    def in_a_row(self, kind: str, name: str) -> int:
        """Return the failures of a "route" (`*`: of all) or "target" since its last success."""
        return self._rows.get((kind, name), 0)

    def _since(self, second: float) -> dict[Key, float]:
        total = Bucket(0)
        for bucket in self._coarse:
            if bucket.second + _COARSE_S > second:
                self._names.unpack(bucket, total)
        if self._folding.second + _COARSE_S > second:
            total.add(self._folding.counts)
        for bucket in self._fine:
            if bucket.second >= second:
                self._names.unpack(bucket, total)
        if self._newest is not None and self._newest.second >= second:
            total.add(self._newest.counts)
        return total.counts

    def _bucket(self) -> Bucket:
        """Return the one of this second. The one before is packed: only what is added to has to be quick."""
        second = int(self._clock())
        newest = self._newest
        if newest is not None:
            if newest.second >= second:
                return newest
            self._past.add(newest.counts)
            self._fine.append(self._names.pack(newest))
        while len(self._fine) > 1 and self._fine[0].second < second - _FINE_S:
            self._fold(self._fine.popleft())
        while self._coarse and self._coarse[0].second < second - _HOUR_S - _COARSE_S:
            self._coarse.popleft()
        bucket = self._newest = Bucket(second)
        return bucket

    def _fold(self, bucket: Packed) -> None:
        second = bucket.second - bucket.second % _COARSE_S
        if self._folding.second < second:
            if self._folding.counts:
                self._coarse.append(self._names.pack(self._folding))
            self._folding = Bucket(second)
        self._names.unpack(bucket, self._folding)

    def _tenant(self, name: str) -> str:
        if name in self._tenants:
            return name
        if len(self._tenants) >= _TENANTS_KEPT:
            return _OTHERS
        self._tenants.add(name)
        return name

    def _count_rows(self, call: Call) -> None:
        rows = self._rows
        for attempt in call.attempts:
            if attempt.failure is None:
                if attempt.served:
                    rows["target", attempt.target.name] = 0
            elif attempt.failure.counts:
                key = ("target", attempt.target.name)
                rows[key] = rows.get(key, 0) + 1
        if is_unanswered(call):
            for name in (call.route.name, "*"):
                rows["route", name] = rows.get(("route", name), 0) + 1
        elif call.attempts and (call.ending is Ending.ANSWERED or call.ending is Ending.DEGRADED):
            rows["route", call.route.name] = rows["route", "*"] = 0
