"""What a person sees after an incident, in a real browser: Prefect's pages and ours.

With SCREENSHOTS=docs/screenshots in the environment the pictures are kept there.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from running_system import System, agent_of, until

from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import Phase, State
from reanimate.incidents.views import View, incident_list, incident_view
from reanimate.response.by_hand import open_by_hand

pytestmark = [pytest.mark.external, pytest.mark.timeout(300)]

DESKTOP = {"width": 1280, "height": 1000}
PHONE = {"width": 375, "height": 800}
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@dataclass
class Tab:
    """A page of the browser, and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Exceptions that nobody caught, which no page may have, not even somebody else's."""

    async def keep(self, name: str, height: int | None = None) -> None:
        """Keep a picture of what is to be seen now, or of its upper part, if somebody wants it."""
        if folder := os.environ.get("SCREENSHOTS"):
            seen = self.page.viewport_size or DESKTOP
            clip = {"x": 0, "y": 0, "width": seen["width"], "height": height or seen["height"]}
            await self.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled", clip=clip)


@pytest.fixture(scope="module")
async def browser(need_program: Callable[..., str]) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need_program("chromium"), args=list(_FLAGS))
        yield browser
        await browser.close()


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    context = await browser.new_context(viewport=DESKTOP, timezone_id="UTC")
    tab = Tab(await context.new_page())
    tab.page.on("console", lambda line: tab.complaints.append(line.text) if line.type in ("error", "warning") else None)
    tab.page.on("pageerror", lambda error: tab.broken.append(str(error)))
    yield tab
    await context.close()


@pytest.fixture(scope="module")
async def ended(system: System) -> View:
    """An incident whose primary died with its disk, recovered and written up; and another that waits for a person."""
    services = system.services
    async with agent_of(services).asking():
        await asyncio.sleep(1)  # so that there is traffic to be counted from before the fault
        await asyncio.to_thread(_kill_and_lose_disk, system)

        async def run_is_over() -> View | None:
            for item in await incident_list(services):
                if item["flow_run_id"] and await _run_state(system, item["flow_run_id"]) == "COMPLETED":
                    return item
            return None

        incident = await until(run_is_over, within_s=150, every_s=0.5)
    assert incident is not None
    assert incident["state"] == State.RECOVERED
    summary = "answers cite documents that do not exist"
    by_hand = await open_by_hand(services, fault=Fault.UNKNOWN, component="unknown", summary=summary, actor="Mona")

    async def person_called() -> bool:
        return bool((await incident_view(services, by_hand))["incident"]["state"] == State.ESCALATED)

    await until(person_called, within_s=60, every_s=0.5)
    return await incident_view(services, incident["id"])


def _kill_and_lose_disk(system: System) -> None:
    pid = system.part("vector-primary").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    data = system.home / "vector" / "primary"
    lost = data.rename(data.with_name("primary.lost"))
    shutil.rmtree(lost)


async def _run_state(system: System, run_id: str) -> str:
    answer = await system.services.http.get(f"{system.services.addresses.prefect_api}/flow_runs/{run_id}")
    return str(answer.json()["state_type"])


async def _artifacts(system: System, run_id: str) -> dict[str, str]:
    """Return what the run shows, the kind of it (steps, timeline, postmortem) → its id."""
    asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    answer = await system.services.http.post(f"{system.services.addresses.prefect_api}/artifacts/filter", json=asked)
    found: list[dict[str, Any]] = answer.json()
    return {item["key"].partition("-")[0]: item["id"] for item in found}


async def test_prefect__run_shows_the_phases(system: System, ended: View, tab: Tab) -> None:
    """The page that the incident links to has the run's graph, its four phases and its documents."""
    await tab.page.goto(ended["links"]["prefect_run"])
    await tab.page.locator("canvas").first.wait_for(timeout=60_000)
    await tab.page.get_by_role("tab", name="Subflow Runs").click()
    for phase in Phase:
        await tab.page.get_by_text(f"{phase}-{ended['incident']['id']}", exact=True).first.wait_for()
    await tab.page.wait_for_timeout(3000)  # the graph moves to its place
    await tab.keep("prefect-run")
    await tab.page.get_by_role("tab", name="Artifacts").click()
    for kind in ("steps", "timeline", "postmortem"):
        await tab.page.get_by_text(f"{kind}-{ended['incident']['id']}", exact=True).first.wait_for()
    assert "Recovered" in await tab.page.locator("body").inner_text()
    assert tab.broken == []


