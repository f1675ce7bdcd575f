"""What a gateway for LLM calls costs while all is well: time, throughput, processor time and memory.

Each candidate stands in front of the same stand-in for a provider and is asked by the same raw caller, in rounds, in
an order drawn anew for each. "Added" is what its median adds to that of asking the provider directly, in that round.
"""

import random
import sys
from collections import defaultdict
from typing import Any

import uvloop
from rich.console import Console

from benchmarks.llm_candidates import EVERY_CORE, NAMES, Candidate, StandIn, candidates, provider
from benchmarks.llm_driver import closed_loop
from benchmarks.llm_policies import policy_chain
from benchmarks.report import Goal, Report, Row, parser, percentile

__all__ = ["main"]

SMALL, LARGE = "x" * 1800, "lorem ipsum " * 2730
"""Prompts that make requests of 2 KB and of 32 KB."""
FEW, MANY = 16, 528
"""Tokens of a short and of a long stream: the difference is what an event costs."""
progress = Console(stderr=True)
Figures = dict[str, float]

UNITS = {
    "p50, one at a time": "µs",
    "added p50": "µs",
    "added p50, 32 KB prompt": "µs",
    "p99, one at a time": "µs",
    "requests/s, 64 at a time": "1/s",
    "requests/s, one process to TensorZero on every core": "×",
    "p99, 64 at a time": "ms",
    "CPU per request, 64 at a time": "µs",
    "added time to the first token": "µs",
    "CPU per streamed event, in bursts": "µs",
    "CPU per streamed event, 1 ms apart": "µs",
    "memory": "MB",
    "p50 of a cached answer": "µs",
    "all policies": "µs",
}


async def one_at_a_time(candidate: Candidate, request: bytes, seconds: float) -> list[float]:
    """Return the microseconds of each answer.

    Raises:
        RuntimeError: an answer was not as it should be.
    """
    outcomes = await closed_loop(candidate.caller, lambda: request, at_once=1, count=5000, seconds=seconds)
    if bad := [outcome for outcome in outcomes if not outcome.ok]:
        raise RuntimeError(f"{candidate.name}: {bad[0]}")
    return [outcome.took_ms * 1000 for outcome in outcomes]


async def to_first_token(candidate: Candidate, seconds: float) -> float:
    request = candidate.request(SMALL, stream=True, tokens=FEW)
    outcomes = await closed_loop(candidate.caller, lambda: request, at_once=1, count=5000, seconds=seconds)
    return percentile([(outcome.first - outcome.began) * 1e6 for outcome in outcomes], 50)


async def cpu_per_event(candidate: Candidate, model: str, at_once: int, seconds: float) -> float:
    """Return the microseconds of processor time that one more token of a stream costs."""
    spent = []
    for tokens in (FEW, MANY):
        request = candidate.request(SMALL, stream=True, tokens=tokens, model=model)
        before = candidate.cpu_s()
        outcomes = await closed_loop(candidate.caller, lambda r=request: r, at_once=at_once, count=500, seconds=seconds)
        spent.append((candidate.cpu_s() - before) / len(outcomes))
        if bad := [outcome for outcome in outcomes if outcome.body.count(b"data: ") < tokens]:
            raise RuntimeError(f"{candidate.name}: a stream of {tokens} tokens: {bad[0]}")
    return (spent[1] - spent[0]) / (MANY - FEW) * 1e6


async def measured(candidate: Candidate, seconds: float) -> Figures:
    """Measure one candidate once."""
    figures: Figures = {}
    small = await one_at_a_time(candidate, candidate.request(SMALL), seconds)
    figures["p50, one at a time"] = percentile(small, 50)
    figures["p99, one at a time"] = percentile(small, 99)
    large = await one_at_a_time(candidate, candidate.request(LARGE), seconds / 2)
    figures["p50, 32 KB prompt"] = percentile(large, 50)
    figures["time to the first token"] = await to_first_token(candidate, seconds / 2)
    request = candidate.request(SMALL)
    before = candidate.cpu_s()
    crowd = await closed_loop(candidate.caller, lambda: request, at_once=64, count=100_000, seconds=seconds)
    wall = max(outcome.ended for outcome in crowd) - min(outcome.began for outcome in crowd)
    if bad := [outcome for outcome in crowd if not outcome.ok]:
        raise RuntimeError(f"{candidate.name}: {len(bad)} of {len(crowd)} failed: {bad[0]}")
    figures["CPU per request, 64 at a time"] = (candidate.cpu_s() - before) / len(crowd) * 1e6
    figures["requests/s, 64 at a time"] = len(crowd) / wall
    figures["p99, 64 at a time"] = percentile([outcome.took_ms for outcome in crowd], 99)
    if candidate.name != "directly":
        figures["CPU per streamed event, in bursts"] = await cpu_per_event(candidate, "", 1, seconds / 2)
        figures["memory"] = candidate.rss_mb()
    if candidate.name == "reanimate":
        cached = await one_at_a_time(candidate, candidate.request(SMALL, model="cached"), seconds / 2)
        figures["p50 of a cached answer"] = percentile(cached, 50)
    return figures


