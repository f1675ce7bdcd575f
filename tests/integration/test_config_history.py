"""Versions of real files: what is kept, by whom, how often stored, and the way back over every kind of trouble."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore
from pyrage import x25519

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.clock import utcnow
from reanimate.config import ConfigurationSettings
from reanimate.config_history import keeping, replacing
from reanimate.config_history.keeping import ConfigHistory
from reanimate.config_history.looks import Looks
from reanimate.config_history.reading import look
from reanimate.config_history.restoring import plan_version, restore_version
from reanimate.config_history.scanning import scan_files
from reanimate.config_history.states import difference
from reanimate.config_history.versions import Version, choose
from reanimate.doctor.configuration import plain_secrets
from reanimate.errors import Busy, NotFound, Refused

AS_ROOT = os.geteuid() == 0
KILLER = Path(__file__).parent.parent / "config_killer.py"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The folder whose files are kept."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk here has a fine clock: nobody waits two seconds for a file to be old."""
    monkeypatch.setattr("reanimate.config_history.looks._TICK_NS", 300_000_000)


def history_of(catalog: Catalog, etc: Path, **settings: object) -> ConfigHistory:
    """Return a history of all in `etc`, as a process would open it anew."""
    named = ConfigurationSettings.model_validate({"files": [str(etc)], **settings})
    return ConfigHistory(
        Catalog(catalog.store, catalog.scratch, catalog.keyring), named, name="agent", home=etc.parent / "home"
    )


async def found(history: ConfigHistory, path: Path) -> list[Version]:
    return await history.versions(str(path))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(catalog: Catalog) -> list[str]:
    """Return the keys of all stored contents."""
    return [key for key in catalog.keys("configs") if "/content/" in key]


