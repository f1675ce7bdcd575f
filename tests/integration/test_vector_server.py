"""The client against a real server: calls, errors in our words, snapshots and transfers that are cut."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from faulty_proxy import Fault, proxied
from qdrant_servers import KEY, CleanServer, fill, points, server_at

from reanimate.backups.comparison import count_points
from reanimate.backups.hashing import point_hash
from reanimate.backups.manifest import GoldenHit, GoldenQuery, LiveCounts, Sentinel, Server, VectorManifest
from reanimate.backups.probe import probe_data
from reanimate.clock import utcnow
from reanimate.errors import Damaged, NotFound, Refused, ServerFailed, Unreachable
from reanimate.vector.layout import survey
from reanimate.vector.probes import probe_liveness
from reanimate.vector.server import VectorServer
from reanimate.vector.snapshots import (
    ShardSnapshot,
    create_shard_snapshot,
    delete_shard_snapshot,
    list_shard_snapshots,
)
from reanimate.vector.transfers import TransferLimits, download_shard_snapshot, upload_shard_snapshot

QUICK = TransferLimits(attempts=4, stall_s=1.0, first_wait_s=0.01, apply_s=60.0)


async def test_collection__made_described_and_deleted(primary: CleanServer) -> None:
    """The thin calls do what they say, through an alias as well."""
    server, name, alias = primary.server, primary.name(), primary.name("alias")
    await fill(server, name, 30, alias=alias)
    assert name in await server.collections()
    assert alias not in await server.collections()
    assert (await server.aliases())[alias] == name
    assert await server.exact_count(alias) == 30
    assert (await survey(server, name)).shard_ids == [0]
    assert (await server.info(alias))["payload_schema"]["year"]["data_type"] == "integer"
    assert [point["id"] for point in await server.retrieve(alias, [1, 2, 999])] == [1, 2]
    page = await server.scroll(name, limit=10)
    assert len(page["points"]) == 10
    assert page["next_page_offset"] == 10
    assert await server.exists(alias)
    await server.delete_collection(name)
    assert not await server.exists(name)
    await server.delete_collection(name)


async def test_alias__is_not_deleted_as_a_collection(primary: CleanServer) -> None:
    """A server says 200 to that and deletes nothing; here it is an error."""
    await fill(primary.server, primary.name(), 3, alias=primary.name("alias"))
    with pytest.raises(Refused, match="is an alias"):
        await primary.server.delete_collection(primary.name("alias"))


@pytest.mark.parametrize("suffix", ["ü b", "a%2Fb", "a&b+c", "名前"])
async def test_collection__with_an_odd_name(primary: CleanServer, suffix: str) -> None:
    """Names are escaped in paths, so that any that the server takes works."""
    name = primary.name(suffix)
    await primary.server.create_collection(name, {"vectors": {"size": 2, "distance": "Dot"}})
    assert await primary.server.exact_count(name) == 0
    snapshot = await create_shard_snapshot(primary.server, name, 0, timeout_s=60)
    assert [found.name for found in await list_shard_snapshots(primary.server, name, 0)] == [snapshot.name]
    await delete_shard_snapshot(primary.server, name, 0, snapshot.name)
    assert await list_shard_snapshots(primary.server, name, 0) == []


async def test_errors__say_operation_server_and_reason(primary: CleanServer) -> None:
    """Missing is NotFound, a conflict is Refused, each naming what was attempted and the server's own words."""
    server, name = primary.server, primary.name()
    with pytest.raises(NotFound, match=rf"reading the description of '{name}' on primary.*doesn't exist"):
        await server.info(name)
    await fill(server, name, 1)
    with pytest.raises(Refused, match="already exists"):
        await server.create_collection(name, {"vectors": {"size": 2, "distance": "Dot"}})
    with pytest.raises(NotFound):
        await create_shard_snapshot(server, name, 7, timeout_s=60)


@pytest.mark.skipif(not KEY, reason="the server at QDRANT_URL asks for no key")
async def test_errors__a_wrong_key_is_refused_with_a_hint(
    vector_urls: list[str], vector_http: httpx.AsyncClient
) -> None:
    """401 comes as plain text; it is said that the key is the trouble, and the key itself is not."""
    server = VectorServer("primary", vector_urls[0], "not-the-key", vector_http)
    with pytest.raises(Refused, match="check the API key") as caught:
        await server.collections()
    assert "not-the-key" not in str(caught.value)


