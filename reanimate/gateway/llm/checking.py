"""Asking each provider, model and key something tiny, on the very way that a call would take, before it matters."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from reanimate.gateway.llm.catalogue import Key, Target
from reanimate.gateway.llm.endpoints import ENDPOINTS, Endpoint
from reanimate.gateway.llm.failover.asking import AttemptFailed, read_first, read_whole, send
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.streams.reader import StreamBroken
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.answers import Answer
from reanimate.gateway.llm.wire.outgoing import Outgoing, provider_headers
from reanimate.gateway.llm.wire.scanners import scanner_for
from reanimate.gateway.llm.wire.to_openai import limit_name

__all__ = ["Trial", "check"]

_LIMIT = 32
"""Tokens of an answer; enough for a word, and for a call of a tool without arguments."""
_TOOL_LIMIT = 128
_WORDS = [{"role": "user", "content": "Answer with the one word: yes"}]
_TOOL = {"name": "say_hello", "description": "Says hello.", "schema": {"type": "object", "properties": {}}}
_KEY_KINDS = ("unauthorized", "forbidden")
_AT_ONCE = 4
"""Of one provider: a check must not meet a limit that traffic would not."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one request. `level` is warn where it works, but not as the settings say."""

    target: str
    key: str | None
    """The name of the key, never its value."""
    what: str
    """answer, stream, tools or embedding."""
    level: Literal["ok", "warn", "fail"]
    found: str
    to_do: str = ""
    ms: float | None = None
    first_token_ms: float | None = None
    model: str = ""
    """Who answered, as the provider says it."""
    tokens: int = 0
    """What it cost."""


async def check(targets: Iterable[Target], limit_s: float) -> list[Trial]:
    """Try each target with each of its provider's keys; no request takes longer than `limit_s`."""
    pools = Pools()
    places: dict[str, asyncio.Semaphore] = {}

    async def of(target: Target, key: Key | None) -> list[Trial]:
        async with places.setdefault(target.provider.name, asyncio.Semaphore(_AT_ONCE)):
            return await _Checker(pools, target, key, limit_s).run()

    try:
        found = await asyncio.gather(
            *(of(target, key) for target in targets for key in (target.provider.keys or (None,)))
        )
    finally:
        await pools.close()
    return [trial for trials in found for trial in trials]


