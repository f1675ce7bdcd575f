"""One version of a file or setting, the manifest that keeps the state of all of them, and the history they make."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from reanimate.backups.manifest import Manifest
from reanimate.errors import InputInvalid, NotFound

__all__ = ["Author", "ConfigManifest", "Kind", "Version", "choose", "history", "identified", "same_state"]

Kind = Literal["file", "symlink", "settings", "deleted", "unreadable", "too_large"]
"""What was found; of the last three there is no content, and `reason` says why."""

_IDENTITY = ("kind", "sha256", "mode", "uid", "gid", "link", "reason")
_SHORTEST = 4


class Author(BaseModel):
    """Who made a version, as far as it is known. Nobody is guessed."""

    model_config = ConfigDict(frozen=True)

    name: str
    source: Literal["git", "owner", "restore", "unknown"]
    detail: str = ""
    """The commit, or why it is not known better."""

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


class Version(BaseModel):
    """The state of one subject from the moment it was found until the next version."""

    model_config = ConfigDict(frozen=True)

    id: str = ""
    subject: str
    kind: Kind
    found_at: AwareDatetime
    author: Author
    sha256: str | None = None
    """Of the content, which is the part of that name; of a symlink, of what it leads to."""
    size: int | None = None
    mode: str | None = None
    """Permission bits, octal: 0644."""
    uid: int | None = None
    gid: int | None = None
    owner: str | None = None
    """user:group by name, as far as this machine knew them."""
    mtime: AwareDatetime | None = None
    link: str | None = None
    """Where a symlink points, escaped as subjects are."""
    reason: str | None = None
    looks_secret: bool = False
    """Some line of it looks like a password, a token or a key."""
    previous: str | None = None
    """The id of the version before."""

    @property
    def short(self) -> str:
        """Return the content in a few characters, for tables."""
        return self.sha256[:10] if self.sha256 else self.kind


class ConfigManifest(Manifest):
    """The state of all files and settings of a set when one of them had changed."""

    ROOT = "configs"

    kind: Literal["config"] = "config"
    host: str
    """The machine whose files these are."""
    versions: list[Version]

    def version(self, subject: str) -> Version | None:
        """Return the version of a subject that was in force."""
        return next((version for version in self.versions if version.subject == subject), None)


def same_state(one: Version, other: Version) -> bool:
    """Say whether two versions of a subject are of the same state. A touched file is not another version."""
    same = all(getattr(one, name) == getattr(other, name) for name in _IDENTITY)
    return same and (one.kind != "too_large" or (one.size, one.mtime) == (other.size, other.mtime))


def identified(version: Version, previous: str | None) -> Version:
    """Return a version with its id, which follows from all that it says, the id of the one before it too."""
    linked = version.model_copy(update={"previous": previous, "id": ""})
    digest = hashlib.sha256(json.dumps(linked.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return linked.model_copy(update={"id": digest[:10]})


def history(manifests: Iterable[ConfigManifest], subject: str | None = None) -> list[Version]:
    """Return every version, of one subject if named, newest first, once each."""
    found: dict[tuple[str, str], Version] = {}
    for manifest in manifests:
        for version in manifest.versions:
            if subject is None or version.subject == subject:
                found[version.subject, version.id] = version
    return sorted(found.values(), key=lambda version: (version.found_at, version.subject), reverse=True)


def choose(versions: Sequence[Version], asked: str) -> Version:
    """Return one version of a subject's history (newest first): by id, the beginning of one, `latest`, `previous`, or
    a time (ISO 8601, UTC unless it says), which means the version in force then.

    Raises:
        NotFound: there is none; the message says which there are.
        InputInvalid: several begin so.
    """
    about = versions[0].subject if versions else "it"
    known = ", ".join(f"{version.id} of {version.found_at:%Y-%m-%d %H:%M:%S}" for version in versions[:5]) or "none"
    if asked in ("latest", "previous"):
        wanted = [*versions[asked == "previous" :]][:1]
    elif moment := _moment(asked):
        wanted = [version for version in versions if version.found_at <= moment][:1]
    else:
        wanted = [version for version in versions if len(asked) >= _SHORTEST and version.id.startswith(asked)]
    if len(wanted) > 1:
        raise InputInvalid(f"{asked!r} begins the ids of {len(wanted)} versions of {about}", hint="give more of it")
    if not wanted:
        raise NotFound(f"{about} has no version {asked!r}", hint=f"the newest are: {known}")
    return wanted[0]


def _moment(text: str) -> datetime | None:
    """Read a time; ids of ten hex digits are none."""
    if "-" not in text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
