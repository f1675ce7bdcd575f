"""A server of our own for a moment: the standby engine, with its data in a folder that is thrown away."""

import asyncio
import os
import re
import secrets
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from reanimate.deathsig import die_with_parent
from reanimate.errors import ServerFailed
from reanimate.vector.server import VectorServer

__all__ = ["own_server"]

_LISTENS = re.compile(rb"listens on (http://\S+?),")
_READY_S = 30.0
_STOP_S = 5.0
_LAST_WORDS = 5


@asynccontextmanager
async def own_server(
    name: str, folder: Path, http: httpx.AsyncClient, *arguments: str, port: int = 0
) -> AsyncIterator[VectorServer]:
    """Run a standby server with its data in `folder` for the block, and give a client that may do everything.

    It ends with this process, however that ends.

    Raises:
        ServerFailed: it does not start; the message has its last words.
    """
    key = secrets.token_urlsafe(18)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reanimate.standby", "--name", name, "--port", str(port), "--data", str(folder)),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGKILL),
        env={**os.environ, "REANIMATE_STANDBY_API_KEY": key, "REANIMATE_STANDBY_CONTROL_KEY": key},
    )
    said: deque[bytes] = deque(maxlen=_LAST_WORDS)
    reading: asyncio.Task[None] | None = None
    try:
        url = await _address(name, process, said)
        reading = asyncio.create_task(_listen(process, said))
        yield VectorServer(name, url, key, http, reads_files=True)
    finally:
        await _end(process)
        if reading is not None:
            await reading


async def _address(name: str, process: asyncio.subprocess.Process, said: deque[bytes]) -> str:
    """Return the URL that it says it listens on; what is sent there before it is ready waits in the socket."""
    assert process.stderr is not None  # asked for above
    try:
        async with asyncio.timeout(_READY_S):
            while line := await process.stderr.readline():
                said.append(line)
                if found := _LISTENS.search(line):
                    return found[1].decode()
    except TimeoutError:
        pass  # told below
    words = b"".join(said).decode(errors="replace").strip() or "it said nothing"
    raise ServerFailed(f"starting the standby engine as server {name!r}: it does not listen: {words[-500:]}")


async def _listen(process: asyncio.subprocess.Process, said: deque[bytes]) -> None:
    """Take what it writes, so that it never waits for somebody to read."""
    assert process.stderr is not None  # asked for above
    while line := await process.stderr.readline():
        said.append(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
