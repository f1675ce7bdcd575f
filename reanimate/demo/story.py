"""One disaster from the moment it strikes to the end of its incident."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.markdown import Markdown

from reanimate.bootstrap import Services
from reanimate.commands.output import err
from reanimate.demo.tally import Tally
from reanimate.errors import ServerFailed
from reanimate.incidents.lifecycle import State
from reanimate.incidents.views import incident_list, incident_view

__all__ = ["Story", "lives_through"]

_INCIDENT_WITHIN_S = 30.0
_END_WITHIN_S = 180.0
_LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Story:
    """How one disaster ended. Times are seconds: fault → incident, incident → contained, incident → recovered."""

    incident_id: str
    fault: str
    state: str
    detect_s: float | None
    contain_s: float | None
    recover_s: float | None
    rto_s: float | None
    noticed: Tally
    page: str
    prefect_run: str
    postmortem: str


async def lives_through(services: Services, count: Tally, disaster: Callable[[], Awaitable[datetime]]) -> Story:
    """Let a disaster happen and watch its incident until it has ended."""
    before = count.copy()
    count.forget_longest()
    known = {item["id"] for item in await incident_list(services)}
    fault_at = await disaster()
    incident_id = await _wait_for_incident(services, known)
    view = await _watch_to_the_end(services, incident_id)
    during = count.since(before)
    count.remember_longest(before)
    story = _story(view, fault_at, during)
    _print_story(story, await _postmortem(services, view))
    return story


async def _wait_for_incident(services: Services, known: set[str]) -> str:
    try:
        async with asyncio.timeout(_INCIDENT_WITHIN_S):
            while True:
                for item in await incident_list(services):
                    if item["id"] not in known:
                        return str(item["id"])
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise ServerFailed(f"nobody noticed within {_INCIDENT_WITHIN_S:.0f} s", hint="see logs/watch.log") from None


async def _watch_to_the_end(services: Services, incident_id: str) -> dict[str, Any]:
    """Print each timeline entry as it is written; return the view once the incident and its papers are done."""
    shown = 0
    deadline = time.monotonic() + _END_WITHIN_S
    while True:
        view = await incident_view(services, incident_id)
        for entry in view["timeline"][shown:]:
            at = datetime.fromisoformat(entry["at"])
            err.print(f"  [dim]{at:%H:%M:%S.%f}"[:-3] + f"[/] {entry['message'][:150]}", highlight=False)
        shown = len(view["timeline"])
        ended = not view["incident"]["open"] or view["incident"]["state"] == State.ESCALATED
        if (ended and view["phases"][-1]["state"] in ("done", "failed", "skipped")) or time.monotonic() > deadline:
            return view
        await asyncio.sleep(_LOOK_EVERY_S)


def _story(view: dict[str, Any], fault_at: datetime, during: Tally) -> Story:
    incident = view["incident"]
    opened = datetime.fromisoformat(incident["opened_at"])
    return Story(
        incident_id=incident["id"],
        fault=view["faults"][0]["fault"] if view["faults"] else "unknown",
        state=incident["state"],
        detect_s=round((opened - fault_at).total_seconds(), 3),
        contain_s=view["figures"]["contain_s"],
        recover_s=view["figures"]["recover_s"],
        rto_s=incident["rto_s"],
        noticed=during,
        page=view["links"]["page"],
        prefect_run=view["links"]["prefect_run"] or "none: it was answered without Prefect",
        postmortem=incident["postmortem_key"] or "",
    )


async def _postmortem(services: Services, view: dict[str, Any]) -> str:
    key = view["incident"]["postmortem_key"]
    if not key:
        return "*No postmortem was written.*"
    stored = await services.catalog.store.get_async(key)
    return bytes(await stored.bytes_async()).decode()


def _print_story(story: Story, postmortem: str) -> None:
    colour = "green" if story.state == State.RECOVERED else "red"
    err.print(f"\nincident {story.incident_id}: [bold {colour}]{story.state}[/]\n")
    err.print(Markdown(postmortem))
    err.print(f"\nthe agent meanwhile: {story.noticed.told()}", highlight=False)
