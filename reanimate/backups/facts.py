"""What a snapshot holds, read from the snapshot itself by the engine, in a process of its own that may die."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from reanimate.backups.manifest import GoldenQuery, Sentinel
from reanimate.deathsig import die_with_parent
from reanimate.errors import Busy, Damaged

__all__ = ["FactsReader", "SnapshotFacts", "facts_reader", "read_facts"]


class SnapshotFacts(BaseModel):
    """Exact count, hash over the ids, sentinels and golden queries of one snapshot, all shards together."""

    count: int
    ids_sha256: str
    sentinels: list[Sentinel]
    golden: list[GoldenQuery]
    index_recall: float | None
    """What share of the golden queries' hits the snapshot's own index finds; None without any."""


@dataclass(frozen=True)
class _Ended:
    code: int
    out: bytes
    err: bytes


class FactsReader:
    """The process that reads a snapshot back. It waits, ready, until it is asked, which can be done once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def read(
        self,
        shards: dict[int, Path],
        scratch: Path,
        *,
        config: dict[str, Any],
        salt: str,
        sentinels: int,
        golden: int,
        timeout_s: float,
    ) -> SnapshotFacts:
        """Have it unpack the shard files into `scratch`, load them and read the facts; see `read_facts`."""
        asked = {
            "shards": {str(shard_id): str(path) for shard_id, path in shards.items()},
            "scratch": str(scratch),
            "config": config,
            "salt": salt,
            "sentinels": sentinels,
            "golden": golden,
        }
        ended = await self._ask(json.dumps(asked).encode(), timeout_s)
        if ended.code != 0:
            raise Damaged(
                f"reading the snapshot back: {_cause(ended)}", hint="the snapshot is not used; take another one"
            )
        try:
            return SnapshotFacts.model_validate_json(ended.out)
        except ValidationError as error:
            raise Damaged(
                f"reading the snapshot back: the reader's answer cannot be read: {error.errors()[0]['msg']}"
            ) from None

    async def _ask(self, asked: bytes, timeout_s: float) -> _Ended:
        try:
            out, err = await asyncio.wait_for(self._process.communicate(asked), timeout_s)
        except TimeoutError:
            raise Busy(
                f"reading the snapshot back: not done after {timeout_s:.0f} s", hint="is the machine overloaded?"
            ) from None
        return _Ended(self._process.returncode or 0, out, err)


@asynccontextmanager
async def facts_reader() -> AsyncIterator[FactsReader]:
    """Start a reader, whose loading of the engine then costs no time when there is a snapshot; end it afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "reanimate.backups.reader",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent(signal.SIGKILL),
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "RUST_BACKTRACE": "0"},
    )
    try:
        yield FactsReader(process)
    finally:
        if process.returncode is None:
            process.kill()
        # Also what nobody asked: its pipes are closed, so that nothing of it is left in the loop.
        await process.communicate()


async def read_facts(
    shards: dict[int, Path],
    scratch: Path,
    *,
    config: dict[str, Any],
    salt: str,
    sentinels: int,
    golden: int,
    timeout_s: float,
) -> SnapshotFacts:
    """Unpack the shard files into `scratch`, load them in another process and read the facts.

    The engine can abort its process on damaged data, and it changes what it loads: hence another process and a copy.
    `salt` decides which points become sentinels, so that each backup looks at other ones.

    Raises:
        Damaged: the engine could not read the snapshot, or died of it.
        Busy: not done after `timeout_s` seconds.
    """
    async with facts_reader() as reader:
        return await reader.read(
            shards, scratch, config=config, salt=salt, sentinels=sentinels, golden=golden, timeout_s=timeout_s
        )


def _cause(ended: _Ended) -> str:
    """Say in one line what the reader died of."""
    last = ended.err.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    if ended.code < 0:
        return f"the engine died of {signal.Signals(-ended.code).name}: {last[0][:300]}"
    return last[0][:500]
