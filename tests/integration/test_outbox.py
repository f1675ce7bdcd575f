"""The outbox on a real Postgres: each order once, none lost, failures visible; and notices to real receivers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr
from qdrant_servers import NOWHERE
from sqlalchemy import delete, select, update

from reanimate.bootstrap import Services, open_services
from reanimate.clock import utcnow
from reanimate.config import NotifySettings, Settings
from reanimate.db.tables import Outbox
from reanimate.errors import Refused, ServerFailed
from reanimate.incidents import record, timeline
from reanimate.orchestrator import notices
from reanimate.orchestrator.outbox import Lane, Order, back_off, finish, put, serve, take

# Apprise looks for a module that Python is about to drop.
APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
async def services(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    home = tmp_path_factory.mktemp("home")
    NOWHERE.save(home)
    async with open_services(Settings(home=home, database={"url": postgres_url})) as opened:  # type: ignore[arg-type]
        yield opened


@pytest.fixture(autouse=True)
async def empty(services: Services) -> None:
    async with services.sessions.begin() as session:
        await session.execute(delete(Outbox))


async def order(services: Services, key: str, kind: str = "test", **more: object) -> None:
    async with services.sessions.begin() as session:
        await put(session, kind, key, incident_id=None, now=utcnow(), **more)  # type: ignore[arg-type]


async def rows(services: Services) -> dict[str, Outbox]:
    async with services.sessions() as session:
        return {row.key: row for row in await session.scalars(select(Outbox))}


async def nothing(order: Order) -> None:
    """The work of a lane that is only taken from by hand."""


@asynccontextmanager
async def served(services: Services, lane: Lane) -> AsyncIterator[None]:
    task = asyncio.create_task(serve(services.sessions, services.database_url, [lane]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(look: Callable[[], object], within_s: float = 20.0) -> None:
    for _ in range(int(within_s / 0.02)):
        if look():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"not within {within_s:g} s")


async def test_put__orders_once_and_revives_only_what_is_done(services: Services) -> None:
    """A second order of the same kind and key is the first one; one that is done may be ordered again."""
    await order(services, "a")
    first = (await rows(services))["a"]
    await order(services, "a", again=True)
    assert (await rows(services))["a"].created_at == first.created_at
    async with services.sessions.begin() as session:
        await session.execute(update(Outbox).values(done_at=utcnow(), attempts=7))
    await order(services, "a")
    assert (await rows(services))["a"].done_at is not None
    await order(services, "a", again=True)
    revived = (await rows(services))["a"]
    assert (revived.done_at, revived.attempts) == (None, 0)


async def test_take__gives_each_order_to_one_of_many(services: Services) -> None:
    """However many ask at once, nobody gets what another has."""
    for number in range(40):
        await order(services, f"k{number}")
    lane = Lane("test", nothing, lease_s=60)

    async def grab() -> list[str]:
        async with services.sessions.begin() as session:
            return [taken.key for taken in await take(session, lane, now=utcnow())]

    taken = [key for keys in await asyncio.gather(*(grab() for _ in range(10))) for key in keys]
    assert len(taken) == len(set(taken))
    assert set(taken) <= {f"k{number}" for number in range(40)}


async def test_take__gives_it_again_when_the_lease_has_ended(services: Services) -> None:
    """The row of a worker that was killed comes back by itself, with its attempts counted."""
    await order(services, "a")
    lane, now = Lane("test", nothing, lease_s=3), utcnow()
    async with services.sessions.begin() as session:
        assert len(await take(session, lane, now=now)) == 1
        assert await take(session, lane, now=now + timedelta(seconds=2)) == []
        (again,) = await take(session, lane, now=now + timedelta(seconds=4))
    assert again.attempts == 2


@pytest.mark.timed
async def test_serve__starts_at_once_when_an_order_is_written(services: Services) -> None:
    """The notice of the commit is what starts it; the sweep of each second is only the safety net."""
    seen: dict[str, float] = {}

    async def work(order: Order) -> None:
        seen[order.key] = asyncio.get_running_loop().time()
        async with services.sessions.begin() as session:
            await finish(session, order, now=utcnow())

    async with served(services, Lane("test", work, lease_s=10)):
        await order(services, "warm")
        await until(lambda: "warm" in seen)
        delays = []
        for number in range(5):
            began = asyncio.get_running_loop().time()
            await order(services, f"k{number}")
            await until(lambda key=f"k{number}": key in seen)  # type: ignore[misc]
            delays.append(seen[f"k{number}"] - began)
    assert sorted(delays)[2] < 0.5, delays


async def test_serve__keeps_a_failing_order_with_its_error_and_does_the_others(services: Services) -> None:
    """A bad row holds nobody up; it stays, says why, and is tried again until its attempts are spent."""
    done = []

    async def work(order: Order) -> None:
        if order.key == "bad":
            raise Refused("it was made to fail")
        done.append(order.key)
        async with services.sessions.begin() as session:
            await finish(session, order, now=utcnow())

    async with served(services, Lane("test", work, lease_s=10, max_attempts=2)):
        await order(services, "bad")
        await order(services, "good")
        await until(lambda: done == ["good"])
        await asyncio.sleep(3.5)
    bad = (await rows(services))["bad"]
    assert (bad.done_at, bad.attempts, bad.error) == (None, 2, "it was made to fail")


async def test_serve__keeps_the_lease_of_long_work(services: Services) -> None:
    """Work that outlasts its lease is not given to another process meanwhile."""
    begun = []

    async def work(order: Order) -> None:
        begun.append(order.key)
        await asyncio.sleep(2.5)
        async with services.sessions.begin() as session:
            await finish(session, order, now=utcnow())

    lanes = [Lane("test", work, lease_s=1.2, renewed=True) for _ in range(2)]
    async with served(services, lanes[0]), served(services, lanes[1]):
        await order(services, "long")
        await asyncio.sleep(4)
    assert begun == ["long"]


def test_back_off__doubles_up_to_its_most() -> None:
    """Pauses grow, and never beyond the limit."""
    assert [back_off(attempt) for attempt in (1, 2, 3, 6, 60)] == [1, 2, 4, 30, 30]


class Receiver:
    """A real HTTP receiver of notices; it answers what it is told to."""

    def __init__(self) -> None:
        self.got: list[dict[str, str]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if receiver.status == 200:
                    receiver.got.append(body)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"json://user:hunter2@127.0.0.1:{self.server.server_port}/")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    made = [Receiver(), Receiver()]
    yield made
    for receiver in made:
        receiver.close()


async def notice(services: Services) -> tuple[str, Order]:
    """Open an incident, order a notice about it, and lease that."""
    now = utcnow()
    async with services.sessions.begin() as session:
        incident = await record.open_incident(
            session, title="x", component="unknown", agent="a", fault_at=now, now=now, actor="test", scope={}
        )
        payload = {"title": "[P0] it is down", "body": "look"}
        await put(session, "notify", f"{incident.id}:t", incident_id=incident.id, now=now, payload=payload)
    return incident.id, await lease(services)


async def lease(services: Services) -> Order:
    async with services.sessions.begin() as session:
        (taken,) = await take(session, Lane("notify", nothing, lease_s=0), now=utcnow())
    return taken


async def told(services: Services, incident_id: str) -> list[tuple[str, str]]:
    async with services.sessions() as session:
        found = await timeline.entries(session, incident_id)
    return [(entry.kind, entry.message) for entry in found if entry.kind.startswith("notice.")]


def with_receivers(services: Services, *urls: SecretStr) -> Services:
    changed = services.settings.model_copy(update={"notify": NotifySettings(urls=urls)})
    return Services(**{**vars(services), "settings": changed})


async def test_notices__nobody_configured_is_said_and_done(services: Services) -> None:
    """Without a receiver the order ends, and the timeline says that nobody was told."""
    incident_id, taken = await notice(services)
    await notices.send(services, taken)
    row = (await rows(services))[taken.key]
    assert row.done_at is not None
    assert row.error == "nobody configured"
    assert [kind for kind, _ in await told(services, incident_id)] == ["notice.failed"]


@APPRISE
async def test_notices__each_receiver_gets_it_once(services: Services, receivers: list[Receiver]) -> None:
    """One receiver that fails is tried again; the other is not told twice; no password is written down."""
    first, second = receivers
    second.status = 503
    configured = with_receivers(services, first.url, second.url)
    incident_id, taken = await notice(configured)
    with pytest.raises(ServerFailed, match="1 of 2") as raised:
        await notices.send(configured, taken)
    assert "hunter2" not in str(raised.value)
    second.status = 200
    await notices.send(configured, await lease(configured))
    assert [len(receiver.got) for receiver in receivers] == [1, 1]
    assert first.got[0]["title"] == "[P0] it is down"
    assert [kind for kind, _ in await told(configured, incident_id)] == ["notice.sent"]
    assert "hunter2" not in json.dumps([row.payload for row in (await rows(configured)).values()])


@APPRISE
async def test_notices__giving_up_is_on_the_timeline(services: Services, receivers: list[Receiver]) -> None:
    """The last attempt that fails says so; the row stays, with its error."""
    receivers[0].status = 500
    configured = with_receivers(services, receivers[0].url)
    incident_id, taken = await notice(configured)
    last = Order(**{**vars(taken), "attempts": notices.ATTEMPTS})
    with pytest.raises(ServerFailed):
        await notices.send(configured, last)
    ((kind, message),) = await told(configured, incident_id)
    assert kind == "notice.failed"
    assert "given up" in message
