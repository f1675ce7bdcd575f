"""A whole run of the system in one home directory: lock, addresses, parts, until it is told to stop."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from reanimate.addresses import Addresses
from reanimate.config import Settings, settings_file
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.errors import Busy, ReanimateError
from reanimate.secrets import Secrets
from reanimate.supervisor.journal import Journal
from reanimate.supervisor.lock import HomeLock, wait_for_keeper
from reanimate.supervisor.part import Part
from reanimate.supervisor.ports import resolve_addresses
from reanimate.supervisor.processes import system_parts
from reanimate.supervisor.supervisor import Supervisor

__all__ = ["run_system"]

_PREFECT_LOGIN = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")


async def run_system(
    settings: Settings,
    *,
    on_parts: Callable[[list[Part]], None],
    on_change: Callable[[str, str], None],
    on_ready: Callable[[Addresses, list[Part]], None],
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; on return no process of it is left.

    `on_parts` hears once what will be started, `on_change(name, state)` of every change, `on_ready` when all is ready.

    Raises:
        Busy: it runs already.
        ConfigInvalid, ServerFailed, Unreachable: it could not be started, and why.
    """
    with HomeLock(settings.home):
        if not await asyncio.to_thread(wait_for_keeper, settings.home):
            raise Busy(
                f"parts of an earlier run are still ending in {settings.home}", hint="try again in a few seconds"
            )
        _set_environment(settings)
        addresses, secrets = _prepare(settings)
        parts = system_parts(settings, addresses, secrets)
        on_parts(parts)
        supervisor = Supervisor(parts, settings.home, on_change=on_change)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, supervisor.request_stop)
        try:
            await supervisor.start()
            if not supervisor.stopping:
                on_ready(addresses, parts)
            await supervisor.run()
        except ReanimateError as error:
            Journal(settings.home).write("system.failed", pid=os.getpid(), error=str(error))
            raise
        finally:
            await supervisor.stop()


def _prepare(settings: Settings) -> tuple[Addresses, Secrets]:
    """Decide where everything listens and write it down; nothing of an earlier run is in the way afterwards."""
    if settings.database.url is None:
        _end_orphaned_database(settings)
    previous = Addresses.load(settings.home) if Addresses.file(settings.home).exists() else None
    addresses = resolve_addresses(settings, previous)
    secrets = Secrets.load_or_create(settings.home)
    addresses.save(settings.home)
    return addresses, secrets


def _end_orphaned_database(settings: Settings) -> None:
    """End a server that a killed run left, before its port is looked at. The lock is ours, so nobody uses it."""
    EmbeddedPostgres(settings.home / "postgres", 0, "", settings.database.pg_bin).stop_orphan()


def _set_environment(settings: Settings) -> None:
    """Give the parts our home and settings file, and keep a person's own Prefect profile away from them."""
    config = Path(settings_file()).absolute()
    for name in list(os.environ):
        if name.startswith("PREFECT_") and (settings.prefect.api_url is None or name not in _PREFECT_LOGIN):
            del os.environ[name]
    os.environ["REANIMATE_HOME"] = str(settings.home)
    os.environ["REANIMATE_CONFIG"] = str(config)
    os.environ["PYTHONUNBUFFERED"] = "1"
