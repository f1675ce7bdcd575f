"""When a provider wants to be asked again, from the headers and the words in which each of them says it. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["asked_pause"]

_LONGEST_S = 86_400.0
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_IN_WORDS = re.compile(
    r"(?:try again|retry|retry after|available|reset) (?:in|after) ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+|\d+(?:\.\d+)?)"
    r"(?: (second|minute|hour))?"
    r"|retrydelay\W+(\d+(?:\.\d+)?)s",
    re.IGNORECASE,
)
_WORD_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_EPOCH_FROM = 1_000_000_000.0
_EPOCH_MS_FROM = 100_000_000_000.0

_LIMITS = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ("x-ratelimit-remaining", "x-ratelimit-reset"),
)
"""What is left of a limit, and when there is all of it again."""


def asked_pause(headers: Iterable[tuple[bytes, bytes]], words: str, now: datetime) -> float | None:
    """Return for how many seconds from `now` on a provider asks to be left alone; None if it does not say.

    Its explicit wish (`retry-after-ms`, `retry-after`) goes before the resets of the limits that are used up, those
    before what its message says.
    """
    found = {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}
    for said in (
        _milliseconds(found.get("retry-after-ms")),
        _moment(found.get("retry-after"), now),
        _reset(found, now),
        _in_words(words),
    ):
        if said is not None:
            return min(max(said, 0.0), _LONGEST_S)
    return None


def _milliseconds(value: str | None) -> float | None:
    number = _number(value)
    return None if number is None else number / 1000


def _reset(found: Mapping[str, str], now: datetime) -> float | None:
    """Return when the limits that are used up have room again, all of them; if none is said to be, the nearest."""
    used_up: list[float] = []
    others: list[float] = []
    for remaining, reset in _LIMITS:
        if (at := _moment(found.get(reset), now)) is not None:
            left = _number(found.get(remaining))
            (used_up if left is not None and left <= 0 else others).append(at)
    if used_up:
        return max(used_up)
    return min(others) if others else None


def _moment(value: str | None, now: datetime) -> float | None:
    """Read seconds, "6m0s", an HTTP date, RFC 3339, or the epoch in seconds or milliseconds."""
    if not value:
        return None
    number = _number(value)
    if number is not None:
        if number >= _EPOCH_MS_FROM:
            return number / 1000 - now.timestamp()
        return number - now.timestamp() if number >= _EPOCH_FROM else number
    if _WHOLE_DURATION.fullmatch(value):
        return _duration(value)
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


def _duration(value: str) -> float:
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(value))


def _in_words(words: str) -> float | None:
    if (found := _IN_WORDS.search(words)) is None:
        return None
    said, unit, delay = found.groups()
    if delay is not None:
        return float(delay)
    number = _number(said)
    return _duration(said) if number is None else number * _WORD_S[(unit or "second").lower()]
