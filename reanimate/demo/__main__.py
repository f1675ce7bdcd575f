"""`scripts/demo`: two real disasters, watched to their end. Every figure is measured, nothing is staged."""

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.markdown import Markdown
from rich.rule import Rule
from rich.table import Table

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.commands.output import err, fail, print_json
from reanimate.commands.progress import progress_bars
from reanimate.demo.agent import Agent, Count
from reanimate.demo.knowledge import DIMENSION, Passage, embed, passages
from reanimate.demo.system import demo_home, kill_and_lose_disk, running_system
from reanimate.errors import ReanimateError, ServerFailed
from reanimate.incidents.lifecycle import State
from reanimate.incidents.views import incident_list, incident_view
from reanimate.incidents.wording import duration
from reanimate.logs import log_to_stderr
from reanimate.protection.backups import back_up, seed_replicas

__all__ = ["main"]

_PASSAGES = 2_400
_ALIAS = "kb"
_COLLECTION = "passages"
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
    agent: Count
    page: str
    prefect_run: str
    postmortem: str


def main(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running for a look around.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end on standard output.")] = False,
) -> None:
    """Start the whole system, break it twice, and watch it come back."""
    try:
        ok = asyncio.run(_demo(keep, json))
    except ReanimateError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not ok:
        raise typer.Exit(1)


async def _demo(keep: bool, json: bool) -> bool:
    began = time.monotonic()
    home = demo_home()
    err.print(Rule("1 · the system starts"))
    async with running_system(home, keep=keep) as addresses, open_services() as services:
        err.print(f"up after {time.monotonic() - began:.1f} s in {home}")
        for what, where in (
            ("incidents", addresses.web),
            ("Prefect", addresses.prefect_ui),
            ("gateway", addresses.gateway),
            *((f"vector {name}", url) for name, url in addresses.vector.items()),
        ):
            err.print(f"  {what:<16} {where}", highlight=False)
        err.print(Rule("2 · a knowledge base is loaded, backed up and copied to the replica"))
        knowledge = _spread(passages(_PASSAGES))
        await _load_knowledge(addresses.gateway, knowledge)
        await _protect(services)
        agent = Agent(addresses.gateway, _ALIAS, knowledge)
        async with agent.asking() as count:
            await asyncio.sleep(2)
            err.print(Rule("3 · disaster one: the primary is killed, and its disk is gone"))
            stories = [await _lives_through(services, count, lambda: _kill_primary(home))]
            await asyncio.sleep(2)
            err.print(Rule("4 · disaster two: somebody deletes the collection"))
            stories.append(await _lives_through(services, count, lambda: _delete_collection(services)))
            await asyncio.sleep(2)
        err.print(Rule("5 · how it went"))
        _print_end(stories, agent.count)
        ok = all(story.state == State.RECOVERED for story in stories)
        if json:
            print_json(_summary(stories, agent.count))
        if keep:
            err.print(f"everything is still running: REANIMATE_HOME={home} reanimate status | down", highlight=False)
    err.print(f"the demo took {time.monotonic() - began:.0f} s", style="dim")
    return ok


async def _load_knowledge(gateway: str, knowledge: list[Passage]) -> None:
    """Load the passages through the gateway, as an agent would, into a collection reached by an alias."""
    err.print(
        f"{len(knowledge):,} passages of Python's own documentation, embedded by hashing words into {DIMENSION} "
        "dimensions (a stand-in: deterministic, no model)"
    )
    async with httpx.AsyncClient(base_url=gateway, timeout=30, trust_env=False) as client:

        async def call(method: str, path: str, body: dict[str, Any]) -> None:
            answer = await client.request(method, path, json=body, params={"wait": "true"})
            if answer.status_code != 200:
                raise ServerFailed(f"{method} {path} through the gateway: {answer.status_code} {answer.text[:300]}")

        await call("PUT", f"/collections/{_COLLECTION}", {"vectors": {"size": DIMENSION, "distance": "Cosine"}})
        for field in ("kind", "module"):
            await call("PUT", f"/collections/{_COLLECTION}/index", {"field_name": field, "field_schema": "keyword"})
        with progress_bars() as report:
            for start in range(0, len(knowledge), 200):
                batch = knowledge[start : start + 200]
                points = [
                    {"id": start + number, "vector": embed(passage.text).tolist(), "payload": asdict(passage)}
                    for number, passage in enumerate(batch, start=1)
                ]
                await call("PUT", f"/collections/{_COLLECTION}/points", {"points": points})
                report("load", start + len(batch), len(knowledge))
        alias = {"create_alias": {"collection_name": _COLLECTION, "alias_name": _ALIAS}}
        await call("POST", "/collections/aliases", {"actions": [alias]})


