"""Partial shard snapshots: only the files that changed since a full one, and both put together to a full one again.

A partial snapshot is a streamed tar that for each segment holds `segment_manifest.json` (all its files, each with the
number of the operation that changed it last), the files that are newer than what the server was told we have, and the
segment's state. What it leaves out we must have: a segment that it does not name is gone, a file that its manifest
does not name is gone, and any other file is the one of the full snapshot.

What we have is said from the full snapshot's own bytes: each file in it is as of the segment's version there, and a
server applies an operation to a shard as a whole before it freezes the segments for a snapshot. So a file that changed
later has a higher number, whatever the optimizers did meanwhile; a rewritten segment has another id and comes whole.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from reanimate.errors import Damaged, Refused
from reanimate.vector.tar_walk import Entry, damage_told, walk_archive
from reanimate.vector.tar_write import TarWriter

__all__ = [
    "SEGMENT_MANIFEST",
    "Merged",
    "PartialFacts",
    "SegmentManifest",
    "base_manifest",
    "inside",
    "inspect_partial",
    "manifest_json",
    "merge_partial",
    "numbers_of",
    "require_same_history",
]

Json = dict[str, Any]
Progress = Callable[[int, int], None]

SEGMENT_MANIFEST = "segment_manifest.json"
_ALWAYS_SENT = ("segment.json", "version.info")
_LAST = "shard_config.json"
_KEPT_WITHOUT_NEWER = ("newest_clocks.json", "oldest_clocks.json", "applied_seq.json")
_LARGEST_JSON = 64 << 20


@dataclass(frozen=True)
class SegmentManifest:
    """The files of one segment, each with the number of the operation that changed it last; None: the segment's."""

    version: int
    files: dict[str, int | None]


@dataclass
class PartialFacts:
    """What a partial snapshot holds."""

    segments: dict[str, SegmentManifest] = field(default_factory=dict)
    sent: dict[str, set[str]] = field(default_factory=dict)
    """Segment -> the files of it that are in the archive."""
    top: set[str] = field(default_factory=set)

    @property
    def changed_files(self) -> int:
        """Return how many data files are in it; the states of segments always are."""
        return sum(len(files.difference(_ALWAYS_SENT)) for files in self.sent.values())


@dataclass(frozen=True)
class Merged:
    """The full snapshot that was put together."""

    size: int
    sha256: str


def base_manifest(full: Path) -> dict[str, SegmentManifest]:
    """Read from a full shard snapshot what we have, segment by segment: every file as of the segment's version.

    Raises:
        ArchiveDamaged: it is not a whole shard snapshot.
    """
    versions: dict[str, int] = {}
    files: dict[str, dict[str, int | None]] = {}
    for entry in walk_archive(full):
        segment, name = inside(entry.path)
        if segment is None:
            continue
        known = files.setdefault(segment, {})
        if name == SEGMENT_MANIFEST:
            raise Damaged(f"reading {full.name} as a full snapshot: it is a partial one")
        if name == "segment.json":
            versions[segment] = int(_read_json(entry).get("version") or 0)
        elif name and not entry.member.isdir() and name not in _ALWAYS_SENT:
            known[name] = None
    if unstated := sorted(files.keys() - versions.keys()):
        raise Damaged(f"reading {full.name}: segment {unstated[0]} has no state")
    return {segment: SegmentManifest(versions[segment], files[segment]) for segment in sorted(files)}


def numbers_of(manifest: Json) -> dict[str, list[int]]:
    """Return of a server's own manifest what tells one history of a segment from another.

    Segment -> its version, then every number that one of its files was changed at. When the same segment has gone
    another way since (somebody put an older state back and wrote on), files are numbered otherwise.
    """
    return {
        segment: [
            int(one["segment_version"]),
            *sorted({int(changed) for changed in one["file_versions"].values() if changed is not None}),
        ]
        for segment, one in sorted(manifest.items())
    }


def require_same_history(numbers: dict[str, list[int]], base: dict[str, SegmentManifest], facts: PartialFacts) -> None:
    """See that what a partial snapshot leaves out is what the full one holds.

    `numbers` is `numbers_of` a moment before the full snapshot was made. A file that is left out has not changed since:
    it has the number that it had then, or one that was given in between, or, when the server has started anew since,
    the segment's.

    Raises:
        Refused: it has another.
    """
    for segment, now in facts.segments.items():
        if segment not in base:
            continue
        version, *known = numbers.get(segment, [0])
        for name in sorted(set(now.files) - facts.sent[segment]):
            changed = now.files[name]
            if changed is not None and changed not in known and not version < changed <= base[segment].version:
                raise Refused(
                    f"of segment {segment} the file {name} was changed last by operation {changed}, "
                    "which had not changed it when the full snapshot was made",
                    hint="the shard has another history since; take a full backup",
                )


def manifest_json(manifest: dict[str, SegmentManifest]) -> Json:
    """Return the body of `partial/create`, which is also the form in which a server gives its own."""
    return {
        segment: {"segment_id": segment, "segment_version": one.version, "file_versions": one.files}
        for segment, one in manifest.items()
    }


