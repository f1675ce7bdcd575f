"""What errors mean, as a table. Pure.

The words are those of OpenAI, Azure, Anthropic, Google, Mistral, Groq, DeepSeek, OpenRouter, vLLM, llama.cpp, Ollama.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from reanimate.gateway.llm.failures import Help

__all__ = ["ErrorRule", "rule_for"]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """What is given must all fit: the status, words in the error's type and codes, words in its message."""

    kind: str
    """`{status}` stands for the status."""
    help: Help
    statuses: Collection[int] = ()
    named: re.Pattern[str] | None = None
    says: re.Pattern[str] | None = None
    counts: bool = False
    """Whether it speaks against the provider's health."""

    def fits(self, status: int | None, named: str, said: str) -> bool:
        """Say whether this rule is about such an error."""
        if self.statuses and status not in self.statuses:
            return False
        if self.named is not None and self.named.search(named) is None:
            return False
        return self.says is None or self.says.search(said) is not None


def _any(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_NO_MONEY = _any(
    "insufficient_quota",
    "billing",
    "quota_exceeded",
    "account_deactivated",
    "insufficient_balance",
    "credits_exhausted",
)
_SAYS_NO_MONEY = _any(
    "credit balance is too low",
    "insufficient (?:credit|balance|funds)",
    "specified api usage limits",
    "out of credits",
    "exceeded your current quota",
    "organization has been disabled",
    "account is not active",
)
_TOO_LONG = _any("context_length", "exceed_context_size", "string_above_max_length")
_SAYS_TOO_LONG = _any(
    "maximum context length",
    "prompt is too long",
    "exceeds? (?:the )?(?:available )?context (?:limit|size|window)",
    "context (?:length|window|size) (?:of|is|exceeded)",
    "input (?:is|length is|tokens exceed) too (?:long|large)",
    "too many (?:input )?tokens",
    "longer than the (?:model's|maximum) (?:context|input|model length)",
    "input token count .* exceeds",
)
_POLICY = _any("content_policy", "content_filter", "responsibleaipolicy", "moderation", "safety", "invalid_prompt")
_SAYS_POLICY = _any(
    "content (?:filter|policy|management policy)",
    "content filtering policy",
    "usage polic",
    "safety (?:system|setting)",
    "requires moderation",
    "was flagged",
)
_BAD_KEY = _any("invalid_api_key", "authentication_error", "invalid_authentication")
_NO_MODEL = _any("model_not_found", "deploymentnotfound", "not_found_error")
_BUSY = _any("overloaded", "slow_down", "nocapacity")
_SAYS_BUSY = _any("overload", "busy", "capacity", "loading", "no available model provider")
_LIMITED = _any("rate_limit", "resource_exhausted", "throttl")
_WRONG = _any("invalid_request", "badrequest", "invalid_argument")

_RULES = (
    ErrorRule("quota", Help.KEY, (402,)),
    ErrorRule("quota", Help.KEY, named=_NO_MONEY),
    ErrorRule("quota", Help.KEY, (400, 403, 429), says=_SAYS_NO_MONEY),
    ErrorRule("context_length", Help.LARGER, named=_TOO_LONG),
    ErrorRule("context_length", Help.LARGER, (400, 413, 422, 500), says=_SAYS_TOO_LONG),
    ErrorRule("content_policy", Help.NONE, named=_POLICY),
    ErrorRule("content_policy", Help.NONE, (400, 403, 422), says=_SAYS_POLICY),
    ErrorRule("unauthorized", Help.KEY, (401,)),
    ErrorRule("unauthorized", Help.KEY, named=_BAD_KEY),
    ErrorRule("forbidden", Help.KEY, (403,)),
    # Another provider may have it.
    ErrorRule("not_stored", Help.NEXT, named=_any("previous_response_not_found")),
    # The provider is well, but this model of it is not there.
    ErrorRule("not_found", Help.NEXT, (404, 405, 410)),
    ErrorRule("not_found", Help.NEXT, named=_NO_MODEL),
    # Larger than the body, or all the tokens of a minute, that it takes: waiting does not help, another one may.
    ErrorRule("too_large", Help.NEXT, (413,)),
    ErrorRule("rate_limited", Help.KEY, (429,)),
    ErrorRule("overloaded", Help.NEXT, (529,), counts=True),
    ErrorRule("overloaded", Help.NEXT, named=_BUSY, counts=True),
    ErrorRule("overloaded", Help.NEXT, (503,), says=_SAYS_BUSY, counts=True),
    ErrorRule("rate_limited", Help.KEY, named=_LIMITED),
    ErrorRule("http_{status}", Help.NEXT, (501, 505), counts=True),
    ErrorRule("http_{status}", Help.RETRY, (408, 409, 425, *range(500, 600)), counts=True),
    ErrorRule("bad_request", Help.NONE, range(400, 500)),
    # Redirects, and what nobody knows.
    ErrorRule("http_{status}", Help.NEXT, range(100, 1000), counts=True),
    # Without a status: errors within an answer that began as a good one.
    ErrorRule("bad_request", Help.NONE, named=_WRONG),
    ErrorRule("error_event", Help.NEXT, counts=True),
)
"""The first that fits decides."""


def rule_for(status: int | None, named: str, said: str) -> ErrorRule:
    """Return what is known of an error: its status, the words of its type and codes, its message."""
    return next(rule for rule in _RULES if rule.fits(status, named, said))
