"""Half an hour of a provider that comes and goes, under callers that check every answer: is anything lost or left?

Two stand-in providers; every few seconds the main one gets another fault (hang, reset, 429, 500, garbage, and in the
middle of streams cut, stall, malformed event, error event, no finish), then it is well for as long. Callers ask in
turns streamed and not, and hold each answer against the right one. The gateway's memory, open files and tasks are
written down every ten seconds. Goals: no answer lost, cut or wrong; nothing grows.
"""

import asyncio
import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import orjson
from rich.console import Console

from benchmarks.llm_candidates import StandIn, provider
from benchmarks.report import Goal, Report, Row, parser
from benchmarks.stage import free_port
from reanimate.addresses import Addresses
from reanimate.demo.provider import answer_text

__all__ = ["main"]

ROOT = Path(__file__).parent.parent
CALLERS = 16
TOKENS = 40
SAMPLE_EVERY_S = 10.0
NOBODY = "http://127.0.0.1:9"
FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "hang"},
    {"kind": "reset"},
    {"kind": "status", "error": "rate_limit", "headers": {"retry-after": "1"}},
    {"kind": "status", "error": "server_error"},
    {"kind": "garbage"},
    {"kind": "cut", "after": 7, "how": "rst"},
    {"kind": "cut", "after": 11, "how": "fin"},
    {"kind": "stall", "after": 5},
    {"kind": "malformed", "after": 9},
    {"kind": "error_event", "after": 3},
    {"kind": "no_finish", "after": 20},
)
progress = Console(stderr=True)


@dataclass
class Sample:
    """The gateway's footprint at one moment."""

    at_s: float
    rss_mb: float
    open_files: float
    tasks: float


@dataclass
class Seen:
    """What the callers saw."""

    ended: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    first: dict[str, str] = field(default_factory=dict)
    """How it ended → what the first was that ended so."""

    def count(self, how: str, took_s: float, detail: str = "") -> None:
        self.ended[how] += 1
        self.slowest_s = max(self.slowest_s, took_s)
        if how != "right":
            self.first.setdefault(how, detail[:1500])


def _settings(main: str, backup: str) -> str:
    providers = "".join(
        f'[[llm.providers]]\nname = "{name}"\nurl = "{url}/v1"\nkeys = ["key"]\n'
        f'[[llm.providers.models]]\nname = "m"\nprefill = true\n'
        for name, url in (("main", main), ("backup", backup))
    )
    return (
        f"[vector]\noffline = false\n{providers}"
        # Two seconds: a machine that others use keeps a process waiting for one now and then, the well provider's too.
        '[[llm.routes]]\nname = "m"\ntargets = ["main/m", "backup/m"]\nidle_s = 2.0\nstale_s = 0\n'
    )


async def _ask(http: aiohttp.ClientSession, url: str, number: int, seen: Seen) -> None:
    prompt, stream = f"question {number}", number % 2 == 0
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": stream}
    began = time.monotonic()
    text, finish, problem = "", None, ""
    try:
        async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status != 200:
                problem = f"{answer.status} {await answer.text()}"
            elif stream:
                text, finish = _heard((await answer.read()).decode())
            else:
                choice = (await answer.json())["choices"][0]
                text, finish = choice["message"]["content"], choice["finish_reason"]
    except (aiohttp.ClientError, OSError) as error:
        problem = repr(error)
    took_s = time.monotonic() - began
    right = answer_text(prompt, TOKENS)
    if problem:
        seen.count("lost", took_s, problem)
    elif finish is None:
        seen.count("cut", took_s, text)
    else:
        seen.count("right" if text == right else "wrong", took_s, f"{text!r} instead of {right!r}")


def _heard(body: str) -> tuple[str, str | None]:
    """Return the text of a stream and its finish reason, None if it has none or ended with an error."""
    text, finish = "", None
    for line in body.splitlines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = orjson.loads(line[6:])
        if "error" in event:
            return f"{text} | {event['error']}", None
        for choice in event.get("choices", ()):
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    return text, finish


async def _flap(http: aiohttp.ClientSession, main: StandIn, period_s: float) -> None:
    for fault in itertools.cycle(FAULTS):
        await asyncio.sleep(period_s * random.uniform(0.7, 1.3))
        await (await http.post(f"{main.admin_url}/_faults", json=[fault])).read()
        await asyncio.sleep(period_s * random.uniform(0.7, 1.3))
        await (await http.delete(f"{main.admin_url}/_faults")).read()


