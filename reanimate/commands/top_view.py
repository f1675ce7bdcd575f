"""What `reanimate top` shows of each gateway's LLM traffic."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from reanimate.incidents.wording import clock_time, count, latency, share, size
from reanimate.quota.amounts import said as amount

__all__ = ["draw"]

_LEVELS = {"normal": "green", "degraded": "yellow", "minimal": "red"}
_STATES = {"up": "green", "coming back": "yellow", "doubted": "yellow", "out": "red"}
_FAILED_SHOWN = 8


def draw(traffic: list[dict[str, Any]], at: datetime) -> RenderableType:
    """Return everything, one gateway under the other."""
    shown: list[RenderableType] = [Text(f"reanimate top · {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", style="dim")]
    for gateway in traffic:
        shown.extend(_gateway(gateway))
    return Group(*shown)


def _gateway(said: dict[str, Any]) -> Iterator[RenderableType]:
    name = escape(said["gateway"])
    if said["error"] is not None:
        yield Text.from_markup(f"\n[bold]{name}[/]  [red]{escape(said['error'])}[/]")
        return
    level = said["level"]
    yield Text.from_markup(
        f"\n[bold]{name}[/]  [{_LEVELS.get(level, 'red')}]{level}[/]  "
        f"{said['calls_per_s']:.1f} calls/s  {said['tokens_per_s']:.0f} tokens/s  cost {said['cost']:.4f}  "
        f"underway {said['underway']} ({count(said['streams'], 'stream')})  waiting {said['waiting']}"
    )
    cache = said["cache"]
    unanswered = f"{said['failed_calls']} of {count(said['samples'], 'call')} unanswered ({share(said['error_rate'])})"
    yield Text.from_markup(
        f"  {f'[red]{unanswered}[/]' if said['failed_calls'] else unanswered}  p50 {latency(said['p50_ms'])}  "
        f"p95 {latency(said['p95_ms'])}  p99 {latency(said['p99_ms'])}  "
        f"first token p99 {latency(said['first_token_p99_ms'])}  [dim]last {said['window_s']:.0f} s[/]"
    )
    yield Text.from_markup(
        f"  cache: {share(cache['hit_share'])} of {_looked(cache)}; {size(cache['memory_bytes'])} in memory, "
        f"{size(cache['disk_bytes'])} on disk"
    )
    yield _targets(said["targets"])
    if said["routes"]:
        yield _routes(said["routes"])
    if said["quota"]:
        yield _quota(said["quota"], said["currency"])
    for rule in said["rules"]:
        for held in rule["holds"]:
            yield Text.from_markup(
                f"  rule [bold]{escape(rule['name'])}[/] holds {escape(held['scope'])}: {escape(rule['signal'])} was "
                f"{held['worst']:.4g}, step {held['step']} of {held['steps']}"
            )
    if said["failed"]:
        yield _failed(said["failed"][:_FAILED_SHOWN])


def _looked(cache: dict[str, Any]) -> str:
    results = cache["results"]
    return count(sum(results.get(result, 0) for result in ("hit", "stale", "miss")), "look-up")


def _table(*columns: str, words: str) -> Table:
    """Return a table of which the last column, of words, gives way in a narrow terminal; a row is a line."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for column in columns:
        table.add_column(column, no_wrap=True, min_width=len(column))
    table.add_column(words, no_wrap=True, overflow="ellipsis", ratio=1)
    return table


def _targets(targets: list[dict[str, Any]]) -> Table:
    table = _table("  target", "state", "attempts", "failed", "p50", "p95", "tokens", "cost", words="why")
    for target in targets:
        failed = f"{target['failed']} ({share(target['error_rate'])})" if target["failed"] else "0"
        table.add_row(
            f"  {escape(target['target'])}",
            f"[{_STATES.get(target['state'], 'yellow')}]● {target['state']}[/]",
            count(target["attempts"]),
            f"[red]{failed}[/]" if target["failed"] else failed,
            latency(target["p50_ms"]),
            latency(target["p95_ms"]),
            count(target["tokens"]),
            f"{target['cost']:.4f}",
            escape(target["why"] or ""),
        )
    return table


def _routes(routes: list[dict[str, Any]]) -> Table:
    table = _table("  route", "calls/s", "unanswered", "p95", "p99", "retried", "next", "hedged", "continued", words="")
    for route in routes:
        again = route["again"]
        table.add_row(
            f"  {escape(route['route'])}",
            f"{route['calls_per_s']:.1f}",
            f"[red]{route['failed']}[/]" if route["failed"] else "0",
            latency(route["p95_ms"]),
            latency(route["p99_ms"]),
            *(count(again.get(purpose, 0)) for purpose in ("retry", "next", "hedge", "continuation")),
            "",
        )
    return table


def _quota(quotas: list[dict[str, Any]], currency: str) -> Table:
    table = _table("  quota", "tenant", "left", "spent", "of", words="")
    for quota in quotas:
        left = quota["share_left"]
        tone = "red" if left <= 0 else "yellow" if left < 0.2 else "green"
        pot = "" if quota["pot"] == "normal" else f" ({quota['pot']})"
        table.add_row(
            f"  {escape(quota['quota'])}{pot}",
            escape(quota["tenant"] or "shared"),
            f"[{tone}]{share(left)}[/]",
            amount(quota["meter"], quota["spent"], currency),
            amount(quota["meter"], quota["limit"], currency),
            "",
        )
    return table


def _failed(calls: list[dict[str, Any]]) -> Table:
    table = _table("  failed lately", "at (UTC)", "route", "ending", "took", words="what happened")
    for call in calls:
        error = call["error"] or {}
        attempts = ", ".join(f"{each['target']}: {each['outcome']}" for each in call["attempts"])
        table.add_row(
            f"  {escape(call['id'])}",
            clock_time(call["at"])[:8],
            escape(call["route"]),
            f"{call['ending']} {error.get('status', '')}",
            latency(call["took_ms"]),
            escape(attempts or error.get("message", "")),
        )
    return table
