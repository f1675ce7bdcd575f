"""What an outage of the main provider costs the callers of each gateway.

Every fault hits the main provider only; the backup is well. From the moment a fault begins 200 requests are asked, 20
at a time, then 20 a second; after eight seconds the main provider is well again. Then streams are broken after four
tokens, and what the caller got is compared with the whole answer.
"""

import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from functools import partial
from itertools import count
from typing import Any
from urllib.request import Request, urlopen

import orjson
import uvloop
from rich.console import Console

from benchmarks.llm_candidates import EVERY_CORE, NAMES, Candidate, StandIn, candidates, provider
from benchmarks.llm_driver import Outcome, alternately, closed_loop, steadily
from benchmarks.report import Goal, Report, Row, parser, percentile
from reanimate.demo.provider import answer_text

__all__ = ["main"]

PEERS = tuple(name for name in NAMES if name != EVERY_CORE)
"""The raw proxy knows the main provider only: what callers have who go there directly."""
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"kind": "status", "error": "rate_limit"},
    "500": {"kind": "status", "error": "server_error"},
    "reset": {"kind": "reset"},
    "refused": {"kind": "refuse"},
    "hang": {"kind": "hang"},
    "garbage": {"kind": "garbage", "garbage": "html"},
}
BREAKS: dict[str, dict[str, Any]] = {
    "RST": {"kind": "cut", "after": 4, "how": "rst"},
    "FIN": {"kind": "cut", "after": 4, "how": "fin"},
    "end without a finish": {"kind": "cut", "after": 4, "how": "end"},
    "error event": {"kind": "error_event", "after": 4},
    "stall": {"kind": "stall", "after": 4},
}
BURST, AT_ONCE, PER_SECOND = 200, 20, 20
STEADY_FROM_S, STEADY_TO_S = 3.0, 8.0
STREAMS, TOKENS, STREAM_LIMIT_S = 20, 16, 15.0
MARK = "of the benchmark"
progress = Console(stderr=True)


async def say(method: str, provider: StandIn, path: str, body: object = None) -> Any:
    """Tell a provider's administration something; return its answer."""

    def asked() -> Any:
        data = None if body is None else orjson.dumps(body)
        with urlopen(Request(provider.admin_url + path, data=data, method=method), timeout=20) as answer:
            return orjson.loads(answer.read())

    return await asyncio.to_thread(asked)


def failed(outcomes: list[Outcome], wanted: str) -> int:
    return sum(not outcome.ok or wanted.encode() not in outcome.body for outcome in outcomes)


class Asking:
    """Prompts that are never the same twice, so that no cache answers."""

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate
        self._numbers = count()

    def request(self) -> bytes:
        return self._candidate.request(f"question {next(self._numbers)} {MARK}")


async def calls_of_callers(main: StandIn) -> list[dict[str, Any]]:
    """Return what the main provider was asked for callers; a gateway's own probes do not count."""
    calls: list[dict[str, Any]] = await say("GET", main, "/_calls")
    return [call for call in calls if MARK in str(call["body"])]


async def outage(candidate: Candidate, twin: Candidate, main: StandIn, fault: str) -> dict[str, float]:
    """Measure one fault, and leave the main provider well and in use again."""
    asking, beside = Asking(candidate).request, (twin.caller, Asking(twin).request)
    both = partial(alternately, (candidate.caller, asking), beside, per_second=PER_SECOND)
    await both(seconds=2)
    await say("POST", main, "/_faults", [FAULTS[fault]])
    await say("DELETE", main, "/_calls")
    began, began_at = time.monotonic(), time.time()
    burst = await closed_loop(candidate.caller, asking, at_once=AT_ONCE, count=BURST, seconds=60)
    left = STEADY_TO_S - (time.monotonic() - began)
    steady, usual = await both(seconds=max(left, 5))
    calls = await calls_of_callers(main)
    await say("DELETE", main, "/_faults")
    healed_at = time.time()
    after = await steadily(candidate.caller, asking, per_second=PER_SECOND, seconds=5)
    everything = [*burst, *steady, *after]
    later = [outcome for outcome in steady if outcome.began - began >= STEADY_FROM_S] or steady
    since = min(outcome.began for outcome in later) - began + began_at
    used = [call["at"] for call in await calls_of_callers(main) if call["at"] > healed_at and call["status"] == 200]
    steady_p50 = percentile([outcome.took_ms for outcome in later], 50)
    well = percentile([outcome.took_ms for outcome in usual if outcome.began >= later[0].began], 50)
    return {
        "failed": failed(everything, '"finish_reason"'),
        "slowest of the first second": max(o.took_ms for o in [*burst, *steady] if o.began - began <= 1),
        "p50 of the burst": percentile([outcome.took_ms for outcome in burst], 50),
        "steady p50": steady_p50,
        "p50 of its healthy twin meanwhile": well,
        "steady p50, of the healthy p50": steady_p50 / well,
        "steady p99": percentile([outcome.took_ms for outcome in later], 99),
        "still asked of the dead one": sum(call["at"] >= since for call in calls) / len(later),
        "back after": min(used) - healed_at if used else float("nan"),
    }


UNITS = {
    "failed": "answers",
    "slowest of the first second": "ms",
    "p50 of the burst": "ms",
    "steady p50": "ms",
    "p50 of its healthy twin meanwhile": "ms",
    "steady p50, of the healthy p50": "×",
    "steady p99": "ms",
    "still asked of the dead one": "per request",
    "back after": "s",
}


