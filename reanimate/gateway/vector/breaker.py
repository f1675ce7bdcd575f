"""Whether a target, or one name on it, is to be asked. Pure: time is passed in, in seconds of a steady clock.

No user request is ever sent as a probe: what is out comes back by the gateway's own probes only.
"""

from collections import deque
from collections.abc import Iterable
from enum import IntEnum, StrEnum

__all__ = ["Breaker", "Health", "Standing", "Trouble"]

_WINDOW_S = 2.0
_WINDOW_MIN = 5
_IN_A_ROW = 2
_GOOD_PROBES = 2
_GOOD_PROBES_MAX = 64
_RELAPSE_S = 10.0
"""Out again this soon after coming back: twice as many good probes are wanted the next time."""
_NAMES_KEPT = 10_000


class Trouble(StrEnum):
    """How a request to a target failed."""

    REFUSED = "refused"
    """No connection came about: nothing was sent."""
    RESET = "reset"
    """The connection broke before an answer."""
    CUT = "cut"
    """The connection broke within an answer."""
    TIMEOUT = "timeout"
    HTTP = "http"
    """A 5xx, or something that is not HTTP."""
    MISSING = "missing"
    """The server lives and says that the collection does not."""


class Standing(IntEnum):
    """In the order in which targets are preferred."""

    UP = 0
    SUSPECT = 1
    OUT = 2
    MISSING = 3


class Breaker:
    """Out at once when failure is certain; else after two failures in a row, or half of at least five within 2 s.

    Only what comes after a first failure is counted, so that the happy path costs nothing.
    """

    __slots__ = ("_back_at", "_good", "_in_a_row", "_needed", "_samples", "standing")

    def __init__(self) -> None:
        self.standing = Standing.UP
        self._in_a_row = 0
        self._samples: deque[tuple[float, bool]] = deque()
        self._good = 0
        self._needed = _GOOD_PROBES
        self._back_at: float | None = None

    def suspect(self) -> None:
        """Prefer others until the next probe; by itself this never takes anything out."""
        if self.standing is Standing.UP:
            self.standing = Standing.SUSPECT
            self._in_a_row = max(self._in_a_row, 1)

    def failed(self, now: float, *, certain: bool = False) -> bool:
        """Take note of a failure; return True when this one took it out."""
        self._good = 0
        if self.standing is Standing.OUT:
            return False
        self._in_a_row += 1
        self._samples.append((now, False))
        if certain or self._in_a_row >= _IN_A_ROW or self._too_many(now):
            self._go_out(now)
            return True
        self.standing = Standing.SUSPECT
        return False

    def succeeded(self, now: float) -> None:
        """Take note of a good answer to a user. What is out stays so until its probes are good."""
        if self._samples:
            self._samples.append((now, True))
            self._forget(now)
        if self.standing is not Standing.OUT:
            self._in_a_row = 0
            self.standing = Standing.UP

    def probed_well(self, now: float) -> bool:
        """Take note of a good probe; return True when this one brought it back."""
        if self.standing is not Standing.OUT:
            self._in_a_row = 0
            self.standing = Standing.UP
            return False
        self._good += 1
        if self._good < self._needed:
            return False
        self.standing = Standing.UP
        self._in_a_row = 0
        self._samples.clear()
        self._back_at = now
        return True

    def _go_out(self, now: float) -> None:
        relapsed = self._back_at is not None and now - self._back_at < _RELAPSE_S
        self._needed = min(self._needed * 2, _GOOD_PROBES_MAX) if relapsed else _GOOD_PROBES
        self.standing = Standing.OUT
        self._good = 0

    def _forget(self, now: float) -> None:
        while self._samples and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def _too_many(self, now: float) -> bool:
        self._forget(now)
        bad = sum(not good for _, good in self._samples)
        return len(self._samples) >= _WINDOW_MIN and bad * 2 >= len(self._samples)


class Health:
    """One target: the server as a whole, and each name that was in trouble there.

    A slow or broken collection makes that name go elsewhere, not the server: only a refused connection or the
    gateway's own probes take the whole target out, since writes are refused then.
    """

    __slots__ = ("missing", "names", "served", "trouble", "whole", "why")

    def __init__(self) -> None:
        self.whole = Breaker()
        self.why = ""
        """What last went wrong with the whole, in words for the log and for errors."""
        self.trouble: Trouble | None = None
        self.names: dict[str, Breaker] = {}
        self.missing: set[str] = set()
        """Names that another target has and this one does not."""
        self.served: dict[str, None] = {}
        """Names that this target has answered for; after an absence they are looked for."""

    @property
    def is_out(self) -> bool:
        return self.whole.standing is Standing.OUT

    @property
    def is_troubled(self) -> bool:
        """Whether probes are wanted."""
        return bool(self.missing) or self.is_failing

    @property
    def is_failing(self) -> bool:
        """Whether the server or one of its names does not answer as it should."""
        breakers = (self.whole, *self.names.values())
        return any(breaker.standing is not Standing.UP for breaker in breakers)

    @property
    def _is_emptied(self) -> bool:
        return bool(self.missing) and self.missing.issuperset(self.served)

    def standing(self, name: str | None) -> Standing:
        """Return how good a choice this target is for a read of `name`."""
        whole = self.whole.standing
        if whole is Standing.OUT:
            return whole
        if self.missing and (name in self.missing or (name is None and self._is_emptied)):
            return Standing.MISSING
        if self.names and (breaker := self.names.get(name or "")) is not None:
            return max(whole, breaker.standing)
        return whole

    def answered(self, name: str | None, now: float) -> None:
        """Take note of a good answer for `name`."""
        if self.whole.standing is Standing.SUSPECT:
            self.whole.succeeded(now)
        if self.names and (breaker := self.names.get(name or "")) is not None:
            breaker.succeeded(now)
        if name is not None:
            self.missing.discard(name)
            if name not in self.served and len(self.served) < _NAMES_KEPT:
                self.served[name] = None

    def name_failed(self, name: str | None, now: float) -> bool:
        """Take note of a failed read of `name`; return True when it takes the name out."""
        if (name or "") not in self.names and len(self.names) >= _NAMES_KEPT:
            return False
        return self.names.setdefault(name or "", Breaker()).failed(now)

    def lost(self, name: str) -> bool:
        """Take note that `name` is not there though another target has it; return True if that is news."""
        if name in self.missing or len(self.missing) >= _NAMES_KEPT:
            return False
        self.missing.add(name)
        return True

    def unseen(self) -> None:
        """Take note that the names of the server cannot be listed: each read finds out for itself again."""
        self.missing.clear()

    def absent(self, names: Iterable[str]) -> set[str]:
        """Return what this target once had and the server does not list now."""
        return (self.missing | self.served.keys()).difference(names)

    def compare(self, names: Iterable[str], elsewhere: set[str] | None) -> tuple[set[str], set[str]]:
        """Compare with the names that the server lists now; return (newly missing, found again).

        `elsewhere` are the names that other targets list, None if that is not known. What nobody has any more is
        not missing but gone, and forgotten.
        """
        absent = self.absent(names)
        if elsewhere is not None:
            for name in absent - elsewhere:
                self.served.pop(name, None)
            absent &= elsewhere
        gone, again = absent - self.missing, self.missing & set(names)
        self.missing = absent
        return gone, again
