"""What a timeline proves, as figures, each with the numbers of the timeline entries that it comes from. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reanimate.incidents.llm_traffic import llm_counts, slowest_first_token_ms, static_answers, total
from reanimate.incidents.wording import as_moment, count, duration, share

__all__ = [
    "Fact",
    "contained_entry",
    "gateway_counts",
    "gather",
    "has_vector_traffic",
    "held",
    "of_kind",
    "refs_of",
    "restores",
    "state_entry",
    "uncovered",
]

Entry = Mapping[str, Any]
View = Mapping[str, Any]


@dataclass(frozen=True)
class Fact:
    """One figure, how it reads, and the numbers of the timeline entries that hold it."""

    value: float
    shown: str
    refs: tuple[int, ...]


def gather(view: View) -> dict[str, Fact]:
    """Return every figure that the timeline of `view` holds. What it does not hold is absent, not zero."""
    return {**_times(view), **_traffic(view), **_work(view), **_data(view), **_people(view), **_switches(view)}


def of_kind(view: View, *kinds: str) -> list[Entry]:
    """Return the timeline entries of these kinds, oldest first."""
    return [entry for entry in view["timeline"] if entry["kind"] in kinds]


def refs_of(entries: Iterable[Entry]) -> tuple[int, ...]:
    """Return the numbers of `entries`."""
    return tuple(entry["seq"] for entry in entries)


def state_entry(view: View, state: str) -> Entry | None:
    """Return the last entry that moved the incident to `state`."""
    return next((e for e in reversed(of_kind(view, "incident.state")) if e["data"].get("to") == state), None)


def gateway_counts(view: View) -> tuple[Entry | None, dict[str, Mapping[str, Any]]]:
    """Return the newest `figures` entry that holds counts, and the counts by gateway."""
    for entry in reversed(of_kind(view, "figures")):
        counted = {name: item for name, item in entry["data"].get("gateways", {}).items() if "reads" in item}
        if counted:
            return entry, counted
    return None, {}


def has_vector_traffic(counted: Mapping[str, Mapping[str, Any]]) -> bool:
    """Say whether anything is to be told of reads and writes: not when there were LLM calls only."""
    return not llm_counts(counted) or any(
        item.get(side, {}).get("asked") for item in counted.values() for side in ("reads", "writes")
    )


def restores(view: View) -> list[tuple[Entry, Mapping[str, Any]]]:
    """Return what was restored and not taken back: the step's entry and its evidence, one for each collection."""
    found: list[tuple[Entry, Mapping[str, Any]]] = []
    for entry in of_kind(view, "step.done", "step.undone"):
        evidence = entry["data"].get("evidence") or {}
        if entry["kind"] == "step.done":
            found += [(entry, item) for item in evidence.get("restores") or ()]
        else:
            found = [pair for pair in found if pair[0]["data"].get("action") != entry["data"].get("action")]
    return found


def held(check: Any) -> bool:
    """Say whether one check of a verification held."""
    return not isinstance(check, Mapping) or check.get("passed", check.get("ok", True)) is True


def contained_entry(view: View) -> Entry | None:
    """Return the entry that says that the damage was contained."""
    counted = (entry for entry in of_kind(view, "figures") if entry["data"].get("moment") == "contained")
    return next(counted, None) or state_entry(view, "recovering")


def _times(view: View) -> dict[str, Fact]:
    figures = view["figures"]
    opened = refs_of(of_kind(view, "incident.opened"))
    alert = refs_of(of_kind(view, "alert.firing")[:1])
    contained = refs_of(filter(None, [contained_entry(view)]))
    recovered = refs_of(filter(None, [state_entry(view, "recovered")]))
    sources: dict[str, tuple[Callable[[float], str], tuple[int, ...]]] = {
        "detect_s": (duration, alert + opened),
        "contain_s": (duration, opened + contained),
        "recover_s": (duration, opened + recovered),
        "total_s": (duration, opened + recovered),
        "rto_share": (share, opened + recovered),
    }
    return {
        name: Fact(figures[name], say(figures[name]), refs)
        for name, (say, refs) in sources.items()
        if figures[name] is not None
    }


def _traffic(view: View) -> dict[str, Fact]:
    entry, counted = gateway_counts(view)
    if entry is None:
        return {}
    refs = (entry["seq"],)
    return {**_llm_traffic(counted, refs), **_vector_traffic(counted, refs)}


def _llm_traffic(counted: Mapping[str, Mapping[str, Any]], refs: tuple[int, ...]) -> dict[str, Fact]:
    calls = llm_counts(counted)
    if not calls:
        return {}
    failed, static = total(calls, "failed"), static_answers(calls)
    unserved = failed + static + total(calls, "rejected")
    facts = {
        "llm_failed": Fact(failed, count(failed, "LLM call"), refs),
        "llm_unserved": Fact(unserved, count(unserved, "LLM call"), refs),
    }
    if static:
        facts["llm_static"] = Fact(static, count(static, "LLM call"), refs)
    if (slowest := slowest_first_token_ms(calls)) is not None:
        facts["first_token_ms"] = Fact(slowest, duration(slowest / 1000), refs)
    return facts


def _vector_traffic(counted: Mapping[str, Mapping[str, Any]], refs: tuple[int, ...]) -> dict[str, Fact]:
    if not has_vector_traffic(counted):
        return {}

    def summed(side: str, name: str) -> float:
        return sum(item.get(side, {}).get(name) or 0 for item in counted.values())

    failed, degraded = summed("reads", "failed"), summed("reads", "degraded")
    refused, broken = summed("writes", "refused"), summed("writes", "failed")
    facts = {
        "reads_failed": Fact(failed, count(failed, "read"), refs),
        "writes_refused": Fact(refused, count(refused, "write was", "writes were"), refs),
        "writes_failed": Fact(broken, count(broken, "write ended", "writes ended"), refs),
    }
    if not degraded:
        facts["reads_without_fallback"] = Fact(failed, count(failed, "read"), refs)
    slowest = [item["reads"]["slowest_ms"] for item in counted.values() if item["reads"].get("slowest_ms") is not None]
    if slowest:
        facts["slowest_ms"] = Fact(max(slowest), duration(max(slowest) / 1000), refs)
    return facts