async def _sample(http: aiohttp.ClientSession, control: str, samples: list[Sample], began: float) -> None:
    while True:
        await asyncio.sleep(SAMPLE_EVERY_S)
        async with http.get(f"{control}/figures") as answer:
            taken = (await answer.json())["process"]
        samples.append(Sample(time.monotonic() - began, **taken))


async def _callers(http: aiohttp.ClientSession, url: str, callers: int, until: float, seen: Seen) -> None:
    numbers = itertools.count()

    async def caller() -> None:
        while time.monotonic() < until:
            await _ask(http, url, next(numbers), seen)
            await asyncio.sleep(random.uniform(0, 0.05))

    await asyncio.gather(*(caller() for _ in range(callers)))


async def soak(minutes: float, period_s: float, callers: int) -> tuple[Seen, list[Sample]]:
    """Run it; return what the callers saw, and the footprints."""
    seen, samples = Seen(), list[Sample]()
    options = ("--tokens", str(TOKENS), "--token-ms", "2", "--no-record")
    with TemporaryDirectory(prefix="reanimate-bench-") as directory:
        home = Path(directory)
        async with provider("main", *options) as main, provider("backup", *options) as backup:
            gateway, control = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
            Addresses(
                web=NOBODY, prefect_api="", prefect_ui="", gateway=gateway, gateway_control=control, watch=NOBODY,
                database="", vector={"primary": NOBODY, "replica": NOBODY},
            ).save(home)  # fmt: skip
            (home / "reanimate.toml").write_text(_settings(main.url, backup.url))
            with (home / "log").open("wb") as log:
                process = subprocess.Popen(  # noqa: ASYNC220
                    [sys.executable, "-m", "reanimate.gateway"],
                    cwd=ROOT, env={**os.environ, "REANIMATE_HOME": str(home)}, stderr=log,
                )  # fmt: skip
            try:
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
                    await _ready(http, control)
                    began = time.monotonic()
                    beside = [
                        asyncio.create_task(_flap(http, main, period_s)),
                        asyncio.create_task(_sample(http, control, samples, began)),
                    ]
                    await _callers(http, gateway, callers, began + minutes * 60, seen)
                    for task in beside:
                        task.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
            finally:
                process.terminate()
                await asyncio.to_thread(process.wait)
    return seen, samples


async def _ready(http: aiohttp.ClientSession, control: str) -> None:
    for _ in range(200):
        try:
            async with http.get(f"{control}/healthz"):
                return
        except aiohttp.ClientError:
            await asyncio.sleep(0.05)
    raise TimeoutError("the gateway did not start")


def _growth(samples: list[Sample], what: Callable[[Sample], float]) -> float:
    """Return how much more the last fifth has than the second: the first one warms up. Medians of both."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples, samples[-fifth:]
    return median(map(what, late)) - median(map(what, early))


def main() -> int:
    given = parser(__doc__)
    given.add_argument("--minutes", type=float, default=30.0)
    given.add_argument("--period", type=float, default=3.0, help="seconds for which a fault, or health, lasts")
    given.add_argument("--callers", type=int, default=CALLERS)
    options = given.parse_args()
    progress.print(f"{options.minutes:g} minutes, {options.callers} callers, faults of about {options.period:g} s")
    seen, samples = asyncio.run(soak(options.minutes, options.period, options.callers))
    asked = sum(seen.ended.values())
    report = Report(f"gateway soak: {options.minutes:g} min, {asked:,} answers")
    report.rows.append(Row("reanimate", "answers", "", (asked,)))
    for what, of in (
        ("memory", lambda s: s.rss_mb),
        ("open files", lambda s: s.open_files),
        ("tasks", lambda s: s.tasks),
    ):
        report.rows.append(Row("reanimate", what, "MB" if what == "memory" else "", tuple(map(of, samples))))
    report.rows.append(Row("reanimate", "slowest answer", "s", (seen.slowest_s,)))
    report.goals += [
        Goal("answers lost", seen.ended["lost"], "", 0),
        Goal("answers cut", seen.ended["cut"], "", 0),
        Goal("answers wrong", seen.ended["wrong"], "", 0),
        Goal("memory grown", _growth(samples, lambda s: s.rss_mb), "MB", 5),
        Goal("open files grown", _growth(samples, lambda s: s.open_files), "", 8),
        Goal("tasks grown", _growth(samples, lambda s: s.tasks), "", 8),
    ]
    for how, detail in seen.first.items():
        progress.print(f"the first that was {how}: {detail}", markup=False)
    return report.show(options.json)


if __name__ == "__main__":
    sys.exit(main())
