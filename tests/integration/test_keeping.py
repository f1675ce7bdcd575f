"""Pins, holds and deletions by hand; retention over several repositories, and where a store lets nothing go."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faulty_proxy import Fault, proxied
from manifests import manifest
from object_stores import make_bucket, ministack
from typer.testing import CliRunner

from reanimate.backups.catalog import backup_prefix
from reanimate.backups.manifest import VectorManifest
from reanimate.backups.marks import write_mark
from reanimate.backups.repositories import Repository, open_repositories
from reanimate.cli import app
from reanimate.clock import utcnow
from reanimate.config import BackupSettings, RepositorySettings, RetentionSettings, Settings
from reanimate.errors import NotFound, Refused
from reanimate.protection import keeping
from reanimate.protection.retention import Action, retain_everywhere

NOW = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
SHORT = RetentionSettings(days=1, weekly=0, monthly=0, grace_days=3)
Repositories = dict[str, Repository]


@pytest.fixture
def repositories(tmp_path: Path) -> Repositories:
    """Two of them, of which the second keeps everything for a month."""
    long = RetentionSettings(days=30, weekly=0, monthly=0)
    cloud = RepositorySettings(name="cloud", url=(tmp_path / "cloud").as_uri(), retention=long)
    return open_repositories(Settings(home=tmp_path, backups=BackupSettings(retention=SHORT, repositories=(cloud,))))


async def publish(repository: Repository, name: str, days_ago: float, *, proven: bool = True) -> None:
    """Publish a backup with one small part; the same name has the same bytes everywhere."""
    catalog, folder, taken_at = repository.catalog, backup_prefix("kb", name), NOW - timedelta(days=days_ago)
    await catalog.store.put_async(f"{folder}/shard-0.snapshot", b"bytes")
    part = {"shard_id": 0, "blob": f"{folder}/shard-0.snapshot", "size": 5, "sha256": "00" * 32}
    await catalog.publish(manifest(id=name, collection="kb", taken_at=taken_at, parts=[part]))
    if proven:
        await write_mark(catalog.store, folder, "proof-passed", {}, catalog.keyring, now=taken_at)


def listed(repository: Repository) -> set[str]:
    return {one.id for one in repository.catalog.list()}


async def test_retention__each_repository_by_its_own_rule(repositories: Repositories) -> None:
    """What was proven in the first holds for the copies; what goes from one may stay in the other."""
    for name, days in (("new", 0.1), ("older", 5), ("ancient", 60)):
        await publish(repositories["local"], name, days)
        await publish(repositories["cloud"], name, days, proven=False)
    outcomes = await retain_everywhere(repositories, zone="UTC", now=NOW)
    assert set(outcomes) == {"local", "cloud"}
    assert listed(repositories["local"]) == {"new"}
    assert listed(repositories["cloud"]) == {"new", "older"}
    with pytest.raises(NotFound, match="moon"):
        await retain_everywhere(repositories, zone="UTC", now=NOW, only="moon")


async def test_retention__a_proof_is_no_word_about_other_bytes(repositories: Repositories) -> None:
    """A copy that is not the same is as unproven as it was."""
    await publish(repositories["local"], "new", 0.1)
    catalog = repositories["cloud"].catalog
    part = {"shard_id": 0, "blob": "backups/kb/new/shard-0.snapshot", "size": 5, "sha256": "ff" * 32}
    await catalog.publish(manifest(id="new", collection="kb", taken_at=NOW - timedelta(days=0.1), parts=[part]))
    assert await keeping.carry_marks(repositories["local"].catalog, catalog) == 0
    assert catalog.find("new", VectorManifest).proven_at is None


async def test_keeping__a_pin_and_a_hold_are_everywhere(repositories: Repositories) -> None:
    """Both keep the backup in every repository that has it, and are carried to copies that come later."""
    first, cloud = repositories.values()
    await publish(first, "new", 0.1)
    await publish(first, "old", 5)
    assert await keeping.mark(repositories, "old", "held", by="anna", reason="a lawsuit", now=NOW) == ["local"]
    await publish(cloud, "old", 5)
    await publish(cloud, "new", 0.1)
    outcomes = await retain_everywhere(repositories, zone="UTC", now=NOW + timedelta(days=60))
    assert [one.verdict.keep for one in outcomes["cloud"]] == [True, True]
    with pytest.raises(Refused, match="legal hold"):
        await keeping.delete(repositories, "old", by="anna", reason="", now=NOW, force=True)
    assert await keeping.take_mark_back(repositories, "old", "held") == ["local", "cloud"]
    with pytest.raises(NotFound, match="not held"):
        await keeping.take_mark_back(repositories, "old", "held")
    with pytest.raises(NotFound, match="nothing"):
        await keeping.mark(repositories, "nothing", "pinned", by="anna", reason="", now=NOW)


async def test_keeping__deleting_by_hand_and_having_it_back(repositories: Repositories) -> None:
    """Hidden at once, gone after the grace; had back, it is pinned. The last proven one only by force."""
    local = repositories["local"]
    await publish(local, "new", 0.1, proven=False)
    await publish(local, "old", 0.5)
    with pytest.raises(Refused, match="no other backup of kb is proven"):
        await keeping.delete(repositories, "old", by="anna", reason="", now=NOW)
    until = await keeping.delete(repositories, "old", by="anna", reason="", now=NOW, force=True)
    assert until == {"local": NOW + timedelta(days=3)}
    assert listed(local) == {"new"}
    assert await keeping.undelete(repositories, "old", by="anna", reason="", now=NOW) == ["local"]
    assert listed(local) == {"new", "old"}
    await retain_everywhere(repositories, zone="UTC", now=NOW + timedelta(days=90))
    assert listed(local) == {"new", "old"}
    with pytest.raises(NotFound, match="not deleted"):
        await keeping.undelete(repositories, "old", by="anna", reason="", now=NOW)


async def test_retention__what_the_store_keeps_is_reported(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """A bucket that refuses to delete: every backup is told of, nothing is lost, and nothing fails."""
    with ministack(free_port(), tmp_path / "ministack") as server:
        async with proxied(server) as proxy:
            at = make_bucket(server)
            options = {**at.options, "endpoint": proxy.url, "region": "us-east-1"}
            settings = Settings(
                home=tmp_path,
                backups={"store": at.url, "options": options, "retention": SHORT},  # type: ignore[arg-type]
            )
            repositories = open_repositories(settings)
            for name, days in (("new", 0.1), ("old", 5), ("older", 6)):
                await publish(repositories["local"], name, days)
            await retain_everywhere(repositories, zone="UTC", now=NOW)
            proxy.faults += [Fault("status", "POST", "delete", status=403, times=99)]
            after = NOW + timedelta(days=4)
            (outcomes,) = (await retain_everywhere(repositories, zone="UTC", now=after)).values()
            assert [one.action for one in outcomes] == [Action.KEPT, Action.REFUSED, Action.REFUSED]
            assert "keeps it" in outcomes[1].detail
            proxy.faults.clear()
            (outcomes,) = (await retain_everywhere(repositories, zone="UTC", now=after)).values()
            assert [one.action for one in outcomes] == [Action.KEPT, Action.REMOVED, Action.REMOVED]


async def test_retention__in_a_bucket_that_locks_says_what_deleting_does(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Deleting there hides and frees nothing yet: until when is said, in a dry run too."""
    with ministack(free_port(), tmp_path / "ministack") as server:
        at = make_bucket(server, locked_days=30)
        backups = {"store": at.url, "options": at.options, "retention": SHORT}
        repositories = open_repositories(Settings(home=tmp_path, backups=backups))  # type: ignore[arg-type]
        for name, days in (("new", 0.1), ("old", 5)):
            await publish(repositories["local"], name, days)
        await retain_everywhere(repositories, zone="UTC", now=utcnow())
        (outcomes,) = (await retain_everywhere(repositories, zone="UTC", now=utcnow() + timedelta(days=4))).values()
        assert outcomes[1].action is Action.REMOVED
        assert "locked by the bucket (COMPLIANCE) until" in outcomes[1].detail
        assert listed(repositories["local"]) == {"new"}


