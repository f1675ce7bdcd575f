"""How long a provider asks to be left alone, in all the ways in which it is said."""

from datetime import UTC, datetime

import pytest

from reanimate.gateway.llm.failover.patience import asked_pause

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "words", "seconds"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": "Thu, 26 Nov 2026 12:00:30 GMT"}, "", 30.0),
        ({"retry-after": "Thu, 26 Nov 2026 11:00:00 GMT"}, "", 0.0),
        ({"retry-after": "2", "retry-after-ms": "1500"}, "", 1.5),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, "", 360.0),
        ({"x-ratelimit-reset-tokens": "59.123s", "x-ratelimit-remaining-tokens": "0"}, "", 59.123),
        ({"x-ratelimit-reset-requests": "12ms"}, "", 0.012),
        ({"x-ratelimit-reset-requests": "1d2h3m4s", "x-ratelimit-remaining-requests": "0"}, "", 86_400.0),
        (
            {
                "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "12",
                "x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0",
            }, "", 360.0,
        ),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, "", 1.0),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-26T12:00:41Z",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-11-26T12:00:01Z",
            }, "", 41.0,
        ),
        ({"x-ratelimit-reset": "1795694460000", "x-ratelimit-remaining": "0"}, "", 60.0),
        ({"x-ratelimit-reset": "1795694460"}, "", 60.0),
        ({}, "Please try again in 1.4s.", 1.4),
        ({}, "Please try again in 6m0s. Visit …", 360.0),
        ({}, "Please retry after 6 seconds.", 6.0),
        ({}, "[{'retryDelay': '27s'}]", 27.0),
        ({"retry-after": "3"}, "Please try again in 1.4s.", 3.0),
        ({}, "slow down", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-1"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "999999999"}, "", 86_400.0),
    ],
)  # fmt: skip
def test_asked_pause__is_read_from_headers_and_words(
    headers: dict[str, str], words: str, seconds: float | None
) -> None:
    """The explicit wish first, then the limits that are used up, then the message."""
    found = asked_pause([(name.encode(), value.encode()) for name, value in headers.items()], words, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))
