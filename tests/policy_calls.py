"""Calls of two routes over two providers, as the gateway's policies see them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from llm_calls import call_of

from reanimate.gateway.llm.call import Call, Tenant
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.llm_settings import LlmSettings

__all__ = ["CATALOGUE", "a_call"]

CATALOGUE = Catalogue(
    LlmSettings.model_validate(
        {
            "providers": [
                {"name": name, "url": "http://127.0.0.1:9/v1", "models": [{"name": "large"}, {"name": "small"}]}
                for name in ("main", "backup")
            ],
            "routes": [
                {"name": "chat", "targets": ["main/large", "backup/large"], "cheaper": ["main/small"]},
                {"name": "other", "targets": ["backup/large", "main/large"]},
            ],
        }
    )
)
"""Two providers with two models each; route `chat` with a cheaper model, route `other` without."""


def a_call(route: str = "chat", tenant: str = "t", *, weight: int = 1, tools: Sequence[Mapping[str, Any]] = ()) -> Call:
    """Return a call that just came in; it belongs to the task that makes it, if one does."""
    call = call_of({"model": route, "messages": [], **({"tools": list(tools)} if tools else {})}, catalogue=CATALOGUE)
    call.id = f"llm-{route}-{tenant}"
    call.tenant = Tenant(tenant, tenant, weight)
    call.deadline = float("inf")
    with suppress(RuntimeError):
        call.task = asyncio.current_task()
    return call
