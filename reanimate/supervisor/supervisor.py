"""The supervisor: starts parts in the order of their needs, restarts those that die, ends all within ten seconds."""

import asyncio
import contextlib
import os
import secrets
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reanimate.deathsig import die_with_parent
from reanimate.errors import Permanent, ReanimateError, ServerFailed
from reanimate.supervisor.health import healthy
from reanimate.supervisor.journal import Journal
from reanimate.supervisor.keeper import Keeper
from reanimate.supervisor.logs import PartLogs
from reanimate.supervisor.part import Backoff, Job, Part, ProcessSpec, check_needs, stop_waves
from reanimate.supervisor.strays import MARK, end_strays

__all__ = ["Supervisor"]

_FIRST_TRIES = 3
"""So often may a part die before it was ever ready; after that `up` gives up and says why."""
_STOP_WITHIN_S = 9.0
_STOP_ONE_S = 5.0
_ALIVE_IS_READY_S = 0.3

Listener = Callable[[str, str], None]


@dataclass
class _Running:
    """What the supervisor knows about one part."""

    part: Part
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: Process | None = None
    task: asyncio.Task[None] | None = None


class Supervisor:
    """Runs parts. Use it from the main thread: the kernel ends children with the thread that started them."""

    def __init__(
        self,
        parts: Sequence[Part],
        home: Path,
        *,
        backoff: Backoff | None = None,
        on_change: Listener = lambda name, state: None,
    ) -> None:
        """`on_change(name, state)` hears of every change, in the words of `PartState.state`."""
        check_needs(parts)
        self._running = {part.name: _Running(part) for part in parts}
        self._backoff = backoff or Backoff()
        self._on_change = on_change
        self._mark = secrets.token_hex(12)
        self._keeper = Keeper(home, self._mark)
        self._journal = Journal(home)
        self._logs = PartLogs(home)
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    def request_stop(self) -> None:
        """Ask `run` to end everything; asked a second time, it no longer waits for anybody."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stopping.is_set()

    async def start(self) -> None:
        """Start everything and return when every part is ready, or when a stop was requested.

        Raises:
            ServerFailed: a part could not be started; the message names it and its last words. Call `stop` then.
            ReanimateError: a job failed.
        """
        self._journal.write("system.starting", pid=os.getpid())
        self._keeper.start()
        for running in self._running.values():
            self._changed(running.part.name, "waiting")
            running.task = asyncio.create_task(self._run(running), name=running.part.name)
        tasks = [running.task for running in self._running.values() if running.task]
        all_ready = asyncio.create_task(self._all_ready())
        stopping = asyncio.create_task(_wait(self._stopping))
        watched: set[asyncio.Task[None]] = set(tasks)
        try:
            while not all_ready.done() and not stopping.done():
                done, _ = await asyncio.wait({all_ready, stopping, *watched}, return_when=asyncio.FIRST_COMPLETED)
                for task in done & watched:
                    watched.discard(task)
                    task.result()  # raises what the part failed with
        finally:
            all_ready.cancel()
            stopping.cancel()
        if not self._stopping.is_set():
            self._journal.write("system.ready")

    async def run(self) -> None:
        """Keep everything running until a stop is requested."""
        while not self._stopping.is_set():
            if self._keeper.ensure_alive():
                self._journal.write("keeper.restarted", pid=self._keeper.pid)
            try:
                async with asyncio.timeout(1.0):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """End every part, those that others need last; afterwards no process of this run is left."""
        self._stopping.set()
        deadline = time.monotonic() + _STOP_WITHIN_S
        waves = stop_waves([running.part for running in self._running.values()])
        for index, wave in enumerate(waves):
            left = deadline - time.monotonic() - 1.0 * (len(waves) - 1 - index)  # a second for each wave to come
            await self._stop_wave(wave, 0.0 if self._hurry.is_set() else max(0.5, min(_STOP_ONE_S, left)))
        for running in self._running.values():
            if running.task is not None:
                running.task.cancel()
        await asyncio.gather(*(r.task for r in self._running.values() if r.task), return_exceptions=True)
        end_strays(self._mark)
        self._keeper.dismiss()
        self._journal.write("system.stopped")

    async def _all_ready(self) -> None:
        for running in self._running.values():
            await running.ready.wait()

    async def _run(self, running: _Running) -> None:
        for need in running.part.needs:
            await self._running[need].ready.wait()
        if isinstance(running.part, Job):
            self._changed(running.part.name, "starting")
            await running.part.work()
            self._changed(running.part.name, "done")
            running.ready.set()
        else:
            await self._keep_running(running, running.part)

    async def _keep_running(self, running: _Running, spec: ProcessSpec) -> None:
        deaths = 0
        restart = False
        while not self._stopping.is_set():
            began = time.monotonic()
            end, good = await self._once(running, spec, restart=restart)
            if self._stopping.is_set():
                return
            if spec.once and good:
                self._changed(spec.name, "done")
                running.ready.set()
                return
            deaths = 1 if time.monotonic() - began >= self._backoff.good_after_s else deaths + 1
            self._changed(spec.name, "down", exit=end)
            if deaths >= _FIRST_TRIES and not running.ready.is_set():
                said = self._logs.last_words(spec.name)
                raise ServerFailed(
                    f"{spec.name} ended {deaths} times while starting ({end}): {said}",
                    hint=f"see {self._logs.file(spec.name)}",
                )
            await asyncio.sleep(self._backoff.delay_s(deaths))
            restart = True

    async def _once(self, running: _Running, spec: ProcessSpec, *, restart: bool) -> tuple[str, bool]:
        """Start the process, wait until it is ready, then until it ends; return how it ended and whether that is good.

        Raises:
            Permanent: it cannot be started as things are, and never was; later that is one more way to end.
        """
        try:
            if spec.before is not None:
                await asyncio.to_thread(spec.before)
            process = await self._spawn(spec)
        except (ReanimateError, OSError) as error:
            if isinstance(error, Permanent) and not running.ready.is_set():
                raise
            return str(error), False
        running.process = process
        self._changed(spec.name, "starting", pid=process.pid, restart=restart)
        ending = asyncio.create_task(process.wait())
        try:
            if not spec.once and await self._becomes_ready(spec, process, ending):
                running.ready.set()
                self._changed(spec.name, "ready", pid=process.pid)
            code = await ending
            return _exit_text(code), code == 0
        finally:
            ending.cancel()
            if process.returncode is not None:
                _signal_group(process.pid, signal.SIGKILL)  # what it left must not meet its successor
                self._keeper.forget(process.pid)

    async def _spawn(self, spec: ProcessSpec) -> asyncio.subprocess.Process:
        late = spec.late_env() if spec.late_env else {}
        environment = {**({} if spec.whole_env else os.environ), **spec.env, **late, MARK: self._mark}
        with self._logs.open(spec.name) as log:
            process = await asyncio.create_subprocess_exec(
                *spec.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=spec.cwd,
                start_new_session=True,
                preexec_fn=die_with_parent(spec.stop_signal),
                **spec.popen,
            )
        self._keeper.watch(process.pid, spec.stop_signal)
        if self._stopping.is_set():  # asked for while it was being spawned: the stop has not seen it
            _signal_group(process.pid, signal.SIGKILL)
        return process

    async def _becomes_ready(self, spec: ProcessSpec, process: Process, ending: asyncio.Task[int]) -> bool:
        """Wait until the part is ready; False when it ended first. One that should answer and never does is killed."""
        deadline, pause = time.monotonic() + spec.ready_within_s, 0.03
        if not spec.health and not spec.ready_text:
            await asyncio.wait({ending}, timeout=_ALIVE_IS_READY_S)
            return not ending.done()
        while not ending.done():
            if await self._is_ready(spec):
                return not ending.done()
            if time.monotonic() > deadline:
                self._journal.write("part.not_ready", spec.name, after_s=spec.ready_within_s)
                if not spec.health:
                    return True  # it lives, and what it waits for may be somebody else's
                _signal_group(process.pid, signal.SIGKILL)
                return False
            await asyncio.wait({ending}, timeout=pause)
            pause = min(pause * 1.5, 0.2)
        return False

    async def _is_ready(self, spec: ProcessSpec) -> bool:
        return await healthy(spec.health) if spec.health else self._logs.says(spec.name, spec.ready_text)

    async def _stop_wave(self, wave: Sequence[ProcessSpec], within_s: float) -> None:
        live = {spec: p for spec in wave if (p := self._running[spec.name].process) and p.returncode is None}
        if not live:
            return
        for spec, process in live.items():
            _signal_group(process.pid, spec.stop_signal)
        ended = [asyncio.create_task(process.wait()) for process in live.values()]
        all_ended = asyncio.create_task(_all(ended))
        hurry = asyncio.create_task(_wait(self._hurry))
        await asyncio.wait({all_ended, hurry}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        for process in live.values():
            _signal_group(process.pid, signal.SIGKILL)
        await all_ended
        for spec, process in live.items():
            self._changed(spec.name, "stopped", exit=_exit_text(process.returncode or 0))

    def _changed(self, name: str, state: str, **facts: object) -> None:
        event = {"starting": "part.started", "down": "part.died"}.get(state, f"part.{state}")
        self._journal.write(event, name, **facts)
        self._on_change(name, state)


def _exit_text(code: int) -> str:
    """Return an exit code in words: `exit 1`, or `SIGKILL`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or its number is another's now
        os.killpg(group, number)


async def _all(tasks: Sequence[asyncio.Task[int]]) -> None:
    await asyncio.gather(*tasks)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
