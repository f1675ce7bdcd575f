"""Put all files of one moment back: everything ready beside first, then all put in place, or none.

Settings of vector servers are not among them: collections come back with theirs.
"""

import asyncio
import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.replacing import Replacement
from reanimate.config_history.restoring import Plan, is_in_place, paths_of, plan_version, prepare, restore_version
from reanimate.config_history.subjects import is_setting, path_of, subject_of
from reanimate.config_history.versions import Author, ConfigManifest, Version
from reanimate.errors import ReanimateError, Refused

__all__ = ["PreparedFiles", "WholePlan", "note_restored", "plan_files", "prepare_files", "put_back_files"]


@dataclass(frozen=True)
class WholePlan:
    """What putting all files of a manifest back would do."""

    manifest_id: str
    plans: tuple[Plan, ...]
    """Of those that differ from what is there now."""
    cannot: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "manifest": self.manifest_id,
            "files": [plan.to_json() for plan in self.plans],
            "cannot": list(self.cannot),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class PreparedFiles:
    """Everything beside its place."""

    replacements: tuple[Replacement, ...]
    before: Mapping[str, str | None]
    """Subject → the version that undoes it; None: there was nothing, and never had been."""

    def commit(self) -> None:
        """Put all in place. When one fails, those before it stay: undo them by `before`.

        Raises:
            Busy, Refused, ConfigInvalid: as `Replacement.commit`.
        """
        for replacement in self.replacements:
            replacement.commit()

    def discard(self) -> None:
        """Remove what lies beside."""
        for replacement in self.replacements:
            replacement.discard()


async def plan_files(source: ConfigHistory, manifest: ConfigManifest) -> WholePlan:
    """Say what would be done to which file; `source` is the history that the manifest is of. Touches nothing.

    Raises:
        NotFound, Damaged, Unreachable: a content cannot be had.
    """
    plans, cannot = [], []
    for version in manifest.versions:
        if is_setting(version.subject) or await asyncio.to_thread(is_in_place, version, source.settings.max_file_bytes):
            continue
        try:
            plan = await plan_version(source, version)
        except Refused as error:
            cannot.append(str(error))
            continue
        if plan.does:
            plans.append(plan)
    known = {version.subject for version in manifest.versions}
    now = await source.manifests()
    since = [
        version.subject
        for version in (now[0].versions if now else ())
        if version.subject not in known and version.kind != "deleted" and not is_setting(version.subject)
    ]
    notes = [f"{subject} was made since, and stays" for subject in since]
    return WholePlan(manifest.id, tuple(plans), tuple(cannot), tuple(notes))


async def prepare_files(history: ConfigHistory, source: ConfigHistory, plan: WholePlan) -> PreparedFiles:
    """Keep what is there now in `history`, fetch every content from `source`, check it, and write it beside its place.

    Raises:
        Refused, Busy: something there now cannot be kept, or changes.
        Damaged, NotFound, Unreachable, ConfigInvalid: a content cannot be had or written. Nothing lies beside then.
    """
    versions = sorted((each.version for each in plan.plans), key=lambda version: version.kind == "symlink")
    paths = [path for version in versions for path in paths_of(version.subject)]
    kept = await history.keep(also=paths)
    found = {version.subject: version for version in kept.manifest.versions} if kept.manifest else {}
    known = {path: found.get(subject_of(str(path))) for path in paths}
    ready: dict[Path, Replacement] = {}
    try:
        for version in versions:
            # What a symlink leads to may be one of the files itself.
            if version.kind == "symlink" and any(path in ready for path in paths_of(version.subject)):
                continue
            content = await source.content(version)
            replacement = prepare(version, content, known, history.settings.max_file_bytes)
            ready[replacement.path] = replacement
    except BaseException:
        for replacement in ready.values():
            replacement.discard()
        raise
    before = {subject_of(str(path)): _id(found.get(subject_of(str(path)))) for path in ready}
    return PreparedFiles(tuple(ready.values()), before)


async def put_back_files(history: ConfigHistory, before: Mapping[str, str | None]) -> None:
    """Undo: put back the versions of before. Safe to repeat; goes on when one fails, and tells of it at the end.

    Raises:
        ReanimateError: one could not be put back; the message says which.
    """
    versions = {(version.subject, version.id): version for version in await history.versions()}
    failure: ReanimateError | None = None
    for subject, version_id in before.items():
        try:
            await _put_back(history, subject, versions.get((subject, version_id or "")))
        except ReanimateError as error:
            failure = error
    if failure is not None:
        raise failure


async def note_restored(history: ConfigHistory, before: Mapping[str, str | None], why: str) -> None:
    """Keep the restored files as versions, with who restored them."""
    by = Author(name=getpass.getuser(), source="restore", detail=why)
    await history.keep(also=[Path(path_of(subject)) for subject in before], authors=dict.fromkeys(before, by))


async def _put_back(history: ConfigHistory, subject: str, version: Version | None) -> None:
    if version is None:  # there was nothing
        newest = next(iter(await history.versions(subject)), None)
        if newest is None or newest.kind == "deleted":
            return
        version = newest.model_copy(update={"kind": "deleted", "sha256": None, "link": None, "mode": None})
    await restore_version(history, version)


def _id(version: Version | None) -> str | None:
    return version.id if version else None
