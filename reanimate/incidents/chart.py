"""What ran when in an incident, as a mermaid Gantt chart for where Markdown is rendered. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from reanimate.incidents.lifecycle import STEPS
from reanimate.incidents.wording import as_moment, duration, words

__all__ = ["mermaid_timeline"]

View = Mapping[str, Any]

# Prefect shows charts on a dark ground, in light mode too; as wide as its column, so that nothing is scaled down.
_LOOK = (
    '%%{init: {"theme": "dark", "gantt": {"useWidth": 640, "leftPadding": 100, "rightPadding": 10, "barHeight": 20, '
    '"barGap": 6, "fontSize": 13, "sectionFontSize": 13, "gridLineStartPadding": 45, "titleTopMargin": 20}}}%%'
)
_TICKS = (
    (timedelta(seconds=8), "1second"),
    (timedelta(seconds=40), "5second"),
    (timedelta(minutes=2), "15second"),
    (timedelta(minutes=8), "1minute"),
    (timedelta(minutes=40), "5minute"),
    (timedelta(hours=2), "15minute"),
    (timedelta(hours=8), "1hour"),
)
_OUTCOME = {"failed": "crit, ", "undone": "crit, ", "running": "active, "}


def mermaid_timeline(view: View) -> str:
    """Return a fenced mermaid Gantt chart of the steps by phase, in UTC whatever the reader's time zone is."""
    steps = [step for step in view["figures"]["steps"] if step["started_at"]]
    lines = [
        "```mermaid",
        _LOOK,
        "gantt",
        "    dateFormat YYYY-MM-DDTHH:mm:ss.SSS",
        "    axisFormat %H:%M:%S",
        f"    tickInterval {_tick(steps, view['now'])}",
        f"    title Incident {_plain(view['incident']['id'])}, times in UTC",
    ]
    for phase in STEPS:
        of_phase = [step for step in steps if step["phase"] == phase]
        if of_phase:
            lines.append(f"    section {_plain(phase)}")
        lines += [_bar(step, view["now"]) for step in of_phase]
    return "\n".join([*lines, "```"])


def _tick(steps: Sequence[View], now: str) -> str:
    """Return the distance of the lines: at most eight or so, whatever the span."""
    moments = [at for step in steps for at in (as_moment(step["started_at"]), as_moment(step["ended_at"] or now)) if at]
    span = max(moments) - min(moments) if moments else timedelta()
    return next((tick for longest, tick in _TICKS if span <= longest), "1day")


def _bar(step: View, now: str) -> str:
    label = _plain(f"{words(step['action'] or step['step'])} {duration(step['seconds'])}")
    first, last = _time(step["started_at"]), _time(step["ended_at"] or now)
    return f"    {label} :{_OUTCOME.get(step['outcome'], 'done, ')}{first}, {last}"


def _time(value: str | datetime) -> str:
    """Return a UTC moment without its zone: mermaid then reads and shows it as it stands."""
    at = as_moment(value)
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") if at else ""


def _plain(text: str) -> str:
    """Keep only what no mermaid grammar reads as syntax."""
    return " ".join(re.sub(r"[^\w .–/+-]", " ", text).split())
