"""A gateway before two providers; each case has two targets of its own, so that none hears of another's failures."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anthropic
import openai
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings

from reanimate.demo.provider import Behaviour, Fault, Match, Provider
from reanimate.demo.provider.calls import Call

__all__ = ["IDLE_S", "Case", "StreamRig", "stream_rig_for"]

_KINDS = {
    "main": ("main", "openai", False),
    "main-a": ("main", "anthropic", False),
    "backup": ("backup", "openai", False),
    "backup-prefill": ("backup", "openai", True),
    "backup-a": ("backup", "anthropic", False),
    "backup-a-prefill": ("backup", "anthropic", True),
}
"""The gateway's providers: where they are, what they speak, and whether they go on after a prefill."""
_PAIRS = [(first, second) for first in ("main", "main-a") for second in _KINDS if second.startswith("backup")]
IDLE_S = 1.0
"""Long beside what a vendor's client takes to build its models when it first needs them: providers wait meanwhile."""


class Case:
    """One route of its own, and what its two targets were asked."""

    def __init__(self, rig: "StreamRig", route: str, number: int) -> None:
        self.rig = rig
        self.route = route
        self.model = f"m{number}"
        self.prompt = f"case {number}: how is the replica?"

    def breaks(self, kind: Any, where: str = "main", **fields: Any) -> None:
        """Have a provider break this case's answers."""
        provider = self.rig.providers[where]
        provider.fail(*provider.faults, Fault(kind, match=Match(model=self.model), **fields))

    def asked(self, where: str) -> list[Call]:
        """Return what a provider was asked for this case; shadow calls of the gateway are not among them."""
        return [call for call in self.rig.providers[where].calls if self.prompt.encode() in call.raw]

    @property
    def counts(self) -> tuple[int, int]:
        """How many calls main and backup got."""
        return len(self.asked("main")), len(self.asked("backup"))


class StreamRig:
    """The gateway, its providers and the vendors' clients."""

    def __init__(
        self, gateway: LlmGateway, main: Provider, backup: Provider, routes: dict[tuple[str, str], Iterator[int]]
    ):
        self.gateway = gateway
        self.providers = {"main": main, "backup": backup}
        self._routes = routes
        self.chat = openai.AsyncOpenAI(base_url=gateway.openai_url, api_key="k", max_retries=0)
        self.claude = anthropic.AsyncAnthropic(base_url=gateway.url, api_key="k", max_retries=0)

    def case(self, first: str = "main", second: str = "backup", prompt: str = "") -> Case:
        number = next(self._routes[first, second])  # none left: the rig was made with too few
        case = Case(self, f"{first}+{second}-{number}", number)
        case.prompt += prompt
        return case

    async def read_chat(self, case: Case, **fields: Any) -> Any:
        """Return the final completion of OpenAI's streaming helper."""
        said: Any = [{"role": "user", "content": case.prompt}]
        usage: Any = {"include_usage": True}
        async with self.chat.chat.completions.stream(
            model=case.route, messages=said, stream_options=usage, **fields
        ) as stream:
            return await stream.get_final_completion()

    async def read_message(self, case: Case, **fields: Any) -> Any:
        """Return the final message of Anthropic's streaming helper."""
        fields = {"max_tokens": 1000, **fields}
        said: Any = [{"role": "user", "content": case.prompt}]
        async with self.claude.messages.stream(model=case.route, messages=said, **fields) as stream:
            return await stream.get_final_message()


@asynccontextmanager
async def stream_rig_for(
    home: Path, *, each: int = 2, more: Mapping[tuple[str, str], int] | None = None, **route: Any
) -> AsyncIterator[StreamRig]:
    """Run a gateway with room for `each` cases of each pair, `more` for some; `route` is for its routes."""
    behaviour = Behaviour(token_ms=0.5)
    async with Provider("main", behaviour=behaviour) as main, Provider("backup", behaviour=behaviour) as backup:
        urls = {"main": main.url, "backup": backup.url}
        numbers = count()
        pairs = {pair: [next(numbers) for _ in range((more or {}).get(pair, each))] for pair in _PAIRS}
        names = [f"m{number}" for taken in pairs.values() for number in taken]
        parts = [
            provider_toml(name, urls[where], wire, [{"name": model, "prefill": prefill} for model in names])
            for name, (where, wire, prefill) in _KINDS.items()
        ]
        for (first, second), taken in pairs.items():
            parts += [
                route_toml(
                    f"{first}+{second}-{number}", [f"{first}/m{number}", f"{second}/m{number}"],
                    **{"idle_s": IDLE_S, "hedge": False, **route},
                )
                for number in taken
            ]  # fmt: skip
        write_settings(home, *parts)
        async with llm_gateway_for(home) as gateway:
            rig = StreamRig(gateway, main, backup, {pair: iter(taken) for pair, taken in pairs.items()})
            try:
                yield rig
            finally:
                await rig.chat.close()
                await rig.claude.close()
