"""Look over all that is named and say what has changed since the last manifest: the drafts of new versions."""

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reanimate.config_history.authors import author_of_content, author_of_deletion
from reanimate.config_history.finding import find_files, is_named
from reanimate.config_history.looks import Looks
from reanimate.config_history.masking import looks_secret
from reanimate.config_history.reading import Seen, look, owner_name, read
from reanimate.config_history.server_settings import to_content
from reanimate.config_history.subjects import Setting, is_setting, path_of, subject_of
from reanimate.config_history.versions import Author, Kind, Version, identified, same_state
from reanimate.vector.server import Json

__all__ = ["Draft", "Scan", "scan_files", "scan_settings"]

UNKNOWN = Author(name="unknown", source="unknown", detail="server setting")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Draft:
    """A new version and its content, which is not kept yet."""

    version: Version
    content: bytes | None


@dataclass
class Scan:
    """What was found. `kept` are the versions that are still in force."""

    drafts: list[Draft] = field(default_factory=list)
    kept: list[Version] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, draft: Draft, before: Version | None) -> Version:
        """Take a finding: a new version if its state is another, else the one before stays. Return the one in force."""
        self.tell(draft.version)
        if before is not None and same_state(before, draft.version):
            self.kept.append(before)
            return before
        version = identified(draft.version, before.id if before else None)
        self.drafts.append(Draft(version, draft.content))
        return version

    def tell(self, version: Version) -> None:
        """Say why a version has no content; each time, for it is not well kept."""
        if version.reason and version.kind != "deleted":
            self.problems.append(f"{version.subject}: {version.reason}")


def scan_files(
    patterns: Collection[str],
    before: Mapping[str, Version],
    looks: Looks,
    *,
    limit: int,
    now: datetime,
    also: Iterable[Path] = (),
    on_progress: Progress | None = None,
) -> Scan:
    """Look at every named file, and at `also`; read those that may have changed. `before` is subject → version.

    `looks` is what was seen last time; it is brought up to date. What cannot be looked at keeps its last version and
    is told among the problems: only what is known to be gone is a deletion.
    """
    scan = Scan()
    found = find_files(patterns)
    scan.problems += found.problems
    paths = dict.fromkeys([*found.paths, *also])
    for at, path in enumerate(paths, 1):
        _scan_one(path, before.get(subject_of(str(path))), looks, scan, limit, now)
        if on_progress:
            on_progress("look", at, len(paths))
    seen = {subject_of(str(path)) for path in paths}
    for subject, version in before.items():
        if subject not in seen and not is_setting(subject) and version.kind != "deleted":
            _scan_absent(Path(path_of(subject)), version, patterns, scan, now)
    return scan


def scan_settings(
    found: Mapping[Setting, Json], before: Mapping[str, Version], *, targets: Collection[str], now: datetime
) -> Scan:
    """Hold settings against their last versions. Those of other targets than `targets`, which answered, stay."""
    scan = Scan()
    for setting, value in found.items():
        scan.add(_draft_of_setting(setting.subject, to_content(value), now), before.get(setting.subject))
    subjects = {setting.subject for setting in found}
    for subject, version in before.items():
        if is_setting(subject) and subject not in subjects and version.kind != "deleted":
            if Setting.parse(subject).target in targets:
                gone = Version(subject=subject, kind="deleted", found_at=now, author=UNKNOWN, reason="deleted")
                scan.add(Draft(gone, None), version)
            else:
                scan.kept.append(version)
    return scan


def _scan_one(path: Path, before: Version | None, looks: Looks, scan: Scan, limit: int, now: datetime) -> None:
    subject = subject_of(str(path))
    taken_ns = time.time_ns()
    try:
        if before is not None and looks.unchanged(subject, before.id, look(path)):
            scan.kept.append(before)
            scan.tell(before)
            return
        seen = read(path, limit)
    except OSError as error:
        scan.problems.append(f"{subject}: {(error.strerror or str(error)).lower()}; its last version stands")
        if before is not None:
            scan.kept.append(before)
        return
    if seen.look.kind in ("missing", "folder"):
        _deleted(path, before, scan, now)
    elif seen.look.kind == "other" or seen.torn:
        scan.problems.append(f"{subject}: {seen.reason}; not kept")
        if before is not None:
            scan.kept.append(before)
    else:
        version = scan.add(_draft_of_file(path, subject, seen, now), before)
        looks.note(subject, version.id, seen.look, taken_ns)


def _scan_absent(path: Path, version: Version, patterns: Collection[str], scan: Scan, now: datetime) -> None:
    """A path that no pattern found: gone, not to be looked at, or not named any more, which ends its watch silently."""
    try:
        there = look(path).kind not in ("missing", "folder")
    except OSError as error:
        scan.problems.append(f"{version.subject}: {(error.strerror or str(error)).lower()}; its last version stands")
        scan.kept.append(version)
        return
    if not there and is_named(path, patterns):
        _deleted(path, version, scan, now)
    elif there and is_named(path, patterns):
        scan.kept.append(version)  # it came back while we looked, or a folder above cannot be listed


def _deleted(path: Path, before: Version | None, scan: Scan, now: datetime) -> None:
    if before is None or before.kind == "deleted":
        return
    author = author_of_deletion(path)
    gone = Version(subject=before.subject, kind="deleted", found_at=now, author=author, reason="deleted")
    scan.add(Draft(gone, None), before)


def _draft_of_file(path: Path, subject: str, seen: Seen, now: datetime) -> Draft:
    kind: Kind = "symlink" if seen.link is not None else "file"
    if seen.content is None and kind == "file":
        kind = "too_large" if seen.too_large else "unreadable"
    version = Version(
        subject=subject,
        kind=kind,
        found_at=now,
        author=author_of_content(path, seen.content, seen.look),
        sha256=seen.sha256,
        size=seen.look.size if seen.content is None else len(seen.content),
        mode=seen.look.mode_text,
        uid=seen.look.uid,
        gid=seen.look.gid,
        owner=owner_name(seen.look.uid, seen.look.gid),
        mtime=seen.look.mtime,
        link=None if seen.link is None else subject_of(seen.link),
        reason=seen.reason,
        looks_secret=seen.content is not None and looks_secret(seen.content.decode(errors="replace")),
    )
    return Draft(version, seen.content)


def _draft_of_setting(subject: str, content: bytes, now: datetime) -> Draft:
    version = Version(
        subject=subject,
        kind="settings",
        found_at=now,
        author=UNKNOWN,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        looks_secret=looks_secret(content.decode(errors="replace")),
    )
    return Draft(version, content)
