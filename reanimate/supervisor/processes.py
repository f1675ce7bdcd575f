"""What `reanimate up` runs: the table of parts, and where each stands in the order."""

import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from reanimate.addresses import Addresses
from reanimate.config import Settings, VectorTarget
from reanimate.db.embedded import EmbeddedPostgres
from reanimate.db.url import prefect_url
from reanimate.orchestrator.environment import client_environment
from reanimate.secrets import Secrets
from reanimate.supervisor.databases import Databases
from reanimate.supervisor.part import Job, Part, ProcessSpec

__all__ = ["embedded_postgres", "system_parts"]

_PROJECT = Path(__file__).resolve().parents[2]
"""Where `flows`, `tasks` and `deployments` lie beside the library."""

_SKIP_MIGRATION = {"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}


def embedded_postgres(settings: Settings, addresses: Addresses, secrets: Secrets) -> EmbeddedPostgres | None:
    """Return our own database server, or None when somebody's DATABASE_URL is used."""
    if settings.database.url is not None:
        return None
    port = int(addresses.database.rsplit(":", 1)[1].split("/")[0])
    return EmbeddedPostgres(settings.home / "postgres", port, secrets.postgres_password, settings.database.pg_bin)


def system_parts(settings: Settings, addresses: Addresses, secrets: Secrets) -> list[Part]:
    """Return every part, in an order in which what is needed comes first."""
    databases = Databases(settings, addresses, secrets)
    server = embedded_postgres(settings, addresses, secrets)
    own_prefect = settings.prefect.api_url is None
    after_postgres = ("postgres",) if server else ()
    prefect = ("prefect",) if own_prefect else ()
    client = client_environment(settings, addresses)
    parts: list[Part] = []
    if server is not None:
        parts.append(_postgres(server, addresses))
    parts.append(Job("databases", databases.create, needs=after_postgres))
    parts.append(Job("record", databases.migrate, needs=("databases",)))
    for target in settings.vector.serving:
        if target.url is None:
            parts.append(_standby(target, addresses.vector[target.name], settings.home))
    parts.append(
        _module("gateway", "reanimate.gateway", health=f"{addresses.gateway_control}/healthz", url=addresses.gateway)
    )
    parts.append(
        _module("web", "reanimate.web", needs=("record",), health=f"{addresses.web}/healthz", url=addresses.web)
    )
    if own_prefect:
        parts.append(_prefect_server(settings, addresses, secrets, databases))
    parts.append(_module("provision", "deployments.provision", needs=("record", *prefect), env=client, once=True))
    if own_prefect:
        parts.append(Job("prefect noted", databases.note_prefect, needs=("prefect", "provision")))
    parts.append(_responder(client))
    parts.append(_module("watch", "reanimate.watch", needs=("web", "gateway"), health=f"{addresses.watch}/healthz"))
    for target in settings.vector.offline_standbys:
        if target.url is None:
            parts.append(_offline_standby(target, addresses.vector[target.name], settings.home, secrets))
    if settings.prefect.worker:
        parts.append(_worker(settings, client))
    return parts


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _module(
    name: str,
    module: str,
    *,
    needs: tuple[str, ...] = (),
    health: str = "",
    url: str = "",
    env: dict[str, str] | None = None,
    once: bool = False,
    arguments: tuple[str, ...] = (),
) -> ProcessSpec:
    return ProcessSpec(
        name,
        _python("-m", module, *arguments),
        needs=needs,
        health=health,
        url=url,
        env=env or {},
        cwd=_PROJECT,
        once=once,
    )


def _postgres(server: EmbeddedPostgres, addresses: Addresses) -> ProcessSpec:
    launch = server.launch()

    def clear() -> None:
        server.stop_orphan()  # the lock is ours, so whoever runs on this directory was left by a kill
        server.prepare()

    return ProcessSpec(
        "postgres",
        launch.argv,
        health=server.url("postgres"),
        url=addresses.database,
        env=launch.environment,
        whole_env=True,
        popen=launch.run_as.popen,
        cwd=Path("/"),
        before=clear,
        stop_signal=launch.stop_signal,
    )


def _standby(target: VectorTarget, url: str, home: Path) -> ProcessSpec:
    place = urlsplit(url)
    where = ("--host", str(place.hostname), "--port", str(place.port), "--data", str(home / "vector" / target.name))
    return _module(
        f"vector-{target.name}",
        "reanimate.standby",
        arguments=("--name", target.name, *where),
        env={"REANIMATE_STANDBY_API_KEY": target.api_key.get_secret_value()} if target.api_key else {},
        health=f"{url}/readyz",
        url=url,
    )


def _offline_standby(target: VectorTarget, url: str, home: Path, secrets: Secrets) -> ProcessSpec:
    """Return the standby for when no other server is left. It opens its copies only when they are asked for."""
    place = urlsplit(url)
    where = ("--host", str(place.hostname), "--port", str(place.port), "--data", str(home / "offline" / target.name))
    keys = {"REANIMATE_STANDBY_CONTROL_KEY": secrets.control_key}
    if target.api_key:
        keys["REANIMATE_STANDBY_API_KEY"] = target.api_key.get_secret_value()
    return _module(
        f"vector-{target.name}",
        "reanimate.standby",
        needs=("gateway",),
        arguments=("--name", target.name, "--offline", *where),
        env=keys,
        health=f"{url}/readyz",
        url=url,
    )


def _prefect_server(settings: Settings, addresses: Addresses, secrets: Secrets, databases: Databases) -> ProcessSpec:
    port = addresses.prefect_ui.rsplit(":", 1)[1]
    env = {
        **client_environment(settings, addresses),
        "PREFECT_API_DATABASE_CONNECTION_URL": prefect_url(settings, addresses, secrets),
        "PREFECT_SERVER_API_PORT": port,
        "PREFECT_SERVER_UI_API_URL": "/api",  # else the pages ask port 4200, whatever the server's own is
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    }

    def when_migrated() -> dict[str, str]:
        return _SKIP_MIGRATION if databases.prefect_is_migrated else {}

    return ProcessSpec(
        "prefect",
        _python("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port),
        needs=("databases",),
        health=f"{addresses.prefect_api}/ready",
        url=addresses.prefect_ui,
        env=env,
        late_env=when_migrated,
        ready_within_s=120.0,
    )


def _responder(client: dict[str, str]) -> ProcessSpec:
    # With somebody else's Prefect away it has no runs to claim, and incidents are met without: not worth a minute.
    spec = _module("responder", "deployments.responder", needs=("provision",), env=client)
    return replace(spec, ready_text="claims runs of", ready_within_s=20.0)


def _worker(settings: Settings, client: dict[str, str]) -> ProcessSpec:
    pool = settings.prefect.pool
    return ProcessSpec(
        "worker",
        _python("-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", "fallback"),
        needs=("responder",),  # it is the fallback: not in the way of what is waited for
        env={**client, "PREFECT_WORKER_QUERY_SECONDS": "5"},
        cwd=_PROJECT,
    )
