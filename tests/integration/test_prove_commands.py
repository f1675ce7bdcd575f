"""`reanimate prove` and `reanimate offline` as processes: back up, prove, and have the offline standby serve it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from qdrant_servers import KEY, NOWHERE, CleanServer, fill

from reanimate.secrets import Secrets


class Commands:
    """Runs commands on a home directory of the test's own."""

    def __init__(self, home: Path, primary: str, offline: str, database: str) -> None:
        self.home = home
        replace(NOWHERE, vector={"primary": primary, "offline": offline}).save(home)
        targets = [{"name": "primary", "role": "primary", "api_key": KEY}]
        self.environment = {
            **os.environ,
            "REANIMATE_HOME": str(home),
            "DATABASE_URL": database,
            "REANIMATE_VECTOR__TARGETS": json.dumps(targets),
        }

    async def __call__(self, group: str, *arguments: str, code: int = 0) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", f"from reanimate.commands.{group} import app; app()", *arguments),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == code, f"{out.decode()}\n{err.decode()}"
        return (out + err).decode() if "--json" not in arguments else out.decode()

    async def json(self, group: str, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self(group, *arguments, "--json", code=code))


@asynccontextmanager
async def offline_part(home: Path, port: int) -> AsyncIterator[str]:
    """Run the offline standby as `reanimate up` runs it."""
    environment = {**os.environ, "REANIMATE_STANDBY_CONTROL_KEY": Secrets.load_or_create(home).control_key}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.standby", "--name", "offline", "--offline"),
        *("--port", str(port), "--data", str(home / "offline" / "offline")),
        env=environment,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            for _ in range(200):
                try:
                    await http.get(f"{url}/readyz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def command(
    tmp_path: Path, vector_urls: list[str], postgres_url: str, free_port: Callable[[], int]
) -> AsyncIterator[Commands]:
    async with offline_part(tmp_path, free_port()) as url:
        yield Commands(tmp_path, vector_urls[0], url, postgres_url)


async def test_commands__back_up_prove_and_serve_offline(
    primary: CleanServer, command: Commands, postgres_url: str
) -> None:
    """What is due is proven, on record and beside the backup; the offline standby has it; what is damaged fails."""
    alias = primary.name("alias")
    await fill(primary.server, primary.name(), 200, alias=alias)
    assert "holds nothing yet" in await command("offline", "status")
    first = (await command.json("backup", "run", alias))["id"]
    assert "no backup" in await command("offline", "refresh", code=1)
    (due,) = await command.json("prove", "--due", "--dry-run")
    assert (due["backup_id"], due["why"]) == (first, "never proven")
    (proof,) = await command.json("prove", "--due")
    assert (proof["outcome"], proof["backup_id"], proof["target"]) == ("passed", first, "own")
    assert all(check["passed"] for check in proof["checks"])
    assert await command.json("prove", "--due", "--dry-run") == []
    (standby,) = await command.json("offline", "status")
    (copy,) = standby["copies"]
    assert (copy["backup_id"], sorted(copy["aliases"]), copy["points"]) == (first, sorted([alias, primary.name()]), 200)
    assert first in await command("offline", "status")
    assert "was there already" in await command("offline", "refresh", alias)
    # The next backup is spoiled in the repository: its proof fails, and the copy of the one before goes on serving.
    second = (await command.json("backup", "run", alias))["id"]
    (part,) = [path for path in (command.home / "blobs").rglob("shard-0.snapshot*") if second in str(path)]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(bytes(content))
    said = await command("prove", alias, code=1)
    assert f"{second} is not right" in said
    (standby,) = await command.json("offline", "status")
    assert [copy["backup_id"] for copy in standby["copies"]] == [first]
    assert "refused" in await command("offline", "refresh", "--backup", second, code=1)
    assert (await command.json("restore", "plan", "--collection", alias))["backup_id"] == first
    with psycopg.connect(postgres_url.replace("+psycopg", "", 1)) as connection:
        rows = connection.execute(
            "SELECT backup_id, state, took_s > 0, error FROM proofs ORDER BY started_at"
        ).fetchall()
    assert rows == [(first, "passed", True, None), (second, "failed", True, None)]


async def test_commands__a_database_is_proven_too(command: Commands, postgres_url: str) -> None:
    """A dump is restored on a server of its own and compared; what is kept of it says so as for a collection."""
    taken = await command.json("postgres_backup", "run", "record")
    (backup,) = taken if isinstance(taken, list) else [taken]
    (proof,) = await command.json("prove", "record")
    assert (proof["outcome"], proof["kind"], proof["backup_id"]) == ("passed", "postgres", backup["id"])
    assert await command.json("prove", "--due", "--dry-run") == []
