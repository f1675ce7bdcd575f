"""What the demo does to its own system."""

import asyncio
from datetime import datetime
from pathlib import Path

from reanimate.bootstrap import Services
from reanimate.clock import utcnow
from reanimate.commands.output import err
from reanimate.demo.loading import ALIAS
from reanimate.demo.local_providers import LocalProviders
from reanimate.demo.system import kill_and_lose_disk

__all__ = ["SilencedProvider", "delete_collection", "kill_primary"]

_SILENT_S = 3.0
_TURNS_AWAY_S = 3.0


async def kill_primary(home: Path) -> datetime:
    killed_at = await asyncio.to_thread(kill_and_lose_disk, home, "primary")
    err.print("[red]SIGKILL[/] to the primary, and its data directory is removed")
    return killed_at


async def delete_collection(services: Services) -> datetime:
    """Delete the collection that the alias points at, behind the gateway's back."""
    primary = services.vector("primary")
    collection = (await primary.aliases())[ALIAS]
    deleted_at = utcnow()
    answer = await services.http.delete(f"{primary.url}/collections/{collection}")
    answer.raise_for_status()
    err.print(f"[red]DELETE[/] /collections/{collection} on the primary")
    return deleted_at


class SilencedProvider:
    """The main LLM provider falls silent, answers underway included; then it turns everybody away; then it is well."""

    def __init__(self, providers: LocalProviders) -> None:
        self._providers = providers
        self._course: asyncio.Task[None] | None = None

    async def begin(self) -> datetime:
        """Silence it; what follows takes its course."""
        await self._providers.fail("main", [{"kind": "hang", "running": True}])
        silent_at = utcnow()
        err.print("[red]silence[/] from the main LLM provider: it accepts every call and answers none")
        self._course = asyncio.create_task(self._take_its_course())
        return silent_at

    async def _take_its_course(self) -> None:
        await asyncio.sleep(_SILENT_S)
        limit = {"kind": "status", "error": "rate_limit", "headers": {"retry-after": "1"}}
        await self._providers.fail("main", [limit])
        err.print("[red]429[/] from the main LLM provider to every call")
        await asyncio.sleep(_TURNS_AWAY_S)
        await self._providers.fail("main", [])
        err.print("[green]the main LLM provider is well again[/]")

    async def over(self) -> None:
        """Wait until it is well again."""
        if self._course is not None:
            await self._course
