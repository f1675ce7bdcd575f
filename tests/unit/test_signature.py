"""Signed documents: what was swapped, edited or signed by a stranger is told; a chain shows what was replaced."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from manifests import TAKEN, manifest
from obstore.store import MemoryStore

from reanimate.backups.catalog import Catalog, backup_prefix
from reanimate.backups.keyring import Keyring, signing_key_file
from reanimate.backups.manifest import Manifest
from reanimate.backups.marks import newest, read_mark, remove_mark, write_mark
from reanimate.backups.signature import open_signed, sign
from reanimate.config import BackupSettings
from reanimate.errors import ConfigInvalid, Damaged

DOCUMENT = {"id": "x", "score": 0.1, "text": "Größe \ud800", "nested": {"b": [1, 2.5, None]}}


def test_signature__opens_and_is_the_same_each_time() -> None:
    """The same content gives the same bytes, and reads back without the signature."""
    keyring = Keyring.ephemeral()
    signed = sign(json.dumps(DOCUMENT).encode(), keyring)
    assert signed == sign(signed, keyring)
    assert open_signed(signed, keyring, where="x") == DOCUMENT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document | {"id": "y"}, "changed after"),
        (lambda document: document | {"more": 1}, "changed after"),
        (lambda document: {key: value for key, value in document.items() if key != "text"}, "changed after"),
        (lambda document: {key: value for key, value in document.items() if key != "signature"}, "not signed"),
        (lambda document: document | {"signature": document["signature"] | {"value": "AAAA"}}, "changed after"),
        (lambda document: document | {"signature": document["signature"] | {"key": "ed25519:AAAA"}}, "not trusted"),
        (lambda document: document | {"signature": "yes"}, "not trusted"),
    ],
)
def test_signature__what_was_changed_is_told(change: object, said: str) -> None:
    """Every edit shows, those of the signature too."""
    keyring = Keyring.ephemeral()
    document = json.loads(sign(json.dumps(DOCUMENT).encode(), keyring))
    with pytest.raises(Damaged, match=said):
        open_signed(json.dumps(change(document)).encode(), keyring, where="x")  # type: ignore[operator]


def test_signature__of_a_stranger_counts_when_trusted() -> None:
    """A key of another installation is believed only when the settings say so."""
    ours, theirs = Keyring.ephemeral(), Keyring.ephemeral()
    signed = sign(b'{"id": 1}', theirs)
    with pytest.raises(Damaged, match="not trusted"):
        open_signed(signed, ours, where="x")
    assert open_signed(signed, replace(ours, trusted=frozenset({theirs.public_key})), where="x") == {"id": 1}


def test_keyring__is_made_once_and_never_overwritten(tmp_path: Path) -> None:
    """The key lasts, only its owner can read it, and one that cannot be read is told instead of replaced."""
    first = Keyring.load_or_create(tmp_path, BackupSettings())
    assert Keyring.load_or_create(tmp_path, BackupSettings()).public_key == first.public_key
    file = signing_key_file(tmp_path)
    assert file.stat().st_mode & 0o077 == 0
    assert file.with_suffix(".pub").read_text().strip() == first.public_key
    file.write_bytes(b"garbage")
    with pytest.raises(ConfigInvalid, match=r"signing\.key"):
        Keyring.load_or_create(tmp_path, BackupSettings())
    assert file.read_bytes() == b"garbage"


async def test_catalog__tells_a_manifest_that_was_replaced_by_an_older_one() -> None:
    """A rightly signed manifest in the place of another is found by the link from the next one."""
    catalog = Catalog(MemoryStore())
    key = f"{backup_prefix('kb', 'a')}/manifest.json"
    replayed = sign(manifest(id="a", exact_count=1).to_bytes(), catalog.keyring)
    await catalog.publish(manifest(id="a"))
    await catalog.publish(manifest(id="b", taken_at=TAKEN + timedelta(hours=1)))
    assert catalog.get("b").previous is not None
    await obstore.put_async(catalog.store, key, replayed)
    assert [one.id for one in catalog.list()] == ["b"]
    with pytest.raises(Damaged, match="not the one that was there when b was published"):
        catalog.get("a")


async def test_marks__come_and_go_with_the_listing() -> None:
    """A mark shows in the listing by its name alone, is signed, and can be taken back."""
    catalog = Catalog(MemoryStore())
    published = await catalog.publish(manifest(id="a"))
    for what in ("pinned", "proof-passed", "deleted"):
        await write_mark(catalog.store, published.folder, what, {"by": "me"}, catalog.keyring, now=TAKEN)
    (found,) = catalog.published(Manifest)
    assert {mark.what for mark in found.marks} == {"pinned", "proof-passed", "deleted"}
    assert found.proven_at == TAKEN
    assert catalog.list() == []
    deleted = newest(found.marks, "deleted")
    assert deleted is not None
    assert await read_mark(catalog.store, deleted, catalog.keyring) == {"what": "deleted", "by": "me"}
    await remove_mark(catalog.store, deleted)
    assert [one.id for one in catalog.list()] == ["a"]
    await write_mark(catalog.store, published.folder, "damaged", {}, catalog.keyring, now=TAKEN)
    assert catalog.list() == []