_STEP_FACTS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], str, str], ...] = (
    ("retried", lambda step: bool(step["attempts"] - step["resumed"] > 1), "step", "steps"),
    ("resumed", lambda step: bool(step["resumed"]), "step was", "steps were"),
    ("undone", lambda step: bool(step["outcome"] == "undone"), "step was", "steps were"),
)


def _work(view: View) -> dict[str, Fact]:
    steps = view["figures"]["steps"]
    facts = {}
    for name, chosen, one, many in _STEP_FACTS:
        found = [step for step in steps if chosen(step)]
        refs = tuple(number for step in found for number in step["entries"])
        facts[name] = Fact(len(found), count(len(found), one, many), refs)
    failed = of_kind(view, "step.failed")
    facts["failed_steps"] = Fact(len(failed), count(len(failed), "step"), refs_of(failed))
    for entry in of_kind(view, "verification")[-1:]:
        checks = entry["data"].get("checks") or []
        bad = [check for check in checks if not held(check)]
        shown = count(len(bad) or len(checks), "check")
        facts["checks_failed"] = Fact(len(bad), shown if bad else f"All {shown}", (entry["seq"],))
    return facts


def _data(view: View) -> dict[str, Fact]:
    found = restores(view)
    numbers = tuple(dict.fromkeys(entry["seq"] for entry, _ in found))
    fault_at = as_moment(view["incident"]["fault_at"])
    facts = {}
    taken = [at for _, item in found if (at := as_moment(item.get("backup_taken_at")))]
    if fault_at and taken:
        age_s = (fault_at - min(taken)).total_seconds()
        facts["backup_age_s"] = Fact(age_s, duration(age_s), numbers)
    missed = [item.get("writes_since") for _, item in found]
    if missed and all(isinstance(number, int) for number in missed):
        total = sum(number for number in missed if number is not None)
        facts["writes_since"] = Fact(total, count(total, "write"), numbers)
    return facts


def _people(view: View) -> dict[str, Fact]:
    sent, failed = of_kind(view, "notice.sent"), of_kind(view, "notice.failed")
    called = of_kind(view, "person.called")
    facts = {"called": Fact(len(called), count(len(called), "call"), refs_of(called))}
    deaf = [
        entry
        for entry in of_kind(view, "step.done", "person.called")
        if {**entry["data"], **(entry["data"].get("evidence") or {})}.get("receivers") == 0
    ]
    if sent:
        facts["told"] = Fact(len(sent), count(len(sent), "notice was", "notices were"), refs_of(sent))
    elif failed:
        facts["untold"] = Fact(len(failed), failed[-1]["message"].rstrip("."), refs_of(failed))
    elif deaf:
        facts["untold"] = Fact(len(deaf), "no receiver is configured", refs_of(deaf))
    return facts


def _switches(view: View) -> dict[str, Fact]:
    """Count holds by what the timeline says of placing and lifting them."""
    open_now: dict[tuple[Any, Any], int] = {}
    lifted: list[int] = []
    for entry in of_kind(view, "hold.placed", "hold.changed", "hold.lifted"):
        key = (entry["data"].get("switch"), entry["data"].get("scope"))
        if entry["kind"] == "hold.lifted":
            open_now.pop(key, None)
            lifted.append(entry["seq"])
        else:
            open_now[key] = entry["seq"]
    if open_now:
        shown = count(len(open_now), "hold is", "holds are")
        return {"holds_left": Fact(len(open_now), shown, tuple(open_now.values()))}
    if lifted:
        return {"lifted_all": Fact(len(lifted), count(len(lifted), "hold"), tuple(lifted))}
    return {}


def uncovered(view: View) -> list[str]:
    """Return what a reader might look for and no record holds, most particular first."""
    return [*_gaps(view), *_NEVER_COVERED]


_NEVER_COVERED = (
    "Reads and writes that went to a target without passing the gateway.",
    "What users saw: the gateway counts its own answers, not what the agent made of them.",
    "Whether degraded answers were as good as usual: a replica's answer counts as answered.",
    "What made the component fail: probes show that it failed and when, not why; its own logs and its host do.",
    "When the fault truly began, between the last good probe and the first bad one.",
)


def _gaps(view: View) -> list[str]:
    entry, counted = gateway_counts(view)
    if entry is None:
        return ["What the agent's traffic met: the timeline holds no figures of a gateway."]
    gaps = []
    fault_at = as_moment(view["incident"]["fault_at"])
    for name, item in counted.items():
        since = as_moment(item.get("since"))
        if fault_at and since and (late_s := (since - fault_at).total_seconds()) > 0.5:
            gaps.append(f"The first {duration(late_s)} of the fault at gateway {name}: its counts begin later.")
    seen = {name for item in of_kind(view, "figures") for name in item["data"].get("gateways", {})}
    gaps += [f"The newest counts of gateway {name}: it did not give them." for name in sorted(seen - set(counted))]
    if any(item.get("writes_since") is None for _, item in restores(view)):
        gaps.append("How many acknowledged writes the restored backup lacks: nobody counted them.")
    if view["figures"]["contain_s"] is not None and not of_kind(view, "notice.sent", "notice.failed"):
        gaps.append("Whether a notice reached anybody: no entry says that one was sent.")
    return gaps
