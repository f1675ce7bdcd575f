"""The standby as a process: how it starts, what it says of itself, how it ends."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from points import dense_points, make_collection, upsert
from qdrant_server import StandbyProcess

Start = Callable[..., StandbyProcess]

pytestmark = pytest.mark.usefixtures("standby_only")


def _failed_start(process: StandbyProcess, data: str, port: str) -> str:
    command = [sys.executable, "-m", "reanimate.standby", "--port", port, "--data", str(process.directory / data)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    return lines[0]


def test_port_in_use__is_one_line(start_standby: Start) -> None:
    """A port that is taken ends the start with one line that says so."""
    process = start_standby()
    port = process.url.rsplit(":", 1)[1]
    assert f"cannot listen on 127.0.0.1:{port}" in _failed_start(process, "other", port)


def test_data_in_use__is_one_line(start_standby: Start) -> None:
    """Two servers never share a data directory."""
    assert "is in use by another standby server" in _failed_start(start_standby(), "data", "0")


async def test_sigterm__ends_cleanly(start_standby: Start) -> None:
    """SIGTERM ends the server with code 0 and everything flushed; it starts again with all points."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "kept")
        await upsert(client, path, dense_points(30))
    assert process.stop() == 0
    process.start()
    async with process.server.client() as client:
        assert (await client.get(path)).json()["result"]["points_count"] == 30


async def test_welcome__says_what_it_is(start_standby: Start) -> None:
    """Nobody takes it for a real server: the title, the name and the engine are said; the version is the API's."""
    process = start_standby()
    async with process.server.client() as client:
        said = (await client.get("/")).json()
    assert said["title"] == "reanimate standby - Qdrant-compatible server"
    assert said["version"] == "1.18.3"
    assert said["standby"]["name"] == "contract"
    assert said["standby"]["engine"].startswith("qdrant-edge-py ")


async def test_what_it_does_not_do__is_named(start_standby: Start) -> None:
    """What a real server does and this one does not is answered 501 with its name, never with a wrong answer."""
    process = start_standby()
    async with process.server.client() as client:
        path = await make_collection(client, "named")
        for method, route, body, name in (
            ("POST", "/snapshots", None, "snapshots of the whole storage"),
            ("PUT", f"{path}/shards", {"shard_key": "de"}, "custom sharding"),
            ("POST", f"{path}/points/query/groups", {}, "grouped queries"),
            ("PUT", "/collections/custom", {"sharding_method": "custom"}, "custom sharding"),
            ("POST", f"{path}/points/query", {"query": {"text": "x", "model": "m"}}, "inference of vectors"),
        ):
            answer = await client.request(method, route, json=body)
            assert answer.status_code == 501, f"{route}: {answer.text}"
            start = f"Not implemented by the reanimate standby server: {name}"
            assert answer.json()["status"]["error"].startswith(start)
