"""Which files the settings name: patterns and whole folders, expanded."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["RESTORING", "Found", "find_files", "is_named"]

RESTORING = ".reanimate-restoring-"
"""Begins the name of a file that is being restored beside the one it replaces; it is nobody's configuration."""

MOST = 20_000
"""Whoever names more than this has named the wrong folder."""

_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_MEANS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Found:
    """Paths, sorted, and what could not be looked into."""

    paths: tuple[Path, ...]
    problems: tuple[str, ...]


def find_files(patterns: Iterable[str]) -> Found:
    """Return every file and symlink that the patterns name. A folder stands for all that is in it.

    Folders behind a symlink are not walked into: the symlink itself is kept.
    """
    paths: set[Path] = set()
    problems: list[str] = []
    for pattern in patterns:
        matches = [*_matches(pattern, problems)]
        for match in matches:
            paths.update(_below(match, problems) if match.is_dir() and not match.is_symlink() else [match])
            if len(paths) > MOST:
                problems.append(f"{pattern}: more than {MOST} files are named; only the first {MOST} are kept")
                return Found(tuple(sorted(paths)[:MOST]), tuple(problems))
        if not matches:
            problems.append(f"{pattern}: nothing is there")
    return Found(tuple(sorted(path for path in paths if not path.name.startswith(RESTORING))), tuple(problems))


def is_named(path: Path, patterns: Iterable[str]) -> bool:
    """Say whether a path, there or not, is named by the patterns: itself or a folder above it."""
    return any(_regex(pattern).fullmatch(str(path)) for pattern in patterns)


def _matches(pattern: str, problems: list[str]) -> Iterator[Path]:
    expanded = Path(pattern).expanduser()
    if os.path.lexists(expanded):  # also a name with brackets in it
        yield _plain(expanded)
        return
    parts = expanded.parts
    at = next((at for at, part in enumerate(parts) if "**" in part), len(parts))
    # `Path.glob` takes no absolute pattern. `**` is walked here: glob goes in circles through symlinks to folders.
    for match in glob.iglob(str(Path(*parts[:at])), include_hidden=True):  # noqa: PTH207
        if at == len(parts):
            yield _plain(match)
        else:
            yield from (path for path in _below(_plain(match), problems) if is_named(path, [pattern]))


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    tokens = _TOKENS.findall(str(_plain(Path(pattern).expanduser())))
    means = "".join(_MEANS.get(token) or _class(token) for token in tokens)
    return re.compile(means + "(?:/.*)?", re.DOTALL)


def _class(token: str) -> str:
    if len(token) > 2 and token[0] == "[" and token[-1] == "]":
        inside = token[1:-1].replace("\\", "\\\\")
        return f"[^{inside[1:]}]" if inside[0] == "!" else f"[{inside}]"
    return re.escape(token)


def _plain(path: str | Path) -> Path:
    """Return a path without `.` and `..`, symlinks left as they are."""
    return Path(os.path.normpath(path))


def _below(folder: Path, problems: list[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        problems.append(f"{os.fsencode(error.filename or folder).decode(errors='replace')}: {error.strerror}")

    for name, folders, files in os.walk(folder, onerror=note):
        here = Path(name)
        folders[:] = [each for each in folders if each != ".git"]
        yield from (here / each for each in files)
        yield from (here / each for each in folders if (here / each).is_symlink())
