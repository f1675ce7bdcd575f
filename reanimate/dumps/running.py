"""Run a Postgres program: its password in its environment, its last words kept, ended when we end or are cancelled."""

import asyncio
import os
import re
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from reanimate.deathsig import die_with_parent
from reanimate.dumps.login import Login
from reanimate.errors import Busy, ConfigInvalid, ReanimateError, Refused, ServerFailed, Unreachable

__all__ = ["Sink", "run_program", "together"]

Sink = Callable[[bytes], Awaitable[None]]

_CHUNK = 1 << 20
_LAST_WORDS = 200

_MEANINGS: tuple[tuple[str, type[ReanimateError], str], ...] = (
    (r"lock timeout|statement timeout|could not obtain lock", Busy, "somebody changes a table; try again"),
    (r"connection to server .* failed|closed the connection|terminating connection|no connection to the server|"
     r"server closed|connection refused", Unreachable, "see whether the server runs"),
    (r"permission denied|must be owner|must be superuser|row-level security", Refused, "give this user the right"),
    (r"No space left on device", ConfigInvalid, "make room"),
)  # fmt: skip


async def together(*work: Coroutine[Any, Any, Any]) -> None:
    """Do all at once; the first that fails ends the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def run_program(
    argv: Sequence[str],
    login: Login | None = None,
    *,
    about: str,
    sink: Sink | None = None,
    forgive: Callable[[Sequence[str]], bool] | None = None,
) -> None:
    """Run a program to its end; its standard output goes to `sink`.

    It is killed when this is cancelled, and by the kernel when this process ends however it ends. A failure that
    `forgive` says yes to, by the last lines of its standard error, is none.

    Raises:
        Busy, Unreachable, Refused, ConfigInvalid, ServerFailed: it failed; the message has its last words.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if sink else asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(login.environment if login else {"LC_ALL": "C"})},
            limit=4 * _CHUNK,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
    except OSError as error:
        raise ConfigInvalid(f"{about}: {argv[0]} does not start: {error}", hint="set database.pg_bin") from error
    lines: deque[str] = deque(maxlen=_LAST_WORDS)
    try:
        await together(_collect(process, lines), *([_drain(process, sink)] if sink else []))
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if code != 0 and not (forgive and forgive(lines)):
        raise _failed(about, code, list(lines))


async def _collect(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        lines.append(line.decode(errors="replace").rstrip())


async def _drain(process: asyncio.subprocess.Process, sink: Sink) -> None:
    assert process.stdout is not None
    while chunk := await process.stdout.read(_CHUNK):
        await sink(chunk)


def _failed(about: str, code: int, lines: list[str]) -> ReanimateError:
    told = [line for line in lines if "error:" in line or "fatal:" in line] or lines
    words = " / ".join(line.split("error:", 1)[-1].strip() for line in told[:3]) or "nothing"
    ended = f"was ended by signal {-code}" if code < 0 else "failed"
    for pattern, kind, hint in _MEANINGS:
        if re.search(pattern, " ".join(lines)):
            return kind(f"{about} {ended}: {words}", hint=hint)
    return ServerFailed(f"{about} {ended}: {words}")
