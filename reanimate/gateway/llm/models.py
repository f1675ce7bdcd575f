"""`/v1/models`: what an agent can ask for here, in the shape of either wire; and an end for paths that are none."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import orjson

from reanimate.gateway.llm.catalogue import Catalogue, Route, Wire
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.failures import Rejected
from reanimate.gateway.llm.tenants import Tenants
from reanimate.gateway.llm.wire.errors import error_body
from reanimate.gateway.request import Request
from reanimate.section import is_glob

__all__ = ["answer_models", "is_without_version"]

_PATH = "/v1/models"
_PAGE = 20
_LARGEST_PAGE = 1000
_SINCE = "1970-01-01T00:00:00Z"
"""Both wires want to know since when there is a model: a route has no such day."""


def is_without_version(path: str) -> bool:
    """Say whether a client was given the gateway's base URL without `/v1`: no vector server has such a path."""
    return f"/v1{path}" in ENDPOINTS


async def answer_models(request: Request, catalogue: Catalogue, tenants: Tenants) -> None:
    """Answer a request under `/v1/` that is for no model."""
    wire: Wire = "anthropic" if any(name == b"anthropic-version" for name, _ in request.headers) else "openai"
    try:
        tenants.identify(request.headers)
        status, body = 200, orjson.dumps(_answer(request, catalogue, wire))
    except Rejected as rejected:
        status, body = rejected.status, error_body(wire, rejected)
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await request.start(status, head)
    await request.send(b"" if request.method == "HEAD" else body, more=False)


def _answer(request: Request, catalogue: Catalogue, wire: Wire) -> dict[str, Any]:
    """Return the document asked for.

    Raises:
        Rejected: there is none.
    """
    path = request.path.rstrip("/")
    if path != _PATH and not path.startswith(f"{_PATH}/"):
        there_are = ", ".join((*ENDPOINTS, _PATH))
        if is_without_version(path):
            there_are += "; the base URL that the client was given lacks /v1"
        raise Rejected(404, "not_found", f"the gateway has no {request.path}; it has {there_are}")
    if request.method not in ("GET", "HEAD"):
        raise Rejected(405, "bad_request", f"{_PATH} takes GET, not {request.method}")
    if path != _PATH:
        name = unquote(path[len(_PATH) + 1 :])
        route = catalogue.route(name)
        if route is None:
            raise Rejected(
                404, "not_found", f"no route takes the model {name!r}; there are {', '.join(_names(catalogue))}"
            )
        return _model(name, route, wire)
    models = [_model(name, route, wire) for name, route in _names(catalogue).items()]
    if wire == "openai":
        return {"object": "list", "data": models}
    return _page(models, urlsplit(request.target).query)


def _names(catalogue: Catalogue) -> dict[str, Route]:
    """Return the names that a caller can use; what a glob takes cannot be listed."""
    return {
        name: route
        for route in catalogue.routes.values()
        for name in (route.name, *route.settings.also)
        if not is_glob(name)
    }


def _model(name: str, route: Route, wire: Wire) -> dict[str, Any]:
    models = [choice.target.can for choice in route.targets]
    limits = [model.max_output_tokens for model in models if model.max_output_tokens is not None]
    told = {
        "route": route.name,
        "targets": [choice.target.name for choice in route.targets],
        "tools": any(model.tools for model in models),
        "vision": any(model.vision for model in models),
        "structured_output": any(model.structured_output for model in models),
    }
    if wire == "openai":
        return {"id": name, "object": "model", "created": 0, "owned_by": "reanimate", "reanimate": told}
    return {
        "type": "model", "id": name, "display_name": name, "created_at": _SINCE, "lifecycle": "active",
        "max_input_tokens": max(model.context_tokens for model in models), "max_tokens": max(limits, default=None),
        "reanimate": told,
    }  # fmt: skip


def _page(models: list[dict[str, Any]], query: str) -> dict[str, Any]:
    """Return the part of a list that Anthropic's client asks for.

    Raises:
        Rejected: it asks for something else.
    """
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    try:
        limit = int(asked.get("limit", _PAGE))
    except ValueError:
        limit = 0
    if not 1 <= limit <= _LARGEST_PAGE:
        raise Rejected(400, "bad_request", f"limit is a number from 1 to {_LARGEST_PAGE}")
    ids = [model["id"] for model in models]
    after, before = asked.get("after_id"), asked.get("before_id")
    for cursor in (after, before):
        if cursor is not None and cursor not in ids:
            raise Rejected(400, "bad_request", f"no model is called {cursor!r}")
    start = ids.index(after) + 1 if after is not None else 0
    end = ids.index(before) if before is not None else len(ids)
    there = models[start:end]
    shown = there[-limit:] if before is not None else there[:limit]
    return {
        "data": shown, "has_more": len(shown) < len(there),
        "first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None,
    }  # fmt: skip
