"""The history of one set of files and settings: keep what has changed, read what was kept.

Keeping is cheap while nothing changes: a look at each file, a few small questions to each server, one object read.
"""

import asyncio
import fcntl
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from reanimate import __version__
from reanimate.backups.catalog import Catalog, Published, new_backup_id
from reanimate.backups.manifest import Part
from reanimate.clock import utcnow
from reanimate.config import ConfigurationSettings, Settings
from reanimate.config_history.contents import Contents, part_of
from reanimate.config_history.looks import Looks
from reanimate.config_history.scanning import Scan, scan_files, scan_settings
from reanimate.config_history.server_settings import read_settings
from reanimate.config_history.subjects import is_setting
from reanimate.config_history.versions import Author, ConfigManifest, Version, history, identified
from reanimate.errors import Busy, ConfigInvalid, Damaged, NotFound, ReanimateError
from reanimate.files import write_atomically
from reanimate.vector.server import VectorServer

__all__ = ["ConfigHistory", "Kept"]

Progress = Callable[[str, int, int], None]

_LOCK_S = 60.0
_TOMBSTONES = timedelta(days=90)
"""How long a deletion stays in the state, so that what comes back is known to follow on it."""
_AT_ONCE = 4
_FRESH_S = 5.0
"""So long a listing of the repository is good for: a restore of a thousand files does not list it a thousand times."""


@dataclass(frozen=True)
class Kept:
    """What a keeping found. Without changes nothing is published, and `manifest` is the one that is still true."""

    manifest: ConfigManifest | None
    changes: tuple[Version, ...]
    watched: int
    problems: tuple[str, ...]
    at: datetime
    """When everything was looked at: the manifest was true then."""


