"""The paths of the two wires."""

from dataclasses import dataclass
from enum import StrEnum

from reanimate.gateway.llm.catalogue import Provider, Wire

__all__ = ["ENDPOINTS", "Endpoint", "Shape", "endpoint_at"]


class Shape(StrEnum):
    """What a request and its answer look like."""

    CHAT = "chat"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is what comes after the provider's base URL, as the vendor's SDK builds it."""

    shape: Shape
    wire: Wire
    path: bytes
    streams: bool


ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(Shape.CHAT, "openai", b"/chat/completions", True),
    "/v1/responses": Endpoint(Shape.RESPONSES, "openai", b"/responses", True),
    "/v1/embeddings": Endpoint(Shape.EMBEDDINGS, "openai", b"/embeddings", False),
    "/v1/messages": Endpoint(Shape.MESSAGES, "anthropic", b"/v1/messages", True),
    "/v1/messages/count_tokens": Endpoint(Shape.COUNT_TOKENS, "anthropic", b"/v1/messages/count_tokens", False),
}
"""By the path at the gateway. `/v1/models` is answered by the gateway itself (models.py)."""

_ACROSS = {
    Shape.CHAT: ENDPOINTS["/v1/messages"],
    Shape.RESPONSES: ENDPOINTS["/v1/messages"],
    Shape.MESSAGES: ENDPOINTS["/v1/chat/completions"],
}


def endpoint_at(endpoint: Endpoint, provider: Provider) -> Endpoint | None:
    """Return by which endpoint a provider is asked what a caller asks at `endpoint`; None: it cannot be."""
    if endpoint.wire != provider.wire:
        return _ACROSS.get(endpoint.shape)
    if endpoint.shape is Shape.RESPONSES and not provider.responses:
        return ENDPOINTS["/v1/chat/completions"]
    return endpoint
