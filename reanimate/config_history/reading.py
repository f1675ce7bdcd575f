"""One path as it is on the disk: looked at first, opened only when it may have changed, never half old and half new."""

import grp
import hashlib
import os
import pwd
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Look", "Seen", "look", "owner_name", "read"]

_ATTEMPTS = 3
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Look:
    """What `lstat` says, and for a symlink what `stat` says of the file it leads to. Equal looks: not changed."""

    kind: str
    """file, symlink, folder, other, or missing."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    links: int = 1
    identity: tuple[int, ...] = ()
    """Device, inode and change time, of the path and of what it leads to."""
    changed_ns: int = 0
    """The newest of the times above: a look taken within the clock's tick of it proves nothing."""

    @property
    def mode_text(self) -> str:
        return f"{self.mode:04o}"

    @property
    def mtime(self) -> datetime:
        return datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)


@dataclass(frozen=True)
class Seen:
    """A path with what is in it. Without content, `reason` says why."""

    look: Look
    content: bytes | None = None
    link: str | None = None
    """Of a symlink, as it is written."""
    reason: str | None = None
    too_large: bool = False
    torn: bool = False
    """It changed each time while it was read."""

    @property
    def sha256(self) -> str | None:
        return None if self.content is None else hashlib.sha256(self.content).hexdigest()


def look(path: Path) -> Look:
    """Look at a path without opening it.

    Raises:
        OSError: it cannot be told whether it is there: no right to look into its folder, or a disk that fails.
    """
    try:
        own = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Look("missing")
    kind = "other"
    if stat.S_ISREG(own.st_mode):
        kind = "file"
    elif stat.S_ISDIR(own.st_mode):
        kind = "folder"
    elif stat.S_ISLNK(own.st_mode):
        kind = "symlink"
    of = own
    if kind == "symlink":
        try:
            of = path.stat()
        except OSError:
            of = own
    return Look(
        kind,
        mode=stat.S_IMODE(of.st_mode),
        uid=of.st_uid,
        gid=of.st_gid,
        mtime_ns=of.st_mtime_ns,
        size=of.st_size,
        links=of.st_nlink,
        identity=(own.st_dev, own.st_ino, own.st_ctime_ns, of.st_dev, of.st_ino, of.st_ctime_ns),
        changed_ns=max(own.st_mtime_ns, own.st_ctime_ns, of.st_mtime_ns, of.st_ctime_ns),
    )


def read(path: Path, limit: int) -> Seen:
    """Read a path, or say why not. Never waits for a pipe, never returns half of two contents.

    Raises:
        OSError: as `look`.
    """
    seen = look(path)
    for _ in range(_ATTEMPTS):
        if seen.kind not in ("file", "symlink"):
            return Seen(seen, reason=f"it is a {seen.kind}" if seen.kind == "folder" else "it is no file")
        found = _read_once(path, seen, limit)
        after = look(path)
        if after == seen and not found.torn:
            return found
        seen = after
    return Seen(seen, reason="it changed each time while it was read", torn=True)


def _read_once(path: Path, seen: Look, limit: int) -> Seen:
    link = None
    try:
        link = str(path.readlink()) if seen.kind == "symlink" else None
        # A pipe or a device would be waited for; what is behind a symlink may be one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return Seen(seen, link=link, reason=(error.strerror or str(error)).lower())
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no file"
            return Seen(seen, link=link, reason=f"it leads to {what}" if link else f"it is {what}")
        if found.st_size > limit:
            reason = (
                f"{found.st_size} bytes are more than configuration.max_file_bytes = {limit}; its content is not kept"
            )
            return Seen(seen, link=link, reason=reason, too_large=True)
        content = b""
        while len(content) <= found.st_size and (chunk := os.read(descriptor, _CHUNK)):
            content += chunk
        return Seen(seen, content, link, torn=len(content) != found.st_size)
    except OSError as error:
        return Seen(seen, link=link, reason=(error.strerror or str(error)).lower())
    finally:
        os.close(descriptor)


def owner_name(uid: int, gid: int) -> str:
    """Return user:group by name, by number where this machine knows no name."""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return f"{user}:{group}"
