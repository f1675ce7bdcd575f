"""`/v1/models` as each vendor's client reads it."""

import asyncio
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.models import answer_models
from reanimate.gateway.llm.tenants import Tenants
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings


def settings_of(*routes: dict[str, Any], **more: Any) -> LlmSettings:
    models = [
        {"name": "small", "context_tokens": 8000, "tools": False},
        {"name": "large", "context_tokens": 200_000, "max_output_tokens": 9000, "vision": True},
    ]
    provider = {"name": "main", "url": "http://main", "models": models}
    return LlmSettings.model_validate({"providers": [provider], "routes": routes, **more})


CHAT = {"name": "chat", "also": ["gpt-x", "claude-*"], "targets": ["main/small", "main/large"]}
SEARCH = {"name": "team/search", "targets": ["main/small"]}


def gateway(settings: LlmSettings) -> Callable[[Any], Any]:
    """Return what answers a client's request as the gateway does."""

    def answer(asked: Any) -> Any:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "method": asked.method, "raw_path": asked.url.raw_path.partition(b"?")[0], "query_string": asked.url.query,
            "headers": [(name.lower(), value) for name, value in asked.headers.raw],
        }  # fmt: skip
        catalogue = Catalogue(settings)
        request = Request(scope, None, send)  # type: ignore[arg-type]
        asyncio.run(answer_models(request, catalogue, Tenants(settings)))
        return httpx2.Response(sent[0]["status"], headers=sent[0]["headers"], content=sent[1]["body"])

    return answer


def openai_of(*routes: dict[str, Any], key: str = "k", **more: Any) -> openai.OpenAI:
    http = httpx2.Client(transport=httpx2.MockTransport(gateway(settings_of(*routes, **more))))
    return openai.OpenAI(api_key=key, base_url="http://g/v1", http_client=http)


def anthropic_of(*routes: dict[str, Any], key: str = "k", **more: Any) -> anthropic.Anthropic:
    http = httpx2.Client(transport=httpx2.MockTransport(gateway(settings_of(*routes, **more))))
    return anthropic.Anthropic(api_key=key, base_url="http://g", http_client=http)


def test_list__names_that_can_be_asked_for() -> None:
    """Not globs, which are no names."""
    got = openai_of(CHAT, SEARCH).models.list()
    assert [model.id for model in got] == ["chat", "gpt-x", "team/search"]
    assert all(model.object == "model" and model.owned_by == "reanimate" for model in got)
    assert [model.id for model in anthropic_of(CHAT, SEARCH).models.list()] == ["chat", "gpt-x", "team/search"]


def test_list__anthropics_client_pages_through_many() -> None:
    routes = [{"name": f"r{n:02}", "targets": ["main/small"]} for n in range(45)]
    client = anthropic_of(*routes)
    assert [model.id for model in client.models.list()] == [f"r{n:02}" for n in range(45)]
    page = client.models.list(limit=7, before_id="r20")
    assert [model.id for model in page.data] == [f"r{n:02}" for n in range(13, 20)]
    assert page.has_more


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1001}, {"after_id": "none"}])
def test_list__what_cannot_be_paged_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(anthropic.BadRequestError):
        anthropic_of(CHAT).models.list(**asked)


def test_retrieve__says_what_the_route_can_do() -> None:
    """By its own name, another one, or one that a glob takes."""
    for name in ("chat", "gpt-x", "claude-y"):
        model = openai_of(CHAT, SEARCH).models.retrieve(name)
        assert model.id == name
        assert model.model_extra
        assert model.model_extra["reanimate"]["targets"] == ["main/small", "main/large"]
        assert model.model_extra["reanimate"]["vision"]
        told = anthropic_of(CHAT, SEARCH).models.retrieve(name)
        assert (told.id, told.max_input_tokens, told.max_tokens) == (name, 200_000, 9000)
    assert openai_of(CHAT, SEARCH).models.retrieve("team/search").id == "team/search"


def test_retrieve__an_unknown_one_is_not_found() -> None:
    with pytest.raises(openai.NotFoundError, match="no route takes the model 'other'; there are chat, gpt-x"):
        openai_of(CHAT).models.retrieve("other")
    with pytest.raises(anthropic.NotFoundError, match="no route takes"):
        anthropic_of(CHAT).models.retrieve("other")


def test_other_paths__are_told_what_there_is() -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/audio/speech; it has /v1/chat/completions"):
        openai_of(CHAT).audio.speech.create(model="chat", input="a", voice="alloy")
    with pytest.raises(openai.APIStatusError, match="takes GET, not DELETE") as caught:
        openai_of(CHAT).models.delete("chat")
    assert caught.value.status_code == 405


def test_tenants__show_their_key() -> None:
    tenants = [{"name": "t", "keys": ["agent-key"]}]
    with pytest.raises(openai.AuthenticationError):
        openai_of(CHAT, tenants=tenants).models.list()
    with pytest.raises(anthropic.AuthenticationError):
        anthropic_of(CHAT, tenants=tenants).models.list()
    assert len(list(openai_of(CHAT, tenants=tenants, key="agent-key").models.list())) == 2
    assert len(list(anthropic_of(CHAT, tenants=tenants, key="agent-key").models.list())) == 2