async def test_commands__say_what_they_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For people and for machines; a dry run changes nothing."""
    monkeypatch.setenv("REANIMATE_HOME", str(tmp_path))
    monkeypatch.setenv("REANIMATE_BACKUPS__RETENTION__WEEKLY", "0")
    monkeypatch.setenv("REANIMATE_BACKUPS__RETENTION__MONTHLY", "0")
    repositories = open_repositories(Settings(home=tmp_path))
    ago = (NOW - utcnow()) / timedelta(days=1)
    await publish(repositories["local"], "new", ago)
    await publish(repositories["local"], "old", ago + 8)
    runner = CliRunner()

    async def said(*words: str, code: int = 0) -> str:
        answer = await asyncio.to_thread(runner.invoke, app, ["backup", *words])
        assert answer.exit_code == code, answer.output
        return answer.output

    foretold = json.loads(await said("retain", "--dry-run", "--json"))["local"]
    assert [(one["id"], one["keep"], one["action"]) for one in foretold] == [
        ("new", True, "kept"),
        ("old", False, "deleted"),
    ]
    assert foretold[1]["reasons"][0] == "older than 7 days"
    assert "nothing is done" in await said("retain", "--dry-run")
    assert listed(repositories["local"]) == {"new", "old"}
    assert "to be had back until" in " ".join((await said("retain")).split())
    assert listed(repositories["local"]) == {"new"}
    assert "back, and pinned" in await said("undelete", "old")
    assert "unpinned" in await said("unpin", "old")
    assert "held" in await said("hold", "old", "--reason", "a lawsuit")
    assert "legal hold" in await said("delete", "old", "--reason", "space", code=1)
    assert "released" in await said("release", "old")
    assert json.loads(await said("pin", "old", "--reason", "mine", "--json")) == {
        "id": "old",
        "state": "pinned",
        "repositories": ["local"],
    }
