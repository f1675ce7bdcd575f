"""What a quota costs a call: reserved and settled out of leases, against one upsert in Postgres for each call.

Ours: the gateway's own objects, a real web process that lends, and a Postgres that syncs to disk. Goals: reserving
≤ 5 µs at the median, with the leases asked for in between; a lease costs the ledger ≤ 0.6 ms; not one token too much.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import psycopg
from psycopg_pool import AsyncConnectionPool
from rich.console import Console

from benchmarks.peers.upsert_quota import UpsertQuota
from benchmarks.report import Goal, Report, Row, arguments, percentile
from benchmarks.stage import Stage, stage
from reanimate.db.engine import engine_for
from reanimate.gateway.llm.call import Call, Tenant, Usage
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings
from reanimate.quota.demand import AccountKey, Ask, Demand
from reanimate.quota.ledger import Ledger

__all__ = ["main"]

CALLS = 50_000
UPSERTS = 3_000
LEASES = 500
CALLERS = 64
RESERVED, USED = 100, 60
GOAL_RESERVE_US = 5.0
GOAL_LEDGER_MS = 0.6
progress = Console(stderr=True)

One = Callable[[], Awaitable[float]]
"""Does one call and returns the seconds that reserving took."""


def settings(name: str, tokens: int) -> LlmSettings:
    return LlmSettings.model_validate(
        {
            "providers": [{"name": "p", "url": "http://127.0.0.1:9/v1", "models": [{"name": "m", "input_price": 1}]}],
            "routes": [{"name": "chat", "targets": ["p/m"]}],
            "quotas": [{"name": name, "tokens": tokens, "requests": 10**9, "money": 10**6}],
        }
    )


def call_on(llm: LlmSettings) -> Call:
    """A call that reserves RESERVED tokens."""

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody reads or writes here")

    body = b'{"model":"chat","max_tokens":%d,"messages":[]}' % (RESERVED - 11)  # the body itself is taken for 11
    prompt = read_prompt(ENDPOINTS["/v1/chat/completions"], body)
    scope = {"method": "POST", "raw_path": b"/v1/chat/completions", "query_string": b"", "headers": []}
    catalogue = Catalogue(llm)
    route = catalogue.routes["chat"]
    return Call("llm-1", Request(scope, nothing, nothing), prompt, Tenant("t", "t"), route, catalogue, 0.0, 1e12)


async def paced(one: One, callers: int, calls: int) -> tuple[list[float], float]:
    """Let callers make calls; return the seconds that each reservation took, and of a call all in all."""
    taken: list[float] = []

    async def caller() -> None:
        for _ in range(calls // callers):
            taken.append(await one())
            if callers > 1:
                await asyncio.sleep(0)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return taken, (time.perf_counter() - began) / len(taken)


async def ours(built: Stage, number: int, callers: int) -> tuple[float, float, float, float]:
    """Return µs at p50 and p99, µs a call all in all, and tokens that the ledger does not have right."""
    name = f"bench-{number}-{callers}"
    llm = settings(name, CALLS * RESERVED)
    call = call_on(llm)
    target = call.route.targets[0].target
    async with aiohttp.ClientSession() as session:
        quota = Quota(
            llm, session, home=built.home / name, web_url=built.addresses.web, gateway=name,
            control_key=built.secrets.control_key,
        )  # fmt: skip
        tasks = [asyncio.create_task(each) for each in quota.background()]

        async def one() -> float:
            began = time.perf_counter()
            reservation = await quota.reserve(call)
            took = time.perf_counter() - began
            reservation.settle(Usage(0, USED), target)
            return took

        (await quota.reserve(call)).release()
        taken, each = await paced(one, callers, CALLS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await quota.close()
    with psycopg.connect(built.record_url) as connection:
        row = connection.execute(
            "SELECT spent + held FROM quota_accounts WHERE quota = %s AND meter = 'tokens'", (name,)
        ).fetchone()
    off = abs((row[0] if row else 0) - len(taken) * USED)
    return percentile(taken, 50) * 1e6, percentile(taken, 99) * 1e6, each * 1e6, float(off)


async def peers(built: Stage, number: int, callers: int) -> tuple[float, float, float]:
    """The same of the peer."""
    name = f"peer-{number}-{callers}"
    async with AsyncConnectionPool(built.record_url, min_size=4, max_size=20, open=False) as pool:
        await pool.wait()
        quota = UpsertQuota(pool, CALLS * RESERVED)
        await quota.prepare()

        async def one() -> float:
            began = time.perf_counter()
            await quota.reserve(name, RESERVED)
            took = time.perf_counter() - began
            await quota.settle(name, USED - RESERVED)
            return took

        taken, each = await paced(one, callers, UPSERTS)
    return percentile(taken, 50) * 1e6, percentile(taken, 99) * 1e6, each * 1e6


async def ledger_ms(built: Stage, number: int) -> float:
    """Return the median of what one lease of one account costs the ledger: read, decided, durable."""
    engine = engine_for(built.record_url)
    ledger = Ledger(engine)
    key = AccountKey(f"ledger-{number}", "", "tokens", "normal", int(time.time()) // 86400 * 86400)
    taken = []
    try:
        for n in range(LEASES):
            used = n * 100
            demand = Demand(key, key.starts + 86400, 10**9, 1000, 10.0, used, used, used, need=100, want=100)
            began = time.perf_counter()
            await ledger.lend(Ask("g", "b", n + 1, (demand,)))
            taken.append((time.perf_counter() - began) * 1000)
    finally:
        await ledger.close()
        await engine.dispose()
    return percentile(taken, 50)


async def run(rounds: int) -> Report:
    report = Report(f"quota: {CALLS} calls, of {RESERVED} tokens reserved and {USED} used, three meters")
    found: dict[tuple[str, str, str], list[float]] = {}

    def note(who: str, what: str, unit: str, value: float) -> None:
        found.setdefault((who, what, unit), []).append(value)

    async with stage() as built:
        built.start(["-m", "reanimate.web"], {"DATABASE_URL": built.record_url})
        await built.ready(f"{built.addresses.web}/healthz")
        for number in range(rounds):
            for callers in (1, CALLERS):
                progress.print(f"round {number + 1} of {rounds}, {callers} callers")
                p50, p99, each, off = await ours(built, number, callers)
                note("reanimate", f"reserved, p50, c={callers}", "µs", p50)
                note("reanimate", f"reserved, p99, c={callers}", "µs", p99)
                note("reanimate", f"a call, leases included, c={callers}", "µs", each)
                note("reanimate", f"tokens that the ledger has wrong, c={callers}", "tokens", off)
                p50, p99, each = await peers(built, number, callers)
                note("upsert per call", f"reserved, p50, c={callers}", "µs", p50)
                note("upsert per call", f"reserved, p99, c={callers}", "µs", p99)
                note("upsert per call", f"a call, c={callers}", "µs", each)
            note("reanimate", "a lease in the ledger, p50", "ms", await ledger_ms(built, number))
    report.rows = [Row(who, what, unit, tuple(values)) for (who, what, unit), values in found.items()]
    row = {(each.who, each.what): each for each in report.rows}
    wrong = max(max(each.values) for each in report.rows if each.unit == "tokens")
    report.goals = [
        Goal("reserved, p50, one caller", row["reanimate", "reserved, p50, c=1"].median, "µs", GOAL_RESERVE_US),
        Goal("a lease in the ledger, p50", row["reanimate", "a lease in the ledger, p50"].median, "ms", GOAL_LEDGER_MS),
        Goal("tokens that the ledger has wrong", wrong, "tokens", 0),
        *(
            Goal(
                f"a call by one upsert each over a call by leases, c={callers}",
                row["upsert per call", f"a call, c={callers}"].median
                / row["reanimate", f"a call, leases included, c={callers}"].median,
                "times",
                20.0,
                at_least=True,
            )
            for callers in (1, CALLERS)
        ),
    ]
    return report


def main() -> int:
    given = arguments(__doc__ or "", rounds=3)
    return asyncio.run(run(int(given.rounds))).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
