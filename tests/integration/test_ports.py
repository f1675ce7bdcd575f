"""Ports are decided before anything is started."""

import os
import socket
from collections.abc import Iterator

import pytest

from reanimate.addresses import Addresses
from reanimate.config import (
    DatabaseSettings,
    GatewaySettings,
    PrefectSettings,
    Settings,
    VectorSettings,
    VectorTarget,
    WatchSettings,
    WebSettings,
)
from reanimate.errors import ConfigInvalid
from reanimate.supervisor.ports import Listener, port_problem, resolve_addresses, who_listens


def _settings(web_port: int = 0, control_port: int = 0) -> Settings:
    return Settings(
        database=DatabaseSettings(port=0),
        prefect=PrefectSettings(port=0),
        web=WebSettings(port=web_port),
        gateway=GatewaySettings(host="0.0.0.0", port=0, control_port=control_port),
        watch=WatchSettings(port=0),
        vector=VectorSettings(
            targets=(
                VectorTarget(name="primary", role="primary", url="http://qdrant.example:6333/"),
                VectorTarget(name="replica", role="replica"),
            )
        ),
    )


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_free_ports__are_all_different() -> None:
    """Port 0 picks a free one, never one twice; what somebody else runs keeps its URL."""
    addresses = resolve_addresses(_settings())
    urls = [addresses.web, addresses.prefect_ui, addresses.gateway, addresses.gateway_control, addresses.watch]
    urls += [addresses.vector["replica"], addresses.database.replace("/reanimate", "")]
    assert len({url.rsplit(":", 1)[1] for url in urls}) == len(urls)
    assert addresses.vector["primary"] == "http://qdrant.example:6333"
    assert addresses.gateway.startswith("http://127.0.0.1:"), "every address includes loopback"
    assert addresses.prefect_api == f"{addresses.prefect_ui}/api"


def test_free_ports__stay_over_a_restart() -> None:
    """A picked port is picked again when it is still free, so that a restarted system is found where it was."""
    first = resolve_addresses(_settings())
    assert resolve_addresses(_settings(), previous=first) == first


def test_taken_port__names_port_setting_and_who(taken: int) -> None:
    """A taken port is one line: which, by which setting, who has it, what to do."""
    who = rf"by \S+ \(pid {os.getpid()}\)"
    message = rf"port {taken} \(web\.port\) cannot be used: Address already in use, {who}; .*set web\.port"
    with pytest.raises(ConfigInvalid, match=message):
        resolve_addresses(_settings(web_port=taken))
    assert f"pid {os.getpid()}" in who_listens(taken)
    assert "already in use" in port_problem(Listener("web.port", "127.0.0.1", taken))


def test_one_port_for_two__is_refused(taken: int) -> None:
    """Two settings with the same port are told apart from a port that a stranger has."""
    free = int(resolve_addresses(_settings()).web.rsplit(":", 1)[1])
    settings = _settings(web_port=free)
    clash = settings.model_copy(update={"watch": WatchSettings(port=free)})
    with pytest.raises(ConfigInvalid, match=rf"watch\.port and web\.port are both {free}"):
        resolve_addresses(clash)


def test_external_database__has_no_password_in_addresses() -> None:
    """What is written to addresses.json says where the database is, and never how to get in."""
    settings = _settings().model_copy(
        update={"database": DatabaseSettings(url="postgresql://me:secret@db.example:6000/mine?sslmode=require")}  # type: ignore[arg-type]
    )
    addresses: Addresses = resolve_addresses(settings)
    assert addresses.database == "postgresql+psycopg://me@db.example:6000/mine"