class ConfigHistory:
    """The versions of one set, in one repository."""

    def __init__(
        self,
        catalog: Catalog,
        settings: ConfigurationSettings,
        *,
        name: str,
        home: Path,
        servers: Sequence[VectorServer] = (),
    ) -> None:
        self.catalog = catalog
        self.name = name
        self.settings = settings
        self.servers = {server.name: server for server in servers}
        self.contents = Contents(catalog, name)
        self._folder = home / "config-history"
        self._listed: tuple[float, list[Published[ConfigManifest]]] | None = None

    @classmethod
    def of(cls, settings: Settings, catalog: Catalog, servers: Sequence[VectorServer] = ()) -> "ConfigHistory":
        """Return the history of these settings. `servers` are those whose settings are kept."""
        name = settings.configuration.name or settings.agent.name
        return cls(catalog, settings.configuration, name=name, home=settings.home, servers=servers)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def manifests(self) -> list[ConfigManifest]:
        """Return the manifests of this set, newest first.

        Raises:
            Unreachable: the store could not be read.
        """
        return [entry.manifest for entry in await self._published()]

    async def versions(self, subject: str | None = None) -> list[Version]:
        """Return all versions, of one subject if named, newest first.

        Raises:
            Unreachable: the store could not be read.
        """
        return history(await self.manifests(), subject)

    async def content(self, version: Version) -> bytes | None:
        """Return the content of a version, checked; None when it has none.

        Raises:
            NotFound, Damaged, Unreachable: it is not there, not what it was, or cannot be read.
        """
        if version.sha256 is None:
            return None
        return await self.contents.fetch(part_of(await self.manifests(), version.sha256))

    def last_keeping(self) -> tuple[datetime, list[str]] | None:
        """Return when this machine last looked over everything, and what it could not keep."""
        try:
            noted = json.loads((self._folder / "last.json").read_bytes())
            return datetime.fromisoformat(noted["at"]), [*map(str, noted["problems"])]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    async def _published(self) -> list[Published[ConfigManifest]]:
        now = time.monotonic()
        if self._listed is None or now - self._listed[0] > _FRESH_S:
            entries = await asyncio.to_thread(self.catalog.published, ConfigManifest)
            self._listed = (now, [entry for entry in entries if entry.manifest.subject == self.name])
        return self._listed[1]

    # -- keeping ---------------------------------------------------------------------------------------------------

    async def keep(
        self,
        *,
        also: Iterable[Path] = (),
        authors: Mapping[str, Author] | None = None,
        on_progress: Progress | None = None,
    ) -> Kept:
        """Keep a version of everything that has changed since the last time, and of the files `also`.

        `authors` are those of subjects that we have changed ourselves. Safe to repeat after a kill: nothing is listed
        before the manifest is written, which comes last.

        Raises:
            Unreachable, Refused, Damaged: the store did not take it.
            Busy: another keeping on this machine does not end.
        """
        async with self._alone():
            now = utcnow()
            looks = await asyncio.to_thread(Looks.load, self._looks)
            manifest = await self._last(looks)
            before = {version.subject: version for version in manifest.versions} if manifest else {}
            scan = await self._scan(before, looks, [*also], now, on_progress)
            await asyncio.to_thread(self._note_keeping, now, scan.problems)
            if not scan.drafts and not self._must_be_sealed(manifest):
                return Kept(manifest, (), len(scan.kept), tuple(scan.problems), now)
            published = await self._publish(scan, before, authors or {}, now, on_progress)
            looks.keep_only({version.subject for version in published.manifest.versions})
            await asyncio.to_thread(looks.save, self._looks, manifest=published.key)
        changes = tuple(draft.version for draft in scan.drafts)
        changed = {version.subject for version in changes}
        found = tuple(version for version in published.manifest.versions if version.subject in changed)
        return Kept(published.manifest, found, len(scan.kept) + len(changes), tuple(scan.problems), now)

    def _must_be_sealed(self, manifest: ConfigManifest | None) -> bool:
        """Say whether there are recipients now, and contents in force that were kept in the clear before."""
        parts = manifest.parts if manifest else []
        return bool(self.catalog.keyring.recipients) and any("age" not in part.packing for part in parts)

    async def _last(self, looks: Looks) -> ConfigManifest | None:
        """Return the newest manifest: by its key when this machine wrote it, which saves listing the repository."""
        if looks.manifest:
            try:
                return (await asyncio.to_thread(self.catalog.at, looks.manifest, ConfigManifest)).manifest
            except (NotFound, Damaged):
                pass  # another repository, or somebody removed it: found out by looking at all
        newest = (await self._published())[:1]
        return newest[0].manifest if newest else None

    async def _scan(
        self, before: Mapping[str, Version], looks: Looks, also: list[Path], now: datetime, progress: Progress | None
    ) -> Scan:
        limit = self.settings.max_file_bytes
        scan = await asyncio.to_thread(
            scan_files, self.settings.files, before, looks, limit=limit, now=now, also=also, on_progress=progress
        )
        answers = await asyncio.gather(*map(read_settings, self.servers.values()), return_exceptions=True)
        found = {}
        answered = set()
        for name, answer in zip(self.servers, answers, strict=True):
            if isinstance(answer, ReanimateError):
                scan.problems.append(f"settings of {name} stay as they were last kept: {answer}")
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found.update(answer)
                answered.add(name)
        settings = scan_settings(found, before, targets=answered, now=now)
        return Scan(
            [*scan.drafts, *settings.drafts], [*scan.kept, *settings.kept], [*scan.problems, *settings.problems]
        )

    async def _publish(
        self,
        scan: Scan,
        before: Mapping[str, Version],
        authors: Mapping[str, Author],
        now: datetime,
        progress: Progress | None,
    ) -> Published[ConfigManifest]:
        self._listed = None
        manifests = await self.manifests()
        parts = self.contents.known(manifests)
        versions = [*scan.kept, *(_by(draft.version, authors) for draft in scan.drafts)]
        subjects = {version.subject for version in versions}
        versions += [
            version
            for version in before.values()
            if version.kind == "deleted" and version.subject not in subjects and now - version.found_at < _TOMBSTONES
        ]
        contents = {draft.version.sha256: draft.content for draft in scan.drafts if draft.content is not None}
        new = {sha256: content for sha256, content in contents.items() if sha256 and sha256 not in parts}
        parts |= await self._store(new, progress)
        wanted = dict.fromkeys(version.sha256 for version in versions if version.sha256)
        old = {sha256 for sha256 in wanted if sha256 not in parts}  # kept in the clear before there were recipients
        parts |= await self._store({sha256: await self._again(manifests, sha256) for sha256 in old}, progress)
        manifest = ConfigManifest(
            id=new_backup_id(self.name, now),
            subject=self.name,
            target=socket.gethostname(),
            taken_at=now,
            tool_version=__version__,
            host=socket.gethostname(),
            parts=tuple(parts[sha256] for sha256 in wanted),
            versions=sorted(versions, key=lambda version: version.subject),
            warnings=[*scan.problems, *_two_machines(manifests)],
        )
        published = await self.catalog.publish(manifest)
        self._listed = None
        await self.contents.sweep([*manifests, manifest], now)
        return published

    async def _store(self, contents: Mapping[str, bytes], progress: Progress | None) -> dict[str, Part]:
        limit, done = asyncio.Semaphore(_AT_ONCE), [0]

        async def store(sha256: str, content: bytes) -> tuple[str, Part]:
            async with limit:
                part = await self.contents.keep(sha256, content)
            done[0] += 1
            if progress:
                progress("store", done[0], len(contents))
            return sha256, part

        return dict(await asyncio.gather(*(store(sha256, content) for sha256, content in contents.items())))

    async def _again(self, manifests: list[ConfigManifest], sha256: str) -> bytes:
        return await self.contents.fetch(part_of(manifests, sha256))

    def _note_keeping(self, now: datetime, problems: Sequence[str]) -> None:
        noted = {"at": now.isoformat(), "problems": [*problems]}
        write_atomically(self._folder / "last.json", json.dumps(noted).encode(), mode=0o600)

    @property
    def _looks(self) -> Path:
        return self._folder / "looks.json"

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep other keepings of this machine out. The lock goes with the process, however that ends."""
        descriptor = await asyncio.to_thread(self._open_lock)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOCK_S
        try:
            while not _locked(descriptor):
                if loop.time() > deadline:
                    raise Busy(
                        f"another process has been keeping configuration for {_LOCK_S:.0f} s", hint="try again later"
                    )
                await asyncio.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def _open_lock(self) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigInvalid(f"{self._folder} cannot be written: {error.strerror}") from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _by(version: Version, authors: Mapping[str, Author]) -> Version:
    author = authors.get(version.subject)
    return identified(version.model_copy(update={"author": author}), version.previous) if author else version


def _two_machines(manifests: Sequence[ConfigManifest]) -> list[str]:
    """Warn when the set was last kept elsewhere: two machines under one name undo each other's versions."""
    here = socket.gethostname()
    files = any(not is_setting(version.subject) for version in manifests[0].versions) if manifests else False
    if files and manifests[0].host != here:
        return [
            f"this set was last kept on {manifests[0].host}, and now on {here}: if both have files of their own, give "
            "each a configuration.name"
        ]
    return []
