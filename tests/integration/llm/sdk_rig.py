"""A gateway with providers of both wires behind it, and the vendors' clients, each sync and async, in front of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from pydantic import BaseModel, ConfigDict

from reanimate.demo.provider import Provider
from reanimate.demo.provider.calls import Call

__all__ = ["PNG", "City", "SdkRig", "said", "sdk_rig"]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
_MODEL = {"name": "large", "vision": True, "max_output_tokens": 4000}
_EMBEDDER = {"name": "embedder", "kind": "embedding"}


class City(BaseModel):
    """What the clients are asked to make of an answer."""

    model_config = ConfigDict(extra="forbid")
    city: str
    n: int


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


@dataclass
class SdkRig:
    """`gpt` and `claude` are the providers. Each client writes down the bytes that it sends."""

    gateway: LlmGateway
    gpt: Provider
    claude: Provider
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic
    openai_sync: openai.OpenAI
    anthropic_sync: anthropic.Anthropic
    sent: list[bytes] = field(default_factory=list)

    @property
    def gpt_asked(self) -> list[Call]:
        """What gpt got from callers; the gateway's own shadow calls are not counted."""
        return [call for call in self.gpt.calls if call.headers.get("user-agent") != "reanimate-probe"]

    @property
    def claude_asked(self) -> list[Call]:
        return [call for call in self.claude.calls if call.headers.get("user-agent") != "reanimate-probe"]

    def heal(self) -> None:
        """Have the providers as new."""
        self.gpt.reset()
        self.claude.reset()
        self.sent.clear()

    async def both_openai(self, ask: Callable[[Any], Any]) -> list[Any]:
        """Ask with the async client, then with the sync one; return both answers."""
        return [await ask(self.openai), await asyncio.to_thread(ask, self.openai_sync)]

    async def both_anthropic(self, ask: Callable[[Any], Any]) -> list[Any]:
        return [await ask(self.anthropic), await asyncio.to_thread(ask, self.anthropic_sync)]

    async def streams_openai(self, ask: Callable[[Any], Any]) -> list[list[Any]]:
        """The same for `stream=True`: return the events of both."""
        events = [event async for event in await ask(self.openai)]
        return [events, await asyncio.to_thread(lambda: list(ask(self.openai_sync)))]

    async def streams_anthropic(self, ask: Callable[[Any], Any]) -> list[list[Any]]:
        events = [event async for event in await ask(self.anthropic)]
        return [events, await asyncio.to_thread(lambda: list(ask(self.anthropic_sync)))]


@asynccontextmanager
async def sdk_rig(home: Path) -> AsyncIterator[SdkRig]:
    """Run everything. Routes: `chat` and `vectors` at gpt, `message` at claude, each under its own wire; `crossed`
    the other way round (`to-claude`, `to-gpt`); `both` asks gpt first and claude then, `back` the other way.
    `twins` and `back-twins` ask gpt under one name, then under another. `gpt3`, `gpt4`, `claude3` and `claude4` are
    names for tests that break what is behind them."""
    async with Provider("gpt") as gpt, Provider("claude") as claude:
        write_settings(
            home,
            provider_toml("gpt", gpt.url, models=[_MODEL, _EMBEDDER]),
            provider_toml("claude", claude.url, "anthropic", models=[_MODEL]),
            *(provider_toml(f"gpt{n}", gpt.url, models=[_MODEL]) for n in (2, 3, 4, 5, 6)),
            *(provider_toml(f"claude{n}", claude.url, "anthropic", models=[_MODEL]) for n in (2, 3, 4, 6)),
            provider_toml("older", gpt.url, models=[_MODEL], responses=False),
            route_toml("to-older", ["older/large"], hedge=False),
            route_toml("chat", ["gpt/large"], hedge=False),
            route_toml("vectors", ["gpt/embedder"], hedge=False),
            route_toml("message", ["claude/large"], hedge=False),
            route_toml("to-claude", ["claude/large"], hedge=False),
            route_toml("to-gpt", ["gpt/large"], hedge=False),
            route_toml("both", ["gpt2/large", "claude/large"], hedge=False),
            route_toml("cut-gpt", ["gpt6/large", "claude/large"], hedge=False),
            route_toml("cut-claude", ["claude6/large", "gpt/large"], hedge=False),
            route_toml("twins", ["gpt5/large", "gpt/large"], hedge=False),
            route_toml("back-twins", ["gpt/large", "gpt2/large"], hedge=False),
            route_toml("back", ["claude2/large", "gpt/large"], hedge=False),
            *(
                route_toml(f"{name}{n}", [f"{name}{n}/large"], hedge=False, deadline_s=2.0)
                for name in ("gpt", "claude")
                for n in (3, 4)
            ),
        )
        async with llm_gateway_for(home) as gateway:
            sent: list[bytes] = []

            async def note(request: Any) -> None:
                sent.append(request.content)

            def note_sync(request: Any) -> None:
                sent.append(request.content)

            http = httpx2.AsyncClient(event_hooks={"request": [note]})
            http_sync = httpx2.Client(event_hooks={"request": [note_sync]})
            at_openai: dict[str, Any] = {"base_url": gateway.openai_url, "api_key": "callers-own", "max_retries": 0}
            at_anthropic: dict[str, Any] = {"base_url": gateway.url, "api_key": "callers-own", "max_retries": 0}
            yield SdkRig(
                gateway,
                gpt,
                claude,
                openai.AsyncOpenAI(http_client=http, **at_openai),
                anthropic.AsyncAnthropic(http_client=http, **at_anthropic),
                openai.OpenAI(http_client=http_sync, **at_openai),
                anthropic.Anthropic(http_client=http_sync, **at_anthropic),
                sent,
            )
            await http.aclose()
            http_sync.close()
