"""What is sent to a provider for a call."""

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from reanimate.gateway.llm.call import Call
from reanimate.gateway.llm.catalogue import Key, Provider, Target
from reanimate.gateway.llm.endpoints import Endpoint, Shape, endpoint_at
from reanimate.gateway.llm.prompt import Prompt
from reanimate.gateway.llm.wire.carrying import CannotCarry, check_numbers
from reanimate.gateway.llm.wire.from_responses import chat_from_responses
from reanimate.gateway.llm.wire.splice import model_span, splice
from reanimate.gateway.llm.wire.to_anthropic import to_anthropic
from reanimate.gateway.llm.wire.to_openai import limit_name, to_openai

__all__ = ["Outgoing", "Refusal", "asks_for_usage", "outgoing", "provider_headers"]

_ANTHROPIC_VERSION = (b"anthropic-version", b"2023-06-01")
"""For a caller of the other wire: all servers know it, and the one after it (2026-10-21) takes no temperature."""
_JSON = (b"content-type", b"application/json")
_PASSED = frozenset(
    (b"accept", b"anthropic-beta", b"anthropic-version", b"idempotency-key", b"openai-beta", b"traceparent",
     b"tracestate", b"user-agent", b"x-client-request-id")
)  # fmt: skip
"""Headers of the caller that belong to what it asks."""
_PASSED_ACROSS = frozenset((b"traceparent", b"tracestate", b"user-agent", b"x-client-request-id"))
_ACCOUNT = frozenset((b"authorization", b"x-api-key", b"api-key", b"openai-organization", b"openai-project"))
"""Those that belong to the account it asks with: passed only along with its key."""
_KEYS_IN_QUERY = re.compile(r"(?<=[?&])(?:x[-_])?(?:api[-_]?|access[-_]?)?(?:key|token)=[^&]*(?:&|$)", re.IGNORECASE)
"""Some clients send their key there."""
_USAGE_WANTED = orjson.dumps({"include_usage": True})


@dataclass(slots=True, eq=False)
class Outgoing:
    """A POST below the provider's base URL. Not frozen, which would take longer than all else that is done for it."""

    path: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes = field(repr=False)
    left_out: tuple[str, ...] = ()
    """What has no place on the target's wire, and what an answer can do without; the caller is told."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call cannot be sent to a target: "logprobs cannot be carried to the Anthropic wire"."""

    reason: str


def outgoing(call: Call, target: Target, key: Key | None) -> Outgoing | Refusal:
    """Return what to send to `target` for `call`: the caller's bytes, but for the model's name, where it can."""
    prompt, provider = call.prompt, target.provider
    endpoint = prompt.endpoint
    if call.bound is not None and call.bound != (provider.name, key.name if key is not None else None):
        return Refusal(f"what it goes on with is kept by {call.bound[1] or call.bound[0]} only")
    if (asked := endpoint_at(endpoint, provider)) is not endpoint:
        return _crossing(call, target, key, asked)
    query = call.request.target[len(call.request.path) :]
    if query and not _passes_key(call, target, key):
        query = _KEYS_IN_QUERY.sub("", query).rstrip("?&")
    path = endpoint.path + query.encode("ascii") if query else endpoint.path
    return Outgoing(path, _headers(call, target, key), _body(prompt, target))


def _crossing(call: Call, target: Target, key: Key | None, endpoint: Endpoint | None) -> Outgoing | Refusal:
    prompt, wire = call.prompt, target.provider.wire
    where = f"the {_WIRES[wire]} wire" if wire != prompt.endpoint.wire else "chat completions"
    if endpoint is None:
        return Refusal(f"{_CALLED[prompt.endpoint.shape]} cannot be carried to {where}")
    left_out: list[str] = []
    try:
        check_numbers(prompt.raw, prompt.fields)
        if wire == prompt.endpoint.wire:
            body = _as_chat(chat_from_responses(prompt.fields, left_out), target)
        elif endpoint.shape is Shape.CHAT:
            body = to_openai(prompt.fields, target, target.provider.usage_in_streams, left_out)
        elif prompt.endpoint.shape is Shape.RESPONSES:
            body = to_anthropic(chat_from_responses(prompt.fields, left_out), target, left_out)
        else:
            body = to_anthropic(prompt.fields, target, left_out)
    except CannotCarry as error:
        return Refusal(f"{error.what} cannot be carried to {where}")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return Refusal(f"a request that is not built as its own wire wants it ({error!r}) cannot be carried over")
    headers = _headers(call, target, key, crosses=wire != prompt.endpoint.wire)
    return Outgoing(endpoint.path, headers, orjson.dumps(body), tuple(left_out))


