"""Put a kept content back where it was: written beside, synced, read back, and only then renamed over the present one.

A kill at any line leaves the old file or the new one; what lies beside is removed by the next attempt.
"""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from reanimate.config_history.finding import RESTORING
from reanimate.config_history.reading import Look, look
from reanimate.config_history.versions import Version
from reanimate.errors import Busy, ConfigInvalid, Damaged, Refused

__all__ = ["put_back_file", "put_back_link", "remove_file"]


def put_back_file(path: Path, content: bytes, version: Version, *, present: Look) -> None:
    """Make `path` a file of this content, with mode and owner of the version. `present` is how it looked when it was
    last kept.

    Raises:
        Damaged: the content is not what its version says, or did not arrive on the disk so; nothing was replaced.
        Refused: this user may not give the file its owner, or not write there; nothing was replaced.
        Busy: somebody has changed the file since it was kept.
        ConfigInvalid: the disk is full, or does not work; nothing was replaced.
    """
    if hashlib.sha256(content).hexdigest() != version.sha256:
        raise Damaged(f"restoring {path}: the content fetched is not that of its version; nothing was written")
    aside = _aside(path)
    try:
        _write(aside, path, content, version)
        if hashlib.sha256(aside.read_bytes()).hexdigest() != version.sha256:
            raise Damaged(f"restoring {path}: {aside} reads back as something else", hint="look after this disk")
        _require_unchanged(path, present)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _ours(path, error) from error
    finally:
        _remove(aside)


def put_back_link(path: Path, link: str, *, present: Look) -> None:
    """Make `path` a symlink to `link`.

    Raises:
        Refused, Busy, ConfigInvalid: as `put_back_file`.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        aside.symlink_to(link)
        _require_unchanged(path, present)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _ours(path, error) from error
    finally:
        _remove(aside)


def remove_file(path: Path, *, present: Look) -> None:
    """Remove a file or symlink, as it was when the version in which it is deleted was found.

    Raises:
        Refused, Busy, ConfigInvalid: as `put_back_file`.
    """
    try:
        _require_unchanged(path, present)
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _ours(path, error) from error


def _write(aside: Path, path: Path, content: bytes, version: Version) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(aside, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        made, owner = os.fstat(file.fileno()), (version.uid, version.gid)
        if version.uid is not None and version.gid is not None and (made.st_uid, made.st_gid) != owner:
            os.fchown(file.fileno(), version.uid, version.gid)
        _copy_attributes(path, file.fileno())
        if version.mode is not None:
            os.fchmod(file.fileno(), int(version.mode, 8))  # after the owner: changing that takes set-uid bits away
        os.fsync(file.fileno())


def _copy_attributes(path: Path, descriptor: int) -> None:
    """Take over access lists and labels of the present file, as far as this user and this disk can."""
    with suppress(OSError):
        for name in os.listxattr(path):
            with suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(path, name))


def _require_unchanged(path: Path, present: Look) -> None:
    if look(path) != present:
        raise Busy(
            f"restoring {path}: it was changed while it was being restored, and is left as it is",
            hint="see who writes it, then try again",
        )


def _aside(path: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f"{RESTORING}{digest[:12]}")


def _remove(aside: Path) -> None:
    """Remove what lies beside; after the rename there is nothing."""
    with suppress(OSError):
        aside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _ours(path: Path, error: OSError) -> Exception:
    why = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return Refused(
            f"restoring {path}: {why}; nothing was replaced", hint="run it as root, or as the owner of file and folder"
        )
    return ConfigInvalid(f"restoring {path}: {why}; nothing was replaced", hint="see that the disk has room and works")