def _spread(found: list[Passage]) -> list[Passage]:
    """Return as many passages as the demo loads, from all over what there is."""
    return [found[number * len(found) // _PASSAGES] for number in range(_PASSAGES)]


async def _protect(services: Services) -> None:
    """Take a backup of the primary, check it, and copy it to every replica."""
    with progress_bars() as report:
        manifest = await back_up(services, _ALIAS, target="primary", trigger="demo", on_progress=report)
        await seed_replicas(services, manifest, on_progress=report)
    size = sum(part.size for part in manifest.parts)
    err.print(f"backup {manifest.id}: {manifest.exact_count:,} points, {size / 1e6:.1f} MB, read back and checked")


async def _kill_primary(home: Path) -> datetime:
    killed_at = await asyncio.to_thread(kill_and_lose_disk, home, "primary")
    err.print("[red]SIGKILL[/] to the primary, and its data directory is removed")
    return killed_at


async def _delete_collection(services: Services) -> datetime:
    """Delete the collection that the alias points at, behind the gateway's back."""
    primary = services.vector("primary")
    collection = (await primary.aliases())[_ALIAS]
    deleted_at = utcnow()
    answer = await services.http.delete(f"{primary.url}/collections/{collection}")
    answer.raise_for_status()
    err.print(f"[red]DELETE[/] /collections/{collection} on the primary")
    return deleted_at


async def _lives_through(services: Services, count: Count, disaster: Callable[[], Awaitable[datetime]]) -> Story:
    """Let a disaster happen and watch its incident until it has ended."""
    before = count.copy()
    count.slowest_s = 0.0
    known = {item["id"] for item in await incident_list(services)}
    fault_at = await disaster()
    incident_id = await _wait_for_incident(services, known)
    view = await _watch_to_the_end(services, incident_id)
    during = count.since(before)
    count.slowest_s = max(before.slowest_s, count.slowest_s)
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


def _story(view: dict[str, Any], fault_at: datetime, during: Count) -> Story:
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
        agent=during,
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
    agent = story.agent
    err.print(
        f"\nthe agent meanwhile: {agent.asked} questions, {agent.answered} answered, "
        f"{agent.degraded} of them degraded, {agent.failed} failed, slowest "
        f"{agent.slowest_s:.2f} s {agent.first_failure}",
        highlight=False,
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _print_end(stories: list[Story], count: Count) -> None:
    table = Table("disaster", "ended", "detected", "contained", "recovered", "objective", "questions lost")
    for story in stories:
        table.add_row(
            story.fault,
            story.state,
            _seconds(story.detect_s),
            _seconds(story.contain_s),
            _seconds(story.recover_s),
            duration(story.rto_s),
            f"{story.agent.failed} of {story.agent.asked}",
        )
    err.print(table)
    err.print("detected: fault to incident; contained, recovered: incident to then", style="dim")
    err.print(
        f"the agent in all: {count.asked} asked, {count.answered} answered, {count.degraded} degraded, "
        f"{count.failed} failed, slowest {count.slowest_s:.2f} s",
        highlight=False,
    )
    for story in stories:
        for what, where in (
            ("incident page", story.page),
            ("Prefect run", story.prefect_run),
            ("postmortem", demo_home() / "blobs" / story.postmortem),
        ):
            err.print(f"{what}: {where}", highlight=False, soft_wrap=True)


def _summary(stories: list[Story], count: Count) -> dict[str, Any]:
    fields = ("fault", "state", "detect_s", "contain_s", "recover_s", "rto_s")
    agent = {name: getattr(count, name) for name in ("asked", "answered", "degraded", "failed", "slowest_s")}
    return {"incidents": [{name: getattr(story, name) for name in fields} for story in stories], "agent": agent}


if __name__ == "__main__":
    sys.argv[0] = "scripts/demo"
    log_to_stderr(logging.WARNING)
    typer.run(main)
