"""The pages over a real record."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from incident_story import ATTACK, FAULT_AT, escalated, story, tell
from obstore.store import S3Store
from page_server import open_record, pages_of
from protection_story import failed_night, publish_weeks, put, removed_backup
from sqlalchemy import text

from reanimate.backups.catalog import Catalog
from reanimate.backups.repositories import Repository
from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.config import RepositorySettings
from reanimate.db.embedded import EmbeddedPostgres

OPEN, DONE, NEEDED = "inc-open", "inc-done", "inc-needed"


@pytest.fixture(scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> AsyncIterator[Services]:
    """A record with an incident that is being recovered, one that is recovered, and one that needs a person."""
    async with open_record(tmp_path_factory.mktemp("home"), postgres_url) as services:
        now = utcnow()
        async with services.sessions.begin() as session:
            await tell(session, story(until_s=20, began=now - timedelta(seconds=20), incident_id=OPEN))
            await tell(session, story(hostile=True, began=now - timedelta(hours=2), incident_id=DONE))
            await tell(session, escalated(began=now - timedelta(hours=1), incident_id=NEEDED))
            failed_night(session, now - timedelta(days=31))
            removed_backup(session, now - timedelta(days=62))
        await publish_weeks(services.catalog, now)
        yield services


@pytest.fixture(scope="module")
async def web(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(pages_of(services))
    async with httpx.AsyncClient(transport=transport, base_url="http://pages") as client:
        yield client


async def test_home__leads_to_the_incidents(web: httpx.AsyncClient) -> None:
    """The bare address shows what matters: the incidents."""
    answer = await web.get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/incidents")


async def test_list__open_ones_first(web: httpx.AsyncClient) -> None:
    """Incidents that need something come before those that have ended."""
    page = (await web.get("/incidents")).text
    assert page.index(OPEN) < page.index(NEEDED) < page.index(DONE)
    listed = (await web.get("/incidents.json")).json()
    assert [item["id"] for item in listed] == [OPEN, NEEDED, DONE]
    assert listed[0]["faults"] == ["vector_database_down", "knowledge_base_deleted"]


async def test_list__by_state(web: httpx.AsyncClient) -> None:
    """A state narrows the list; a state that does not exist is refused with those that do."""
    assert [item["id"] for item in (await web.get("/incidents.json?state=escalated")).json()] == [NEEDED]
    assert [item["id"] for item in (await web.get("/incidents.json?state=open")).json()] == [OPEN, NEEDED]
    wrong = await web.get("/incidents?state=broken")
    assert wrong.status_code == 400
    assert "recovering" in wrong.text


async def test_incident__shows_what_happens(web: httpx.AsyncClient) -> None:
    """Phases, steps, evidence, faults, holds, timeline and clock are on the page of an open incident."""
    page = (await web.get(f"/incidents/{OPEN}")).text
    for said in (
        "Recovering now",
        "59 min",
        "restore collections",
        "connect to 127.0.0.1:8720",
        "confidence 95 %",
        "read share",
        "switch change 42",
        "Chain intact: all 27 entries",
        "/runs/flow-run/",
    ):
        assert said in page
    assert 'data-live="2"' in page


async def test_incident__live_part(web: httpx.AsyncClient) -> None:
    """The part that changes can be had alone, for the page to refresh itself."""
    part = (await web.get(f"/incidents/{OPEN}?part=live")).text
    assert part.lstrip().startswith('<div data-live="2">')
    assert "<html" not in part
    assert "Chain intact" in part


async def test_incident__ended_stands_still(web: httpx.AsyncClient) -> None:
    """A recovered incident with its postmortem is not refreshed any more."""
    page = (await web.get(f"/incidents/{DONE}")).text
    assert 'data-live="0"' in page
    assert "http-equiv" not in page
    assert "Met: 36.8 s" in page


async def test_incident__person_needed(web: httpx.AsyncClient) -> None:
    """When a person is needed the page says why, and which command goes on."""
    page = (await web.get(f"/incidents/{NEEDED}")).text
    assert "A person is needed: kb-20261122T031214Z" in page
    assert f"reanimate respond {NEEDED}" in page


@pytest.mark.parametrize("path", ["", "/postmortem", "?part=live"])
async def test_incident__what_a_sender_wrote_stays_text(web: httpx.AsyncClient, path: str) -> None:
    """Markup in an alert never becomes markup of a page."""
    page = (await web.get(f"/incidents/{DONE}{path}")).text
    assert "pwned" in page
    assert "<script>alert" not in page
    assert 'href="http://evil.example' not in page


async def test_incident__policy_forbids_foreign_code(web: httpx.AsyncClient) -> None:
    """Only the page's own script and style may run, by a number that is new for each answer."""
    first, second = [await web.get(f"/incidents/{DONE}") for _ in range(2)]
    policy = first.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert policy != second.headers["content-security-policy"]
    assert " style=" not in first.text
    assert " onclick=" not in first.text


