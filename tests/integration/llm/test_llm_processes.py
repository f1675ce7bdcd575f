"""Several processes on one port: they obey, know and count as one gateway."""

import asyncio
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from llm_gateway import LlmGateway, llm_gateway_for, provider_toml, route_toml, write_settings
from vector_target import VectorTarget, running

from reanimate.demo.provider import Fault, Provider
from reanimate.demo.provider.behaviour import Behaviour

PROCESSES = 2


def pids(gateway: LlmGateway) -> list[int]:
    """Return the gateway's processes, the first one first."""
    first = gateway.process.pid
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return [first, *map(int, children)]


def _open_files(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):  # it has ended meanwhile
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found.add(str(file.readlink()))
    return found


def owner(gateway: LlmGateway, port: int) -> int | None:
    """Return the process that holds the connection which a client has at `port`."""
    own = f"{int(gateway.url.rpartition(':')[2]):04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{own}") and fields[2].endswith(f":{port:04X}"):
            for pid in pids(gateway):
                if f"socket:[{fields[9]}]" in _open_files(pid):
                    return pid
    return None


class Line:
    """One connection of a client, and the process that answers on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        self._reader, self._writer = reader, writer

    async def send(self, text: str, **fields: Any) -> None:
        body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": text}], **fields})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def ask(self, text: str = "Hello") -> tuple[int, str]:
        """Return the status and the id of the call."""
        await self.send(text)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        await self._reader.readexactly(int(length[1]))
        found = re.search(rb"x-reanimate-call: (\S+)", head)
        return int(head.split()[1]), found[1].decode() if found else ""

    async def rest(self) -> bytes:
        """Return all of a streamed answer."""
        return await self._reader.readuntil(b"0\r\n\r\n")

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def lines(gateway: LlmGateway) -> dict[int, Line]:
    """Return a connection to each process."""
    found: dict[int, Line] = {}
    for _ in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        port = writer.get_extra_info("sockname")[1]
        pid = None
        for _ in range(50):
            if (pid := owner(gateway, port)) is not None:
                break
            await asyncio.sleep(0.01)
        line = Line(reader, writer, pid or 0)
        if pid is None or pid in found:
            await line.close()
        else:
            found[pid] = line
        if len(found) == PROCESSES:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"connections to {list(found)} only, of {pids(gateway)}: {gateway.log}")


@pytest.fixture
async def gateway(tmp_path: Path, providers: tuple[Provider, Provider]) -> AsyncIterator[LlmGateway]:
    main, backup = providers
    write_settings(
        tmp_path,
        provider_toml("main", main.url),
        provider_toml("backup", backup.url),
        route_toml(targets=["main/model", "backup/model"], hedge=False, stale_s=0),
        gateway={"processes": PROCESSES},
    )
    async with llm_gateway_for(tmp_path) as running_gateway:
        yield running_gateway


@asynccontextmanager
async def connected(gateway: LlmGateway) -> AsyncIterator[tuple[Line, Line]]:
    """Connections to the first process and to the other one."""
    found = await lines(gateway)
    first = found.pop(gateway.process.pid)
    (other,) = found.values()
    try:
        yield first, other
    finally:
        await first.close()
        await other.close()


async def until(condition: Callable[[], Any], within_s: float = 8.0) -> None:
    deadline = time.monotonic() + within_s
    while not (await found if asyncio.iscoroutine(found := condition()) else found):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def asked(provider: Provider) -> int:
    """Return how many calls of callers a provider got; probes are none."""
    return sum(not call.headers.get("user-agent", "").startswith("reanimate-probe") for call in provider.calls)


def probes(provider: Provider) -> int:
    return len(provider.calls) - asked(provider)


@pytest.mark.parametrize("seen_by", ["first", "other"])
async def test_what_one_process_sees_all_know(
    gateway: LlmGateway, providers: tuple[Provider, Provider], seen_by: str
) -> None:
    """A provider dies, and only one process asks it. The other one never does; both come back when it is well."""
    main, backup = providers
    async with connected(gateway) as (first, other):
        sees, only_hears = (first, other) if seen_by == "first" else (other, first)
        main.fail(Fault("status", error="server_error"))
        for number in range(8):
            assert (await sees.ask(f"see {number}"))[0] == 200
        seen = asked(main)
        assert seen >= 2
        await asyncio.sleep(0.1)
        for number in range(20):
            assert (await only_hears.ask(f"hear {number}"))[0] == 200
        assert asked(main) == seen
        before = asked(backup)
        main.heal()

        async def is_back() -> bool:
            await only_hears.ask("back")
            await sees.ask("back")
            return (await gateway.figures())["llm"]["health"]["main/model"]["standing"] == "closed"

        await until(is_back)
        assert asked(backup) > before
        main.calls.clear()
        for line in (first, other):
            for number in range(5):
                assert (await line.ask(f"again {number}"))[0] == 200
        assert asked(main) == 10


async def test_probes_are_made_once(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    main, _ = providers
    async with connected(gateway) as (first, other):
        main.fail(Fault("status", error="server_error"))
        for number in range(8):
            await first.ask(f"a {number}")
            await other.ask(f"b {number}")
        begun = probes(main)
        await asyncio.sleep(2.0)
        # One process asks first after a quarter of a second, then ever more rarely, up to once a second.
        assert 1 <= probes(main) - begun <= 9


async def test_figures_add_up(gateway: LlmGateway) -> None:
    """Figures, metrics and look-ups are of all processes, up to this moment."""
    ids = []
    async with connected(gateway) as (first, other):
        for number in range(20):
            ids.append((await first.ask(f"a {number}"))[1])
            ids.append((await other.ask(f"b {number}"))[1])
        figures = (await gateway.figures())["llm"]
    assert figures["targets"]["main/model"]["attempts"] == {"answered": 40}, figures
    headers = {"Authorization": f"Bearer {gateway.key}"}
    for call_id in ids:
        async with gateway.http.get(f"{gateway.control}/calls/{call_id}", headers=headers) as answer:
            assert (answer.status, (await answer.json())["answered_by"]) == (200, "main/model")
    async with gateway.http.get(f"{gateway.control}/metrics") as answer:
        text = await answer.text()
    durations = re.search(r"gen_ai_server_request_duration_seconds_count\{[^}]*\} (\d+)", text)
    assert durations is not None
    assert int(durations[1]) == 40


async def test_a_killed_process_loses_only_its_own(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    main, _ = providers
    main.behaviour = Behaviour(tokens=60, token_ms=10)
    async with connected(gateway) as (first, other):
        await first.send("one", stream=True)
        await other.send("two", stream=True)
        await asyncio.sleep(0.2)
        os.kill(other.pid, signal.SIGKILL)
        whole = await first.rest()
        assert b"[DONE]" in whole
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await other.rest()
    main.behaviour = Behaviour()
    for number in range(10):
        assert (await gateway.chat(f"after {number}"))[0] == 200
    async with connected(gateway) as (_, successor):
        assert successor.pid != other.pid
        assert (await successor.ask())[0] == 200
    assert "ended (-9)" in gateway.log


async def test_a_new_process_is_told_how_things_are(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    main, _ = providers
    async with connected(gateway) as (first, other):
        main.fail(Fault("status", error="server_error"))
        for number in range(8):
            await first.ask(f"see {number}")
        await gateway.switch(1, ("llm_kill", "tenant:mallory", "kill"))
        os.kill(other.pid, signal.SIGKILL)
    async with connected(gateway) as (_, successor):
        seen = asked(main)
        for number in range(10):
            assert (await successor.ask(f"new {number}"))[0] == 200
        assert asked(main) == seen


async def test_switches_are_obeyed_by_all(gateway: LlmGateway) -> None:
    async with connected(gateway) as (first, other):
        await gateway.switch(1, ("llm_kill", "*", "kill"))
        assert (await first.ask())[0] == 403
        assert (await other.ask())[0] == 403
        await gateway.switch(2)
        assert (await first.ask())[0] == 200
        assert (await other.ask())[0] == 200


async def test_one_call_at_a_time_is_one_of_all(gateway: LlmGateway, providers: tuple[Provider, Provider]) -> None:
    """A bound below the number of processes is kept: the provider never has two calls at once, and all are answered."""
    main, _ = providers
    main.behaviour = Behaviour(think_ms=30)
    async with connected(gateway) as pair:
        await gateway.switch(1, ("llm_concurrency", "chat", 1))

        async def other_obeys() -> bool:
            return bool((await gateway.figures())["llm"]["policies"]["held"])

        await until(other_obeys)
        for line in pair:  # each has heard of the switch, and answers
            assert (await line.ask("first"))[0] == 200
        asked_at = len(main.calls)
        for _ in range(5):
            answers = await asyncio.gather(*(line.ask("at once") for line in pair))
            assert [status for status, _ in answers] == [200, 200]
        calls = sorted(list(main.calls)[asked_at:], key=lambda call: call.began)
        spans = [(call.began, call.began + call.ms / 1000) for call in calls if "at once" in str(call.body)]
    assert len(spans) == 10
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(spans)), spans


async def test_the_others_end_with_the_first(gateway: LlmGateway) -> None:
    async with connected(gateway) as (_, other):
        gateway.process.kill()
        await until(lambda: not Path(f"/proc/{other.pid}").exists())
        await asyncio.to_thread(gateway.process.wait, 5)


async def test_a_second_gateway_does_not_share_the_port(gateway: LlmGateway) -> None:
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reanimate.gateway", env={**os.environ, "REANIMATE_HOME": str(gateway.home)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await second.communicate()
    assert second.returncode == 1
    assert b"cannot listen" in said


async def test_acknowledged_writes_are_counted_once_each(tmp_path: Path) -> None:
    """The vector plane behind several processes: totals and figures are of all, and outlive the gateway."""
    async with running(VectorTarget("primary"), VectorTarget("replica")) as (primary, replica):
        write_settings(tmp_path, gateway={"processes": PROCESSES})
        gateway = LlmGateway(
            tmp_path, {target.name: target.url for target in (primary, replica)}, "http://127.0.0.1:9", {}
        )
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http:
            gateway.http = http
            await gateway.start()
            await until(lambda: len(pids(gateway)) == PROCESSES)
            await asyncio.sleep(1.5)
            for _ in range(40):
                assert (await gateway.upsert())[0] == 200
                assert (await gateway.query())[0] == 200
            figures = await gateway.figures()
            assert figures["totals"]["writes_acknowledged"] == {"kb": 40}, gateway.log
            assert figures["writes"]["acknowledged"] == 40
            assert figures["reads"]["answered"] == 40
            assert await gateway.stop() == 0
            assert "Traceback" not in gateway.log, gateway.log
            await gateway.start()
            assert (await gateway.figures())["totals"]["writes_acknowledged"] == {"kb": 40}
            assert await gateway.stop() == 0
            assert "Traceback" not in gateway.log, gateway.log