def git(folder: Path, *arguments: str, who: str = "Ada") -> None:
    subprocess.run(
        [
            *("git", "-c", f"user.name={who}", "-c", f"user.email={who.lower()}@example.org"),
            "-C",
            str(folder),
            *arguments,
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"},
    )


# -- keeping -----------------------------------------------------------------------------------------------------------


async def test_keep__each_change_is_a_version_and_each_content_is_stored_once(catalog: Catalog, etc: Path) -> None:
    """A hundred files of three contents are three objects; what does not change, or comes back, makes none."""
    for number in range(100):
        (etc / f"{number}.yaml").write_text(f"model: {number % 3}\n")
    history = history_of(catalog, etc)
    first = await history.keep()
    assert (len(first.changes), first.watched, first.problems) == (100, 100, ())
    assert len(contents(catalog)) == 3
    objects = catalog.keys("configs")
    again = await history_of(catalog, etc).keep()
    assert (again.changes, again.watched, again.manifest) == ((), 100, first.manifest)
    assert catalog.keys("configs") == objects
    (etc / "1.yaml").write_text("model: new\n")
    (etc / "2.yaml").write_text("model: 0\n")
    (etc / "3.yaml").touch()
    changed = await history_of(catalog, etc).keep()
    assert [version.subject for version in changed.changes] == [str(etc / "1.yaml"), str(etc / "2.yaml")]
    assert len(contents(catalog)) == 4
    (etc / "1.yaml").write_text("model: 1\n")
    await history.keep()
    assert len(contents(catalog)) == 4
    versions = await found(history, etc / "1.yaml")
    assert [await history.content(version) for version in versions] == [b"model: 1\n", b"model: new\n", b"model: 1\n"]
    assert [version.previous for version in versions] == [versions[1].id, versions[2].id, None]


async def test_keep__looks_before_it_reads(catalog: Catalog, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged file is not opened; one that was changed within the clock's tick of being read is."""
    old, young = etc / "old", etc / "young"
    old.write_text("a")
    os.utime(old, (1e9, 1e9))
    await asyncio.sleep(0.4)  # the change time cannot be set back
    young.write_text("b")
    await history_of(catalog, etc).keep()
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: (opened.append(str(path)), real(path, *rest))[1])
    kept = await history_of(catalog, etc).keep()
    assert kept.watched == 2
    assert str(old) not in opened
    assert str(young) in opened


async def test_keep__same_size_and_time_is_still_seen(catalog: Catalog, etc: Path) -> None:
    """Whoever sets the time back after a change is found out by the change time."""
    file = etc / "a"
    file.write_text("one")
    before = file.stat()
    history = history_of(catalog, etc)
    await asyncio.sleep(0.4)
    await history.keep()
    await history.keep()
    file.write_text("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len((await history.keep()).changes) == 1


async def test_keep__says_who_as_git_says_it_and_else_the_owner(catalog: Catalog, etc: Path) -> None:
    """A committed content has its committer's name, one that is not committed its owner's, and nobody is guessed."""
    git(etc, "init", "-q")
    file = etc / "agent.yaml"
    file.write_text("one\n")
    git(etc, "add", ".")
    git(etc, "commit", "-qm", "one", who="Ada")
    history = history_of(catalog, etc)
    await history.keep()
    file.write_text("two\n")
    await history.keep()
    git(etc, "commit", "-qam", "two", who="Bob")
    (etc / "other").write_text("not ours\n")
    await history.keep()
    git(etc, "commit", "-q", "--allow-empty", "-m", "three", who="Eve")
    file.unlink()
    await history.keep()
    git(etc, "commit", "-qam", "gone", who="Cyd")
    file.write_text("two\n")
    await history.keep()
    git(etc, "add", "."), git(etc, "commit", "-qm", "back", who="Dan")
    file.write_text("three\n")
    git(etc, "commit", "-qam", "four", who="Dan")
    await history.keep()
    by = [(version.author.source, version.author.name) for version in reversed(await found(history, file))]
    owner = ("owner", "root") if AS_ROOT else by[1]
    assert by == [
        ("git", "Ada <ada@example.org>"),
        owner,
        ("unknown", "unknown"),  # deleted, and not committed
        owner,
        ("git", "Dan <dan@example.org>"),
    ]
    assert "not committed" in (await found(history, file))[3].author.detail
    assert (await found(history, etc / "other"))[0].author.source == "owner"


async def test_keep__deletions_of_named_files_are_versions(catalog: Catalog, etc: Path) -> None:
    """What is gone is a version; what is not named any more is none, and what comes back follows on its deletion."""
    for name in ("a", "b"):
        (etc / name).write_text(name)
    await history_of(catalog, etc).keep()
    (etc / "a").unlink()
    kept = await history_of(catalog, etc).keep()
    assert [(version.subject, version.kind) for version in kept.changes] == [(str(etc / "a"), "deleted")]
    assert (await history_of(catalog, etc).keep()).changes == ()
    narrow = history_of(catalog, etc, files=[str(etc / "a")])
    assert (await narrow.keep()).changes == ()
    assert [version.kind for version in await found(narrow, etc / "b")] == ["file"]
    (etc / "a").write_text("a")
    await narrow.keep()
    versions = await found(narrow, etc / "a")
    assert [version.kind for version in versions] == ["file", "deleted", "file"]
    assert versions[0].previous == versions[1].id
    assert len(contents(catalog)) == 2


async def test_keep__symlinks_with_what_they_lead_to(catalog: Catalog, etc: Path) -> None:
    """The link and what it leads to are one version: a changed target, a moved link and a dangling one are changes."""
    data = etc.parent / "data"
    data.mkdir()
    (data / "1").write_text("one")
    (data / "2").write_text("two")
    link = etc / "current"
    link.symlink_to(data / "1")
    history = history_of(catalog, etc)
    await history.keep()
    (data / "1").write_text("one!")
    await history.keep()
    link.unlink()
    link.symlink_to(data / "2")
    await history.keep()
    (data / "2").unlink()
    kept = await history.keep()
    assert any("no such file" in problem for problem in kept.problems)
    versions = await found(history, link)
    assert [version.kind for version in versions] == ["symlink"] * 4
    assert [await history.content(version) for version in versions] == [None, b"two", b"one!", b"one"]
    assert versions[2].link == str(data / "1")


async def test_keep__swapped_folder_behind_a_link_is_seen(catalog: Catalog, etc: Path) -> None:
    """As Kubernetes mounts configuration: agent.yaml → ..data/agent.yaml, and ..data is swapped."""
    for number in (1, 2):
        (etc / f"..{number}").mkdir()
        (etc / f"..{number}" / "agent.yaml").write_text(f"model: {number}")
    (etc / "..data").symlink_to("..1")
    (etc / "agent.yaml").symlink_to("..data/agent.yaml")
    history = history_of(catalog, etc, files=[f"{etc}/*.yaml"])
    await history.keep()
    (etc / "..new").symlink_to("..2")
    (etc / "..new").rename(etc / "..data")
    await history.keep()
    versions = await found(history, etc / "agent.yaml")
    assert [await history.content(version) for version in versions] == [b"model: 2", b"model: 1"]


async def test_keep__odd_files_are_told_and_harm_nothing(catalog: Catalog, etc: Path) -> None:
    """Pipes are never waited for; too large, unreadable and binary files and names of any bytes have their versions."""
    (etc / "large").write_bytes(b"x" * 2000)
    (etc / "binary").write_bytes(bytes(range(256)))
    (etc / os.fsdecode(b"\xff\n\\name")).write_text("odd")
    os.mkfifo(etc / "pipe")
    (etc / "secret").write_text("api_key: abc")
    if not AS_ROOT:
        (etc / "secret").chmod(0)
    history = history_of(catalog, etc, max_file_bytes=1000)
    async with asyncio.timeout(10):
        kept = await history.keep()
    by_name = {version.subject.removeprefix(f"{etc}/"): version for version in kept.changes}
    assert set(by_name) == {"large", "binary", r"\xff\x0a\\name", "secret"}
    assert by_name["large"].kind == "too_large"
    assert by_name["secret"].kind == ("file" if AS_ROOT else "unreadable")
    assert await history.content(by_name["binary"]) == bytes(range(256))
    assert await history.content(by_name[r"\xff\x0a\\name"]) == b"odd"
    told = "\n".join(kept.problems)
    assert "2000 bytes are more than configuration.max_file_bytes = 1000" in told
    assert "pipe: it is no file; not kept" in told
    assert (await history.keep()).problems == kept.problems, "each time, for it is not well kept"
    with pytest.raises(Refused, match="has no content"):
        await plan_version(history, by_name["large"])


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not AS_ROOT, reason="giving up rights needs them first")
def test_scan__what_cannot_be_looked_at_is_not_a_deletion(for_all: Path) -> None:
    """A file that may not be read is a version that says so; one in a folder that may not be entered keeps its last."""
    inner = for_all / "inner"
    inner.mkdir()
    files = (inner / "a", for_all / "secret")
    for file in files:
        file.write_text("a")
    first = scan_files([str(for_all)], {}, Looks(), limit=100, now=utcnow())
    before = {draft.version.subject: draft.version for draft in first.drafts}
    inner.chmod(0)
    files[1].chmod(0)
    os.seteuid(65534)
    try:
        scan = scan_files([str(for_all), str(inner / "a")], before, Looks(), limit=100, now=utcnow())
    finally:
        os.seteuid(0)
    assert scan.kept == [before[str(inner / "a")]]
    assert [(draft.version.subject, draft.version.kind) for draft in scan.drafts] == [(str(files[1]), "unreadable")]
    assert scan.drafts[0].version.reason == "permission denied"
    told = "\n".join(scan.problems)
    assert f"{inner / 'a'}: permission denied; its last version stands" in told
    assert f"{files[1]}: permission denied" in told


async def test_keep__torn_by_a_writer_is_not_kept(catalog: Catalog, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes each time while it is read keeps its last version; a half of it is never one."""
    file = etc / "log"
    file.write_text("whole")
    history = history_of(catalog, etc)
    await history.keep()
    real = os.read

    def read_and_write(descriptor: int, size: int) -> bytes:
        content = real(descriptor, size)
        with file.open("a") as writer:
            writer.write("x")
        return content

    file.write_text("next")
    monkeypatch.setattr(os, "read", read_and_write)
    kept = await history.keep()
    monkeypatch.undo()
    assert kept.changes == ()
    assert "changed each time while it was read" in kept.problems[0]
    assert [version.kind for version in await found(history, file)] == ["file"]
    assert len((await history.keep()).changes) == 1


# -- surviving ---------------------------------------------------------------------------------------------------------


async def test_keep__in_a_repository_that_was_lost_begins_anew(catalog: Catalog, etc: Path, tmp_path: Path) -> None:
    """What this machine remembers of the last time is not believed without the manifest."""
    (etc / "a").write_text("a")
    await history_of(catalog, etc).keep()
    elsewhere = Catalog(LocalStore(prefix=tmp_path / "other", mkdir=True), tmp_path / "scratch", catalog.keyring)
    kept = await history_of(elsewhere, etc).keep()
    assert len(kept.changes) == 1
    assert len(contents(elsewhere)) == 1


async def test_keep__from_another_machine_reads_on(catalog: Catalog, etc: Path, tmp_path: Path) -> None:
    """The history is in the repository: a new machine with the key goes on where the old one ended."""
    (etc / "a").write_text("a")
    await history_of(catalog, etc).keep()
    home = replace_home(history_of(catalog, etc), tmp_path / "new-home")
    assert (await home.keep()).changes == ()
    (etc / "a").write_text("b")
    kept = await home.keep()
    assert kept.changes[0].previous is not None
    stranger = Catalog(catalog.store, tmp_path / "scratch", Keyring.ephemeral())
    assert await history_of(stranger, etc).versions() == []
    assert len(stranger.damaged()) == 2


def replace_home(history: ConfigHistory, home: Path) -> ConfigHistory:
    return ConfigHistory(history.catalog, history.settings, name=history.name, home=home)


async def test_keep__one_at_a_time(catalog: Catalog, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once make one version; one that never ends is told."""
    (etc / "a").write_text("a")
    both = await asyncio.gather(history_of(catalog, etc).keep(), history_of(catalog, etc).keep())
    assert sorted(len(kept.changes) for kept in both) == [0, 1]
    monkeypatch.setattr(keeping, "_LOCK_S", 0.2)
    history = history_of(catalog, etc)
    async with history._alone():
        with pytest.raises(Busy, match="keeping configuration"):
            await history_of(catalog, etc).keep()


async def test_keep__sealed_once_there_are_recipients(catalog: Catalog, etc: Path, tmp_path: Path) -> None:
    """With recipients contents are encrypted, those kept in the clear before too; without, secrets are told of."""
    (etc / "a").write_text("password: correct horse\n")
    first = await history_of(catalog, etc).keep()
    assert first.manifest
    assert [version.subject for version in plain_secrets([first.manifest])] == [str(etc / "a")]
    identity = x25519.Identity.generate()
    (tmp_path / "age.key").write_text(str(identity))
    keyring = replace(catalog.keyring, recipients=(str(identity.to_public()),), identity_files=(tmp_path / "age.key",))
    sealed = history_of(Catalog(catalog.store, catalog.scratch, keyring), etc)
    kept = await sealed.keep()
    assert kept.changes == ()
    assert kept.manifest
    assert kept.manifest.id != first.manifest.id
    assert plain_secrets([kept.manifest]) == []
    assert await sealed.content(kept.manifest.versions[0]) == b"password: correct horse\n"
    stored = bytes(obstore.get(catalog.store, kept.manifest.parts[0].blob).bytes())
    assert b"horse" not in stored
    assert (await sealed.keep()).manifest == kept.manifest


async def test_keep__what_a_cut_one_left_is_swept(catalog: Catalog, etc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A content that no manifest names is removed by a later keeping, once it is old; those named never are."""
    (etc / "a").write_text("a")
    history = history_of(catalog, etc)
    await history.keep()
    lost = await history.contents.keep("00" * 32, b"lost")
    (etc / "a").write_text("b")
    await history.keep()
    assert len(contents(catalog)) == 3
    monkeypatch.setattr("reanimate.config_history.contents._LEFT_AFTER", -keeping.timedelta(1))
    (etc / "a").write_text("c")
    await history.keep()
    assert lost.blob not in contents(catalog)
    assert len(contents(catalog)) == 3
    assert [await history.content(each) for each in await found(history, etc / "a")] == [b"c", b"b", b"a"]


# -- differences -------------------------------------------------------------------------------------------------------


async def test_difference__between_versions_and_against_what_is_there(catalog: Catalog, etc: Path) -> None:
    """Without versions named: the newest against live, and when that is the same, the last change."""
    file = etc / "a.yaml"
    file.write_text("model: a\ntoken: first-secret\n")
    file.chmod(0o644)
    history = history_of(catalog, etc)
    await history.keep()
    file.write_text("model: b\ntoken: second-secret\n")
    file.chmod(0o600)
    await history.keep()
    texts = [line.text for line in await difference(history, str(file), None, None)]
    assert texts[0] == "mode: 0644 → 0600"
    assert texts[-4:] == ["-model: a", "-token: •••", "+model: b", "+token: •••"]
    assert await difference(history, str(file), "latest", "live") == []
    file.write_text("model: c\n")
    live = [line.text for line in await difference(history, str(file), None, None)]
    assert "+model: c" in live
    assert "-model: b" in live
    back = [line.text for line in await difference(history, str(file), "live", "previous")]
    assert "+model: a" in back
    newest = (await found(history, file))[0]
    assert [line.text for line in await difference(history, str(file), None, newest.id)] == texts
    file.unlink()
    gone = await difference(history, str(file), "latest", "live")
    assert gone[0].text == "is: file → deleted"
    with pytest.raises(NotFound, match="first version"):
        await difference(history, str(file), None, "previous")
    assert "secret" not in "".join(texts + live + back)


# -- restoring ---------------------------------------------------------------------------------------------------------


async def test_restore__keeps_what_is_there_and_can_be_undone(catalog: Catalog, etc: Path) -> None:
    """Content, mode and owner come back; what stood there, never kept before, is a version and the way back."""
    file = etc / "a.yaml"
    file.write_text("good\n")
    file.chmod(0o640)
    if AS_ROOT:
        os.chown(file, 1234, 2345)
    history = history_of(catalog, etc)
    await history.keep()
    good = (await found(history, file))[0]
    file.unlink()
    file.write_text("bad, and never kept\n")
    plan = await plan_version(history, good)
    assert plan.does == (f"write 5 bytes to {file}, mode 0640, owner {good.owner}",)
    assert file.read_text() == "bad, and never kept\n"
    restored = await restore_version(history, good)
    assert file.read_text() == "good\n"
    assert (look(file).mode_text, look(file).uid, look(file).gid) == ("0640", good.uid, good.gid)
    assert restored.before
    assert await history.content(restored.before) == b"bad, and never kept\n"
    newest = (await found(history, file))[0]
    assert (newest, newest.author.source) == (restored.after, "restore")
    assert newest.author.detail == f"put back version {good.id}"
    assert _names(etc) == ["a.yaml"]
    again = await restore_version(history, good)
    assert (again.plan.does, again.before, again.after) == ((), newest, newest)
    await restore_version(history, restored.before)
    assert file.read_text() == "bad, and never kept\n"
    assert look(file).mode_text == restored.before.mode


async def test_restore__of_a_deleted_file_and_of_a_deletion(catalog: Catalog, etc: Path) -> None:
    """A file comes back with its folder; putting the deletion back takes it away again, and keeps it."""
    file = etc / "deep" / "a"
    file.parent.mkdir()
    file.write_text("a")
    history = history_of(catalog, etc)
    await history.keep()
    kept = (await found(history, file))[0]
    file.unlink()
    file.parent.rmdir()
    restored = await restore_version(history, kept)
    assert file.read_text() == "a"
    assert restored.before
    assert restored.before.kind == "deleted"
    file.write_text("changed since")
    await restore_version(history, restored.before)
    assert not file.exists()
    versions = await found(history, file)
    assert [version.kind for version in versions] == ["deleted", "file", "file", "deleted", "file"]
    assert await history.content(versions[1]) == b"changed since"


async def test_restore__of_symlinks(catalog: Catalog, etc: Path) -> None:
    """A moved link moves back and what it leads to stays; with the link right, what it leads to is put back."""
    data = etc.parent / "data"
    data.mkdir()
    (data / "1").write_text("one")
    (data / "2").write_text("two")
    link = etc / "current"
    link.symlink_to("../data/1")
    history = history_of(catalog, etc)
    await history.keep()
    one = (await found(history, link))[0]
    link.unlink()
    link.symlink_to("../data/2")
    moved = await restore_version(history, one)
    assert str(link.readlink()) == "../data/1"
    assert (data / "2").read_text() == "two"
    (data / "1").write_text("spoilt")
    await restore_version(history, one)
    assert link.is_symlink()
    assert (data / "1").read_text() == "one"
    assert moved.before
    await restore_version(history, moved.before)
    assert link.read_text() == "two"
    link.unlink()
    link.write_text("a file of its own")
    await restore_version(history, one)
    assert str(link.readlink()) == "../data/1"
    kept = next(each for each in await found(history, link) if each.kind == "file")
    await restore_version(history, kept)
    assert not link.is_symlink()
    assert link.read_text() == "a file of its own"
    assert (data / "1").read_text() == "one"


async def test_restore__never_loses_what_cannot_be_kept(catalog: Catalog, etc: Path) -> None:
    """What is there now and too large to be kept is not replaced."""
    file = etc / "a"
    file.write_text("small")
    history = history_of(catalog, etc, max_file_bytes=100)
    await history.keep()
    small = (await found(history, file))[0]
    file.write_bytes(b"x" * 200)
    with pytest.raises(Refused, match="would be lost"):
        await restore_version(history, small)
    assert file.stat().st_size == 200


async def test_restore__by_somebody_writing_meanwhile_is_stopped(
    catalog: Catalog, etc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes between the keeping and the rename keeps what he wrote."""
    file = etc / "a"
    file.write_text("good")
    history = history_of(catalog, etc)
    await history.keep()
    good = (await found(history, file))[0]
    file.write_text("bad")
    real = replacing._write

    def write_meanwhile(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        file.write_text("newer")

    monkeypatch.setattr(replacing, "_write", write_meanwhile)
    with pytest.raises(Busy, match="left as it is"):
        await restore_version(history, good)
    assert file.read_text() == "newer"
    assert _names(etc) == ["a"]


async def test_restore__killed_at_any_line_leaves_the_old_or_the_new(etc: Path, tmp_path: Path) -> None:
    """kill -9 wherever: the file is whole, what stood there is kept before it is replaced, and a repetition ends it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(KILLER), str(tmp_path), str(etc)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    ends = json.loads(out)
    assert ends["killed"] > 50
    assert ends["old"] > 0, "killed after the rename"
    assert ends["new"] > 0, "killed before it"


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.timed
async def test_keep__is_cheap_while_nothing_changes(catalog: Catalog, etc: Path) -> None:
    """Five hundred files are looked over in well under a second, and one object is read."""
    for number in range(500):
        (etc / f"{number:04d}").write_text(str(number % 50))
        os.utime(etc / f"{number:04d}", (1e9, 1e9))
    history = history_of(catalog, etc)
    await asyncio.sleep(0.4)
    await history.keep()
    begin = time.perf_counter()
    kept = await history_of(catalog, etc).keep()
    took = time.perf_counter() - begin
    assert kept.changes == ()
    assert took < 2.0, f"{took:.2f} s"
    noted = json.loads((etc.parent / "home" / "config-history" / "last.json").read_text())
    assert noted["problems"] == []
    assert choose(await history.versions(str(etc / "0001")), "latest").size == 1
