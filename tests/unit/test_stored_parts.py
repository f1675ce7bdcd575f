"""Parts go into a repository and come back with the keys of its catalog."""

from dataclasses import replace
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from pyrage import x25519

from reanimate.backups.catalog import Catalog
from reanimate.backups.keyring import Keyring
from reanimate.backups.stored_parts import fetch_part, store_part
from reanimate.errors import ConfigInvalid, Damaged


def _catalog(folder: Path, **changes: object) -> Catalog:
    return Catalog(MemoryStore(), folder, replace(Keyring.ephemeral(), **changes))  # type: ignore[arg-type]


async def test_store_part__without_recipients_and_back(tmp_path: Path) -> None:
    """The part says where it is and what was done to it; its name is the key's unless another is given."""
    catalog, file = _catalog(tmp_path), tmp_path / "file"
    file.write_bytes(b"row\n" * 10_000)
    part = await store_part(catalog, "dumps/agent/x/agent.dump", file, "rows")
    assert (part.name, part.size, part.packing) == ("agent.dump", 40_000, ("zstd",))
    assert (await store_part(catalog, "other", file, "rows", name="mine")).name == "mine"
    await fetch_part(catalog, part, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


async def test_store_part__sealed_to_the_recipients(tmp_path: Path) -> None:
    """Only who has an identity opens it; a lost one and a wrong recipient are told as such."""
    identity = x25519.Identity.generate()
    key = tmp_path / "age.key"
    key.write_text(f"# made for the test\n{identity}\n")
    catalog = _catalog(tmp_path, recipients=(str(identity.to_public()),), identity_files=(key,))
    file = tmp_path / "file"
    file.write_bytes(b"secret" * 100)
    part = await store_part(catalog, "configs/a", file, "text")
    assert "age" in part.packing
    await fetch_part(catalog, part, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    key.write_text(str(x25519.Identity.generate()))
    with pytest.raises(Damaged, match="can open it"):
        await fetch_part(catalog, part, tmp_path / "back")
    key.unlink()
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        await fetch_part(catalog, part, tmp_path / "back")
    with pytest.raises(ConfigInvalid, match="no age recipient"):
        await store_part(_catalog(tmp_path, recipients=("age1wrong",)), "a", file, "text")
