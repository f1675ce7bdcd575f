"""Alert intake against a real Postgres: authenticated, stored once, folded exactly once, and nothing lost."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from protection_story import failed_night, removed_backup
from sqlalchemy import func, select, text, update
from web_home import ALERTS, Web, basic, captured, event, settings, web

from reanimate.alerts.authentication import sign_body
from reanimate.alerts.folder import Folder
from reanimate.clock import utcnow
from reanimate.db.embedded import EmbeddedPostgres, create_database
from reanimate.db.tables import Alert, Delivery, Gateway, Incident, Outbox, TimelineEntry
from reanimate.incidents import record, timeline
from reanimate.incidents.faults import Fault
from reanimate.incidents.lifecycle import State
from reanimate.incidents.triage import Finding


@pytest.fixture
def record_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A record of this test's own, since an incident left open by another would take its alerts."""
    name = f"t_{secrets.token_hex(6)}"
    admin = postgres.url("postgres")
    create_database(admin, name, template=migrated_template)
    yield postgres.url(name)
    with psycopg.connect(admin.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture
async def intake(tmp_path: Path, record_url: str) -> AsyncIterator[Web]:
    """The intake, which folds only when the test says so."""
    async with web(settings(tmp_path, record_url)) as opened:
        yield opened


async def rows(intake: Web, table: Any) -> list[Any]:
    async with intake.services.sessions() as session:
        order = table.opened_at if table is Incident else table.id
        return list(await session.scalars(select(table).order_by(order)))


async def story(intake: Web, incident_id: str) -> list[TimelineEntry]:
    async with intake.services.sessions() as session:
        assert (await timeline.verify(session, incident_id)).ok
        return list(await timeline.entries(session, incident_id))


def llm_labels(fault: str, **more: str) -> dict[str, str]:
    return {"component": "llm:main", "fault": fault, **more}


async def end(intake: Web, incident_id: str) -> None:
    async with intake.services.sessions.begin() as session:
        await record.close(session, incident_id, reason="mended", by="test", now=utcnow())


async def test_post__stored_then_folded(intake: Web) -> None:
    """A real notification of two alerts is one delivery, one incident with both, one order to start its flow."""
    answer = await intake.post("alertmanager", captured("firing"))
    (delivery,) = await rows(intake, Delivery)
    assert (answer.status_code, answer.json()) == (202, {"delivery": delivery.id})
    assert delivery.state == "stored"
    assert await rows(intake, Incident) == []

    assert await intake.fold() == 1
    await asyncio.sleep(0)
    (incident,) = await rows(intake, Incident)
    assert incident.title == "Qdrant kb-search is unreachable"
    assert incident.fault_at.isoformat() == "2026-11-22T06:02:58.228295+00:00"
    assert [alert.incident_id for alert in await rows(intake, Alert)] == [incident.id, incident.id]
    assert [(order.kind, order.key) for order in await rows(intake, Outbox)] == [("start_flow", incident.id)]
    assert [entry.kind for entry in await story(intake, incident.id)] == [
        "incident.opened",
        "alert.firing",
        "alert.firing",
    ]
    assert intake.reflexes == [incident.id]
    (delivery,) = await rows(intake, Delivery)
    assert (delivery.state, delivery.error) == ("folded", None)


async def test_post__resolved_closes_nothing(intake: Web) -> None:
    """Firing, half resolved, all resolved: three deliveries, one incident, still open, with both ends written down."""
    for name in ("firing", "mixed", "resolved"):
        assert (await intake.post("alertmanager", captured(name))).status_code == 202
        await intake.fold()
    (incident,) = await rows(intake, Incident)
    assert incident.state == State.DETECTING
    kinds = [entry.kind for entry in await story(intake, incident.id)]
    assert kinds == ["incident.opened", "alert.firing", "alert.firing", "alert.resolved", "alert.resolved"]
    assert [(alert.status, alert.seen) for alert in await rows(intake, Alert)] == [
        ("firing", 1),
        ("firing", 2),
        ("resolved", 1),
        ("resolved", 1),
    ]


async def test_post__evidence_is_on_the_timeline(intake: Web) -> None:
    """What an alert brings as evidence stands on the timeline of its incident, with why it is there."""
    await intake.post("cloudevents", event())
    await intake.fold()
    (incident,) = await rows(intake, Incident)
    entry = (await story(intake, incident.id))[1]
    assert (incident.component, incident.scope) == ("vector:primary", {"target": "primary"})
    assert entry.data["evidence"] == [{"check": "liveness", "found": "refused"}]
    assert entry.data["labels"]["fault"] == "vector_database_down"


@pytest.mark.parametrize(
    ("source", "headers", "status"),
    [
        ("alertmanager", {"authorization": "Bearer am-token"}, 202),
        ("alertmanager", {"authorization": "Bearer am-next"}, 202),
        ("alertmanager", {"authorization": basic("am:pass")}, 202),
        ("alertmanager", {"authorization": basic("am:wrong")}, 401),
        ("alertmanager", {"authorization": "Bearer ce-token"}, 401),
        ("alertmanager", {"authorization": ""}, 401),
        ("cloudevents", {"authorization": "Bearer ce-token"}, 202),
        ("cloudevents", {"authorization": "Bearer am-token"}, 401),
        ("cloudevents", {"authorization": basic("am:pass")}, 401),
        ("cloudevents", {"authorization": "", "x_reanimate_signature": "t=1,v1=00"}, 401),
        ("cloudevents", {"authorization": "", "x_reanimate_signature": "nonsense"}, 401),
    ],
)
async def test_post__who_may(intake: Web, source: str, headers: dict[str, str], status: int) -> None:
    """Who is not proved is refused and leaves nothing behind; the answer says what to set, and no secret."""
    body = captured("firing") if source == "alertmanager" else event()
    answer = await intake.post(source, body, **headers)
    assert answer.status_code == status
    assert len(await rows(intake, Delivery)) == (status == 202)
    if status == 401:
        assert "WWW-Authenticate" in answer.headers
        assert answer.json()["error"]
        assert "am-" not in answer.text
        assert intake.services.secrets.intake_token not in answer.text


async def test_post__own_token(intake: Web) -> None:
    """The token that this installation made for itself is good for every sender."""
    bearer = f"Bearer {intake.services.secrets.intake_token}"
    assert (await intake.post("alertmanager", captured("firing"), authorization=bearer)).status_code == 202
    assert (await intake.post("cloudevents", event(), authorization=bearer)).status_code == 202


async def test_post__signed(intake: Web) -> None:
    """A signature with any key is good for its time; replayed in time it is a duplicate, afterwards it is refused."""
    body = b'{"specversion":"1.0","id":"s","source":"x","type":"y"}'
    for key, expected in (("ce-key", {"delivery": 1}), ("ce-key-next", {"delivery": 1, "duplicate": True})):
        signature = sign_body(body, key, utcnow())
        answer = await intake.post("cloudevents", body, authorization="", x_reanimate_signature=signature)
        assert (answer.status_code, answer.json()) == (202, expected)
    late = sign_body(body, "ce-key", utcnow() - timedelta(seconds=ALERTS.hmac_tolerance_s + 5))
    answer = await intake.post("cloudevents", body, authorization="", x_reanimate_signature=late)
    assert answer.status_code == 403
    assert "clocks" in answer.json()["hint"]
    changed = await intake.post(
        "cloudevents", body + b" ", authorization="", x_reanimate_signature=sign_body(body, "ce-key", utcnow())
    )
    assert changed.status_code == 401


async def test_post__unknown_source(intake: Web) -> None:
    """An unknown sender is told which there are."""
    answer = await intake.http.post("/alerts/pagerdoody", content=b"{}")
    assert answer.status_code == 404
    assert "alertmanager, cloudevents" in answer.json()["hint"]


@pytest.mark.parametrize(
    ("source", "body", "headers", "status", "said"),
    [
        ("alertmanager", b"{nonsense", {}, 400, "not JSON"),
        ("alertmanager", b'{"version":"1"}', {}, 400, "version"),
        ("alertmanager", b"{}", {"content_type": "text/plain"}, 415, "application/json"),
        ("cloudevents", b'{"specversion":"0.3"}', {}, 400, "specversion"),
        ("cloudevents", b"\xff\x00", {"content_type": "application/xml"}, 415, "CloudEvent"),
        ("cloudevents", b"", {}, 400, "not JSON"),
    ],
)
async def test_post__unreadable_is_kept(
    intake: Web, source: str, body: bytes, headers: dict[str, str], status: int, said: str
) -> None:
    """A proved sender's unreadable body gets a clear error, and is kept as it came; sent again it is kept once."""
    for _ in range(2):
        answer = await intake.post(source, body, **headers)
        assert answer.status_code == status
        assert said in answer.json()["error"]
        assert answer.json()["kept"] is True
    (delivery,) = await rows(intake, Delivery)
    assert (delivery.id, delivery.state, delivery.body) == (answer.json()["delivery"], "unreadable", body)
    assert said in delivery.error
    assert await intake.fold() == 0


async def test_post__too_big(intake: Web) -> None:
    """A body over the limit is refused with the limit; one just below it is taken."""
    big = event(data={"annotations": {"summary": "x" * ALERTS.max_body_bytes}})
    answer = await intake.post("cloudevents", big)
    assert answer.status_code == 413
    assert str(ALERTS.max_body_bytes) in answer.json()["error"]
    assert await rows(intake, Delivery) == []
    fits = event(data={"annotations": {"summary": "x" * (ALERTS.max_body_bytes - 2000)}})
    assert (await intake.post("cloudevents", fits)).status_code == 202


async def test_post__any_script(intake: Web) -> None:
    """Any script comes through whole; NUL, which Postgres cannot hold, is replaced and loses nothing else."""
    await intake.post("cloudevents", event(data={"annotations": {"summary": "知識庫 ☃ weg\x00!"}}))
    await intake.fold()
    (incident,) = await rows(intake, Incident)
    assert incident.title == "知識庫 ☃ weg�!"
    await story(intake, incident.id)


async def test_post__binary_mode(intake: Web) -> None:
    """An event whose attributes are in headers is read from the record as it was at the door."""
    whole = event(subject="vector:primary")
    data = whole.pop("data")
    headers = {f"ce_{name}": value for name, value in whole.items()}
    await intake.post("cloudevents", data, content_type="application/json", **headers)
    await intake.fold()
    (delivery,) = await rows(intake, Delivery)
    (incident,) = await rows(intake, Incident)
    assert set(delivery.headers) == {f"ce-{name}" for name in whole}
    assert incident.component == "vector:primary"


async def test_options__handshake(intake: Web) -> None:
    """A sender that asks whether it may post is told so, by its own name."""
    answer = await intake.http.options("/alerts/cloudevents", headers={"WebHook-Request-Origin": "events.example"})
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "events.example"
    assert answer.headers["WebHook-Allowed-Rate"] == "*"
    assert (await intake.http.options("/alerts/nobody")).status_code == 404
    assert (await intake.http.get("/alerts/cloudevents")).status_code == 405


async def test_duplicates__at_once(intake: Web) -> None:
    """Twenty times the same delivery at once is one row and one incident."""
    answers = await asyncio.gather(*(intake.post("cloudevents", event()) for _ in range(20)))
    assert [answer.status_code for answer in answers] == [202] * 20
    assert sum("duplicate" not in answer.json() for answer in answers) == 1
    await intake.fold()
    assert len(await rows(intake, Delivery)) == 1
    assert len(await rows(intake, Incident)) == 1
    assert len(await rows(intake, Alert)) == 1


async def test_fold__two_processes_at_once(intake: Web) -> None:
    """Two web processes that fold at the same time make one incident, and each delivery is folded once."""
    for number in range(10):
        await intake.post("cloudevents", event(number, fingerprint=f"f{number}"))
    services = intake.services
    folders = [Folder(services.sessions, services.settings, services.addresses) for _ in range(2)]
    await asyncio.gather(*(folder.fold_waiting() for folder in folders))
    (incident,) = await rows(intake, Incident)
    assert [alert.seen for alert in await rows(intake, Alert)] == [1] * 10
    assert len(await story(intake, incident.id)) == 11


async def test_storm__one_incident(tmp_path: Path, record_url: str) -> None:
    """Fifty related alerts that arrive at once are one incident with all of them, while everything runs."""
    async with web(settings(tmp_path, record_url), running=True) as intake:
        answers = await asyncio.gather(
            *(
                intake.post(
                    "cloudevents", event(n, fingerprint=f"f{n}", component=f"vector:{('primary', 'replica')[n % 2]}")
                )
                for n in range(50)
            )
        )
        assert {answer.status_code for answer in answers} == {202}
        for _ in range(400):
            if len(await rows(intake, Alert)) == 50:
                break
            await asyncio.sleep(0.05)
        (incident,) = await rows(intake, Incident)
        assert {alert.incident_id for alert in await rows(intake, Alert)} == {incident.id}
        assert {alert.labels["component"] for alert in await rows(intake, Alert)} == {
            "vector:primary",
            "vector:replica",
        }
        assert intake.reflexes == [incident.id]
        lines = [entry for entry in await story(intake, incident.id) if entry.kind == "alert.firing"]
        assert sum(len(line.data.get("alerts", [line])) for line in lines) == 50


async def test_storm__one_delivery_of_thousands(intake: Web) -> None:
    """A single notification of 2,000 alerts is folded whole, and its timeline stays readable."""
    body = captured("firing")
    alert = {"status": "firing", "startsAt": "2026-11-22T06:00:00Z", "labels": {"component": "vector:primary"}}
    body["alerts"] = [alert | {"fingerprint": f"{n:x}"} for n in range(2000)]
    assert (await intake.post("alertmanager", body)).status_code == 202
    await intake.fold()
    assert len(await rows(intake, Alert)) == 2000
    (incident,) = await rows(intake, Incident)
    entries = await story(intake, incident.id)
    assert len(entries) == 22
    assert len(entries[-1].data["alerts"]) == 1980


async def test_repeat__counted_and_seen_after_the_end(intake: Web) -> None:
    """A repeat starts nothing; once its incident has ended, the timeline says that it still fires, once an hour."""
    await intake.post("alertmanager", captured("firing"))
    await intake.fold()
    (incident,) = await rows(intake, Incident)
    for _ in range(2):
        answer = await intake.post("alertmanager", captured("firing"))
        assert answer.json()["duplicate"] is True
        await intake.fold()
    assert [alert.seen for alert in await rows(intake, Alert)] == [3, 3]
    assert [entry.kind for entry in await story(intake, incident.id)].count("alert.repeat") == 0

    await end(intake, incident.id)
    for _ in range(3):
        await intake.post("alertmanager", captured("firing"))
        await intake.fold()
    assert [alert.seen for alert in await rows(intake, Alert)] == [6, 6]
    noted = [entry.message for entry in await story(intake, incident.id) if entry.kind == "alert.repeat"]
    assert len(noted) == 2  # one for each of its alerts
    assert all("still fires" in message and "seen 4 times" in message for message in noted)
    assert len(await rows(intake, Incident)) == 1
    assert len(await rows(intake, Outbox)) == 1


async def test_fold__fires_anew_after_the_end(intake: Web) -> None:
    """The same trouble with a new start, after its incident ended, is a new incident."""
    await intake.post("cloudevents", event(1))
    await intake.fold()
    (first,) = await rows(intake, Incident)
    await end(intake, first.id)
    await intake.post("cloudevents", event(2, data={"starts_at": utcnow().isoformat()}))
    await intake.fold()
    assert len(await rows(intake, Incident)) == 2


async def test_fold__beyond_the_window(intake: Web) -> None:
    """A related alert that comes after the window is an incident of its own; within it, it joins."""
    await intake.post("cloudevents", event(fingerprint="a"))
    await intake.fold()
    past = utcnow() - timedelta(seconds=intake.services.settings.incidents.window_s + 1)
    async with intake.services.sessions.begin() as session:
        await session.execute(update(Incident).values(last_alert_at=past))
    await intake.post("cloudevents", event(fingerprint="b", component="vector:replica"))
    await intake.fold()
    await intake.post("cloudevents", event(fingerprint="c", component="vector:replica"))
    await intake.fold()
    first, second = await rows(intake, Incident)
    assert [alert.incident_id for alert in await rows(intake, Alert)] == [first.id, second.id, second.id]


async def test_fold__earliest_alert_dates_the_fault(intake: Web) -> None:
    """The trouble began with the earliest alert of the incident, in whatever order they come."""
    await intake.post("cloudevents", event(fingerprint="late", data={"starts_at": "2026-11-22T06:00:10Z"}))
    await intake.post("cloudevents", event(fingerprint="early", data={"starts_at": "2026-11-22T05:59:00Z"}))
    await intake.fold()
    (incident,) = await rows(intake, Incident)
    assert incident.fault_at.isoformat() == "2026-11-22T05:59:00+00:00"


async def test_fold__poison_is_set_aside(intake: Web) -> None:
    """A stored delivery that cannot be folded is kept with its error, and those after it are folded."""
    async with intake.services.sessions.begin() as session:
        for key, source, body in (("1", "vanished", b"{}"), ("2", "alertmanager", b"{}")):
            session.add(
                Delivery(
                    source=source,
                    delivery_key=key,
                    received_at=utcnow(),
                    content_type="application/json",
                    headers={},
                    body=body,
                    state="stored",
                )
            )
    await intake.post("cloudevents", event())
    assert await intake.fold() == 1
    found = await rows(intake, Delivery)
    assert [delivery.state for delivery in found] == ["unreadable", "unreadable", "folded"]
    assert "vanished" in found[0].error


async def test_fold__bug_is_tried_then_set_aside(intake: Web, caplog: pytest.LogCaptureFixture) -> None:
    """A delivery on which the record itself fails each time is set aside after three attempts, loudly."""
    async with intake.services.sessions.begin() as session:
        await session.execute(text("ALTER TABLE alerts ADD CONSTRAINT never CHECK (fingerprint <> 'poison')"))
    await intake.post("cloudevents", event(fingerprint="poison"))
    await intake.post("cloudevents", event(fingerprint="good"))
    assert await intake.fold() == 1
    bad, good = await rows(intake, Delivery)
    assert (bad.state, good.state) == ("unreadable", "folded")
    assert "IntegrityError" in bad.error
    assert [entry.levelname for entry in caplog.records if "delivery" in entry.message] == ["WARNING"] * 2 + ["ERROR"]
    (incident,) = await rows(intake, Incident)
    assert [entry.kind for entry in await story(intake, incident.id)] == ["incident.opened", "alert.firing"]


async def test_fold__agents_stay_apart(intake: Web) -> None:
    """Alerts of two agents are never one incident."""
    for agent in ("support", "sales"):
        labels = {"component": "vector:primary", "agent": agent}
        await intake.post("cloudevents", event(fingerprint=agent, data={"labels": labels}))
    await intake.fold()
    assert {incident.agent for incident in await rows(intake, Incident)} == {"support", "sales"}


async def test_fold__attack_in_an_outage_is_its_own(intake: Web) -> None:
    """What is mended by itself opens its own incident beside an outage, before and after that was looked into."""
    await intake.post("cloudevents", event(component="llm:main", data={"labels": llm_labels("llm_api_unavailable")}))
    await intake.fold()
    for number, fault in enumerate(("malicious_prompt_attack", "output_quality_drop", "token_quota_exhausted")):
        for tool in ("shell", "shell"):
            labels = llm_labels(fault, tool=tool, reanimate_trouble="what the sender means by it")
            await intake.post("cloudevents", event(number, fingerprint=f"{fault}-{number}", data={"labels": labels}))
        await intake.fold()
    again = event(9, fingerprint="route", data={"labels": llm_labels("llm_api_unavailable", route="chat")})
    await intake.post("cloudevents", again)
    await intake.fold()
    incidents = await rows(intake, Incident)
    assert len(incidents) == 4, [incident.title for incident in incidents]
    assert intake.reflexes == [incident.id for incident in incidents]
    by_fault = {alert.labels["fault"]: alert.incident_id for alert in await rows(intake, Alert)}
    assert len(set(by_fault.values())) == 4
    assert (await rows(intake, Alert))[-1].incident_id == incidents[0].id


async def test_fold__outage_beside_an_attack_told_by_hand(intake: Web) -> None:
    """An incident that no alert opened keeps to its fault all the same."""
    now = utcnow()
    async with intake.services.sessions.begin() as session:
        told = await record.open_incident(
            session, title="t", component="llm:main", agent="agent", fault_at=now, now=now, actor="test", scope={},
            findings=[Finding(Fault.OUTPUT_QUALITY_DROP, "llm:main", 1.0)],
        )  # fmt: skip
    for number, fault in enumerate(("llm_api_unavailable", "output_quality_drop")):
        labels = llm_labels(fault) | {"agent": "agent"}
        await intake.post("cloudevents", event(number, fingerprint=fault, data={"labels": labels}))
        await intake.fold()
    out, quality = await rows(intake, Alert)
    assert out.incident_id not in (None, told.id)
    assert quality.incident_id == told.id


async def test_switches__signed_for_a_gateway(intake: Web) -> None:
    """A gateway with the key gets the signed document and is known from then on; when it obeys that, 204."""
    ask = {"gateway": "g1", "control_url": "http://127.0.0.1:8711"}
    key = {"authorization": f"Bearer {intake.services.secrets.control_key}"}
    assert (await intake.http.get("/switches", params=ask)).status_code == 401
    assert (await intake.http.get("/switches", params={"gateway": "g1"}, headers=key)).status_code == 400
    assert (await intake.http.get("/switches", params=ask | {"seq": "x"}, headers=key)).status_code == 400
    answer = await intake.http.get("/switches", params=ask | {"seq": "0", "ledger": ""}, headers=key)
    assert answer.status_code == 200
    assert answer.headers["X-Reanimate-Signature"].startswith("v1=")
    document = answer.json()
    async with intake.services.sessions() as session:
        gateway = (await session.scalars(select(Gateway))).one()
    assert (gateway.name, gateway.control_url, gateway.acked_at) == ("g1", ask["control_url"], None)

    obeyed = ask | {"seq": str(document["seq"]), "ledger": document["ledger"]}
    assert (await intake.http.get("/switches", params=obeyed, headers=key)).status_code == 204
    assert (await intake.http.get("/switches", params=obeyed | {"ledger": "old"}, headers=key)).status_code == 200
    async with intake.services.sessions() as session:
        gateway = (await session.scalars(select(Gateway))).one()
    assert gateway.acked_at is not None
    assert gateway.acked_seq == document["seq"]


async def test_metrics__counted_and_asked(intake: Web) -> None:
    """The exposition has what this process counted and what the record says now."""
    await intake.post("cloudevents", event())
    await intake.post("cloudevents", event())
    await intake.post("cloudevents", event(), authorization="")
    await intake.http.post("/alerts/made-up-by-a-stranger", content=b"")
    await intake.fold()
    await intake.post("alertmanager", captured("firing"))
    async with intake.services.sessions.begin() as session:
        removed_backup(session, utcnow() - timedelta(hours=2))
        failed_night(session, utcnow())
    found = (await intake.http.get("/metrics")).text
    for line in (
        'reanimate_alert_deliveries_total{outcome="stored",source="cloudevents"} 1.0',
        'reanimate_alert_deliveries_total{outcome="duplicate",source="cloudevents"} 1.0',
        'reanimate_alert_deliveries_total{outcome="refused",source="cloudevents"} 1.0',
        'reanimate_alert_deliveries_total{outcome="refused",source="unknown"} 1.0',
        'reanimate_alert_accept_seconds_count{source="cloudevents"} 3.0',
        'reanimate_incidents_open{severity="unknown",state="detecting"} 1.0',
        "reanimate_deliveries_waiting 1.0",
        "reanimate_deliveries_spooled 0.0",
        "reanimate_holds_open 0.0",
        "reanimate_record_up 1.0",
        'reanimate_recovery_point_objective_exceeded{kind="vector",subject="kb"} 1.0',
        'reanimate_backup_duration_seconds{kind="vector",subject="kb"} 4.0',
        'reanimate_backup_size_bytes{kind="vector",subject="kb"} 1.5e+08',
        'reanimate_proof_duration_seconds{kind="vector",subject="kb"} 3.0',
        'reanimate_proof_failed{kind="vector",subject="kb"} 0.0',
        'reanimate_backup_age_seconds{kind="vector",subject="kb"} 72',
        'reanimate_proof_age_seconds{kind="vector",subject="kb"} 65',
    ):
        assert line in found, found
    assert "stranger" not in found


async def test_health__lives_and_ready(intake: Web) -> None:
    """Both answer while the record does, and the app shows no documentation of itself."""
    assert (await intake.http.get("/healthz")).json()["status"] == "ok"
    assert (await intake.http.get("/readyz")).json() == {"status": "ok", "record": "answers"}
    assert (await intake.http.get("/openapi.json")).status_code == 404


async def test_record__counts_agree(intake: Web) -> None:
    """Every alert of an incident has its line on the timeline."""
    for name in ("firing", "mixed", "resolved"):
        await intake.post("alertmanager", captured(name))
    await intake.fold()
    async with intake.services.sessions() as session:
        lines = await session.scalar(
            select(func.count()).select_from(TimelineEntry).where(TimelineEntry.kind.startswith("alert."))
        )
    assert lines == len(await rows(intake, Alert))


async def test_fold__while_others_write_the_incident(intake: Web) -> None:
    """Folding and another writer of the same incident, each holding rows that refer to it, never deadlock."""
    await intake.post("cloudevents", event(fingerprint="first"))
    await intake.fold()
    (incident,) = await rows(intake, Incident)
    for number in range(5):
        await intake.post("cloudevents", event(fingerprint=f"more-{number}"))
    async with intake.services.sessions.begin() as session:
        # As the reflex does: a row that refers to the incident, then a line on its timeline.
        await session.execute(
            text(
                "INSERT INTO outbox (kind, key, incident_id, payload, created_at, due_at, attempts)"
                " VALUES ('notify', 'k', :id, '{}', now(), now(), 0)"
            ),
            {"id": incident.id},
        )
        folding = asyncio.create_task(intake.fold())
        await asyncio.sleep(0.3)
        await timeline.append(session, incident.id, "note", "meanwhile", actor="test", now=utcnow())
    assert await folding == 5
    assert len(await story(intake, incident.id)) == 8
