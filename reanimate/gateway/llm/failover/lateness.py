"""When a request to a provider is late, when another one is asked beside it, and when it is given up. Pure."""

from typing import Protocol

from reanimate.gateway.llm.failures import Failure, Help
from reanimate.llm_settings import RouteSettings

__all__ = ["Lateness"]

_LATE_UNKNOWN_S = 1.0
"""Of a provider of which nothing is known yet this much silence is no reason to suspect it."""
_HANGS = 3
"""So many times what 95 of 100 answers take: this one hangs, whatever the others do."""
_HANGS_S = 0.25


class Arriving(Protocol):
    """What is seen of an answer."""

    status: int
    last_byte_at: float


class Lateness:
    """Of one request. `due` is when to look next."""

    __slots__ = (
        "_hangs_at", "_hedge_at", "_late", "_late_at", "_looked", "_p95", "_settings", "_stream", "_until",
        "began", "deadline", "due", "hedged",
    )  # fmt: skip

    def __init__(
        self, settings: RouteSettings, p95: float | None, began: float, deadline: float, *, stream: bool
    ) -> None:
        self.began = began
        self.deadline = deadline
        self.hedged = not settings.hedge
        """Whether nobody else is to be asked because of this one."""
        self._settings = settings
        self._p95 = p95
        self._stream = stream
        self._late = False
        self._looked = False
        self._hangs_at = 0.0
        # Made for every call: plain comparisons are a third of what min() and max() cost.
        hedge_s, late_s = settings.hedge_max_s, _LATE_UNKNOWN_S
        if p95 is not None:
            late_s = p95 if p95 > settings.hedge_min_s else settings.hedge_min_s
            if late_s < hedge_s:
                hedge_s = late_s
        elif late_s < hedge_s:
            late_s = hedge_s
        self._hedge_at = began + hedge_s
        self._late_at = began + late_s
        until = began + settings.first_token_s
        self._until = until if until < deadline else deadline
        due = self._late_at if self.hedged else self._hedge_at
        self.due = due if due < self._until else self._until

    def next_due(self, now: float) -> None:
        """Set `due` to the next moment at which something may have to be done."""
        due = self._until
        if not self._late and self._late_at < due:
            due = self._late_at
        if not self.hedged:
            if not self._looked:
                due = min(due, self._hedge_at)
            elif now < (hangs_at := self._hang()):
                due = min(due, hangs_at)
        self.due = due

    def given_up(self, now: float, response: Arriving) -> Failure | None:
        """Return why it is not waited for any longer, None while it is.

        An answer that is not streamed may take its time once it has begun, as long as something comes.
        """
        if now < self._until:
            return None
        if now < self.deadline and response.status and not self._stream:
            whole_until = self.began + self._settings.answer_s
            self._until = min(response.last_byte_at + self._settings.idle_s, whole_until, self.deadline)
            if now < self._until:
                return None
            return Failure("stall", Help.NEXT, f"its answer is not whole after {now - self.began:.1f} s")
        if now >= self.deadline:
            return Failure("timeout", Help.NEXT, f"no answer within the {now - self.began:.1f} s that were left")
        return Failure("timeout", Help.NEXT, f"no answer within {self._settings.first_token_s:g} s")

    def turns_late(self, now: float) -> bool:
        """Say whether it is later than it is in 95 of 100 cases; once."""
        if self._late or now < self._late_at:
            return False
        self._late = True
        return True

    def may_be_hedged(self, now: float) -> bool:
        """Say whether it is time to ask another one beside it."""
        return not self.hedged and now >= self._hedge_at

    def is_overdue(self, now: float) -> bool:
        """Say whether another one might have been asked beside it by now."""
        return now >= self._hedge_at

    def first_look(self, now: float) -> bool:
        """Say whether nobody has looked since it was time to ask another one; once."""
        looked, self._looked = self._looked, True
        return not looked

    def hangs(self, now: float) -> bool:
        """Say whether it is so late that it is not a matter of chance any more."""
        return now >= self._hang()

    def _hang(self) -> float:
        if not self._hangs_at:
            settings = self._settings
            if self._p95 is None:
                self._hangs_at = 2 * self._late_at - self.began
            else:
                least_s = max(settings.hedge_min_s, settings.hedge_max_s, _HANGS_S)
                self._hangs_at = self.began + max(_HANGS * self._p95, least_s)
        return self._hangs_at
