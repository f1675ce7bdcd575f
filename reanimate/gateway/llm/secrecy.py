"""What a provider says of a failure, without the keys that it was sent: some repeat them, and callers see it."""

from dataclasses import replace

from reanimate.gateway.llm.failures import Failure

__all__ = ["told_without_keys", "without_keys"]

_NAMED = (b"key", b"token", b"secret")
_INSTEAD = b"[key]"


def without_keys(said: bytes, sent: list[tuple[bytes, bytes]]) -> bytes:
    """Return `said` without the keys in `sent`, the headers of the request."""
    for name, value in sent:
        secret = value.removeprefix(b"Bearer ")
        if secret and (name == b"authorization" or any(part in name for part in _NAMED)):
            said = said.replace(secret, _INSTEAD)
    return said


def told_without_keys(failure: Failure, sent: list[tuple[bytes, bytes]]) -> Failure:
    """Return the same failure, in words without the keys in `sent`."""
    detail = without_keys(failure.detail.encode("utf-8", "replace"), sent).decode()
    return failure if detail == failure.detail else replace(failure, detail=detail)
