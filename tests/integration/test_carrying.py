"""Points that only the live collection has, found and carried over; and single points out of a backup."""

import json
import uuid
from pathlib import Path

import pytest
from qdrant_servers import CleanServer, fill, points

from reanimate.errors import InputInvalid, NotFound
from reanimate.restores.carrying import Carry, carry_over
from reanimate.restores.points import Source, compare, selection, undo_points, write_points
from reanimate.vector.server import Json

UUIDS = [str(uuid.UUID(int=number)) for number in (7, 1 << 127, 1)]


def changed(begin: int, end: int) -> list[Json]:
    """Return points like the usual ones, but for one field of the payload."""
    return [{**point, "payload": {**point["payload"], "year": 1900}} for point in points(begin, end)]


async def _pair(primary: CleanServer) -> tuple[str, str]:
    """Make a live collection and a restored one that differ: 10 added, 2 of them by UUID, 5 changed, 7 deleted."""
    old, new = primary.name("old"), primary.name("new")
    for name in (old, new):
        await fill(primary.server, name, 600)
    await primary.server.delete_points(old, range(3, 10))
    await primary.server.upsert(old, changed(100, 105))
    await primary.server.upsert(old, points(9000, 9008))
    await primary.server.upsert(old, [{**points(0, 1)[0], "id": one} for one in UUIDS[:2]])
    await primary.server.upsert(new, [{**points(0, 1)[0], "id": UUIDS[2]}])
    return old, new


async def test_carry_over__only_what_was_added(primary: CleanServer) -> None:
    """New points are written as they are, numbers and UUIDs; changed and deleted ones are counted and named."""
    old, new = await _pair(primary)
    seen: set[int | str] = set()
    found = await carry_over(primary.server, old, new, Carry(), seen=seen)
    assert (found.added, found.changed, found.deleted, found.carried) == (10, 5, 8, 10)
    assert found.changed_ids == [100, 101, 102, 103, 104]
    assert found.deleted_ids == [*range(3, 10), UUIDS[2]]
    assert {*UUIDS, 9000, 1} <= seen
    again = await carry_over(primary.server, old, new, Carry(), seen=set())
    assert (again.added, again.changed, again.carried) == (0, 5, 0)
    assert await primary.server.count(new) == 611


async def test_carry_over__over_several_shards(primary: CleanServer) -> None:
    """The order of ids holds over all shards, and points find their way into the right ones."""
    old, new = primary.name("old"), primary.name("new")
    for name, shards in ((old, 3), (new, 2)):
        await primary.server.create_collection(
            name, {"vectors": {"size": 16, "distance": "Cosine"}, "shard_number": shards}
        )
        await primary.server.upsert(name, points(0, 700))
    await primary.server.upsert(old, points(5000, 5600))
    await primary.server.upsert(old, [{**points(0, 1)[0], "id": one} for one in UUIDS])
    found = await carry_over(primary.server, old, new, Carry(), seen=set())
    assert (found.added, found.changed, found.deleted, found.carried) == (603, 0, 0, 603)
    again = await carry_over(primary.server, old, new, Carry(), seen=set())
    assert (again.added, again.changed, again.deleted) == (0, 0, 0)


async def test_carry_over__changed_ones_too(primary: CleanServer) -> None:
    """On request the live collection's version of a point wins."""
    old, new = await _pair(primary)
    found = await carry_over(primary.server, old, new, Carry(changed=True), seen=set())
    assert found.carried == 15
    (point,) = await primary.server.retrieve(new, [102])
    assert point["payload"]["year"] == 1900


async def test_carry_over__late_takes_only_what_is_new_in_both(primary: CleanServer) -> None:
    """After the switch: what came in between is taken, what clients have done in the new one since is left alone."""
    old, new = await _pair(primary)
    seen: set[int | str] = set()
    await carry_over(primary.server, old, new, Carry(), seen=seen)
    await primary.server.upsert(old, points(9100, 9103))
    await primary.server.delete_points(new, [20, 9000])
    await primary.server.upsert(new, changed(9101, 9102))
    late = await carry_over(primary.server, old, new, Carry(), seen=seen, late=True)
    assert (late.added, late.carried, late.changed, late.deleted) == (2, 2, 0, 0)
    there = {point["id"]: point for point in await primary.server.retrieve(new, [20, 9000, 9100, 9101, 9102])}
    assert sorted(there) == [9100, 9101, 9102]
    assert there[9101]["payload"]["year"] == 1900


