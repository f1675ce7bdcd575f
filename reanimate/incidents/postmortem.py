"""The postmortem of an incident as Markdown, drafted from its timeline only: every statement names its entries ([#12]).

Nothing here is known better than the timeline: what no entry covers is said to be missing. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reanimate.incidents.facts import (
    contained_entry,
    gateway_counts,
    gather,
    held,
    of_kind,
    refs_of,
    restores,
    state_entry,
    uncovered,
)
from reanimate.incidents.impact import impact_sentences, impact_tables
from reanimate.incidents.judgement import Judgement, judge
from reanimate.incidents.lifecycle import Phase
from reanimate.incidents.markdown import escape, refs, table
from reanimate.incidents.wording import as_moment, clock_time, count, duration, moment, share, words

__all__ = ["render", "steps_table"]

View = Mapping[str, Any]

_MOMENTS = {
    "opened": "soon after it opened",
    "contained": "when it was contained",
    "recovered": "when it was recovered",
    "ended": "at its end",
}
_OPEN_OUTCOME = {"escalated": "was handed to a person", "closed": "was closed by a person"}


def render(view: View) -> str:
    """Return the whole document, ending with a line break."""
    judgements = judge(gather(view))
    sections = [
        _head(view),
        "## Summary\n\n" + _summary(view),
        "## Impact\n\n" + _impact(view),
        "## Times against the recovery time objective\n\n"
        + _times(view)
        + "\n\n### Every step\n\n"
        + steps_table(view),
        "## Timeline\n\n" + _timeline(view),
        "## Cause, with its evidence\n\n" + _cause(view),
        "## What went well\n\n" + _judged(judgements, "well"),
        "## What went badly\n\n" + _judged(judgements, "badly"),
        "## Data\n\n" + _data(view),
        "## Actions\n\n" + _actions(view, judgements),
        "## What no record covers\n\n" + "\n".join(f"- {escape(line)}" for line in uncovered(view)),
    ]
    return "\n\n".join(sections) + "\n"


def _head(view: View) -> str:
    incident = view["incident"]
    facts = [
        ("Agent", escape(incident["agent"])),
        ("Component", escape(incident["component"])),
        ("Severity", escape(incident["severity"] or "not set")),
        ("State", escape(incident["state"])),
        ("Runbook", escape(incident["runbook"] or "none")),
        ("Opened", moment(incident["opened_at"])),
    ]
    return f"# Postmortem: {escape(incident['title'])}\n\n" + table(("Incident", f"`{incident['id']}`"), "ll", facts)


def _summary(view: View) -> str:
    incident, figures = view["incident"], view["figures"]
    opened = refs_of(of_kind(view, "incident.opened"))
    sentences = [f"{_what(view)} It began at {moment(incident['fault_at'] or incident['opened_at'])}{refs(opened)}."]
    if figures["detect_s"] is not None:
        sentences.append(f"It was noticed {duration(figures['detect_s'])} later.")
    if figures["contain_s"] is not None:
        moved = refs_of(filter(None, [contained_entry(view)]))
        sentences.append(f"The damage was contained {duration(figures['contain_s'])} after that{refs(moved)}.")
    sentences.append(_ending(view))
    entry, counted = gateway_counts(view)
    if entry:
        sentences += impact_sentences(counted, refs([entry["seq"]]))
    return " ".join(sentences)


def _what(view: View) -> str:
    faults = sorted(of_kind(view, "incident.fault"), key=lambda entry: -(entry["data"].get("confidence") or 0))
    component = escape(view["incident"]["component"])
    if not faults:
        return f"Something went wrong with {component}; what it was is not in the record."
    named = words(str(faults[0]["data"].get("fault", "unknown")))
    if named == "unknown":
        return f"A fault of a kind that is not known hit {component}{refs([faults[0]['seq']])}."
    return f"The fault was **{escape(named)}** at {component}{refs([faults[0]['seq']])}."


def _ending(view: View) -> str:
    incident, figures = view["incident"], view["figures"]
    if figures["recover_s"] is not None:
        proof = refs_of(of_kind(view, "verification")[-1:]) + refs_of(filter(None, [state_entry(view, "recovered")]))
        verdict = ""
        if figures["rto_met"] is not None:
            verdict = (
                f" The objective of {duration(figures['rto_s'])} ({escape(incident['severity'])}) was "
                f"{'met' if figures['rto_met'] else 'missed'}: {share(figures['rto_share'])} of it was spent."
            )
        return f"It was recovered and verified {duration(figures['recover_s'])} after it opened{refs(proof)}.{verdict}"
    entry = state_entry(view, incident["state"])
    said = _OPEN_OUTCOME.get(incident["state"], f"has not ended: it is {escape(incident['state'])}")
    reason = f": {escape(entry['data'].get('reason') or entry['message'])}" if entry else ""
    return f"It {said}{reason}{refs(refs_of([entry]) if entry else ())}. It was not recovered by this record."


def _impact(view: View) -> str:
    entry, counted = gateway_counts(view)
    if entry is None:
        return "No record covers this: the timeline holds no figures of a gateway."
    windows = "; ".join(
        f"{escape(name)}: {moment(item.get('since'))} to {clock_time(item.get('now'))}"
        for name, item in counted.items()
    )
    said = _MOMENTS.get(entry["data"].get("moment", ""), "later")
    return f"The gateways' own counts, taken {said}{refs([entry['seq']])} ({windows}).\n\n" + impact_tables(counted)


def _times(view: View) -> str:
    incident, figures = view["incident"], view["figures"]
    facts = gather(view)

    def row(said: str, name: str) -> tuple[str, str, str]:
        found = facts.get(name)
        return said, duration(figures[name]), refs(found.refs).strip() if found else "no record covers this"

    rows = [
        row("Detect: fault to incident", "detect_s"),
        row("Contain: incident to contained", "contain_s"),
        row("Recover: incident to verified recovery", "recover_s"),
        row("In all: fault to verified recovery", "total_s"),
    ]
    severity = refs_of(of_kind(view, "incident.severity")[-1:])
    said = "Objective" + (f" for {escape(incident['severity'])}" if incident["severity"] else "")
    rows.append((said, duration(figures["rto_s"]), refs(severity).strip() or "no record covers this"))
    met = {True: "met", False: "missed", None: "not recovered, so neither met nor missed"}[figures["rto_met"]]
    spent = f", {share(figures['rto_share'])} spent" if figures["rto_share"] is not None else ""
    return table(("Time", "Took", "From"), "lrl", rows) + f"\n\n**The objective was {met}{spent}.**"


def steps_table(view: View) -> str:
    """Return a Markdown table of every action of every step, in the order in which they began."""
    rows = []
    for step in view["figures"]["steps"]:
        again = [f"{step['attempts']} attempts"] if step["attempts"] > 1 else []
        again += [f"resumed {step['resumed']} ×"] if step["resumed"] else []
        rows.append(
            (
                escape(step["phase"]),
                escape(words(step["step"])),
                escape(words(step["action"])) or "–",
                clock_time(step["started_at"]),
                "–" if step["seconds"] is None else f"{step['seconds']:.3f}",
                ", ".join([_outcome(step), *again]),
                refs(step["entries"]).strip(),
            )
        )
    if not rows:
        return "No step has begun."
    return table(("Phase", "Step", "Action", "Start (UTC)", "Seconds", "Outcome", "From"), "llllrll", rows)


def _outcome(step: Mapping[str, Any]) -> str:
    """Say how a step ended; one of the postmortem that runs is the one that writes this document."""
    writing = step["phase"] == Phase.POSTMORTEM and step["outcome"] == "running"
    return "wrote this" if writing else escape(step["outcome"])


def _timeline(view: View) -> str:
    start = as_moment(view["incident"]["fault_at"] or view["incident"]["opened_at"])
    rows = []
    for entry in view["timeline"]:
        at = as_moment(entry["at"])
        after = f"{(at - start).total_seconds():+.3f}" if at and start else ""
        said = f"{escape(entry['message'])}"
        rows.append((f"[#{entry['seq']}]", clock_time(at), after, escape(entry["kind"]), said, escape(entry["actor"])))
    drawn = table(("#", "UTC", "s", "Kind", "What happened", "By"), "rlrlll", rows)
    return f"All times are UTC, {moment(start)[:10]}; seconds count from the fault.\n\n{drawn}"


def _cause(view: View) -> str:
    newest: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for entry in of_kind(view, "incident.fault"):
        newest[entry["data"].get("fault"), entry["data"].get("component")] = entry
    faults = sorted(newest.values(), key=lambda entry: -(entry["data"].get("confidence") or 0))
    if not faults:
        return "No record covers this: triage wrote down no fault."
    blocks = []
    for entry in faults:
        data = entry["data"]
        head = f"**{escape(words(str(data.get('fault'))))}** at {escape(data.get('component'))}"
        lines = [f"- {_evidence(item)}" for item in data.get("evidence") or []] or ["- no evidence was written down"]
        blocks.append(
            f"{head}, confidence {share(data.get('confidence'))}{refs([entry['seq']])}:\n\n" + "\n".join(lines)
        )
    analysed = [
        entry
        for entry in of_kind(view, "step.done")
        if entry["data"].get("step") == "analyse_cause" and entry["data"].get("evidence")
    ]
    for entry in analysed:
        lines = [f"- {escape(words(name))}: {escape(value)}" for name, value in entry["data"]["evidence"].items()]
        blocks.append(f"Found afterwards{refs([entry['seq']])}:\n\n" + "\n".join(lines))
    blocks.append(_ruled_out(view, faults))
    return "\n\n".join(blocks)


def _ruled_out(view: View, faults: Sequence[Mapping[str, Any]]) -> str:
    """Say which beliefs were weaker, and which checks of the verification found nothing wrong."""
    weaker = [
        f"{escape(words(str(entry['data'].get('fault'))))} at {escape(entry['data'].get('component'))} "
        f"({share(entry['data'].get('confidence'))}){refs([entry['seq']])}"
        for entry in faults[1:]
        if (entry["data"].get("confidence") or 0) < 0.6
    ]
    if not weaker:
        return "Ruled out: the timeline names no other suspicion."
    return "Less likely, by their confidence: " + "; ".join(weaker) + "."


def _evidence(item: Any) -> str:
    if not isinstance(item, Mapping):
        return escape(item)
    head = escape(item.get("check", "evidence"))
    rest = "; ".join(
        f"{escape(words(str(key)))} {escape(value)}" for key, value in item.items() if key not in ("check", "found")
    )
    found = escape(item.get("found", ""))
    return f"{head}: {found}" + (f" ({rest})" if rest and found else rest)


def _judged(judgements: Iterable[Judgement], verdict: str) -> str:
    lines = [f"- {escape(item.sentence)}{refs(item.refs)}" for item in judgements if item.verdict == verdict]
    return "\n".join(lines) or "- No figure of this incident says so."


def _actions(view: View, judgements: Iterable[Judgement]) -> str:
    wanted = [f"{item.action}{refs(item.refs)}" for item in judgements if item.action]
    for entry in of_kind(view, "note"):
        wanted += [f"{escape(text)}{refs([entry['seq']])}" for text in entry["data"].get("proposals") or ()]
    return "\n".join(f"- [ ] {line}" for line in dict.fromkeys(wanted)) or "- None follows from the figures."


def _data(view: View) -> str:
    lines = [_restored(view, entry, item) for entry, item in restores(view)]
    lines = lines or ["- No data was restored: no step that stands names a backup."]
    for entry in of_kind(view, "verification"):
        lines.append(f"- Verification {'passed' if entry['data'].get('passed') else 'failed'}{refs([entry['seq']])}:")
        lines += [f"  - {_check(check)}" for check in entry["data"].get("checks") or []]
    return "\n".join(lines)


def _restored(view: View, entry: Mapping[str, Any], item: Mapping[str, Any]) -> str:
    fault_at, taken_at = as_moment(view["incident"]["fault_at"]), as_moment(item.get("backup_taken_at"))
    age = f", {duration((fault_at - taken_at).total_seconds())} before the fault" if fault_at and taken_at else ""
    missed = item.get("writes_since")
    lost = "no record covers how many" if missed is None else count(missed, "write")
    return (
        f"- {escape(item.get('collection'))} was restored from backup `{escape(item.get('backup_id'))}`"
        f"{refs([entry['seq']])}, taken at {moment(taken_at)}{age}, as {escape(item.get('new_name'))} "
        f"with {count(item.get('points'), 'point')}. Acknowledged since that backup and not in it: {lost}."
    )


def _check(check: Any) -> str:
    if not isinstance(check, Mapping):
        return escape(check)
    named = " ".join(escape(words(str(check[key]))) for key in ("collection", "check") if check.get(key))
    seen = [
        f"{key} {escape(check[key])}" for key in ("expected", "found", "detail") if check.get(key) not in (None, "")
    ]
    return f"{'held' if held(check) else '**did not hold**'}: {named}" + (f", {', '.join(seen)}" if seen else "")
