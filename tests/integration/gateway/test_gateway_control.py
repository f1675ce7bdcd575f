"""Keys, the control port, and the gateway as a process."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gateway_process import Gateway, gateway_for
from vector_target import VectorTarget, running

from reanimate.clock import utcnow


async def test_keys__each_target_gets_its_own(tmp_path: Path) -> None:
    """One configured key, or none, opens both targets; a guessed one opens neither."""
    settings = '[[vector.targets]]\nname = "{0}"\nrole = "{0}"\napi_key = "key-of-{0}"\n'
    (tmp_path / "reanimate.toml").write_text(settings.format("primary") + settings.format("replica"))
    primary = VectorTarget("primary", api_key="key-of-primary")
    replica = VectorTarget("replica", api_key="key-of-replica")
    async with running(primary, replica), gateway_for(tmp_path, primary, replica) as gateway:
        assert (await gateway.query())[0] == 200
        assert (await gateway.query(headers={"api-key": "guess"}))[0] == 401
        await primary.stop()
        _, body, _ = await gateway.query(headers={"authorization": "Bearer key-of-primary"})
        assert body["result"]["served_by"] == "replica"
        await primary.start()
        await gateway.until("primary", "up")
        assert "key-of" not in gateway.log


async def test_control__shows_what_is_obeyed_to_the_holder_of_the_key(gateway: Gateway) -> None:
    """Figures and metrics are open, switches are not; nonsense is told."""
    await gateway.switch(2, ("read_share", "primary/kb", 50))
    async with gateway.http.get(f"{gateway.control}/switches") as answer:
        assert answer.status == 401
    async with gateway.http.get(
        f"{gateway.control}/switches", headers={"authorization": f"Bearer {gateway.key}"}
    ) as answer:
        shown = await answer.json()
    assert (shown["seq"], shown["switches"]) == (
        2, [{"switch": "read_share", "scope": "primary/kb", "value": 50}],
    )  # fmt: skip
    async with gateway.http.get(f"{gateway.control}/metrics") as answer:
        assert "reanimate_gateway_switches_seq 2" in await answer.text()
    for path, status in (("/figures?since=yesterday", 400), ("/figures?since=2026-01-01T00:00:00", 400), ("/", 404)):
        async with gateway.http.get(gateway.control + path) as answer:
            assert answer.status == status
    since = utcnow()
    await asyncio.sleep(1.1)
    await gateway.query()
    assert (await gateway.figures(since))["reads"]["asked"] == 1


@pytest.mark.timed
async def test_process__ends_within_seconds_and_finishes_what_is_underway(
    gateway: Gateway, primary: VectorTarget
) -> None:
    """SIGTERM: a read underway is answered, a hanging one is cut, and the exit code is 0."""
    primary.fault, primary.faulty, primary.slow_s = "slow", "/points", 0.6
    underway = asyncio.create_task(gateway.query())
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert await gateway.stop() == 0
    assert time.monotonic() - began < 5
    assert (await underway)[0] == 200


async def test_process__needs_nothing_but_itself(tmp_path: Path) -> None:
    """Neither the record nor the orchestrator is imported; a taken port is one clear line."""
    code = (
        "import sys, reanimate.gateway.__main__; "
        "print([m for m in ('sqlalchemy', 'psycopg', 'prefect', 'fastapi', 'httpx') if m in sys.modules])"
    )
    result = await asyncio.to_thread(subprocess.run, (sys.executable, "-c", code), capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"
    target = VectorTarget("primary")
    async with (
        running(target, VectorTarget("replica")) as (primary, replica),
        gateway_for(tmp_path, primary, replica) as gateway,
    ):
        environment = {**os.environ, "REANIMATE_HOME": str(gateway.home)}
        second = await asyncio.to_thread(
            subprocess.run, (sys.executable, "-m", "reanimate.gateway"), env=environment, capture_output=True
        )
        assert second.returncode == 1
        assert second.stderr.decode().startswith("error: the gateway cannot listen on 127.0.0.1:")
        assert second.stderr.count(b"\n") == 1