async def test_incident__json_is_the_whole_view(web: httpx.AsyncClient) -> None:
    """The JSON holds everything that the page shows."""
    view = (await web.get(f"/incidents/{DONE}.json")).json()
    assert view["incident"]["state"] == "recovered"
    assert ATTACK in view["incident"]["title"]
    assert view["chain"]["ok"] is True
    assert view["figures"]["detect_s"] == pytest.approx(1.13)
    assert len(view["timeline"]) == view["chain"]["length"]


async def test_incident__unknown(web: httpx.AsyncClient) -> None:
    """An id that nobody has is said in words, and in JSON to a program."""
    page, data = await web.get("/incidents/nope"), await web.get("/incidents/nope.json")
    assert (page.status_code, data.status_code) == (404, 404)
    assert "reanimate incident list" in page.text
    assert data.json()["error"] == "Not found"


async def test_postmortem__points_into_the_timeline(web: httpx.AsyncClient) -> None:
    """Each pointer of the postmortem leads to an entry that the incident's page has."""
    page = (await web.get(f"/incidents/{DONE}/postmortem")).text
    incident = (await web.get(f"/incidents/{DONE}")).text
    wanted = set(re.findall(rf'href="/incidents/{DONE}#(entry-\d+)"', page))
    assert wanted
    assert wanted <= set(re.findall(r'<li id="(entry-\d+)"', incident))
    text_of = (await web.get(f"/incidents/{DONE}/postmortem.md")).text
    assert text_of.startswith("# Postmortem: ")


async def test_backups__how_it_stands(web: httpx.AsyncClient) -> None:
    """What can be restored, how old it is against its objective, when it was proven, and what is marked."""
    page = (await web.get("/backups")).text
    for said in (
        "In time and proven.",
        "20 min",
        "objective 1 h",
        "101,280 points",
        "changes on <code",
        "pinned",
        "held",
        "to be had back until",
        "proven, 1 backup, 1 proven",
        "unproven, 1 backup, 0 proven",
        "failed, 1 backup, 0 proven, 1 failed",
        "failed, 0 backups",
    ):
        assert said in page


async def test_backups__json_is_the_whole_overview(web: httpx.AsyncClient) -> None:
    """Every recovery point and every day of the calendar, and what the record alone remembers."""
    view = (await web.get("/backups.json")).json()
    (kb,) = view["things"]
    assert (kb["subject"], kb["late"], kb["standing"]["tone"]) == ("kb", False, "good")
    assert len(kb["days"]) == 84
    assert kb["points"][0]["base"] == kb["points"][2]["id"]
    (removed,) = [day for day in kb["days"] if day["date"] == str((utcnow() - timedelta(days=62)).date())]
    assert (removed["state"], removed["taken"]) == ("proven", 1)


async def test_backups__of_a_repository_that_cannot_be_read(
    services: Services, web: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and everything else is shown."""
    cloud = RepositorySettings(name="cloud", url="s3://bucket")
    store = S3Store(
        "bucket", endpoint="http://127.0.0.1:9", config={"allow_http": "true"}, retry_config={"max_retries": 0}
    )
    away = Repository("cloud", "s3://bucket", Catalog(store, keyring=services.catalog.keyring), cloud)
    monkeypatch.setitem(services.repositories, "cloud", away)
    page = (await web.get("/backups")).text
    assert "The repository cloud cannot be read" in page
    assert "In time and proven." in page


async def test_incident__a_broken_chain_is_seen(services: Services, web: httpx.AsyncClient) -> None:
    """A timeline that somebody changed behind the record's back is shown as broken."""
    changed = "inc-changed"
    async with services.sessions.begin() as session:
        await tell(session, story(began=FAULT_AT, incident_id=changed))
        await session.execute(text("ALTER TABLE timeline DISABLE TRIGGER USER"))
        await session.execute(
            text("UPDATE timeline SET message = 'all was well' WHERE incident_id = :id AND seq = 3"), {"id": changed}
        )
        await session.execute(text("ALTER TABLE timeline ENABLE TRIGGER USER"))
    assert "Chain broken: entry 3 is not what was written" in (await web.get(f"/incidents/{changed}")).text


async def test_pages__without_a_database(tmp_path: Path, postgres_server: EmbeddedPostgres) -> None:
    """With its database down a page says so, says what still works, and comes back by itself."""
    async with open_record(tmp_path, postgres_server.url("reanimate")) as services:
        transport = httpx.ASGITransport(pages_of(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://pages") as web:
            assert (await web.get("/incidents")).status_code == 200
            postgres_server.stop()
            for path in ("/incidents", "/incidents/inc-1", "/incidents/inc-1/postmortem"):
                page = await web.get(path)
                assert page.status_code == 503
                assert "The record cannot be reached" in page.text
                assert "What still works" in page.text
                assert services.addresses.gateway in page.text
            assert (await web.get("/incidents/inc-1.json")).json()["error"] == "The record cannot be reached"
            await put(services.catalog, "kb", utcnow() - timedelta(minutes=5))
            backups = await web.get("/backups")  # what can be restored does not depend on the record
            assert backups.status_code == 200
            assert "The record cannot be reached" in backups.text
            assert "-kb-" in backups.text
            postgres_server.start()
            assert (await web.get("/incidents")).status_code == 200
