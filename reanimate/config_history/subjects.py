"""What a version is of: a path as text that any terminal and any JSON can hold, or a setting of a vector server.

A path is its own subject, except that bytes which are not UTF-8, control characters and backslashes are escaped, so
that no two paths share one and every path can be had back.
"""

import os
import re
from dataclasses import dataclass

from reanimate.errors import InputInvalid

__all__ = ["SETTINGS", "Setting", "is_setting", "path_of", "subject_of", "unescaped"]

SETTINGS = "qdrant:"

_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2})")


def subject_of(path: str | bytes) -> str:
    """Return the subject of a path."""
    return "".join(map(_shown, os.fsdecode(path)))


def path_of(subject: str) -> str:
    """Return the path of a subject, as `os` functions take it.

    Raises:
        InputInvalid: it is not the subject of a path.
    """
    if is_setting(subject) or re.sub(_ESCAPED, "", subject).count("\\"):
        raise InputInvalid(f"{subject!r} is not the name of a file", hint="`reanimate config history` lists them")
    return unescaped(subject)


def unescaped(text: str) -> str:
    """Return what `subject_of` was given."""
    return _ESCAPED.sub(_plain, text)


def _shown(character: str) -> str:
    code = ord(character)
    if character == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as `os` hands it out
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else character


def _plain(match: re.Match[str]) -> str:
    escaped = match[1]
    if escaped == "\\":
        return "\\"
    code = int(escaped[1:], 16)
    return chr(code) if code < 0x80 else chr(0xDC00 + code)


@dataclass(frozen=True)
class Setting:
    """One setting of a vector target: a collection, all aliases, or the server itself."""

    target: str
    what: str
    """collections, aliases or server."""
    name: str = ""
    """Of the collection."""

    @property
    def subject(self) -> str:
        end = f"/{self.name}" if self.name else ""
        return f"{SETTINGS}{self.target}/{self.what}{end}"

    @classmethod
    def parse(cls, subject: str) -> "Setting":
        """Read a subject. Targets are named without a slash; collections cannot have one.

        Raises:
            InputInvalid: it names no setting.
        """
        target, _, rest = subject.removeprefix(SETTINGS).partition("/")
        what, _, name = rest.partition("/")
        right = bool(name) if what == "collections" else what in ("aliases", "server") and not name
        if not is_setting(subject) or not target or not right:
            raise InputInvalid(
                f"{subject!r} is no setting of a vector server",
                hint="for example qdrant:primary/collections/kb, qdrant:primary/aliases or qdrant:primary/server",
            )
        return cls(target, what, name)


def is_setting(subject: str) -> bool:
    """Say whether a subject is a server's setting; paths here are absolute, so that none begins like one."""
    return subject.startswith(SETTINGS)
