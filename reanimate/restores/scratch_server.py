"""A standby server of one's own for a while: somewhere to load a backup into without touching any server."""

import asyncio
import os
import re
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from reanimate.backups.scratch import scratch_folder
from reanimate.deathsig import die_with_parent
from reanimate.errors import ServerFailed
from reanimate.vector.server import VectorServer

__all__ = ["scratch_server"]

_START_S = 60.0
_STOP_S = 10.0
_LISTENS = re.compile(rb"listens on (http://[^,\s]+)")


@asynccontextmanager
async def scratch_server(parent: Path, http: httpx.AsyncClient, what: str = "scratch") -> AsyncIterator[VectorServer]:
    """Start a standby server with an empty folder below `parent`, and end and remove both afterwards.

    It dies with this process, and its folder goes at the next time if this process is killed.

    Raises:
        ServerFailed: it did not start.
        ConfigInvalid: the folder cannot be made.
    """
    async with scratch_folder(parent, what) as folder:
        key = secrets.token_urlsafe(24)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "reanimate.standby", "--name", what, "--port", "0", "--data", str(folder / "data")),
            env={**os.environ, "REANIMATE_STANDBY_API_KEY": key},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        assert process.stderr is not None  # it was asked for
        drain: asyncio.Task[None] | None = None
        try:
            url = await _address(process.stderr)
            drain = asyncio.create_task(_drain(process.stderr))
            yield VectorServer(what, url, key, http)
        finally:
            await _end(process)
            if drain is not None:
                drain.cancel()
                with suppress(asyncio.CancelledError):
                    await drain


async def _address(said: asyncio.StreamReader) -> str:
    """Wait until it says where it listens; its socket is open by then."""
    lines: list[str] = []
    try:
        async with asyncio.timeout(_START_S):
            async for line in said:
                if found := _LISTENS.search(line):
                    return found[1].decode()
                lines.append(line.decode(errors="replace").strip())
    except TimeoutError:
        raise ServerFailed(f"a scratch server did not start within {_START_S:.0f} s") from None
    raise ServerFailed(f"a scratch server did not start: {' '.join(lines[-3:]) or 'it said nothing'}")


async def _drain(said: asyncio.StreamReader) -> None:
    """Read what it says, so that it never waits for somebody to."""
    while await said.read(1 << 16):
        pass


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