async def paced(names: tuple[str, ...], rounds: int, seconds: float) -> dict[str, list[Figures]]:
    """Measure streams whose tokens come a millisecond apart, so that each has to be passed on by itself."""
    found: dict[str, list[Figures]] = defaultdict(list)
    async with (
        provider("main", "--no-record", "--token-ms", "1") as main,
        candidates(names, main.url, main.url) as all_,
    ):
        for number in range(rounds):
            for candidate in random.sample(all_, len(all_)):
                progress.print(f"streams, round {number + 1} of {rounds}: {candidate.name}")
                cost = await cpu_per_event(candidate, "", 8, seconds)
                found[candidate.name].append({"CPU per streamed event, 1 ms apart": cost})
    return found


async def run(names: tuple[str, ...], rounds: int, seconds: float) -> Report:
    found: dict[str, list[Figures]] = defaultdict(list)
    async with provider("main", "--no-record") as main, candidates(names, main.url, main.url) as all_:
        everyone = [*all_, directly(main)]
        for number in range(rounds + 1):
            for candidate in random.sample(everyone, len(everyone)):
                progress.print(f"round {number or 'to warm up'} of {rounds}: {candidate.name}")
                figures = await measured(candidate, seconds if number else seconds / 4)
                if number:
                    found[candidate.name].append(figures)
    for name in names:
        for figures, floor in zip(found[name], found["directly"], strict=True):
            figures["added p50"] = figures["p50, one at a time"] - floor["p50, one at a time"]
            figures["added p50, 32 KB prompt"] = figures.pop("p50, 32 KB prompt") - floor["p50, 32 KB prompt"]
            first = figures.pop("time to the first token") - floor["time to the first token"]
            figures["added time to the first token"] = first
    for name, values in (await paced(names, rounds, seconds / 2)).items():
        for figures, more in zip(found[name], values, strict=True):
            figures.update(more)
    if "reanimate" in names:
        rate = "requests/s, 64 at a time"
        for figures, theirs in zip(found["reanimate"], found["TensorZero"], strict=False):
            figures["requests/s, one process to TensorZero on every core"] = figures[rate] / theirs[rate]
        for figures in found["reanimate"]:
            figures["all policies"] = await policy_chain()
    report = Report(f"gateway-llm: {rounds} rounds of {seconds:g} s each")
    for what, unit in UNITS.items():
        for who in (*names, "directly"):
            values = tuple(figures[what] for figures in found[who] if what in figures)
            if values:
                report.rows.append(Row(who, what, unit, values))
    report.goals = goals({(row.who, row.what): row.median for row in report.rows})
    return report


def directly(main: StandIn) -> Candidate:
    """Return the provider itself as a candidate."""
    return Candidate("directly", main.url, "/v1/chat/completions", "m", main.process)


def goals(medians: dict[tuple[str, str], float]) -> list[Goal]:
    """Return the promises: those against peers only if they were measured."""
    one, peer, slow = "reanimate", "TensorZero", "LiteLLM proxy"
    made = []

    def against(what: str, other: str, goal: float, at_least: bool = False, us: str = one) -> None:
        if (other, what) in medians and (us, what) in medians:
            share = medians[us, what] / medians[other, what]
            name = f"{what}, {other}'s" if us == one else f"{what}, {us.removeprefix('reanimate, ')}, {other}'s"
            made.append(Goal(name, share, "×", goal, at_least))

    def alone(what: str, goal: float) -> None:
        if (one, what) in medians:
            made.append(Goal(what, medians[one, what], UNITS[what], goal))

    against("added p50", peer, 0.8)
    against("requests/s, 64 at a time", peer, 1.0, at_least=True, us=EVERY_CORE)
    against("CPU per request, 64 at a time", peer, 1.0)
    against("requests/s, 64 at a time", slow, 60.0, at_least=True)
    against("added time to the first token", peer, 0.75)
    alone("CPU per request, 64 at a time", 150)
    alone("CPU per streamed event, in bursts", 15)
    alone("memory", 90)
    alone("p50 of a cached answer", 250)
    alone("all policies", 10)
    return made


def main() -> int:
    built: Any = parser(__doc__ or "", rounds=5, seconds=2.0)
    built.add_argument("--only", nargs="+", metavar="NAME", default=list(NAMES), help=f"of {', '.join(NAMES)}")
    given = built.parse_args()
    names = tuple(name for name in NAMES if name in given.only)
    return uvloop.run(run(names, given.rounds, given.seconds)).show(given.json)


if __name__ == "__main__":
    sys.exit(main())
