"""Whether one model of one provider is to be asked with one key. Pure: time is passed in, in seconds of a steady clock.

No user request is ever sent as a probe: what is open is asked by the gateway's own shadow calls only. When these are
good it comes back in steps, as an ever larger share of the calls; what relapses comes back later and more slowly.
"""

from collections import deque
from enum import IntEnum

__all__ = ["RAMP", "Breaker", "Standing"]

_IN_A_ROW = 3
_SUSPECT_IN_A_ROW = 2
_SILENT = 5
_SUSPECT_SILENT = 2
_SILENT_FOR_S = 0.25
"""Many calls can be late at the same moment for one reason. Only silence that lasts takes a provider out."""
_WINDOW_S = 10.0
_WINDOW_MIN = 10
_BAD_SHARE = 0.5
_RELAPSE_S = 30.0
"""Open again this soon after it began to come back: it is given less trust the next time."""
_TRUST_LEVELS = 5
"""Each doubles the time that a step takes; the first calls go there all the same as soon as probes are good."""
_RELAPSED_GOOD = 2

RAMP = (0.05, 0.25, 0.5)
"""Of the calls that it would get; then all of them."""
_STEP_S = 0.25
_STEP_GOOD = 2
"""Good answers or probes before the next step."""


class Standing(IntEnum):
    """In the order in which providers are preferred."""

    CLOSED = 0
    RAMPING = 1
    SUSPECT = 2
    """It failed or was late lately: others first, until a probe has told."""
    OPEN = 3


