"""Alerts about quotas: one for each threshold and window, put into the inbox like everybody else's."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from reanimate.alerts.inbox import Inbox
from reanimate.alerts.model import Arrival, RequestHead
from reanimate.alerts.senders import cloudevents
from reanimate.clock import utcnow
from reanimate.db.tables import QuotaAccount, QuotaAlert
from reanimate.quota.amounts import said
from reanimate.quota.thresholds import Standing, crossed

__all__ = ["QuotaWatch"]

log = logging.getLogger(__name__)

_EVERY_S = 2.0
_PAUSE_S = 0.2
_CLEAR_EVERY = timedelta(hours=1)
_KEPT = {"minute": timedelta(days=2), "hour": timedelta(days=60), "day": timedelta(days=800)}
_CONTENT_TYPE = "application/cloudevents+json"


class QuotaWatch:
    """Looks at the accounts whenever something was told about them, and every two seconds."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], inbox: Inbox, currency: str) -> None:
        self._sessions = sessions
        self._inbox = inbox
        self._currency = currency
        self._woken = asyncio.Event()
        self._cleared_at: datetime | None = None

    def wake(self) -> None:
        """Say that an account has changed."""
        self._woken.set()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look(utcnow())
            except (SQLAlchemyError, OSError) as error:
                log.debug("quotas are not looked at: the record does not answer (%s)", type(error).__name__)
            await asyncio.sleep(_PAUSE_S)
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def look(self, now: datetime) -> int:
        """Raise what is crossed and was not raised, resolve what is over; return how many alerts were put."""
        async with self._sessions() as session:
            accounts = await session.scalars(
                select(QuotaAccount).where(QuotaAccount.pot == "normal", QuotaAccount.ends_at > now)
            )
            standings = [_standing(account) for account in accounts]
            alerts = (
                await session.scalars(
                    select(QuotaAlert).where((QuotaAlert.ends_at > now) | QuotaAlert.resolved_at.is_(None))
                )
            ).all()
        raised = {
            (a.quota, a.tenant, a.meter, int(a.starts_at.timestamp()), a.threshold, a.limit_amount) for a in alerts
        }
        count = 0
        for standing in standings:
            for at in crossed(standing):
                if (*_account(standing), at, standing.limit) not in raised:
                    await self._raise(standing, at, now)
                    count += 1
        by_account = {_account(standing): standing for standing in standings}
        for alert in alerts:
            if alert.resolved_at is None:
                current = by_account.get((alert.quota, alert.tenant, alert.meter, int(alert.starts_at.timestamp())))
                if current is None or alert.ends_at <= now or alert.threshold not in crossed(current):
                    await self._resolve(alert, now)
                    count += 1
        if self._cleared_at is None or now - self._cleared_at > _CLEAR_EVERY:
            self._cleared_at = now
            await self._clear(now)
        return count

    async def _raise(self, standing: Standing, at: float, now: datetime) -> None:
        labels, annotations = _words(standing, at, self._currency)
        starts_at = datetime.fromtimestamp(standing.starts, UTC)
        values: dict[str, Any] = {
            "quota": standing.quota, "tenant": standing.tenant, "meter": standing.meter, "starts_at": starts_at,
            "threshold": at, "limit_amount": standing.limit, "ends_at": datetime.fromtimestamp(standing.ends, UTC),
            "raised_at": now, "labels": labels, "annotations": annotations,
        }  # fmt: skip
        # First the inbox, which knows a repetition by its id: a kill in between raises nothing twice and loses nothing.
        evidence = {"check": "ledger of quotas", "spent": standing.spent, "limit": standing.limit}
        await self._put("firing", standing, at, labels, annotations, evidence, now, now, None)
        async with self._sessions.begin() as session:
            await session.execute(insert(QuotaAlert).values(values).on_conflict_do_nothing())
        log.warning("alert: %s", annotations["summary"])

    async def _resolve(self, alert: QuotaAlert, now: datetime) -> None:
        standing = Standing(
            alert.quota, alert.tenant, alert.meter, int(alert.starts_at.timestamp()), int(alert.ends_at.timestamp()),
            alert.limit_amount, 0, False, {},
        )  # fmt: skip
        why = "a new window has begun" if alert.ends_at <= now else "the limit was raised"
        annotations = {**alert.annotations, "resolved": why}
        await self._put(
            "resolved", standing, alert.threshold, alert.labels, annotations, {"found": why}, now, alert.raised_at, now
        )  # fmt: skip
        async with self._sessions.begin() as session:
            await session.execute(
                update(QuotaAlert)
                .where(
                    QuotaAlert.quota == alert.quota, QuotaAlert.tenant == alert.tenant,
                    QuotaAlert.meter == alert.meter, QuotaAlert.starts_at == alert.starts_at,
                    QuotaAlert.threshold == alert.threshold, QuotaAlert.limit_amount == alert.limit_amount,
                )
                .values(resolved_at=now)
            )  # fmt: skip

    async def _put(
        self,
        what: str,
        standing: Standing,
        at: float,
        labels: dict[str, str],
        annotations: dict[str, str],
        evidence: dict[str, Any],
        now: datetime,
        starts_at: datetime,
        ends_at: datetime | None,
    ) -> None:
        account = f"{standing.quota}|{standing.tenant}|{standing.meter}"
        event = {
            "specversion": "1.0",
            "id": f"{account}|{standing.starts}|{at:g}|{standing.limit}|{what}",
            "source": "reanimate/quota",
            "type": f"reanimate.alert.{what}",
            "subject": labels["component"],
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": {
                "fingerprint": f"quota|{account}|{at:g}",
                "starts_at": starts_at.isoformat(),
                **({"ends_at": ends_at.isoformat()} if ends_at is not None else {}),
                "labels": labels,
                "annotations": annotations,
                "evidence": [evidence],
            },
        }
        body = orjson.dumps(event)
        head = RequestHead({"content-type": _CONTENT_TYPE})
        await self._inbox.put(
            Arrival(
                source=cloudevents.SOURCE,
                delivery_key=cloudevents.read(head, body, now).delivery_key,
                received_at=now,
                content_type=_CONTENT_TYPE,
                headers={},
                body=body,
            )
        )

    async def _clear(self, now: datetime) -> None:
        """Remove windows that nobody will ask about any more."""
        async with self._sessions.begin() as session:
            for window, kept in _KEPT.items():
                await session.execute(
                    delete(QuotaAccount).where(
                        QuotaAccount.ends_at < now - kept, QuotaAccount.terms["window"].astext == window
                    )
                )
            await session.execute(
                delete(QuotaAlert).where(QuotaAlert.ends_at < now - _KEPT["day"], QuotaAlert.resolved_at.is_not(None))
            )


