"""The figures of a stretch of time, as rules, the watch and people read them. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reanimate.gateway.llm.accounts.account import COST, Key
from reanimate.gateway.llm.accounts.spread import Spread

__all__ = ["Part", "Window", "figures_of", "window_of"]


@dataclass(frozen=True, slots=True)
class Part:
    """Of one route, of one target, or of all."""

    samples: int = 0
    """Calls that providers were to answer; of a target: attempts."""
    failed: int = 0
    """Of them, those that no provider answered; of a target: those whose failure speaks against it."""
    in_a_row: int = 0
    """Failures since the last success, however long ago."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    first_token_p99_ms: float | None = None

    @property
    def error_rate(self) -> float:
        return self.failed / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in the last `seconds`."""

    seconds: float
    calls: int
    """All that ended, however they did."""
    total: Part
    routes: dict[str, Part]
    targets: dict[str, Part]
    cost: float
    tokens: int


Counts = Mapping[Key, float]
Rows = Mapping[tuple[str, str], int]
"""Failures in a row, by ("route" or "target", name)."""


def _bins(counts: Counts) -> dict[tuple[str, str], dict[int, int]]:
    found: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for key, count in counts.items():
        if len(key) == 3 and isinstance(key[2], int):
            found[str(key[0]), str(key[1])][key[2]] = int(count)
    return found


def _sums(counts: Counts, name: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for key, count in counts.items():
        if key[0] == name:
            found[str(key[1])][str(key[-1])] = found[str(key[1])].get(str(key[-1]), 0) + int(count)
    return found


def _part(samples: int, failed: int, in_a_row: int, took: dict[int, int], first: dict[int, int]) -> Part:
    spread = Spread(took)
    return Part(
        samples,
        failed,
        in_a_row,
        spread.quantile_ms(0.5),
        spread.quantile_ms(0.95),
        spread.quantile_ms(0.99),
        Spread(first).quantile_ms(0.99),
    )


def _merged(several: list[dict[int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for counts in several:
        for place, count in counts.items():
            found[place] = found.get(place, 0) + count
    return found


def window_of(counts: Counts, rows: Rows, seconds: float) -> Window:
    """Return the window that these counts are of."""
    bins = _bins(counts)
    routes = {
        name: _part(
            int(counts.get(("asked", name), 0)),
            int(counts.get(("unanswered", name), 0)),
            rows.get(("route", name), 0),
            bins.get(("took", name), {}),
            bins.get(("first", name), {}),
        )
        for name in sorted({str(key[1]) for key in counts if key[0] in ("calls", "asked")})
    }
    targets = {}
    for name, outcomes in sorted(_sums(counts, "attempts").items()):
        targets[name] = _part(
            sum(outcomes.values()) - outcomes.get("lost", 0),
            int(counts.get(("target_failed", name), 0)),
            rows.get(("target", name), 0),
            bins.get(("target_took", name), {}),
            bins.get(("target_first", name), {}),
        )
    return Window(
        seconds=seconds,
        calls=int(sum(count for key, count in counts.items() if key[0] == "calls")),
        total=_part(
            sum(part.samples for part in routes.values()),
            sum(part.failed for part in routes.values()),
            rows.get(("route", "*"), 0),
            _merged([bins.get(("took", name), {}) for name in routes]),
            _merged([bins.get(("first", name), {}) for name in routes]),
        ),
        routes=routes,
        targets=targets,
        cost=sum(count for key, count in counts.items() if key[0] == COST),
        tokens=int(sum(count for key, count in counts.items() if key[0] == "tokens" and key[2] != "cached")),
    )


def _part_json(part: Part) -> dict[str, Any]:
    return {**asdict(part), "error_rate": round(part.error_rate, 4)}


def figures_of(counts: Counts, rows: Rows, seconds: float) -> dict[str, Any]:
    """Return everything as JSON."""
    window = window_of(counts, rows, seconds)
    calls, tenants = _sums(counts, "calls"), _tenants(counts)
    errors, purposes, attempts = (_sums(counts, name) for name in ("errors", "purpose", "attempts"))
    tokens, finishes = _sums(counts, "tokens"), _sums(counts, "finishes")
    endings: dict[str, int] = {}
    for by_ending in calls.values():
        for ending, count in by_ending.items():
            endings[ending] = endings.get(ending, 0) + count
    return {
        "seconds": round(seconds, 3),
        "calls": {"asked": window.calls, **endings},
        **_part_json(window.total),
        "cost": window.cost,
        "tokens": window.tokens,
        "cache_results": {str(key[1]): int(count) for key, count in counts.items() if key[0] == "cache"},
        "routes": {
            name: {
                **_part_json(part),
                "calls": calls.get(name, {}),
                "errors": errors.get(name, {}),
                "again": purposes.get(name, {}),
            }
            for name, part in window.routes.items()
        },
        "targets": {
            name: {
                **_part_json(part),
                "attempts": attempts.get(name, {}),
                "finishes": finishes.get(name, {}),
                "tokens": tokens.get(name, {}),
                "cost": counts.get((COST, name), 0.0),
                "cost_unserved": counts.get(("cost_unserved", name), 0.0),
            }
            for name, part in window.targets.items()
        },
        "tenants": tenants,
    }


def _tenants(counts: Counts) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, count in counts.items():
        if key[0] == "calls":
            found.setdefault(str(key[2]), {"calls": 0, "tokens": 0, "cost": 0.0})["calls"] += int(count)
    for name, figures in found.items():
        figures["tokens"] = int(counts.get(("tenant_tokens", name), 0))
        figures["cost"] = counts.get(("tenant_cost", name), 0.0)
        figures["refused_content"] = int(counts.get(("refused_content", name), 0))
    return found