async def test_errors__by_kind(vector_urls: list[str], vector_http: httpx.AsyncClient) -> None:
    """A cut and a stall are Unreachable, a 5xx is ServerFailed; all may be retried."""
    async with proxied(vector_urls[0]) as proxy:
        server = server_at(proxy.url, vector_http)
        proxy.faults = [Fault("status", "GET", "/aliases", status=503)]
        with pytest.raises(ServerFailed, match=r"HTTP 503.*on purpose"):
            await server.aliases()
        proxy.faults = [Fault("cut answer", "GET", "/aliases", after=3)]
        with pytest.raises(Unreachable, match="listing aliases on primary"):
            await server.aliases()
        await server.aliases()


async def test_liveness__says_in_which_way_it_fails(
    vector_urls: list[str], vector_http: httpx.AsyncClient, free_port: Callable[[], int]
) -> None:
    """Up, refused, timed out and broken are told apart."""
    alive = await probe_liveness(server_at(vector_urls[0], vector_http), 2.0)
    assert alive.ok
    assert alive.version
    refused = await probe_liveness(server_at(f"http://127.0.0.1:{free_port()}", vector_http), 1.0)
    assert (refused.ok, refused.kind) == (False, "refused")
    nowhere = await probe_liveness(server_at("http://no-such-host.invalid", vector_http), 1.0)
    assert (nowhere.ok, nowhere.kind) == (False, "unreachable")
    async with proxied(vector_urls[0]) as proxy:
        server = server_at(proxy.url, vector_http)
        proxy.faults = [Fault("swallow answer", "GET", "/"), Fault("status", "GET", "/", status=500)]
        assert (await probe_liveness(server, 0.3)).kind == "timeout"
        assert (await probe_liveness(server, 0.3)).kind == "http"
        assert (await probe_liveness(server, 2.0)).ok


async def test_snapshot__two_in_one_second_get_two_names(primary: CleanServer) -> None:
    """A server names snapshots by the second and would hand out one name twice."""
    await fill(primary.server, primary.name(), 20)
    made = [await create_shard_snapshot(primary.server, primary.name(), 0, timeout_s=60) for _ in range(2)]
    assert len({snapshot.name for snapshot in made}) == 2
    assert all(snapshot.checksum for snapshot in made)
    for snapshot in made:
        await delete_shard_snapshot(primary.server, primary.name(), 0, snapshot.name)
        await delete_shard_snapshot(primary.server, primary.name(), 0, snapshot.name)


async def test_snapshot__that_the_client_gave_up_on_is_adopted(
    primary: CleanServer, vector_urls: list[str], vector_http: httpx.AsyncClient
) -> None:
    """After a time-out the server goes on; what then appears is taken instead of being made twice."""
    await fill(primary.server, primary.name(), 20)
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [Fault("swallow answer", "POST", "/snapshots")]
        server = server_at(proxy.url, vector_http)
        adopted = await create_shard_snapshot(server, primary.name(), 0, timeout_s=1.0, adopt_s=10)
        assert proxy.asked("POST", "/snapshots") == 1
    assert [adopted] == await list_shard_snapshots(primary.server, primary.name(), 0)


async def test_snapshot__that_never_came_is_unreachable(
    primary: CleanServer, vector_urls: list[str], vector_http: httpx.AsyncClient
) -> None:
    """When nothing appears within the time given, the time-out is the answer, with what to look for."""
    await fill(primary.server, primary.name(), 20)
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [Fault("cut request", "POST", "/snapshots")]
        with pytest.raises(Unreachable, match="no new snapshot appeared"):
            await create_shard_snapshot(
                server_at(proxy.url, vector_http), primary.name(), 0, timeout_s=1.0, adopt_s=0.6
            )


async def _snapshot(primary: CleanServer, tmp_path: Path, count: int = 3000) -> tuple[ShardSnapshot, Path, str]:
    """Make a collection of some size, and return its snapshot, a good download and its SHA-256."""
    await fill(primary.server, primary.name(), count)
    snapshot = await create_shard_snapshot(primary.server, primary.name(), 0, timeout_s=60)
    file = tmp_path / "good"
    received = await download_shard_snapshot(primary.server, primary.name(), 0, snapshot, file)
    assert received.resumed == 0
    return snapshot, file, received.sha256