def _as_chat(chat: dict[str, Any], target: Target) -> dict[str, Any]:
    """Return the fields of a chat completion, carried over from a response's, as `target` wants them."""
    chat["model"] = target.model
    if (limit := chat.pop("max_completion_tokens", None)) is not None:
        chat[limit_name(target)] = limit
    if chat.get("stream") and target.provider.usage_in_streams:
        chat["stream_options"] = {"include_usage": True}
    return chat


def asks_for_usage(prompt: Prompt) -> bool:
    """Say whether the caller of a chat stream wants the event with its usage."""
    options = prompt.fields.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _body(prompt: Prompt, target: Target) -> bytes:
    raw, fields = prompt.raw, prompt.fields
    usage = _usage_option(prompt, target)
    if target.model == prompt.model and usage is None:
        return raw
    span = model_span(raw, fields)
    if span is None or (usage is not None and "stream_options" in fields):
        values = {"model": orjson.dumps(target.model)}
        return splice(raw, values if usage is None else {**values, "stream_options": usage})
    start, end = span
    parts = [raw[:start], orjson.dumps(target.model), raw[end:]]
    if usage is not None:
        close = raw.rindex(b"}")
        parts[2:] = [raw[end:close], b',"stream_options":', usage, raw[close:]]
    return b"".join(parts)


def _usage_option(prompt: Prompt, target: Target) -> bytes | None:
    """Return the option with which a chat stream tells its tokens, where it would not without."""
    if not prompt.stream or prompt.endpoint.shape is not Shape.CHAT or not target.provider.usage_in_streams:
        return None
    if asks_for_usage(prompt):
        return None
    options = prompt.fields.get("stream_options")
    return orjson.dumps({**options, "include_usage": True}) if isinstance(options, dict) else _USAGE_WANTED


def provider_headers(provider: Provider, key: Key | None, *, versioned: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers that a provider wants of everybody; `versioned`: the caller's say the wire's version."""
    headers = [_JSON, *provider.headers]
    if provider.wire == "anthropic":
        if not versioned and not any(name == b"anthropic-version" for name, _ in provider.headers):
            headers.append(_ANTHROPIC_VERSION)
        if key is not None:
            headers.append((b"x-api-key", key.value.encode()))
    elif key is not None:
        headers.append((b"authorization", b"Bearer " + key.value.encode()))
    return headers


def _passes_key(call: Call, target: Target, key: Key | None) -> bool:
    """Say whether the caller's own key goes along, in a header or, for servers that take it there, in the query.

    Where there are tenants, it is the gateway's own key; where the provider has a key of ours, it is not wanted.
    """
    return key is None and target.provider.pass_key and not call.catalogue.settings.tenants


def _headers(call: Call, target: Target, key: Key | None, *, crosses: bool = False) -> list[tuple[bytes, bytes]]:
    provider = target.provider
    passes_key = not crosses and _passes_key(call, target, key)  # one for the other wire is another vendor's
    passed = _PASSED_ACROSS if crosses else _PASSED
    own = {name for name, _ in provider.headers} if provider.headers else ()
    callers = []
    versioned = False
    for name, value in call.request.headers:
        if (name in passed or (passes_key and name in _ACCOUNT)) and name not in own:
            callers.append((name, value))
            versioned = versioned or name == b"anthropic-version"
    return provider_headers(provider, key, versioned=versioned) + callers


_CALLED = {
    Shape.CHAT: "chat completions",
    Shape.RESPONSES: "responses",
    Shape.EMBEDDINGS: "embeddings",
    Shape.MESSAGES: "messages",
    Shape.COUNT_TOKENS: "token counting",
}
_WIRES = {"openai": "OpenAI", "anthropic": "Anthropic"}
