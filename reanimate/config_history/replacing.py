"""Put a kept content back where it was: written beside, synced, read back, and only then renamed over the present one.

A kill at any line leaves the old file or the new one; what lies beside is removed by the next attempt.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reanimate.config_history.finding import RESTORING
from reanimate.config_history.reading import Look, look
from reanimate.config_history.versions import Version
from reanimate.errors import Busy, ConfigInvalid, Damaged, Refused

__all__ = ["Replacement", "clear", "prepare_file", "prepare_link", "prepare_removal"]


@dataclass(frozen=True)
class Replacement:
    """What will take the place of a path, ready beside it. Nothing has changed until `commit`."""

    path: Path
    aside: Path | None
    """None: the path is to be removed."""
    present: Look
    """How the path looked when it was last kept."""

    def commit(self) -> None:
        """Put it in place.

        Raises:
            Busy: somebody has changed the path since it was kept; it is left as it is.
            Refused, ConfigInvalid: the folder cannot be written; nothing was replaced.
        """
        try:
            if look(self.path) != self.present:
                raise Busy(
                    f"restoring {self.path}: it was changed while it was being restored, and is left as it is",
                    hint="see who writes it, then try again",
                )
            if self.aside is None:
                self.path.unlink(missing_ok=True)
            else:
                self.aside.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise _ours(self.path, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what lies beside; after a commit there is nothing."""
        if self.aside is not None:
            _remove(self.aside)


def prepare_file(path: Path, content: bytes, version: Version, *, present: Look) -> Replacement:
    """Write a file of this content, with mode and owner of the version, beside `path`, and read it back.

    Raises:
        Damaged: the content is not what its version says, or did not arrive on the disk so.
        Refused: this user may not give the file its owner, or not write there.
        ConfigInvalid: the disk is full, or does not work.
    """
    if hashlib.sha256(content).hexdigest() != version.sha256:
        raise Damaged(f"restoring {path}: the content fetched is not that of its version; nothing was written")
    aside = _aside(path)
    try:
        _write(aside, path, content, version)
        if hashlib.sha256(aside.read_bytes()).hexdigest() != version.sha256:
            raise Damaged(f"restoring {path}: {aside} reads back as something else", hint="look after this disk")
    except BaseException as error:
        _remove(aside)
        if isinstance(error, OSError):
            raise _ours(path, error) from error
        raise
    return Replacement(path, aside, present)


def prepare_link(path: Path, link: str, *, present: Look) -> Replacement:
    """Make a symlink to `link` beside `path`.

    Raises:
        Refused, ConfigInvalid: as `prepare_file`.
    """
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        aside.symlink_to(link)
    except OSError as error:
        _remove(aside)
        raise _ours(path, error) from error
    return Replacement(path, aside, present)


def prepare_removal(path: Path, *, present: Look) -> Replacement:
    """Say that `path` is to be removed, as it was when the version in which it is deleted was found."""
    return Replacement(path, None, present)


def clear(path: Path) -> None:
    """Remove what a cut restore may have left beside a path."""
    _remove(_aside(path))


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


def _aside(path: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()
    return path.with_name(f"{RESTORING}{digest[:12]}")


def _remove(aside: Path) -> None:
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
