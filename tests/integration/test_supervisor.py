"""The supervisor, with real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reanimate.errors import Busy, ConfigInvalid, ServerFailed
from reanimate.supervisor.journal import PartState, SystemState, read_journal, summarize
from reanimate.supervisor.lock import HomeLock, holder
from reanimate.supervisor.part import Backoff, Job, ProcessSpec
from reanimate.supervisor.supervisor import Supervisor

SLEEP = ("sleep", "300")
STUBBORN = (sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)")
"""Does not end when asked."""
RUNAWAY = ("bash", "-c", "setsid sleep 300 & sleep 300")
"""Has a child in a session of its own, which a signal to the process group does not reach."""


async def _until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - other processes change it
            await asyncio.sleep(0.02)


def _wait_until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _alive_with(name: str, value: str) -> set[int]:
    """Return the pids of live processes (zombies are not) whose environment has `name` = `value`."""
    wanted, found = f"{name}={value}".encode(), set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (
                wanted in (entry / "environ").read_bytes().split(b"\0")
                and "\nState:\tZ" not in (entry / "status").read_text()
            ):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def _system(home: Path) -> SystemState:
    system = summarize(read_journal(home))
    assert system is not None
    return system


def _part(home: Path, name: str) -> PartState:
    return next(part for part in _system(home).parts if part.name == name)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home directory."""
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


async def test_start__goes_by_needs(home: Path) -> None:
    """A part starts only when what it needs is ready; a job and a command run to their end first."""
    order: list[str] = []

    async def job() -> None:
        order.append("the job itself")

    parts = (
        ProcessSpec("first", SLEEP),
        Job("job", job, needs=("first",)),
        ProcessSpec("command", ("true",), once=True, needs=("job",)),
        ProcessSpec("last", SLEEP, needs=("command",)),
    )
    supervisor = Supervisor(parts, home, on_change=lambda name, state: order.append(f"{name} {state}"))
    try:
        await supervisor.start()
    finally:
        await supervisor.stop()
    told = [line for line in order if not line.endswith(("waiting", "starting"))]
    assert told == [
        "first ready",
        "the job itself",
        "job done",
        "command done",
        "last ready",
        "last stopped",
        "first stopped",
    ]


async def test_ready__by_what_a_part_writes(home: Path) -> None:
    """A part that listens nowhere is ready when it says so, and not because an earlier run said so."""
    (home / "logs").mkdir()
    (home / "logs" / "part.log").write_text("here I am\n")
    spec = ProcessSpec("part", ("bash", "-c", "sleep 0.5; echo here I am; sleep 300"), ready_text="here I am")
    supervisor = Supervisor([spec], home)
    began = time.monotonic()
    try:
        await supervisor.start()
        assert time.monotonic() - began > 0.5
    finally:
        await supervisor.stop()


async def test_restart__is_recorded(home: Path) -> None:
    """A part that is killed comes back by itself, and the journal says how often and why."""
    supervisor = Supervisor([ProcessSpec("part", SLEEP)], home, backoff=Backoff(first_s=0.05))
    await supervisor.start()
    try:
        for restarts in (1, 2):
            pid = _part(home, "part").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await _until(
                lambda n=restarts: (p := _part(home, "part")).restarts == n and p.state == "ready"  # type: ignore[misc]
            )
            assert _part(home, "part").last_exit == "SIGKILL"
    finally:
        await supervisor.stop()
    assert _part(home, "part").state == "stopped"
    assert not _system(home).ready


async def test_start__gives_up_on_a_part_that_cannot(home: Path) -> None:
    """A part that dies three times before it was ever ready fails the start, in one line with its last words."""
    spec = ProcessSpec("broken", ("bash", "-c", "echo 'no such table: fish' >&2; exit 3"))
    supervisor = Supervisor([spec], home, backoff=Backoff(first_s=0.02))
    try:
        with pytest.raises(
            ServerFailed, match=r"broken ended 3 times .*exit 3.*: no such table: fish; see .*broken\.log"
        ):
            await supervisor.start()
    finally:
        await supervisor.stop()


