"""Decide where every part listens, before anything is started."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from reanimate.addresses import Addresses
from reanimate.config import Settings
from reanimate.db.embedded import USER
from reanimate.db.url import RECORD_DATABASE, without_password
from reanimate.errors import ConfigInvalid

__all__ = ["Listener", "listeners", "port_problem", "resolve_addresses", "who_listens"]

_LISTEN = "0A"  # the kernel's number for the state LISTEN


@dataclass(frozen=True)
class Listener:
    """A port that a part will listen on."""

    setting: str
    """Its name in reanimate.toml, for messages."""
    host: str
    port: int
    """0 picks a free one."""


def listeners(settings: Settings) -> dict[str, Listener]:
    """Return what will listen in this configuration, by key; parts that somebody else runs are left out."""
    web, gateway = settings.web, settings.gateway
    wanted = {
        "web": Listener("web.port", web.host, web.port),
        "gateway": Listener("gateway.port", gateway.host, gateway.port),
        "gateway_control": Listener("gateway.control_port", gateway.host, gateway.control_port),
        "watch": Listener("watch.port", "127.0.0.1", settings.watch.port),
    }
    if settings.database.url is None:
        wanted["database"] = Listener("database.port", "127.0.0.1", settings.database.port)
    if settings.prefect.api_url is None:
        wanted["prefect"] = Listener("prefect.port", "127.0.0.1", settings.prefect.port)
    for target in settings.vector.targets:
        if target.url is None:
            wanted[f"vector:{target.name}"] = Listener(f"vector.targets.{target.name}.port", "127.0.0.1", target.port)
    return wanted


def resolve_addresses(settings: Settings, previous: Addresses | None = None) -> Addresses:
    """Return where each part will listen: fixed ports checked, free ones picked (the previous one if still free).

    Raises:
        ConfigInvalid: a port is taken, or two settings name the same one; the message says which and by whom.
    """
    before = _ports_of(previous) if previous else {}
    bases: dict[str, str] = {}
    with ExitStack() as held:  # all are held until all are found, so that none is picked twice
        fixed_first = sorted(listeners(settings).items(), key=lambda item: item[1].port == 0)
        taken: dict[tuple[str, int], str] = {}
        for key, listener in fixed_first:
            port = _reserve(held, listener, before.get(key, 0), taken)
            taken[listener.host, port] = listener.setting
            bases[key] = f"http://{_reachable(listener.host)}:{port}"
    return _addresses(settings, bases)


def _addresses(settings: Settings, bases: Mapping[str, str]) -> Addresses:
    if settings.database.url is not None:
        database = without_password(settings.database.url.get_secret_value())
    else:
        database = f"postgresql+psycopg://{USER}@{urlsplit(bases['database']).netloc}/{RECORD_DATABASE}"
    if settings.prefect.api_url is not None:
        prefect_api = settings.prefect.api_url.rstrip("/")
    else:
        prefect_api = f"{bases['prefect']}/api"
    return Addresses(
        web=bases["web"],
        prefect_api=prefect_api,
        prefect_ui=prefect_api.removesuffix("/api"),
        gateway=bases["gateway"],
        gateway_control=bases["gateway_control"],
        watch=bases["watch"],
        database=database,
        vector={
            target.name: target.url.rstrip("/") if target.url else bases[f"vector:{target.name}"]
            for target in settings.vector.targets
        },
    )


def _ports_of(addresses: Addresses) -> dict[str, int]:
    urls = {
        "web": addresses.web,
        "gateway": addresses.gateway,
        "gateway_control": addresses.gateway_control,
        "watch": addresses.watch,
        "database": addresses.database,
        "prefect": addresses.prefect_api,
        **{f"vector:{name}": url for name, url in addresses.vector.items()},
    }
    return {key: port for key, url in urls.items() if (port := urlsplit(url).port)}


def _reserve(held: ExitStack, listener: Listener, before: int, taken: Mapping[tuple[str, int], str]) -> int:
    if other := taken.get((listener.host, listener.port)):
        raise ConfigInvalid(
            f"{listener.setting} and {other} are both {listener.port}",
            hint="give each a port of its own in reanimate.toml",
        )
    for port in (listener.port,) if listener.port else (before, 0):
        try:
            return _bind(held, listener.host, port)
        except OSError as error:
            problem = error
    raise ConfigInvalid(
        f"port {listener.port} ({listener.setting}) cannot be used: {_why(listener.port, problem)}",
        hint=f"stop that, or set {listener.setting} to another port (0 picks a free one)",
    ) from None


def _bind(held: ExitStack, host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the parts do: old connections do not count
    listener.bind((host, port))
    chosen: int = listener.getsockname()[1]
    return chosen


def _reachable(host: str) -> str:
    """Return where to find what listens on `host`: every address includes loopback."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def port_problem(listener: Listener) -> str:
    """Return why a fixed port cannot be used now, or nothing."""
    if listener.port == 0:
        return ""
    with ExitStack() as held:
        try:
            _bind(held, listener.host, listener.port)
        except OSError as error:
            return _why(listener.port, error)
    return ""


def _why(port: int, error: OSError) -> str:
    holder = who_listens(port)
    return f"{error.strerror or error}{f', by {holder}' if holder else ''}"


def who_listens(port: int) -> str:
    """Return the program and pid that listen on `port`, as far as this user may see (Linux); else nothing."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return ""


def _listening_inodes(port: int) -> Iterator[str]:
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                yield f"socket:[{fields[9]}]"
