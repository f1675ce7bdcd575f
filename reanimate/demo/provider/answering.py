"""From a request to the bytes of its answer: made once for the same request, sent many times."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reanimate.demo.provider import chat, messages, responses
from reanimate.demo.provider.answers import answer_for
from reanimate.demo.provider.asking import Ask, Wire, read_ask
from reanimate.demo.provider.behaviour import Behaviour
from reanimate.demo.provider.embedding import embeddings
from reanimate.demo.provider.errors import error_body
from reanimate.demo.provider.script import Script

__all__ = ["WIRES", "Prepared", "prepare"]

WIRES: Mapping[str, Wire] = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
}
_MADE = {"chat": chat, "responses": responses, "messages": messages}
_CREATED = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer that is ready to be sent: a body, or a script of events when it is streamed."""

    status: int
    model: str
    body: bytes = b""
    script: Script | None = None
    tokens: int = 0


def prepare(method: str, path: str, headers: Mapping[str, str], raw: bytes, behaviour: Behaviour) -> Prepared:
    """Return what a provider that is well answers."""
    anthropic = path.startswith("/v1/messages") or "anthropic-version" in headers
    key = key_of(headers)
    if behaviour.keys and key not in behaviour.keys:
        return _refused("invalid_key", anthropic)
    if method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")):
        return _models(path, anthropic, behaviour)
    if method != "POST":
        return _refused("model_not_found", anthropic, f"Unknown request URL: {method} {path}.")
    try:
        body = orjson.loads(raw)
        return _answer(path, body, anthropic, behaviour)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return _refused("bad_request", anthropic, f"the request cannot be read: {type(error).__name__}: {error}")


def key_of(headers: Mapping[str, str]) -> str:
    """Return the key that came along; empty when there is none."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _answer(path: str, body: Mapping[str, Any], anthropic: bool, behaviour: Behaviour) -> Prepared:
    model = str(body["model"])
    if behaviour.models and model not in behaviour.models:
        return _refused("model_not_found", anthropic, f"The model `{model}` does not exist.", model)
    if path == "/v1/embeddings":
        return Prepared(200, model, embeddings(body))
    if path == "/v1/messages/count_tokens":
        count = read_ask("messages", body, behaviour).prompt_tokens
        return Prepared(200, model, orjson.dumps({"input_tokens": count}))
    wire = WIRES.get(path)
    if wire is None:
        return _refused("model_not_found", anthropic, f"Unknown request URL: POST {path}.", model)
    if wire == "messages" and "max_tokens" not in body:
        return _refused("bad_request", True, "max_tokens: Field required", model)
    ask = read_ask(wire, body, behaviour)
    if why := _prefill_refused(ask, behaviour):
        return _refused("bad_request", anthropic, why, model)
    answer = answer_for(ask, behaviour)
    made = _MADE[wire]
    if ask.stream:
        script = made.stream(ask, answer)
        return Prepared(200, model, script=script, tokens=len(script.tokens))
    return Prepared(200, model, made.whole(ask, answer), tokens=answer.completion_tokens)


def _prefill_refused(ask: Ask, behaviour: Behaviour) -> str:
    """Return why a prefill is refused, as Anthropic's servers do; empty when it is not."""
    if not ask.prefilled:
        return ""
    if behaviour.prefill == "refuse":
        return "This model does not support assistant message prefill. The conversation must end with a user message."
    if ask.wire == "messages" and re.search(r"\s\Z", ask.prefix):
        return "messages: final assistant content cannot end with trailing whitespace"
    return ""


def _refused(name: str, anthropic: bool, message: str = "", model: str = "") -> Prepared:
    status, body = error_body(name, anthropic, message)
    return Prepared(status, model, body)


def _models(path: str, anthropic: bool, behaviour: Behaviour) -> Prepared:
    names = behaviour.models or ("small", "large")
    made = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
        if anthropic
        else {"id": name, "object": "model", "created": _CREATED, "owned_by": "reanimate"}
        for name in names
    ]
    asked = path.removeprefix("/v1/models").strip("/")
    if asked:
        found = next((item for item in made if item["id"] == asked), None)
        return Prepared(200, asked, orjson.dumps(found)) if found else _refused("model_not_found", anthropic)
    if anthropic:
        ends = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
        return Prepared(200, "", orjson.dumps({"data": made, **ends}))
    return Prepared(200, "", orjson.dumps({"object": "list", "data": made}))
