"""An answer of a target's wire, for a caller of perhaps another one."""

import time
from collections.abc import Callable

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Target
from reanimate.gateway.llm.endpoints import Shape, endpoint_at
from reanimate.gateway.llm.wire.answers import Answer, Garbage
from reanimate.gateway.llm.wire.as_response import response_from_message
from reanimate.gateway.llm.wire.carrying import CannotCarry
from reanimate.gateway.llm.wire.response_stream import ResponsesFromChat, ResponsesFromMessages
from reanimate.gateway.llm.wire.streams import ChatFromMessages, MessagesFromChat, StreamTranslator
from reanimate.gateway.llm.wire.translated import completion_from_message, message_from_completion

__all__ = ["endpoint_at", "translate_answer", "translator_for"]

_TRANSLATORS: dict[Shape, Callable[[Call], StreamTranslator]] = {
    Shape.CHAT: ChatFromMessages,
    Shape.RESPONSES: ResponsesFromMessages,
    Shape.MESSAGES: MessagesFromChat,
}


def translate_answer(call: Call, target: Target, answer: Answer) -> bytes:
    """Return the body for the caller of an answer that `target` gave at another endpoint than the caller's.

    Raises:
        Garbage: it holds something that the caller's wire has no words for.
    """
    try:
        match call.prompt.endpoint.shape:
            case Shape.CHAT:
                body = completion_from_message(answer.fields, int(time.time()))
            case Shape.RESPONSES:
                fields = answer.fields
                if target.provider.wire == "openai":
                    fields = message_from_completion(fields)
                body = response_from_message(fields, call.prompt.fields, int(time.time()))
            case _:
                body = message_from_completion(answer.fields)
        return orjson.dumps(body)
    except CannotCarry as error:
        raise Garbage(f"an answer of {target.name} with what cannot be carried over: {error.what}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Garbage(f"an answer of {target.name} that cannot be carried over ({error!r})") from None


def translator_for(call: Call, target: Target) -> StreamTranslator | None:
    """Return what says the stream of `target` at the caller's endpoint; None where it is asked there itself."""
    endpoint = call.prompt.endpoint
    if endpoint_at(endpoint, target.provider) is endpoint:
        return None
    if target.provider.wire == endpoint.wire:
        return ResponsesFromChat(call)
    return _TRANSLATORS[endpoint.shape](call)
