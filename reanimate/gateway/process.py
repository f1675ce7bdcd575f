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


def _listen(url: str) -> socket.socket:
    """Return a socket that listens at `url`.

    Raises:
        ConfigInvalid: the port is taken, or the host is not ours.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 0
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
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


async def serve(settings: Settings, addresses: Addresses, secrets: Secrets) -> None:
    """Run the gateway until SIGTERM or SIGINT; requests underway get 3 s to finish.

    Raises:
        ConfigInvalid: a port is taken, or a target's address is not known.
    """
    targets = targets_from(settings.vector, addresses.vector)
    traffic, control = _listen(addresses.gateway), _listen(addresses.gateway_control)
    home: Path = settings.home / "gateway"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vector = await stack.enter_async_context(
            open_vector_plane(
                targets,
                session,
                home=home,
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
                web_url=addresses.web,
                watch_url=addresses.watch,
                control_key=secrets.control_key,
            )
        )
        listeners = (vector.switches.obey, llm.switches.obey)
        switchboard = Switchboard(home / "switches.json", secrets.control_key, listeners)
        switchboard.load()
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
        )
        reloading = Reloading(settings_file(), llm.use)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloading.ask)
        await _beside([control_plane.follow(), reloading.follow(), *vector.background(), *llm.background()], stack)
        log.warning("listening on %s, control on %s", addresses.gateway, addresses.gateway_control)
        await _run([(listener_for(Proxy(llm, vector)), traffic), (listener_for(app), control)])
    log.warning("ended")


async def _run(listeners: list[tuple[Listener, socket.socket]]) -> None:
    """Serve until a signal comes."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for listener, _ in listeners:
            listener.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # What lives from here on is requests: the collector need not look at the rest again.
    gc.collect()
    gc.freeze()
    # A request makes hundreds of objects and no circles: looked for as often as by default, that costs a tenth of all.
    gc.set_threshold(10_000, 20, 50)
    await asyncio.gather(*(listener.serve(sockets=[sock]) for listener, sock in listeners))