async def test_stop__leaves_nothing(home: Path) -> None:
    """Parts that ignore the signal, and children in sessions of their own, are gone within ten seconds too."""
    tag = f"stop-{os.getpid()}-{time.monotonic_ns()}"
    env = {"TEST_TAG": tag}
    parts = (
        ProcessSpec("a", SLEEP, env=env),
        ProcessSpec("runaway", RUNAWAY, env=env, needs=("a",)),
        ProcessSpec("stubborn", STUBBORN, env=env, needs=("a",)),
    )
    supervisor = Supervisor(parts, home)
    await supervisor.start()
    await _until(lambda: len(_alive_with("TEST_TAG", tag)) >= 4)
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 10
    assert _alive_with("TEST_TAG", tag) == set()


@pytest.mark.timed
async def test_stop__asked_twice_does_not_wait(home: Path) -> None:
    """A second request to stop ends the wait for parts that take their time."""
    supervisor = Supervisor([ProcessSpec("stubborn", STUBBORN)], home)
    await supervisor.start()
    supervisor.request_stop()
    supervisor.request_stop()
    began = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - began < 2


async def test_stop__while_starting(home: Path) -> None:
    """A stop that comes while a part never gets ready ends the start at once."""
    supervisor = Supervisor([ProcessSpec("slow", SLEEP, health="tcp://127.0.0.1:1")], home)
    starting = asyncio.create_task(supervisor.start())
    await asyncio.sleep(0.3)
    supervisor.request_stop()
    await asyncio.wait_for(starting, 1)
    await supervisor.stop()
    assert _part(home, "slow").state == "stopped"


@pytest.mark.parametrize("victim", ["supervisor", "supervisor after its keeper"])
def test_sigkill__leaves_nothing(home: Path, victim: str) -> None:
    """Within ten seconds of a SIGKILL of the supervisor no process of its run is left, whoever tried to stay."""
    program = textwrap.dedent(f"""
        import asyncio, pathlib
        from reanimate.supervisor.part import ProcessSpec
        from reanimate.supervisor.supervisor import Supervisor

        async def main():
            supervisor = Supervisor([
                ProcessSpec("plain", ("sleep", "300")),
                ProcessSpec("runaway", {RUNAWAY!r}),
                ProcessSpec("stubborn", {STUBBORN!r}),
            ], pathlib.Path({str(home)!r}))
            await supervisor.start()
            print(supervisor._keeper.pid, flush=True)
            await supervisor.run()

        asyncio.run(main())
    """)
    tag = f"kill-{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "TEST_TAG": tag},
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        keeper = int(process.stdout.readline())
        _wait_until(lambda: len(_alive_with("TEST_TAG", tag)) >= 7)
        if victim != "supervisor":
            os.kill(keeper, signal.SIGKILL)
            _wait_until(lambda: any(entry["event"] == "keeper.restarted" for entry in read_journal(home)))
        process.kill()
        process.wait()
    _wait_until(lambda: not _alive_with("TEST_TAG", tag))


def test_lock__one_per_home(home: Path) -> None:
    """A second supervisor on the same home is refused in one line that names the first; the kernel frees the lock."""
    with HomeLock(home):
        assert holder(home) == os.getpid()
        with pytest.raises(Busy, match=rf"already running in {home} as pid {os.getpid()}; `reanimate down` stops it"):
            HomeLock(home).acquire()
    assert holder(home) is None
    HomeLock(home).acquire()


def test_lock__home_that_cannot_be_written() -> None:
    """A home where nothing can be written is one line that says what to do."""
    with pytest.raises(ConfigInvalid, match=r"cannot write in the home directory /proc/none: .*set REANIMATE_HOME"):
        HomeLock(Path("/proc/none")).acquire()
