"""What an answer says about how it came about: the `X-Reanimate-…` headers."""

from collections.abc import Sequence

from reanimate.gateway.llm.call import Call

__all__ = ["marks"]

Headers = list[tuple[bytes, bytes]]

_PASSED = frozenset((b"content-type", b"request-id", b"x-request-id", b"retry-after"))
_WITHHELD = frozenset((b"openai-organization", b"openai-project", b"anthropic-organization-id"))
"""Whose account it is is not the callers' business."""
_PASSED_PREFIXES = (b"openai-", b"anthropic-", b"x-ratelimit-")
_KNOWN_KEPT, _NAME_KEPT = 1_000, 64
_known: dict[bytes, bool] = {}
"""Whether a header is passed on, by its name: the same few come with every answer."""


def marks(call: Call, target: str | None = None, provider: Sequence[tuple[bytes, bytes]] = ()) -> Headers:
    """Return the head of an answer: what the provider's head said that concerns the caller, and our own words.

    `target` is who answers, where that is no attempt's target (a cache, the static answer).
    """
    head = [header for header in provider if (_known[header[0]] if header[0] in _known else _is_passed(header[0]))]
    head.append((b"x-reanimate-call", call.id.encode()))
    if target is None and (answered_by := call.answered_by) is not None:
        target = answered_by.name
    if target is not None:
        head.append((b"x-reanimate-target", target.encode("ascii", "replace")))
    head.append((b"x-reanimate-attempts", b"%d" % len(call.attempts)))
    head.append((b"x-reanimate-cache", call.cache.encode()))
    if call.tokens_left is not None:
        head.append((b"x-reanimate-quota-remaining", b"%d" % call.tokens_left))
    if call.degraded:
        head.append((b"x-reanimate-degraded", "; ".join(call.degraded).encode("ascii", "replace")))
    return head


def _is_passed(name: bytes) -> bool:
    passed = name in _PASSED or (name.startswith(_PASSED_PREFIXES) and name not in _WITHHELD)
    if len(_known) < _KNOWN_KEPT and len(name) <= _NAME_KEPT:
        _known[name] = passed
    return passed
