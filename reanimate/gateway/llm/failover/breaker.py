"""Whether one model of one provider is to be asked with one key. Pure: time is passed in, in seconds of a steady clock.

No user request is ever sent as a probe: what is open is asked by the gateway's own shadow calls only. When these are
good it comes back in steps, as an ever larger share of the calls; what relapses comes back later and more slowly.
"""

from collections import deque
from enum import IntEnum

__all__ = ["RAMP", "Breaker", "Seen", "Standing"]

_IN_A_ROW = 3
_SUSPECT_IN_A_ROW = 2
_SUSPECT_LATE = 2
_WINDOW_S = 10.0
_WINDOW_MIN = 10
_BAD_SHARE = 0.5
_RELAPSE_S = 30.0
"""Open again this soon after it began to come back: it is given less trust the next time."""
_TRUST_LEVELS = 10
"""Each doubles the time that a step takes, up to the bound that is set; the first calls go there all the same as soon
as probes are good."""
_RELAPSED_GOOD = 2

RAMP = (0.05, 0.25, 0.5)
"""Of the calls that it would get; then all of them."""
_STEP_S = 0.25
_STEP_GOOD = 2
"""Good answers or probes before the next step."""


class Seen(IntEnum):
    """What a call was like."""

    GOOD = 0
    LATE = 1
    FAILED = 2


class Standing(IntEnum):
    """In the order in which providers are preferred."""

    CLOSED = 0
    RAMPING = 1
    SUSPECT = 2
    """It failed or was late lately: others first, until a probe has told."""
    OPEN = 3


class Breaker:
    """Opens at once when failure is certain; else after failures in a row, or when half of what it got failed.

    Late calls count as slow ones: they put it under suspicion, but do not open it, since many calls can be late at once
    for one reason that passes, and has nothing to do with the provider. Who is silent for good fails its probes.
    Good answers are only counted after a first bad one, so that the happy path costs next to nothing.
    """

    __slots__ = (
        "_counts", "_credit", "_good", "_in_a_row", "_late", "_relapses", "_returned_at", "_samples",
        "_step", "_step_at", "opened_at", "probe_at", "return_max_s", "standing", "suspected_at", "troubled",
    )  # fmt: skip

    def __init__(self, return_max_s: float = 12.0) -> None:
        """`return_max_s`: how long the way back takes at most, from the first call to all of them."""
        self.return_max_s = return_max_s
        self.standing = Standing.CLOSED
        self.troubled = False
        """Whether a good answer changes anything."""
        self.opened_at = 0.0
        self.suspected_at = 0.0
        self.probe_at = 0.0
        """It asked to be left alone until then."""
        self._in_a_row = 0
        self._late = 0
        self._samples: deque[tuple[float, Seen]] = deque()
        self._counts = [0] * len(Seen)
        """How many samples there are of each."""
        self._good = 0
        self._step = 0
        self._step_at = 0.0
        self._credit = 0.0
        self._relapses = 0
        self._returned_at: float | None = None

    @property
    def step(self) -> int:
        """How far it has come back, in steps of `RAMP`."""
        return self._step

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
            self._samples.append((now, Seen.GOOD))
            self._counts[Seen.GOOD] += 1
            self._forget(now)
        self._in_a_row = self._late = 0
        if self.standing is Standing.RAMPING:
            return self._went_well(now)
        return self._trust()

    def heard(self) -> bool:
        """Take note of a sign of life, which is not yet a whole answer; return True when the standing changed."""
        if not self._late:
            return False
        self._late = 0
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
        self._note(now, Seen.FAILED)
        self._in_a_row += 1
        if (
            certain
            or self.standing is Standing.RAMPING
            or self._in_a_row >= _IN_A_ROW
            or self._too_many(now, Seen.FAILED)
        ):
            return self._open(now)
        return self._in_a_row >= _SUSPECT_IN_A_ROW and self._suspect(now)

    def was_late(self, now: float, asked_at: float) -> bool:
        """Take note that it is later than it should be, and says nothing; return True when the standing changed."""
        if self.standing is Standing.OPEN or (self._returned_at is not None and asked_at < self._returned_at):
            return False
        self._note(now, Seen.LATE)
        self._late += 1
        if self.standing is Standing.RAMPING:
            if self._late >= _SUSPECT_LATE:  # not yet well: from the first step again
                self._step = self._good = self._late = 0
                self._step_at = now
            return False
        return (self._late >= _SUSPECT_LATE or self._too_many(now, Seen.LATE)) and self._suspect(now)

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
        self._in_a_row = self._late = 0
        if self.standing is not Standing.OPEN:
            return self._trust()
        self._good += 1
        if self._relapses and self._good < _RELAPSED_GOOD:
            return False
        self._begin_to_return(now)
        return True

    def follow(self, standing: Standing, step: int, now: float, until: float) -> bool:
        """Be as another process of this gateway has found; return True when the standing changed.

        `until`: when it is open, how long it asked to be left alone.
        """
        was = self.standing
        if standing is Standing.OPEN:
            return self.hold(now, until)
        if standing is Standing.CLOSED:
            self._in_a_row = self._late = self._step = 0
            return self._trust()
        self.troubled = True
        if standing is Standing.SUSPECT:
            return was is Standing.CLOSED and self._suspect(now)
        if was is not Standing.RAMPING:
            self._begin_to_return(now)
        self._step = min(step, len(RAMP) - 1)
        return was is not Standing.RAMPING

    # How its standing changes

    def _begin_to_return(self, now: float) -> None:
        self.standing = Standing.RAMPING
        self._returned_at = self._step_at = now
        self._step = self._good = 0
        self._credit = 1.0 - RAMP[0]  # so that the first call is among those that go there
        self._samples.clear()
        self._counts = [0] * len(Seen)

    def _note(self, now: float, seen: Seen) -> None:
        self.troubled = True
        self._samples.append((now, seen))
        self._counts[seen] += 1
        self._forget(now)

    def _trust(self) -> bool:
        changed = self.standing is not Standing.CLOSED
        self.standing = Standing.CLOSED
        self.troubled = bool(self._samples)
        return changed

    def _suspect(self, now: float) -> bool:
        if self.standing is Standing.SUSPECT:
            return False
        self.standing = Standing.SUSPECT
        self.suspected_at = now
        return True

    def _open(self, now: float) -> bool:
        relapsed = self._returned_at is not None and (
            self.standing is Standing.RAMPING or now - self._returned_at < _RELAPSE_S
        )
        self._relapses = min(self._relapses + 1, _TRUST_LEVELS) if relapsed else 0
        self.standing = Standing.OPEN
        self.troubled = True
        self.opened_at = now
        self.probe_at = now
        self._good = self._late = self._in_a_row = 0
        return True

    def _went_well(self, now: float) -> bool:
        """It is coming back, and did something well; True when it is back."""
        self._good += 1
        step_s = min(_STEP_S * (1 << self._relapses), self.return_max_s / len(RAMP))
        if now - self._step_at < step_s or self._good < _STEP_GOOD:
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
            self._counts[self._samples.popleft()[1]] -= 1

    def _too_many(self, now: float, worst: Seen) -> bool:
        """Say whether half of what it got lately was as bad as that."""
        self._forget(now)
        count = len(self._samples)
        return count >= _WINDOW_MIN and sum(self._counts[worst:]) >= count * _BAD_SHARE
