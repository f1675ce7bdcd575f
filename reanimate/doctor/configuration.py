"""Findings about configuration: whether it is kept, how well, and whether secrets lie in a repository in the clear."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from reanimate.backups.repositories import open_repositories
from reanimate.clock import utcnow
from reanimate.config import Settings
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.versions import ConfigManifest, Version
from reanimate.doctor.finding import Finding, fail, ok, warn
from reanimate.errors import ReanimateError

__all__ = ["configuration_findings", "plain_secrets"]

_LATE = timedelta(minutes=20)
"""The schedule is every five minutes."""
_SHOWN = 3


async def configuration_findings(settings: Settings, *, running: bool) -> list[Finding]:
    """Return findings about the config history; nothing is kept by looking."""
    if not settings.home.exists():
        return []
    try:
        repositories = await asyncio.to_thread(open_repositories, settings)
        history = ConfigHistory.of(settings, next(iter(repositories.values())).catalog)
        manifests = await history.manifests()
    except ReanimateError as error:
        return [fail("configuration", str(error), error.hint or "check [backups]")]
    return [*_kept(settings, history, manifests, utcnow(), running=running), *_secrets(manifests)]


def _kept(
    settings: Settings, history: ConfigHistory, manifests: list[ConfigManifest], now: datetime, *, running: bool
) -> Iterator[Finding]:
    if not settings.configuration.files:
        yield warn(
            "configuration", "no files are named", "name the agent's in [configuration] files: a wrong change is undone"
        )
    last = history.last_keeping()
    if last is None:
        if running:
            yield warn(
                "configuration", "nothing was kept yet", "run `reanimate config keep`, or the flow `keep-config`"
            )
        return
    at, problems = last
    minutes = (now - at).total_seconds() / 60
    found = f"looked over {minutes:.0f} min ago, {len(manifests[0].versions) if manifests else 0} files and settings"
    if running and now - at > _LATE:
        yield warn("configuration", found, "see why the flow `keep-config` does not run")
    elif settings.configuration.files:
        yield ok("configuration", found)
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        yield warn("configuration", "; ".join(problems[:_SHOWN]) + more, "mend this, or name other files")


def _secrets(manifests: list[ConfigManifest]) -> Iterator[Finding]:
    if found := plain_secrets(manifests[:1]):
        names = ", ".join(version.subject for version in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        to_do = "set backups.recipients, so that contents are encrypted; then change these secrets, old versions stay"
        yield warn("secrets in backups", f"kept in the clear, as it looks: {names}{more}", to_do)


def plain_secrets(manifests: Iterable[ConfigManifest]) -> list[Version]:
    """Return the versions that look like they hold a secret and whose content is not encrypted."""
    found = []
    for manifest in manifests:
        clear = {part.sha256 for part in manifest.parts if "age" not in part.packing}
        found += [version for version in manifest.versions if version.looks_secret and version.sha256 in clear]
    return found
