"""The ways in which a call can fail, classed by what helps."""

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Failure", "Help", "Rejected"]


class Help(StrEnum):
    """What helps against a failure of one provider."""

    RETRY = "retry"
    """Transient: a lone 5xx, a reset. Once more there, quickly; then the next."""
    NEXT = "next"
    """Ask another provider at once: silence, garbage, overload, a 429 without a near Retry-After."""
    KEY = "key"
    """The key is out of quota or refused: the provider's next key, then the next provider."""
    LARGER = "larger"
    """The prompt is too long: only a model with more room helps."""
    NONE = "none"
    """The caller's own: content policy, bad request. Passed on, not retried."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What one provider did instead of answering.

    `kind` is a short name for figures: refused, connect_timeout, tls, reset, cut, timeout, stall, http_500,
    rate_limited, overloaded, quota, unauthorized, not_found, context_length, content_policy, bad_request, garbage,
    error_event, no_finish, malformed_event …
    """

    kind: str
    help: Help
    detail: str
    """In words: what was found."""
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    """The provider's own error, when it gave one that is fit to be passed on."""
    retry_after_s: float | None = None
    """How long the provider asks to be left alone."""
    counts: bool = True
    """Whether it speaks against the provider's health."""


class Rejected(Exception):
    """What the caller is told instead of an answer; `wire/errors.py` says it in the caller's shape.

    `kind` is one of: quota_exhausted, killed, rate_cut, queue_full, queue_timeout, no_route, no_target, all_failed,
    too_large, bad_request, unauthorized, not_found, stopping, deadline, broken_off.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        passed: Failure | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.passed = passed
        """The provider's own error, to be passed on as it is (translated to the caller's wire)."""
