"""From what a gateway counted of LLM calls to accusations, and when one is believed and when it is over. Pure.

| what              | accused when                                                     | believed after | over after |
|-------------------|------------------------------------------------------------------|----------------|------------|
| provider or model | given up by the gateway, or half of ten or more attempts fail    | 2 s            | 5 s        |
| route             | five or more calls, over a tenth of them, are answered by nobody | 1 s            | 10 s       |
| rule              | it holds: the gateway degrades by itself                         | 1 s            | 1 s        |
| tenant            | ten or more calls, half of its own, are refused for the content, | 1 s            | 60 s       |
|                   | and not those of everybody else as well: that is the model       |                |            |

One failed call accuses nobody. A gateway that tells nothing changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from reanimate.incidents.faults import Fault

__all__ = ["Accusation", "Figures", "Ripening", "State", "accuse", "attackers", "ripen"]

Figures = Mapping[str, Any]

_LEAST_ATTEMPTS = 10
_BAD_SHARE = 0.5
_LEAST_UNANSWERED = 5
_UNANSWERED_SHARE = 0.1
_LEAST_REFUSED = 10
_PASSING = frozenset({"rate_limited", "overloaded"})
"""Being held for one of these is everyday for a while."""
_PASSING_S = 30.0


@dataclass(frozen=True)
class Accusation:
    """Something that is wrong now, if it stays so."""

    fingerprint: str
    subject: str
    fault: Fault
    summary: str
    labels: Mapping[str, str]
    found: Mapping[str, Any]
    after_s: float
    """So long it must be so before it is believed."""
    over_s: float
    """So long it must not be so before it is over."""


@dataclass(frozen=True)
class Ripening:
    """How long an accusation has stood. Times are seconds of a monotonic clock."""

    accusation: Accusation
    since: float
    last: float
    """When it was last so."""
    fired: bool = False


State = Mapping[str, Ripening]


def ripen(accused: Mapping[str, Accusation], now: float, state: State) -> State:
    """Return how things stand after one look: what is `fired` is to be alarmed, what is missing is over."""
    after: dict[str, Ripening] = {}
    for fingerprint in dict.fromkeys([*accused, *state]):
        accusation, known = accused.get(fingerprint), state.get(fingerprint)
        if accusation is not None:
            began = known.since if known is not None else now
            fired = (known is not None and known.fired) or now - began >= accusation.after_s
            after[fingerprint] = Ripening(accusation, began, now, fired)
        elif known is not None and known.fired and now - known.last < known.accusation.over_s:
            after[fingerprint] = known
        elif known is not None and not known.fired and now - known.last < 1.0:
            after[fingerprint] = replace(known)  # one good look between bad ones is no recovery
    return after


def accuse(llm: Figures) -> dict[str, Accusation]:
    """Return what the figures of the last minute accuse."""
    found = [*_providers(llm), *_routes(llm), *_rules(llm), *_tenants(llm)]
    return {accusation.fingerprint: accusation for accusation in found}


def _providers(llm: Figures) -> list[Accusation]:
    health: Figures = llm.get("health") or {}
    targets: Figures = llm.get("targets") or {}
    out = {name: why for name in health if (why := _is_out(health[name], targets.get(name) or {})) is not None}
    accusations = []
    for provider in dict.fromkeys(name.partition("/")[0] for name in health):
        own = [name for name in health if name.partition("/")[0] == provider]
        gone = [name for name in own if name in out]
        if not gone:
            continue
        # A model that nobody asked has no say in whether the whole provider is away.
        asked = [name for name in own if name in out or (targets.get(name) or {}).get("samples")]
        if len(gone) == len(asked) and len(own) > 1:
            accusations.append(_of_provider(provider, gone[0], out[gone[0]], {"provider": provider}))
        else:
            for name in gone:
                labels = {"provider": provider} | ({"model": name.partition("/")[2]} if len(own) > 1 else {})
                subject = name if len(own) > 1 else provider
                accusations.append(_of_provider(subject, name, out[name], labels))
    return accusations


def _is_out(health: Figures, counted: Figures) -> dict[str, Any] | None:
    """Return what speaks for a target being out; None when it is not."""
    samples, failed = int(counted.get("samples", 0)), int(counted.get("failed", 0))
    found = {
        "standing": health.get("standing"),
        "kind": health.get("why"),
        "detail": health.get("detail"),
        "attempts": samples,
        "failed": failed,
    }
    if health.get("standing") == "open":
        return found
    if samples >= _LEAST_ATTEMPTS and failed >= _BAD_SHARE * samples and health.get("standing") != "closed":
        return found
    return None


def _of_provider(subject: str, target: str, found: dict[str, Any], labels: dict[str, str]) -> Accusation:
    kind = str(found["kind"] or "")
    quota = kind == "quota"
    why = f": {found['detail']}" if found["detail"] else ""
    # Calls that others answered sooner, and the gateway's own probes, are no failed attempts.
    failed = f", {found['failed']} of {found['attempts']} attempts failed" if found["failed"] else ""
    return Accusation(
        fingerprint=f"watch:llm:{subject}:{'quota' if quota else 'calls'}",
        subject=f"llm:{subject}",
        fault=Fault.TOKEN_QUOTA_EXHAUSTED if quota else Fault.LLM_API_UNAVAILABLE,
        summary=f"{target} does not answer{failed}{why}"[:500],
        labels=labels | ({"kind": kind} if kind else {}),
        found=found,
        after_s=_PASSING_S if kind in _PASSING else 2.0,
        over_s=5.0,
    )


def _routes(llm: Figures) -> list[Accusation]:
    accusations = []
    for name, counted in (llm.get("routes") or {}).items():
        samples, failed = int(counted.get("samples", 0)), int(counted.get("failed", 0))
        if failed >= _LEAST_UNANSWERED and failed > _UNANSWERED_SHARE * samples:
            accusations.append(
                Accusation(
                    fingerprint=f"watch:llm:route:{name}:unanswered",
                    subject=f"llm:{name}",
                    fault=Fault.LLM_API_UNAVAILABLE,
                    summary=f"{failed} of {samples} calls of route {name} were answered by no provider",
                    labels={"route": name},
                    found={"calls": samples, "unanswered": failed},
                    after_s=1.0,
                    over_s=10.0,
                )
            )
    return accusations


def _rules(llm: Figures) -> list[Accusation]:
    policies: Figures = llm.get("policies") or {}
    level = str(policies.get("level", ""))
    accusations = []
    for rule in policies.get("rules") or ():
        for held in rule["holds"]:
            name, scope = rule["name"], str(held["scope"])
            quota = rule["signal"] == "quota_used"
            labels = {"rule": name, "signal": str(rule["signal"]), "level": level}
            if scope.startswith("tenant:"):
                labels["tenant"] = scope.removeprefix("tenant:")
            elif scope != "*":
                labels["route"] = scope
            if quota:
                labels["threshold"] = f"{min(float(held['worst']), 1.0):.2f}"
            accusations.append(
                Accusation(
                    fingerprint=f"watch:llm:rule:{name}:{scope}",
                    subject=f"llm:{labels.get('route', '*')}",
                    fault=Fault.TOKEN_QUOTA_EXHAUSTED if quota else Fault.LLM_API_UNAVAILABLE,
                    summary=f"rule {name} degrades {scope}: {rule['signal']} was {float(held['worst']):.4g}, "
                    f"above {float(rule['above']):g}; the gateway is {level}",
                    labels=labels,
                    found={"rule": name, "signal": rule["signal"], "worst": held["worst"], "level": level},
                    after_s=1.0,
                    over_s=1.0,
                )
            )
    return accusations


def _tenants(llm: Figures) -> list[Accusation]:
    return [
        Accusation(
            fingerprint=f"watch:llm:tenant:{name}:attack",
            subject=f"tenant:{name}",
            fault=Fault.MALICIOUS_PROMPT_ATTACK,
            summary=f"{refused} of {calls} calls of tenant {name} were refused for their content",
            labels={"tenant": name},
            found={"calls": calls, "refused_content": refused},
            after_s=1.0,
            over_s=60.0,
        )
        for name, (calls, refused) in attackers(llm).items()
    ]


def attackers(llm: Figures) -> dict[str, tuple[int, int]]:
    """Return tenant → calls, and those refused for their content, of the tenants who provoke that."""
    counted = {
        name: (int(said.get("calls", 0)), int(said.get("refused_content", 0)))
        for name, said in (llm.get("tenants") or {}).items()
    }
    refused = {name for name, (calls, count) in counted.items() if calls and count >= _BAD_SHARE * calls}
    busy = {name for name, (calls, _) in counted.items() if calls >= _LEAST_REFUSED}
    return {
        name: counted[name]
        for name in counted
        if name in refused and counted[name][1] >= _LEAST_REFUSED and (busy == {name} or not busy <= refused)
    }
