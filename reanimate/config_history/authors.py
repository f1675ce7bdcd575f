"""Who made a version of a file: git where it says so, else the file's owner. Never a guess."""

import hashlib
import os
import subprocess
from pathlib import Path

from reanimate.config_history.reading import Look, owner_name
from reanimate.config_history.versions import Author

__all__ = ["author_of_content", "author_of_deletion"]

_GIT_S = 5.0
_SEPARATOR = "\x1f"


def author_of_content(path: Path, content: bytes | None, look: Look) -> Author:
    """Return who last committed exactly this content; when no commit has it, the file's owner."""
    owner = owner_name(look.uid, look.gid).partition(":")[0]
    if content is None:
        return Author(name=owner, source="owner", detail="owner of the file")
    real = Path(os.path.realpath(path))
    committed = _git(real, "rev-parse", "--verify", "--quiet", f"HEAD:./{real.name}")
    if committed is None:
        return Author(name=owner, source="owner", detail="owner of the file")
    if committed.strip() != _blob_id(content, len(committed.strip())):
        return Author(name=owner, source="owner", detail="owner of the file; not committed to git")
    return _last_commit(real) or Author(name=owner, source="owner", detail="owner of the file")


def author_of_deletion(path: Path) -> Author:
    """Return who committed the deletion, or that it is not known: a disk does not say who removed a file."""
    nobody = Author(name="unknown", source="unknown", detail="a disk does not say who removed a file")
    if _git(path, "rev-parse", "--verify", "--quiet", f"HEAD:./{path.name}") is not None:
        return nobody
    return _last_commit(path) or nobody


def _last_commit(path: Path) -> Author | None:
    form = _SEPARATOR.join(("%an", "%ae", "%h", "%cI"))
    said = _git(path, "log", "-1", f"--format={form}", "--", f"./{path.name}")
    fields = (said or "").strip("\n").split(_SEPARATOR)
    if len(fields) != 4:
        return None
    name, mail, commit, when = fields
    return Author(name=f"{name} <{mail}>", source="git", detail=f"commit {commit} of {when}")


def _git(path: Path, *arguments: str) -> str | None:
    """Ask git about the checkout that a path lies in; None when there is no git, no checkout, or no answer.

    Git refuses checkouts of other users by itself, since their settings could run programs; it is left at that.
    """
    if not _in_checkout(path.parent):
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false", "-C", str(path.parent), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _in_checkout(folder: Path) -> bool:
    """Say whether some folder above has a `.git`: most configuration has none, and starting git costs milliseconds."""
    try:
        return any((above / ".git").exists() for above in (folder, *folder.parents))
    except OSError:
        return False


def _blob_id(content: bytes, digits: int) -> str:
    """Return the id that git gives a content, in a repository of SHA-1 or of SHA-256."""
    digest = hashlib.new("sha256" if digits == 64 else "sha1", usedforsecurity=False)
    digest.update(b"blob %d\0" % len(content) + content)
    return digest.hexdigest()