def inspect_partial(partial: Path) -> PartialFacts:
    """Read a partial snapshot and see that it is whole: end marker, last member, and every segment with all its parts.

    Raises:
        ArchiveDamaged, Damaged: it was cut, or is no partial snapshot.
    """
    facts = PartialFacts()
    names: list[str] = []
    for entry in walk_archive(partial, names):
        segment, name = inside(entry.path)
        if segment is None:
            facts.top.add(str(entry.path))
        elif name == SEGMENT_MANIFEST:
            facts.segments[segment] = _segment_manifest(_read_json(entry), segment, partial)
        elif name and not entry.member.isdir():
            facts.sent.setdefault(segment, set()).add(name)
    what = f"reading {partial.name} as a partial snapshot"
    if not names or names[-1] != _LAST:
        raise Damaged(f"{what}: it ends with {names[-1] if names else 'nothing'!r}, not with {_LAST!r}: it was cut")
    for segment in sorted(facts.segments.keys() | facts.sent.keys()):
        if segment not in facts.segments:
            raise Damaged(f"{what}: segment {segment} has no manifest: it is a full snapshot, or was tampered with")
        sent = facts.sent.get(segment, set())
        if missing := [name for name in _ALWAYS_SENT if name not in sent]:
            raise Damaged(f"{what}: segment {segment} has no {missing[0]}")
        if extra := sorted(sent.difference(_ALWAYS_SENT, facts.segments[segment].files)):
            raise Damaged(f"{what}: segment {segment} holds {extra[0]}, which its manifest does not name")
    return facts


def merge_partial(full: Path, partial: Path, into: Path, on_progress: Progress | None = None) -> Merged:
    """Write the full shard snapshot that a server has after `partial/recover` on top of `full`. The same every time.

    The result is in the streamed form: it restores by the ordinary upload of a shard, and loads in the engine.
    `on_progress` gets bytes written and a guess of the total.

    Raises:
        ArchiveDamaged, Damaged: one of them is not whole, or they do not belong together.
        Refused: the shard has gone back to before the full snapshot since, so that versions say nothing.
        OSError: no room.
    """
    base, facts = base_manifest(full), inspect_partial(partial)
    _require_fit(base, facts, full, partial)
    total = full.stat().st_size + partial.stat().st_size
    try:
        with into.open("xb") as file:
            writer = TarWriter(file)
            _copy(writer, full, lambda entry: _kept(entry, facts), on_progress, total)
            last = _copy(writer, partial, _taken, on_progress, total)
            writer.add_bytes(_LAST, last or b'{"type":"ReplicaSet"}')
            writer.finish()
    except BaseException:
        into.unlink(missing_ok=True)
        raise
    return Merged(writer.size, writer.sha256)


def _require_fit(base: dict[str, SegmentManifest], facts: PartialFacts, full: Path, partial: Path) -> None:
    what = f"putting {partial.name} on top of {full.name}"
    for segment, now in facts.segments.items():
        had = base.get(segment)
        if had is not None and now.version < had.version:
            raise Refused(
                f"{what}: segment {segment} is at operation {now.version} and was at {had.version} already",
                hint="the shard was restored to an older state meanwhile; take a full backup",
            )
        known = facts.sent[segment] | (set(had.files) if had else set())
        if missing := sorted(set(now.files) - known):
            raise Damaged(
                f"{what}: segment {segment} lacks {missing[0]} ({len(missing)} files), which neither of them holds",
                hint="it was made for another full backup",
            )


def _kept(entry: Entry, facts: PartialFacts) -> bool:
    """Say whether a file of the full snapshot is part of the result."""
    segment, name = inside(entry.path)
    if segment is None:
        top = str(entry.path)
        return top in _KEPT_WITHOUT_NEWER and top not in facts.top
    if segment not in facts.segments or not name:
        return False
    if entry.member.isdir():
        return False
    return name in facts.segments[segment].files and name not in facts.sent[segment]


def _taken(entry: Entry) -> bool:
    """Say whether a file of the partial snapshot is part of the result. A server refuses an upload with manifests."""
    return inside(entry.path)[1] != SEGMENT_MANIFEST


def _copy(
    writer: TarWriter, source: Path, wanted: Callable[[Entry], bool], on_progress: Progress | None, total: int
) -> bytes | None:
    """Copy what is wanted; return the content of the shard's config, which must come last."""
    last: bytes | None = None
    for entry in walk_archive(source):
        if not wanted(entry):
            continue
        segment, name = inside(entry.path)
        if segment is None and str(entry.path) == _LAST:
            last = _read(entry)
        elif entry.member.isdir():
            if segment is None:
                writer.add_directory(str(entry.path))
        else:
            writer.add_entry(f"segments/{segment}/files/{name}" if segment else str(entry.path), entry)
        if on_progress:
            on_progress(min(writer.size, total), total)
    return last


def inside(path: PurePosixPath) -> tuple[str | None, str]:
    """Return the segment and the file's name in it; no segment for what lies beside them."""
    parts = path.parts
    if len(parts) >= 2 and parts[0] == "segments":
        return parts[1], "/".join(parts[2:])
    return None, ""


def _segment_manifest(content: Any, segment: str, partial: Path) -> SegmentManifest:
    try:
        version = int(content["segment_version"])
        files = {
            os.fspath(PurePosixPath(name)): None if changed is None else int(changed)
            for name, changed in content["file_versions"].items()
        }
        named = content["segment_id"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"reading {partial.name}: the manifest of segment {segment} cannot be read: {error!r}") from error
    if named != segment:
        raise Damaged(f"reading {partial.name}: segment {segment} has the manifest of segment {named}")
    if newer := [name for name, changed in files.items() if (changed or 0) > version]:
        raise Damaged(f"reading {partial.name}: in segment {segment} {newer[0]} is newer than the segment")
    return SegmentManifest(version, files)


def _read(entry: Entry) -> bytes:
    if entry.member.size > _LARGEST_JSON:
        raise Damaged(f"reading snapshot member {entry.path}: {entry.member.size} bytes is no settings file")
    with damage_told(str(entry.path)), entry.open() as stream:
        return stream.read()


def _read_json(entry: Entry) -> Any:
    try:
        return json.loads(_read(entry))
    except ValueError as error:
        raise Damaged(f"reading snapshot member {entry.path}: {error}") from error
