"""The failover engine in this process, in front of providers that fail on demand."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson

from reanimate.demo.provider import Provider
from reanimate.gateway.llm.call import Call, Tenant
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.failover.failover import Failover
from reanimate.gateway.llm.failover.health import Health
from reanimate.gateway.llm.failover.opened import Opened
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failover.probes import Prober
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.llm.wire.outgoing import outgoing
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings

__all__ = ["Rig", "probes_in", "rig_for", "users_in"]


def users_in(provider: Provider) -> list[Any]:
    """Return the calls that were made for users."""
    return [call for call in provider.calls if call.headers.get("user-agent") != "reanimate-probe"]


def probes_in(provider: Provider) -> list[Any]:
    """Return the calls that the gateway made for itself."""
    return [call for call in provider.calls if call.headers.get("user-agent") == "reanimate-probe"]


class Rig:
    """One route, `chat`, over providers of the same model."""

    def __init__(self, settings: LlmSettings) -> None:
        self.catalogue = Catalogue(settings)
        self.health = Health()
        self.health.use(self.catalogue)
        self.pools = Pools()
        self.failover = Failover(self.health, self.pools)
        self.prober = Prober(self.health, self.pools, settings.probe_tokens_per_hour)
        self._count = 0

    def call(self, text: str = "Hello", *, path: str = "/v1/chat/completions", **fields: Any) -> Call:
        """Make a call as the handler does."""
        loop = asyncio.get_running_loop()
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
        scope = {"method": "POST", "raw_path": path.encode(), "query_string": b"", "headers": []}
        prompt = read_prompt(ENDPOINTS[path], orjson.dumps(body))
        route = self.catalogue.routes["chat"]
        self._count += 1
        now = loop.time()
        return Call(
            f"llm-{self._count}",
            Request(scope, None, None),  # type: ignore[arg-type]
            prompt,
            Tenant("t", "t"),
            route,
            self.catalogue,
            now,
            now + route.settings.deadline_s,
        )

    async def open(self, call: Call, **how: Any) -> Opened:
        return await self.failover.open(call, outgoing, **how)

    async def ask(self, text: str = "Hello", **fields: Any) -> tuple[Call, str]:
        """Ask, and read to the end; return the call and the answer's text."""
        call = self.call(text, **fields)
        opened = await self.open(call)
        if opened.answer is not None:
            return call, opened.answer.text
        assert opened.reader is not None
        while await opened.reader.next():
            pass
        opened.finished(None)
        return call, opened.reader.facts.text

    async def warm(self, calls: int = 30, **fields: Any) -> None:
        """Let it be known how quick the first provider is."""
        for _ in range(calls):
            await self.ask(**fields)

    async def back(self, target: str, within_s: float = 5.0) -> float:
        """Ask every 20 ms until `target` answers; return how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            call, _ = await self.ask()
            if call.answered_by is not None and call.answered_by.name == target:
                return loop.time() - began
            assert loop.time() - began < within_s, f"{target} does not come back"
            await asyncio.sleep(0.02)

    async def closed(self, target: str) -> None:
        """Wait until a target is as well as it was."""
        for _ in range(150):
            if self.standing(target) == "CLOSED":
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{target} is {self.standing(target)}")

    def standing(self, target: str, key: int = 0) -> str:
        """Return the name of a line's standing."""
        return self.health.of(self.catalogue.targets[target]).lines[key].breaker.standing.name


def _provider(provider: Provider, fields: Mapping[str, Any]) -> dict[str, Any]:
    wire = fields.get("wire", "openai")
    return {
        "name": provider.name,
        "url": provider.openai_url if wire == "openai" else provider.url,
        "keys": ["key-1"],
        "models": [{"name": "model"}],
        **fields,
    }


@asynccontextmanager
async def rig_for(
    *providers: Provider,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    targets: Sequence[str] = (),
    probes: bool = True,
    llm: Mapping[str, Any] | None = None,
    **route: Any,
) -> AsyncIterator[Rig]:
    """Run the engine over providers in their order; `own` are fields of single providers, `route` of the route."""
    settings = LlmSettings.model_validate(
        {
            "providers": [_provider(item, (own or {}).get(item.name, {})) for item in providers],
            "routes": [{"name": "chat", "targets": targets or [f"{item.name}/model" for item in providers], **route}],
            **(llm or {}),
        }
    )
    rig = Rig(settings)
    task = asyncio.create_task(rig.prober.run()) if probes else None
    try:
        yield rig
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await rig.pools.close()
