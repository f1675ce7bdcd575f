"""The keys of backups: the one that signs, those that are trusted, and who can open what is encrypted.

The signing key is `keys/signing.key` in the home directory, made at first use; its public half stands beside it. Keep a
copy of the public half, and of every age identity, where the home directory is not.
"""

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from reanimate.config import BackupSettings
from reanimate.errors import ConfigInvalid
from reanimate.files import write_atomically

__all__ = ["Keyring", "signing_key_file"]

_PREFIX = "ed25519:"


def signing_key_file(home: Path) -> Path:
    """Return where the signing key of an installation is."""
    return home / "keys" / "signing.key"


@dataclass(frozen=True, repr=False)
class Keyring:
    """What backups are signed, trusted, encrypted and opened with."""

    signing: Ed25519PrivateKey
    trusted: frozenset[str] = frozenset()
    """Public keys as `ed25519:<base64>`; our own is always among them."""
    recipients: tuple[str, ...] = ()
    """age recipients; with none, parts are not encrypted."""
    identity_files: tuple[Path, ...] = ()
    accept_unsigned: bool = False
    public_key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        raw = self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        object.__setattr__(self, "public_key", _PREFIX + base64.b64encode(raw).decode())
        object.__setattr__(self, "trusted", self.trusted | {self.public_key})

    def __repr__(self) -> str:
        return f"Keyring({self.public_key})"

    @classmethod
    def ephemeral(cls) -> "Keyring":
        """Return a keyring that nobody else will ever have."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, home: Path, settings: BackupSettings) -> "Keyring":
        """Read the signing key of this home directory; make it when there is none.

        Raises:
            ConfigInvalid: the file is there and is no key, or cannot be written. It is never overwritten.
        """
        return cls(
            _load_or_create(signing_key_file(home)),
            frozenset(settings.trusted_keys),
            settings.recipients,
            settings.identities,
            settings.accept_unsigned,
        )

    def identities(self) -> list[str]:
        """Return the age identities of all identity files, read anew each time: they may lie on a stick.

        Raises:
            ConfigInvalid: a file cannot be read, or holds none.
        """
        found: list[str] = []
        for path in self.identity_files:
            try:
                lines = [line.strip() for line in path.expanduser().read_text().splitlines()]
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigInvalid(
                    f"the age identity file {path} cannot be read: {error}", hint="see backups.identities"
                ) from error
            keys = [line for line in lines if line.startswith("AGE-SECRET-KEY-")]
            if not keys:
                raise ConfigInvalid(
                    f"the age identity file {path} holds no AGE-SECRET-KEY", hint="see backups.identities"
                )
            found += keys
        return found


def _load_or_create(path: Path) -> Ed25519PrivateKey:
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        try:
            _create(path, base64.b64encode(raw) + b"\n")
        except OSError as error:
            raise ConfigInvalid(f"the key that signs backups cannot be written to {path}: {error}") from error
    try:
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_bytes(), validate=False))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(
            f"{path} is not readable as the key that signs backups: {error}",
            hint="put it back from your copy; or move it away to have a new one made, and trust the old public key",
        ) from error
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    beside = path.with_suffix(".pub")
    if not beside.exists():
        try:
            write_atomically(beside, (_PREFIX + base64.b64encode(public).decode() + "\n").encode())
        except OSError as error:
            raise ConfigInvalid(f"the public key of backups cannot be written to {beside}: {error}") from error
    return key


def _create(path: Path, content: bytes) -> None:
    """Write a file unless somebody else just did: of two processes at the first start both must use one key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    write_atomically(aside, content, mode=0o600)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink(missing_ok=True)
