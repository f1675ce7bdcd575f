"""`python -m reanimate.watch`: run the watch until told to stop."""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from aiohttp import web

from reanimate.addresses import Addresses
from reanimate.backups.repositories import open_repositories
from reanimate.clock import utcnow
from reanimate.config import Settings, load_settings
from reanimate.errors import ConfigInvalid, ReanimateError
from reanimate.logs import log_to_stderr
from reanimate.secrets import Secrets
from reanimate.vector.server import VectorServer
from reanimate.watch.backup_vigil import BackupVigil
from reanimate.watch.blindness import Blindness
from reanimate.watch.data_vigil import DataVigil
from reanimate.watch.dependencies import Kind, dependencies_of
from reanimate.watch.desk import Desk
from reanimate.watch.expectations import Expectations
from reanimate.watch.llm_vigil import LlmVigil
from reanimate.watch.outbox import Outbox
from reanimate.watch.probe import Prober
from reanimate.watch.recovery_points import Objectives
from reanimate.watch.seen import Seen
from reanimate.watch.server import create_app
from reanimate.watch.watch import Watch

__all__ = ["main", "serve"]

log = logging.getLogger("reanimate.watch")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Watch until `stop` is set.

    Raises:
        NotFound: nothing was ever started in this home directory.
        ConfigInvalid: settings are not usable, or the port is taken.
    """
    addresses = Addresses.load(settings.home)
    secrets = Secrets.load_or_create(settings.home)
    directory = settings.home / "watch"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=5.0, trust_env=False))
        prober = Prober()
        stack.push_async_callback(prober.close)
        outbox = Outbox(directory / "outbox", f"{addresses.web}/alerts/cloudevents", secrets.intake_token)
        desk = Desk(directory, outbox)
        desk.load(utcnow())
        catalog = next(iter(open_repositories(settings).values())).catalog
        expectations = Expectations(catalog, settings.vector.collections)
        watch = assemble(settings, addresses, directory, prober, desk, outbox, expectations, http)
        if settings.llm.providers:
            watch.llm = LlmVigil(desk, http, addresses.gateway_control, secrets.control_key)
        await stack.enter_async_context(listening(watch, secrets.control_key, addresses.watch))
        log.info("watching %s", ", ".join(watch.vigils))
        work = [asyncio.create_task(watch.run()), asyncio.create_task(expectations.refresh_forever())]
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([*work, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in work:
            if task.done():
                task.result()  # a watch that ends by itself has failed; the supervisor starts another
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


def assemble(
    settings: Settings,
    addresses: Addresses,
    directory: Path,
    prober: Prober,
    desk: Desk,
    outbox: Outbox,
    expectations: Expectations,
    http: httpx.AsyncClient,
) -> Watch:
    """Put the watch of these settings together; nothing runs yet."""
    seen = Seen(directory / "seen.json")
    watch = Watch(
        dependencies=dependencies_of(settings, addresses),
        prober=prober,
        desk=desk,
        outbox=outbox,
        blindness=Blindness(directory / "blind.json"),
        remember_good=seen.add,
        backups=BackupVigil(
            desk,
            Objectives(
                timedelta(seconds=settings.backups.rpo_s),
                proof_expires=timedelta(days=settings.backups.proof_expires_days),
            ),
            lambda: expectations.protected if expectations.loaded else None,
            utcnow(),
        ),
    )
    for dependency in watch.dependencies:
        if dependency.kind is Kind.VECTOR:
            target = settings.vector.target(dependency.name)
            key = target.api_key.get_secret_value() if target.api_key else None
            watch.data[target.name] = DataVigil(
                VectorServer(target.name, dependency.url.removesuffix("/healthz"), key, http),
                target.role,
                expectations,
                glance_s=settings.watch.interval_s,
                interval_s=settings.watch.data_interval_s,
                min_count_ratio=settings.watch.min_count_ratio,
                may_probe=lambda name=target.name: watch.may_probe_data(name),  # type: ignore[misc]
                on_outcome=watch.data_probed,
                ever_good=seen.of(target.name),
            )
    return watch


class listening:
    """The watch's HTTP server, listening at `url` while the context is open."""

    def __init__(self, watch: Watch, control_key: str, url: str) -> None:
        self._runner = web.AppRunner(create_app(watch, control_key), access_log=None, shutdown_timeout=1.0)
        self._url = url

    async def __aenter__(self) -> None:
        parts = urlsplit(self._url)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, parts.hostname, parts.port, reuse_address=True).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigInvalid(f"the watch cannot listen at {self._url}: {error.strerror or error}") from error

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def run() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(load_settings(), stop)


def main() -> int:
    """Run, and return the exit code: 0 after a signal, 1 with one line on standard error when it cannot start."""
    log_to_stderr()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(run())
    except ReanimateError as error:
        log.error("%s", error)  # noqa: TRY400 - one line for the log of a supervised process, no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