class _Checker:
    """All trials of one target with one key."""

    def __init__(self, pools: Pools, target: Target, key: Key | None, limit_s: float) -> None:
        self._pool = pools.of(target.provider)
        self._target = target
        self._key = key
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._is_anthropic = target.provider.wire == "anthropic"
        self._endpoint = ENDPOINTS["/v1/messages" if self._is_anthropic else "/v1/chat/completions"]

    async def run(self) -> list[Trial]:
        can = self._target.can
        if can.kind == "embedding":
            return [await self._embed()]
        first = await self._answer()
        if not first.model and first.level != "ok":
            return [first]  # the others would meet the same
        trials = [first, await self._stream()]
        if can.tools:
            trials.append(await self._call_a_tool())
        return trials

    async def _embed(self) -> Trial:
        fields = {"model": self._target.model, "input": "yes"}
        return await self._whole("embedding", ENDPOINTS["/v1/embeddings"], fields)

    async def _answer(self) -> Trial:
        return await self._whole("answer", self._endpoint, self._asking(_LIMIT))

    async def _call_a_tool(self) -> Trial:
        fields = self._asking(_TOOL_LIMIT)
        told = {"name": _TOOL["name"], "description": _TOOL["description"]}
        if self._is_anthropic:
            fields |= {"tools": [{**told, "input_schema": _TOOL["schema"]}], "tool_choice": {"type": "any"}}
        else:
            function = {**told, "parameters": _TOOL["schema"]}
            fields |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
        return await self._whole("tools", self._endpoint, fields)

    def _asking(self, limit: int) -> dict[str, Any]:
        name = "max_tokens" if self._is_anthropic else limit_name(self._target)
        return {"model": self._target.model, "messages": _WORDS, name: limit}

    async def _whole(self, what: str, endpoint: Endpoint, fields: dict[str, Any]) -> Trial:
        began = self._loop.time()
        try:
            async with self._sent(endpoint, fields) as response:
                answer = (await read_whole(endpoint, response)).answer
        except AttemptFailed as failed:
            return self._failed(what, failed.failure, began)
        return self._judged(what, answer, self._ms(began))

    async def _stream(self) -> Trial:
        fields = {**self._asking(_LIMIT), "stream": True}
        awaits_usage = not self._is_anthropic and self._target.provider.usage_in_streams
        if awaits_usage:
            fields["stream_options"] = {"include_usage": True}
        began = self._loop.time()
        try:
            async with self._sent(self._endpoint, fields) as response:
                scanner = scanner_for(self._endpoint.shape)
                reader, _ = await read_first(response, scanner, idle_s=self._limit_s, awaits_usage=awaits_usage)
                first_ms = self._ms(began)
                while await reader.next():
                    pass
        except AttemptFailed as failed:
            return self._failed("stream", failed.failure, began)
        except StreamBroken as broken:
            return self._failed("stream", broken.failure, began)
        facts = scanner.facts
        said: dict[str, Any] = {"model": facts.model, "ms": self._ms(began), "first_token_ms": first_ms}
        if facts.usage is None:
            to_do = "tokens of its streams are estimated" + (
                "; set usage_in_streams = false, as it does not tell them" if awaits_usage else ""
            )
            return self._trial("stream", "warn", "no usage at the end of the stream", to_do, **said)
        tokens = facts.usage.input_tokens + facts.usage.output_tokens
        return self._trial("stream", "ok", f"ended with {facts.finish}", tokens=tokens, **said)

    @asynccontextmanager
    async def _sent(self, endpoint: Endpoint, fields: dict[str, Any]) -> AsyncIterator[Response]:
        """Send a request, and leave the provider when the time is over.

        Raises:
            AttemptFailed: there is no good answer.
        """
        response = Response()
        late = AttemptFailed(Failure("timeout", Help.NEXT, f"no whole answer within {self._limit_s:g} s"))
        timer = self._loop.call_later(self._limit_s, response.abort, late)
        headers = [*provider_headers(self._target.provider, self._key), (b"user-agent", b"reanimate-check")]
        try:
            await send(self._pool, Outgoing(endpoint.path, headers, orjson.dumps(fields)), response)
            yield response
        finally:
            timer.cancel()
            response.abort()

    def _judged(self, what: str, answer: Answer, ms: float) -> Trial:
        usage = answer.usage
        tokens = usage.input_tokens + usage.output_tokens if usage is not None else 0
        said: dict[str, Any] = {"ms": ms, "model": answer.model, "tokens": tokens}
        if what == "tools" and not answer.tool_calls:
            to_do = "set tools = false for this model, so that no call with tools goes there"
            return self._trial(what, "fail", "it answered without the call that was demanded", to_do, **said)
        if usage is None:
            return self._trial(what, "warn", "an answer without usage", "its tokens are estimated", **said)
        found = "called the tool" if what == "tools" else f"ended with {answer.finish}"
        return self._trial(what, "ok", "a vector" if what == "embedding" else found, **said)

    def _failed(self, what: str, failure: Failure, began: float) -> Trial:
        # A provider that is asked with its callers' keys only cannot be tried any further from here.
        knows_no_key = self._key is None and self._target.provider.pass_key and failure.kind in _KEY_KINDS
        found = f"{failure.kind}: {failure.detail}"
        level: Literal["warn", "fail"] = "warn" if knows_no_key else "fail"
        return self._trial(what, level, found, self._to_do(what, failure), ms=self._ms(began))

    def _to_do(self, what: str, failure: Failure) -> str:
        provider, key = self._target.provider, self._key
        if failure.kind in _KEY_KINDS:
            if key is not None:
                return f"put a good key in place of {key.name} (llm.providers, keys)"
            if provider.pass_key:
                return "nothing, if callers bring their own keys (pass_key): none is known here to try"
            return f"give {provider.name} a key (llm.providers, keys)"
        if failure.kind == "not_found":
            return f"see that {provider.url} is the base URL, and {self._target.model!r} the model's name there"
        if failure.kind == "bad_request" and what == "stream" and "stream_options" in failure.detail:
            return f"set usage_in_streams = false for {provider.name}"
        if failure.kind in ("bad_request", "http_422") and what == "tools":
            return "set tools = false for this model, if it cannot call any"
        if failure.kind in _TO_DO:
            return _TO_DO[failure.kind].format(url=provider.url)
        return "try again; see the provider's status page" if failure.help is not Help.NONE else "see what it says"

    def _trial(
        self, what: str, level: Literal["ok", "warn", "fail"], found: str, to_do: str = "", **said: Any
    ) -> Trial:
        name = self._key.name if self._key is not None else None
        return Trial(self._target.name, name, what, level, found, to_do, **said)

    def _ms(self, began: float) -> float:
        return round((self._loop.time() - began) * 1000, 1)


_TO_DO = {
    "refused": "see that it runs, and that {url} is where",
    "connect_timeout": "see that {url} can be reached from here (firewall, proxy, DNS), or set connect_timeout_s",
    "tls": "see whether {url} speaks https with a certificate for that name",
    "quota": "pay, or add another key: this one is out of quota",
    "rate_limited": "wait; or lower requests_per_min and tokens_per_min of the model to what the provider allows",
    "garbage": "see that {url} is the API's base URL: OpenAI's ends in /v1, Anthropic's does not",
    "timeout": "see the provider's status page; a model that is loaded on demand needs a second try",
    "overloaded": "wait; see the provider's status page",
}
