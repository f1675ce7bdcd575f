"""The incident pages in a real browser: Debian's chromium, driven by playwright."""

import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from incident_story import escalated, story, tell
from llm_gateway import llm_gateway_for, provider_toml, route_toml, write_settings
from page_server import open_record, served
from playwright.async_api import Browser, Page, async_playwright
from protection_story import failed_night, publish_weeks, put

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.config import DatabaseSettings, Settings
from reanimate.demo.provider import Fault, Provider
from reanimate.incidents import timeline

pytestmark = pytest.mark.external

CHROMIUM = Path("/usr/bin/chromium")
PHONE = {"width": 375, "height": 800}
DESKTOP = {"width": 1280, "height": 900}
PATHS = (
    "/incidents",
    "/incidents/inc-open",
    "/incidents/inc-done",
    "/incidents/inc-needed",
    "/incidents/inc-done/postmortem",
    "/backups",
    "/llm",
)


@pytest.fixture(scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Services]:
    async with open_record(tmp_path_factory.mktemp("home"), postgres_url) as services:
        now = utcnow()
        async with services.sessions.begin() as session:
            await tell(session, story(until_s=20, began=now - timedelta(seconds=20), incident_id="inc-open"))
            await tell(session, story(hostile=True, began=now - timedelta(hours=2), incident_id="inc-done"))
            await tell(session, escalated(began=now - timedelta(minutes=50), incident_id="inc-needed"))
            failed_night(session, now - timedelta(days=31))
        await publish_weeks(services.catalog, now)
        await put(services.catalog, "docs", now - timedelta(days=3))
        yield services


@pytest.fixture(scope="module")
async def base(services: Services, free_port: Callable[[], int]) -> AsyncIterator[str]:
    async with served(services, free_port()) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's path. Missing it is a failure where everything must be there, and a skip elsewhere."""
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is not there: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return str(CHROMIUM)


