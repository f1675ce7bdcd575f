"""What one request, and all of them together, may spend on trying again. Pure: no clock, chance is passed in."""

__all__ = ["HedgeBudget", "RetryBudget", "full_jitter"]


class RetryBudget:
    """Of one provider: a tenth of the calls may be sent to it a second time, so that no outage is made worse."""

    __slots__ = ("_tokens",)

    _SHARE = 0.1
    _MOST = 10.0

    def __init__(self) -> None:
        self._tokens = self._MOST

    def asked(self) -> None:
        """Take note of a first attempt."""
        if self._tokens < self._MOST:
            self._tokens += self._SHARE

    def spend(self) -> bool:
        """Say whether one more retry is within the budget, and take it."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class HedgeBudget:
    """Of one route: which share of its calls may be asked twice while the provider is well."""

    __slots__ = ("_most", "_share", "_tokens")

    _MOST = 5.0

    def __init__(self, share: float) -> None:
        self._share = share
        self._most = self._MOST if share > 0 else 0.0
        self._tokens = self._most

    def asked(self) -> None:
        """Take note of a call."""
        if self._tokens < self._most:
            self._tokens += self._share

    def spend(self) -> bool:
        """Say whether one more hedge is within the budget, and take it."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def full_jitter(chance: float, attempt: int, *, base_s: float, cap_s: float) -> float:
    """Return how long to wait before attempt n (from 0) so that many who failed together do not come back together.

    `chance` is between 0 and 1; the wait is that part of a bound that doubles from `base_s` up to `cap_s`.
    """
    return chance * min(cap_s, base_s * (1 << min(attempt, 30)))
