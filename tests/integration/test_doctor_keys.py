"""The doctor finds a lost key before it is needed, and says what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from object_stores import make_bucket, ministack
from pyrage import x25519
from stored_backups import publish_small

from reanimate.backups.keyring import Keyring, signing_key_file
from reanimate.backups.repositories import open_repositories
from reanimate.config import BackupSettings, Settings
from reanimate.doctor.finding import Finding, Level
from reanimate.doctor.keys import encryption_findings, sealed_finding, signing_findings
from reanimate.doctor.protection import store_findings


def _identity(path: Path) -> str:
    """Write a new identity and return its recipient."""
    identity = x25519.Identity.generate()
    path.write_text(f"# created: today\n{identity}\n")
    path.chmod(0o600)
    return str(identity.to_public())


def _settings(home: Path, **backups: object) -> Settings:
    home.mkdir(exist_ok=True)
    return Settings(home=home, backups=BackupSettings.model_validate(backups))


def _levels(findings: list[Finding]) -> list[Level]:
    return [finding.level for finding in findings]


def test_encryption__is_tried_on_what_would_be_encrypted(tmp_path: Path) -> None:
    """A recipient whose identity is here is fine; none here, another's, unreadable or open to others is told."""
    ours, theirs = _identity(tmp_path / "ours"), _identity(tmp_path / "theirs")
    own = tmp_path / "ours"

    def found(**settings: object) -> list[Finding]:
        return [*encryption_findings(BackupSettings.model_validate(settings))]

    assert _levels(found()) == [Level.OK]
    (good,) = found(recipients=[ours, theirs], identities=[own])
    assert (good.level, "to 2 recipients, 1 of which" in good.found) == (Level.OK, True)
    cases: list[tuple[dict[str, object], str]] = [
        ({"recipients": [ours]}, "no identity here can open them"),
        ({"recipients": [theirs], "identities": [own]}, "none of the 1 identities here opens"),
        ({"recipients": [ours], "identities": [tmp_path / "nowhere"]}, "cannot be read"),
        ({"recipients": ["age1nonsense"], "identities": [own]}, "is no age recipient"),
    ]
    for settings, told in cases:
        (bad,) = found(**settings)
        assert (bad.level, told in bad.found, bool(bad.to_do)) == (Level.FAIL, True, True), bad
    own.chmod(0o644)
    assert _levels(found(recipients=[ours], identities=[own])) == [Level.WARN, Level.OK]


def test_signing_key__missing_open_or_broken(tmp_path: Path) -> None:
    """Looking makes no key; one that others can read, is no key, or does not fit its public half is told."""
    settings = _settings(tmp_path / "home")
    path = signing_key_file(settings.home)
    (missing,) = signing_findings(settings)
    assert (missing.level, "is not there" in missing.found, path.exists()) == (Level.WARN, True, False)
    keyring = Keyring.load_or_create(settings.home, settings.backups)
    (good,) = signing_findings(settings)
    assert (good.level, good.found) == (Level.OK, keyring.public_key)
    path.chmod(0o640)
    assert _levels([*signing_findings(settings)]) == [Level.WARN, Level.OK]
    path.chmod(0o600)
    path.with_suffix(".pub").write_text("ed25519:another\n")
    assert _levels([*signing_findings(settings)]) == [Level.WARN]
    path.write_text("no key\n")
    (bad,) = signing_findings(settings)
    assert (bad.level, "not readable as the key" in bad.found) == (Level.FAIL, True)


async def test_encrypted_backups__that_nobody_here_can_open(tmp_path: Path) -> None:
    """Every recipient set that is still in the repository is tried by its headers alone."""
    ours, lost = _identity(tmp_path / "ours"), _identity(tmp_path / "lost")

    def settings(recipient: str | None, *files: str) -> Settings:
        recipients = [recipient] if recipient else []
        return _settings(tmp_path / "home", recipients=recipients, identities=[str(tmp_path / name) for name in files])

    async def found(*files: str) -> Finding | None:
        return await sealed_finding(open_repositories(settings(None, *files))["local"])

    assert await found("ours") is None
    await publish_small(open_repositories(settings(None))["local"].catalog, 1, b"plain")
    assert await found("ours") is None
    old = await publish_small(open_repositories(settings(lost))["local"].catalog, 2, b"sealed" * 9000)
    new = await publish_small(open_repositories(settings(ours))["local"].catalog, 3, b"sealed")
    good = await found("ours", "lost")
    assert good is not None
    assert (good.level, good.found) == (Level.OK, "open all 2 encrypted backups")
    for files, told in ((("ours",), old), (("lost",), new), ((), new)):
        bad = await found(*files)
        assert bad is not None
        assert (bad.level, told.manifest.id in bad.found) == (Level.FAIL, True)
    part = tmp_path / "home" / "blobs" / new.manifest.parts[0].blob
    part.write_bytes(b"no age file" + part.read_bytes()[11:])
    bad = await found("ours", "lost")
    assert bad is not None
    assert "age header is damaged" in bad.found


async def test_doctor__tells_it_all(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """The whole of the repositories' findings: keys, a rolled back repository, a bucket that locks."""
    recipient = _identity(tmp_path / "ours")
    with ministack(free_port(), tmp_path / "stack") as url:
        bucket = make_bucket(url, locked_days=7)
        far = {"name": "far", "url": bucket.url, "options": bucket.options}
        settings = _settings(tmp_path / "home", recipients=[recipient], repositories=[far])
        await publish_small(open_repositories(settings)["far"].catalog, 1, b"sealed")
        findings = {finding.about: finding for finding in await store_findings(settings)}
    assert findings["encryption"].level is Level.FAIL
    assert findings["keys of far"].level is Level.FAIL
    assert "locked by the bucket (COMPLIANCE) until" in findings["object lock of far"].found
    assert findings["repository local"].level is findings["repository far"].level is Level.OK
    assert findings["signing key"].level is Level.OK


@pytest.mark.parametrize("bits", [0o600, 0o400])
def test_private_file__is_fine(tmp_path: Path, bits: int) -> None:
    """Only the owner may read it: nothing is said."""
    recipient = _identity(tmp_path / "ours")
    (tmp_path / "ours").chmod(bits)
    settings = BackupSettings(recipients=(recipient,), identities=(tmp_path / "ours",))
    assert _levels([*encryption_findings(settings)]) == [Level.OK]
