"""Findings about the servers we talk to: Prefect's and the vector targets."""

import secrets
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpx

from reanimate.clock import utcnow
from reanimate.config import VectorTarget
from reanimate.doctor.finding import Finding, clock_finding, fail, ok, warn
from reanimate.errors import ReanimateError, Refused
from reanimate.vector.held import held_copies
from reanimate.vector.peers import find_peers
from reanimate.vector.server import VectorServer

__all__ = ["prefect_findings", "target_findings"]

_OLDEST_QDRANT = (1, 10)
"""The first with shard snapshots and universal query as they are used here."""
_OLD_COPY_S = 3 * 86400


async def prefect_findings(api: str, http: httpx.AsyncClient) -> AsyncIterator[Finding]:
    """Yield findings about the Prefect API at `api`."""
    try:
        ready = await http.get(f"{api}/ready")
        told = await http.get(f"{api}/admin/version")
    except httpx.HTTPError as error:
        yield fail("prefect", f"{api} does not answer: {error}", "see logs/prefect.log, or check prefect.api_url")
        return
    if ready.status_code != 200:
        yield fail("prefect", f"{api}/ready answers {ready.status_code}", "see whether its own database answers")
        return
    ours = version("prefect")
    theirs = str(told.json()) if told.status_code == 200 else "unknown"
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        yield ok("prefect", f"ready, version {theirs}")
    else:
        yield warn("prefect", f"the server is {theirs}, the client {ours}", "bring both to the same minor version")
    if (skew := _skew(ready)) is not None:
        yield clock_finding("prefect", skew)


async def target_findings(target: VectorTarget, url: str, http: httpx.AsyncClient) -> AsyncIterator[Finding]:
    """Yield findings about one vector target: reachable, version, whether our key may read and manage, clock."""
    about = f"vector {target.name}"
    key = target.api_key.get_secret_value() if target.api_key else None
    server = VectorServer(target.name, url, key, http, target.peers)
    try:
        identity = await server.version()
    except ReanimateError as error:
        yield fail(about, str(error), "see whether it runs, and check its url")
        return
    if _numbers(identity.version) < _OLDEST_QDRANT:
        yield fail(about, f"version {identity.version}", f"use {'.'.join(map(str, _OLDEST_QDRANT))} or newer")
    else:
        yield ok(about, f"reachable, {identity.title or 'Qdrant'} {identity.version}")
    if target.role == "offline":
        yield await _copies(about, server)
    else:
        yield await _rights(about, server)
        if (peers := await _peers(about, server)) is not None:
            yield peers
    try:
        skew = _skew(await http.get(f"{url}/healthz"))
    except httpx.HTTPError:
        skew = None  # that it is reachable was said above
    if skew is not None:
        yield clock_finding(f"target {target.name}", skew)


async def _peers(about: str, server: VectorServer) -> Finding | None:
    """Say whether every peer of a cluster can be reached by its own URL; nothing of a single server."""
    about = f"{about} peers"
    try:
        peers = await find_peers(server)
    except ReanimateError as error:
        return fail(about, str(error), "see `peers` of this target: each peer's own URL, never a balancer's")
    if not peers.distributed:
        return None
    if peers.silent:
        return warn(about, f"no answer at {', '.join(peers.silent)}", "see whether these peers run")
    if peers.without_url:
        missing = ", ".join(peers.named(peer) for peer in peers.without_url)
        return warn(about, f"no URL leads to {missing}", "shards that only they hold cannot be backed up: set `peers`")
    return ok(about, f"{len(peers.servers)} peers, each at its own URL")


async def _rights(about: str, server: VectorServer) -> Finding:
    """Say what our key may do. Deleting a collection that does not exist changes nothing and needs every right."""
    about = f"{about} rights"
    try:
        names = await server.collections()
    except ReanimateError as error:
        return fail(about, str(error), f"set the api_key of target {server.name}")
    try:
        await server.delete_collection(f"reanimate-doctor-{secrets.token_hex(8)}")
    except Refused as error:
        to_do = "backups and restores need a key with all rights, not a read-only one"
        return fail(about, f"reads {len(names)} collections, may not manage: {error}", to_do)
    except ReanimateError as error:
        return fail(about, str(error), "see the server's log")
    return ok(about, f"may read ({len(names)} collections) and manage")


async def _copies(about: str, server: VectorServer) -> Finding:
    """Say what an offline standby holds; nobody but its refresher may write to it, so that is not tried."""
    try:
        serving = [copy for copy in await held_copies(server) if copy.serves]
    except ReanimateError as error:
        return fail(f"{about} copies", str(error), "an offline standby is one of ours, started with --offline")
    if not serving:
        return ok(f"{about} copies", "none yet; the first proven backup is loaded by itself")
    oldest = max(copy.age_s or 0 for copy in serving)
    found = f"{len(serving)} collections, the oldest from {oldest / 3600:.1f} h ago"
    if oldest > _OLD_COPY_S:
        return warn(f"{about} copies", found, "`reanimate offline refresh` loads the newest proven backups")
    return ok(f"{about} copies", found)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _skew(answer: httpx.Response) -> float | None:
    """Return how far ahead of ours the clock of who answered is, in seconds, by its Date header."""
    try:
        return (parsedate_to_datetime(answer.headers["date"]) - utcnow()).total_seconds()
    except (KeyError, ValueError):
        return None
