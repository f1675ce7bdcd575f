"""Gateways' quotas against a real web process, and calls for them; the ledger is a real Postgres."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from web_home import Process, web_process

from reanimate.gateway.llm.call import Call, Tenant, Usage
from reanimate.gateway.llm.catalogue import Catalogue
from reanimate.gateway.llm.endpoints import ENDPOINTS
from reanimate.gateway.llm.prompt import read_prompt
from reanimate.gateway.llm.quota.quota import Quota
from reanimate.gateway.request import Request
from reanimate.llm_settings import LlmSettings
from reanimate.secrets import Secrets

_ids = itertools.count(1)

ROUTE = "chat"
PRICE = 2.0
"""Of a million tokens, in and out alike."""


def llm_settings(*quotas: dict[str, Any], targets: tuple[str, ...] = ("main/large",)) -> LlmSettings:
    """Two providers with a model each, one route, and these quotas."""
    models = ({"name": "large", "input_price": PRICE, "output_price": PRICE},)
    return LlmSettings.model_validate(
        {
            "providers": [
                {"name": name, "url": "http://127.0.0.1:9/v1", "models": models} for name in ("main", "backup")
            ],
            "routes": [{"name": ROUTE, "targets": targets}],
            "quotas": quotas,
        }
    )


def call(
    settings: LlmSettings,
    *,
    tenant: str = "support",
    output: int = 100,
    headers: list[tuple[bytes, bytes]] | None = None,
    path: str = "/v1/chat/completions",
) -> Call:
    """Return a call that may use `output` tokens and no more: what it says is too short to count for a token."""
    raw = b'{"model":"%s","max_tokens":%d,"messages":[]}' % (ROUTE.encode(), output)
    scope = {"method": "POST", "raw_path": path.encode(), "query_string": b"", "headers": headers or []}

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody reads or writes here")

    prompt = read_prompt(ENDPOINTS[path], raw)
    object.__setattr__(prompt.needs, "input_tokens", 0)
    catalogue = Catalogue(settings)
    return Call(
        id=f"llm-{next(_ids)}",
        request=Request(scope, nothing, nothing),
        prompt=prompt,
        tenant=Tenant(tenant, tenant),
        route=catalogue.routes[ROUTE],
        catalogue=catalogue,
        began=0.0,
        deadline=1e12,
    )


def used(tokens: int) -> Usage:
    return Usage(0, tokens)


@dataclass
class ControlPlane:
    """A web process over one database, that can be killed and started again at the same address."""

    home: Path
    database: str
    port: int
    process: Process | None = None
    _stack: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return Secrets.load_or_create(self.home).control_key

    def start(self) -> None:
        context = web_process(self.home, self.database, self.port)
        self.process = context.__enter__()
        self._stack.append(context)

    def kill(self) -> None:
        assert self.process is not None
        self.process.end(signal.SIGKILL)

    def close(self) -> None:
        for context in self._stack:
            context.__exit__(None, None, None)

    def rows(self, quota: str, pot: str = "normal") -> list[dict[str, Any]]:
        """What the ledger says of a quota, newest window last."""
        return self.query(
            f"SELECT * FROM quota_accounts WHERE quota = '{quota}' AND pot = '{pot}' "
            "ORDER BY starts_at, tenant, meter DESC"
        )

    def query(self, statement: str) -> list[dict[str, Any]]:
        url = self.database.replace("+psycopg", "", 1)
        with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.database.replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(statement.encode())


@asynccontextmanager
async def gateway(
    control: ControlPlane,
    settings: LlmSettings,
    home: Path,
    name: str = "gateway",
    *,
    clock: Callable[[], float] | None = None,
    url: str | None = None,
) -> AsyncIterator[Quota]:
    """One gateway's quotas, with what runs beside them."""
    async with aiohttp.ClientSession() as session:
        options: dict[str, Any] = {"clock": clock} if clock else {}
        quota = Quota(
            settings, session, home=home, web_url=url or control.url, control_key=control.key, gateway=name, **options
        )
        tasks = [asyncio.create_task(each) for each in quota.background()]
        try:
            yield quota
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await quota.close()


@contextmanager
def control_plane(home: Path, database: str, port: int) -> Iterator[ControlPlane]:
    control = ControlPlane(home, database, port)
    control.start()
    try:
        yield control
    finally:
        control.close()


async def until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    """Wait until something is so."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not become so"
        await asyncio.sleep(0.1)
