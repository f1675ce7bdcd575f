"""How long a kill takes: from the moment at which it is placed until the last running stream that it ends is told so.

A tenant's streams run through the gateway. The switch is placed as `reanimate llm kill` does it: durable in a real
Postgres first, then pushed, signed, to the gateway's control port. Its end is the error at the caller of the last
stream. Goal: ≤ 10 ms from the durable flip on, of 5 streams and of 50, in one process and in two.
"""

import asyncio
import os
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop
from rich.console import Console

from benchmarks.llm_candidates import provider
from benchmarks.llm_driver import rendered
from benchmarks.report import Goal, Report, Row, arguments, percentile
from benchmarks.stage import Stage, stage
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.switches import holds
from reanimate.switches.document import Claim
from reanimate.switches.publish import wait_until_obeyed

__all__ = ["main"]

GOAL_MS = 10.0
FLIPS = 20
CASES = ((1, 5), (1, 50), (2, 50))
"""Processes of the gateway, streams of the tenant."""
RUNNING_TOKENS = 3
WITHIN_S = 30.0
CAUSE = "bench"
KILL = Claim("llm_kill", "route:m", "kill")
progress = Console(stderr=True)


class Stream(asyncio.Protocol):
    """The caller of one stream, on a raw connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.runs: asyncio.Future[None] = loop.create_future()
        self.told: asyncio.Future[float] = loop.create_future()
        """When the error came."""
        self._tokens = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(rendered("/v1/chat/completions", "m", "a long story", stream=True, tokens=1_000))

    def data_received(self, data: bytes) -> None:
        if b"llm_kill" in data and not self.told.done():
            self.told.set_result(time.perf_counter())
        self._tokens += data.count(b"data: ")
        if self._tokens > RUNNING_TOKENS and not self.runs.done():
            self.runs.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        for future in (self.runs, self.told):
            if not future.done():
                future.set_exception(ConnectionError("the stream broke off without a word"))


async def flip(services: Services, streams: int) -> tuple[float, float]:
    """Kill so many running streams; return the ms until the last one is told: from the beginning, from the commit."""
    address = urlsplit(services.addresses.gateway)
    host, port = address.hostname or "", address.port or 80
    loop = asyncio.get_running_loop()
    running = [(await loop.create_connection(Stream, host, port))[1] for _ in range(streams)]
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*(stream.runs for stream in running))
        began = time.perf_counter()
        async with services.sessions.begin() as session:
            await holds.place(session, KILL, cause=CAUSE, reason="bench", actor="bench", now=utcnow())
        durable = time.perf_counter()
        pushed = asyncio.create_task(wait_until_obeyed(services))
        told = await asyncio.gather(*(stream.told for stream in running))
        await pushed
    for stream in running:
        stream.transport.abort()
    async with services.sessions.begin() as session:
        await holds.lift(session, KILL, cause=CAUSE, reason="bench", actor="bench", now=utcnow())
    await wait_until_obeyed(services)
    return (max(told) - began) * 1000, (max(told) - durable) * 1000


async def measured(built: Stage, url: str, processes: int, streams: int) -> tuple[list[float], list[float]]:
    (built.home / "reanimate.toml").write_text(
        f"[vector]\noffline = false\n[gateway]\nprocesses = {processes}\n"
        f'[[llm.providers]]\nname = "main"\nurl = "{url}/v1"\nkeys = ["key"]\n[[llm.providers.models]]\nname = "m"\n'
        '[[llm.routes]]\nname = "m"\ntargets = ["main/m"]\n'
    )
    gateway = built.start(["-m", "reanimate.gateway"])
    try:
        await built.ready(f"{built.addresses.gateway}/v1/models")
        async with open_services() as services:
            await wait_until_obeyed(services)
            await flip(services, streams)
            took = [await flip(services, streams) for _ in range(FLIPS)]
    finally:
        built.end(gateway)
    return [all_ for all_, _ in took], [after for _, after in took]


async def run(rounds: int) -> Report:
    found: dict[tuple[int, int], list[tuple[list[float], list[float]]]] = {case: [] for case in CASES}
    async with stage() as built, provider("main", "--token-ms", "25", "--no-record") as main_provider:
        os.environ["REANIMATE_HOME"] = str(built.home)
        for number in range(rounds):
            for processes, streams in CASES:
                progress.print(f"round {number + 1} of {rounds}: {processes} process(es), {streams} streams")
                found[processes, streams].append(await measured(built, main_provider.url, processes, streams))
    report = Report(f"gateway-kill: {FLIPS} flips a round, until the last stream is told")
    for (processes, streams), several in found.items():
        who = "reanimate" if processes == 1 else f"reanimate, {processes} processes"
        for what, of in (("all", 0), ("after the durable flip", 1)):
            for share in (50, 90):
                values = tuple(percentile(each[of], share) for each in several)
                report.rows.append(Row(who, f"{streams} streams, {what}: p{share}", "ms", values))
        p50 = report.rows[-2].median
        report.goals.append(Goal(f"{who}, {streams} streams, after the durable flip: p50", p50, "ms", GOAL_MS))
    return report


def main() -> int:
    given = arguments(__doc__ or "", rounds=1)
    return uvloop.run(run(given.rounds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