async def test_prefect__timeline_is_drawn(system: System, ended: View, tab: Tab) -> None:
    """The timeline is a chart with a bar for each action, light on its dark ground, and no source text."""
    ids = await _artifacts(system, ended["incident"]["flow_run_id"])
    await tab.page.goto(f"{system.services.addresses.prefect_ui}/v2/artifacts/artifact/{ids['timeline']}")
    chart = tab.page.locator("svg[id^=mermaid]")
    await chart.wait_for(timeout=60_000)
    said = await chart.inner_text() if await chart.evaluate("it => 'innerText' in it") else await chart.text_content()
    assert said is not None
    assert "Syntax error" not in said
    assert all(phase in said for phase in Phase)
    await expect(chart.locator("rect.task")).to_have_count(len(ended["figures"]["steps"]))
    labels = chart.locator("text.taskTextOutsideRight, text.taskTextOutsideLeft")
    colour = await labels.first.evaluate("it => getComputedStyle(it).fill")
    assert min(int(part) for part in colour.strip("rgb()").split(",")[:3]) > 150, colour
    await tab.keep("prefect-artifact")
    assert tab.broken == []


async def test_prefect__tables_are_tables(system: System, ended: View, tab: Tab) -> None:
    """Steps and postmortem are rendered, with a row for each action, and stay in their column."""
    ids = await _artifacts(system, ended["incident"]["flow_run_id"])
    at = f"{system.services.addresses.prefect_ui}/v2/artifacts/artifact"
    await tab.page.goto(f"{at}/{ids['steps']}")
    rows = tab.page.locator("table tbody tr")
    await expect(rows).to_have_count(len(ended["figures"]["steps"]), timeout=60_000)  # it is drawn more than once

    async def room() -> float | None:
        """Return the pixels between the table and the column at its right; None while the page draws it anew."""
        table = await tab.page.locator("table").bounding_box()
        aside = await tab.page.get_by_text("Created", exact=True).first.bounding_box()
        return aside["x"] - table["x"] - table["width"] if table and aside else None

    assert (await until(room) or 0) >= 0

    await tab.page.goto(f"{at}/{ids['postmortem']}")
    await tab.page.get_by_role("heading", name="What no record covers").wait_for(timeout=60_000)
    await tab.page.locator("table").nth(4).wait_for()  # facts, impact, times, steps, timeline
    assert tab.broken == []


async def test_pages__of_a_real_incident(ended: View, tab: Tab) -> None:
    """List, incident and postmortem say what came of it, without a complaint of the browser."""
    page, links = tab.page, ended["links"]
    await page.goto(links["page"].rsplit("/", 1)[0])
    said = await page.locator("body").inner_text()
    assert "escalated" in said
    assert "recovered" in said
    await tab.keep("incidents", height=500)

    await page.goto(links["page"])
    await page.get_by_text("Recovered and verified.").wait_for()
    assert await page.locator(".rto .big").inner_text() == f"Met: {_took(ended)}"
    await tab.keep("incident")

    await page.goto(links["postmortem"])
    await page.get_by_role("heading", name="What went well").wait_for()
    await tab.keep("postmortem")
    assert (tab.complaints, tab.broken) == ([], [])


async def test_pages__of_a_real_incident_on_a_phone(ended: View, tab: Tab) -> None:
    """On a phone nothing must be scrolled sideways to be read."""
    await tab.page.set_viewport_size(PHONE)
    for link in ("page", "postmortem"):
        await tab.page.goto(ended["links"][link])
        await tab.page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await tab.page.goto(ended["links"]["page"])
    await tab.keep("incident-phone")
    assert (tab.complaints, tab.broken) == ([], [])


def _took(view: View) -> str:
    incident = view["incident"]
    took = datetime.fromisoformat(incident["recovered_at"]) - datetime.fromisoformat(incident["opened_at"])
    return f"{took.total_seconds():.3g} s"
