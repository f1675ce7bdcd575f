"""A bound on calls at a time is kept over all processes of a gateway, also where it is below their number."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from policy_calls import a_call

from reanimate.gateway.llm.policies.gate import Gate
from reanimate.gateway.llm.policies.places import Places
from reanimate.gateway.llm.underway import Underway
from reanimate.switches.document import Claim


class Crew:
    """Gates as several processes have them: locks on files hold between any two that opened them."""

    def __init__(self, folder: Path, processes: int, bound: int) -> None:
        self.places = [Places(folder, processes) for _ in range(processes)]
        self.gates = [
            Gate(Underway(), wait_s=30.0, waiting=1000, processes=processes, places=places) for places in self.places
        ]
        self.bound(bound)
        self.now = self.most = self.done = 0

    def bound(self, bound: int | None) -> None:
        for gate in self.gates:
            gate.obey([Claim("llm_concurrency", "chat", bound)] if bound else [])

    async def call(self, gate: Gate, seconds: float = 0.0) -> None:
        call = a_call("chat")
        call.deadline = asyncio.get_running_loop().time() + 60
        await gate.enter(call)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.now -= 1
            self.done += 1
            gate.leave(call)

    def close(self) -> None:
        for places in self.places:
            places.close()


@pytest.mark.parametrize(("processes", "bound"), [(2, 1), (4, 1), (4, 3), (2, 5), (3, 7), (2, 4)])
async def test_places__the_bound_is_kept_over_all_and_used_up(tmp_path: Path, processes: int, bound: int) -> None:
    """Never more are in than the bound, at some time as many, and nobody is left out."""
    crew = Crew(tmp_path, processes, bound)
    calls = [asyncio.create_task(crew.call(gate, 0.03)) for gate in crew.gates for _ in range(6)]
    await asyncio.gather(*calls)
    assert (crew.most, crew.done) == (bound, 6 * processes)
    crew.close()


async def test_places__no_process_keeps_the_only_one_to_itself(tmp_path: Path) -> None:
    """One of two processes has callers without end; the other one's call comes in nevertheless."""
    crew = Crew(tmp_path, 2, 1)
    busy, other = crew.gates
    crowd = [asyncio.create_task(crew.call(busy, 0.01)) for _ in range(500)]
    await asyncio.sleep(0)
    await crew.call(other)
    assert crew.done < 250
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert crew.most == 1
    await asyncio.gather(*(crew.call(gate) for gate in crew.gates))
    crew.close()


async def test_places__changed_and_lifted_while_calls_are_in(tmp_path: Path) -> None:
    """Doubled, as rules do, and lifted: what is held is given back, and counted right afterwards."""
    crew = Crew(tmp_path, 2, 1)
    first = [asyncio.create_task(crew.call(gate, 0.1)) for gate in crew.gates for _ in range(4)]
    await asyncio.sleep(0.02)
    assert crew.now == 1
    crew.bound(4)
    await asyncio.sleep(0)
    await asyncio.gather(*first)
    assert crew.most <= 5, "who is in stays in, and four may come in"
    crew.bound(None)
    many = [asyncio.create_task(crew.call(gate, 0.05)) for gate in crew.gates for _ in range(10)]
    await asyncio.gather(*many)
    assert crew.most == 20
    crew.bound(1)
    crew.most = 0
    await asyncio.gather(*(crew.call(gate, 0.01) for gate in crew.gates for _ in range(3)))
    assert crew.most == 1
    crew.close()


async def test_places__of_a_process_that_dies_are_free(tmp_path: Path) -> None:
    held = (
        "import sys, time; from pathlib import Path; from reanimate.gateway.llm.policies.places import Places\n"
        f"print(Places(Path({str(tmp_path)!r}), 2).take('chat', 1, []), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE) as process:  # noqa: ASYNC220
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"0\n"
        crew = Crew(tmp_path, 2, 1)
        waiting = asyncio.create_task(crew.call(crew.gates[0]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        process.kill()
        await waiting
        crew.close()


async def test_places__without_files_each_has_its_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that cannot be used stops nobody: each process has one place at least, and it is told."""
    (tmp_path / "file").write_bytes(b"")
    crew = Crew(tmp_path / "file" / "places", 3, 1)
    await asyncio.gather(*(crew.call(gate, 0.01) for gate in crew.gates))
    assert (crew.most, crew.done) == (3, 3)
    assert "do not share places" in caplog.text
