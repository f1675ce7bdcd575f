"""How a connection to a provider can break, each with what is known to have happened before."""

from enum import StrEnum

__all__ = ["TransportFailed", "TransportTrouble"]


class TransportTrouble(StrEnum):
    REFUSED = "refused"
    """Nobody listens there, or no way leads there. Nothing was sent."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No connection in time. Nothing was sent."""
    TLS = "tls"
    """No agreement on encryption, or not the host it should be. Nothing was sent."""
    RESET = "reset"
    """It broke before the answer's head was there."""
    CUT = "cut"
    """It broke within the answer's body, or the body was malformed."""
    NOT_HTTP = "not_http"
    """What answered does not speak HTTP."""
    TOO_LARGE = "too_large"
    """The answer is longer than may be kept."""


class TransportFailed(Exception):
    """The connection failed. What a provider says in a proper answer is never one of these."""

    def __init__(self, kind: TransportTrouble, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