@pytest.fixture(scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        await browser.close()


@dataclass
class Tab:
    """A page of the browser, and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """A tab that must not complain: no console error, no exception, no refused script."""
    context = await browser.new_context(viewport=DESKTOP)
    opened = Tab(await context.new_page())
    opened.page.on(
        "console", lambda line: opened.complaints.append(line.text) if line.type in ("error", "warning") else None
    )
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    yield opened
    await context.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages__fit_a_phone(tab: Tab, base: str, path: str, scheme: str) -> None:
    """At 375 px nothing must be scrolled sideways, and text stands out from its ground in light and dark."""
    await tab.page.emulate_media(color_scheme=scheme)
    await tab.page.set_viewport_size(PHONE)
    await tab.page.goto(base + path)
    await tab.page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert await tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert await tab.page.evaluate(_WORST_CONTRAST) >= 4.5
    assert tab.complaints == []


# The lowest contrast (WCAG 2) of any text against the nearest ground that is painted behind it.
_WORST_CONTRAST = """
() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const painted = numbers(getComputedStyle(at).backgroundColor);
      if (painted.length < 4 || painted[3] > 0) return painted;
    }
    return [255, 255, 255];
  };
  let worst = 21;
  for (const node of document.querySelectorAll("main *, header *, footer")) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length) continue;
    const [high, low] = [light(numbers(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    worst = Math.min(worst, (high + 0.05) / (low + 0.05));
  }
  return worst;
}
"""


async def test_incident__clock_ticks(tab: Tab, base: str) -> None:
    """The clock of an open incident runs down in front of the reader, and its bar fills."""
    await tab.page.goto(f"{base}/incidents/inc-open")
    left = tab.page.locator("[data-left-text]")
    first = await left.inner_text()
    assert first.startswith("59 min")
    await tab.page.wait_for_function(
        "seen => document.querySelector('[data-left-text]').textContent !== seen", arg=first
    )
    assert 0 < float(await tab.page.locator(".rto progress").evaluate("bar => bar.value")) < 0.1
    assert tab.complaints == []


async def test_incident__shows_news_and_keeps_what_was_opened(tab: Tab, base: str, services: Services) -> None:
    """A new timeline entry appears by itself, and the details that the reader opened stay open."""
    await tab.page.goto(f"{base}/incidents/inc-open")
    opened = tab.page.locator("#s-recovery-recover-0")
    await opened.locator("summary").first.click()
    async with services.sessions.begin() as session:
        await timeline.append(session, "inc-open", "note", "somebody looked at it", actor="test", now=utcnow())
    await tab.page.get_by_text("somebody looked at it").wait_for(timeout=10_000)
    assert await opened.evaluate("item => item.open") is True
    assert tab.complaints == []


async def test_incident__evidence_opens(tab: Tab, base: str) -> None:
    """Evidence is folded away until it is asked for, by keyboard too."""
    await tab.page.goto(f"{base}/incidents/inc-done")
    step = tab.page.locator("#s-recovery-recover-1")
    evidence = step.get_by_text("kb-20261122T020003Z-5d1e")
    assert not await evidence.first.is_visible()
    await step.locator("summary").first.focus()
    await tab.page.keyboard.press("Enter")
    await evidence.first.wait_for(state="visible")
    assert tab.complaints == []


async def test_postmortem__pointer_leads_to_its_entry(tab: Tab, base: str) -> None:
    """A pointer of the postmortem opens the timeline at that entry."""
    await tab.page.goto(f"{base}/incidents/inc-done/postmortem")
    await tab.page.locator("a.ref", has_text="#32").first.click()
    await tab.page.wait_for_url("**/incidents/inc-done#entry-32")
    assert "7 of 7 checks passed" in await tab.page.locator(":target").inner_text()
    assert tab.complaints == []


async def test_incident__hostile_text_runs_nothing(tab: Tab, base: str) -> None:
    """Script in an alert is shown and never run."""
    asked: list[str] = []
    tab.page.on("dialog", lambda dialog: asked.append(dialog.message))
    await tab.page.goto(f"{base}/incidents/inc-done")
    assert "<script>alert('pwned')</script>" in await tab.page.locator("h1").inner_text()
    assert asked == []
    assert await tab.page.locator("a[href*='evil.example']").count() == 0


async def test_incident__says_when_it_is_not_live(
    browser: Browser, services: Services, free_port: Callable[[], int]
) -> None:
    """A page whose server has gone does not pass for a live one."""
    page = await browser.new_page()
    async with served(services, free_port()) as url:
        await page.goto(f"{url}/incidents/inc-open")
        assert not await page.locator("#stale").is_visible()
    await page.locator("#stale").wait_for(state="visible", timeout=30_000)
    assert "Not live" in await page.locator("#stale").inner_text()
    await page.close()


async def test_backups__are_pictured(tab: Tab, base: str) -> None:
    """A calendar square says in words what its colour says. With SCREENSHOTS=DIRECTORY the pictures are kept there."""
    await tab.page.goto(f"{base}/backups")
    kb = tab.page.locator("section", has=tab.page.get_by_role("heading", name="kb"))
    assert await kb.locator(".calendar .day").count() == 84
    proven = kb.locator(".calendar .day.proven").first
    assert "proven, 1 backup, 1 proven" in (await proven.text_content() or "")
    colours = {
        await kb.locator(f".calendar .day.{state}").first.evaluate("it => getComputedStyle(it).backgroundColor")
        for state in ("proven", "unproven", "failed", "none")
    }
    assert len(colours) == 4
    assert await kb.locator("details").get_by_text("deleted", exact=True).count() == 1
    if folder := os.environ.get("SCREENSHOTS"):
        await kb.scroll_into_view_if_needed()
        for name, viewport in (("backups", DESKTOP), ("backups-phone", PHONE)):
            await tab.page.set_viewport_size(viewport)
            await kb.evaluate("it => it.scrollIntoView()")
            await tab.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")
    assert tab.complaints == []


@pytest.fixture
async def busy(tmp_path: Path, postgres_url: str, free_port: Callable[[], int]) -> AsyncIterator[tuple[str, Provider]]:
    """The pages of a system whose gateway has answered calls, some with another provider's help, one not at all."""
    priced = {"name": "large", "input_price": 2.0, "output_price": 10.0}
    async with Provider("main") as main, Provider("backup") as backup:
        write_settings(
            tmp_path,
            provider_toml("main", main.url, models=[priced]),
            provider_toml("backup", backup.url, models=["small"]),
            route_toml("chat", ["main/large", "backup/small"], cache_ttl_s=60),
        )
        async with llm_gateway_for(tmp_path) as gateway:
            for number in range(20):
                if number == 10:
                    main.fail(Fault("status", status=500))
                await gateway.chat(f"question {number}", stream=number % 2 == 0)
                await gateway.chat("the same question")
            backup.fail(Fault("status", status=503))
            await gateway.chat("the last question")
            database = DatabaseSettings.model_validate({"url": postgres_url})
            settings = Settings(home=tmp_path, database=database)
            async with open_services(settings) as services, served(services, free_port()) as url:
                yield url, main


async def test_llm__of_a_gateway_in_trouble(tab: Tab, busy: tuple[str, Provider]) -> None:
    """Who is out and why, what failed; it keeps itself up to date, and reads well on a phone, in light and dark."""
    base, _ = busy
    await tab.page.goto(f"{base}/llm")
    section = tab.page.locator("section", has=tab.page.get_by_role("heading", name="gateway"))
    said = await section.inner_text()
    for expected in ("main/large", "backup/small", "No provider answered 1 call", "out", "reanimate llm call ID"):
        assert expected in said
    assert await section.locator("td", has_text="all_failed").count() == 0  # in words, not in names
    if folder := os.environ.get("SCREENSHOTS"):
        await tab.page.screenshot(path=Path(folder) / "llm.png", animations="disabled", full_page=True)
    figure = section.locator("dd").first
    await tab.page.wait_for_function("() => document.querySelector('#live dd').textContent !== ''")
    before = await figure.inner_text()
    await tab.page.wait_for_function(
        "was => document.querySelector('#live dd').textContent !== was", arg=before, timeout=20_000
    )
    await tab.page.set_viewport_size(PHONE)
    for scheme in ("light", "dark"):
        await tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert await tab.page.evaluate(_WORST_CONTRAST) >= 4.5
    if folder:
        await tab.page.screenshot(path=Path(folder) / "llm-phone.png", animations="disabled")
    assert tab.complaints == []


async def test_incident__without_scripts(browser: Browser, base: str) -> None:
    """Without scripts everything is there, and the page reloads itself."""
    context = await browser.new_context(java_script_enabled=False, viewport=PHONE)
    page = await context.new_page()
    await page.goto(f"{base}/incidents/inc-open")
    assert "left" in await page.locator(".rto .big").inner_text()
    assert await page.locator("meta[http-equiv=refresh]").count() == 1
    await context.close()
