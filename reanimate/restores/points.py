"""Single points out of a backup: which of them are missing or differ in a live collection, and putting them back.

The backup is a collection on a scratch server, so filters mean here what they mean everywhere. What is overwritten is
kept in a file first, and every point that was written is read back and compared to the bit.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reanimate.errors import InputInvalid, NotFound, VerificationFailed
from reanimate.restores.carrying import hash_of, write_checked
from reanimate.vector.server import Json, VectorServer

__all__ = ["Comparison", "Source", "Undo", "Written", "compare", "selection", "undo_points", "write_points"]

Id = int | str
Progress = Callable[[str, int, int], None]
T = TypeVar("T")

_PAGE = 200
_SHOWN = 20
_FORMAT = "reanimate points undo 1"


@dataclass(frozen=True)
class Source:
    """Where points of a backup can be read: a collection on a scratch server, of one shard key where there are any."""

    server: VectorServer
    name: str
    shard_key: str | int | None = None


@dataclass
class _Found:
    """Ids of one source, in order."""

    source: Source
    missing: list[Id] = field(default_factory=list)
    differing: list[Id] = field(default_factory=list)


@dataclass
class Comparison:
    """The selected points of a backup, held against a live collection."""

    found: list[_Found] = field(default_factory=list)
    same: int = 0
    titles: dict[Id, str] = field(default_factory=dict)
    """Of the first ones: the beginning of their payload in the backup, for people."""

    @property
    def missing(self) -> list[Id]:
        return [point_id for one in self.found for point_id in one.missing]

    @property
    def differing(self) -> list[Id]:
        return [point_id for one in self.found for point_id in one.differing]

    @property
    def selected(self) -> int:
        return sum(len(one.missing) + len(one.differing) for one in self.found) + self.same


@dataclass(frozen=True)
class Written:
    """What was written, and the file by which it can be undone; None when nothing was."""

    missing: int
    overwritten: int
    undo_file: Path | None


@dataclass(frozen=True)
class Undo:
    """What an undo did. Points that somebody has changed since are theirs, and stay."""

    removed: int
    put_back: int
    changed_since: tuple[Id, ...]


def selection(ids: str | None, filter_json: str | None) -> Json | None:
    """Return the filter for `--ids` or `--filter`; None selects everything.

    Raises:
        InputInvalid: both were given, or one cannot be read.
    """
    if ids is not None and filter_json is not None:
        raise InputInvalid("--ids and --filter were both given", hint="a filter can hold has_id")
    if ids is not None:
        given = [part.strip() for part in ids.split(",") if part.strip()]
        if not given:
            raise InputInvalid("--ids names no id", hint="for example --ids 1,2,3")
        return {"must": [{"has_id": [int(one) if one.isdecimal() else one for one in given]}]}
    if filter_json is None:
        return None
    try:
        read = json.loads(filter_json)
    except ValueError as error:
        raise InputInvalid(f"--filter is not JSON: {error}", hint=_EXAMPLE) from None
    if not isinstance(read, dict) or not read:
        raise InputInvalid("--filter is not a filter of the vector server", hint=_EXAMPLE)
    return read


_EXAMPLE = """for example '{"must":[{"key":"doc","match":{"value":"handbook"}}]}'"""


async def compare(
    sources: Sequence[Source], live: VectorServer, name: str, only: Json | None, on_progress: Progress | None = None
) -> Comparison:
    """Hold the selected points of a backup against the live collection.

    Raises:
        NotFound: there is no live collection of that name.
        Refused: the filter is not one.
        Unreachable, ServerFailed: one of the two did not answer.
    """
    compared = Comparison()
    total = sum([await source.server.count(source.name) for source in sources])
    for source in sources:
        found = _Found(source)
        compared.found.append(found)
        async for page in _pages(source, only):
            theirs = await _hashes(live, name, [point["id"] for point in page], source.shard_key)
            for point in page:
                _sort(point, theirs.get(point["id"]), found, compared)
            if on_progress:
                on_progress("compare", compared.selected, total if only is None else compared.selected)
    return compared


def _sort(point: Json, theirs: str | None, found: _Found, compared: Comparison) -> None:
    if theirs == hash_of(point):
        compared.same += 1
        return
    (found.missing if theirs is None else found.differing).append(point["id"])
    if len(compared.titles) < _SHOWN:
        compared.titles[point["id"]] = json.dumps(point.get("payload") or {}, ensure_ascii=False)[:100]


async def write_points(
    live: VectorServer,
    name: str,
    compared: Comparison,
    undo_file: Path,
    *,
    overwrite: bool,
    on_progress: Progress | None = None,
) -> Written:
    """Write the missing points, and the differing ones if asked; what was there before is kept in `undo_file` first.

    Raises:
        InputInvalid: the undo file exists already.
        VerificationFailed: a point reads back differently from the backup's.
        Unreachable, ServerFailed, Refused: a server did not do it. Done again, what was written counts as the same.
    """
    wanted = {at: [*one.missing, *(one.differing if overwrite else [])] for at, one in enumerate(compared.found)}
    total = sum(map(len, wanted.values()))
    if not total:
        return Written(0, 0, None)
    done = missing = overwritten = 0
    with _UndoFile(undo_file, live.name, name) as kept:
        for at, ids in wanted.items():
            for batch in _batches(ids):
                going, before = await _going(compared.found[at].source, live, name, batch, overwrite=overwrite)
                await asyncio.to_thread(kept.add, going, before)
                await write_checked(live, name, going)
                missing += sum(point["id"] not in before for point in going)
                overwritten += sum(point["id"] in before for point in going)
                done += len(batch)
                if on_progress:
                    on_progress("write", done, total)
    return Written(missing, overwritten, undo_file)


async def _going(
    source: Source, live: VectorServer, name: str, ids: list[Id], *, overwrite: bool
) -> tuple[list[Json], dict[Id, Json]]:
    """Return the points to write, as the backup has them, and what is there now under their ids."""
    # Not by id: loaded under other shard ids, a server would look for some of them in the wrong shard.
    wanted = {"must": [{"has_id": ids}]}
    page = [point async for some in _pages(source, wanted) for point in some]
    if len(page) != len(ids):
        raise VerificationFailed(
            f"reading {len(ids)} points of the backup again: {len(page)} came back",
            hint="nothing of them was written; do it again",
        )
    before = {point["id"]: point for point in await live.retrieve(name, ids, shard_key=source.shard_key)}
    # One that was missing a moment ago and is there now is the agent's newer one.
    going = [{**point, "shard_key": source.shard_key} for point in page if overwrite or point["id"] not in before]
    return going, before


async def undo_points(live: VectorServer, file: Path, *, dry_run: bool = False) -> tuple[str, Undo]:
    """Undo what the file was kept for, and return the collection's name with what was done.

    What somebody has changed since stays as it is, and is named. Safe to repeat.

    Raises:
        NotFound: there is no such file.
        InputInvalid: it is not one of ours, or belongs to another target.
        VerificationFailed, Unreachable, ServerFailed, Refused: as `write_points`.
    """
    header, rows = _read(file)
    if header["target"] != live.name:
        raise InputInvalid(f"{file} is of {header['target']}, not of {live.name}", hint="give the right --target")
    name = header["collection"]
    removed = put_back = 0
    changed: list[Id] = []
    by_key: dict[str | int | None, list[Json]] = {}
    for row in reversed(rows):  # should a point be in it twice, what was there first is what stays
        by_key.setdefault(row["shard_key"], []).append(row)
    for key, some in by_key.items():
        for page in _batches(some):
            now = await _hashes(live, name, [row["id"] for row in page], key)
            ours = [row for row in page if now.get(row["id"]) == row["written"]]
            changed += [row["id"] for row in page if row not in ours and now.get(row["id"]) != _hash_before(row)]
            away = [row["id"] for row in ours if row["before"] is None]
            back = [{**row["before"], "shard_key": key} for row in ours if row["before"] is not None]
            if away and not dry_run:
                await live.delete_points(name, away, shard_key=key)
            if not dry_run:
                await write_checked(live, name, back)
            removed += len(away)
            put_back += len(back)
    return name, Undo(removed, put_back, tuple(changed))


def _hash_before(row: Json) -> str | None:
    return hash_of(row["before"]) if row["before"] is not None else None


class _UndoFile:
    """Lines of JSON: a header, then per point the hash of what is written and what was there. Synced first."""

    def __init__(self, path: Path, target: str, collection: str) -> None:
        self._path = path
        self._header = {"format": _FORMAT, "target": target, "collection": collection}

    def __enter__(self) -> "_UndoFile":
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InputInvalid(f"{self._path} exists already: it can undo an earlier one") from None
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self._write([self._header])
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, points: Sequence[Json], before: dict[Id, Json]) -> None:
        self._write(
            {
                "id": point["id"],
                "shard_key": point["shard_key"],
                "written": hash_of(point),
                "before": before.get(point["id"]),
            }
            for point in points
        )

    def _write(self, rows: Any) -> None:
        for row in rows:
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _read(file: Path) -> tuple[dict[str, str], list[Json]]:
    try:
        with file.open(encoding="utf-8") as lines:
            header = json.loads(lines.readline())
            if header["format"] != _FORMAT:
                raise ValueError("another format")
            # A kill may have cut the last line; its points were not written yet.
            return header, [json.loads(line) for line in lines if line.endswith("\n")]
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputInvalid(f"{file} cannot be read as what an undo needs: {error}") from None


def _batches(rows: list[T]) -> Iterator[list[T]]:
    for at in range(0, len(rows), _PAGE):
        yield rows[at : at + _PAGE]


async def _pages(source: Source, only: Json | None) -> AsyncIterator[list[Json]]:
    offset: Id | None = None
    while True:
        page = await source.server.scroll(source.name, limit=_PAGE, offset=offset, only=only)
        if page["points"]:
            yield page["points"]
        offset = page["next_page_offset"]
        if offset is None:
            return


async def _hashes(server: VectorServer, name: str, ids: Sequence[Id], key: str | int | None) -> dict[Id, str]:
    found = await server.retrieve(name, ids, shard_key=key)
    return {point["id"]: hash_of(point) for point in found}
