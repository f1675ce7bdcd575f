"""The ledger on a real Postgres: what happens when that goes away, comes back, or is changed by others."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from reanimate.db.embedded import EmbeddedPostgres
from reanimate.db.engine import engine_for
from reanimate.errors import Unreachable
from reanimate.quota.demand import AccountKey, Ask, Demand
from reanimate.quota.ledger import Ledger

NOW = time.time()
DAY = int(NOW) // 86_400 * 86_400


def ask(
    seq: int, *names: str, spent: int = 0, need: int = 100, want: int = 100, limit: int = 1000, book: str = "b"
) -> Ask:
    return Ask(
        "g",
        book,
        seq,
        tuple(
            Demand(AccountKey(name, "", "tokens", "normal", DAY), DAY + 86_400, limit, 100, 10.0, spent, spent, spent,
                   need=need, want=want)
            for name in names
        ),
    )  # fmt: skip


@pytest.fixture
async def engine(postgres_server: EmbeddedPostgres) -> AsyncIterator[AsyncEngine]:
    engine = engine_for(postgres_server.url("reanimate"))
    yield engine
    await engine.dispose()


async def test_record_away__nothing_is_lent_and_nothing_is_lost(
    engine: AsyncEngine, postgres_server: EmbeddedPostgres
) -> None:
    """Stopped in between: a clear error; started again: what was lent is still lent."""
    ledger = Ledger(engine)
    assert (await ledger.lend(ask(1, "a"))).lent[0].granted == 100
    await asyncio.to_thread(postgres_server.stop)
    with pytest.raises(Unreachable):
        await ledger.lend(ask(2, "a", spent=100))
    began = time.monotonic()
    with pytest.raises(Unreachable):
        await ledger.lend(ask(3, "a", spent=100))
    assert time.monotonic() - began < 0.1  # not asked again at once
    await asyncio.to_thread(postgres_server.start)
    await asyncio.sleep(0.6)
    lent = (await ledger.lend(ask(4, "a", spent=100))).lent[0]
    assert (lent.granted, lent.spent, lent.left) == (200, 100, 800)
    await ledger.close()


async def test_restart__a_connection_that_broke_is_replaced_unnoticed(
    engine: AsyncEngine, postgres_server: EmbeddedPostgres
) -> None:
    """A database that was restarted between two requests costs none of them."""
    ledger = Ledger(engine)
    await ledger.lend(ask(1, "b"))
    await asyncio.to_thread(postgres_server.stop)
    await asyncio.to_thread(postgres_server.start)
    assert (await ledger.lend(ask(2, "b", spent=100))).lent[0].spent == 100
    await ledger.close()


async def test_changed_by_others__is_read_again(engine: AsyncEngine) -> None:
    """Two web processes and a command, all at once: every change counts, for several accounts in one request."""
    one, two = Ledger(engine), Ledger(engine)
    names = [f"c{n}" for n in range(6)]
    for seq in range(1, 11):
        await asyncio.gather(
            one.lend(ask(seq, *names, limit=10**6, spent=seq * 10, book="one")),
            two.lend(ask(seq, *reversed(names), limit=10**6, spent=seq * 10, book="two")),
        )
    async with engine.begin() as connection:
        rows = await connection.execute(text("SELECT spent, held, version FROM quota_accounts WHERE quota LIKE 'c_'"))
        assert {tuple(row) for row in rows} == {(200, 200, 20)}
    await one.close()
    await two.close()


async def test_record_set_back__is_put_right_by_what_gateways_say(engine: AsyncEngine) -> None:
    """A ledger restored from an old backup: totals are said again, so that it knows within one word what was used."""
    ledger = Ledger(engine)
    await ledger.lend(ask(1, "d", spent=0))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TEMP TABLE old AS SELECT * FROM quota_accounts WHERE quota = 'd'"))
        saved = (await connection.execute(text("SELECT * FROM old"))).mappings().one()
    for seq in range(2, 6):
        await ledger.lend(ask(seq, "d", spent=(seq - 1) * 100))
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE quota_accounts SET version = 1, spent = 0, leases = CAST(:leases AS jsonb) WHERE quota = 'd'"),
            {"leases": json.dumps(saved["leases"])},
        )
    lent = (await ledger.lend(ask(6, "d", spent=500))).lent[0]
    assert (lent.spent, lent.left) == (500, 400)
    await ledger.close()
