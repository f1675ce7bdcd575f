"""Findings about what restores have left on the vector servers."""

from collections.abc import AsyncIterator

from sqlalchemy.exc import SQLAlchemyError

from reanimate.bootstrap import open_services
from reanimate.config import Settings
from reanimate.doctor.finding import Finding, ok, warn
from reanimate.errors import ReanimateError
from reanimate.protection.clearing import leftovers

__all__ = ["leftover_findings"]


async def leftover_findings(settings: Settings) -> AsyncIterator[Finding]:
    """Yield what killed restores have left on each primary and replica; nothing where the record or a server is away:
    that is told elsewhere."""
    async with open_services(settings) as services:
        for target in settings.vector.targets:
            if target.role not in ("primary", "replica"):
                continue
            try:
                found = await leftovers(services, target.name)
            except (ReanimateError, SQLAlchemyError, OSError):
                continue
            if not found:
                yield ok(f"restores on {target.name}", "have left nothing behind")
            for one in found:
                how = f"reanimate restore sweep --target {target.name}"
                to_do = f"`{how}` removes it" if one.removable else f"if it is nobody's, `{how} --name {one.name}`"
                yield warn(f"collection {one.name}", f"nothing points at it: {one.why}", to_do)
