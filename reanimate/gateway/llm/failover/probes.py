"""The gateway's own shadow calls: tiny, of lines in trouble only, so that no user's call is ever sent to find out."""

import asyncio
import logging
import random
from dataclasses import dataclass, replace

import orjson

from reanimate.gateway.llm.catalogue import Catalogue, Target
from reanimate.gateway.llm.endpoints import ENDPOINTS, Endpoint
from reanimate.gateway.llm.failover.asking import AttemptFailed, read_first, read_whole, send
from reanimate.gateway.llm.failover.breaker import Standing
from reanimate.gateway.llm.failover.health import Change, Health, Line
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failures import Failure, Help
from reanimate.gateway.llm.streams.reader import StreamBroken
from reanimate.gateway.llm.transport.errors import TransportFailed
from reanimate.gateway.llm.transport.response import Response
from reanimate.gateway.llm.wire.outgoing import Outgoing
from reanimate.gateway.llm.wire.scanners import scanner_for

__all__ = ["Prober"]

log = logging.getLogger("reanimate.gateway")

_FIRST_S = 0.25
_SOON_S = 0.75
_GROWTH = 1.15
_LATER_S = 2.0
_SOON_FOR_S = 600.0
"""What has been away for longer than this is asked every two seconds instead of about once a second."""
_KEY_TROUBLE_S = 30.0
_TIMEOUT_S = 1.0
_PATIENCE = 3
_LONGEST_S = 20.0
_SLOW_S = 0.15
_UNDERWAY = 3
"""Probes of one line that may wait at the same time: one that hangs does not keep the next from being answered."""
_TOKENS = 12
"""What a probe costs where it is answered: a word in, one out, and what providers put around it."""
_STREAM_TOKENS = 24
_STREAM_FAULTS = frozenset(("cut", "stall", "no_finish", "malformed_event", "error_event"))
_KEY_KINDS = frozenset(("quota", "unauthorized", "forbidden", "not_found"))


class ProbeBudget:
    """Of one provider: tokens for probes, refilled over the hour; never more than its hour's in any hour. Pure."""

    __slots__ = ("_at", "_most", "_per_s", "_tokens")

    def __init__(self, tokens_per_hour: int, now: float) -> None:
        self._most = tokens_per_hour / 2
        self._per_s = tokens_per_hour / 2 / 3600
        self._tokens = self._most
        self._at = now

    def spend(self, tokens: int, now: float) -> bool:
        """Say whether so many are left, and take them."""
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def give_back(self, tokens: int) -> None:
        """Take back what was not spent after all: an error is not billed."""
        self._tokens = min(self._most, self._tokens + tokens)


@dataclass(slots=True)
class Probed:
    """What probes of one provider there were."""

    sent: int = 0
    good: int = 0
    tokens: int = 0
    """An estimate, of those that were answered or hung."""