def _standing(account: QuotaAccount) -> Standing:
    return Standing(
        account.quota, account.tenant, account.meter, int(account.starts_at.timestamp()),
        int(account.ends_at.timestamp()), account.limit_amount + account.extra, account.spent,
        account.refused_at is not None, account.terms,
    )  # fmt: skip


def _account(standing: Standing) -> tuple[str, str, str, int]:
    return standing.quota, standing.tenant, standing.meter, standing.starts


def _words(standing: Standing, at: float, currency: str) -> tuple[dict[str, str], dict[str, str]]:
    terms = standing.terms
    window, model = str(terms.get("window", "")), str(terms.get("model", "*"))
    used, limit = said(standing.meter, standing.spent, currency), said(standing.meter, standing.limit, currency)
    resets = datetime.fromtimestamp(standing.ends, UTC).isoformat()
    whose = f" of tenant {standing.tenant}" if standing.tenant else ""
    state = "is used up" if at == 1.0 else f"is used to {at:.0%}"
    labels = {
        "alertname": "QuotaExhausted" if at == 1.0 else "QuotaThreshold",
        "fault": "token_quota_exhausted",
        "component": f"llm:{model}",
        "quota": standing.quota,
        "tenant": standing.tenant or "*",
        "meter": standing.meter,
        "threshold": f"{at:g}",
        "window": window,
    }
    annotations = {
        "summary": f"quota {standing.quota}{whose} {state}: {used} of {limit} this {window}",
        "used": used,
        "limit": limit,
        "resets_at": resets,
    }
    return labels, annotations
