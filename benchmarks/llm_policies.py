"""What the policies cost a call on a good day: everything between reading it and sending it, and after its answer."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson

from reanimate.gateway.llm.call import Call, Tenant, Usage
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.failover.candidates import Candidates
from reanimate.gateway.llm.failover.health import Health
from reanimate.gateway.llm.failover.hedging import Hedging
from reanimate.gateway.llm.failover.lateness import Lateness
from reanimate.gateway.llm.failover.pools import Pools
from reanimate.gateway.llm.failover.shared import Shared
from reanimate.gateway.llm.policies.policies import Policies
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.gateway.llm.underway import Underway
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings

__all__ = ["policy_chain"]

CALLS = 5000
SETTINGS = {
    "providers": [
        {"name": name, "url": f"http://{name}", "keys": ["key"], "models": [{"name": "m"}]}
        for name in ("main", "backup")
    ],
    "routes": [{"name": "m", "targets": ["main/m", "backup/m"]}],
    "quotas": [{"name": "daily", "tokens": 10**12, "requests": 10**9}],
}


async def policy_chain() -> float:
    """Return the microseconds of kill switches, rates, the queue, modes, two quotas with room in their leases, order
    and choice of the providers by breakers, the timer for lateness, and the account of it all afterwards.
    """
    settings = LlmSettings.model_validate(SETTINGS)
    catalogue, underway = Catalogue(settings), Underway()
    policies = Policies(settings, underway, window=lambda _: None, quota_used=lambda: None)  # type: ignore[arg-type,return-value]
    health, pools = Health(), Pools()
    health.use(catalogue)
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 1800}], "max_tokens": 100})
    request = Request({"method": "POST", "raw_path": b"/", "query_string": b"", "headers": []}, _unused, _unused)
    prompt = read_prompt(ENDPOINTS["/v1/chat/completions"], body)
    route, usage = catalogue.routes["m"], Usage(450, 80)
    with TemporaryDirectory(prefix="reanimate-bench-") as home:
        async with aiohttp.ClientSession() as session:
            quota = Quota(
                settings, session, home=Path(home), web_url="http://127.0.0.1:9", control_key="key", gateway="bench"
            )
            shared = Shared(health, pools, None)

            async def without(now: float) -> Call:
                return Call("llm-1", request, prompt, tenant, route, catalogue, now, now + 60)

            async def one(now: float) -> None:
                call = await without(now)
                underway.add(call)
                policies.gate.admit(call)
                policies.modes.of(call)
                await policies.gate.enter(call)
                reservation = await quota.reserve(call)
                line = Candidates(call, health, policies.modes, quota.bars, frozenset()).next(now)
                assert line is not None
                lateness = Lateness(route.settings, line.state.to_answer.p95, now, call.deadline, stream=False)
                hedging = Hedging(shared, call, [], _unused)
                hedging.arm(lateness.due, now)
                hedging.close()
                line.state.to_answer.add(0.001)
                health.succeeded(line, now)
                reservation.settle(usage, line.target)
                policies.gate.leave(call)
                underway.discard(call)

            tenant = Tenant("t", "t")
            first = asyncio.create_task(one(time.monotonic()))
            await asyncio.sleep(0.01)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            for purse in quota._purses.by_key.values():
                purse.ceiling = 10**15  # leases with room
            spent = []
            for what in (without, one):
                rounds = []
                for _ in range(5):
                    began = time.process_time()
                    for _ in range(CALLS):
                        await what(time.monotonic())
                    rounds.append(time.process_time() - began)
                    await asyncio.sleep(0)
                spent.append(min(rounds) / CALLS * 1e6)
            await quota.close()
    await pools.close()
    return spent[1] - spent[0]


async def _unused(*_: Any) -> Any:
    raise AssertionError
