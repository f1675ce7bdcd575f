"""Telling gateways what holds: the newest document is pushed to each, and kept ready for those that ask."""

import asyncio
import time
from dataclasses import dataclass

import httpx
from sqlalchemy import select

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.db.tables import Hold, SwitchLedger
from reanimate.switches.document import LIFETIME, Claim, SwitchDocument, effective, sign
from reanimate.switches.gateways import control_urls

__all__ = ["Obeyed", "current_document", "push", "wait_until_obeyed"]

_PUSH_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Obeyed:
    """What the gateways said to one document: name → milliseconds until it was obeyed, or why it was not."""

    seq: int
    acked_ms: dict[str, float]
    silent: dict[str, str]


async def current_document(services: Services) -> tuple[bytes, str, int]:
    """Return the newest switch document as (body, signature, number), made from all open holds."""
    now = utcnow()
    # In one statement: the number is of the same moment as the holds, and a kill waits for one answer less.
    ledger_and_holds = (
        select(SwitchLedger.ledger, SwitchLedger.started_at, SwitchLedger.seq, Hold.switch, Hold.scope, Hold.value)
        .outerjoin(Hold, Hold.lifted_at.is_(None))
        .where(SwitchLedger.id == 1)
        .order_by(Hold.id)
    )
    async with services.sessions() as session:
        rows = (await session.execute(ledger_and_holds)).all()
    ledger, started_at, seq = rows[0][:3]
    claims = [Claim(switch, scope, value) for *_, switch, scope, value in rows if switch is not None]
    document = SwitchDocument(
        ledger=ledger,
        ledger_started_at=started_at,
        seq=seq,
        issued_at=now,
        expires_at=now + LIFETIME,
        switches=tuple(effective(claims)),
    )
    body = document.encode()
    return body, sign(body, services.secrets.control_key), document.seq


async def push(services: Services) -> Obeyed:
    """Send the newest document to every gateway at once; a gateway that is away asks for it later."""
    body, signature, seq = await current_document(services)
    began = time.perf_counter()

    async def one(url: str) -> float | str:
        try:
            answer = await services.http.post(
                f"{url}/switches",
                content=body,
                headers={"content-type": "application/json", "x-reanimate-signature": signature},
                timeout=_PUSH_TIMEOUT_S,
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if answer.json().get("seq", -1) < seq:
            return f"obeys {answer.json().get('seq')}, not {seq}"
        return round((time.perf_counter() - began) * 1000, 1)

    # The gateway that is configured here need not wait until it is known which others there are.
    here = services.addresses.gateway_control
    told = {here: asyncio.create_task(one(here))}
    urls = await control_urls(services)
    told |= {url: asyncio.create_task(one(url)) for url in urls.values() if url != here}
    await asyncio.gather(*told.values())
    results = {name: told[url].result() for name, url in urls.items()}
    return Obeyed(
        seq,
        {name: result for name, result in results.items() if isinstance(result, float)},
        {name: result for name, result in results.items() if isinstance(result, str)},
    )


async def wait_until_obeyed(services: Services, *, within_s: float = 5.0) -> Obeyed:
    """Push until every gateway obeys, for at most `within_s` seconds; the last word is returned either way."""
    deadline = time.monotonic() + within_s
    while True:
        obeyed = await push(services)
        if not obeyed.silent or time.monotonic() > deadline:
            return obeyed
        await asyncio.sleep(0.2)
