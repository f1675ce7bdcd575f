"""The gateway as a process: two listeners in one event loop, and what runs beside them."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from reanimate.addresses import Addresses
from reanimate.config import Settings, settings_file
from reanimate.errors import ConfigInvalid, NotFound
from reanimate.gateway.control import Control
from reanimate.gateway.control_plane import ControlPlane
from reanimate.gateway.listener import BACKLOG, Listener, listener_for
from reanimate.gateway.llm.plane import open_llm_plane
from reanimate.gateway.processes.first import First
from reanimate.gateway.processes.worker import Worker
from reanimate.gateway.proxy import Proxy
from reanimate.gateway.reloading import Reloading
from reanimate.gateway.switchboard import Switchboard
from reanimate.gateway.vector.plane import open_vector_plane
from reanimate.gateway.vector.targets import targets_from
from reanimate.secrets import Secrets

__all__ = ["find_addresses", "serve"]

log = logging.getLogger("reanimate.gateway")

_FIRST_ASK_S = 0.5


def find_addresses(settings: Settings) -> Addresses:
    """Return the addresses that `up` wrote; a gateway that was started alone takes those of the settings."""
    try:
        return Addresses.load(settings.home)
    except NotFound:
        host, watch = settings.gateway.host, settings.watch
        return Addresses(
            web=f"http://{settings.web.host}:{settings.web.port}",
            prefect_api="",
            prefect_ui="",
            gateway=f"http://{host}:{settings.gateway.port}",
            gateway_control=f"http://{host}:{settings.gateway.control_port}",
            watch=f"http://127.0.0.1:{watch.port}",
            database="",
        )


def _listen(url: str, *, shared: bool = False) -> socket.socket:
    """Return a socket that listens at `url`; `shared`: other processes of this gateway listen there too.

    Raises:
        ConfigInvalid: the port is taken, or the host is not ours.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 0
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        raise ConfigInvalid(
            f"the gateway cannot listen on {host}:{port}: {error.strerror or error}",
            hint="end what uses the port, or set gateway.port and gateway.control_port",
        ) from error


async def _beside(work: list[Coroutine[Any, Any, None]], stack: AsyncExitStack) -> None:
    """Run `work` until the stack is left."""
    tasks = [asyncio.create_task(item) for item in work]

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    for task in tasks:
        task.add_done_callback(_report)
    stack.push_async_callback(end)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task of the gateway ended", exc_info=error)


async def serve(settings: Settings, addresses: Addresses, secrets: Secrets, worker: int | None = None) -> None:
    """Run the gateway until SIGTERM or SIGINT; requests underway get 3 s to finish.

    `worker`: the file descriptor that leads to the first process, in one of those that it has started.

    Raises:
        ConfigInvalid: a port is taken, or a target's address is not known.
    """
    targets = targets_from(settings.vector, addresses.vector)
    processes = settings.gateway.processes
    is_first = worker is None
    if is_first and processes > 1:
        # A port that processes share would also be shared with a second gateway, by mistake.
        _listen(addresses.gateway).close()
    traffic = _listen(addresses.gateway, shared=processes > 1)
    control = _listen(addresses.gateway_control) if is_first else None
    home: Path = settings.home / "gateway"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vector = await stack.enter_async_context(
            open_vector_plane(
                targets,
                session,
                home=home,
                is_first=is_first,
                watch_url=addresses.watch,
                control_key=secrets.control_key,
                hang_limit_s=settings.gateway.hang_limit_s,
                clock=time.time,
            )
        )
        llm = await stack.enter_async_context(
            open_llm_plane(
                settings,
                session,
                home=home,
                is_first=is_first,
                web_url=addresses.web,
                watch_url=addresses.watch,
                control_key=secrets.control_key,
            )
        )
        listeners = (vector.switches.obey, llm.switches.obey)
        switchboard = Switchboard(home / "switches.json", secrets.control_key, listeners)
        switchboard.load()
        reloading = Reloading(settings_file(), llm.use)
        work = [reloading.follow(), *vector.background(), *llm.background()]
        serving = [(listener_for(Proxy(llm, vector)), traffic)]
        if worker is not None:
            member = Worker(llm, vector, switchboard, read_settings=reloading.ask, ended=lambda: _stop(serving))
            await member.join(worker)
            work.append(member.tell())
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.ask)
        else:
            first = First(llm, vector, switchboard, processes) if processes > 1 else None
            control_plane = ControlPlane(
                session,
                switchboard,
                web_url=addresses.web,
                control_key=secrets.control_key,
                gateway=settings.gateway.name,
                control_url=addresses.gateway_control,
            )
            await control_plane.ask(_FIRST_ASK_S)
            app = Control(
                settings.gateway.name,
                secrets.control_key,
                llm=llm,
                vector=vector,
                switchboard=switchboard,
                control_plane=control_plane,
                processes=first,
            )
            assert control is not None
            serving.append((listener_for(app), control))
            work += [control_plane.follow(), *(first.background() if first is not None else ())]
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _read_settings, reloading, first)
            log.warning("listening on %s, control on %s", addresses.gateway, addresses.gateway_control)
        await _beside(work, stack)
        await _run(serving)
    if is_first:
        log.warning("ended")


def _read_settings(reloading: Reloading, first: First | None) -> None:
    reloading.ask()
    if first is not None:
        first.read_settings()


Serving = list[tuple[Listener, socket.socket]]


def _stop(serving: Serving) -> None:
    for listener, _ in serving:
        listener.should_exit = True


async def _run(serving: Serving) -> None:
    """Serve until a signal comes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, serving)
    # What lives from here on is requests: the collector need not look at the rest again.
    gc.collect()
    gc.freeze()
    # A request makes hundreds of objects and no circles: looked for as often as by default, that costs a tenth of all.
    gc.set_threshold(20_000, 20, 50)
    await asyncio.gather(*(listener.serve(sockets=[sock]) for listener, sock in serving))
