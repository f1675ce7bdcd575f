"""What a provider says that it takes in a minute, or at once, of one model. Pure: time is passed in."""

from reanimate.llm_settings import ModelSettings

__all__ = ["Limits"]

_SECONDS = 60


class Limits:
    """Counts by seconds, so that no minute, whenever it begins, sees more than is allowed."""

    __slots__ = ("_calls", "_concurrency", "_requests", "_second", "_tokens", "_tokens_used", "underway")

    def __init__(self, can: ModelSettings) -> None:
        self._requests = can.requests_per_min
        self._tokens = can.tokens_per_min
        self._concurrency = can.concurrency
        self._calls = [0] * _SECONDS
        self._tokens_used = [0] * _SECONDS
        self._second = 0
        self.underway = 0

    @staticmethod
    def of(can: ModelSettings) -> "Limits | None":
        """Return the limits of a model, None when it has none."""
        return Limits(can) if can.requests_per_min or can.tokens_per_min or can.concurrency else None

    def room_in(self, tokens: int, now: float) -> float:
        """Return in how many seconds there is room for a call of `tokens`; 0: now.

        For a place among those at once that cannot be known: then it is a moment. A single call that is larger than
        a whole minute's tokens goes when the minute is empty.
        """
        self._turn(int(now))
        if self._concurrency is not None and self.underway >= self._concurrency:
            return 0.02
        wait = 0
        if self._requests is not None:
            wait = self._until(self._calls, self._requests - 1)
        if self._tokens is not None:
            wait = max(wait, self._until(self._tokens_used, max(self._tokens - tokens, 0)))
        return max(float(int(now) + wait) - now, 0.001) if wait else 0.0

    def begin(self, tokens: int, now: float) -> None:
        """Take note of a call that is sent."""
        self._turn(int(now))
        self.underway += 1
        self._calls[self._second % _SECONDS] += 1
        self._tokens_used[self._second % _SECONDS] += tokens

    def end(self, reserved: int, used: int | None, began: float, now: float) -> None:
        """Take note that a call that began then has ended; `used` corrects what was reserved for it."""
        self.underway -= 1
        self._turn(int(now))
        if used is not None and self._second - int(began) < _SECONDS:
            at = int(began) % _SECONDS
            self._tokens_used[at] = max(self._tokens_used[at] + used - reserved, 0)

    def _turn(self, second: int) -> None:
        """Forget what is a minute ago."""
        passed = second - self._second
        if passed <= 0:
            return
        for n in range(1, min(passed, _SECONDS) + 1):
            self._calls[(self._second + n) % _SECONDS] = self._tokens_used[(self._second + n) % _SECONDS] = 0
        self._second = second

    def _until(self, counts: list[int], allowed: int) -> int:
        """Return after how many whole seconds at most `allowed` are left in the window."""
        total = sum(counts)
        if total <= allowed:
            return 0
        for n in range(1, _SECONDS + 1):
            total -= counts[(self._second + n) % _SECONDS]
            if total <= allowed:
                return n
        return _SECONDS