class Prober:
    """Watches the lines in trouble. A hang or a 429 is only over when the model itself answers, so it is asked."""

    def __init__(self, health: Health, pools: Pools, tokens_per_hour: int) -> None:
        self._health = health
        self._pools = pools
        self._tokens_per_hour = tokens_per_hour
        self._budgets: dict[str, ProbeBudget] = {}
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._watched: dict[Line, asyncio.Task[None]] = {}
        self._other_bound: set[str] = set()
        """Targets that do not know `max_tokens`."""
        self.counts: dict[str, Probed] = {}
        health.on_change.append(self._changed)

    def use(self, catalogue: Catalogue) -> None:
        """Take over new settings."""
        if catalogue.settings.probe_tokens_per_hour != self._tokens_per_hour:
            self._tokens_per_hour = catalogue.settings.probe_tokens_per_hour
            self._budgets.clear()

    def shown(self) -> dict[str, dict[str, int]]:
        """Return how many probes each provider got, since the start."""
        return {name: {"sent": n.sent, "good": n.good, "tokens": n.tokens} for name, n in self.counts.items()}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._wanted.clear()
                for line in self._health.lines():
                    if line.breaker.standing is not Standing.CLOSED and line not in self._watched:
                        task = self._watched[line] = self._loop.create_task(self._watch(line))
                        task.add_done_callback(lambda _, line=line: self._watched.pop(line, None))  # type: ignore[misc]
                await self._wanted.wait()
        finally:
            tasks = list(self._watched.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _changed(self, change: Change) -> None:
        if change.now is not Standing.CLOSED:
            self._wanted.set()

    async def _watch(self, line: Line) -> None:
        """Probe one line until it is well. The next probe does not wait for one that hangs."""
        underway: set[asyncio.Task[None]] = set()
        kicked = asyncio.Event()
        line.kick = kicked.set
        began = self._health.time()
        pause = _FIRST_S
        try:
            while line.breaker.standing is not Standing.CLOSED:
                now = self._health.time()
                if line.breaker.standing is Standing.OPEN and line.breaker.probe_at > now:
                    await asyncio.sleep(line.breaker.probe_at - now)
                    continue
                kicked.clear()
                if len(underway) < _UNDERWAY:
                    task = self._loop.create_task(self._probe(line))
                    underway.add(task)
                    task.add_done_callback(underway.discard)
                await self._pause(line, kicked, pause * random.uniform(0.9, 1.0))
                longest = _SOON_S if self._health.time() - began < _SOON_FOR_S else _LATER_S
                pause = _FIRST_S if line.breaker.is_promising else min(pause * _GROWTH, longest)
        finally:
            for task in underway:
                task.cancel()
            await asyncio.gather(*underway, return_exceptions=True)

    async def _pause(self, line: Line, kicked: asyncio.Event, seconds: float) -> None:
        """Wait before the next probe; for less when this one is good, or when a caller waits for what it says."""
        await asyncio.sleep(min(seconds, _FIRST_S))
        if not line.breaker.is_promising and seconds > _FIRST_S:
            try:
                async with asyncio.timeout(seconds - _FIRST_S):
                    await kicked.wait()
            except TimeoutError:
                pass

    async def _probe(self, line: Line) -> None:
        """Probe once, and tell what came of it."""
        provider = line.target.provider
        counts = self.counts.setdefault(provider.name, Probed())
        budget = self._budgets.get(provider.name)
        if budget is None:
            budget = self._budgets[provider.name] = ProbeBudget(self._tokens_per_hour, self._health.time())
        streamed = line.why is not None and line.why.kind in _STREAM_FAULTS and line.target.can.kind == "chat"
        tokens = _STREAM_TOKENS if streamed else _TOKENS
        paid = budget.spend(tokens, self._health.time())
        counts.sent += 1
        asked_at = self._health.time()
        response = Response()
        late = AttemptFailed(Failure("timeout", Help.NEXT, "no answer to a probe"))
        timer = self._loop.call_later(self._timeout(line), response.abort, late)
        try:
            if not paid:
                await self._list_models(line, response)
            elif streamed:
                await self._stream(line, response)
            else:
                await self._ask(line, response)
        except AttemptFailed as failed:
            if paid and failed is not late:
                budget.give_back(tokens)
            elif paid:
                counts.tokens += tokens
            self._judge(line, failed.failure, asked_at, counts)
        else:
            counts.tokens += tokens if paid else 0
            self._good(line, asked_at, counts)
        finally:
            timer.cancel()
            response.abort()

    def _timeout(self, line: Line) -> float:
        """Return how long an answer may take: as a user's would in nearly all cases."""
        usual = line.state.to_token.p95 or line.state.to_answer.p95
        return _TIMEOUT_S if usual is None else min(max(_TIMEOUT_S, _PATIENCE * usual), _LONGEST_S)

    def _good(self, line: Line, asked_at: float, counts: Probed) -> None:
        counts.good += 1
        now = self._health.time()
        usual = line.state.to_token.p95 or line.state.to_answer.p95
        if (
            line.breaker.standing is Standing.SUSPECT
            and usual is not None
            and now - asked_at > max(_PATIENCE * usual, _SLOW_S)
        ):
            # It lives, but is as slow as its callers have found. When it stays so, that becomes what is usual.
            line.state.to_token.add(now - asked_at)
            line.state.to_answer.add(now - asked_at)
            return
        self._health.probed_well(line, now)
        line.kick()  # the next one may bring it back

    def _judge(self, line: Line, failure: Failure, asked_at: float, counts: Probed) -> None:
        """A refusal of what was asked is an answer too: who says so is there, and has room."""
        provider = line.target.provider
        knows_no_key = provider.pass_key and line.key is None and failure.kind in ("unauthorized", "forbidden")
        if failure.help in (Help.NONE, Help.LARGER) or knows_no_key:
            if line.target.provider.wire == "openai" and "max_tokens" in failure.detail:
                self._other_bound.add(line.target.name)
            self._good(line, asked_at, counts)
            return
        now = self._health.time()
        if failure.kind in _KEY_KINDS and failure.retry_after_s is None:
            failure = replace(failure, retry_after_s=_KEY_TROUBLE_S)
        self._health.probed_badly(line, failure, asked_at, now)

    # What is asked

    async def _ask(self, line: Line, response: Response) -> None:
        endpoint, fields = self._question(line.target)
        await send(self._pools.of(line.target.provider), _outgoing(line, endpoint, fields), response)
        await read_whole(endpoint, response)

    async def _stream(self, line: Line, response: Response) -> None:
        """Read a few tokens of a stream to their end: what cuts streams may answer well otherwise."""
        endpoint, fields = self._question(line.target, tokens=8)
        out = _outgoing(line, endpoint, {**fields, "stream": True})
        await send(self._pools.of(line.target.provider), out, response)
        reader, _ = await read_first(
            response, scanner_for(endpoint.shape, fields), idle_s=_LONGEST_S, awaits_usage=False
        )
        try:
            while await reader.next():
                pass
        except StreamBroken as broken:
            raise AttemptFailed(broken.failure) from None

    async def _list_models(self, line: Line, response: Response) -> None:
        """Ask what costs nothing, when the hour's tokens are spent. It says less than an answer of the model."""
        path = b"/v1/models" if line.target.provider.wire == "anthropic" else b"/models"
        headers = [header for header in _headers(line) if header[0] != b"content-type"]
        try:
            await self._pools.of(line.target.provider).send(b"GET", path, headers, b"", response)
            await response.read(16 * 1024 * 1024)
        except TransportFailed as failed:
            raise AttemptFailed(Failure(failed.kind.value, Help.NEXT, failed.detail)) from None
        if response.status >= 500 or response.status == 429:
            raise AttemptFailed(Failure(f"http_{response.status}", Help.NEXT, f"answered {response.status}"))

    def _question(self, target: Target, tokens: int = 1) -> tuple[Endpoint, dict[str, object]]:
        if target.can.kind == "embedding":
            return ENDPOINTS["/v1/embeddings"], {"model": target.model, "input": "1"}
        asked: dict[str, object] = {"model": target.model, "messages": [{"role": "user", "content": "1"}]}
        if target.provider.wire == "anthropic":
            return ENDPOINTS["/v1/messages"], {**asked, "max_tokens": tokens}
        bound = "max_completion_tokens" if target.name in self._other_bound else "max_tokens"
        return ENDPOINTS["/v1/chat/completions"], {**asked, bound: tokens}


def _outgoing(line: Line, endpoint: Endpoint, fields: dict[str, object]) -> Outgoing:
    return Outgoing(endpoint.path, _headers(line), orjson.dumps(fields))


def _headers(line: Line) -> list[tuple[bytes, bytes]]:
    provider = line.target.provider
    headers = [(b"content-type", b"application/json"), (b"user-agent", b"reanimate-probe"), *provider.headers]
    if provider.wire == "anthropic":
        if not any(name == b"anthropic-version" for name, _ in provider.headers):
            headers.append((b"anthropic-version", b"2023-06-01"))
        if line.key is not None:
            headers.append((b"x-api-key", line.key.value.encode()))
    elif line.key is not None:
        headers.append((b"authorization", b"Bearer " + line.key.value.encode()))
    return headers
