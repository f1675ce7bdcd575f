"""Which scanner reads which shape."""

from typing import Any

from reanimate.gateway.llm.endpoints import Shape
from reanimate.gateway.llm.wire.chat_events import ChatEvents
from reanimate.gateway.llm.wire.events import Classifier, Scanner
from reanimate.gateway.llm.wire.messages_events import MessagesEvents
from reanimate.gateway.llm.wire.responses_events import ResponsesEvents

__all__ = ["scanner_for"]


def scanner_for(shape: Shape, fields: dict[str, Any] | None = None) -> Scanner:
    """Return a scanner for the stream that answers a request with these fields.

    Raises:
        ValueError: nothing of this shape is streamed.
    """
    classifier: Classifier
    if shape is Shape.CHAT:
        asked = (fields or {}).get("n")
        classifier = ChatEvents(asked if isinstance(asked, int) and asked > 1 else 1)
    elif shape is Shape.MESSAGES:
        classifier = MessagesEvents()
    elif shape is Shape.RESPONSES:
        classifier = ResponsesEvents()
    else:
        raise ValueError(f"{shape} is not streamed")
    return Scanner(classifier)
