"""One call of a caller, from its arrival to its end, with every attempt that was made for it."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from reanimate.gateway.llm.catalogue import Catalogue, Key, Route, Target
from reanimate.gateway.llm.failures import Failure, Rejected
from reanimate.gateway.llm.prompt import Prompt
from reanimate.gateway.request import Request

__all__ = ["REFUSED", "Attempt", "Call", "Ending", "Tenant", "Usage"]

REFUSED = ("content_filter", "refusal")
"""How answers end, in the providers' words, that were refused for their content."""


class Ending(StrEnum):
    """How a call ended for the caller."""

    ANSWERED = "answered"
    DEGRADED = "degraded"
    """Answered too, but marked: from another model, a cache, or by the static answer."""
    REJECTED = "rejected"
    """By the gateway's own policies (quota, kill, queue), or by the provider with an error that is the caller's."""
    FAILED = "failed"
    """Nobody could answer, or the answer broke off and could not be continued: the caller was told so."""
    ABANDONED = "abandoned"
    """The caller left before the end."""


@dataclass(slots=True, unsafe_hash=True)  # not frozen: that would cost a microsecond for each call
class Usage:
    """Tokens, as a provider counts them, or as we do for one that does not say. Never changed in place."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, those that the provider took from its own cache."""
    estimated: bool = False
    """Whether some of it was counted by us, as the provider did not say."""

    @property
    def says_something(self) -> bool:
        """Whether there is any token in it: servers that do not count fill in zeros."""
        return self.input_tokens + self.output_tokens > 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.estimated or other.estimated,
        )


_NONE = Usage()


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks. Answers are never shared between two values of `partition`."""

    name: str
    partition: str
    weight: int = 1


@dataclass(slots=True)
class Attempt:
    """One request to a provider, and how it ended. Times are of the loop's clock, in seconds."""

    target: Target
    key: Key | None
    began: float
    purpose: str = "first"
    """first, retry, next, hedge or continuation."""
    head_at: float | None = None
    first_token_at: float | None = None
    ended: float | None = None
    status: int | None = None
    failure: Failure | None = None
    """Why its answer was not used; None when it was, or when another one was faster."""
    lost_race: bool = False
    usage: Usage | None = None
    """What the provider says that it counted, or what we did for it."""
    finish: str | None = None
    """Why its answer ended, as the provider says; `empty` when there was nothing in it and nothing was refused."""
    served: bool = False
    """Whether the caller got (a part of) this answer."""

    def ended_by(self, finish: str | None, has_content: bool, refused: bool) -> None:
        """Take note of why its answer ended. What was refused is that, and not empty, though nothing is in it."""
        if refused and finish:
            self.finish = finish if finish in REFUSED else "refusal"
        else:
            self.finish = finish if has_content or not finish or finish in REFUSED else "empty"


@dataclass(slots=True, eq=False)
class Call:
    """Everything that is known of a call while it is underway."""

    id: str
    request: Request
    prompt: Prompt
    tenant: Tenant
    route: Route
    catalogue: Catalogue
    began: float
    deadline: float
    """By the loop's clock."""
    attempts: list[Attempt] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    """Why the answer is not what it would be on a good day, in words for `X-Reanimate-Degraded`."""
    cache: str = "off"
    """off, miss, hit, stale: for `X-Reanimate-Cache`."""
    usage: Usage = _NONE
    """Of everything that the caller got, summed."""
    ending: Ending | None = None
    error: Rejected | None = None
    """What the caller was told, when it was an error."""
    tokens_left: int | None = None
    """In its tightest quota, once it has reserved: for `X-Reanimate-Quota-Remaining`."""
    heard: list[bytes] | None = None
    """What was sent to the caller of a stream, in its pieces; only collected when the cache made it a list."""
    bound: tuple[str, str | None] | None = None
    """The provider, and the name of its key, that keep what this call goes on with; nobody else can be asked."""
    task: asyncio.Task[Any] | None = None
    left: bool = False
    """Whether the caller has gone."""
    stop: Rejected | None = None
    """Set by `end`: why this call must not go on."""

    def end(self, why: Rejected) -> None:
        """Stop this call now, wherever it is; the caller is told `why`. The first reason stays."""
        if self.stop is None and self.ending is None:
            self.stop = why
            if self.task is not None:
                self.task.cancel()

    def was_answered(self) -> None:
        """Take note that the caller gets the whole answer: a marked one, if anything degraded it."""
        self.ending = Ending.DEGRADED if self.degraded else Ending.ANSWERED

    @property
    def answered_by(self) -> Target | None:
        """The target whose answer, or whose last part of an answer, the caller got."""
        for attempt in reversed(self.attempts):
            if attempt.served:
                return attempt.target
        return None
