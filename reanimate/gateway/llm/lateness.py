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
_NEVER = float("inf")


class Arriving(Protocol):
    """What is seen of an answer."""

    status: int
    last_byte_at: float


class Lateness:
    """Of one request. `due` is when to look next."""

    __slots__ = (
        "_first_token_s", "_hangs_at", "_hedge_at", "_idle_s", "_late", "_late_at", "_looked", "_until",
        "_whole_until", "began", "deadline", "due", "hedged",
    )  # fmt: skip

    def __init__(
        self, settings: RouteSettings, p95: float | None, began: float, deadline: float, *, stream: bool
    ) -> None:
        self.began = began
        self.deadline = deadline
        self.hedged = not settings.hedge
        """Whether nobody else is to be asked because of this one."""
        self._idle_s = settings.idle_s
        self._first_token_s = settings.first_token_s
        self._late = False
        self._looked = False
        if p95 is None:
            self._hedge_at = began + settings.hedge_max_s
            self._late_at = began + max(_LATE_UNKNOWN_S, settings.hedge_max_s)
            self._hangs_at = self._late_at * 2 - began
        else:
            self._hedge_at = began + min(max(p95, settings.hedge_min_s), settings.hedge_max_s)
            self._late_at = began + max(p95, settings.hedge_min_s)
            self._hangs_at = began + max(_HANGS * p95, _HANGS_S, settings.hedge_min_s, settings.hedge_max_s)
        self._until = min(began + settings.first_token_s, deadline)
        self._whole_until = _NEVER if stream else began + settings.answer_s
        self.due = 0.0
        self.next_due(began)

    def next_due(self, now: float) -> None:
        """Set `due` to the next moment at which something may have to be done."""
        due = self._until
        if not self._late and self._late_at < due:
            due = self._late_at
        if not self.hedged:
            if not self._looked:
                due = min(due, self._hedge_at)
            elif now < self._hangs_at:
                due = min(due, self._hangs_at)
        self.due = due

    def given_up(self, now: float, response: Arriving) -> Failure | None:
        """Return why it is not waited for any longer, None while it is.

        An answer that is not streamed may take its time once it has begun, as long as something comes.
        """
        if now < self._until:
            return None
        if now < self.deadline and response.status and self._whole_until is not _NEVER:
            self._until = min(response.last_byte_at + self._idle_s, self._whole_until, self.deadline)
            if now < self._until:
                return None
            return Failure("stall", Help.NEXT, f"its answer is not whole after {now - self.began:.1f} s")
        if now >= self.deadline:
            return Failure("timeout", Help.NEXT, f"no answer within the {now - self.began:.1f} s that were left")
        return Failure("timeout", Help.NEXT, f"no answer within {self._first_token_s:g} s")

    def turns_late(self, now: float) -> bool:
        """Say whether it is later than it is in 95 of 100 cases; once."""
        if self._late or now < self._late_at:
            return False
        self._late = True
        return True

    def may_be_hedged(self, now: float) -> bool:
        """Say whether it is time to ask another one beside it."""
        return not self.hedged and now >= self._hedge_at

    def first_look(self, now: float) -> bool:
        """Say whether nobody has looked since it was time to ask another one; once."""
        looked, self._looked = self._looked, True
        return not looked

    def hangs(self, now: float) -> bool:
        """Say whether it is so late that it is not a matter of chance any more."""
        return now >= self._hangs_at
