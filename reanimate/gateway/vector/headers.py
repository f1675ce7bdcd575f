"""Headers on their way through: hop-by-hop ones end here, and the API key fits the target.

The key: a target with an `api_key` in the settings gets that one when the client sent no key at all, or sent any
configured target's key. So one key opens all targets, and a client without a key speaks with the gateway's: keep the
gateway's port where only the agent reaches it. Any other key is passed on as it is, and the server refuses it.
"""

from collections.abc import Iterable

from reanimate.gateway.vector.targets import Target

__all__ = ["KeyRing", "answer_headers", "request_headers"]

RawHeaders = Iterable[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
_NOT_ASKED = _HOP_BY_HOP | {b"host", b"content-length", b"expect", b"api-key", b"authorization"}
_NOT_ANSWERED = _HOP_BY_HOP | {b"x-reanimate-target", b"x-reanimate-degraded"}
_READABLE_ENCODINGS = (b"gzip", b"deflate", b"identity")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Return the headers that a Connection header declares to be hop-by-hop too."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            return frozenset(token.strip().lower() for token in value.split(b","))
    return frozenset()


def _encodings(value: bytes) -> bytes:
    """Keep the encodings that the gateway can read itself: it must recognise a missing collection in an answer."""
    kept = [token for token in value.split(b",") if token.split(b";")[0].strip() in _READABLE_ENCODINGS]
    return b",".join(kept).strip() or b"identity"


def request_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return what is passed on to any target; the length and the key are added for each."""
    named = _named_by_connection(headers)
    passed = []
    for name, value in headers:
        if name in _NOT_ASKED or name in named:
            continue
        if name == b"accept-encoding" and (b"br" in value or b"zstd" in value or b"*" in value):
            value = _encodings(value)
        passed.append((name.decode("latin-1"), _text(value)))
    return passed


def answer_headers(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return what is passed back to the client."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(lowered)
    return [(name, value) for name, value in lowered if name not in _NOT_ANSWERED and name not in named]


class KeyRing:
    """The configured keys, and which one a target is spoken to with."""

    def __init__(self, targets: Iterable[Target]) -> None:
        self._keys = {target.api_key for target in targets if target.api_key}

    def sent(self, headers: RawHeaders) -> list[tuple[str, str]]:
        """Return the headers with which the client proved who it is, if it did."""
        return [(name.decode(), _text(value)) for name, value in headers if name in (b"api-key", b"authorization")]

    def for_target(self, target: Target, sent: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the headers to prove it to `target` with."""
        if target.api_key is None or not all(self._is_ours(value) for _, value in sent):
            return sent
        return [("api-key", target.api_key)]

    def _is_ours(self, value: str) -> bool:
        scheme, _, token = value.partition(" ")
        return (token if scheme.lower() == "bearer" else value) in self._keys