class Breaker:
    """Opens at once when failure is certain; else after failures in a row, lasting silence, or half of what it got.

    Good answers are only counted after a first bad one, so that the happy path costs next to nothing.
    """

    __slots__ = (
        "_credit", "_good", "_in_a_row", "_relapses", "_returned_at", "_samples", "_silent", "_silent_since",
        "_step", "_step_at", "opened_at", "probe_at", "standing", "troubled",
    )  # fmt: skip

    def __init__(self) -> None:
        self.standing = Standing.CLOSED
        self.troubled = False
        """Whether a good answer changes anything."""
        self.opened_at = 0.0
        self.probe_at = 0.0
        """It asked to be left alone until then."""
        self._in_a_row = 0
        self._silent = 0
        self._silent_since = 0.0
        self._samples: deque[tuple[float, bool]] = deque()
        self._good = 0
        self._step = 0
        self._step_at = 0.0
        self._credit = 0.0
        self._relapses = 0
        self._returned_at: float | None = None

    @property
    def share(self) -> float:
        """Of the calls that it would get, how many it may get."""
        if self.standing is Standing.RAMPING:
            return RAMP[self._step]
        return 0.0 if self.standing is Standing.OPEN else 1.0

    @property
    def is_promising(self) -> bool:
        """Whether the last probes were good: the next one should come soon."""
        return self.standing is Standing.RAMPING or self._good > 0

    def admits(self) -> bool:
        """Say whether the next call may go there; while it is coming back, only each so manieth."""
        if self.standing is not Standing.RAMPING:
            return self.standing is not Standing.OPEN
        self._credit += RAMP[self._step]
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True

    # What is seen of it

    def succeeded(self, now: float) -> bool:
        """Take note of a whole good answer; return True when the standing changed."""
        if not self.troubled:
            return False
        if self.standing is Standing.OPEN:
            return False  # asked before it opened
        if self._samples:
            self._samples.append((now, True))
            self._forget(now)
        self._in_a_row = self._silent = 0
        if self.standing is Standing.RAMPING:
            return self._went_well(now)
        return self._trust()

    def heard(self) -> bool:
        """Take note of a sign of life, which is not yet a whole answer; return True when the standing changed."""
        if not self._silent:
            return False
        self._silent = 0
        return self.standing is Standing.SUSPECT and self._in_a_row < _SUSPECT_IN_A_ROW and self._trust()

    def failed(self, now: float, asked_at: float, *, certain: bool = False) -> bool:
        """Take note of a failure, of a user's call or a probe; return True when the standing changed.

        What was asked before it came back says nothing about how it is now.
        """
        if self._returned_at is not None and asked_at < self._returned_at:
            return False
        self._good = 0
        if self.standing is Standing.OPEN:
            return False
        self._note_bad(now)
        self._in_a_row += 1
        if certain or self.standing is Standing.RAMPING or self._in_a_row >= _IN_A_ROW or self._too_many(now):
            return self._open(now)
        return self._in_a_row >= _SUSPECT_IN_A_ROW and self._suspect()

    def was_late(self, asked_at: float, now: float) -> bool:
        """Take note that it is later than it should be, and says nothing; return True when the standing changed.

        A slow call counts as a bad one, once.
        """
        if self.standing is Standing.OPEN or (self._returned_at is not None and asked_at < self._returned_at):
            return False
        self._note_bad(now)
        if not self._silent:
            self._silent_since = asked_at
        self._silent += 1
        lasts = now - self._silent_since >= _SILENT_FOR_S
        if self.standing is Standing.RAMPING:
            return self._silent >= _SUSPECT_SILENT and self._open(now)
        if (self._silent >= _SILENT and lasts) or self._too_many(now):
            return self._open(now)
        return self._silent >= _SUSPECT_SILENT and self._suspect()

    def hold(self, now: float, until: float) -> bool:
        """Leave it alone until then: it said so, or its key is refused; return True when the standing changed."""
        if self.standing is Standing.OPEN:
            self.probe_at = max(self.probe_at, until)
            return False
        self._open(now)
        self.probe_at = until
        return True

    def probed_well(self, now: float) -> bool:
        """Take note of a good probe; return True when the standing changed."""
        if self.standing is Standing.RAMPING:
            return self._went_well(now)
        self._in_a_row = self._silent = 0
        if self.standing is not Standing.OPEN:
            return self._trust()
        self._good += 1
        if self._relapses and self._good < _RELAPSED_GOOD:
            return False
        self.standing = Standing.RAMPING
        self._returned_at = self._step_at = now
        self._step = self._good = 0
        self._credit = 1.0 - RAMP[0]  # so that the first call is among those that go there
        self._samples.clear()
        return True

    # How its standing changes

    def _note_bad(self, now: float) -> None:
        self.troubled = True
        self._samples.append((now, False))
        self._forget(now)

    def _trust(self) -> bool:
        changed = self.standing is not Standing.CLOSED
        self.standing = Standing.CLOSED
        self.troubled = bool(self._samples)
        return changed

    def _suspect(self) -> bool:
        changed = self.standing is Standing.CLOSED
        self.standing = Standing.SUSPECT
        return changed

    def _open(self, now: float) -> bool:
        relapsed = self._returned_at is not None and now - self._returned_at < _RELAPSE_S
        self._relapses = min(self._relapses + 1, _TRUST_LEVELS) if relapsed else 0
        self.standing = Standing.OPEN
        self.troubled = True
        self.opened_at = now
        self.probe_at = now
        self._good = self._silent = self._in_a_row = 0
        return True

    def _went_well(self, now: float) -> bool:
        """It is coming back, and did something well; True when it is back."""
        self._good += 1
        if now - self._step_at < _STEP_S * (1 << self._relapses) or self._good < _STEP_GOOD:
            return False
        self._step_at = now
        self._good = 0
        self._step += 1
        if self._step < len(RAMP):
            return True
        self._step = 0
        return self._trust()

    def _forget(self, now: float) -> None:
        while self._samples and now - self._samples[0][0] > _WINDOW_S:
            self._samples.popleft()

    def _too_many(self, now: float) -> bool:
        count = len(self._samples)
        return count >= _WINDOW_MIN and sum(not good for _, good in self._samples) >= count * _BAD_SHARE
