"""Calls made by hand, for the rules that need no gateway process."""

from typing import Any

import orjson

from reanimate.gateway.llm.call import Attempt, Call, Tenant
from reanimate.gateway.llm.catalogue import Catalogue, Key, Target
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.failures import Failure
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings

__all__ = ["KEY", "attempt_at", "call_of", "catalogue_of", "target_of"]

KEY = Key("main#1", "sk-secret")


def catalogue_of(wire: str = "openai", model: str = "large", tenants: Any = (), **provider: Any) -> Catalogue:
    """Return a catalogue of one route `chat` with one target, `main/<model>`."""
    settings = LlmSettings.model_validate(
        {
            "providers": [
                {"name": "main", "wire": wire, "url": "http://main", "models": [{"name": model}], **provider}
            ],
            "routes": [{"name": "chat", "also": ["*"], "targets": [f"main/{model}"]}],
            "tenants": tenants,
        }
    )
    return Catalogue(settings)


def target_of(catalogue: Catalogue) -> Target:
    return catalogue.routes["chat"].targets[0].target


def call_of(
    body: dict[str, Any] | bytes,
    path: str = "/v1/chat/completions",
    catalogue: Catalogue | None = None,
    headers: dict[str, str] | None = None,
    query: str = "",
) -> Call:
    """Return a call as the handler makes it of a request with this body."""
    catalogue = catalogue or catalogue_of()
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    scope = {
        "method": "POST", "raw_path": path.encode(), "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }  # fmt: skip
    prompt = read_prompt(ENDPOINTS[path], raw)
    route = catalogue.route(prompt.model)
    assert route is not None
    return Call("llm-1", Request(scope, None, None), prompt, Tenant("t", "t"), route, catalogue, 0.0, 60.0)  # type: ignore[arg-type]


def attempt_at(target: Target, failure: Failure | None, ms: float = 12.0) -> Attempt:
    return Attempt(target, KEY, 1.0, ended=1.0 + ms / 1000, failure=failure, status=failure.status if failure else 200)