def verdict(outcome: Outcome, prompt: str) -> str:
    """Say what a caller of a stream got: whole, error, or one of the ways to be lied to."""
    text, finish, error, done = "", None, bool(outcome.broke), False
    for line in outcome.body.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = orjson.loads(data)
        except ValueError:
            error = True
            continue
        if "error" in event or "message" in event:
            error = True
        for choice in event.get("choices", ()):
            text += choice.get("delta", {}).get("content") or ""
            finish = choice.get("finish_reason") or finish
    whole = answer_text(prompt, TOKENS)
    if outcome.status != 200:
        return "error"
    if text == whole and finish and not error:
        return "whole"
    if error:
        return "hang" if outcome.took_ms >= STREAM_LIMIT_S * 1000 else "error"
    if text == whole:
        return "whole, no finish"
    if not whole.startswith(text):
        return "wrong text"
    return "forged finish" if finish else "silent cut" + (", [DONE]" if done else "")


async def broken_streams(candidate: Candidate, main: StandIn, how: str) -> Counter[str]:
    """Return what callers of streams that break got."""
    await say("POST", main, "/_faults", [BREAKS[how]])
    candidate.caller.limit_s = STREAM_LIMIT_S

    async def one(number: int) -> str:
        prompt = f"stream {number} {how} {MARK} [[tokens={TOKENS}]]"
        return verdict(await candidate.caller.ask(candidate.request(prompt, stream=True)), prompt)

    found: Counter[str] = Counter()
    for first in range(0, STREAMS, 5):
        found.update(await asyncio.gather(*(one(number) for number in range(first, first + 5))))
    candidate.caller.limit_s = candidate.patience_s
    await say("DELETE", main, "/_faults")
    return found


async def recovered(candidate: Candidate) -> None:
    """Wait until the candidate uses the main provider again."""
    await steadily(candidate.caller, Asking(candidate).request, per_second=PER_SECOND, seconds=7)


async def run(names: tuple[str, ...], faults: list[str], rounds: int) -> Report:
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    streams: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    async with (
        provider("main", "--token-ms", "5") as main,
        provider("well", "--token-ms", "5") as well,
        provider("backup", "--token-ms", "5", "--no-record") as backup,
        candidates(names, main.url, backup.url) as all_,
        candidates(names, well.url, backup.url) as twins,
    ):
        twin_of = {twin.name: twin for twin in twins}
        for number in range(rounds):
            for fault in faults:
                for candidate in random.sample(all_, len(all_)):
                    progress.print(f"round {number + 1} of {rounds}: {fault}, {candidate.name}")
                    if fault in FAULTS:
                        for what, value in (await outage(candidate, twin_of[candidate.name], main, fault)).items():
                            found[candidate.name, fault, what].append(value)
                    else:
                        streams[candidate.name, fault] += await broken_streams(candidate, main, fault)
                        await recovered(candidate)
    report = Report(f"gateway-outage: {BURST} requests at {AT_ONCE}, then {PER_SECOND}/s, from the fault on")
    for (who, fault, what), values in sorted(found.items(), key=lambda item: (item[0][1], item[0][2])):
        report.rows.append(Row(who, f"{fault}: {what}", UNITS[what], tuple(values)))
    for (who, how), counted in streams.items():
        for what, number in counted.most_common():
            report.rows.append(Row(who, f"stream, {how}: {what}", f"of {counted.total()}", (number,)))
    report.goals = goals(report)
    return report


def goals(report: Report) -> list[Goal]:
    """Return the promises about us."""
    ours = {row.what: row.median for row in report.rows if row.who == "reanimate"}
    made = []
    for fault in FAULTS:
        if f"{fault}: failed" not in ours:
            continue
        made.append(Goal(f"{fault}: failed", ours[f"{fault}: failed"], "answers", 0))
        relative = f"{fault}: steady p50, of the healthy p50"
        made.append(Goal(relative, ours[relative], "×", 1.2))
        made.append(Goal(f"{fault}: still asked", ours[f"{fault}: still asked of the dead one"], "per request", 0))
        made.append(Goal(f"{fault}: back after", ours[f"{fault}: back after"], "s", 2.0))
    if "hang: slowest of the first second" in ours:
        made.append(Goal("hang: slowest of the first second", ours["hang: slowest of the first second"], "ms", 500))
    lies = ("silent", "forged", "wrong", "hang", "whole, no finish")
    told = [row for row in report.rows if row.who == "reanimate" and row.what.startswith("stream, ")]
    if told:
        lied = sum(row.median for row in told if row.what.rpartition(": ")[2].startswith(lies))
        made.append(Goal("streams with a lie", lied, "streams", 0))
        whole = {row.what.split(":")[0] for row in told if row.what.endswith(": whole")}
        made.append(Goal("ways to break that the caller never sees", len(whole), f"of {len(BREAKS)}", 4, at_least=True))
    return made


def main() -> int:
    built = parser(__doc__ or "", rounds=1)
    everything = [*FAULTS, *BREAKS]
    built.add_argument("--only", nargs="+", metavar="NAME", default=list(PEERS), help=f"of {', '.join(PEERS)}")
    built.add_argument("--faults", nargs="+", metavar="FAULT", default=everything, help=f"of {', '.join(everything)}")
    given = built.parse_args()
    names = tuple(name for name in PEERS if name in given.only)
    return uvloop.run(run(names, given.faults, given.rounds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