async def test_download__resumes_after_cuts_and_stalls(
    primary: CleanServer, vector_urls: list[str], vector_http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Each cut is mended from where it happened; in the end every byte is the same."""
    snapshot, good, sha256 = await _snapshot(primary, tmp_path)
    third = snapshot.size // 3
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [
            Fault("cut answer", "GET", ".snapshot", after=third),
            Fault("stall answer", "GET", ".snapshot", after=third),
            Fault("status", "GET", ".snapshot", status=502),
        ]
        into = tmp_path / "resumed"
        told: list[tuple[int, int]] = []
        received = await download_shard_snapshot(
            server_at(proxy.url, vector_http), primary.name(), 0, snapshot, into, QUICK, lambda *at: told.append(at)
        )
        ranges = [header for _, path, header in proxy.seen if ".snapshot" in path]
    assert received.resumed == 3
    assert ranges[0] == ""
    assert all(header.startswith("bytes=") for header in ranges[1:])
    assert into.read_bytes() == good.read_bytes()
    assert (received.sha256, received.size) == (sha256, snapshot.size)
    assert told[-1] == (snapshot.size, snapshot.size)
    assert snapshot.checksum in (None, sha256)


async def test_download__gives_up_after_its_attempts(
    primary: CleanServer, vector_urls: list[str], vector_http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """A server that cuts each time is Unreachable in the end, with how far it got."""
    snapshot, _, _ = await _snapshot(primary, tmp_path, 100)
    async with proxied(vector_urls[0]) as proxy:
        proxy.faults = [Fault("cut answer", "GET", ".snapshot", after=1000, times=99)]
        with pytest.raises(Unreachable, match=r"cut after \d+ bytes"):
            await download_shard_snapshot(
                server_at(proxy.url, vector_http), primary.name(), 0, snapshot, tmp_path / "x", QUICK
            )
        assert proxy.asked("GET", ".snapshot") == QUICK.attempts


async def test_download__of_other_bytes_is_damaged(primary: CleanServer, tmp_path: Path) -> None:
    """Size and SHA-256 are held against what the server said when it made the snapshot."""
    snapshot, _, sha256 = await _snapshot(primary, tmp_path, 100)
    for other in (
        ShardSnapshot(snapshot.name, snapshot.size - 1, None),
        ShardSnapshot(snapshot.name, snapshot.size, "0" * 64),
    ):
        with pytest.raises(Damaged):
            await download_shard_snapshot(primary.server, primary.name(), 0, other, tmp_path / "x", QUICK)
    unknown = ShardSnapshot(snapshot.name, snapshot.size, None)
    received = await download_shard_snapshot(primary.server, primary.name(), 0, unknown, tmp_path / "x")
    assert received.sha256 == sha256
    gone = ShardSnapshot("nope.snapshot", 10, None)
    with pytest.raises(NotFound):
        await download_shard_snapshot(primary.server, primary.name(), 0, gone, tmp_path / "x", QUICK)


async def test_upload__fills_a_shard_and_reports_progress(primary: CleanServer, tmp_path: Path) -> None:
    """What was downloaded goes into a new collection, with its points and indexes."""
    _, good, sha256 = await _snapshot(primary, tmp_path, 500)
    copy = primary.name("copy")
    await primary.server.create_collection(copy, {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 1})
    told: list[tuple[int, int]] = []
    await upload_shard_snapshot(primary.server, copy, 0, good, sha256, QUICK, lambda *at: told.append(at))
    assert told[-1] == (good.stat().st_size, good.stat().st_size)
    assert await primary.server.exact_count(copy) == 500
    assert (await primary.server.info(copy))["payload_schema"].keys() == {"lang", "year"}
    assert await list_shard_snapshots(primary.server, copy, 0) == []


async def test_upload__that_fails_is_said_in_our_words(
    primary: CleanServer, vector_urls: list[str], vector_http: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Another checksum is refused; garbage, a cut and a stall are failures of server or transport."""
    _, good, sha256 = await _snapshot(primary, tmp_path, 500)
    copy = primary.name("copy")
    await primary.server.create_collection(copy, {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": 1})
    with pytest.raises(Refused, match="Checksum mismatch"):
        await upload_shard_snapshot(primary.server, copy, 0, good, "0" * 64, QUICK)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no tar" * 1000)
    digest = hashlib.sha256(garbage.read_bytes()).hexdigest()
    with pytest.raises((ServerFailed, Refused)):
        await upload_shard_snapshot(primary.server, copy, 0, garbage, digest, QUICK)
    async with proxied(vector_urls[0]) as proxy:
        server = server_at(proxy.url, vector_http)
        proxy.faults = [Fault("cut request", "POST", "/upload", after=10_000)]
        with pytest.raises(Unreachable):
            await upload_shard_snapshot(server, copy, 0, good, sha256, QUICK)
        proxy.faults = [Fault("swallow answer", "POST", "/upload")]
        with pytest.raises(Unreachable, match="no answer in time"):
            await upload_shard_snapshot(
                server, copy, 0, good, sha256, TransferLimits(attempts=1, stall_s=1.0, apply_s=0.5)
            )
    with pytest.raises(NotFound):
        await upload_shard_snapshot(primary.server, primary.name("none"), 0, good, sha256, QUICK)


async def test_strict_mode__does_not_stop_counting(primary: CleanServer) -> None:
    """Where exact counting is forbidden the count is taken as the server gives it, and said not to be exact."""
    name = primary.name()
    config = {"vectors": {"size": 2, "distance": "Dot"}}
    strict = {"strict_mode_config": {"enabled": True, "search_allow_exact": False, "max_query_limit": 5}}
    await primary.server.create_collection(name, {**config, **strict})
    await primary.server.upsert(name, [{"id": 1, "vector": [1.0, 0.5], "payload": {}}])
    try:
        await primary.server.exact_count(name)
    except Refused:
        assert await count_points(primary.server, name) == (1, False)
    else:
        assert await count_points(primary.server, name) == (1, True)


def _manifest(name: str, alias: str, config: dict[str, object], hashes: dict[int, str]) -> VectorManifest:
    return VectorManifest(
        id="x",
        collection=name,
        asked_as=alias,
        aliases=[alias],
        target="primary",
        server=Server(title="", version="1.18.3"),
        tool_version="0",
        taken_at=utcnow(),
        config=config,
        payload_schema={"lang": {"data_type": "keyword"}},
        exact_count=100,
        live=LiveCounts(before=100, after=100),
        parts=[],
        sentinels=[Sentinel(id=point, sha256=sha256) for point, sha256 in hashes.items()],
        golden=[],
    )


async def test_probe_data__sees_what_was_lost(primary: CleanServer) -> None:
    """Whole, thinned out, emptied, rewritten, without alias, gone: each is told apart."""
    server, name, alias = primary.server, primary.name(), primary.name("alias")
    await fill(server, name, 100, alias=alias)
    known = await server.retrieve(name, range(0, 100, 5))
    hashes = {point["id"]: point_hash(point["id"], point["vector"], point["payload"]) for point in known}
    info = await server.info(name)
    first = known[0]
    golden = GoldenQuery(
        using="", point=first["id"], vector=first["vector"], limit=10, hits=[GoldenHit(id=first["id"], score=1.0)]
    )
    manifest = _manifest(name, alias, info["config"], hashes).model_copy(update={"golden": [golden]})

    async def failing() -> set[str]:
        report = await probe_data(server, manifest, 0.9)
        assert report.ok is all(finding.ok for finding in report.findings)
        return {finding.check for finding in report.findings if not finding.ok}

    assert await failing() == set()
    await server.upsert(name, points(0, 5))  # a normal write: points 0 to 4 are new ones now
    assert await failing() == set()
    await server.upsert(name, points(1000, 1100))
    assert await failing() == set()
    await server.upsert(name, [{**point, "vector": [0.5] * 16} for point in points(0, 100)])
    assert await failing() == {"sentinels"}
    await server.update_aliases([{"delete_alias": {"alias_name": alias}}])
    assert await failing() == {"collection"}
    await server.delete_collection(name)
    await server.create_collection(name, {"vectors": {"size": 16, "distance": "Dot"}})
    await server.update_aliases([{"create_alias": {"collection_name": name, "alias_name": alias}}])
    assert await failing() == {"vectors", "payload_schema", "count"}


async def test_probe_data__does_not_judge_a_silent_server(
    primary: CleanServer, vector_http: httpx.AsyncClient, free_port: Callable[[], int]
) -> None:
    """No answer is not a loss: it is raised, for liveness to judge."""
    server = server_at(f"http://127.0.0.1:{free_port()}", vector_http)
    with pytest.raises(Unreachable):
        await asyncio.wait_for(probe_data(server, _manifest("kb", "a", {}, {}), 0.9), 5)
