"""The figures of the LLM plane as Prometheus text."""

from collections.abc import Iterable
from typing import Any

from reanimate.gateway.exposition import family, text
from reanimate.gateway.llm.accounts.genai import GenAi

__all__ = ["render"]

_LEVELS = ("normal", "degraded", "minimal")
_STANDINGS = {"closed": 0, "ramping": 1, "suspect": 1, "open": 2}


def render(status: dict[str, Any], genai: GenAi) -> str:
    """Return the text for `status`, the figures since the start as the control port gives them."""
    return text([*_calls(status), *_targets(status), *_keeping(status), *_state(status), *genai.families()])


def _counts(found: dict[str, Any], field: str, first: str, second: str) -> list[tuple[dict[str, str], float]]:
    return [
        ({first: name, second: str(kind)}, count)
        for name, figures in found.items()
        for kind, count in figures[field].items()
    ]


def _calls(status: dict[str, Any]) -> Iterable[list[str]]:
    routes, tenants = status["routes"], status["tenants"]
    return [
        family(
            "llm_calls_total", "counter", "Calls by how they ended; degraded: also answered.",
            _counts(routes, "calls", "route", "ending"),
        ),
        family(
            "llm_asked_total", "counter", "Calls that providers were to answer.",
            [({"route": name}, route["samples"]) for name, route in routes.items()],
        ),
        family(
            "llm_unanswered_total", "counter", "Of these, calls that no provider answered, whatever was given instead.",
            [({"route": name}, route["failed"]) for name, route in routes.items()],
        ),
        family(
            "llm_errors_total", "counter", "Errors that callers were told.",
            _counts(routes, "errors", "route", "kind"),
        ),
        family(
            "llm_again_total", "counter", "Attempts after a call's first one, by why they were made.",
            _counts(routes, "again", "route", "purpose"),
        ),
        family(
            "llm_tenant_calls_total", "counter", "Calls of each tenant.",
            [({"tenant": name}, tenant["calls"]) for name, tenant in tenants.items()],
        ),
        family(
            "llm_tenant_tokens_total", "counter", "Tokens of each tenant, lost races and failed attempts included.",
            [({"tenant": name}, tenant["tokens"]) for name, tenant in tenants.items()],
        ),
        family(
            "llm_tenant_cost_total", "counter", "What each tenant's calls cost, in the currency of the settings.",
            [({"tenant": name}, tenant["cost"]) for name, tenant in tenants.items()],
        ),
    ]  # fmt: skip


def _targets(status: dict[str, Any]) -> Iterable[list[str]]:
    targets = status["targets"]
    return [
        family(
            "llm_attempts_total", "counter", "Requests to each target by how they ended.",
            _counts(targets, "attempts", "target", "outcome"),
        ),
        family(
            "llm_target_failures_total", "counter", "Requests whose failure speaks against the target.",
            [({"target": name}, target["failed"]) for name, target in targets.items()],
        ),
        family(
            "llm_target_failures_in_a_row", "gauge", "Failures since the target's last success.",
            [({"target": name}, target["in_a_row"]) for name, target in targets.items()],
        ),
        family(
            "llm_finishes_total", "counter", "Answers by why they ended, as the provider says.",
            _counts(targets, "finishes", "target", "finish"),
        ),
        family(
            "llm_tokens_total", "counter", "Tokens as providers count them.",
            _counts(targets, "tokens", "target", "type"),
        ),
        family(
            "llm_cost_total", "counter", "What each target cost, in the currency of the settings.",
            [({"target": name}, target["cost"]) for name, target in targets.items()],
        ),
        family(
            "llm_cost_unserved_total", "counter", "Of this, for answers that nobody got: lost races, failed attempts.",
            [({"target": name}, target["cost_unserved"]) for name, target in targets.items()],
        ),
    ]  # fmt: skip


def _keeping(status: dict[str, Any]) -> Iterable[list[str]]:
    cache = status["cache"]
    return [
        family(
            "llm_cache_results_total", "counter", "Calls by what came out of the cache; off: it was not asked.",
            [({"result": name}, count) for name, count in status["cache_results"].items()],
        ),
        family(
            "llm_cache_bytes", "gauge", "Bytes of stored answers.",
            [({"place": place}, cache[f"{place}_bytes"]) for place in ("memory", "disk")],
        ),
        family("llm_cache_entries", "gauge", "Answers stored in memory.", [({}, cache["entries"])]),
        family("llm_cache_stored_total", "counter", "Answers that were stored.", [({}, cache["stored"])]),
        family(
            "llm_cache_corrupt_total", "counter", "Stored answers that were not what their checksum says.",
            [({}, cache["corrupt"])],
        ),
        family(
            "llm_quota_left_share", "gauge", "What is left of a quota's window.",
            [
                ({name: str(quota[name]) or "*" for name in ("quota", "tenant", "meter", "pot")}, quota["share_left"])
                for quota in status["quota"]
            ],
        ),
    ]  # fmt: skip


def _state(status: dict[str, Any]) -> Iterable[list[str]]:
    policies = status["policies"]
    return [
        family(
            "llm_target_standing", "gauge", "0: asked; 1: coming back, or doubted; 2: not asked.",
            [({"target": name}, _STANDINGS[target["standing"]]) for name, target in status.get("health", {}).items()],
        ),
        family(
            "llm_level", "gauge", "0: normal; 1: degraded; 2: minimal.", [({}, _LEVELS.index(policies["level"]))]
        ),
        family(
            "llm_waiting", "gauge", "Calls that wait for their turn.",
            [({"scope": scope}, count) for scope, count in policies["waiting"].items()],
        ),
        family("llm_underway", "gauge", "Calls underway.", [({}, status["underway"]["calls"])]),
        family("llm_streams_underway", "gauge", "Of them, streams.", [({}, status["underway"]["streams"])]),
    ]  # fmt: skip
