"""The whole examination: what can be looked at without a running system, and what can be asked of a running one."""

import asyncio
from collections.abc import AsyncIterator

import httpx

from reanimate.addresses import Addresses
from reanimate.config import Settings, settings_file
from reanimate.db.url import prefect_database, record_url
from reanimate.doctor.configuration import configuration_findings
from reanimate.doctor.database import database_findings
from reanimate.doctor.dumps import dump_findings
from reanimate.doctor.finding import Finding, ok
from reanimate.doctor.llm import llm_findings
from reanimate.doctor.machine import machine_findings
from reanimate.doctor.protection import arrangement_findings, store_findings
from reanimate.doctor.restores import leftover_findings
from reanimate.doctor.servers import prefect_findings, target_findings
from reanimate.secrets import Secrets
from reanimate.supervisor.lock import holder

__all__ = ["examine"]

_CALL_S = 3.0


async def examine(settings: Settings) -> list[Finding]:
    """Return every finding, the machine first. What belongs to the system itself is asked only while it runs."""
    pid = holder(settings.home)
    findings = await asyncio.to_thread(lambda: list(machine_findings(settings, running=pid is not None)))
    findings.append(ok("system", f"running as pid {pid}" if pid else "not running; `reanimate up` starts it"))
    findings.extend(arrangement_findings(settings))
    findings.extend(llm_findings(settings.llm, settings.gateway.host, settings_file()))
    async with httpx.AsyncClient(timeout=_CALL_S, trust_env=False) as http:
        groups = await asyncio.gather(
            *(_all(examination) for examination in _examinations(settings, http, running=pid is not None)),
            store_findings(settings),
            configuration_findings(settings, running=pid is not None),
            dump_findings(settings, running=pid is not None),
        )
    return [*findings, *(finding for group in groups for finding in group)]


def _examinations(settings: Settings, http: httpx.AsyncClient, *, running: bool) -> list[AsyncIterator[Finding]]:
    examinations: list[AsyncIterator[Finding]] = []
    addresses = Addresses.load(settings.home) if running else None
    if running:
        examinations.append(leftover_findings(settings))
    if database := _database_url(settings, addresses):
        own_prefect = settings.prefect.api_url is None
        examinations.append(database_findings(database, prefect_database(settings) if own_prefect else None))
    if api := addresses.prefect_api if addresses else settings.prefect.api_url:
        examinations.append(prefect_findings(api.rstrip("/"), http))
    for target in settings.vector.targets:
        if url := target.url or (addresses.vector.get(target.name) if addresses else None):
            examinations.append(target_findings(target, url.rstrip("/"), http))
    return examinations


def _database_url(settings: Settings, addresses: Addresses | None) -> str | None:
    """Return the record's URL, or None while it is our own database and does not run."""
    if settings.database.url is not None:
        return settings.database.url.get_secret_value()
    return record_url(settings, addresses, Secrets.load_or_create(settings.home)) if addresses else None


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]
