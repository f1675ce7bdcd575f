"""Incidents of the LLM plane on a real record, with a real gateway, real providers and an agent that goes on asking."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from qdrant_servers import KEY
from sqlalchemy import select

from reanimate.addresses import Addresses
from reanimate.alerts.folder import Folder
from reanimate.alerts.senders import cloudevents
from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.config import load_settings
from reanimate.db.tables import Alert, Delivery, Incident, Outbox, StepRecord
from reanimate.demo.provider import Provider, answer_text
from reanimate.incidents import record
from reanimate.incidents.faults import Fault
from reanimate.incidents.triage import Finding
from reanimate.response.reflex import place_reflex
from reanimate.switches.holds import open_holds

STATIC = "Please come back later."
CHECK = "What is two plus two?"


@dataclass
class Scene:
    """Everything a test of a runbook drives and looks at."""

    services: Services
    gateway: LlmGateway
    main: Provider
    backup: Provider
    environment: dict[str, str]

    async def open(self, fault: Fault, component: str = "llm:main", **scope: str) -> str:
        """Open an incident whose fault is known, and return its id."""
        now = utcnow()
        async with self.services.sessions.begin() as session:
            incident = await record.open_incident(
                session,
                title=f"{fault} at {component}",
                component=component,
                agent="agent",
                fault_at=now,
                now=now,
                actor="test",
                scope=dict(scope),
                findings=[Finding(fault, component, 1.0)],
            )
            return incident.id

    async def alert(self, fault: Fault, component: str = "llm:main", **labels: str) -> str:
        """Have an alert stored and folded, wait for the reflex if it opened an incident, and return its incident."""
        now, fingerprint = utcnow(), f"test:{fault}:{labels}"
        reflexes: list[asyncio.Task[Any]] = []

        async def opened(incident_id: str) -> None:
            reflexes.append(asyncio.create_task(place_reflex(self.services, incident_id)))

        event = {
            "specversion": "1.0", "id": f"{fingerprint}:{now}", "source": "reanimate/test", "time": now.isoformat(),
            "type": "reanimate.alert.firing", "subject": component,
            "data": {
                "fingerprint": fingerprint, "starts_at": now.isoformat(),
                "labels": {"fault": fault, "component": component, **labels},
            },
        }  # fmt: skip
        body, kind = orjson.dumps(event), "application/cloudevents+json"
        async with self.services.sessions.begin() as session:
            session.add(
                Delivery(
                    source=cloudevents.SOURCE, delivery_key=f"{fingerprint}:{now}", received_at=now, content_type=kind,
                    headers={}, body=body,
                )
            )  # fmt: skip
        folder = Folder(self.services.sessions, self.services.settings, self.services.addresses, opened)
        await folder.fold_waiting()
        await asyncio.sleep(0)
        await asyncio.gather(*reflexes)
        async with self.services.sessions() as session:
            found = select(Alert.incident_id).where(Alert.fingerprint == fingerprint).order_by(Alert.id.desc()).limit(1)
            return str(await session.scalar(found))

    async def incident(self, incident_id: str) -> Incident:
        async with self.services.sessions() as session:
            return await record.load(session, incident_id)

    async def holds(self) -> dict[tuple[str, str], Any]:
        async with self.services.sessions() as session:
            return {(hold.switch, hold.scope): hold.value for hold in await open_holds(session)}

    async def obeyed(self) -> dict[tuple[str, str], Any]:
        """Return what the gateway obeys: a hold is in the record a moment earlier."""
        headers = {"authorization": f"Bearer {self.gateway.key}"}
        async with self.gateway.http.get(f"{self.gateway.control}/switches", headers=headers) as answer:
            return {(item["switch"], item["scope"]): item["value"] for item in (await answer.json())["switches"]}

    async def steps(self, incident_id: str) -> list[StepRecord]:
        async with self.services.sessions() as session:
            rows = select(StepRecord).where(StepRecord.incident_id == incident_id).order_by(StepRecord.id)
            return list(await session.scalars(rows))

    async def evidence(self, incident_id: str, action: str) -> dict[str, Any]:
        return next(step.evidence for step in await self.steps(incident_id) if step.action == action)

    async def notices(self, incident_id: str) -> list[str]:
        """Return the titles of what people were told."""
        async with self.services.sessions() as session:
            rows = await session.scalars(
                select(Outbox).where(Outbox.incident_id == incident_id, Outbox.kind == "notify").order_by(Outbox.id)
            )
            return [str(row.payload["title"]) for row in rows]


@dataclass
class Users:
    """What the agent's users got."""

    asked: int = 0
    wrong: list[Any] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)


@asynccontextmanager
async def users_of(gateway: LlmGateway, every_s: float = 0.05) -> AsyncIterator[Users]:
    """Ask a question every few moments, and check each answer to the last character."""
    users = Users()
    underway: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        status, body, headers = await gateway.chat(f"user {number}", headers={"x-reanimate-tenant": "user"})
        users.by[headers.get("x-reanimate-target", "nobody")] += 1
        if status != 200 or body["choices"][0]["message"]["content"] != answer_text(f"user {number}"):
            users.wrong.append((status, body))

    async def ask() -> None:
        while True:
            users.asked += 1
            task = asyncio.create_task(one(users.asked))
            underway.add(task)
            task.add_done_callback(underway.discard)
            await asyncio.sleep(every_s)

    asking = asyncio.create_task(ask())
    try:
        yield users
    finally:
        asking.cancel()
        await asyncio.gather(*underway)


async def until(look: Callable[[], Awaitable[Any]], within_s: float = 40.0) -> Any:
    """Look again and again until the answer is truthy, and return it."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def scene_at(
    home: Path, database_url: str, vector_urls: Sequence[str], providers: tuple[Provider, Provider], *more: str
) -> AsyncIterator[Scene]:
    """Run a gateway in front of two providers, and open services on the record."""
    main, backup = providers
    vectors = "".join(
        f'[[vector.targets]]\nname = "{name}"\nrole = "{name}"\nurl = "{url}"\napi_key = "{KEY}"\n'
        for name, url in zip(("primary", "replica"), vector_urls, strict=True)
    )
    write_settings(
        home,
        vectors,
        provider_toml("main", main.url, models=("large", "small"), status_page=f"{main.admin_url}/_health"),
        provider_toml("backup", backup.url),
        route_toml("chat", ["main/large", "backup/model"], cheaper=["main/small"], static_answer=STATIC),
        *more,
    )
    async with llm_gateway_for(home) as gateway:
        known = Addresses.load(home)
        replace(known, vector=dict(zip(("primary", "replica"), vector_urls, strict=True))).save(home)
        own = {"REANIMATE_HOME": str(home), "DATABASE_URL": database_url}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in own.items():
                patch.setenv(name, value)
            settings = load_settings()
        async with open_services(settings) as services:
            yield Scene(services, gateway, main, backup, {**os.environ, **own})