@pytest.mark.parametrize(
    ("ids", "filter_json", "found"),
    [
        (None, None, None),
        ("1, 2", None, {"must": [{"has_id": [1, 2]}]}),
        (UUIDS[0], None, {"must": [{"has_id": [UUIDS[0]]}]}),
        (None, '{"must":[]}', {"must": []}),
    ],
)
def test_selection(ids: str | None, filter_json: str | None, found: Json | None) -> None:
    """Ids become a filter, a filter stays what it is, nothing selects everything."""
    assert selection(ids, filter_json) == found


@pytest.mark.parametrize(("ids", "filter_json"), [("1", "{}"), (" , ", None), (None, "{"), (None, "[]"), (None, "{}")])
def test_selection__that_cannot_be_read(ids: str | None, filter_json: str | None) -> None:
    """What is not a selection is refused before anything is begun."""
    with pytest.raises(InputInvalid):
        selection(ids, filter_json)


async def test_points__missing_then_differing_then_undone(primary: CleanServer, tmp_path: Path) -> None:
    """Only missing ones by default; others on request; both taken back, but for what somebody has changed since."""
    live, backup = await _pair(primary)
    server = primary.server
    only = {"must": [{"key": "lang", "match": {"value": "de"}}]}
    before = {point["id"]: point for point in (await server.scroll(live, limit=2000))["points"]}
    found = await compare([Source(server, backup)], server, live, only)
    assert found.missing == [3, 6, 9, UUIDS[2]]
    assert found.differing == [102]
    assert found.same == 200 - 4
    assert found.titles[3].startswith('{"lang": "de", "year": 2003')
    file = tmp_path / "undo.jsonl"
    written = await write_points(server, live, found, file, overwrite=False)
    assert (written.missing, written.overwritten) == (4, 0)
    again = await compare([Source(server, backup)], server, live, only)
    assert (again.missing, again.differing) == ([], [102])
    second = tmp_path / "second.jsonl"
    written = await write_points(server, live, again, second, overwrite=True)
    assert (written.missing, written.overwritten) == (0, 1)
    with pytest.raises(InputInvalid, match="exists already"):
        await write_points(server, live, found, file, overwrite=True)

    await server.upsert(live, changed(6, 7))
    assert (await undo_points(server, second, dry_run=True))[1].put_back == 1
    name, undone = await undo_points(server, second)
    assert (name, undone.removed, undone.put_back, undone.changed_since) == (live, 0, 1, ())
    _, undone = await undo_points(server, file)
    assert (undone.removed, undone.put_back, undone.changed_since) == (3, 0, (6,))
    _, repeated = await undo_points(server, file)
    assert (repeated.removed, repeated.changed_since) == (0, (6,))
    after = {point["id"]: point for point in (await server.scroll(live, limit=2000))["points"]}
    assert after.pop(6)["payload"]["year"] == 1900
    assert after == before


async def test_points__nothing_to_write_makes_no_file(primary: CleanServer, tmp_path: Path) -> None:
    """Where all is the same there is nothing to undo."""
    live, backup = await _pair(primary)
    found = await compare([Source(primary.server, backup)], primary.server, live, selection("1,2", None))
    assert found.same == 2
    written = await write_points(primary.server, live, found, tmp_path / "undo.jsonl", overwrite=True)
    assert written.undo_file is None
    assert not (tmp_path / "undo.jsonl").exists()


async def test_points__an_undo_file_of_something_else(primary: CleanServer, tmp_path: Path) -> None:
    """What is not an undo file, is not there, or is another target's, is refused; a cut last line is left out."""
    file = tmp_path / "undo.jsonl"
    with pytest.raises(NotFound):
        await undo_points(primary.server, file)
    file.write_text("{}\n")
    with pytest.raises(InputInvalid, match="cannot be read"):
        await undo_points(primary.server, file)
    header = {"format": "reanimate points undo 1", "target": "elsewhere", "collection": "kb"}
    file.write_text(json.dumps(header) + "\n")
    with pytest.raises(InputInvalid, match="is of elsewhere"):
        await undo_points(primary.server, file)
    live, _ = await _pair(primary)
    file.write_text(json.dumps({**header, "target": "primary", "collection": live}) + '\n{"id": 1, "wri')
    assert (await undo_points(primary.server, file))[1].removed == 0
