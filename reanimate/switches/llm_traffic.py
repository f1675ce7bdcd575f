"""LLM traffic as people watch it: what each gateway does now, who answers, what is held, what failed lately."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.errors import NotFound
from reanimate.switches.gateways import control_urls, gateway_figures

__all__ = ["STATES", "find_call", "llm_traffic", "traffic_of"]

STATES = {"closed": "up", "ramping": "coming back", "suspect": "doubted", "open": "out"}
"""How a target stands, as the gateway calls it → as people do."""


async def llm_traffic(services: Services, window: timedelta, failed: int = 10) -> list[dict[str, Any]]:
    """Return how the LLM traffic of each gateway goes, counted over `window`, with its newest failed calls.

    A gateway that does not answer is there with `error`; one without an LLM plane is too.
    """
    urls = await control_urls(services)
    figures, calls = await asyncio.gather(
        gateway_figures(services, utcnow() - window),
        asyncio.gather(*(_failed(services, url, failed) for url in urls.values())),
    )
    newest = dict(zip(urls, calls, strict=True))
    return [traffic_of(name, said, newest.get(name, [])) for name, said in figures.items()]


async def find_call(services: Services, call_id: str) -> dict[str, Any]:
    """Return the record of a call from the gateway that has it.

    Raises:
        NotFound: none has.
    """
    silent = []
    for name, url in (await control_urls(services)).items():
        try:
            answer = await services.http.get(f"{url}/calls/{call_id}", headers=_key(services), timeout=2.0)
        except httpx.HTTPError as error:
            silent.append(f"{name} does not answer ({type(error).__name__})")
            continue
        if answer.status_code == 200:
            return {"gateway": name, **answer.json()}
    raise NotFound(
        f"no gateway knows the call {call_id}" + "".join(f"; {each}" for each in silent),
        hint="each keeps its last 10,000 calls since its start; older ones are in its log",
    )


async def _failed(services: Services, url: str, count: int) -> list[dict[str, Any]]:
    try:
        answer = await services.http.get(f"{url}/calls", params={"failed": count}, headers=_key(services), timeout=1.0)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["calls"]
    except (httpx.HTTPError, ValueError, KeyError):
        return []  # the figures of the same gateway say that it is away
    return found


def _key(services: Services) -> dict[str, str]:
    return {"authorization": f"Bearer {services.secrets.control_key}"}


def traffic_of(name: str, figures: dict[str, Any], failed: list[dict[str, Any]]) -> dict[str, Any]:
    """Put one gateway's figures as people read them. Pure."""
    if "error" in figures:
        return {"gateway": name, "error": figures["error"]}
    llm = figures.get("llm")
    if not llm:
        return {"gateway": name, "error": "it has no LLM plane"}
    seconds = max(llm["seconds"], 1.0)
    policies, results = llm["policies"], llm["cache_results"]
    looked = sum(results.get(result, 0) for result in ("hit", "stale", "miss"))
    return {
        "gateway": name,
        "error": None,
        "window_s": seconds,
        "level": policies["level"],
        "waiting": sum(policies["waiting"].values()),
        "underway": llm["underway"]["calls"],
        "streams": llm["underway"]["streams"],
        "calls": llm["calls"],
        "calls_per_s": llm["calls"]["asked"] / seconds,
        "tokens_per_s": llm["tokens"] / seconds,
        "cost": llm["cost"],
        "samples": llm["samples"],
        "failed_calls": llm["failed"],
        **{key: llm[key] for key in ("error_rate", "p50_ms", "p95_ms", "p99_ms", "first_token_p99_ms")},
        "cache": {
            "hit_share": (looked - results.get("miss", 0)) / looked if looked else None,
            "results": results,
            **{key: llm["cache"][key] for key in ("entries", "memory_bytes", "disk_bytes")},
        },
        "targets": _targets(llm),
        "routes": [
            {"route": route, "calls_per_s": sum(said["calls"].values()) / seconds, **said}
            for route, said in llm["routes"].items()
        ],
        "quota": llm["quota"],
        "currency": llm["currency"],
        "rules": [rule for rule in policies["rules"] if rule["holds"]],
        "failed": [{**call, "at": datetime.fromtimestamp(call["began"], UTC).isoformat()} for call in failed],
    }


def _targets(llm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every target, also those that were not asked; what the gateway knows of one may be either or both."""
    found, health = [], llm.get("health") or {}
    for target in dict.fromkeys([*health, *llm["targets"]]):
        how, counted = health.get(target) or {}, llm["targets"].get(target) or {}
        standing = how.get("standing", "closed")
        found.append(
            {
                "target": target,
                "standing": standing,
                "state": STATES.get(standing, standing),
                "why": how.get("detail"),
                "since": how.get("since"),
                "attempts": counted.get("samples", 0),
                "failed": counted.get("failed", 0),
                "error_rate": counted.get("error_rate", 0.0),
                "in_a_row": counted.get("in_a_row", 0),
                "p50_ms": counted.get("p50_ms"),
                "p95_ms": counted.get("p95_ms"),
                "first_token_p99_ms": counted.get("first_token_p99_ms"),
                "tokens": sum(counted.get("tokens", {}).get(kind, 0) for kind in ("input", "output")),
                "cost": counted.get("cost", 0.0),
            }
        )
    return found
